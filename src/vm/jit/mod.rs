//! Generated code: fast and instrumented mode.
//!
//! One of two independent statements of what instructions mean (the other is the interpreter, `interp`); tests compare
//! them. Each function of a program becomes one of Cranelift's; a mode's [`Hooks`] are woven in at translation. It matches
//! on [`Does`](crate::isa::Does) without wildcard arms, so a new row of the instruction table does not compile without an
//! arm here.
//!
//! Safety rests on three things: no address outside the cage can be formed, fuel and call depth bound every run, and what
//! faults inside the cage becomes a trap of the run ([`fault`]).
//!
//! Invariant: generated code writes to the cage, to the run's head and to counters, and to nothing else.

mod activation;
mod bytes;
mod callbacks;
mod code;
mod counting;
mod elements;
mod facts;
mod fault;
mod function;
mod hooks;
mod locals;
mod mutant;
mod operand;
mod outline;
mod registers;
mod routines;
mod stop;
mod target;
mod translate;
#[cfg(feature = "unguarded")]
pub mod unguarded;

#[cfg(test)]
mod tests;

use std::ops::Not;
use std::sync::Arc;

use crossbeam::epoch;

pub use code::CodeError;
pub use counting::{Counting, Counts, HelperCount, TailCallCount};
pub use hooks::{Addresses, Fuel, Hooks, NoHooks, Safety, Stop, StopAt};
pub use mutant::Mutant;
#[cfg(feature = "mutants")]
pub use mutant::plant;
pub use translate::TranslateError;

use super::{Linked, Outcome, TrapAt};
use crate::limits::FRAME_STACK_LEN;
use crate::run::{Run, code_handle};
use crate::trap::TrapKind;
use activation::{Entry, Left, Stopped};
use code::Code;

/// A program's code in one mode.
#[derive(Debug)]
pub struct Native<H: Hooks> {
    linked: Arc<Linked>,
    code: Code,
    /// What the code writes to: dropped after it.
    hooks: H,
}

impl<H: Hooks> Native<H> {
    /// Translates a program.
    ///
    /// # Errors
    /// [`TranslateError`]; the interpreter still runs the program.
    pub fn translate(linked: &Arc<Linked>) -> Result<Self, TranslateError> {
        let hooks = H::new(linked);
        let code = translate::translate(linked, &hooks)?;
        Ok(Self { linked: Arc::clone(linked), code, hooks })
    }

    /// Where its code is entered, for the code tables of program arrays.
    #[must_use]
    pub fn entry(&self) -> *const u8 {
        self.code.start()
    }

    /// Bytes of its code.
    #[must_use]
    pub fn code_len(&self) -> usize {
        self.code.len()
    }

    /// Its machine code, for who wants to read it.
    #[must_use]
    pub fn machine_code(&self) -> &[u8] {
        self.code.bytes()
    }

    /// Runs the program to its end or its trap.
    ///
    /// The caller has made the run ready: [`Run::reset`], frame bounds, context, stack.
    ///
    /// # Panics
    /// If `head.stack_top` is not at a multiple of a frame's length: our mistake. With the panic of a helper's body, if one did.
    #[inline]
    pub fn run(&self, run: &mut Run<'_>) -> Outcome {
        self.enter(run, Entry::Program, self.code.start())
    }

    /// Runs one of the program's functions that can be called back, the one that begins at `start`, to its end or its trap.
    ///
    /// # Panics
    /// As [`Native::run`], and if there is no such function: who keeps a function's place had it found.
    pub fn run_callback(&self, run: &mut Run<'_>, start: usize, args: [u64; 5]) -> Outcome {
        let code = self.code.callbacks().entry(code_handle(start)).expect("a function that was found before");
        run.head.callback_args = args;
        run.head.frame = u64::from(run.head.stack_top);
        self.enter(run, Entry::Callback, code)
    }

    #[inline]
    fn enter(&self, run: &mut Run<'_>, entry: Entry, code: *const u8) -> Outcome {
        assert!(
            run.head.stack_top.is_multiple_of(FRAME_STACK_LEN),
            "the stack of a run is made of frames, r10 its end"
        );
        // Keeps maps and tail-called programs alive to the end of the run.
        let _guard = run.is_in_burst().not().then(epoch::pin);
        run.trap = None;
        run.head.insns = 0;
        run.head.program = u64::from(self.linked.id());
        run.head.cage_base = run.world.cage.base();
        let arg2 = run.head.arg2;
        // SAFETY: the entry is that of our own code, borrowed with `self`; programs in program arrays outlive the guard.
        // Translation prepared the entering function and the fault handler.
        let left = unsafe { activation::enter(run, entry, code) };
        run.head.arg2 = arg2;
        run.discard_records();
        match left {
            Left::Returned => Outcome {
                r0: run.head.r0,
                fuel_left: run.head.fuel,
                tail_calls: run.head.tail_calls,
                insns: H::executed(&run.head, &[]),
                trap: None,
            },
            Left::Stopped(stops) => Self::stopped(run, &stops),
        }
    }

    #[cold]
    fn stopped(run: &mut Run<'_>, stops: &[Stopped]) -> Outcome {
        let [innermost, ..] = stops else { unreachable!("who stopped did so somewhere") };
        let kind = innermost.trap.kind;
        let (r0, trap) = if let TrapKind::Thrown { cookie } = kind { (cookie, None) } else { (0, Some(kind)) };
        run.trap = trap;
        run.head.r0 = r0;
        run.head.fuel = 0;
        let stops: Vec<Stop<'_>> = stops.iter().map(Stopped::stop).collect();
        Outcome {
            r0,
            fuel_left: 0,
            tail_calls: 0,
            insns: H::executed(&run.head, &stops),
            trap: trap.map(|_| TrapAt { program: Arc::clone(innermost.linked.program()), trap: innermost.trap }),
        }
    }
}

impl Native<Counting> {
    /// What was counted since the translation, all workers together.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.hooks.counts(&self.linked)
    }

    /// Runs of other programs that went on in this one by a tail call, since the translation.
    #[must_use]
    pub fn tail_runs(&self) -> u64 {
        self.hooks.tail_runs()
    }
}
