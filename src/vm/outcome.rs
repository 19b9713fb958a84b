//! How a run ended.
//!
//! Invariant: the guest's fault is a value here; nothing in it borrows from the run.

use std::fmt;
use std::sync::Arc;

use crate::program::Program;
use crate::trap::Trap;

/// How a run ended. Everything but `insns` is the same in every mode.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// r0 at the end; 0 after a trap.
    pub r0: u64,
    /// Fuel left; 0 after a trap or an exception.
    pub fuel_left: u64,
    /// Tail calls taken; 0 after an exception, and after a trap in generated code.
    pub tail_calls: u32,
    /// Instructions executed, in modes that count them (a two-slot load is one).
    pub insns: Option<u64>,
    /// Why the run stopped early.
    pub trap: Option<TrapAt>,
}

/// A trap, with the program that was executing.
#[derive(Clone, Debug)]
pub struct TrapAt {
    /// The program: after tail calls, the last one.
    pub program: Arc<Program>,
    /// Why and where.
    pub trap: Trap,
}

impl fmt::Display for TrapAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program.name(), self.trap)?;
        if let Some(line) = self.program.line_at(self.trap.pc) {
            write!(f, " ({}:{})", line.file, line.line)?;
        }
        Ok(())
    }
}
