//! What the watch knows of a value: where it points, and which of its bits were never written.
//!
//! Both are approximate on the safe side: what is not known is not reported.
//!
//! Values are copied for each instruction. Their parts are whole words, so that a copy is stored and loaded by the same words;
//! else the processor waits for the stores.
//!
//! Invariant: total functions; nothing here reports or touches guest memory.

use crate::isa::{Alu, Width};
use crate::vm::interp::arithmetic;

/// What a piece of memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// The stack of one call frame.
    Frame,
    /// What r1 points at in a program of a hook.
    Context,
    /// The memory of a raw program.
    Memory,
    /// The value of one map element.
    MapValue,
    /// A reserved record of a ring buffer.
    Record,
    /// A map, by its handle: no memory at all.
    Map,
    /// A socket.
    Socket,
}

/// A piece of memory that a pointer may not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) kind: Kind,
    /// Guest address of its first byte.
    pub(super) addr: u32,
    pub(super) len: u32,
}

impl Object {
    /// Whether all of an access lies in it.
    pub(super) fn holds(&self, addr: i64, len: u64) -> bool {
        let offset = u64::try_from(addr - i64::from(self.addr));
        offset.is_ok_and(|offset| offset.saturating_add(len) <= u64::from(self.len))
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Origin {
    /// A register that nothing has written.
    Unwritten,
    /// A number, or a pointer that the watch lost sight of.
    Unknown,
    /// A pointer into an object.
    Object(Object),
    /// A pointer into the packet, from before or after so many moves of its bounds.
    Packet { moves: u32 },
    /// Such a pointer, shifted left by 32: half of a zero extension as compilers for the older instruction set write it.
    PacketInUpperHalf { moves: u32 },
}

impl Origin {
    fn is_pointer(self) -> bool {
        matches!(self, Self::Object(_) | Self::Packet { .. })
    }

    /// Origin of the low half, zero-extended. Guest pointers have 32 bits.
    fn low_half(self) -> Self {
        if self.is_pointer() { self } else { Self::Unknown }
    }
}

/// What the watch knows of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) origin: Origin,
    /// Bits that depend on stack bytes that were never written.
    pub(super) unset: u64,
}

impl Value {
    /// What nothing has written.
    pub(super) const UNWRITTEN: Self = Self { origin: Origin::Unwritten, unset: 0 };
    /// A number.
    pub(super) const NUMBER: Self = Self { origin: Origin::Unknown, unset: 0 };

    /// A pointer into an object.
    pub(super) fn pointer(kind: Kind, addr: u32, len: u32) -> Self {
        Self { origin: Origin::Object(Object { kind, addr, len }), unset: 0 }
    }

    /// A number of which these bits were never written.
    pub(super) fn number(unset: u64) -> Self {
        Self { origin: Origin::Unknown, unset }
    }

    /// Whether it is a number that was written whole.
    pub(super) fn is_number(&self) -> bool {
        self.origin == Origin::Unknown && self.unset == 0
    }

