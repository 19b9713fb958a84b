//! One instruction on given operands, with everything that it may change folded into r0.
//!
//! Invariant: the program is well-formed, whatever is given.

use super::super::{Case, Input};
use super::writer::{Writer, reg};
use super::{named, new_case};
use crate::isa::random::MEMORY;
use crate::isa::{Alu, Does, Field, Insn, ROWS, Row, Size, Support};
use crate::verdict::ProgramKind;

/// Data registers, r0 to r8.
const DATA: std::ops::RangeInclusive<u8> = 0..=8;
/// Bytes of memory that r9 points into the middle of.
const MEMORY_LEN: usize = 64;

/// One instruction and what it finds.
#[derive(Clone, Copy, Debug)]
pub struct Single {
    /// Which row of the table, counted round among those that can stand alone.
    pub row: u16,
    /// Destination register; of memory accesses through it, always r9.
    pub dst: u8,
    /// Source register; of memory accesses through it, always r9.
    pub src: u8,
    /// Offset, kept within the memory.
    pub off: i16,
    /// Immediate.
    pub imm: i64,
    /// What r0 to r8 hold.
    pub operands: [u64; 9],
}

/// The rows that can stand alone: without another program, map or helper, and without leaving the program.
fn rows() -> impl Iterator<Item = &'static Row> {
    let leaves = |does| {
        matches!(
            does,
            Does::CallHelper
                | Does::CallLocal
                | Does::CallReg
                | Does::LoadPacket(..)
                | Does::SecondSlot
                | Does::LoadMapByIndex
                | Does::LoadMapValueByIndex
                | Does::LoadCodeAddr
        )
    };
    ROWS.iter().filter(move |row| row.support == Support::Runs && !leaves(row.does))
}

/// Whether the row accesses memory through dst, and whether through src.
fn bases(does: Does) -> [bool; 2] {
    let by_dst = matches!(
        does,
        Does::Store(..) | Does::Atomic(..) | Does::Exchange(_) | Does::CompareExchange(_) | Does::StoreRelease(_)
    );
    [by_dst, matches!(does, Does::Load(..) | Does::LoadAcquire(_))]
}

/// The case of a single instruction.
#[must_use]
pub fn single(given: &Single) -> Case {
    let count = rows().count();
    let row = rows().nth(usize::from(given.row) % count).expect("below the count");
    let [by_dst, by_src] = bases(row.does);
    let field = |field: Field, value: u8, is_base: bool| match (field, is_base) {
        (Field::Any, true) => reg(MEMORY),
        (Field::Any, false) => reg(value % 9),
        (Field::Is(_) | Field::Ignored, _) => reg(0),
    };
    let is_jump = matches!(row.does, Does::Goto | Does::GotoLong | Does::Branch(..) | Does::MayGoto);
    let off = if is_jump { i16::from(row.does != Does::GotoLong) } else { given.off % 48 };
    let imm = if row.does == Does::GotoLong { 1 } else { given.imm };
    let imm = if row.does.is_wide() { imm } else { imm << 32 >> 32 };
    let insn = Insn {
        does: row.does,
        dst: field(row.dst, given.dst, by_dst),
        src: field(row.src, given.src, by_src),
        off: if row.off == Field::Any { off } else { 0 },
        imm: if row.imm == Field::Any || row.does.is_wide() { imm } else { 0 },
    };
    let mut w = Writer::default();
    w.copy(MEMORY, 1);
    w.alu_imm(Alu::Add, MEMORY, 32);
    for number in DATA {
        w.put_wide(Does::LoadImm64, number, given.operands[usize::from(number)].cast_signed());
    }
    w.put(insn.does, insn.dst.number(), insn.src.number(), insn.off, insn.imm);
    if insn.does.is_wide() {
        w.put(Does::SecondSlot, 0, 0, 0, 0);
    }
    // What a jump that is taken leaves out.
    w.alu_imm(Alu::Add, 0, 1);
    for number in 1..=8 {
        w.alu_imm(Alu::Mul, 0, 31);
        w.alu_reg(Alu::Xor, 0, number);
    }
    w.store(Size::D, MEMORY, -32, 0);
    w.put(Does::Exit, 0, 0, 0, 0);
    let mut case = new_case(given.row.into(), ProgramKind::Raw);
    case.about = format!("{} on hard operands.", row.name);
    case.programs.push(named("main", &w.finish()));
    let bytes = given.operands.iter().flat_map(|operand| operand.to_le_bytes()).take(MEMORY_LEN).collect();
    case.input = Input::Memory { offset: 0, bytes };
    case
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{AsksKernel, Differential};
    use crate::isa::random::{Dice, immediate, wide_immediate};

    #[test]
    fn single_instructions_agree_on_hard_operands() {
        let mut differential = Differential::new(None).expect("address space");
        let mut dice = Dice::new(6);
        for row in 0..2 * u16::try_from(rows().count()).expect("few rows") {
            let given = Single {
                row,
                dst: dice.bits().to_le_bytes()[0],
                src: dice.bits().to_le_bytes()[0],
                off: i16::try_from(dice.below(97)).expect("small") - 48,
                imm: immediate(&mut dice),
                operands: std::array::from_fn(|_| wide_immediate(&mut dice).cast_unsigned()),
            };
            let case = single(&given);
            let judgement = differential.judge(&case, AsksKernel::No).unwrap_or_else(|error| panic!("{error}\n{case}"));
            assert_eq!(judgement.divergence, None, "{case}");
        }
    }
}
