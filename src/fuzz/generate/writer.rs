//! Pieces of program under construction, an instruction at a time.

use crate::isa::random::{Dice, STACK_LEN, immediate};
use crate::isa::{Alu, Atomic, Cond, Does, Fetch, Insn, Operand, Reg, Sign, Size, Width};

/// Instructions that follow each other.
#[derive(Default)]
pub(super) struct Writer {
    insns: Vec<Insn>,
}

/// The register with this number.
pub(super) fn reg(number: u8) -> Reg {
    Reg::new(number).expect("pieces use r0 to r10")
}

const FP: u8 = 10;
const SIZES: [Size; 4] = [Size::B, Size::H, Size::W, Size::D];

impl Writer {
    pub(super) fn finish(self) -> Vec<Insn> {
        self.insns
    }

    pub(super) fn put(&mut self, does: Does, dst: u8, src: u8, off: i16, imm: i64) {
        self.insns.push(Insn { does, dst: reg(dst), src: reg(src), off, imm });
    }

    /// A two-slot load.
    pub(super) fn put_wide(&mut self, does: Does, dst: u8, imm: i64) {
        self.put(does, dst, 0, 0, imm);
        self.put(Does::SecondSlot, 0, 0, 0, 0);
    }

    pub(super) fn mov(&mut self, dst: u8, imm: i64) {
        self.alu_imm(Alu::Mov, dst, imm);
    }

    pub(super) fn copy(&mut self, dst: u8, src: u8) {
        self.put(Does::Alu(Width::W64, Alu::Mov, Operand::Reg), dst, src, 0, 0);
    }

    pub(super) fn alu_imm(&mut self, alu: Alu, dst: u8, imm: i64) {
        self.put(Does::Alu(Width::W64, alu, Operand::Imm), dst, 0, 0, imm);
    }

    pub(super) fn alu_reg(&mut self, alu: Alu, dst: u8, src: u8) {
        self.put(Does::Alu(Width::W64, alu, Operand::Reg), dst, src, 0, 0);
    }

    /// The address `off` bytes from the frame pointer.
    pub(super) fn stack(&mut self, dst: u8, off: i16) {
        self.copy(dst, FP);
        self.alu_imm(Alu::Add, dst, off.into());
    }

    pub(super) fn load(&mut self, size: Size, dst: u8, src: u8, off: i16) {
        self.put(Does::Load(size, Sign::Zero), dst, src, off, 0);
    }

    pub(super) fn store(&mut self, size: Size, dst: u8, off: i16, src: u8) {
        self.put(Does::Store(size, Operand::Reg), dst, src, off, 0);
    }

    pub(super) fn store_imm(&mut self, size: Size, dst: u8, off: i16, imm: i64) {
        self.put(Does::Store(size, Operand::Imm), dst, 0, off, imm);
    }

    pub(super) fn map(&mut self, dst: u8, place: usize) {
        self.put_wide(Does::LoadMapByIndex, dst, number(place));
    }

    /// The address of byte `off` of the map's only value.
    pub(super) fn map_value(&mut self, dst: u8, place: usize, off: i64) {
        self.put_wide(Does::LoadMapValueByIndex, dst, off << 32 | number(place));
    }

    pub(super) fn helper(&mut self, id: i64) {
        self.put(Does::CallHelper, 0, 0, 0, id);
    }

    /// Numbers in r1 to r5.
    pub(super) fn fill_arguments(&mut self, dice: &mut Dice) {
        for dst in 1..=5 {
            self.mov(dst, immediate(dice));
        }
    }

    /// What `inner` writes, jumped over where `dst` compares so with `with`.
    pub(super) fn unless(&mut self, cond: Cond, dst: u8, with: Compared, inner: impl FnOnce(&mut Self)) {
        let at = self.insns.len();
        match with {
            Compared::Number(imm) => self.put(Does::Branch(Width::W64, cond, Operand::Imm), dst, 0, 0, imm),
            Compared::Reg(src) => self.put(Does::Branch(Width::W64, cond, Operand::Reg), dst, src, 0, 0),
        }
        inner(self);
        self.insns[at].off = i16::try_from(self.insns.len() - at - 1).expect("a piece is short");
    }

