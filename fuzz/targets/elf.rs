//! Any bytes as an object: refused in words, or its programs brought to life or refused one by one.
#![no_main]

use kumite::elf::Object;
use kumite::report::try_load;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(object) = Object::parse("fuzz.o", bytes) {
        // A map that cannot be made refuses the object.
        let _ = try_load(&object);
    }
});
