//! Random well-formed programs, for tests that compare engines.
//!
//! A program initialises every register and stack byte that it reads, stays inside its stack and the given memory, ends
//! always, and folds its registers and stack into r0 at the end. Its result depends on no address. Loops count down a
//! register, nest two deep and run at most four times; a function calls later ones only.
//!
//! Invariant: instructions are picked from the table's rows, so that a new row is tested by being there.

mod body;
mod dice;
mod straight;
mod surroundings;

pub use dice::Dice;
pub use straight::{immediate, wide_immediate};
pub use surroundings::{Plain, Surroundings};

use super::row::{Row, Support};
use super::{Alu, Does, Insn, Operand, ROWS, Reg, Sign, Size, Width};
use body::Body;

/// Stack bytes below the frame pointer that programs use, initialised at entry.
pub const STACK_LEN: u32 = 64;

/// Number of the register where the pointer to the memory stays.
pub const MEMORY: u8 = 9;

/// Whose programs to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Everything that kumite runs.
    Kumite,
    /// Only what the Linux verifier accepts: no constant shift out of range, no division by a constant zero.
    Kernel,
}

/// What the memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Bytes that take every access.
    Plain,
    /// A packet: the Linux verifier allows no atomic operations on it.
    Packet,
}

/// What kind of programs to make.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Determines the program.
    pub seed: u64,
    /// About how many instructions each function has besides its beginning and end.
    pub insns: usize,
    /// Functions, the main one included; 1 where no row may be picked that calls them.
    pub functions: usize,
    /// Bytes of memory that r1 points at on entry, 8-byte aligned; below 8 means none.
    pub memory_len: u32,
    /// What it is.
    pub memory: MemoryKind,
    /// Whose programs.
    pub dialect: Dialect,
    /// Which rows may be picked, of those that run.
    pub rows: fn(&Row) -> bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            seed: 0,
            insns: 60,
            functions: 3,
            memory_len: 64,
            memory: MemoryKind::Plain,
            dialect: Dialect::Kumite,
            rows: |_| true,
        }
    }
}

/// A random program of this shape, one instruction a slot.
#[must_use]
pub fn program(shape: &Shape) -> Vec<Insn> {
    program_in(&mut Plain::new(shape), shape)
}

/// A random program of this shape that uses what is around it.
#[must_use]
pub fn program_in(around: &mut dyn Surroundings, shape: &Shape) -> Vec<Insn> {
    let mut dice = Dice::new(shape.seed);
    let rows: Vec<&Row> =
        ROWS.iter().filter(|row| row.support == Support::Runs).filter(|row| (shape.rows)(row)).collect();
    let calls = rows.iter().any(|row| row.does == Does::CallLocal);
    let count = if calls { shape.functions.max(1) } else { 1 };
    let mut functions: Vec<Vec<Insn>> =
        (0..count).map(|index| Body::new(shape, &rows, around, &mut dice, index, count).function()).collect();
    functions.extend(around.callback(&mut dice));
    link(functions)
}

/// Lays functions out one behind the other; calls and code addresses, which named a function by its index, become
/// distances.
fn link(functions: Vec<Vec<Insn>>) -> Vec<Insn> {
    let mut starts = Vec::with_capacity(functions.len());
    let mut len = 0;
    for function in &functions {
        starts.push(slots(len));
        len += function.len();
    }
    let mut insns: Vec<Insn> = functions.into_iter().flatten().collect();
    for (pc, insn) in insns.iter_mut().enumerate() {
        if matches!(insn.does, Does::CallLocal | Does::LoadCodeAddr) {
            let callee = usize::try_from(insn.imm).expect("calls name a function by its index");
            insn.imm = starts[callee] - slots(pc) - 1;
        }
    }
    insns
}

fn slots(count: usize) -> i64 {
    i64::try_from(count).expect("programs are short")
}

fn reg(number: u8) -> Reg {
    Reg::new(number).expect("the generator uses r0 to r10")
}

fn insn(does: Does) -> Insn {
    Insn { does, dst: Reg::R0, src: Reg::R0, off: 0, imm: 0 }
}

fn alu_imm(alu: Alu, dst: u8, imm: i64) -> Insn {
    Insn { dst: reg(dst), imm, ..insn(Does::Alu(Width::W64, alu, Operand::Imm)) }
}

fn alu_reg(alu: Alu, dst: u8, src: u8) -> Insn {
    Insn { dst: reg(dst), src: reg(src), ..insn(Does::Alu(Width::W64, alu, Operand::Reg)) }
}

fn load(dst: u8, src: Reg, off: i16) -> Insn {
    Insn { dst: reg(dst), src, off, ..insn(Does::Load(Size::D, Sign::Zero)) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::isa::{encode, print};
    use crate::program::{Program, RawProgram};
    use crate::verdict::ProgramKind;

    fn checked(shape: &Shape) -> Program {
        let raw = RawProgram { name: "random".into(), slots: encode(&program(shape)), ..RawProgram::default() };
        Program::check(raw, ProgramKind::Raw).unwrap_or_else(|rejection| panic!("seed {}: {rejection}", shape.seed))
    }

    #[test]
    fn random_programs_are_well_formed() {
        for seed in 0..500 {
            checked(&Shape { seed, ..Shape::default() });
            checked(&Shape { seed, functions: 1, memory_len: 0, dialect: Dialect::Kernel, ..Shape::default() });
        }
    }

    #[test]
    fn a_seed_gives_the_same_program_again() {
        let shape = Shape { seed: 7, ..Shape::default() };
        assert_eq!(program(&shape), program(&shape));
        assert_ne!(program(&shape), program(&Shape { seed: 8, ..shape.clone() }));
    }

    #[test]
    fn every_row_that_needs_no_helper_map_or_packet_occurs() {
        let mut seen = BTreeSet::new();
        for seed in 0..500 {
            seen.extend(program(&Shape { seed, ..Shape::default() }).iter().map(|insn| insn.does));
        }
        let missing: Vec<&str> = ROWS
            .iter()
            .filter(|row| row.support == Support::Runs && !seen.contains(&row.does))
            .map(|row| row.name)
            .collect();
        let expected = [
            "call_helper",
            "callx",
            "ld_code_addr",
            "ld_map_idx",
            "ld_map_value_idx",
            "ldabsw",
            "ldindw",
            "ldabsh",
            "ldindh",
            "ldabsb",
            "ldindb",
        ];
        assert_eq!(missing, expected);
    }

    #[test]
    fn only_rows_that_the_shape_allows_are_picked() {
        let shape = Shape { seed: 3, rows: |row| matches!(row.does, Does::Neg(_)), ..Shape::default() };
        let texts: Vec<String> = program(&shape).iter().map(|insn| print(insn, 0)).collect();
        assert!(texts.iter().any(|text| text.contains("= -w") || text.contains("= -r")), "{texts:?}");
        assert!(!texts.iter().any(|text| text.contains("goto")), "{texts:?}");
    }
}
