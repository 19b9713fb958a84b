//! Helpers that call the program's own functions. `bpf_loop` of `kernel/bpf/bpf_iter.c`, `bpf_for_each_map_elem` of the same.
//!
//! Invariant: a body only asks; the engine calls, and pays for each call as for a local one, so fuel bounds them all.

use crossbeam::epoch;

use super::check::place;
use super::{Arg, Frame, Helper, Ret};
use crate::limits::LOOPS_MAX;
use crate::maps::Errno;
use crate::run::{Callback, Code, Iteration, Run, Step, code_start};
use crate::trap::TrapKind;

#[expect(clippy::cast_possible_truncation, reason = "the kernel's parameter is 32 bits of r1")]
fn bpf_loop(run: &mut Run<'_>, [count, code, ctx, flags, _]: [u64; 5]) -> Result<u64, TrapKind> {
    if flags != 0 {
        return Ok(Errno::EINVAL.to_r0());
    }
    let count = count as u32;
    if count > LOOPS_MAX {
        return Ok(Errno::E2BIG.to_r0());
    }
    let iteration = Iteration::Loop { done: 0, count, ctx };
    run.callback = Some(Callback { helper: LOOP.id, arg: 2, code, iteration });
    Ok(0)
}

/// `long bpf_loop(nr_loops, callback, ctx, flags)`: calls it with each number from 0, until it returns something else
/// than zero; gives how often.
pub(super) static LOOP: Helper = Helper {
    id: 181,
    name: "loop",
    args: &[Arg::Any, Arg::Callback, Arg::CallbackCtx, Arg::Any],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Keeps,
    kinds: &[],
    body: bpf_loop,
};

fn for_each_map_elem(run: &mut Run<'_>, [map, code, ctx, flags, _]: [u64; 5]) -> Result<u64, TrapKind> {
    let guard = epoch::pin();
    let found = place(164, 1).map(run, map, &guard)?;
    if flags != 0 || found.part_count().is_none() {
        return Ok(Errno::EINVAL.to_r0());
    }
    let iteration = Iteration::Elements { map, part: 0, waiting: Vec::new(), done: 0, ctx };
    run.callback = Some(Callback { helper: FOR_EACH_MAP_ELEM.id, arg: 2, code, iteration });
    Ok(0)
}

/// `long bpf_for_each_map_elem(map, callback, ctx, flags)`: calls it with each element of an array or hash, until it returns
/// something else than zero; gives how many.
pub(super) static FOR_EACH_MAP_ELEM: Helper = Helper {
    id: 164,
    name: "for_each_map_elem",
    args: &[Arg::Map, Arg::Callback, Arg::CallbackCtx, Arg::Any],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Keeps,
    kinds: &[],
    body: for_each_map_elem,
};

/// What calling a function of the program is worth, beside the function's own slots: leaving generated code and entering it.
const CALL_WORK: u64 = 24;

/// Goes on with the calls of a helper. `returned` is r0 of the call before, `None` at first.
///
/// # Errors
/// [`TrapKind::Fuel`] where the walk itself costs more than the run has left.
pub fn resume(iteration: &mut Iteration, run: &mut Run<'_>, returned: Option<u64>) -> Result<Step, TrapKind> {
    let stop = returned.is_some_and(|r0| r0 != 0);
    match iteration {
        Iteration::Loop { done, count, ctx } => {
            if stop || done == count {
                return Ok(Step::Done((*done).into()));
            }
            run.work(CALL_WORK)?;
            *done += 1;
            Ok(Step::Call([u64::from(*done - 1), *ctx, 0, 0, 0]))
        }
        Iteration::Timer { timer, code, program } => {
            let start = code_start(*code).expect("the engine found the function");
            let set = run.world.timers.set_code(*timer, Code { program: *program, start });
            Ok(Step::Done(set.map_or_else(Errno::to_r0, |()| 0)))
        }
        Iteration::Elements { map, part, waiting, done, ctx } => {
            if stop {
                return Ok(Step::Done((*done).into()));
            }
            let guard = epoch::pin();
            let walked = place(FOR_EACH_MAP_ELEM.id, 1).map(run, *map, &guard)?;
            while waiting.is_empty() {
                if walked.part_count().is_none_or(|count| *part >= count) {
                    return Ok(Step::Done((*done).into()));
                }
                *waiting = walked.part(run.worker(), *part);
                waiting.reverse();
                *part += 1;
                run.work(1 + waiting.len() as u64 * u64::from(walked.def().key_len) / 8)?;
            }
            run.work(CALL_WORK)?;
            let (key, value) = waiting.pop().expect("it is not empty");
            let at = u64::from(run.world.key_place(run.worker(), run.callback_depth));
            run.world.cage.write(at, &key).map_err(|fault| place(FOR_EACH_MAP_ELEM.id, 1).fault(fault))?;
            *done += 1;
            Ok(Step::Call([*map, at, value.into(), *ctx, 0]))
        }
    }
}
