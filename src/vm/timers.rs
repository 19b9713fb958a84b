//! Calls of programs' functions whose time has come.
//!
//! Invariant: between runs, on the thread of the worker whose run is used; a timer whose value is gone calls nothing.

use std::sync::Arc;

use crossbeam::epoch;

use super::{Loaded, Mode, Outcome};
use crate::run::{Run, TimerPlace, Window};

/// Calls what the next due timer wants called; `None` where none is due. The run is used for it and left to be reset.
pub fn fire(run: &mut Run<'_>, mode: Mode, fuel: u64) -> Option<(Arc<Loaded>, Outcome)> {
    loop {
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
        run.timer = Some(at);
        let ctx = std::mem::take(&mut run.head.ctx);
        let args = [due.map, key_at.into(), value.into(), 0, 0];
        let outcome = program.run_callback(mode, run, due.code.start, args);
        run.head.ctx = ctx;
        run.timer = None;
        return Some((program, outcome));
    }
}
