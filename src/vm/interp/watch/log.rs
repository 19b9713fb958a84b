//! What the watch reports, each thing once a run.
//!
//! Invariant: at most [`FINDINGS_MAX`] findings a run.

use crate::limits::FINDINGS_MAX;
use crate::program::Program;
use crate::run::{Finding, Severity, SourceLine};

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    UninitialisedRegister,
    UninitialisedStack,
    StalePacketPointer,
    AddressUpperHalf,
    PacketBounds,
    StackBounds,
    ContextBounds,
    ContextWrite,
    MemoryBounds,
    MapValueBounds,
    MapAccess,
    RecordBounds,
    RecordAfterEnd,
    RecordLeak,
    LockLeak,
    SocketBounds,
    SocketLeak,
}

impl Problem {
    /// Its identifier in reports.
    const fn id(self) -> &'static str {
        match self {
            Self::UninitialisedRegister => "uninitialised-register",
            Self::UninitialisedStack => "uninitialised-stack",
            Self::StalePacketPointer => "stale-packet-pointer",
            Self::AddressUpperHalf => "address-upper-half",
            Self::PacketBounds => "packet-bounds",
            Self::StackBounds => "stack-bounds",
            Self::ContextBounds => "context-bounds",
            Self::ContextWrite => "context-write",
            Self::MemoryBounds => "memory-bounds",
            Self::MapValueBounds => "map-value-bounds",
            Self::MapAccess => "map-access",
            Self::RecordBounds => "record-bounds",
            Self::RecordAfterEnd => "record-after-end",
            Self::RecordLeak => "record-leak",
            Self::LockLeak => "lock-leak",
            Self::SocketBounds => "socket-bounds",
            Self::SocketLeak => "socket-leak",
        }
    }

    const fn severity(self) -> Severity {
        match self {
            Self::UninitialisedStack | Self::UninitialisedRegister | Self::ContextWrite => Severity::Medium,
            Self::StalePacketPointer
            | Self::AddressUpperHalf
            | Self::PacketBounds
            | Self::StackBounds
            | Self::ContextBounds
            | Self::MemoryBounds
            | Self::MapValueBounds
            | Self::MapAccess
            | Self::RecordBounds
            | Self::RecordAfterEnd
            | Self::RecordLeak
            | Self::LockLeak
            | Self::SocketBounds
            | Self::SocketLeak => Severity::High,
        }
    }
}

/// The findings of a run.
#[derive(Default)]
pub(super) struct Log {
    findings: Vec<Finding>,
}

impl Log {
    pub(super) fn report(&mut self, problem: Problem, program: &Program, pc: usize, what: impl FnOnce() -> String) {
        let id = problem.id();
        let same = |finding: &Finding| finding.id == id && finding.pc == pc && finding.program == program.name();
        if self.findings.len() == FINDINGS_MAX || self.findings.iter().any(same) {
            return;
        }
        let line = program.line_at(pc);
        let source = line.map(|line| SourceLine { file: line.file.clone(), line: line.line });
        let (severity, program) = (problem.severity(), program.name().to_owned());
        self.findings.push(Finding { id, severity, program, pc, source, what: what() });
    }

    pub(super) fn take(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::assemble;
    use crate::program::{Line, RawProgram};
    use crate::verdict::ProgramKind;

    #[test]
    fn a_finding_names_its_source_line_where_the_object_has_lines() {
        let finding = |lines| {
            let slots = assemble("r0 = 0\nr0 = 1\nexit").expect("text of the test");
            let raw = RawProgram { name: "main".into(), slots, lines, ..RawProgram::default() };
            let program = Program::check(raw, ProgramKind::Xdp).expect("well-formed");
            let mut log = Log::default();
            log.report(Problem::StackBounds, &program, 1, || "leaves the stack".to_owned());
            log.take().remove(0).to_string()
        };
        let line = Line { pc: 0, file: "main.c".into(), line: 12, column: 3, text: "int x;".into() };
        assert_eq!(finding(vec![line]), "main insn 1: leaves the stack (stack-bounds) (main.c:12)");
        assert_eq!(finding(Vec::new()), "main insn 1: leaves the stack (stack-bounds)");
    }
}
