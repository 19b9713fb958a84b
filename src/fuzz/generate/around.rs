//! What is around the programs of a generated case: a context, a memory that is the packet or a map's value, pieces, and
//! the map that registers and stack are stored to at the end.

use super::furniture::{LEFT, MEMORY, MEMORY_LEN};
use super::pieces::{CONTEXT_SLOT, PIECES, Piece, Site, bounds};
use super::writer::{Compared, Writer};
use crate::isa::random::{Dialect, Dice, MEMORY as MEMORY_REG, MemoryKind, STACK_LEN, Surroundings, immediate};
use crate::isa::{Alu, Cond, Does, Insn, Size};
use crate::verdict::ProgramKind;

const FP: u8 = 10;
/// Data registers, r0 to r8.
const DATA_COUNT: i16 = 9;

/// What is around a program.
pub(super) struct Around {
    pub(super) kind: ProgramKind,
    pub(super) dialect: Dialect,
    pub(super) memory: MemoryKind,
    /// Functions before the one that helpers call back.
    pub(super) functions: usize,
    /// Whether a piece has named that one: the kernel refuses functions that nobody reaches.
    pub(super) calls_back: bool,
}

impl Around {
    fn site(&self, function: usize) -> Site {
        Site { kind: self.kind, dialect: self.dialect, function, functions: self.functions }
    }

    fn has_context(&self) -> bool {
        self.kind != ProgramKind::Raw
    }

    /// Makes [`MEMORY_REG`] point at the memory. Uses r2, r3 and r0.
    fn aim(&self, w: &mut Writer, dice: &mut Dice) {
        if self.memory == MemoryKind::Plain {
            return w.map_value(MEMORY_REG, MEMORY, 0);
        }
        bounds(w, &self.site(0), MEMORY_REG, 2);
        w.copy(3, MEMORY_REG);
        w.alu_imm(Alu::Add, 3, MEMORY_LEN.into());
        w.unless(Cond::Le, 3, Compared::Reg(2), |w| w.leave(immediate(dice)));
    }
}

impl Surroundings for Around {
    fn begin(&mut self, index: usize, dice: &mut Dice) -> Vec<Insn> {
        let mut w = Writer::default();
        if index == 0 {
            if self.has_context() {
                w.store(Size::D, FP, CONTEXT_SLOT, 1);
            }
            self.aim(&mut w, dice);
        } else {
            w.copy(MEMORY_REG, 1);
            if self.has_context() {
                w.store(Size::D, FP, CONTEXT_SLOT, 2);
                w.mov(2, immediate(dice));
            }
        }
        w.finish()
    }

    fn arguments(&mut self, _: &mut Dice) -> Vec<Insn> {
        let mut w = Writer::default();
        w.copy(1, MEMORY_REG);
        if self.has_context() {
            w.load(Size::D, 2, FP, CONTEXT_SLOT);
        }
        w.finish()
    }

    fn piece(&mut self, index: usize, dice: &mut Dice) -> Vec<Insn> {
        let site = self.site(index);
        let fitting: Vec<&Piece> = PIECES.iter().filter(|piece| (piece.fits)(&site)).collect();
        let piece = dice.pick(&fitting);
        self.calls_back |= piece.needs_callback;
        let mut w = Writer::default();
        (piece.write)(&mut w, dice, &site);
        if piece.moves && self.memory == MemoryKind::Packet {
            self.aim(&mut w, dice);
            w.mov(0, immediate(dice));
            w.mov(2, immediate(dice));
            w.mov(3, immediate(dice));
        }
        w.finish()
    }

    /// Takes a number in r1 and a place of 8 bytes in r2; changes the place and answers whether to end.
    fn callback(&mut self, dice: &mut Dice) -> Option<Vec<Insn>> {
        self.calls_back.then(|| {
            let mut w = Writer::default();
            w.load(Size::D, 0, 2, 0);
            let ops = [Alu::Add, Alu::Sub, Alu::Xor, Alu::Mul];
            for _ in 0..1 + dice.below(4) {
                w.alu_reg(dice.pick(&ops), 0, 1);
                w.alu_imm(dice.pick(&ops), 0, immediate(dice));
            }
            w.store(Size::D, 2, 0, 0);
            w.alu_imm(Alu::Rsh, 0, dice.pick(&[0, 3, 31, 63]));
            w.alu_imm(Alu::And, 0, 1);
            w.put(Does::Exit, 0, 0, 0, 0);
            w.finish()
        })
    }

    fn end(&mut self, index: usize, _: &mut Dice) -> Option<Vec<Insn>> {
        (index == 0).then(|| {
            let mut w = Writer::default();
            w.map_value(MEMORY_REG, LEFT, 0);
            for number in 0..DATA_COUNT {
                let register = u8::try_from(number).expect("a register");
                w.store(Size::D, MEMORY_REG, 8 * number, register);
            }
            for double in 1..=i16::try_from(STACK_LEN / 8).expect("the stack is small") {
                w.load(Size::D, 1, FP, -8 * double);
                w.store(Size::D, MEMORY_REG, 8 * (DATA_COUNT + double), 1);
            }
            w.finish()
        })
    }
}
