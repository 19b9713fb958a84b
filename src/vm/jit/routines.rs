//! What generated code calls in the host.
//!
//! Every routine takes the run first and answers with two numbers, the second of which says whether the run traps. A panic
//! of a helper's body is our fault, not the guest's: it waits until no generated code is on the stack, then goes on.
//!
//! Invariant: never unwinds into generated code.

use std::panic::{self, AssertUnwindSafe};

use crossbeam::epoch;

use super::activation::{self, Entry, Left};
use super::callbacks::Callbacks;
use super::hooks::Hooks;
use crate::cage::Cage;
use crate::helpers::{self, TAIL_CALL};
use crate::isa::Size;
use crate::limits::FRAME_STACK_LEN;
use crate::run::{Callback, Run, Step};
use crate::trap::TrapKind;

/// What a routine answers, in two registers.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Answer {
    value: u64,
    state: u64,
}

/// The value counts.
const DONE: u64 = 0;
/// The run traps; the reason is in `Run::trap`, or a panic waits.
pub(super) const TRAPPED: u64 = 1;
/// A packet load leaves the frame.
const OUTSIDE: u64 = 2;

/// Address of a routine.
#[derive(Clone, Copy)]
pub(super) struct Routine(pub(super) *const ());

/// Calls the helper that `Head::call_site` names with this many arguments.
pub(super) fn helper(arg_count: usize) -> Routine {
    Routine(match arg_count {
        0 => helper0 as *const (),
        1 => helper1 as *const (),
        2 => helper2 as *const (),
        3 => helper3 as *const (),
        4 => helper4 as *const (),
        _ => helper5 as *const (),
    })
}

/// Finds a helper by its number: its index in the high half, its cost in the low half.
pub(super) const HELPER_BY_NUMBER: Routine = Routine(helper_by_number as *const ());

/// Loads from the frame, in network order: takes an offset and a length of 1, 2, 4 or 8.
pub(super) const LOAD_PACKET: Routine = Routine(load_packet as *const ());

/// Finds the code that a tail call jumps to: takes a map's handle and an index, gives null for none.
pub(super) fn tail_target<H: Hooks>() -> Routine {
    Routine(find_tail_target::<H> as *const ())
}

macro_rules! helper_of {
    ($name:ident($($arg:ident),*) $args:expr) => {
        unsafe extern "C" fn $name(run: *mut Run<'_>, $($arg: u64),*) -> Answer {
            // SAFETY: generated code passes the run that it was entered with.
            let run = unsafe { &mut *run };
            call(run, $args)
        }
    };
}

helper_of!(helper0() [0; 5]);
helper_of!(helper1(a) [a, 0, 0, 0, 0]);
helper_of!(helper2(a, b) [a, b, 0, 0, 0]);
helper_of!(helper3(a, b, c) [a, b, c, 0, 0]);
helper_of!(helper4(a, b, c, d) [a, b, c, d, 0]);
helper_of!(helper5(a, b, c, d, e) [a, b, c, d, e]);

fn call(run: &mut Run<'_>, args: [u64; 5]) -> Answer {
    let helper = helpers::at(run.head.call_site.helper());
    run.touch();
    guarded(run, |run| {
        let result = (helper.body)(run, args)?;
        match run.callback.take() {
            None => Ok(result),
            Some(callback) => call_back(run, callback),
        }
    })
}

/// Makes the calls that a helper asked for; gives its r0.
fn call_back(run: &mut Run<'_>, callback: Callback) -> Result<u64, TrapKind> {
    let Callback { helper, arg, code, mut iteration } = callback;
    // SAFETY: generated code wrote the address of its own before it called the helper, and it is still on the stack.
    let callbacks = unsafe { &*run.head.callbacks.cast::<Callbacks>() };
    let not_a_function = TrapKind::HelperArg { helper, arg, expected: "a function of the program" };
    let entry = callbacks.entry(code).ok_or(not_a_function)?;
    iteration.set_program(callbacks.program());
    let fp = run.head.frame;
    let deepest = fp == run.head.deepest_frame;
    let mut returned = None;
    run.callback_depth += 1;
    loop {
        match helpers::resume(&mut iteration, run, returned)? {
            Step::Done(r0) => {
                run.callback_depth -= 1;
                return Ok(r0);
            }
            Step::Call(_) if deepest => return Err(TrapKind::CallDepth),
            Step::Call(args) => {
                run.head.callback_args = args;
                run.head.frame = fp - u64::from(FRAME_STACK_LEN);
                // SAFETY: the entry is of the program that called the helper; whoever entered it keeps it.
                match unsafe { activation::enter(run, Entry::Callback, entry) } {
                    Left::Returned => returned = Some(run.head.r0),
                    Left::Stopped(stops) => {
                        let kind = stops.first().expect("who stopped did so somewhere").trap.kind;
                        activation::keep_stops(stops);
                        return Err(kind);
                    }
                }
            }
        }
    }
}

/// Runs `body`; a trap is noted in the run, a panic in the activation.
fn guarded(run: &mut Run<'_>, body: impl FnOnce(&mut Run<'_>) -> Result<u64, TrapKind>) -> Answer {
    match panic::catch_unwind(AssertUnwindSafe(|| body(run))) {
        Ok(Ok(value)) => Answer { value, state: DONE },
        Ok(Err(kind)) => {
            run.trap = Some(kind);
            Answer { value: 0, state: TRAPPED }
        }
        Err(payload) => {
            activation::keep_panic(payload);
            Answer { value: 0, state: TRAPPED }
        }
    }
}

unsafe extern "C" fn helper_by_number(run: *mut Run<'_>, number: u64) -> Answer {
    // SAFETY: generated code passes the run that it was entered with.
    let run = unsafe { &mut *run };
    guarded(run, |run| {
        let (index, helper) = helpers::by_register(number, run.kind).ok_or(TrapKind::NoHelper { number })?;
        Ok((index as u64) << 32 | u64::from(helper.cost))
    })
}

unsafe extern "C" fn find_tail_target<H: Hooks>(run: *mut Run<'_>, handle: u64, index: u64) -> Answer {
    // SAFETY: generated code passes the run that it was entered with.
    let run = unsafe { &mut *run };
    guarded(run, |run| {
        let guard = epoch::pin();
        let array = run.world.maps.map_by_handle(handle, &guard).and_then(|map| map.as_program_array());
        let array = array.ok_or(TrapKind::HelperArg { helper: TAIL_CALL, arg: 2, expected: "a program array" })?;
        let code = usize::try_from(index).ok().and_then(|index| array.code(H::CODE_TABLE).get(index));
        Ok(code.map_or(0, |code| code.load(std::sync::atomic::Ordering::Acquire).addr() as u64))
    })
}

unsafe extern "C" fn load_packet(run: *mut Run<'_>, offset: i64, len: u64) -> Answer {
    // SAFETY: generated code passes the run that it was entered with.
    let run = unsafe { &mut *run };
    let Some(size) = [Size::B, Size::H, Size::W, Size::D].into_iter().find(|size| u64::from(size.len()) == len) else {
        unreachable!("the translator passes the length of a size")
    };
    let Some(place) = run.packet_place(offset, size.len()) else { return Answer { value: 0, state: OUTSIDE } };
    guarded(run, |run| {
        let cage: &Cage = &run.world.cage;
        let value = cage.load(place.into(), size).map_err(TrapKind::Memory)?;
        Ok(value.swap_bytes() >> (64 - 8 * size.len()))
    })
}
