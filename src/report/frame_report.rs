//! What a run of a program on a frame is reported as: a line of JSON of `kumite run`.
//!
//! Invariant: plain data; bytes are hexadecimal digits.

use std::fmt;

use serde::Serialize;

use super::hexadecimal::to_hex;
use crate::maps::Target;
use crate::run::{Finding, FrameCopy, Redirect};
use crate::verdict::{ProgramKind, Verdict};

/// What became of a frame.
#[derive(Clone, Debug, Serialize)]
pub struct FrameReport {
    /// Name of the program that was entered.
    pub prog: String,
    /// Name of the mode.
    pub mode: &'static str,
    /// Low 32 bits of r0; 0 after a trap.
    pub retval: u32,
    /// What the return value means on the program's hook; `aborted` after a trap.
    #[serde(serialize_with = "by_name")]
    pub verdict: Verdict,
    /// The frame afterwards, in hexadecimal; of a flow dissector the `bpf_flow_keys`.
    pub data_out: String,
    /// The metadata before the frame, in hexadecimal, where the program left some.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub meta_out: String,
    /// The context afterwards, in hexadecimal, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx_out: Option<String>,
    /// Instructions executed; null in modes that do not count them.
    pub insns: Option<u64>,
    /// Tail calls taken.
    pub tail_calls: u32,
    /// Why the run stopped early, in words.
    pub trap: Option<String>,
    /// What verify mode noticed.
    pub findings: Vec<FindingReport>,
    /// Lines that the program wrote with `bpf_trace_printk`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<String>,
    /// Where a redirect helper sent the frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<RedirectReport>,
    /// Timers that were due after it, whose functions were called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<TimerReport>,
    /// Copies of the frame that the program sent beside it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<CopyReport>,
    /// Mean nanoseconds of a run from the moment when its frame is in place, where it was repeated; not below a tenth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_ns: Option<f64>,
}

fn by_name<S: serde::Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(verdict.name())
}

/// Something that verify mode noticed.
#[derive(Clone, Debug, Serialize)]
pub struct FindingReport {
    /// Identifier of its kind.
    pub id: &'static str,
    /// Name of the program that was executing.
    pub prog: String,
    /// Slot index; none of what is seen at the end alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insn: Option<usize>,
    /// Source file that the instruction belongs to, where the object says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line of it, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What happened, in words.
    pub what: String,
}

impl FindingReport {
    /// The report of a finding.
    pub(super) fn of(finding: &Finding) -> Self {
        Self {
            id: finding.id,
            prog: finding.program.clone(),
            insn: Some(finding.pc),
            file: finding.source.as_ref().map(|source| source.file.to_string()),
            line: finding.source.as_ref().map(|source| source.line),
            what: finding.what.clone(),
        }
    }
}

impl FrameReport {
    /// The finding that the program's answer is none of those that its hook knows, where it is none.
    #[must_use]
    pub fn unknown_verdict(&self, kind: ProgramKind) -> Option<FindingReport> {
        (self.trap.is_none() && !kind.answers(self.retval)).then(|| FindingReport {
            id: "unknown-verdict",
            prog: self.prog.clone(),
            insn: None,
            file: None,
            line: None,
            what: kind.no_answer(self.retval),
        })
    }
}

impl fmt::Display for FindingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prog)?;
        if let Some(insn) = self.insn {
            write!(f, " insn {insn}")?;
        }
        write!(f, ": {} ({})", self.what, self.id)?;
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, " ({file}:{line})"),
            (_, _) => Ok(()),
        }
    }
}

/// A call of a timer's function.
#[derive(Clone, Debug, Serialize)]
pub struct TimerReport {
    /// Name of the program whose function it is.
    pub prog: String,
    /// Why the call stopped early, in words.
    pub trap: Option<String>,
    /// What verify mode noticed.
    pub findings: Vec<FindingReport>,
}

/// Target of a redirect.
#[derive(Clone, Debug, Serialize)]
pub struct RedirectReport {
    /// Interface index; 0 for what is no single port.
    pub ifindex: u32,
    /// What else it is, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The helper's flags.
    pub flags: u64,
}

impl RedirectReport {
    /// The report of a redirect.
    pub(super) fn of(redirect: &Redirect) -> Self {
        match *redirect {
            Redirect { target: Target::Port(ifindex), flags } => Self { ifindex, target: None, flags },
            Redirect { target, flags } => Self { ifindex: 0, target: Some(target.to_string()), flags },
        }
    }
}

/// A copy of the frame.
#[derive(Clone, Debug, Serialize)]
pub struct CopyReport {
    /// Where it goes.
    #[serde(flatten)]
    pub target: RedirectReport,
    /// Its bytes, in hexadecimal.
    pub data: String,
}

impl CopyReport {
    /// The report of a copy.
    pub(super) fn of(copy: &FrameCopy) -> Self {
        Self { target: RedirectReport::of(&copy.target), data: to_hex(&copy.bytes) }
    }
}
