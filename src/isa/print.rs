//! The disassembler: an instruction as text that the assembler reads back.
//!
//! Invariant: knows no names of functions or helpers; a jump's target is a number.

use std::fmt;

use super::Insn;
use super::table::row_of;
use super::text::{Hole, Letter, Piece, hole, pieces};

/// An instruction and where it stands, to be displayed.
#[derive(Clone, Copy, Debug)]
pub struct Printed<'insn> {
    insn: &'insn Insn,
    pc: usize,
}

impl Insn {
    /// The instruction as text, with jump targets counted from `pc`: `if r1 s> 5 goto +4 <12>`.
    #[must_use]
    pub const fn at(&self, pc: usize) -> Printed<'_> {
        Printed { insn: self, pc }
    }
}

/// An instruction as text; see [`Insn::at`].
#[must_use]
pub fn print(insn: &Insn, pc: usize) -> String {
    insn.at(pc).to_string()
}

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(row) = row_of(self.insn.does) else {
            return write!(f, "no instruction: {:?}", self.insn.does);
        };
        // `+` and the space after it wait, because a negative operand turns them into `- `.
        let mut waiting = "";
        for piece in pieces(row.text) {
            match piece {
                Piece::Space if waiting == "+" => waiting = "+ ",
                Piece::Space => write!(f, "{waiting} ").map(|()| waiting = "")?,
                Piece::Mark('+') => write!(f, "{waiting}").map(|()| waiting = "+")?,
                Piece::Mark(mark) => write!(f, "{waiting}{mark}").map(|()| waiting = "")?,
                Piece::Word(word) => {
                    match hole(word) {
                        None => write!(f, "{waiting}{word}")?,
                        Some(hole) => self.operand(f, waiting, hole)?,
                    }
                    waiting = "";
                }
            }
        }
        f.write_str(waiting)
    }
}

impl Printed<'_> {
    fn operand(&self, f: &mut fmt::Formatter<'_>, waiting: &str, hole: Hole) -> fmt::Result {
        let Insn { dst, src, off, imm, .. } = *self.insn;
        let low = imm & 0xffff_ffff;
        match hole {
            Hole::Dst(letter) => write!(f, "{waiting}{}{}", prefix(letter), dst.number()),
            Hole::Src(letter) => write!(f, "{waiting}{}{}", prefix(letter), src.number()),
            Hole::Off => signed(f, waiting, i64::from(off)),
            Hole::Imm => signed(f, waiting, imm),
            Hole::UnsignedImm | Hole::Low => write!(f, "{waiting}{low}"),
            Hole::Imm64 => write!(f, "{waiting}{imm:#x}"),
            Hole::High => write!(f, "{waiting}{}", imm.cast_unsigned() >> 32),
            Hole::ImmHigh => write!(f, "{waiting}{}", low >> 16),
            Hole::ImmLow => write!(f, "{waiting}{}", low & 0xffff),
            Hole::OffTarget => self.target(f, i64::from(off)),
            Hole::ImmTarget => self.target(f, imm),
        }
    }

    fn target(&self, f: &mut fmt::Formatter<'_>, distance: i64) -> fmt::Result {
        let from = i64::try_from(self.pc).unwrap_or(i64::MAX);
        write!(f, "{distance:+} <{}>", from.saturating_add(1).saturating_add(distance))
    }
}

/// A number behind what waits before it.
fn signed(f: &mut fmt::Formatter<'_>, waiting: &str, value: i64) -> fmt::Result {
    match waiting {
        "+ " if value < 0 => write!(f, "- {}", value.unsigned_abs()),
        _ => write!(f, "{waiting}{value}"),
    }
}

const fn prefix(letter: Letter) -> char {
    match letter {
        Letter::R | Letter::Either => 'r',
        Letter::W => 'w',
    }
}
