//! Arithmetic, comparisons and byte order on 64-bit register values. RFC 9669, sections 4.1 to 4.3.
//!
//! Invariant: total functions of their arguments; nothing here overflows, divides by zero or panics.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "registers are bit patterns: narrowing and reinterpreting them is what the operations say"
)]

use crate::isa::{Alu, Cond, Endian, Size, Width};

/// `a op b`. A 32-bit operation looks at the low halves alone and zero-extends its result.
pub(super) fn alu(width: Width, op: Alu, a: u64, b: u64) -> u64 {
    match width {
        Width::W32 => u64::from(alu32(op, a as u32, b as u32)),
        Width::W64 => alu64(op, a, b),
    }
}

fn alu64(op: Alu, a: u64, b: u64) -> u64 {
    match op {
        Alu::Add => a.wrapping_add(b),
        Alu::Sub => a.wrapping_sub(b),
        Alu::Mul => a.wrapping_mul(b),
        Alu::Div => a.checked_div(b).unwrap_or(0),
        Alu::Sdiv if b == 0 => 0,
        Alu::Sdiv => (a as i64).wrapping_div(b as i64) as u64,
        Alu::Mod => a.checked_rem(b).unwrap_or(a),
        Alu::Smod if b == 0 => a,
        Alu::Smod => (a as i64).wrapping_rem(b as i64) as u64,
        Alu::Or => a | b,
        Alu::And => a & b,
        Alu::Xor => a ^ b,
        Alu::Lsh => a.wrapping_shl(b as u32),
        Alu::Rsh => a.wrapping_shr(b as u32),
        Alu::Arsh => (a as i64).wrapping_shr(b as u32) as u64,
        Alu::Mov => b,
    }
}

fn alu32(op: Alu, a: u32, b: u32) -> u32 {
    match op {
        Alu::Add => a.wrapping_add(b),
        Alu::Sub => a.wrapping_sub(b),
        Alu::Mul => a.wrapping_mul(b),
        Alu::Div => a.checked_div(b).unwrap_or(0),
        Alu::Sdiv if b == 0 => 0,
        Alu::Sdiv => (a as i32).wrapping_div(b as i32) as u32,
        Alu::Mod => a.checked_rem(b).unwrap_or(a),
        Alu::Smod if b == 0 => a,
        Alu::Smod => (a as i32).wrapping_rem(b as i32) as u32,
        Alu::Or => a | b,
        Alu::And => a & b,
        Alu::Xor => a ^ b,
        Alu::Lsh => a.wrapping_shl(b),
        Alu::Rsh => a.wrapping_shr(b),
        Alu::Arsh => (a as i32).wrapping_shr(b) as u32,
        Alu::Mov => b,
    }
}

/// `-a`.
pub(super) fn neg(width: Width, a: u64) -> u64 {
    match width {
        Width::W32 => u64::from((a as u32).wrapping_neg()),
        Width::W64 => a.wrapping_neg(),
    }
}

/// The low `size` bytes of `a`, sign-extended to 64 bits.
pub(super) fn sign_extend(size: Size, a: u64) -> u64 {
    match size {
        Size::B => i64::from(a as i8) as u64,
        Size::H => i64::from(a as i16) as u64,
        Size::W => i64::from(a as i32) as u64,
        Size::D => a,
    }
}

/// The low `size` bytes of `a`, sign-extended to the width and zero-extended from there.
pub(super) fn mov_signed(width: Width, size: Size, a: u64) -> u64 {
    let wide = sign_extend(size, a);
    match width {
        Width::W32 => u64::from(wide as u32),
        Width::W64 => wide,
    }
}

/// The low `size` bytes of `a` in another byte order, zero-extended. Our hosts are little-endian.
pub(super) fn swap(endian: Endian, size: Size, a: u64) -> u64 {
    match (endian, size) {
        (_, Size::B) => u64::from(a as u8),
        (Endian::Le, Size::H) => u64::from(a as u16),
        (Endian::Le, Size::W) => u64::from(a as u32),
        (Endian::Le, Size::D) => a,
        (Endian::Be | Endian::Swap, Size::H) => u64::from((a as u16).swap_bytes()),
        (Endian::Be | Endian::Swap, Size::W) => u64::from((a as u32).swap_bytes()),
        (Endian::Be | Endian::Swap, Size::D) => a.swap_bytes(),
    }
}

