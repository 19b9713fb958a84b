//! Calls of programs' functions whose time has come.
//!
//! Invariant: between runs, on the thread of the worker whose run is used; a timer whose value is gone calls nothing. The run
//! has its context again afterwards, even if kumite itself fails meanwhile.

use std::sync::Arc;

use crossbeam::epoch;

use super::{Loaded, Mode, Outcome};
use crate::limits::TURN_TIMERS_MAX;
use crate::run::{Run, Skb, TimerPlace, Window};

/// Calls what the next due timer wants called; `None` where none is due, or none of the next [`TURN_TIMERS_MAX`] is still there.
/// The run is used for it and left to be reset.
pub fn fire(run: &mut Run<'_>, mode: Mode, fuel: u64) -> Option<(Arc<Loaded>, Outcome)> {
    for _ in 0..TURN_TIMERS_MAX {
        let world = run.world;
        let due = world.timers.take_due(world.clock.now_ns())?;
        let at = TimerPlace { addr: due.addr, id: due.id };
        // Maps are reached by number; none goes while this is held.
        let guard = epoch::pin();
        let mut id = [0; 8];
        let held = world.cage.read(due.addr.into(), &mut id).is_ok() && u64::from_ne_bytes(id) == due.id;
        let element =
            world.maps.map_by_handle(due.map, &guard).filter(|_| held).and_then(|map| map.element_at(due.addr));
        let program = world.programs.find(due.code.program).and_then(|program| program.downcast::<Loaded>().ok());
        let (Some((key, value)), Some(program)) = (element, program) else {
            world.timers.forget(at);
            continue;
        };
        run.reset(fuel);
        run.kind = program.linked().program().kind();
        run.window = Window::default();
        let key_at = world.key_place(run.worker(), 0);
        world.cage.write(key_at.into(), &key).expect("the place of keys is writable for as long as the world lives");
        run.skb = Skb::default();
        let entry = Entry::new(run, at);
        let args = [due.map, key_at.into(), value.into(), 0, 0];
        let outcome = program.run_callback(mode, entry.run, due.code.start, args);
        drop(entry);
        return Some((program, outcome));
    }
    None
}

/// A run while it is in a timer's function, which has no context. Whatever becomes of the call, the run has its own again.
struct Entry<'r, 'w> {
    run: &'r mut Run<'w>,
    ctx: u32,
}

impl<'r, 'w> Entry<'r, 'w> {
    fn new(run: &'r mut Run<'w>, timer: TimerPlace) -> Self {
        run.timer = Some(timer);
        let ctx = std::mem::take(&mut run.head.ctx);
        Self { run, ctx }
    }
}

impl Drop for Entry<'_, '_> {
    fn drop(&mut self) {
        self.run.head.ctx = self.ctx;
        self.run.timer = None;
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::limits::STACK_LEN;
    use crate::maps::WorkerIndex;
    use crate::run::{Clock, Code, TimerClock, World};
    use crate::verdict::ProgramKind;

    #[test]
    fn timers_that_are_gone_are_passed_over_a_few_at_a_time() {
        let world = World::new(1, Clock::Fixed(0), Box::new(|_| {})).expect("address space");
        let mut run = Run::new(&world, WorkerIndex(0), ProgramKind::Xdp, STACK_LEN);
        let count = u32::try_from(TURN_TIMERS_MAX).expect("few") + 1;
        for number in 1..=count {
            let at = TimerPlace { addr: number * 16, id: 0 };
            let id = world.timers.init(at, 1, TimerClock::Monotonic, |_| true).expect("room");
            let at = TimerPlace { id, ..at };
            world.timers.set_code(at, Code { program: 1, start: 0 }).expect("it was just made");
            world.timers.start(at, 0).expect("it calls something");
        }
        for soonest in [0, u64::MAX] {
            assert!(fire(&mut run, Mode::Fast, 1).is_none());
            assert_eq!(world.timers.soonest_ns(), soonest);
        }
    }

    #[test]
    fn a_panic_in_a_timers_function_leaves_the_run_its_context() {
        let world = World::new(1, Clock::Fixed(0), Box::new(|_| {})).expect("address space");
        let mut run = Run::new(&world, WorkerIndex(0), ProgramKind::Xdp, STACK_LEN);
        run.head.ctx = 0x1000;
        let at = TimerPlace { addr: 0x2000, id: 7 };
        let failed = catch_unwind(AssertUnwindSafe(|| {
            let entry = Entry::new(&mut run, at);
            assert_eq!((entry.run.head.ctx, entry.run.timer), (0, Some(at)), "the function has no context");
            panic!("the engine fails");
        }));
        assert!(failed.is_err());
        assert_eq!((run.head.ctx, run.timer), (0x1000, None));
    }
}
