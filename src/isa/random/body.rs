//! One random function: straight code, branches, loops and calls, properly nested.
//!
//! Invariant: each piece leaves every data register initialised, so that pieces may follow each other in any order.

use super::straight::{Scope, immediate, instance};
use super::{Dice, STACK_LEN, Shape, Surroundings, alu_imm, alu_reg, insn, load, reg, slots};
use crate::isa::row::Row;
use crate::isa::{Alu, Cond, Does, Insn, Operand, Reg, Size, Width};

/// Registers that hold numbers.
const DATA: [u8; 9] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
/// Those of them that a call leaves alone, where loops count.
const COUNTERS: [u8; 2] = [7, 8];
/// Times that a loop runs at most.
const ROUNDS_MAX: usize = 4;
/// Branches in each other at most; bounds the recursion.
const NESTING_MAX: usize = 4;

/// A function in the making.
pub(super) struct Body<'shape> {
    shape: &'shape Shape,
    rows: &'shape [&'static Row],
    /// Those of them that make loops, calls and exits: few, so they are picked more often than their number says.
    turns: Vec<&'static Row>,
    around: &'shape mut dyn Surroundings,
    dice: &'shape mut Dice,
    /// Index of this function, and of the first that it may not call.
    index: usize,
    functions: usize,
    insns: Vec<Insn>,
    /// Loops around the place that is being written.
    loops: usize,
}

