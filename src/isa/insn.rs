//! One decoded instruction.

use super::Does;

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
    /// Where a jump or local call from `pc` goes, before any bounds check; `None` for other instructions.
    #[must_use]
    pub fn target(&self, pc: usize) -> Option<i64> {
        let next = i64::try_from(pc).ok()? + 1;
        match self.does {
            Does::Goto | Does::Branch(..) | Does::MayGoto => Some(next + i64::from(self.off)),
            Does::GotoLong | Does::CallLocal => Some(next + self.imm),
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
            | Does::CallKfunc
            | Does::CallReg
            | Does::Exit
            | Does::AddrSpaceCast => None,
        }
    }
}
