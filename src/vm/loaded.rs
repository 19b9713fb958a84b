//! A linked program with an entry for each mode.
//!
//! Invariant: translation happens when the program is loaded, never while frames wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::jit::{Counting, Counts, Native, NoHooks, TranslateError};
use super::{Linked, Mode, Outcome, interp};
use crate::maps::Slot;
use crate::run::Run;

/// A linked program with an entry for each mode. Program arrays hold it as their `Slot::program`.
#[derive(Debug)]
pub struct Loaded {
    linked: Arc<Linked>,
    fast: Result<Native<NoHooks>, TranslateError>,
    instrumented: Result<Native<Counting>, TranslateError>,
    /// Interpreted runs that went on here by a tail call.
    tail_runs: AtomicU64,
}

impl Loaded {
    /// Makes the entries for a linked program. One that cannot be translated is interpreted in every mode;
    /// [`Loaded::translated`] says why.
    #[must_use]
    pub fn new(linked: Arc<Linked>) -> Self {
        Self {
            fast: Native::translate(&linked),
            instrumented: Native::translate(&linked),
            linked,
            tail_runs: AtomicU64::new(0),
        }
    }

    /// The program behind the entries.
    #[must_use]
    pub fn linked(&self) -> &Arc<Linked> {
        &self.linked
    }

    /// Whether the mode has an entry of its own.
    ///
    /// # Errors
    /// Why there is no code for it: the interpreter stands in, and a tail call from translated code misses the program.
    pub fn translated(&self, mode: Mode) -> Result<(), &TranslateError> {
        match mode {
            Mode::Fast => self.fast.as_ref().map(|_| ()),
            Mode::Instrumented => self.instrumented.as_ref().map(|_| ()),
            Mode::Verify => Ok(()),
        }
    }

    /// What instrumented mode counted since the program was loaded; `None` where there is no code for it.
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        self.instrumented.as_ref().ok().map(Native::counts)
    }

    /// Runs of other programs that went on in this one by a tail call, in instrumented and verify mode: fast mode does not
    /// count them.
    #[must_use]
    pub fn tail_runs(&self) -> u64 {
        let instrumented = self.instrumented.as_ref().map_or(0, Native::tail_runs);
        instrumented + self.tail_runs.load(Ordering::Relaxed)
    }

    /// The interpreter went on here by a tail call.
    pub(super) fn count_tail_run(&self) {
        self.tail_runs.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs it to its end or its trap. The caller has made the run ready: reset, frame bounds, context, stack.
    pub fn run(&self, mode: Mode, run: &mut Run<'_>) -> Outcome {
        match (mode, &self.fast, &self.instrumented) {
            (Mode::Fast, Ok(native), _) => native.run(run),
            (Mode::Instrumented, _, Ok(native)) => native.run(run),
            (Mode::Fast | Mode::Instrumented | Mode::Verify, _, _) => interp::run(&self.linked, run),
        }
    }

    /// Runs one of its functions that can be called back, the one that begins at slot `start`. The caller has made the run
    /// ready: reset, and without a frame.
    ///
    /// # Panics
    /// If there is no such function: who keeps a function's place had it found.
    pub fn run_callback(&self, mode: Mode, run: &mut Run<'_>, start: usize, args: [u64; 5]) -> Outcome {
        match (mode, &self.fast, &self.instrumented) {
            (Mode::Fast, Ok(native), _) => native.run_callback(run, start, args),
            (Mode::Instrumented, _, Ok(native)) => native.run_callback(run, start, args),
            (Mode::Fast | Mode::Instrumented | Mode::Verify, _, _) => {
                interp::run_callback(&self.linked, run, start, args)
            }
        }
    }

    /// What a program array holds of it.
    #[must_use]
    pub fn slot(self: &Arc<Self>) -> Slot {
        let program = self.linked.program();
        let fast = self.fast.as_ref().map_or(std::ptr::null(), Native::entry);
        let instrumented = self.instrumented.as_ref().map_or(std::ptr::null(), Native::entry);
        Slot {
            name: program.name().to_owned(),
            program_id: self.linked.id(),
            kind: program.kind(),
            code: [fast, instrumented],
            program: Arc::<Self>::clone(self),
        }
    }
}
