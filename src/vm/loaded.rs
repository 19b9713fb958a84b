//! A linked program with an entry for each mode.

use std::sync::Arc;

use super::{Linked, Mode, Outcome, interp};
use crate::maps::{CODE_TABLES, Slot};
use crate::run::Run;

/// A linked program with an entry for each mode. Program arrays hold it as their `Slot::program`.
#[derive(Debug)]
pub struct Loaded {
    linked: Arc<Linked>,
}

impl Loaded {
    /// Makes the entries for a linked program.
    #[must_use]
    pub fn new(linked: Arc<Linked>) -> Self {
        Self { linked }
    }

    /// The program behind the entries.
    #[must_use]
    pub fn linked(&self) -> &Arc<Linked> {
        &self.linked
    }

    /// Runs it to its end or its trap. The caller has made the run ready: reset, frame bounds, context, stack.
    ///
    /// Every mode is the interpreter until there is code for the others.
    pub fn run(&self, mode: Mode, run: &mut Run<'_>) -> Outcome {
        match mode {
            Mode::Fast | Mode::Instrumented | Mode::Verify => interp::run(&self.linked, run),
        }
    }

    /// What a program array holds of it.
    #[must_use]
    pub fn slot(self: &Arc<Self>) -> Slot {
        let program = self.linked.program();
        Slot {
            name: program.name().to_owned(),
            program_id: self.linked.id(),
            kind: program.kind(),
            code: [std::ptr::null(); CODE_TABLES],
            program: Arc::<Self>::clone(self),
        }
    }
}
