//! Calls of a program's own functions that a helper asks its engine for.
//!
//! A helper's body cannot call into the program: only the engine that runs it can. So the body leaves a [`Callback`] in the
//! run, the engine makes the calls that [`crate::helpers::resume`] names one after the other, and what the last step gives
//! is the helper's r0.
//!
//! Invariant: holds no address of generated code; the engine finds the function by its handle, and traps where it is none.

use super::TimerPlace;
use crate::limits::{CODE_HANDLE_BASE, PROGRAM_SLOTS_MAX};

/// What a program holds in a register that refers to one of its functions: no address of the cage, so nothing can be read
/// or written through it.
#[must_use]
pub fn code_handle(start: usize) -> u64 {
    CODE_HANDLE_BASE + start as u64
}

/// Slot index of the function that a handle may refer to; whether the program has it is for the engine to say.
#[must_use]
pub fn code_start(handle: u64) -> Option<usize> {
    let start = usize::try_from(handle.checked_sub(CODE_HANDLE_BASE)?).ok()?;
    (start < PROGRAM_SLOTS_MAX).then_some(start)
}

/// Calls that a helper asks for.
#[derive(Debug)]
pub struct Callback {
    /// The helper and which of its arguments the function was, for a trap that it was none.
    pub helper: u32,
    /// 1 to 5.
    pub arg: u8,
    /// Handle of the function.
    pub code: u64,
    /// Which calls.
    pub iteration: Iteration,
}

/// How far a helper has come with its calls.
#[derive(Debug)]
pub enum Iteration {
    /// `bpf_loop`.
    Loop {
        /// Calls made.
        done: u32,
        /// Calls to make.
        count: u32,
        /// Handed to each.
        ctx: u64,
    },
    /// `bpf_for_each_map_elem`.
    Elements {
        /// Handle of the map.
        map: u64,
        /// Part of the map to look at next.
        part: u32,
        /// Elements of the part before it that were not handed out yet, the next one last.
        waiting: Vec<(Vec<u8>, u32)>,
        /// Elements handed out.
        done: u32,
        /// Handed to each call.
        ctx: u64,
    },
    /// `bpf_timer_set_callback`: no call yet.
    Timer {
        /// The timer.
        timer: TimerPlace,
        /// Handle of the function.
        code: u64,
        /// Number of the program that asks.
        program: u32,
    },
}

impl Iteration {
    /// Says which program asks; the engine knows it.
    pub fn set_program(&mut self, id: u32) {
        if let Self::Timer { program, .. } = self {
            *program = id;
        }
    }
}

/// What an engine is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Call the function with these arguments, r1 to r5.
    Call([u64; 5]),
    /// The helper's r0.
    Done(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_leads_back_to_its_function_and_nothing_else_does() {
        assert_eq!(code_start(code_handle(0)), Some(0));
        assert_eq!(code_start(code_handle(PROGRAM_SLOTS_MAX - 1)), Some(PROGRAM_SLOTS_MAX - 1));
        for value in [0, 1, CODE_HANDLE_BASE - 1, code_handle(PROGRAM_SLOTS_MAX), u64::MAX] {
            assert_eq!(code_start(value), None, "{value:#x}");
        }
    }
}
