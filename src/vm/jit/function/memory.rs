//! Loads, stores and atomic operations: `cage base + zext32(register) + offset`, without a compare.
//!
//! What is a known place of the frame is reached from r10 directly, and what is known to fit into 32 bits as it is: without the
//! mask.
//!
//! Invariant: where addresses are masked (in every mode; benches alone do without), none outside the cage and its guards can be
//! formed.

use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{AtomicRmwOp, InstBuilder, TrapCode, Value};
use cranelift_frontend::Variable;

use super::Body;
use super::arithmetic::size_type;
use crate::isa::{Atomic, Fetch, Insn, Operand, Reg, Sign, Size};
use crate::vm::jit::facts::{Fact, frame_offset};
use crate::vm::jit::hooks::{Addresses, Hooks};
use crate::vm::jit::locals::Local;
use crate::vm::jit::mutant::{Mutant, either, planted};
use crate::vm::jit::stop;

/// A place in the cage: a host address and an offset that the access adds.
#[derive(Clone, Copy)]
struct Place {
    at: Value,
    off: i32,
}

impl<H: Hooks> Body<'_, '_, H> {
    fn place(&mut self, base: Reg, off: i16, len: u32) -> Place {
        if let Some(off) = frame_offset(self.fact(base), off, len) {
            return Place { at: self.builder.ins().iadd(self.cage, self.fp), off };
        }
        let value = self.reg(base);
        let is_word = self.fact(base).is_word()
            // What is known of registers does not hold then.
            && !planted(Mutant::UpperHalf)
            && !planted(Mutant::ExchangeUpperHalf);
        let masked = base != Reg::FP && !is_word && H::SAFETY.addresses == Addresses::Masked;
        let index = if masked { self.zext32(value) } else { value };
        let off = i32::from(off) + either(Mutant::Displacement, i32::from(off < 0), 0);
        Place { at: self.builder.ins().iadd(self.cage, index), off }
    }

    pub(super) fn zext32(&mut self, value: Value) -> Value {
        let low = self.builder.ins().ireduce(I32, value);
        self.builder.ins().uextend(I64, low)
    }

    /// The local that an access means, with the variable that holds its value, zero-extended.
    fn local_of(&self, base: Reg, off: i16, size: Size) -> Option<(Local, Variable)> {
        let at = frame_offset(self.fact(base), off, size.len())?;
        self.locals.get(&at).copied().filter(|(local, _)| local.size == size)
    }

    pub(super) fn load(&mut self, insn: &Insn, size: Size, sign: Sign) {
        if let Some((_, variable)) = self.local_of(insn.src, insn.off, size) {
            let value = self.builder.use_var(variable);
            let value = match sign {
                Sign::Zero => value,
                Sign::Extend => {
                    let value = self.narrow(size_type(size), value);
                    if size == Size::D { value } else { self.builder.ins().sextend(I64, value) }
                }
            };
            return self.set(insn.dst, value);
        }
        let place = self.place(insn.src, insn.off, size.len());
        let value = self.load_from(place, size, sign);
        self.set(insn.dst, value);
    }

    fn load_from(&mut self, Place { at, off }: Place, size: Size, sign: Sign) -> Value {
        let flags = stop::flags(stop::READ);
        let ins = self.builder.ins();
        match (size, sign) {
            (Size::B, Sign::Zero) => ins.uload8(I64, flags, at, off),
            (Size::H, Sign::Zero) => ins.uload16(I64, flags, at, off),
            (Size::W, Sign::Zero) => ins.uload32(flags, at, off),
            (Size::B, Sign::Extend) if planted(Mutant::LoadSign) => ins.uload8(I64, flags, at, off),
            (Size::B, Sign::Extend) => ins.sload8(I64, flags, at, off),
            (Size::H, Sign::Extend) => ins.sload16(I64, flags, at, off),
            (Size::W, Sign::Extend) => ins.sload32(flags, at, off),
            (Size::D, _) => {
                let value = ins.load(I64, flags, at, off);
                self.builder.ins().sequence_point();
                value
            }
        }
    }

    pub(super) fn store(&mut self, insn: &Insn, size: Size, operand: Operand) {
        let value = self.operand(insn, operand);
        if let Some((local, variable)) = self.local_of(insn.dst, insn.off, size) {
            let whole = self.narrow(size_type(size), value);
            let whole = self.widen(whole);
            self.builder.def_var(variable, whole);
            if !local.is_read {
                return;
            }
        }
        let place = self.place(insn.dst, insn.off, size.len());
        self.store_to(place, size, value);
    }

