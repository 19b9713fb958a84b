//! What is around a random program: where its memory comes from, and pieces of program that the instruction table alone
//! cannot write, because they need a context, maps or helpers.

use super::{Dice, MEMORY, Shape, alu_reg};
use crate::isa::{Alu, Insn};

/// What is around a random program.
pub trait Surroundings {
    /// What function number `index` (0 is the main one) begins with: leaves the pointer to the memory in register
    /// [`MEMORY`], and numbers in r2 to r5 where `index` is not 0.
    fn begin(&mut self, index: usize, dice: &mut Dice) -> Vec<Insn>;

    /// What comes before a call of another function: its arguments, r1 to r5; r2 to r5 hold numbers before.
    fn arguments(&mut self, dice: &mut Dice) -> Vec<Insn>;

    /// A piece of function number `index`, or nothing. It may use r0 to r5, and leaves numbers in them.
    fn piece(&mut self, index: usize, dice: &mut Dice) -> Vec<Insn>;

    /// A function behind the others, for pieces that load the address of function number `functions` of the shape.
    fn callback(&mut self, dice: &mut Dice) -> Option<Vec<Insn>>;

    /// How function number `index` shows what is in registers and stack before it ends; where it says nothing, they are
    /// folded into r0.
    fn end(&mut self, index: usize, dice: &mut Dice) -> Option<Vec<Insn>>;
}

/// Nothing but the memory that r1 points at.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    has_memory: bool,
}

impl Plain {
    /// The surroundings of a program of this shape.
    #[must_use]
    pub fn new(shape: &Shape) -> Self {
        Self { has_memory: shape.memory_len >= 8 }
    }
}

impl Surroundings for Plain {
    fn begin(&mut self, _: usize, _: &mut Dice) -> Vec<Insn> {
        if self.has_memory { vec![alu_reg(Alu::Mov, MEMORY, 1)] } else { Vec::new() }
    }

    fn arguments(&mut self, _: &mut Dice) -> Vec<Insn> {
        if self.has_memory { vec![alu_reg(Alu::Mov, 1, MEMORY)] } else { Vec::new() }
    }

    fn piece(&mut self, _: usize, _: &mut Dice) -> Vec<Insn> {
        Vec::new()
    }

    fn callback(&mut self, _: &mut Dice) -> Option<Vec<Insn>> {
        None
    }

    fn end(&mut self, _: usize, _: &mut Dice) -> Option<Vec<Insn>> {
        None
    }
}
