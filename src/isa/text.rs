//! The words of a row's text, shared by disassembler and assembler.
//!
//! | word | operand |
//! |---|---|
//! | `dst` `src` | a 64-bit register, `r0` to `r10` |
//! | `wdst` `wsrc` | the low half of a register, `w0` to `w10` |
//! | `xdst` `xsrc` | a register that moves fewer than 64 bits: written `r`, read `r` or `w` |
//! | `imm` `uimm` | `imm`, signed or unsigned |
//! | `imm64` | the value of both slots |
//! | `low` `high` | `imm` of the first and of the second slot, unsigned |
//! | `imm_high` `imm_low` | the halves of `imm`, unsigned |
//! | `off` | `off`, signed; may be left out with the `+` before it |
//! | `off_target` `imm_target` | where a jump by `off` or `imm` goes |
//!
//! Invariant: every other word of a row's text stands for itself.

/// An operand in a row's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hole {
    Dst(Letter),
    Src(Letter),
    Imm,
    UnsignedImm,
    Imm64,
    Low,
    High,
    ImmHigh,
    ImmLow,
    Off,
    OffTarget,
    ImmTarget,
}

/// How a register is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letter {
    R,
    W,
    Either,
}

/// The operand that a word of a row's text stands for, if it does not stand for itself.
pub(super) fn hole(word: &str) -> Option<Hole> {
    Some(match word {
        "dst" => Hole::Dst(Letter::R),
        "wdst" => Hole::Dst(Letter::W),
        "xdst" => Hole::Dst(Letter::Either),
        "src" => Hole::Src(Letter::R),
        "wsrc" => Hole::Src(Letter::W),
        "xsrc" => Hole::Src(Letter::Either),
        "imm" => Hole::Imm,
        "uimm" => Hole::UnsignedImm,
        "imm64" => Hole::Imm64,
        "low" => Hole::Low,
        "high" => Hole::High,
        "imm_high" => Hole::ImmHigh,
        "imm_low" => Hole::ImmLow,
        "off" => Hole::Off,
        "off_target" => Hole::OffTarget,
        "imm_target" => Hole::ImmTarget,
        _ => return None,
    })
}

/// A piece of assembler text: a word, or one mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'text> {
    /// Letters, digits, `_`, `.` and `$` (label names may hold them).
    Word(&'text str),
    /// Any other character that is no space.
    Mark(char),
    /// White space.
    Space,
}

/// Splits text into pieces.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = if is_word(first) {
            rest.find(|c| !is_word(c))
        } else if first.is_whitespace() {
            rest.find(|c: char| !c.is_whitespace())
        } else {
            Some(first.len_utf8())
        };
        let (taken, left) = rest.split_at(end.unwrap_or(rest.len()));
        rest = left;
        Some(match first {
            word if is_word(word) => Piece::Word(taken),
            space if space.is_whitespace() => Piece::Space,
            mark => Piece::Mark(mark),
        })
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '$')
}
