//! The kernel's BPF as an oracle: bpf(2) in safe calls, and objects of ours loaded there.
//!
//! Structures are written down here from the manual page bpf(2), each as long as the fields that are used; the kernel takes
//! the rest for zero.
//!
//! Invariant: nothing here is attached to a device or pinned; what was made goes when its value is dropped.

mod map;
mod object;
mod program;
mod types;

pub use map::{Batch, KernelMap};
pub use object::{HAS_ELEMENTS, KernelError, KernelObject, LinkedSlot, load_program};
pub use program::{FunctionInfo, KernelProgram, LoadOptions, Refused, TestInput, TestOutput};

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::maps::Errno;

/// Commands of bpf(2) that are used.
#[derive(Clone, Copy)]
enum Command {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapNextKey = 4,
    ProgramLoad = 5,
    ObjectGet = 7,
    TestRun = 10,
    BtfLoad = 18,
    MapLookupAndDelete = 21,
    MapFreeze = 22,
    MapLookupBatch = 24,
    MapLookupAndDeleteBatch = 25,
    MapUpdateBatch = 26,
    MapDeleteBatch = 27,
}

/// Calls bpf(2) with a structure whose pointers are to live memory of the right lengths.
fn bpf<T>(command: Command, attr: &mut T) -> Result<i64, Errno> {
    let len = size_of::<T>();
    // SAFETY: `attr` is a structure of this command, made in this module; its pointers are to live buffers as long as its
    // lengths say, the written ones exclusively borrowed by the caller.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command as i32, std::ptr::from_mut(attr), len) };
    if answer < 0 {
        return Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)));
    }
    Ok(answer)
}

/// The descriptor that a creating command answered with.
fn owned_fd(answer: i64) -> OwnedFd {
    let fd = i32::try_from(answer).expect("descriptors are ints");
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[repr(C)]
#[derive(Default)]
struct ObjectAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `BPF_OBJ_GET`: what is pinned at a path of its file system.
fn pinned(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::EINVAL)?;
    let mut attr = ObjectAttr { path: path.as_ptr() as u64, ..ObjectAttr::default() };
    Ok(owned_fd(bpf(Command::ObjectGet, &mut attr)?))
}

/// Types in the kernel.
#[derive(Debug)]
pub struct KernelBtf(OwnedFd);

#[repr(C)]
struct TypesAttr {
    types: u64,
    log: u64,
    types_len: u32,
    log_len: u32,
    log_level: u32,
    log_true_size: u32,
}

impl KernelBtf {
    /// `BPF_BTF_LOAD`.
    fn load(types: &types::Types) -> Result<Self, Errno> {
        let bytes = types.encode();
        let types_len = u32::try_from(bytes.len()).map_err(|_| Errno::E2BIG)?;
        let mut attr =
            TypesAttr { types: bytes.as_ptr() as u64, log: 0, types_len, log_len: 0, log_level: 0, log_true_size: 0 };
        Ok(Self(owned_fd(bpf(Command::BtfLoad, &mut attr)?)))
    }

    fn fd(&self) -> u32 {
        self.0.as_raw_fd().cast_unsigned()
    }
}

/// Whether the kernel lets us use bpf(2).
///
/// # Errors
/// What it answers.
pub fn available() -> Result<(), Errno> {
    KernelMap::create(2, 4, 8, 1, 0).map(drop)
}

/// Keeps the calling thread on one processor of those that it may use, the `nth` counted round; its number. `None` where that
/// is not allowed.
#[must_use]
pub fn stay_on_processor(nth: usize) -> Option<usize> {
    // SAFETY: all-zero is the empty set.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let len = size_of::<libc::cpu_set_t>();
    // SAFETY: the set is a live local of the right type and length.
    if unsafe { libc::sched_getaffinity(0, len, &raw mut allowed) } != 0 {
        return None;
    }
    // SAFETY: each number is inside the set.
    let is_allowed = |number: &usize| unsafe { libc::CPU_ISSET(*number, &allowed) };
    let numbers: Vec<usize> = (0..8 * len).filter(is_allowed).collect();
    let number = *numbers.get(nth.checked_rem(numbers.len())?)?;
    // SAFETY: all-zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the number is inside the set.
    unsafe { libc::CPU_SET(number, &mut set) };
    // SAFETY: the set is a live local of the right type.
    let answer = unsafe { libc::sched_setaffinity(0, len, &raw const set) };
    (answer == 0).then_some(number)
}

/// Keeps the calling thread on processor 0, so that per-CPU values and LRU lists are those of one processor. Where a container
/// forbids it, the thread stays where it was.
pub fn stay_on_processor_0() {
    // SAFETY: all-zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: 0 is inside the set.
    unsafe { libc::CPU_SET(0, &mut set) };
    // SAFETY: the set is a live local of the right type.
    let _ = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}
