//! What every engine of the table can do with a program.

use crate::clock::Sample;

/// What came of one run on a fresh frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The low half of r0.
    pub(crate) value: u32,
    /// The frame afterwards.
    pub(crate) frame: Vec<u8>,
}

/// Why there is nothing to measure in a cell, or in a whole column.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Absent(pub(crate) String);

impl Absent {
    pub(crate) fn because(why: impl ToString) -> Self {
        Self(why.to_string())
    }
}

/// How a window is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grain {
    /// Of pieces shorter than the time that a thread has a processor for.
    Pieces,
    /// By one call, as each costs much beside its runs.
    Whole,
}

/// One program on one engine, with its frame.
pub(crate) trait Engine {
    /// Runs it once on a fresh frame.
    fn answer(&mut self) -> Result<Answer, Absent>;

    /// Runs it that often on the frame as it lies, and says what a run took.
    fn time(&mut self, runs: u64) -> Sample;

    /// How a window is made of it.
    fn grain(&self) -> Grain {
        Grain::Pieces
    }
}

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Column {
    Kernel,
    Fast,
    Instrumented,
    Verify,
    Unfueled,
    Unmasked,
    Bare,
    RbpfJit,
    RbpfCranelift,
    RbpfInterpreter,
    Native,
    Scalar,
}

impl Column {
    pub(crate) const ALL: [Self; 12] = [
        Self::Kernel,
        Self::Fast,
        Self::Instrumented,
        Self::Verify,
        Self::Unfueled,
        Self::Unmasked,
        Self::Bare,
        Self::RbpfJit,
        Self::RbpfCranelift,
        Self::RbpfInterpreter,
        Self::Native,
        Self::Scalar,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Fast => "fast",
            Self::Instrumented => "instrumented",
            Self::Verify => "verify",
            Self::Unfueled => "unfueled",
            Self::Unmasked => "unmasked",
            Self::Bare => "bare",
            Self::RbpfJit => "rbpf_jit",
            Self::RbpfCranelift => "rbpf_cranelift",
            Self::RbpfInterpreter => "rbpf_interpreter",
            Self::Native => "native",
            Self::Scalar => "scalar",
        }
    }

    /// Whether it is somebody else's engine, whose mistakes are not ours.
    pub(crate) fn is_peer(self) -> bool {
        matches!(self, Self::RbpfJit | Self::RbpfCranelift | Self::RbpfInterpreter)
    }

    /// What stands above it in the table.
    pub(crate) fn short(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Fast => "fast",
            Self::Instrumented => "instr",
            Self::Verify => "verify",
            Self::Unfueled => "nofuel",
            Self::Unmasked => "nomask",
            Self::Bare => "bare",
            Self::RbpfJit => "rbpf-j",
            Self::RbpfCranelift => "rbpf-c",
            Self::RbpfInterpreter => "rbpf-i",
            Self::Native => "native",
            Self::Scalar => "scalar",
        }
    }
}
