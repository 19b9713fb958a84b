//! The running kernel's types.

use std::fs::File;
use std::io::Read;
use std::sync::{Arc, OnceLock};

use super::Types;
use crate::limits::OBJECT_LEN_MAX;

/// Where the kernel shows its types.
const PATH: &str = "/sys/kernel/btf/vmlinux";

/// The running kernel's types, read at most once; `None` where it does not show any that can be read.
#[must_use]
pub fn kernel_types() -> Option<Arc<Types>> {
    static KERNEL: OnceLock<Option<Arc<Types>>> = OnceLock::new();
    let read = || {
        let mut bytes = Vec::new();
        File::open(PATH).and_then(|file| file.take(OBJECT_LEN_MAX).read_to_end(&mut bytes)).ok()?;
        Types::read(PATH, &bytes).ok().map(Arc::new)
    };
    KERNEL.get_or_init(read).clone()
}
