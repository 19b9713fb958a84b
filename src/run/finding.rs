//! What verify mode noticed though the run went on.

use std::fmt;
use std::sync::Arc;

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

/// A line of a program's source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// File as the compiler named it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
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
    /// The source line that the instruction belongs to, where the object says it.
    pub source: Option<SourceLine>,
    /// What happened, in words.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} insn {}: {} ({})", self.program, self.pc, self.what, self.id)?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, " ({source})"))
    }
}
