//! What an instruction does, apart from its operands.
//!
//! Invariant: every value here is reachable from a row of the table, and every row has exactly one.

/// Width of an arithmetic or jump operation. A 32-bit result is zero-extended into its register (RFC 9669, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Width {
    /// The low 32 bits; class `ALU` or `JMP32`.
    W32,
    /// All 64 bits; class `ALU64` or `JMP`.
    W64,
}

/// Where the second operand comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operand {
    /// The `imm` field, sign-extended to 64 bits (its low 32 bits in 32-bit operations).
    Imm,
    /// The source register.
    Reg,
}

/// Size of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Size {
    /// One byte.
    B,
    /// Two bytes.
    H,
    /// Four bytes.
    W,
    /// Eight bytes.
    D,
}

impl Size {
    /// Length in bytes: 1, 2, 4 or 8.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no size is empty")]
    pub const fn len(self) -> u32 {
        match self {
            Self::B => 1,
            Self::H => 2,
            Self::W => 4,
            Self::D => 8,
        }
    }
}

/// How a loaded or moved value is widened to 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sign {
    /// With zeros.
    Zero,
    /// With copies of its top bit.
    Extend,
}

/// Two-operand arithmetic, `dst = dst op operand` (`Mov`: `dst = operand`). RFC 9669, 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Alu {
    /// Wrapping addition.
    Add,
    /// Wrapping subtraction.
    Sub,
    /// Wrapping multiplication.
    Mul,
    /// Unsigned division; by zero gives zero.
    Div,
    /// Signed division, truncating; by zero gives zero, MIN / -1 gives MIN.
    Sdiv,
    /// Unsigned remainder; by zero leaves dst (its low half in 32-bit operations).
    Mod,
    /// Signed remainder, sign of the dividend; by zero leaves dst, MIN % -1 gives zero.
    Smod,
    /// Bitwise or.
    Or,
    /// Bitwise and.
    And,
    /// Bitwise exclusive or.
    Xor,
    /// Left shift; the count is masked to the width.
    Lsh,
    /// Logical right shift; the count is masked to the width.
    Rsh,
    /// Arithmetic right shift; the count is masked to the width.
    Arsh,
    /// Copy of the operand.
    Mov,
}

/// Condition of a branch, `if dst cond operand`. RFC 9669, 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cond {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// A bit in common.
    Set,
    /// Unsigned greater.
    Gt,
    /// Unsigned greater or equal.
    Ge,
    /// Unsigned less.
    Lt,
    /// Unsigned less or equal.
    Le,
    /// Signed greater.
    Sgt,
    /// Signed greater or equal.
    Sge,
    /// Signed less.
    Slt,
    /// Signed less or equal.
    Sle,
}

/// Byte order operations on the low [`Size`] bytes of dst, zero-extended. RFC 9669, 4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endian {
    /// To little-endian: on our little-endian hosts only a truncation.
    Le,
    /// To big-endian: on our little-endian hosts a swap.
    Be,
    /// An unconditional swap.
    Swap,
}

/// Atomic read-modify-write operation on memory. RFC 9669, 5.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Atomic {
    /// Wrapping addition.
    Add,
    /// Bitwise or.
    Or,
    /// Bitwise and.
    And,
    /// Bitwise exclusive or.
    Xor,
}

/// Whether an atomic operation hands the old value back in src.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fetch {
    /// src keeps its value.
    Discard,
    /// src becomes the old value, zero-extended.
    Old,
}

/// What an instruction does. The operands are in the [`super::Insn`] that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Does {
    /// Arithmetic.
    Alu(Width, Alu, Operand),
    /// `dst = sign_extend(low Size bytes of src)`, then truncated to the width. Size is B, H, or (64-bit only) W.
    MovSigned(Width, Size),
    /// `dst = -dst`, wrapping.
    Neg(Width),
    /// Byte order of the low bytes of dst; Size is H, W or D.
    Swap(Endian, Size),

    /// `dst = imm64` (two slots; the whole value is in `Insn::imm`).
    LoadImm64,
    /// `dst = map` by file descriptor or index in `imm` (two slots). The loader rewrites it to a map reference.
    LoadMap,
    /// `dst = address of the map's first value + offset`; low 32 bits of `Insn::imm` say the map, high 32 the offset.
    LoadMapValue,
    /// The same two, with the map said by index into a table (src 5 and 6) rather than by descriptor.
    LoadMapByIndex,
    /// See [`Does::LoadMapByIndex`].
    LoadMapValueByIndex,
    /// `dst = address of a platform variable` (src 3): kernel variables by BTF id on Linux.
    LoadVarAddr,
    /// `dst = address of code` (src 4): a subprogram of this program, for callbacks.
    LoadCodeAddr,
    /// The second slot of a two-slot instruction: carries the high half, is never executed or jumped to.
    SecondSlot,

    /// `dst = *(size *)(src + off)`.
    Load(Size, Sign),
    /// `*(size *)(dst + off) = src or imm`.
    Store(Size, Operand),
    /// Atomic read-modify-write of `*(dst + off)` with src. Size is W or D.
    Atomic(Size, Atomic, Fetch),
    /// Atomic exchange of `*(dst + off)` and src (src: old value, zero-extended).
    Exchange(Size),
    /// Compare `*(dst + off)` with r0, store src if equal; r0 becomes the old value, zero-extended.
    CompareExchange(Size),
    /// `dst = zero_extend(load_acquire(*(size *)(src + off)))`. Linux 6.15.
    LoadAcquire(Size),
    /// `store_release(*(size *)(dst + off), src)`. Linux 6.15.
    StoreRelease(Size),
    /// Legacy packet load `r0 = ntoh(*(size *)(packet + imm [+ (u32)src]))`, context in r6; out of bounds leaves the
    /// program with r0 = 0. `Operand::Reg` is the `IND` form. RFC 9669, 5.5; clobbers r1 to r5.
    LoadPacket(Size, Operand),

    /// `goto pc + 1 + off`.
    Goto,
    /// `goto pc + 1 + imm`.
    GotoLong,
    /// `if dst cond operand goto pc + 1 + off`.
    Branch(Width, Cond, Operand),
    /// `if the loop budget is used up goto pc + 1 + off`. Linux 6.9.
    MayGoto,
    /// Indirect jump through an instruction array. Linux 6.19; refused.
    GotoReg,

    /// Call the helper numbered `imm`.
    CallHelper,
    /// Call the subprogram at pc + 1 + imm.
    CallLocal,
    /// Call the kernel function with BTF id `imm`.
    CallKfunc,
    /// Call the helper whose number is in dst (`callx` of the conformance suite and LLVM; not in the RFC).
    CallReg,
    /// Return r0 to the caller or end the program.
    Exit,
    /// Arena pointer cast. Linux 6.9; refused.
    AddrSpaceCast,
}

impl Does {
    /// Whether the instruction takes two slots.
    #[must_use]
    pub const fn is_wide(self) -> bool {
        matches!(
            self,
            Self::LoadImm64
                | Self::LoadMap
                | Self::LoadMapValue
                | Self::LoadMapByIndex
                | Self::LoadMapValueByIndex
                | Self::LoadVarAddr
                | Self::LoadCodeAddr
        )
    }
}
