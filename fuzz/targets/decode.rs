//! Any slots: refused in words, or decoded, printed and encoded back to themselves.
#![no_main]

use kumite::isa;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|slots: Vec<[u8; 8]>| {
    if let Ok(insns) = isa::decode(&slots) {
        assert_eq!(isa::encode(&insns), slots);
    }
});
