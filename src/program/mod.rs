//! A well-formed program: what the loader hands over and the engines run.
//!
//! A [`Program`] is made by [`Program::check`] alone, so holding one proves: every instruction is in the table, runs here
//! and has its unused fields zero; every jump stays in its function and lands on an instruction; every local call and
//! code address lands on the start of a function; no function falls off its end; no instruction writes r10; legacy
//! packet loads are only in programs whose hook has them.
//!
//! Invariant: knows nothing of maps' contents, helpers' bodies or engines; a map is an index into the object's list.

mod check;
mod disassemble;
mod features;
mod rejection;

pub use disassemble::{Disassembly, Named, Names, disassemble, disassemble_with};
pub use features::Feature;
pub use rejection::Rejection;

use crate::verdict::ProgramKind;

/// What the loader knows of a program before it is checked. Slots are raw: 8 bytes each, little-endian.
#[derive(Clone, Debug, Default)]
pub struct RawProgram {
    /// Name of the function.
    pub name: String,
    /// Section that it came from, or a description of the source.
    pub section: String,
    /// Program text. Subprograms follow the main function; map references are `lddw` with src 5 (map by index) or
    /// src 6 (value of a map by index), the index counting the object's maps.
    pub slots: Vec<[u8; 8]>,
    /// Where functions begin, with their names; their ends are not read. May lack the main function, which begins at 0,
    /// and subprograms: every target of a local call or code address begins one.
    pub functions: Vec<Function>,
    /// Source lines, in any order; lines of slots that the program has not are dropped.
    pub lines: Vec<Line>,
    /// Instructions that trap when they are reached, with the reason, in any order.
    pub unresolved: Vec<Unresolved>,
    /// Kernel functions that it names: `imm` of a call of one, and of a load of its address, counts them.
    pub kfuncs: Vec<Kfunc>,
}

/// A kernel function that a program names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kfunc {
    /// Its name.
    pub name: String,
    /// Whether the program runs without it.
    pub need: Need,
}

/// Whether a program runs without something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It does not.
    Required,
    /// It tests for it (`__weak`).
    Optional,
}

/// An instruction that needs a type or field of the kernel that is not known here. It traps when it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// Slot index.
    pub pc: usize,
    /// What it needs, in words.
    pub what: std::sync::Arc<str>,
}

/// A function of a program: the main one or a subprogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, or `sub_<pc>` where the object has none.
    pub name: String,
    /// Slot index of its first instruction.
    pub start: usize,
    /// Slot index behind its last instruction.
    pub end: usize,
}

/// Where an instruction came from (`.BTF.ext` line_info).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// First slot that belongs to it.
    pub pc: usize,
    /// File as the compiler named it.
    pub file: std::sync::Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 where unknown.
    pub column: u32,
    /// The source text, as the object holds it.
    pub text: std::sync::Arc<str>,
}

/// A well-formed program.
#[derive(Clone, Debug)]
pub struct Program {
    name: String,
    section: String,
    kind: ProgramKind,
    insns: Box<[crate::isa::Insn]>,
    functions: Box<[Function]>,
    lines: Box<[Line]>,
    unresolved: Box<[Unresolved]>,
    kfuncs: Box<[Kfunc]>,
}

impl Program {
    /// Name of the main function.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Section that it came from.
    #[must_use]
    pub fn section(&self) -> &str {
        &self.section
    }

    /// Which hook it is for.
    #[must_use]
    pub fn kind(&self) -> ProgramKind {
        self.kind
    }

    /// One instruction a slot; the index is the pc.
    #[must_use]
    pub fn insns(&self) -> &[crate::isa::Insn] {
        &self.insns
    }

    /// Its functions by ascending start, covering all slots; the first is the main one.
    #[must_use]
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The function that holds this slot.
    #[must_use]
    pub fn function_at(&self, pc: usize) -> Option<&Function> {
        self.functions.iter().find(|function| (function.start..function.end).contains(&pc))
    }

    /// Source lines by ascending pc; empty where the object has none.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Instructions that trap when they are reached, by ascending pc.
    #[must_use]
    pub fn unresolved(&self) -> &[Unresolved] {
        &self.unresolved
    }

    /// Whether it takes frames with fragments: its section says so, as libbpf has it.
    #[must_use]
    pub fn takes_fragments(&self) -> bool {
        self.kind == ProgramKind::Xdp && self.section.trim_start_matches('?').starts_with("xdp.frags")
    }

    /// Kernel functions that it names; `imm` of [`crate::isa::Does::CallKfunc`] and of
    /// [`crate::isa::Does::LoadVarAddr`] counts them.
    #[must_use]
    pub fn kfuncs(&self) -> &[Kfunc] {
        &self.kfuncs
    }

    /// The source line that this slot belongs to.
    #[must_use]
    pub fn line_at(&self, pc: usize) -> Option<&Line> {
        let after = self.lines.partition_point(|line| line.pc <= pc);
        after.checked_sub(1).map(|index| &self.lines[index])
    }
}
