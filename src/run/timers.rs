//! Timers of programs (`struct bpf_timer` in map values): what they call, and when.
//!
//! A timer is known by the guest address of its structure and by a number of its own, which the structure holds. Maps zero the
//! structure in a new element and in an element of an array that is updated, so the timer is gone with the old value, as in
//! the kernel. A program that writes the number itself reaches no timer but the one at that address.
//!
//! Whoever makes a timer looks at some others and forgets those that are gone, so that the table stays within a small multiple
//! of those that are there.
//!
//! The lock is held for a few steps of a tree. Workers look at [`Timers::soonest_ns`] first, which takes none.
//!
//! Source: `kernel/bpf/helpers.c`. Invariant: at most [`TIMERS_MAX`] timers; what lies in the cage only the caller reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::TIMERS_MAX;
use crate::maps::Errno;

/// Which time a timer goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerClock {
    /// `CLOCK_MONOTONIC`.
    Monotonic,
    /// `CLOCK_REALTIME`.
    Real,
    /// `CLOCK_BOOTTIME`.
    Boot,
}

/// A function of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Number of the program, as `vm` numbers it.
    pub program: u32,
    /// Slot index of the function.
    pub start: usize,
}

/// A timer whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Guest address of its structure.
    pub addr: u32,
    /// What the structure holds.
    pub id: u64,
    /// Handle of its map.
    pub map: u64,
    /// What it calls.
    pub code: Code,
}

/// The timer of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerPlace {
    /// Guest address of its structure.
    pub addr: u32,
    /// What the structure holds.
    pub id: u64,
}

#[derive(Debug)]
struct Timer {
    id: u64,
    map: u64,
    clock: TimerClock,
    code: Option<Code>,
    due_ns: Option<u64>,
}

#[derive(Debug)]
struct State {
    by_addr: BTreeMap<u32, Timer>,
    due: BTreeSet<(u64, u32)>,
    last_id: u64,
    /// Address that was looked at last by [`State::sweep`].
    swept: u32,
}

/// Timers that are looked at for each one that is made. More than one, so that the table is gone through faster than it grows.
const SWEEP_COUNT: usize = 4;

impl State {
    fn timer(&mut self, at: TimerPlace) -> Result<&mut Timer, Errno> {
        self.by_addr.get_mut(&at.addr).filter(|timer| timer.id == at.id).ok_or(Errno::EINVAL)
    }

    fn stop(&mut self, addr: u32) -> bool {
        let due = self.by_addr.get_mut(&addr).and_then(|timer| timer.due_ns.take());
        due.is_some_and(|due| self.due.remove(&(due, addr)))
    }

    /// Looks at the next timers in turn and forgets those that are gone.
    fn sweep(&mut self, is_there: impl Fn(TimerPlace) -> bool) {
        let behind = self.by_addr.range((Bound::Excluded(self.swept), Bound::Unbounded));
        let mut looked_at = [None; SWEEP_COUNT];
        for (place, (addr, timer)) in looked_at.iter_mut().zip(behind) {
            *place = Some(TimerPlace { addr: *addr, id: timer.id });
        }
        // From the start again where the end was reached.
        self.swept = looked_at.last().copied().flatten().map_or(0, |at| at.addr);
        for at in looked_at.into_iter().flatten().filter(|at| !is_there(*at)) {
            self.stop(at.addr);
            self.by_addr.remove(&at.addr);
        }
    }
}

/// The timers of a world.
pub struct Timers {
    state: Mutex<State>,
    soonest_ns: AtomicU64,
}

impl Default for Timers {
    fn default() -> Self {
        let state = State { by_addr: BTreeMap::new(), due: BTreeSet::new(), last_id: 0, swept: 0 };
        Self { state: Mutex::new(state), soonest_ns: AtomicU64::new(u64::MAX) }
    }
}

