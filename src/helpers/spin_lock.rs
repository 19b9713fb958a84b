//! Locks in the values of maps. `kernel/bpf/helpers.c`.
//!
//! Invariant: a run holds one lock at most; what it holds at its end is released.

use super::check::place;
use super::{Arg, Frame, Helper, Ret};
use crate::maps::{Attempt, take_lock};
use crate::run::Run;
use crate::trap::TrapKind;

fn spin_lock(run: &mut Run<'_>, [addr, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = place(93, 1);
    if run.lock.is_some() {
        return Err(at.not("a lock that may be taken: the run holds one already"));
    }
    let addr = u32::try_from(addr).ok().filter(|addr| addr % 4 == 0);
    let addr = addr.ok_or_else(|| at.not("the address of a lock"))?;
    match take_lock(&run.world.cage, addr).map_err(|fault| at.fault(fault))? {
        Attempt::Taken => run.lock = Some(addr),
        Attempt::Busy => return Err(at.not("a lock that is ever released")),
    }
    Ok(0)
}

/// `void bpf_spin_lock(lock)`: waits for a lock, for a bounded time.
pub(super) static SPIN_LOCK: Helper = Helper {
    id: 93,
    name: "spin_lock",
    args: &[Arg::SpinLock],
    ret: Ret::Void,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[],
    body: spin_lock,
};

fn spin_unlock(run: &mut Run<'_>, [addr, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    match run.lock {
        Some(held) if u64::from(held) == addr => {
            run.release_lock();
            Ok(0)
        }
        Some(_) | None => Err(place(94, 1).not("the lock that the run holds")),
    }
}

/// `void bpf_spin_unlock(lock)`.
pub(super) static SPIN_UNLOCK: Helper = Helper {
    id: 94,
    name: "spin_unlock",
    args: &[Arg::SpinLock],
    ret: Ret::Void,
    cost: 8,
    frame: Frame::Keeps,
    kinds: &[],
    body: spin_unlock,
};
