//! Jumps. RFC 9669, section 4.3.
//!
//! Invariant: a jump to the same or an earlier slot pays for the slots that it repeats, and only where it is taken.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, InstBuilder, Value};

use super::Body;
use super::arithmetic::width_type;
use crate::isa::{Cond, Insn, Operand, Width};
use crate::limits::FUEL_MAY_GOTO;
use crate::vm::jit::hooks::Hooks;
use crate::vm::jit::outline::jump_target;
use crate::vm::jit::stop;

impl<H: Hooks> Body<'_, '_, H> {
    /// The block that begins at a leader.
    pub(super) fn block(&mut self, leader: usize) -> Block {
        let builder = &mut self.builder;
        *self.blocks.entry(leader).or_insert_with(|| builder.create_block())
    }

    pub(super) fn goto(&mut self, pc: usize, insn: &Insn) {
        let target = target(pc, insn);
        self.pay_back(pc, target);
        let block = self.block(target);
        self.builder.ins().jump(block, &[]);
    }

    fn pay_back(&mut self, pc: usize, target: usize) {
        if target <= pc {
            self.pay((pc - target + 1) as u64, stop::FUEL);
        }
    }

    /// Jumps where `condition` is not zero, else goes on at the next slot.
    fn goto_if(&mut self, pc: usize, insn: &Insn, condition: Value) {
        let next = self.block(pc + 1);
        let to = target(pc, insn);
        let taken = if to <= pc { self.builder.create_block() } else { self.block(to) };
        self.builder.ins().brif(condition, taken, &[], next, &[]);
        if to <= pc {
            self.builder.switch_to_block(taken);
            self.builder.seal_block(taken);
            self.goto(pc, insn);
        }
    }

    pub(super) fn branch(&mut self, pc: usize, insn: &Insn, width: Width, cond: Cond, operand: Operand) {
        let ty = width_type(width);
        let a = self.reg(insn.dst);
        let a = self.narrow(ty, a);
        let b = self.operand_at(insn, ty, operand);
        let condition = match cond {
            Cond::Set => self.builder.ins().band(a, b),
            Cond::Eq => self.builder.ins().icmp(IntCC::Equal, a, b),
            Cond::Ne => self.builder.ins().icmp(IntCC::NotEqual, a, b),
            Cond::Gt => self.builder.ins().icmp(IntCC::UnsignedGreaterThan, a, b),
            Cond::Ge => self.builder.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, a, b),
            Cond::Lt => self.builder.ins().icmp(IntCC::UnsignedLessThan, a, b),
            Cond::Le => self.builder.ins().icmp(IntCC::UnsignedLessThanOrEqual, a, b),
            Cond::Sgt => self.builder.ins().icmp(IntCC::SignedGreaterThan, a, b),
            Cond::Sge => self.builder.ins().icmp(IntCC::SignedGreaterThanOrEqual, a, b),
            Cond::Slt => self.builder.ins().icmp(IntCC::SignedLessThan, a, b),
            Cond::Sle => self.builder.ins().icmp(IntCC::SignedLessThanOrEqual, a, b),
        };
        self.goto_if(pc, insn, condition);
    }

    /// Jumps where less than [`FUEL_MAY_GOTO`] is left.
    pub(super) fn may_goto(&mut self, pc: usize, insn: &Insn) {
        let spent = self.builder.use_var(self.spent);
        let most = self.number((!FUEL_MAY_GOTO).cast_signed());
        let short = self.builder.ins().icmp(IntCC::UnsignedGreaterThan, spent, most);
        self.goto_if(pc, insn, short);
    }
}

fn target(pc: usize, insn: &Insn) -> usize {
    jump_target(insn, pc).expect("a jump has a target")
}
