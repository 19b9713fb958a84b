//! Timers in map values. `kernel/bpf/helpers.c`.
//!
//! Invariant: what the value holds of a timer is a number that the host compares, never a place.

use crossbeam::epoch;

use super::check::{Place, place};
use super::{Arg, Frame, Helper, Ret};
use crate::maps::Errno;
use crate::run::{Callback, Clock, Iteration, Run, TimerClock, TimerPlace};
use crate::trap::{Access, TrapKind};

/// Bytes of `struct bpf_timer`.
const TIMER_LEN: u32 = 16;
/// Bits of the flags of `bpf_timer_init` that are the clock.
const CLOCKS: u64 = 16;
/// The time is that of the clock.
const ABSOLUTE: u64 = 1;
/// On the processor that starts it: any worker is as good.
const PINNED: u64 = 2;

/// The timer that an address means.
fn timer(run: &Run<'_>, at: Place, addr: u64) -> Result<TimerPlace, TrapKind> {
    let range = run.world.cage.check(addr, TIMER_LEN.into(), Access::Write).map_err(|fault| at.fault(fault))?;
    if !addr.is_multiple_of(8) {
        return Err(at.not("a timer"));
    }
    let mut id = [0; 8];
    run.world.cage.read(addr, &mut id).map_err(|fault| at.fault(fault))?;
    Ok(TimerPlace { addr: range.addr(), id: u64::from_ne_bytes(id) })
}

fn answer(result: Result<u64, Errno>) -> Result<u64, TrapKind> {
    Ok(result.unwrap_or_else(Errno::to_r0))
}

fn timer_init(run: &mut Run<'_>, [addr, map, flags, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = timer(run, place(169, 1), addr)?;
    let guard = epoch::pin();
    let owner = place(169, 2).map(run, map, &guard)?;
    if flags >= CLOCKS {
        return Ok(Errno::EINVAL.to_r0());
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 16")]
    let clock = match flags as libc::clockid_t {
        libc::CLOCK_MONOTONIC => TimerClock::Monotonic,
        libc::CLOCK_REALTIME => TimerClock::Real,
        libc::CLOCK_BOOTTIME => TimerClock::Boot,
        _ => return Ok(Errno::EINVAL.to_r0()),
    };
    let element = owner.element_at(at.addr);
    let is_there =
        |value: u32| owner.def().timer_offset.is_none_or(|offset| value.checked_add(offset) == Some(at.addr));
    if !element.is_some_and(|(_, value)| is_there(value)) {
        return Err(place(169, 1).not("a timer in a value of the map"));
    }
    let cage = &run.world.cage;
    let holds = |other: TimerPlace| {
        let mut id = [0; 8];
        cage.read(other.addr.into(), &mut id).is_ok() && u64::from_ne_bytes(id) == other.id
    };
    match run.world.timers.init(at, map, clock, holds) {
        Err(errno) => Ok(errno.to_r0()),
        Ok(id) => {
            run.world.cage.write(addr, &id.to_ne_bytes()).map_err(|fault| place(169, 1).fault(fault))?;
            Ok(0)
        }
    }
}

/// `long bpf_timer_init(timer, map, flags)`: makes a timer; flags are its clock.
pub(super) static TIMER_INIT: Helper = Helper {
    id: 169,
    name: "timer_init",
    args: &[Arg::Timer, Arg::Map, Arg::Any],
    ret: Ret::Integer,
    cost: 128,
    frame: Frame::Keeps,
    kinds: &[],
    body: timer_init,
};

fn timer_set_callback(run: &mut Run<'_>, [addr, code, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let timer = timer(run, place(170, 1), addr)?;
    // Which program the function is of, the engine knows.
    run.callback =
        Some(Callback { helper: 170, arg: 2, code, iteration: Iteration::Timer { timer, code, program: 0 } });
    Ok(0)
}

/// `long bpf_timer_set_callback(timer, callback)`: what it calls, with the map, the key and the value.
pub(super) static TIMER_SET_CALLBACK: Helper = Helper {
    id: 170,
    name: "timer_set_callback",
    args: &[Arg::Timer, Arg::Callback],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: timer_set_callback,
};

/// When a timer is due by the monotonic clock.
fn due(clock: Clock, of: TimerClock, ns: u64, flags: u64) -> u64 {
    let now = clock.now_ns();
    if flags & ABSOLUTE == 0 {
        return now.saturating_add(ns);
    }
    let there = match of {
        TimerClock::Monotonic => now,
        TimerClock::Real => clock.real_ns(),
        TimerClock::Boot => clock.boot_ns(),
    };
    now.saturating_add(ns.saturating_sub(there))
}

fn timer_start(run: &mut Run<'_>, [addr, ns, flags, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = timer(run, place(171, 1), addr)?;
    if flags & !(ABSOLUTE | PINNED) != 0 {
        return Ok(Errno::EINVAL.to_r0());
    }
    let world = run.world;
    let started = world.timers.startable(at).and_then(|of| world.timers.start(at, due(world.clock, of, ns, flags)));
    answer(started.map(|()| 0))
}

/// `long bpf_timer_start(timer, nsecs, flags)`: in so many nanoseconds, or at that time.
pub(super) static TIMER_START: Helper = Helper {
    id: 171,
    name: "timer_start",
    args: &[Arg::Timer, Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 128,
    frame: Frame::Keeps,
    kinds: &[],
    body: timer_start,
};

fn timer_cancel(run: &mut Run<'_>, [addr, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = timer(run, place(172, 1), addr)?;
    if run.timer == Some(at) {
        return Ok(Errno::EDEADLK.to_r0());
    }
    answer(run.world.timers.cancel(at).map(u64::from))
}

/// `long bpf_timer_cancel(timer)`: whether it was running. A timer does not cancel itself.
pub(super) static TIMER_CANCEL: Helper = Helper {
    id: 172,
    name: "timer_cancel",
    args: &[Arg::Timer],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: timer_cancel,
};
