//! Any text: refused in words, or assembled to slots that decode.
#![no_main]

use kumite::isa;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(slots) = isa::assemble(text) {
        let insns = isa::decode(&slots).expect("what the assembler makes is well-formed");
        assert_eq!(isa::encode(&insns), slots);
    }
});
