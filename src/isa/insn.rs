//! One decoded instruction.

use super::row::Row;
use super::table::row_of;
use super::{Does, Fetch};

/// A register number, 0 to 10. r10 is the read-only frame pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(u8);

impl Reg {
    /// Number of registers.
    pub const COUNT: usize = 11;
    /// The return value.
    pub const R0: Self = Self(0);
    /// The first argument; the context at entry.
    pub const R1: Self = Self(1);
    /// The context in legacy packet loads.
    pub const R6: Self = Self(6);
    /// The frame pointer.
    pub const FP: Self = Self(10);

    /// The register with this number, if there is one.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number <= 10 { Some(Self(number)) } else { None }
    }

    /// Its number, 0 to 10.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its number as an index into a register file.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One decoded instruction. A program holds one for each *slot*, so that an index into it is a pc as users, LLVM and
/// jumps count; the second slot of a two-slot instruction is [`Does::SecondSlot`].
///
/// A field that tells the instruction from others of its opcode is zero here: [`Does`] says what it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Insn {
    /// What it does.
    pub does: Does,
    /// Destination register.
    pub dst: Reg,
    /// Source register, or zero where unused.
    pub src: Reg,
    /// Offset field.
    pub off: i16,
    /// Immediate: sign-extended to 64 bits, or the whole 64-bit value of a two-slot instruction.
    pub imm: i64,
}

impl Insn {
    /// The table's row of this instruction; `None` if it does what no instruction does, such as an 8-bit byte swap.
    /// Decoded instructions have one.
    #[must_use]
    pub fn row(&self) -> Option<&'static Row> {
        row_of(self.does)
    }

    /// Where a jump or local call from `pc` goes, before any bounds check; `None` for other instructions.
    #[must_use]
    pub fn target(&self, pc: usize) -> Option<i64> {
        if self.does == Does::CallLocal { self.function_target(pc) } else { self.jump_target(pc) }
    }

    /// Where a jump from `pc` goes, before any bounds check; `None` for other instructions.
    #[must_use]
    pub fn jump_target(&self, pc: usize) -> Option<i64> {
        match self.does {
            Does::Goto | Does::Branch(..) | Does::MayGoto => behind(pc, i64::from(self.off)),
            Does::GotoLong => behind(pc, self.imm),
            Does::Alu(..)
            | Does::MovSigned(..)
            | Does::Neg(_)
            | Does::Swap(..)
            | Does::LoadImm64
            | Does::LoadMap
            | Does::LoadMapValue
            | Does::LoadMapByIndex
            | Does::LoadMapValueByIndex
            | Does::LoadVarAddr
            | Does::LoadCodeAddr
            | Does::SecondSlot
            | Does::Load(..)
            | Does::Store(..)
            | Does::Atomic(..)
            | Does::Exchange(_)
            | Does::CompareExchange(_)
            | Does::LoadAcquire(_)
            | Does::StoreRelease(_)
            | Does::LoadPacket(..)
            | Does::GotoReg
            | Does::CallHelper
            | Does::CallLocal
            | Does::CallKfunc
            | Does::CallReg
            | Does::Exit
            | Does::AddrSpaceCast => None,
        }
    }

    /// Start of the function that a local call or a load of a code address at `pc` means, before any bounds check;
    /// `None` for other instructions.
    #[must_use]
    pub fn function_target(&self, pc: usize) -> Option<i64> {
        if matches!(self.does, Does::CallLocal | Does::LoadCodeAddr) { behind(pc, self.imm) } else { None }
    }

    /// The register that holds the result. Calls and legacy packet loads clobber r1 to r5 besides.
    #[must_use]
    pub const fn written(&self) -> Option<Reg> {
        match self.does {
            Does::Alu(..)
            | Does::MovSigned(..)
            | Does::Neg(_)
            | Does::Swap(..)
            | Does::LoadImm64
            | Does::LoadMap
            | Does::LoadMapValue
            | Does::LoadMapByIndex
            | Does::LoadMapValueByIndex
            | Does::LoadVarAddr
            | Does::LoadCodeAddr
            | Does::Load(..)
            | Does::LoadAcquire(_)
            | Does::AddrSpaceCast => Some(self.dst),
            Does::Atomic(_, _, Fetch::Old) | Does::Exchange(_) => Some(self.src),
            Does::CompareExchange(_)
            | Does::LoadPacket(..)
            | Does::CallHelper
            | Does::CallLocal
            | Does::CallKfunc
            | Does::CallReg => Some(Reg::R0),
            Does::SecondSlot
            | Does::Store(..)
            | Does::Atomic(_, _, Fetch::Discard)
            | Does::StoreRelease(_)
            | Does::Goto
            | Does::GotoLong
            | Does::Branch(..)
            | Does::MayGoto
            | Does::GotoReg
            | Does::Exit => None,
        }
    }
}

/// The slot this far behind the one that follows `pc`.
fn behind(pc: usize, distance: i64) -> Option<i64> {
    i64::try_from(pc).ok()?.checked_add(1)?.checked_add(distance)
}
