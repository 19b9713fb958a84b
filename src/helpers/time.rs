//! Clocks. `kernel/bpf/helpers.c`.
//!
//! Invariant: under a fixed clock every answer is a function of it.

use super::{Frame, Helper, Ret};
use crate::run::Run;
use crate::trap::TrapKind;

/// Ticks a second of the kernels that we copy (`CONFIG_HZ` of Debian and others).
const HZ: u64 = 250;
/// What the tick counter starts with, five minutes before its low half wraps: `INITIAL_JIFFIES`.
const INITIAL_JIFFIES: u64 = (1 << 32) - 300 * HZ;

fn ktime_get_ns(run: &mut Run<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(run.world.clock.now_ns())
}

/// `u64 bpf_ktime_get_ns()`: nanoseconds since boot, without sleep.
pub(super) static KTIME_GET_NS: Helper = Helper {
    id: 5,
    name: "ktime_get_ns",
    args: &[],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[],
    body: ktime_get_ns,
};

fn jiffies64(run: &mut Run<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(INITIAL_JIFFIES + run.world.clock.coarse_ns() / (1_000_000_000 / HZ))
}

/// `u64 bpf_jiffies64()`: the tick counter.
pub(super) static JIFFIES64: Helper = Helper {
    id: 118,
    name: "jiffies64",
    args: &[],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Keeps,
    kinds: &[],
    body: jiffies64,
};

fn ktime_get_boot_ns(run: &mut Run<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(run.world.clock.boot_ns())
}

/// `u64 bpf_ktime_get_boot_ns()`: nanoseconds since boot, with sleep.
pub(super) static KTIME_GET_BOOT_NS: Helper = Helper {
    id: 125,
    name: "ktime_get_boot_ns",
    args: &[],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[],
    body: ktime_get_boot_ns,
};

fn ktime_get_coarse_ns(run: &mut Run<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(run.world.clock.coarse_ns())
}

/// `u64 bpf_ktime_get_coarse_ns()`: the time of the last tick.
pub(super) static KTIME_GET_COARSE_NS: Helper = Helper {
    id: 160,
    name: "ktime_get_coarse_ns",
    args: &[],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Keeps,
    kinds: &[],
    body: ktime_get_coarse_ns,
};

fn ktime_get_tai_ns(run: &mut Run<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(run.world.clock.tai_ns())
}

/// `u64 bpf_ktime_get_tai_ns()`: nanoseconds of the atomic clock since 1970.
pub(super) static KTIME_GET_TAI_NS: Helper = Helper {
    id: 208,
    name: "ktime_get_tai_ns",
    args: &[],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[],
    body: ktime_get_tai_ns,
};
