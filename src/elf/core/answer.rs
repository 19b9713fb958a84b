//! What a relocation asks, and the number that answers it.
//!
//! Source: `bpf_core_calc_field_relo`, `bpf_core_calc_type_relo` and `bpf_core_calc_enumval_relo` of libbpf.

use super::matching::SIGNED;
use super::spec::Spec;
use crate::elf::btf::{Btf, Kind, TypeId};

/// What a relocation asks; `enum bpf_core_relo_kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Question {
    FieldByteOffset,
    FieldByteLen,
    FieldExists,
    FieldSigned,
    FieldShiftLeft,
    FieldShiftRight,
    TypeIdLocal,
    TypeIdTarget,
    TypeExists,
    TypeLen,
    ValueExists,
    Value,
    TypeMatches,
}

/// By number, each with its words in messages.
const QUESTIONS: [(Question, &str); 13] = [
    (Question::FieldByteOffset, "field offset"),
    (Question::FieldByteLen, "field size"),
    (Question::FieldExists, "field existence"),
    (Question::FieldSigned, "field signedness"),
    (Question::FieldShiftLeft, "bit field shift"),
    (Question::FieldShiftRight, "bit field shift"),
    (Question::TypeIdLocal, "local type id"),
    (Question::TypeIdTarget, "type id"),
    (Question::TypeExists, "type existence"),
    (Question::TypeLen, "type size"),
    (Question::ValueExists, "enum value existence"),
    (Question::Value, "enum value"),
    (Question::TypeMatches, "type match"),
];

/// The question with this number, and its words.
pub(super) fn question(kind: u32) -> Option<(Question, &'static str)> {
    QUESTIONS.get(kind as usize).copied()
}

/// The answer of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) value: u64,
    /// Whether the instruction must hold the object's number before: not so where compilers differ.
    pub(super) is_checked: bool,
    /// The field that is read or written, where it is a whole one: bytes and type.
    pub(super) field: Option<(u32, TypeId)>,
}

impl Number {
    pub(super) const fn of(value: u64) -> Self {
        Self { value, is_checked: true, field: None }
    }
}

/// The answer that a way in the types gives; `None` where the types make no sense.
pub(super) fn number(btf: &Btf, question: Question, spec: &Spec) -> Option<Number> {
    match question {
        Question::FieldExists | Question::TypeExists | Question::ValueExists | Question::TypeMatches => {
            Some(Number::of(1))
        }
        Question::TypeIdLocal | Question::TypeIdTarget => {
            Some(Number { is_checked: false, ..Number::of(spec.root.0.into()) })
        }
        Question::TypeLen => Some(Number::of(btf.len_of(spec.root)?.into())),
        Question::Value => Some(Number::of(spec.value(btf)?.1.cast_unsigned())),
        Question::FieldByteOffset
        | Question::FieldByteLen
        | Question::FieldSigned
        | Question::FieldShiftLeft
        | Question::FieldShiftRight => field(btf, question, spec),
    }
}

fn field(btf: &Btf, question: Question, spec: &Spec) -> Option<Number> {
    let Some(member) = spec.member(btf) else { return element(btf, question, spec) };
    let type_id = btf.resolve(member.member_type)?;
    let is_bit_field = member.bit_len > 0;
    let bit_start = spec.bit_offset;
    let mut byte_len = u64::from(btf.len_of(type_id)?);
    let mut byte_start = bit_start / 8;
    let mut bit_len = u64::from(member.bit_len);
    if is_bit_field {
        // The smallest integer, at a multiple of its length, that holds all the bits.
        byte_len = byte_len.max(1);
        byte_start = bit_start / 8 / byte_len * byte_len;
        while bit_start + bit_len - byte_start * 8 > byte_len * 8 {
            if byte_len >= 8 {
                return None;
            }
            byte_len *= 2;
            byte_start = bit_start / 8 / byte_len * byte_len;
        }
    } else {
        bit_len = byte_len.checked_mul(8)?;
    }
    let shift = |value: u64, is_checked| Some(Number { is_checked, ..Number::of(value) });
    match question {
        Question::FieldByteOffset => Some(Number {
            value: byte_start,
            is_checked: !is_bit_field,
            field: if is_bit_field { None } else { Some((u32::try_from(byte_len).ok()?, type_id)) },
        }),
        Question::FieldByteLen => shift(byte_len, !is_bit_field),
        Question::FieldSigned => {
            let kind = btf.kind(type_id);
            let is_signed = if let Kind::Enum { is_signed, .. } = kind {
                *is_signed
            } else {
                matches!(kind, Kind::Int { encoding, .. } if encoding & SIGNED != 0)
            };
            shift(is_signed.into(), true)
        }
        Question::FieldShiftLeft => shift(64u64.checked_sub(bit_start + bit_len - byte_start * 8)?, false),
        Question::FieldShiftRight => shift(64u64.checked_sub(bit_len)?, true),
        Question::FieldExists
        | Question::TypeIdLocal
        | Question::TypeIdTarget
        | Question::TypeExists
        | Question::TypeLen
        | Question::ValueExists
        | Question::Value
        | Question::TypeMatches => None,
    }
}

/// The way ends at an element of an array, or at what the pointer itself leads to.
fn element(btf: &Btf, question: Question, spec: &Spec) -> Option<Number> {
    let type_id = btf.resolve(spec.steps.last()?.holder)?;
    let len = btf.len_of(type_id)?;
    if question == Question::FieldByteOffset {
        return Some(Number { value: spec.bit_offset / 8, is_checked: true, field: Some((len, type_id)) });
    }
    (question == Question::FieldByteLen).then(|| Number::of(len.into()))
}

/// Whether a load of a field of one length may become a load of the other: both unsigned, or both pointers.
pub(super) fn may_resize(local: &Btf, from: TypeId, target: &Btf, to: TypeId) -> bool {
    match (local.kind(from), target.kind(to)) {
        (Kind::Ptr(_), Kind::Ptr(_)) => true,
        (Kind::Int { encoding: one, .. }, Kind::Int { encoding: other, .. }) => (one | other) & SIGNED == 0,
        _ => false,
    }
}
