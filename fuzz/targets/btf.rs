//! Any bytes as types: refused in words, or read.
#![no_main]

use kumite::elf::btf::Btf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Btf::read(bytes);
});