    fn store_to(&mut self, Place { at, off }: Place, size: Size, value: Value) {
        let flags = stop::flags(stop::WRITE);
        self.builder.ins().sequence_point();
        let ins = self.builder.ins();
        match size {
            Size::B => ins.istore8(flags, value, at, off),
            Size::H if planted(Mutant::StoreWidth) => ins.istore32(flags, value, at, off),
            Size::H => ins.istore16(flags, value, at, off),
            Size::W => ins.istore32(flags, value, at, off),
            Size::D => ins.store(flags, value, at, off),
        };
    }

    /// The place of an atomic operation, which traps unless it is aligned.
    fn aligned(&mut self, base: Reg, insn: &Insn, size: Size) -> Place {
        let mask = i64::from(size.len()) - 1;
        let place = self.place(base, insn.off, size.len());
        // A frame begins at a multiple of its length.
        let known = match self.fact(base) {
            Fact::Stack(offset) => Some((offset + i64::from(insn.off)) & mask == 0),
            Fact::Const(_) | Fact::Clean | Fact::Word | Fact::Tainted => None,
        };
        if known == Some(true) || mask == 0 || planted(Mutant::Alignment) {
            return place;
        }
        let value = self.reg(base);
        let value = self.zext32(value);
        let addr = self.builder.ins().iadd_imm_s(value, i64::from(insn.off));
        let rest = self.builder.ins().band_imm_u(addr, mask);
        let (trap, on) = (self.builder.create_block(), self.builder.create_block());
        self.builder.set_cold_block(trap);
        self.builder.ins().brif(rest, trap, &[], on, &[]);
        self.builder.switch_to_block(trap);
        self.builder.seal_block(trap);
        self.set_head_r0(addr);
        self.builder.ins().trap(stop::MISALIGNED);
        self.builder.switch_to_block(on);
        self.builder.seal_block(on);
        place
    }

    /// The host address of an atomic operation and its operand.
    fn atomic_operands(&mut self, insn: &Insn, size: Size) -> (Value, Value) {
        let Place { at, off } = self.aligned(insn.dst, insn, size);
        let at = self.builder.ins().iadd_imm_s(at, i64::from(off));
        let value = self.reg(insn.src);
        (at, self.narrow(size_type(size), value))
    }

    fn update(&mut self, insn: &Insn, size: Size, op: AtomicRmwOp) -> Value {
        let (at, value) = self.atomic_operands(insn, size);
        self.builder.ins().atomic_rmw(size_type(size), stop::flags(stop::WRITE), op, at, value)
    }

    pub(super) fn atomic(&mut self, insn: &Insn, size: Size, op: Atomic, fetch: Fetch) {
        let op = match op {
            Atomic::Add => AtomicRmwOp::Add,
            Atomic::Or => AtomicRmwOp::Or,
            Atomic::And => AtomicRmwOp::And,
            Atomic::Xor => AtomicRmwOp::Xor,
        };
        let old = self.update(insn, size, op);
        match fetch {
            Fetch::Discard => {}
            Fetch::Old => {
                let old = self.widen(old);
                let value = self.reg(insn.src);
                let old = if planted(Mutant::FetchNew) { self.builder.ins().iadd(old, value) } else { old };
                self.set(insn.src, old);
            }
        }
    }

    pub(super) fn exchange(&mut self, insn: &Insn, size: Size) {
        let old = self.update(insn, size, AtomicRmwOp::Xchg);
        let old = self.widen(old);
        self.set(insn.src, old);
    }

    pub(super) fn compare_exchange(&mut self, insn: &Insn, size: Size) {
        let (at, value) = self.atomic_operands(insn, size);
        let expected = self.reg(Reg::R0);
        let expected = self.narrow(size_type(size), expected);
        let old = self.builder.ins().atomic_cas(stop::flags(stop::WRITE), at, expected, value);
        let old = if planted(Mutant::ExchangeUpperHalf) { self.sign_widen(old) } else { self.widen(old) };
        self.set(Reg::R0, old);
    }

    /// A plain load: x86-64 keeps loads in order, and Cranelift moves none that may trap.
    pub(super) fn load_acquire(&mut self, insn: &Insn, size: Size) {
        let place = self.aligned(insn.src, insn, size);
        let value = self.load_from(place, size, Sign::Zero);
        self.builder.ins().sequence_point();
        self.set(insn.dst, value);
    }

    /// A plain store, for the same reason.
    pub(super) fn store_release(&mut self, insn: &Insn, size: Size) {
        let place = self.aligned(insn.dst, insn, size);
        let value = self.reg(insn.src);
        self.store_to(place, size, value);
    }

    /// Traps with this code where `condition` is not zero.
    pub(super) fn trap_if(&mut self, condition: Value, code: TrapCode) {
        self.builder.ins().trapnz(condition, code);
    }
}