    /// Ends the program with a number.
    pub(super) fn leave(&mut self, r0: i64) {
        self.mov(0, r0);
        self.put(Does::Exit, 0, 0, 0, 0);
    }

    /// Accesses of `len` bytes at `base + start`: loads into r1 to r5 but for `base`, stores and atomic operations of
    /// them.
    pub(super) fn accesses(&mut self, dice: &mut Dice, base: u8, place: Bytes) {
        for _ in 0..1 + dice.below(4) {
            self.access(dice, base, place);
        }
    }

    fn access(&mut self, dice: &mut Dice, base: u8, place: Bytes) {
        let others: Vec<u8> = (1..=5).filter(|number| *number != base).collect();
        let other = dice.pick(&others);
        let fits: Vec<Size> = SIZES.into_iter().filter(|size| size.len() <= place.len).collect();
        let size = dice.pick(&fits);
        let wide: Vec<Size> = fits.into_iter().filter(|size| size.len() >= 4).collect();
        let choice = dice.below(if place.atomics == Atomics::No || wide.is_empty() { 4 } else { 9 });
        let size = if choice < 6 { size } else { dice.pick(&wide) };
        let step = if choice < 4 && place.aligned == Aligned::No { 1 } else { size.len() };
        // Where the place begins, aligned accesses are aligned.
        let steps = usize::try_from((place.len - size.len()) / step + 1).expect("places are short");
        let off = place.start + i16::try_from(dice.below(steps)).expect("short") * i16::try_from(step).expect("short");
        match choice {
            0 => self.put(Does::Load(size, Sign::Zero), other, base, off, 0),
            1 if size != Size::D => self.put(Does::Load(size, Sign::Extend), other, base, off, 0),
            1 | 2 => self.put(Does::Store(size, Operand::Reg), base, other, off, 0),
            3 => self.put(Does::Store(size, Operand::Imm), base, 0, off, immediate(dice)),
            4 => self.put(Does::LoadAcquire(size), other, base, off, 0),
            5 => self.put(Does::StoreRelease(size), base, other, off, 0),
            6 => {
                let op = dice.pick(&[Atomic::Add, Atomic::Or, Atomic::And, Atomic::Xor]);
                let fetch = dice.pick(&[Fetch::Discard, Fetch::Old]);
                self.put(Does::Atomic(size, op, fetch), base, other, off, 0);
            }
            7 => self.put(Does::Exchange(size), base, other, off, 0),
            _ => {
                if base != 0 {
                    // What it compares with is often what is there.
                    self.load(size, 0, base, off);
                    if dice.once_in(3) {
                        self.alu_imm(Alu::Add, 0, 1 << 31);
                    }
                    self.put(Does::CompareExchange(size), base, other, off, 0);
                }
            }
        }
    }
}

/// What a jump compares with.
#[derive(Clone, Copy)]
pub(super) enum Compared {
    /// A number.
    Number(i64),
    /// A register.
    Reg(u8),
}

/// Bytes that may be accessed.
#[derive(Clone, Copy)]
pub(super) struct Bytes {
    /// Where they begin, from the base; a multiple of 8 where accesses are aligned.
    pub(super) start: i16,
    /// How many.
    pub(super) len: u32,
    /// Whether atomic operations are allowed.
    pub(super) atomics: Atomics,
    /// Whether every access must be aligned.
    pub(super) aligned: Aligned,
}

/// Whether atomic operations are allowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Atomics {
    Yes,
    No,
}

/// Whether every access must be aligned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Aligned {
    Yes,
    No,
}

/// A multiple of 8 below the frame pointer with so many stack bytes of numbers behind it.
pub(super) fn stack_place(dice: &mut Dice, len: u32) -> i16 {
    let places = usize::try_from((STACK_LEN - len) / 8 + 1).expect("the stack is small");
    i16::try_from(8 * dice.below(places)).expect("small") - i16::try_from(STACK_LEN).expect("small")
}

pub(super) fn number(place: usize) -> i64 {
    i64::try_from(place).expect("a case has few maps and helpers")
}
