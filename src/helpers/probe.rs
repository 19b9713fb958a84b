//! Reading at an address that may be wrong: `bpf_probe_read_kernel` and its kin. `kernel/trace/bpf_trace.c`,
//! `mm/maccess.c`.
//!
//! All memory that a program knows of is the cage: nothing outside can be read, by whatever address.
//!
//! Invariant: a wrong source address is an errno, a wrong target a trap.

use super::check::place;
use super::{Arg, Frame, Helper, Ret};
use crate::limits::PAGE_LEN;
use crate::maps::Errno;
use crate::run::Run;
use crate::trap::{Access, TrapKind};

/// What a bad address is answered with: NULL and what is near it lie where the kernel does not even try.
fn refused(addr: u64) -> Errno {
    if addr < u64::from(PAGE_LEN) { Errno::ERANGE } else { Errno::EFAULT }
}

fn read(run: &mut Run<'_>, helper: u32, [into, len, from, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = place(helper, 1);
    let target = at.memory(run, into, len, Access::Write)?;
    run.work(len / 8)?;
    let (cage, target) = (&run.world.cage, u64::from(target.addr()));
    if len == 0 {
        return Ok(if from < u64::from(PAGE_LEN) { Errno::ERANGE.to_r0() } else { 0 });
    }
    if cage.check(from, len, Access::Read).is_ok() {
        cage.copy(from, target, len).map_err(|fault| at.fault(fault))?;
        return Ok(0);
    }
    cage.fill(target, len, 0).map_err(|fault| at.fault(fault))?;
    Ok(refused(from).to_r0())
}

fn read_text(run: &mut Run<'_>, helper: u32, [into, len, from, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = place(helper, 1);
    let target = at.memory(run, into, len, Access::Write)?;
    run.work(len / 8)?;
    let cage = &run.world.cage;
    if len == 0 {
        return Ok(0);
    }
    let mut text = Vec::new();
    let mut ended = false;
    while !ended && (text.len() as u64) < len {
        let mut byte = [0];
        let addr = from.wrapping_add(text.len() as u64);
        if cage.read(addr, &mut byte).is_err() {
            cage.fill(target.addr().into(), len, 0).map_err(|fault| at.fault(fault))?;
            return Ok(refused(from).to_r0());
        }
        ended = byte == [0];
        text.extend(byte);
    }
    if let Some(last) = text.last_mut() {
        *last = 0;
    }
    cage.write(target.addr().into(), &text).map_err(|fault| at.fault(fault))?;
    Ok(text.len() as u64)
}

const ARGS: &[Arg] = &[Arg::MemWrite, Arg::LenOrZero, Arg::Probed];

fn probe_read(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    read(run, 4, args)
}

/// `long bpf_probe_read(dst, size, unsafe_ptr)`: the older name of `bpf_probe_read_kernel`.
pub(super) static PROBE_READ: Helper = Helper {
    id: 4,
    name: "probe_read",
    args: ARGS,
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: probe_read,
};

fn probe_read_str(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    read_text(run, 45, args)
}

/// `long bpf_probe_read_str(dst, size, unsafe_ptr)`: the older name of `bpf_probe_read_kernel_str`.
pub(super) static PROBE_READ_STR: Helper = Helper {
    id: 45,
    name: "probe_read_str",
    args: ARGS,
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: probe_read_str,
};

fn probe_read_kernel(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    read(run, 113, args)
}

/// `long bpf_probe_read_kernel(dst, size, unsafe_ptr)`: copies, or zeroes the target and says why.
pub(super) static PROBE_READ_KERNEL: Helper = Helper {
    id: 113,
    name: "probe_read_kernel",
    args: ARGS,
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: probe_read_kernel,
};

fn probe_read_kernel_str(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    read_text(run, 115, args)
}

/// `long bpf_probe_read_kernel_str(dst, size, unsafe_ptr)`: copies up to a NUL; the bytes copied with it.
pub(super) static PROBE_READ_KERNEL_STR: Helper = Helper {
    id: 115,
    name: "probe_read_kernel_str",
    args: ARGS,
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: probe_read_kernel_str,
};
