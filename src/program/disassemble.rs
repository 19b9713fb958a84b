//! A program as text: `kumite disasm`.
//!
//! Invariant: reads a checked program only; what it prints, the assembler reads back, function headings included.

use std::fmt;

use super::{Line, Program};
use crate::isa::Does;

/// A program to be displayed: a line an instruction, with its pc; a heading a function; source lines as comments where
/// they change.
#[derive(Clone, Copy, Debug)]
pub struct Disassembly<'program> {
    program: &'program Program,
}

/// The program as text.
#[must_use]
pub const fn disassemble(program: &Program) -> Disassembly<'_> {
    Disassembly { program }
}

impl fmt::Display for Disassembly<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown: Option<&Line> = None;
        let mut functions = self.program.functions().iter().peekable();
        for (pc, insn) in self.program.insns().iter().enumerate() {
            if let Some(function) = functions.next_if(|function| function.start == pc) {
                if pc > 0 {
                    writeln!(f)?;
                }
                writeln!(f, "{}:", function.name)?;
            }
            if insn.does == Does::SecondSlot {
                continue;
            }
            let line = self.program.line_at(pc);
            if let Some(line) = line
                && !shown.is_some_and(|shown| shown.file == line.file && shown.line == line.line)
            {
                writeln!(f, "; {}:{}: {}", line.file, line.line, line.text.trim())?;
            }
            shown = line;
            write!(f, "{pc:6}: {}", insn.at(pc))?;
            let called = insn.function_target(pc).and_then(|target| usize::try_from(target).ok());
            match called.and_then(|target| self.program.function_at(target)) {
                Some(function) => writeln!(f, " ; {}", function.name)?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}
