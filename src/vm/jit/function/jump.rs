//! Jumps. RFC 9669, section 4.3.
//!
//! A jump forward to a few instructions that end the function gets a copy of them, away from the rest: a loop does not
//! carry what they return through its blocks, and goes on in a straight line.
//!
//! A branch over one or two instructions that compute is none in fast mode: they are done, and what they give is chosen or
//! not. The compiler of the program had such a choice before it, and no instruction for it.
//!
//! Invariant: a jump to the same or an earlier slot pays for the slots that it repeats, and only where it is taken.

use std::collections::BTreeMap;
use std::ops::Range;

use cranelift_codegen::ir::condcodes::{CondCode, IntCC};
use cranelift_codegen::ir::{Block, InstBuilder, InstructionData, Value};

use super::arithmetic::width_type;
use super::{Body, Fresh, location};
use crate::isa::{Alu, Cond, Does, Insn, Operand, Reg, Width};
use crate::limits::FUEL_MAY_GOTO;
use crate::vm::Mode;
use crate::vm::jit::hooks::Hooks;
use crate::vm::jit::mutant::{Mutant, either, planted};
use crate::vm::jit::outline::{is_arithmetic, jump_target};
use crate::vm::jit::stop;

/// Instructions that are copied to where a jump leads to them, the one that leaves the function included.
const COPIED_MAX: usize = 4;
/// Slots that are done whether a branch jumps over them or not.
const CHOSEN_MAX: usize = 2;

impl<H: Hooks> Body<'_, '_, H> {
    /// The block that begins at a leader.
    pub(super) fn block(&mut self, leader: usize) -> Block {
        let builder = &mut self.builder;
        *self.blocks.entry(leader).or_insert_with(|| builder.create_block())
    }

    pub(super) fn goto(&mut self, pc: usize, insn: &Insn) {
        let target = target(pc, insn);
        if target > pc
            && let Some(end) = self.end_at(target)
        {
            return self.copy_of(target..end);
        }
        self.pay_back(pc, target);
        let block = self.block(target);
        self.builder.ins().jump(block, &[]);
    }

    fn pay_back(&mut self, pc: usize, target: usize) {
        if target <= pc {
            let price = self.price(target..pc + 1);
            self.pay(price - either(Mutant::BackwardFuel, u64::from(pc > target), 0), stop::FUEL);
        }
    }

    /// Jumps where `condition` is not zero, else goes on at the next slot.
    ///
    /// Cranelift places the block that a branch names last behind it, and the moves of values between blocks where the jump
    /// is, unless the jump has a block of its own. So the straight line is the next slot, as the compiler of the program meant
    /// it, but for jumps back, which are loops.
    fn goto_if(&mut self, pc: usize, insn: &Insn, condition: Value) {
        let next = self.block(pc + 1);
        let to = target(pc, insn);
        let taken = self.builder.create_block();
        if to <= pc {
            let not = self.not(condition);
            self.builder.ins().brif(not, next, &[], taken, &[]);
        } else {
            self.builder.ins().brif(condition, taken, &[], next, &[]);
        }
        self.builder.switch_to_block(taken);
        self.builder.seal_block(taken);
        if to > pc && self.end_at(to).is_some() {
            self.builder.set_cold_block(taken);
        }
        self.goto(pc, insn);
    }

    fn not(&mut self, condition: Value) -> Value {
        let compared = self.builder.func.dfg.value_def(condition).inst().map(|inst| self.builder.func.dfg.insts[inst]);
        match compared {
            Some(InstructionData::IntCompare { cond, args: [a, b], .. }) => {
                self.builder.ins().icmp(cond.complement(), a, b)
            }
            _ => self.builder.ins().icmp_imm_u(IntCC::Equal, condition, 0),
        }
    }

    /// Where the few simple instructions at a leader end the function, the slot behind them.
    fn end_at(&self, leader: usize) -> Option<usize> {
        let insns = &self.source.linked.insns()[leader..self.end];
        let count = insns.iter().take(COPIED_MAX).position(|insn| insn.does == Does::Exit)?;
        let simple = |insn: &Insn| matches!(insn.does, Does::Alu(_, Alu::Mov, _) | Does::LoadImm64 | Does::SecondSlot);
        let leads = (leader + 1..=leader + count).any(|pc| self.source.outline.is_leader(pc));
        (insns[..count].iter().all(simple) && !leads).then_some(leader + count + 1)
    }

    /// Translates these slots, the last of which leaves the function, once more.
    fn copy_of(&mut self, slots: Range<usize>) {
        let source = self.source;
        for (pc, insn) in source.linked.insns().iter().enumerate().take(slots.end).skip(slots.start) {
            self.builder.set_srcloc(location(pc));
            if insn.does != Does::SecondSlot {
                source.hooks.insn(&mut self.builder, self.run, self.kept, pc);
            }
            self.insn(pc, insn, None);
        }
    }

