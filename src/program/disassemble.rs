//! A program as text: `kumite disasm`.
//!
//! Invariant: reads a checked program only; what it prints, the assembler reads back, function headings included.

use std::fmt;

use super::{Line, Program};
use crate::isa::{Does, Insn};

/// A program to be displayed: a line an instruction, with its pc; a heading a function; source lines as comments where
/// they change.
#[derive(Clone, Copy, Debug)]
pub struct Disassembly<'program> {
    program: &'program Program,
    names: Names<'program>,
}

/// What helpers and maps are called, for comments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'program> {
    /// Name of a helper by its number.
    pub helper: Option<fn(u32) -> Option<&'static str>>,
    /// Names of the object's maps, by index.
    pub maps: &'program [&'program str],
}

impl<'program> Names<'program> {
    /// What an instruction at `pc` names: a function of the program, a helper, a kernel function, a map.
    #[must_use]
    pub fn named(&self, program: &'program Program, pc: usize, insn: &Insn) -> Option<Named<'program>> {
        let called = insn.function_target(pc).and_then(|target| usize::try_from(target).ok());
        if let Some(function) = called.and_then(|target| program.function_at(target)) {
            return Some(Named::Function(&function.name));
        }
        if insn.does == Does::CallHelper {
            let id = u32::try_from(insn.imm).ok()?;
            return self.helper.and_then(|name| name(id)).map(Named::Helper);
        }
        if matches!(insn.does, Does::CallKfunc | Does::LoadVarAddr) {
            let index = usize::try_from(insn.imm & 0xffff_ffff).ok()?;
            return program.kfuncs().get(index).map(|kfunc| Named::Kfunc(&kfunc.name));
        }
        if matches!(insn.does, Does::LoadMapByIndex | Does::LoadMapValueByIndex) {
            // The low half of the immediate is the index.
            let index = usize::try_from(insn.imm & 0xffff_ffff).ok()?;
            return self.maps.get(index).copied().map(Named::Map);
        }
        None
    }
}

/// What an instruction names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'program> {
    /// A function of the program.
    Function(&'program str),
    /// A helper, without `bpf_`.
    Helper(&'static str),
    /// A kernel function.
    Kfunc(&'program str),
    /// A map of the object.
    Map(&'program str),
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(name) | Self::Kfunc(name) => f.write_str(name),
            Self::Helper(name) => write!(f, "bpf_{name}"),
            Self::Map(name) => write!(f, "map {name}"),
        }
    }
}

/// The program as text.
#[must_use]
pub fn disassemble(program: &Program) -> Disassembly<'_> {
    disassemble_with(program, Names::default())
}

/// The program as text, with names of helpers and maps as comments.
#[must_use]
pub const fn disassemble_with<'program>(program: &'program Program, names: Names<'program>) -> Disassembly<'program> {
    Disassembly { program, names }
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
            match self.names.named(self.program, pc, insn) {
                Some(named) => writeln!(f, " ; {named}")?,
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