impl Timers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &State) {
        let soonest = state.due.first().map_or(u64::MAX, |(due, _)| *due);
        self.soonest_ns.store(soonest, Ordering::Release);
    }

    /// When the next timer is due, by [`super::Clock::now_ns`]; the largest number where none is.
    #[must_use]
    pub fn soonest_ns(&self) -> u64 {
        self.soonest_ns.load(Ordering::Acquire)
    }

    /// Makes a timer and gives what its structure is to hold from now on. Of some other timers it asks whether their structures
    /// still hold their numbers, and forgets those that do not.
    ///
    /// # Errors
    /// `EBUSY` where there is one, `ENOMEM` where there are too many.
    pub fn init(
        &self,
        at: TimerPlace,
        map: u64,
        clock: TimerClock,
        is_there: impl Fn(TimerPlace) -> bool,
    ) -> Result<u64, Errno> {
        let mut state = self.lock();
        if state.timer(at).is_ok() {
            return Err(Errno::EBUSY);
        }
        state.stop(at.addr);
        state.sweep(is_there);
        if state.by_addr.len() >= TIMERS_MAX && !state.by_addr.contains_key(&at.addr) {
            return Err(Errno::ENOMEM);
        }
        state.last_id += 1;
        let id = state.last_id;
        state.by_addr.insert(at.addr, Timer { id, map, clock, code: None, due_ns: None });
        self.publish(&state);
        Ok(id)
    }

    /// Sets what a timer calls.
    ///
    /// # Errors
    /// `EINVAL` where there is none.
    pub fn set_code(&self, at: TimerPlace, code: Code) -> Result<(), Errno> {
        self.lock().timer(at)?.code = Some(code);
        Ok(())
    }

    /// The clock of a timer.
    ///
    /// # Errors
    /// `EINVAL` where there is none, or it calls nothing.
    pub fn startable(&self, at: TimerPlace) -> Result<TimerClock, Errno> {
        let mut state = self.lock();
        let timer = state.timer(at)?;
        if timer.code.is_some() { Ok(timer.clock) } else { Err(Errno::EINVAL) }
    }

    /// Starts a timer, or starts it again.
    ///
    /// # Errors
    /// `EINVAL` where there is none, or it calls nothing.
    pub fn start(&self, at: TimerPlace, due_ns: u64) -> Result<(), Errno> {
        let mut state = self.lock();
        if state.timer(at)?.code.is_none() {
            return Err(Errno::EINVAL);
        }
        state.stop(at.addr);
        state.timer(at)?.due_ns = Some(due_ns);
        state.due.insert((due_ns, at.addr));
        self.publish(&state);
        Ok(())
    }

    /// Stops a timer, which then calls nothing any more; whether it was running.
    ///
    /// # Errors
    /// `EINVAL` where there is none.
    pub fn cancel(&self, at: TimerPlace) -> Result<bool, Errno> {
        let mut state = self.lock();
        state.timer(at)?.code = None;
        let was = state.stop(at.addr);
        self.publish(&state);
        Ok(was)
    }

    /// Takes the next timer that is due by then; it is stopped.
    #[must_use]
    pub fn take_due(&self, now_ns: u64) -> Option<Due> {
        if self.soonest_ns() > now_ns {
            return None;
        }
        let mut state = self.lock();
        let mut found = None;
        while let Some((due, addr)) = state.due.first().copied().filter(|(due, _)| *due <= now_ns) {
            state.due.remove(&(due, addr));
            let timer = state.by_addr.get_mut(&addr).expect("what is due is in the table");
            timer.due_ns = None;
            if let Some(code) = timer.code {
                found = Some(Due { addr, id: timer.id, map: timer.map, code });
                break;
            }
        }
        self.publish(&state);
        found
    }

    /// Forgets a timer whose value is gone.
    pub fn forget(&self, at: TimerPlace) {
        let mut state = self.lock();
        if state.timer(at).is_ok() {
            state.stop(at.addr);
            state.by_addr.remove(&at.addr);
            self.publish(&state);
        }
    }
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").field("soonest_ns", &self.soonest_ns()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: Code = Code { program: 7, start: 12 };

    fn place(timers: &Timers, addr: u32) -> TimerPlace {
        let id = timers.init(TimerPlace { addr, id: 0 }, 1, TimerClock::Monotonic, |_| true).expect("room");
        TimerPlace { addr, id }
    }

    #[test]
    fn timers_are_taken_in_the_order_of_their_times() {
        let timers = Timers::default();
        let places = [0x1000, 0x2000, 0x3000].map(|addr| place(&timers, addr));
        for (at, due) in places.iter().zip([30, 10, 20]) {
            assert_eq!(timers.start(*at, due), Err(Errno::EINVAL), "it calls nothing");
            timers.set_code(*at, CODE).expect("it is there");
            timers.start(*at, due).expect("it calls something");
        }
        assert_eq!(timers.soonest_ns(), 10);
        assert_eq!(timers.take_due(9), None);
        let taken: Vec<u32> = std::iter::from_fn(|| timers.take_due(20)).map(|due| due.addr).collect();
        assert_eq!(taken, [0x2000, 0x3000]);
        assert_eq!(timers.cancel(places[0]), Ok(true));
        assert_eq!(timers.cancel(places[1]), Ok(false));
        assert_eq!((timers.take_due(99), timers.soonest_ns()), (None, u64::MAX));
    }

    #[test]
    fn a_timer_is_gone_with_the_number_in_its_value() {
        let timers = Timers::default();
        let at = place(&timers, 0x1000);
        assert_eq!(timers.init(at, 1, TimerClock::Boot, |_| true), Err(Errno::EBUSY));
        timers.set_code(at, CODE).expect("it is there");
        timers.start(at, 5).expect("it calls something");
        let other = TimerPlace { id: at.id + 1, ..at };
        assert_eq!(timers.set_code(other, CODE), Err(Errno::EINVAL));
        assert_eq!(timers.cancel(other), Err(Errno::EINVAL));
        let anew = place(&timers, 0x1000);
        assert_ne!(anew, at);
        assert_eq!((timers.take_due(99), timers.start(at, 1)), (None, Err(Errno::EINVAL)));
    }

    #[test]
    fn timers_that_are_gone_are_forgotten_while_others_are_made() {
        let timers = Timers::default();
        let kept = place(&timers, 0x10);
        timers.set_code(kept, CODE).expect("it is there");
        timers.start(kept, 30).expect("it calls something");
        for number in 1..10_000u32 {
            let at = TimerPlace { addr: number * 0x20, id: 0 };
            let made = timers.init(at, 1, TimerClock::Boot, |other| other == kept);
            let made = TimerPlace { id: made.expect("room"), ..at };
            timers.set_code(made, CODE).expect("it was just made");
            timers.start(made, 10).expect("it calls something");
            let state = timers.lock();
            assert!(state.by_addr.len() < 8 && state.due.len() < 8, "{} timers", state.by_addr.len());
        }
        assert_eq!(timers.cancel(kept), Ok(true));
    }
}
