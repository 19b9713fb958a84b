//! The kernel's BPF as an oracle of tests: whether it is there, and readers of its events.
//!
//! A test asks [`available`] first; where it says no the test returns.

mod perf;
mod ring;

pub(crate) use kumite::kernel::{Batch, KernelMap, KernelProgram, Refused, TestInput, stay_on_processor_0};
pub(crate) use perf::KernelPerf;
pub(crate) use ring::KernelRing;

use std::os::fd::{FromRawFd, OwnedFd};

use kumite::maps::Errno;

/// The descriptor that a creating call answered with.
fn owned_fd(answer: i64) -> OwnedFd {
    let fd = i32::try_from(answer).expect("descriptors are ints");
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Whether the kernel lets us use bpf(2). Where it does not, prints `skipped: no bpf(2)`.
///
/// # Panics
/// Where it does not and `REQUIRE_ALL=1` is set.
pub(crate) fn available() -> bool {
    match kumite::kernel::available() {
        Ok(()) => true,
        Err(errno) => {
            assert!(std::env::var_os("REQUIRE_ALL").is_none_or(|value| value != "1"), "no bpf(2): {errno}");
            println!("skipped: no bpf(2) ({errno})");
            false
        }
    }
}

/// A socket of `AF_XDP`, bound to nothing.
pub(crate) fn frame_socket() -> OwnedFd {
    // SAFETY: no memory is involved.
    let answer = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW, 0) };
    assert!(answer >= 0, "the kernel makes frame sockets for root: {}", std::io::Error::last_os_error());
    owned_fd(answer.into())
}

#[test]
fn the_kernels_map_answers_as_the_manual_page_says() {
    if !available() {
        return;
    }
    let map = KernelMap::create(1, 4, 8, 2, 0).expect("a hash");
    assert_eq!(map.lookup(&[1; 4]), Err(Errno::ENOENT));
    map.update(&[1; 4], &[7; 8], 0).expect("room");
    assert_eq!(map.lookup(&[1; 4]), Ok(vec![7; 8]));
    assert_eq!(map.next_key(None), Ok(vec![1; 4]));
    assert_eq!(map.next_key(Some(&[1; 4])), Err(Errno::ENOENT));
    assert_eq!(map.lookup_and_delete(&[1; 4]), Ok(vec![7; 8]));
    assert_eq!(map.delete(&[1; 4]), Err(Errno::ENOENT));
    map.freeze().expect("maps without locks can be frozen");
    assert_eq!(map.update(&[1; 4], &[7; 8], 0), Err(Errno::EPERM));
    assert!(KernelMap::possible_processors().expect("sysfs is mounted") >= 1);
}

#[test]
fn the_kernel_runs_a_program_that_changes_its_packet_and_counts_in_a_map() {
    if !available() {
        return;
    }
    stay_on_processor_0();
    let map = KernelMap::create(2, 4, 8, 1, 0).expect("an array");
    let [fd0, fd1, fd2, fd3] = map.fd().to_le_bytes();
    let slots = [
        [0x61, 0x12, 0, 0, 0, 0, 0, 0],         // r2 = *(u32 *)(r1 + 0)
        [0x61, 0x13, 4, 0, 0, 0, 0, 0],         // r3 = *(u32 *)(r1 + 4)
        [0xbf, 0x24, 0, 0, 0, 0, 0, 0],         // r4 = r2
        [0x07, 0x04, 0, 0, 1, 0, 0, 0],         // r4 += 1
        [0x2d, 0x34, 1, 0, 0, 0, 0, 0],         // if r4 > r3 goto +1
        [0x72, 0x02, 0, 0, 0x5a, 0, 0, 0],      // *(u8 *)(r2 + 0) = 0x5a
        [0x18, 0x21, 0, 0, fd0, fd1, fd2, fd3], // r1 = value of the map
        [0, 0, 0, 0, 0, 0, 0, 0],               //
        [0xb7, 0x02, 0, 0, 1, 0, 0, 0],         // r2 = 1
        [0xdb, 0x21, 0, 0, 0, 0, 0, 0],         // lock *(u64 *)(r1 + 0) += r2
        [0xb7, 0x00, 0, 0, 2, 0, 0, 0],         // r0 = 2
        [0x95, 0, 0, 0, 0, 0, 0, 0],            // exit
    ];
    let program = KernelProgram::load(KernelProgram::XDP, 0, &slots, "GPL").expect("verified");
    let output = program.test_run(&TestInput { packet: &[0; 64], ctx: &[], repeat: 3 }).expect("runs");
    assert_eq!(output.retval, 2);
    assert_eq!(output.packet[..2], [0x5a, 0]);
    assert_eq!(output.packet.len(), 64);
    assert!(output.ctx.is_empty());
    assert!(output.mean_ns < 1_000_000_000);
    assert_eq!(map.lookup(&[0; 4]), Ok(vec![3, 0, 0, 0, 0, 0, 0, 0]));

    for kind in [KernelProgram::XDP, KernelProgram::TC, KernelProgram::SOCKET_FILTER] {
        let refused: Refused = KernelProgram::load(kind, 0, &slots[..1], "GPL").expect_err("falls off its end");
        assert_eq!(refused.errno, Errno::EINVAL);
        assert!(!refused.log.is_empty(), "the verifier says why");
    }
}

#[test]
fn the_kernel_follows_a_program_array() {
    if !available() {
        return;
    }
    let array = KernelMap::create(3, 4, 4, 1, 0).expect("a program array");
    let [fd0, fd1, fd2, fd3] = array.fd().to_le_bytes();
    let target = [[0xb7, 0x00, 0, 0, 3, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let caller = [
        [0x18, 0x12, 0, 0, fd0, fd1, fd2, fd3], // r2 = the map
        [0, 0, 0, 0, 0, 0, 0, 0],               //
        [0xb7, 0x03, 0, 0, 0, 0, 0, 0],         // r3 = 0
        [0x85, 0, 0, 0, 12, 0, 0, 0],           // call tail_call
        [0xb7, 0x00, 0, 0, 1, 0, 0, 0],         // r0 = 1
        [0x95, 0, 0, 0, 0, 0, 0, 0],            // exit
    ];
    let target = KernelProgram::load(KernelProgram::XDP, 0, &target, "GPL").expect("verified");
    let caller = KernelProgram::load(KernelProgram::XDP, 0, &caller, "GPL").expect("verified");
    let input = TestInput { packet: &[0; 64], ctx: &[], repeat: 1 };
    assert_eq!(caller.test_run(&input).expect("runs").retval, 1, "an empty slot falls through");
    array.update(&[0; 4], &target.fd().to_le_bytes(), 0).expect("of one kind");
    assert_eq!(caller.test_run(&input).expect("runs").retval, 3);
}
