//! One random instruction that is no jump.
//!
//! Invariant: whatever the operands, the instruction stays in initialised memory, aligned where it must be.

use super::{Dialect, Dice, MEMORY, MemoryKind, STACK_LEN, Shape, insn, reg};
use crate::isa::row::Row;
use crate::isa::{Alu, Does, Fetch, Insn, Operand, Reg, Size, Width};

/// What an instruction may touch.
pub(super) struct Scope<'registers> {
    /// Registers that may be written. r0 is among them.
    pub(super) writable: &'registers [u8],
    /// Registers that may be read as numbers.
    pub(super) readable: &'registers [u8],
}

/// A random instance of the row; `None` where the row is a jump, a call, or needs what random programs have not: maps,
/// helpers and packets.
pub(super) fn instance(row: &Row, shape: &Shape, dice: &mut Dice, scope: &Scope<'_>) -> Option<Insn> {
    let dst = reg(dice.pick(scope.writable));
    let src = reg(dice.pick(scope.readable));
    let imm = immediate(dice);
    let plain = insn(row.does);
    Some(match row.does {
        Does::Alu(width, alu, Operand::Imm) => {
            let imm = if shape.dialect == Dialect::Kernel { accepted_by_kernel(width, alu, imm) } else { imm };
            Insn { dst, imm, ..plain }
        }
        Does::Alu(_, _, Operand::Reg) | Does::MovSigned(..) => Insn { dst, src, ..plain },
        Does::Neg(_) | Does::Swap(..) => Insn { dst, ..plain },
        Does::LoadImm64 => Insn { dst, imm: wide_immediate(dice), ..plain },
        Does::Load(size, _) | Does::LoadAcquire(size) => {
            let place = place(shape, dice, size, Alignment::of(row.does));
            Insn { dst, src: place.base, off: place.off, ..plain }
        }
        Does::Store(size, operand) => {
            let place = place(shape, dice, size, Alignment::of(row.does));
            match operand {
                Operand::Imm => Insn { dst: place.base, off: place.off, imm, ..plain },
                Operand::Reg => Insn { dst: place.base, off: place.off, src, ..plain },
            }
        }
        Does::StoreRelease(size) | Does::Atomic(size, _, Fetch::Discard) | Does::CompareExchange(size) => {
            let place = place(shape, dice, size, Alignment::of(row.does));
            Insn { dst: place.base, off: place.off, src, ..plain }
        }
        Does::Atomic(size, _, Fetch::Old) | Does::Exchange(size) => {
            let place = place(shape, dice, size, Alignment::of(row.does));
            Insn { dst: place.base, off: place.off, src: dst, ..plain }
        }
        Does::LoadMap
        | Does::LoadMapValue
        | Does::LoadMapByIndex
        | Does::LoadMapValueByIndex
        | Does::LoadVarAddr
        | Does::LoadCodeAddr
        | Does::SecondSlot
        | Does::LoadPacket(..)
        | Does::Goto
        | Does::GotoLong
        | Does::Branch(..)
        | Does::MayGoto
        | Does::GotoReg
        | Does::CallHelper
        | Does::CallLocal
        | Does::CallKfunc
        | Does::CallReg
        | Does::Exit
        | Does::AddrSpaceCast => return None,
    })
}

/// An immediate, often one at an edge.
#[must_use]
pub fn immediate(dice: &mut Dice) -> i64 {
    let random = i64::from(low_half(dice.bits()));
    match dice.below(6) {
        0 => dice.pick(&[0, 1, -1, 2, i64::from(i32::MIN), i64::from(i32::MAX)]),
        1 => dice.pick(&[31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 0xffff, 0x1_0000, -128, -256]),
        2 => random & 0xff,
        3 => i64::from(1_i32.rotate_left(u32::try_from(dice.below(32)).expect("below 32"))),
        _ => random,
    }
}

/// A 64-bit immediate, often one at an edge.
#[must_use]
pub fn wide_immediate(dice: &mut Dice) -> i64 {
    match dice.below(4) {
        0 => immediate(dice),
        1 => dice.pick(&[i64::MIN, i64::MAX, 1 << 32, (1 << 32) - 1, 1 << 31, -(1 << 31), -(1 << 32)]),
        _ => dice.bits().cast_signed(),
    }
}

fn low_half(bits: u64) -> i32 {
    let [b0, b1, b2, b3, ..] = bits.to_le_bytes();
    i32::from_le_bytes([b0, b1, b2, b3])
}

/// The immediate, or one near it that the verifier accepts in this operation.
fn accepted_by_kernel(width: Width, alu: Alu, imm: i64) -> i64 {
    match alu {
        Alu::Div | Alu::Sdiv | Alu::Mod | Alu::Smod if imm == 0 => 1,
        Alu::Lsh | Alu::Rsh | Alu::Arsh => match width {
            Width::W32 => imm & 31,
            Width::W64 => imm & 63,
        },
        Alu::Add
        | Alu::Sub
        | Alu::Mul
        | Alu::Div
        | Alu::Sdiv
        | Alu::Mod
        | Alu::Smod
        | Alu::Or
        | Alu::And
        | Alu::Xor
        | Alu::Mov => imm,
    }
}

/// How an access must be aligned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alignment {
    /// To its size.
    Natural,
    /// Not at all.
    Free,
}

impl Alignment {
    fn of(does: Does) -> Self {
        if matches!(does, Does::Load(..) | Does::Store(..)) { Self::Free } else { Self::Natural }
    }
}

struct Place {
    base: Reg,
    off: i16,
}

/// Somewhere in the stack or the memory.
fn place(shape: &Shape, dice: &mut Dice, size: Size, alignment: Alignment) -> Place {
    let for_kernel = shape.dialect == Dialect::Kernel;
    let no_atomics = for_kernel && shape.memory == MemoryKind::Packet;
    let allowed = alignment == Alignment::Free || !no_atomics;
    let in_memory = shape.memory_len >= 8 && allowed && dice.once_in(2);
    // The verifier tracks stack bytes and refuses misaligned accesses to them.
    let free = alignment == Alignment::Free && (in_memory || !for_kernel);
    let step = if free { 1 } else { size.len() };
    let (base, start, len) = if in_memory {
        (reg(MEMORY), 0, shape.memory_len.min(1 << 15))
    } else {
        (Reg::FP, -i64::from(STACK_LEN), STACK_LEN)
    };
    let places = usize::try_from((len - size.len()) / step + 1).expect("32 bits fit a usize");
    let chosen = u32::try_from(dice.below(places)).expect("below a 32-bit number") * step;
    Place { base, off: i16::try_from(start + i64::from(chosen)).expect("at most 2^15 bytes are used") }
}
