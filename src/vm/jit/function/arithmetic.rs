//! Arithmetic and byte order. RFC 9669, sections 4.1 and 4.2.
//!
//! Invariant: no division traps: a divisor that would is replaced and the result chosen afterwards.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8, I16, I32, I64};
use cranelift_codegen::ir::{InstBuilder, Type, Value};

use super::Body;
use crate::isa::{Alu, Endian, Insn, Operand, Size, Width};
use crate::vm::jit::hooks::Hooks;
use crate::vm::jit::mutant::{Mutant, either, planted};

impl<H: Hooks> Body<'_, '_, H> {
    pub(super) fn alu(&mut self, insn: &Insn, width: Width, op: Alu, operand: Operand) {
        let ty = width_type(width);
        let b = self.operand_at(insn, ty, operand);
        // The old value of dst is not even named: it would live on as a parameter of loops.
        let result = if op == Alu::Mov {
            b
        } else {
            let a = self.reg(insn.dst);
            let a = self.narrow(ty, a);
            self.two(op, a, b, constant(insn, operand))
        };
        let result = if planted(Mutant::UpperHalf) { self.sign_widen(result) } else { self.widen(result) };
        self.set(insn.dst, result);
    }

    /// A value widened with its sign to 64 bits.
    pub(super) fn sign_widen(&mut self, value: Value) -> Value {
        if self.builder.func.dfg.value_type(value) == I64 { value } else { self.builder.ins().sextend(I64, value) }
    }

    /// The second operand at a width.
    pub(super) fn operand_at(&mut self, insn: &Insn, ty: Type, operand: Operand) -> Value {
        match operand {
            Operand::Imm if ty == I32 => self.builder.ins().iconst(I32, insn.imm & i64::from(u32::MAX)),
            Operand::Imm | Operand::Reg => {
                let value = self.operand(insn, operand);
                self.narrow(ty, value)
            }
        }
    }

    fn two(&mut self, op: Alu, a: Value, b: Value, known: Option<i64>) -> Value {
        let is_mutant_shift = planted(Mutant::ShiftMask) && matches!(op, Alu::Lsh | Alu::Rsh | Alu::Arsh);
        let b = if is_mutant_shift { self.builder.ins().band_imm_u(b, 31) } else { b };
        let ins = self.builder.ins();
        match op {
            Alu::Add => ins.iadd(a, b),
            Alu::Sub => ins.isub(a, b),
            Alu::Mul => ins.imul(a, b),
            Alu::Or => ins.bor(a, b),
            Alu::And => ins.band(a, b),
            Alu::Xor => ins.bxor(a, b),
            Alu::Lsh => ins.ishl(a, b),
            Alu::Rsh => ins.ushr(a, b),
            Alu::Arsh => ins.sshr(a, b),
            Alu::Mov => b,
            Alu::Div => self.unsigned_division(Wanted::Quotient, a, b, known),
            Alu::Mod => self.unsigned_division(Wanted::Remainder, a, b, known),
            Alu::Sdiv => self.signed_division(Wanted::Quotient, a, b),
            Alu::Smod => self.signed_division(Wanted::Remainder, a, b),
        }
    }

    /// Division by zero gives zero and leaves the dividend as remainder.
    fn unsigned_division(&mut self, wanted: Wanted, a: Value, b: Value, known: Option<i64>) -> Value {
        let otherwise = match wanted {
            Wanted::Quotient => either(Mutant::DivideByZero, a, self.like(a, 0)),
            Wanted::Remainder => a,
        };
        if known == Some(0) {
            return otherwise;
        }
        let divisor = if known.is_some() { b } else { self.one_for(b, IntCC::Equal, 0) };
        let result = match wanted {
            Wanted::Quotient => self.builder.ins().udiv(a, divisor),
            Wanted::Remainder => self.builder.ins().urem(a, divisor),
        };
        if known.is_some() {
            return result;
        }
        let is_zero = self.builder.ins().icmp_imm_u(IntCC::Equal, b, 0);
        self.builder.ins().select(is_zero, otherwise, result)
    }

    /// Besides zero, -1 is never divided by: the quotient is the negated dividend, wrapping, and the remainder zero.
    fn signed_division(&mut self, wanted: Wanted, a: Value, b: Value) -> Value {
        let none = self.like(a, 0);
        let above = self.builder.ins().iadd_imm_s(b, 1);
        let awkward = self.builder.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, above, 1);
        let one = self.like(a, 1);
        let divisor = self.builder.ins().select(awkward, one, b);
        let is_zero = self.builder.ins().icmp_imm_u(IntCC::Equal, b, 0);
        let (result, by_zero, by_minus_one) = match wanted {
            Wanted::Quotient => {
                let negated = either(Mutant::MinusOne, a, self.builder.ins().ineg(a));
                (self.builder.ins().sdiv(a, divisor), none, negated)
            }
            Wanted::Remainder => (self.builder.ins().srem(a, divisor), a, none),
        };
        let special = self.builder.ins().select(is_zero, by_zero, by_minus_one);
        self.builder.ins().select(awkward, special, result)
    }

    /// `value`, or one where it compares like this.
    fn one_for(&mut self, value: Value, cond: IntCC, with: i64) -> Value {
        let awkward = self.builder.ins().icmp_imm_u(cond, value, with);
        let one = self.like(value, 1);
        self.builder.ins().select(awkward, one, value)
    }

    fn like(&mut self, value: Value, number: i64) -> Value {
        let ty = self.builder.func.dfg.value_type(value);
        self.builder.ins().iconst(ty, number)
    }

    pub(super) fn mov_signed(&mut self, insn: &Insn, width: Width, size: Size) {
        let value = self.reg(insn.src);
        let value = self.narrow(size_type(size), value);
        let ty = width_type(width);
        let is_same = size_type(size) == ty || planted(Mutant::MoveSign);
        let value = if is_same { value } else { self.builder.ins().sextend(ty, value) };
        let value = self.widen(value);
        self.set(insn.dst, value);
    }

    pub(super) fn neg(&mut self, insn: &Insn, width: Width) {
        let value = self.reg(insn.dst);
        let value = self.narrow(width_type(width), value);
        let value = self.builder.ins().ineg(value);
        let value = self.widen(value);
        self.set(insn.dst, value);
    }

    pub(super) fn swap(&mut self, insn: &Insn, endian: Endian, size: Size) {
        let value = self.reg(insn.dst);
        let value = self.narrow(size_type(size), value);
        let value = match (endian, size) {
            // Our hosts are little-endian, and a byte has no order.
            (Endian::Le, _) | (_, Size::B) => value,
            (Endian::Be, Size::W) if planted(Mutant::ByteOrder) => value,
            (Endian::Be | Endian::Swap, Size::H | Size::W | Size::D) => self.builder.ins().bswap(value),
        };
        let value = self.widen(value);
        self.set(insn.dst, value);
    }
}

/// What a division is for.
#[derive(Clone, Copy)]
enum Wanted {
    Quotient,
    Remainder,
}

/// The second operand, where it is an immediate of the instruction.
fn constant(insn: &Insn, operand: Operand) -> Option<i64> {
    (operand == Operand::Imm).then_some(insn.imm)
}

/// The type of an operation.
pub(super) fn width_type(width: Width) -> Type {
    match width {
        Width::W32 => I32,
        Width::W64 => I64,
    }
}

/// The type of a value in memory.
pub(super) fn size_type(size: Size) -> Type {
    match size {
        Size::B => I8,
        Size::H => I16,
        Size::W => I32,
        Size::D => I64,
    }
}