    /// What is known of `a op b`; with each the number that it is.
    pub(super) fn alu(width: Width, op: Alu, (a, a_is): (Self, u64), (b, b_is): (Self, u64)) -> Self {
        let origin = match (op, width) {
            (Alu::Mov, Width::W64) => b.origin,
            (Alu::Mov, Width::W32) => b.origin.low_half(),
            (Alu::Add, _) => match (a.origin.is_pointer(), b.origin.is_pointer()) {
                (true, false) => a.origin,
                (false, true) => b.origin,
                (true, true) | (false, false) => Origin::Unknown,
            },
            (Alu::Sub, _) if b.origin.is_pointer() => Origin::Unknown,
            (Alu::Sub, _) => a.origin.low_half(),
            (Alu::Lsh, Width::W64) if b_is == 32 => match a.origin {
                Origin::Packet { moves } => Origin::PacketInUpperHalf { moves },
                Origin::Unwritten | Origin::Unknown | Origin::Object(_) | Origin::PacketInUpperHalf { .. } => {
                    Origin::Unknown
                }
            },
            (Alu::Rsh | Alu::Arsh, Width::W64) if b_is == 32 => match a.origin {
                Origin::PacketInUpperHalf { moves } => Origin::Packet { moves },
                Origin::Unwritten | Origin::Unknown | Origin::Object(_) | Origin::Packet { .. } => Origin::Unknown,
            },
            (_, _) => Origin::Unknown,
        };
        Self { origin, unset: unset(width, op, (a.unset, a_is), (b.unset, b_is)) }
    }
}

/// Bits of `a op b` that depend on unset bits: exact for bit operations and shifts by a known count, and else every bit
/// that a carry can reach.
fn unset(width: Width, op: Alu, (a, a_is): (u64, u64), (b, b_is): (u64, u64)) -> u64 {
    let mask = match width {
        Width::W32 => u64::from(u32::MAX),
        Width::W64 => u64::MAX,
    };
    let (a, b) = (a & mask, b & mask);
    let bits = match op {
        Alu::Mov => b,
        Alu::Xor => a | b,
        Alu::And => (a & b) | (a & b_is) | (b & a_is),
        Alu::Or => (a & b) | (a & !b_is) | (b & !a_is),
        Alu::Lsh | Alu::Rsh | Alu::Arsh if b == 0 => arithmetic::alu(width, op, a, b_is),
        Alu::Add | Alu::Sub | Alu::Mul => upward(a | b),
        Alu::Lsh | Alu::Rsh | Alu::Arsh | Alu::Div | Alu::Sdiv | Alu::Mod | Alu::Smod if a | b == 0 => 0,
        Alu::Lsh | Alu::Rsh | Alu::Arsh | Alu::Div | Alu::Sdiv | Alu::Mod | Alu::Smod => u64::MAX,
    };
    bits & mask
}

/// The lowest set bit and all above it.
pub(super) fn upward(bits: u64) -> u64 {
    bits | bits.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Value {
        Value { origin: Origin::Packet { moves: 1 }, unset: 0 }
    }

    fn after(op: Alu, a: Value, b: (Value, u64)) -> Value {
        Value::alu(Width::W64, op, (a, 0x1000), b)
    }

    #[test]
    fn pointers_survive_arithmetic_and_the_old_zero_extension() {
        let number = (Value::NUMBER, 32);
        assert_eq!(after(Alu::Add, packet(), number), packet());
        assert_eq!(after(Alu::Add, Value::NUMBER, (packet(), 0)), packet());
        assert_eq!(after(Alu::Sub, packet(), number), packet());
        assert_eq!(after(Alu::Rsh, after(Alu::Lsh, packet(), number), number), packet());
        assert_eq!(Value::alu(Width::W32, Alu::Mov, (Value::NUMBER, 0), (packet(), 0)), packet());
    }

    #[test]
    fn a_difference_of_pointers_is_a_number() {
        assert_eq!(after(Alu::Sub, packet(), (packet(), 0x1000)), Value::NUMBER);
        assert_eq!(after(Alu::Add, packet(), (packet(), 0x1000)), Value::NUMBER);
    }

    #[test]
    fn masking_unset_bits_away_makes_a_number_set() {
        let half = Value::number(0xffff_0000);
        assert_eq!(after(Alu::And, half, (Value::NUMBER, 0xffff)).unset, 0);
        assert_eq!(after(Alu::Lsh, half, (Value::NUMBER, 8)).unset, 0xff_ff00_0000);
        assert_eq!(after(Alu::Add, half, (Value::NUMBER, 1)).unset, !0xffff);
        let or = Value::alu(Width::W32, Alu::Or, (half, 0), (Value::NUMBER, 0xff00_0000));
        assert_eq!(or.unset, 0x00ff_0000, "a set bit is a one whatever the other is");
    }
}
