//! What verify mode noticed though the run went on.

use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth a look.
    Low,
    /// Probably a mistake.
    Medium,
    /// A mistake.
    High,
}

/// Something that verify mode noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Identifier of its kind, such as `uninitialised-register`.
    pub id: &'static str,
    /// How bad.
    pub severity: Severity,
    /// Name of the program that was executing.
    pub program: String,
    /// Slot index.
    pub pc: usize,
    /// What happened, in words.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} insn {}: {} ({})", self.program, self.pc, self.what, self.id)
    }
}