impl<'shape> Body<'shape> {
    pub(super) fn new(
        shape: &'shape Shape,
        rows: &'shape [&'static Row],
        around: &'shape mut dyn Surroundings,
        dice: &'shape mut Dice,
        index: usize,
        functions: usize,
    ) -> Self {
        let is_turn = |row: &&Row| matches!(row.does, Does::Goto | Does::GotoLong | Does::CallLocal | Does::Exit);
        let turns = rows.iter().copied().filter(is_turn).collect();
        Self { shape, rows, turns, around, dice, index, functions, insns: Vec::new(), loops: 0 }
    }

    pub(super) fn function(mut self) -> Vec<Insn> {
        self.begin();
        self.block(self.shape.insns, 0);
        if self.index + 1 < self.functions {
            // The kernel refuses functions that nothing calls.
            self.call(self.index + 1);
        }
        self.end();
        self.insns
    }

    /// Initialises registers and stack. A function other than the first has numbers in r2 to r5 from its caller.
    fn begin(&mut self) {
        self.insns.extend(self.around.begin(self.index, self.dice));
        for register in DATA {
            if self.index == 0 || !(2..=5).contains(&register) {
                self.fill(register);
            }
        }
        for double in 1..=STACK_LEN / 8 {
            let off = -i16::try_from(double * 8).expect("the stack is small");
            let imm = immediate(self.dice);
            self.insns.push(Insn { dst: Reg::FP, off, imm, ..insn(Does::Store(Size::D, Operand::Imm)) });
        }
    }

    /// Shows registers and stack, so that whatever went wrong is seen.
    fn end(&mut self) {
        match self.around.end(self.index, self.dice) {
            Some(shown) => self.insns.extend(shown),
            None => self.fold(),
        }
        self.insns.push(insn(Does::Exit));
    }

    fn fold(&mut self) {
        for register in &DATA[1..] {
            self.insns.push(alu_imm(Alu::Mul, 0, 31));
            self.insns.push(alu_reg(Alu::Xor, 0, *register));
        }
        for double in 1..=STACK_LEN / 8 {
            let off = -i16::try_from(double * 8).expect("the stack is small");
            self.insns.push(load(1, Reg::FP, off));
            self.insns.push(alu_imm(Alu::Mul, 0, 31));
            self.insns.push(alu_reg(Alu::Xor, 0, 1));
        }
    }

    fn fill(&mut self, register: u8) {
        let imm = immediate(self.dice);
        self.insns.push(alu_imm(Alu::Mov, register, imm));
    }

    /// About `len` instructions. Picks rows; what the row is decides what is written.
    fn block(&mut self, len: usize, nesting: usize) {
        if self.rows.is_empty() {
            return;
        }
        let full = self.insns.len() + len;
        // Rows that do not suit are passed over; the bound is for shapes that allow no other.
        for _ in 0..len * 4 {
            if self.insns.len() >= full {
                break;
            }
            let row = if self.turns.is_empty() || !self.dice.once_in(8) {
                self.dice.pick(self.rows)
            } else {
                self.dice.pick(&self.turns)
            };
            let room = (full - self.insns.len()).min(12);
            if self.dice.once_in(4) {
                self.insns.extend(self.around.piece(self.index, self.dice));
            }
            let is = |does| row.does == does;
            if matches!(row.does, Does::Branch(..) | Does::MayGoto) && nesting < NESTING_MAX {
                self.branch(row, room, nesting);
            } else if (is(Does::Goto) || is(Does::GotoLong)) && self.loops < COUNTERS.len() {
                self.repeat(row.does, room, nesting);
            } else if is(Does::CallLocal) && self.index + 1 < self.functions && self.loops < 2 {
                let callee = self.index + 1 + self.dice.below(self.functions - self.index - 1);
                self.call(callee);
            } else if is(Does::Exit) && nesting > 0 && self.loops == 0 && self.dice.once_in(4) {
                // Nothing may follow an exit that nothing jumps over.
                self.insns.push(insn(Does::Exit));
                return;
            } else {
                self.straight(row);
            }
        }
    }

    fn straight(&mut self, row: &Row) {
        let writable = &DATA[..DATA.len() - self.loops];
        if let Some(made) = instance(row, self.shape, self.dice, &Scope { writable, readable: &DATA }) {
            self.insns.push(made);
            if made.does.is_wide() {
                self.insns.push(insn(Does::SecondSlot));
            }
        }
    }

    /// `if condition goto behind; then` or `if condition goto else; then; goto behind; else`.
    fn branch(&mut self, row: &Row, room: usize, nesting: usize) {
        let branch = self.insns.len();
        let src = reg(self.dice.pick(&DATA));
        let dst = reg(self.dice.pick(&DATA));
        let imm = immediate(self.dice);
        let used = |operand| matches!(row.does, Does::Branch(_, _, with) if with == operand);
        self.insns.push(Insn {
            dst: if row.does == Does::MayGoto { Reg::R0 } else { dst },
            src: if used(Operand::Reg) { src } else { Reg::R0 },
            imm: if used(Operand::Imm) { imm } else { 0 },
            ..insn(row.does)
        });
        self.block(room / 2, nesting + 1);
        let ends = self.insns.last().is_some_and(|last| last.does == Does::Exit);
        if self.dice.once_in(2) && !ends {
            let skip = self.insns.len();
            let goto = self.dice.pick(&[Does::Goto, Does::GotoLong]);
            self.insns.push(insn(goto));
            self.land(branch);
            self.block(room / 2, nesting + 1);
            self.land(skip);
        } else {
            self.land(branch);
        }
    }

    /// A loop that counts a register down: tested at its end, or (with a jump back) at its start.
    fn repeat(&mut self, back: Does, room: usize, nesting: usize) {
        let counter = COUNTERS[COUNTERS.len() - 1 - self.loops];
        let rounds = slots(1 + self.dice.below(ROUNDS_MAX));
        self.insns.push(alu_imm(Alu::Mov, counter, rounds));
        self.loops += 1;
        let start = self.insns.len();
        let width = self.dice.pick(&[Width::W32, Width::W64]);
        if self.dice.once_in(2) {
            let cond = self.dice.pick(&[Cond::Eq, Cond::Le, Cond::Sle]);
            self.insns.push(Insn { dst: reg(counter), ..insn(Does::Branch(width, cond, Operand::Imm)) });
            self.insns.push(alu_imm(Alu::Add, counter, -1));
            self.block(room, nesting);
            self.insns.push(insn(back));
            self.jump_to(self.insns.len() - 1, start);
            self.land(start);
        } else {
            self.block(room, nesting);
            self.insns.push(alu_imm(Alu::Add, counter, -1));
            let cond = self.dice.pick(&[Cond::Ne, Cond::Gt, Cond::Sgt]);
            self.insns.push(Insn { dst: reg(counter), ..insn(Does::Branch(width, cond, Operand::Imm)) });
            self.jump_to(self.insns.len() - 1, start);
        }
        self.loops -= 1;
    }

    /// A call of a function by its index, and the registers that it clobbers filled again.
    fn call(&mut self, callee: usize) {
        self.insns.extend(self.around.arguments(self.dice));
        self.insns.push(Insn { imm: slots(callee), ..insn(Does::CallLocal) });
        for register in 1..=5 {
            self.fill(register);
        }
    }

    /// Makes the jump at `pc` go to the next instruction to be written.
    fn land(&mut self, pc: usize) {
        self.jump_to(pc, self.insns.len());
    }

    fn jump_to(&mut self, pc: usize, target: usize) {
        let distance = slots(target) - slots(pc) - 1;
        let jump = &mut self.insns[pc];
        if jump.does == Does::GotoLong {
            jump.imm = distance;
        } else {
            jump.off = i16::try_from(distance).expect("blocks are short");
        }
    }
}