    /// Translates a branch. Returns whether the block goes on behind it.
    pub(super) fn branch(
        &mut self,
        pc: usize,
        insn: &Insn,
        (width, cond, operand): (Width, Cond, Operand),
        fresh: Option<Fresh>,
    ) -> bool {
        if let Some(fresh) =
            fresh.filter(|_| (insn.dst, width, operand, insn.imm) == (Reg::R0, Width::W64, Operand::Imm, 0))
            && let Cond::Eq | Cond::Ne = cond
            && fresh.r0 == self.reg(Reg::R0)
        {
            self.branch_on_fresh(pc, insn, cond, fresh);
            return false;
        }
        let condition = self.condition(insn, (width, cond, operand));
        let to = target(pc, insn);
        if self.can_choose(pc + 1, to) {
            self.choose(pc + 1, to, condition);
            return true;
        }
        self.goto_if(pc, insn, condition);
        false
    }

    /// Whether the slots from `start` to `end`, which a branch before them jumps over, can be done either way.
    fn can_choose(&self, start: usize, end: usize) -> bool {
        // Modes that count notice which way a run goes.
        H::MODE == Mode::Fast
            && end > start
            && end - start <= CHOSEN_MAX
            && !self.source.outline.is_target(start)
            && !(start + 1..end).any(|pc| self.source.outline.is_leader(pc))
            && self.source.linked.insns()[start..end].iter().all(is_arithmetic)
    }

    /// Does the slots from `start` to `end`, and chooses what was before where `condition` is not zero.
    fn choose(&mut self, start: usize, end: usize, condition: Value) {
        let source = self.source;
        let insns = &source.linked.insns()[start..end];
        let computing = insns.iter().filter(|insn| insn.does != Does::SecondSlot);
        let changed: BTreeMap<usize, Reg> = computing.map(|insn| (insn.dst.index(), insn.dst)).collect();
        let before: Vec<(Reg, Value)> = changed.into_values().map(|reg| (reg, self.reg(reg))).collect();
        for (pc, insn) in (start..end).zip(insns) {
            self.builder.set_srcloc(location(pc));
            self.insn(pc, insn, None);
        }
        for (reg, before) in before {
            let after = self.reg(reg);
            let chosen = self.builder.ins().select(condition, before, after);
            self.set(reg, chosen);
        }
        self.done = end;
    }

    /// The condition of a branch: zero where it does not hold.
    fn condition(&mut self, insn: &Insn, (width, cond, operand): (Width, Cond, Operand)) -> Value {
        let ty = width_type(width);
        let a = self.reg(insn.dst);
        let a = self.narrow(ty, a);
        let b = self.operand_at(insn, ty, operand);
        let is_mutant = planted(Mutant::ImmediateSign) && operand == Operand::Imm && width == Width::W64;
        let b = if is_mutant { self.number(insn.imm & i64::from(u32::MAX)) } else { b };
        match cond {
            Cond::Set => self.builder.ins().band(a, b),
            Cond::Eq => self.builder.ins().icmp(IntCC::Equal, a, b),
            Cond::Ne => self.builder.ins().icmp(IntCC::NotEqual, a, b),
            Cond::Gt => self.builder.ins().icmp(IntCC::UnsignedGreaterThan, a, b),
            Cond::Ge => self.builder.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, a, b),
            Cond::Lt => self.builder.ins().icmp(IntCC::UnsignedLessThan, a, b),
            Cond::Le => self.builder.ins().icmp(IntCC::UnsignedLessThanOrEqual, a, b),
            Cond::Sgt => {
                let code = either(Mutant::SignedCompare, IntCC::UnsignedGreaterThan, IntCC::SignedGreaterThan);
                self.builder.ins().icmp(code, a, b)
            }
            Cond::Sge => self.builder.ins().icmp(IntCC::SignedGreaterThanOrEqual, a, b),
            Cond::Slt => self.builder.ins().icmp(IntCC::SignedLessThan, a, b),
            Cond::Sle => self.builder.ins().icmp(IntCC::SignedLessThanOrEqual, a, b),
        }
    }

    /// A branch on whether the element is there that was looked up just before: nothing is chosen and compared again.
    fn branch_on_fresh(&mut self, pc: usize, insn: &Insn, cond: Cond, fresh: Fresh) {
        let next = self.block(pc + 1);
        let (there, absent) = (self.builder.create_block(), self.builder.create_block());
        self.builder.ins().brif(fresh.is_there, there, &[], absent, &[]);
        for (block, is_there) in [(absent, false), (there, true)] {
            self.builder.switch_to_block(block);
            self.builder.seal_block(block);
            let r0 = if is_there { fresh.addr } else { self.number(0) };
            self.set(Reg::R0, r0);
            if is_there == (cond == Cond::Ne) {
                self.goto(pc, insn);
            } else {
                self.builder.ins().jump(next, &[]);
            }
        }
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
