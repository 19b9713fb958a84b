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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{assemble, encode};
    use crate::program::RawProgram;
    use crate::verdict::ProgramKind;

    #[test]
    fn a_program_is_printed_with_functions_lines_and_targets_and_reads_back() {
        let text = "r1 = 7 ll\nagain: if r1 > 5 goto again\ncall sub\nexit\nsub: w0 = 2\nexit";
        let line = |pc, line, text: &str| Line { pc, file: "drop.c".into(), line, column: 0, text: text.into() };
        let raw = RawProgram {
            name: "xdp_main".into(),
            slots: assemble(text).expect("text of the test"),
            lines: vec![line(0, 3, "\tint x = 7;"), line(2, 3, "\tint x = 7;"), line(3, 4, "\treturn sub(x);")],
            ..RawProgram::default()
        };
        let program = Program::check(raw, ProgramKind::Xdp).expect("a well-formed program");
        let printed = disassemble(&program).to_string();
        let expected = "\
xdp_main:
; drop.c:3: int x = 7;
     0: r1 = 0x7 ll
     2: if r1 > 5 goto -1 <2>
; drop.c:4: return sub(x);
     3: call +1 <5> ; sub_5
     4: exit

sub_5:
     5: w0 = 2
     6: exit
";
        assert_eq!(printed, expected);
        assert_eq!(assemble(&printed), Ok(encode(program.insns())));
    }
}