/// Whether `a cond b` holds at this width.
pub(super) fn holds(width: Width, cond: Cond, a: u64, b: u64) -> bool {
    match width {
        Width::W32 => compare(cond, u64::from(a as u32), u64::from(b as u32), i64::from(a as i32), i64::from(b as i32)),
        Width::W64 => compare(cond, a, b, a as i64, b as i64),
    }
}

fn compare(cond: Cond, a: u64, b: u64, signed_a: i64, signed_b: i64) -> bool {
    match cond {
        Cond::Eq => a == b,
        Cond::Ne => a != b,
        Cond::Set => a & b != 0,
        Cond::Gt => a > b,
        Cond::Ge => a >= b,
        Cond::Lt => a < b,
        Cond::Le => a <= b,
        Cond::Sgt => signed_a > signed_b,
        Cond::Sge => signed_a >= signed_b,
        Cond::Slt => signed_a < signed_b,
        Cond::Sle => signed_a <= signed_b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_and_remainder_by_zero_give_zero_and_the_dividend() {
        for op in [Alu::Div, Alu::Sdiv] {
            assert_eq!(alu(Width::W64, op, u64::MAX, 0), 0);
            assert_eq!(alu(Width::W32, op, u64::MAX, 1 << 32), 0, "a 32-bit divisor is its low half");
        }
        for op in [Alu::Mod, Alu::Smod] {
            assert_eq!(alu(Width::W64, op, u64::MAX, 0), u64::MAX);
            assert_eq!(alu(Width::W32, op, u64::MAX, 1 << 32), u64::from(u32::MAX), "the result is zero-extended");
        }
    }

    #[test]
    fn the_smallest_number_divided_by_minus_one_stays_and_leaves_no_remainder() {
        let min64 = i64::MIN as u64;
        assert_eq!(alu(Width::W64, Alu::Sdiv, min64, u64::MAX), min64);
        assert_eq!(alu(Width::W64, Alu::Smod, min64, u64::MAX), 0);
        assert_eq!(alu(Width::W32, Alu::Sdiv, 0x8000_0000, u64::MAX), 0x8000_0000);
        assert_eq!(alu(Width::W32, Alu::Smod, 0x8000_0000, u64::MAX), 0);
        assert_eq!(alu(Width::W64, Alu::Sdiv, min64, 2), 0xc000_0000_0000_0000);
    }

    #[test]
    fn shift_counts_are_masked_to_the_width() {
        assert_eq!(alu(Width::W64, Alu::Lsh, 1, 64 + 3), 8);
        assert_eq!(alu(Width::W32, Alu::Lsh, 1, 32 + 3), 8);
        assert_eq!(alu(Width::W64, Alu::Arsh, i64::MIN as u64, u64::MAX), u64::MAX);
        assert_eq!(alu(Width::W32, Alu::Rsh, 0xffff_ffff_8000_0000, 31), 1);
    }

    #[test]
    fn signed_moves_extend_to_the_width_and_no_further() {
        assert_eq!(mov_signed(Width::W32, Size::B, 0x80), 0xffff_ff80);
        assert_eq!(mov_signed(Width::W64, Size::B, 0x80), 0xffff_ffff_ffff_ff80);
        assert_eq!(mov_signed(Width::W64, Size::W, 0x8000_0000), 0xffff_ffff_8000_0000);
    }

    #[test]
    fn byte_order_operations_cut_off_what_they_do_not_swap() {
        let value = 0x0123_4567_89ab_cdef;
        assert_eq!(swap(Endian::Le, Size::H, value), 0xcdef);
        assert_eq!(swap(Endian::Be, Size::H, value), 0xefcd);
        assert_eq!(swap(Endian::Be, Size::W, value), 0xefcd_ab89);
        assert_eq!(swap(Endian::Swap, Size::D, value), 0xefcd_ab89_6745_2301);
    }

    #[test]
    fn comparisons_at_32_bits_ignore_the_upper_half() {
        assert!(holds(Width::W32, Cond::Eq, 1 << 32, 0));
        assert!(holds(Width::W32, Cond::Slt, 0xffff_ffff, 0), "the low half is -1");
        assert!(!holds(Width::W64, Cond::Slt, 0xffff_ffff, 0));
        assert!(holds(Width::W64, Cond::Gt, u64::MAX, 1) && holds(Width::W64, Cond::Sle, u64::MAX, 1));
    }
}
