//! The shape of a table row, and what follows from one.
//!
//! Invariant: which fields a row uses is read off its text; nothing states it a second time.

use super::Does;

/// What a field of an instruction may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Any value: the field is an operand.
    Any,
    /// Only this value: it tells the row from others of its opcode, or it is unused and zero.
    Is(i32),
    /// Any value, without meaning. The kernel or the suite accepts it.
    Ignored,
}

/// A part of a slot behind its opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The destination register.
    Dst,
    /// The source register.
    Src,
    /// The offset.
    Off,
    /// The immediate.
    Imm,
}

impl Part {
    /// All of them; those that tell instructions apart most often come first.
    pub const ALL: [Self; 4] = [Self::Imm, Self::Src, Self::Off, Self::Dst];

    /// Its name in RFC 9669's shorthand.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dst => "dst",
            Self::Src => "src",
            Self::Off => "off",
            Self::Imm => "imm",
        }
    }
}

/// Conformance group of an instruction, RFC 9669 section 2.4, and two of our own for what the RFC lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// What every implementation has.
    Base32,
    /// 64-bit operations.
    Base64,
    /// 32-bit atomic operations.
    Atomic32,
    /// 64-bit atomic operations.
    Atomic64,
    /// 32-bit multiplication, division and remainder.
    DivMul32,
    /// 64-bit multiplication, division and remainder.
    DivMul64,
    /// Legacy packet loads.
    Packet,
    /// What Linux added after the RFC.
    LinuxExt,
    /// Call of the helper whose number is in a register: the conformance suite and LLVM only.
    CallX,
}

impl Group {
    /// Its name as the RFC spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base32 => "base32",
            Self::Base64 => "base64",
            Self::Atomic32 => "atomic32",
            Self::Atomic64 => "atomic64",
            Self::DivMul32 => "divmul32",
            Self::DivMul64 => "divmul64",
            Self::Packet => "packet",
            Self::LinuxExt => "linux-ext",
            Self::CallX => "callx",
        }
    }
}

/// Whether programs with this instruction run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// They run.
    Runs,
    /// They decode and print, but [`crate::program::Program::check`] refuses them.
    Refused {
        /// Why, as the second half of a sentence.
        because: &'static str,
    },
}

/// One instruction: everything that decoder, encoder, assembler, disassembler, form checks and manual know of it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// First byte of the slot.
    pub opcode: u8,
    /// Its name, as the appendix of RFC 9669 implies and `isa.json` of the tests spells it.
    pub name: &'static str,
    /// Its text in LLVM's style, with words for the operands (see [`super::text`]).
    pub text: &'static str,
    /// What it does.
    pub does: Does,
    /// Its conformance group.
    pub group: Group,
    /// Whether programs with it run.
    pub support: Support,
    /// Destination register field.
    pub dst: Field,
    /// Source register field.
    pub src: Field,
    /// Offset field.
    pub off: Field,
    /// Immediate field.
    pub imm: Field,
    /// Immediate field of the second slot; `Is(0)` where there is none.
    pub next_imm: Field,
}

/// A row whose fields are operands where the text names them and zero elsewhere.
pub(super) const fn row(opcode: u8, name: &'static str, text: &'static str, does: Does, group: Group) -> Row {
    Row {
        opcode,
        name,
        text,
        does,
        group,
        support: Support::Runs,
        dst: used_if_named(text, &["dst"]),
        src: used_if_named(text, &["src"]),
        off: used_if_named(text, &["off"]),
        imm: used_if_named(text, &["imm", "low"]),
        next_imm: if does.is_wide() { used_if_named(text, &["imm64", "high"]) } else { Field::Is(0) },
    }
}

impl Row {
    /// The row told from others of its opcode by this value of src.
    pub(super) const fn src(mut self, value: i32) -> Self {
        self.src = Field::Is(value);
        self
    }

    /// The row told from others of its opcode by this value of off.
    pub(super) const fn off(mut self, value: i32) -> Self {
        self.off = Field::Is(value);
        self
    }

    /// The row told from others of its opcode by this value of imm.
    pub(super) const fn imm(mut self, value: i32) -> Self {
        self.imm = Field::Is(value);
        self
    }

    /// The row with a src that is ignored.
    pub(super) const fn any_src(mut self) -> Self {
        self.src = Field::Ignored;
        self
    }

    /// The row with an off that is ignored.
    pub(super) const fn any_off(mut self) -> Self {
        self.off = Field::Ignored;
        self
    }

    /// The row with programs that hold it refused.
    pub(super) const fn refused(mut self, because: &'static str) -> Self {
        self.support = Support::Refused { because };
        self
    }

    /// What a part of its first slot may hold.
    #[must_use]
    pub const fn field(&self, part: Part) -> Field {
        match part {
            Part::Dst => self.dst,
            Part::Src => self.src,
            Part::Off => self.off,
            Part::Imm => self.imm,
        }
    }
}

/// An operand if the text holds one of the words, alone or as part of a longer word.
const fn used_if_named(text: &str, words: &[&str]) -> Field {
    let mut index = 0;
    while index < words.len() {
        if holds(text.as_bytes(), words[index].as_bytes()) {
            return Field::Any;
        }
        index += 1;
    }
    Field::Is(0)
}

const fn holds(text: &[u8], word: &[u8]) -> bool {
    let mut start = 0;
    while start + word.len() <= text.len() {
        let mut same = 0;
        while same < word.len() && text[start + same] == word[same] {
            same += 1;
        }
        if same == word.len() {
            return true;
        }
        start += 1;
    }
    false
}
