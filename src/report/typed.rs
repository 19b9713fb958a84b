//! Bytes as JSON by their BTF type: what bpftool shows as `formatted`.
//!
//! Integers are numbers, `bool` is true or false, pointers and integers of more than 64 bits are hexadecimal text, enumerations
//! are the name of their value or the number, structures and unions are objects (members without a name are among those of
//! the holder), arrays are lists, or text where they are of `char` and hold printable characters up to a zero. The
//! variables of a section are a list of objects of one member, under the section's name. Byte order is as it lies in memory,
//! as with bpftool. What has no such meaning, is nested or repeated too far, or does not fit its bytes, is the hexadecimal
//! digits of its bytes.
//!
//! Invariant: any types and bytes give JSON, in time and memory bounded by [`TYPED_WEIGHT_MAX`] and the bytes.

use serde_json::{Map, Value, json};

use super::hexadecimal::to_hex;
use crate::elf::MapTypes;
use crate::elf::btf::{Btf, EnumValue, Kind, Member, SectionVar, TypeId};
use crate::limits::{SYMBOL_NAME_LEN_MAX, TYPED_DEPTH_MAX, TYPED_WEIGHT_MAX};
use crate::maps::MapDef;

/// In the encoding of an integer: it is signed, a character, a truth value.
const SIGNED: u8 = 1;
const CHARACTER: u8 = 2;
const BOOLEAN: u8 = 4;
/// Weight of a value, apart from its text.
const VALUE_WEIGHT: usize = 8;

/// Shows elements of one map by their types, until what it showed is too heavy.
#[derive(Debug)]
pub struct Typing<'a> {
    types: Option<&'a MapTypes>,
    weight: usize,
    weight_max: usize,
}

impl<'a> Typing<'a> {
    /// Shows elements until they weigh so much, about a unit a byte of JSON. Without types it shows none.
    #[must_use]
    pub fn new(types: Option<&'a MapTypes>, weight_max: usize) -> Self {
        Self { types, weight: 0, weight_max }
    }

    /// Weight of what it showed.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// An element as `{"key": .., "value": ..}` or `{"key": .., "values": [..]}`, one a worker; `value` as
    /// [`Map::host_lookup`](crate::maps::Map::host_lookup) gave it, `None` where elements hold something else. `None` where
    /// nothing is known of it, and behind what was too heavy.
    pub(super) fn element(&mut self, def: &MapDef, key: &[u8], value: Option<&[u8]>) -> Option<Value> {
        let types = self.types.filter(|_| self.weight < self.weight_max)?;
        let mut shown = Map::new();
        if let Some(id) = types.key.filter(|_| !key.is_empty()) {
            shown.insert("key".to_owned(), self.part(&types.btf, id, key));
        }
        if let Some((id, value)) = types.value.zip(value) {
            let (len, stride) = (def.value_len as usize, usize::try_from(def.value_stride()).unwrap_or(usize::MAX));
            if def.kind.is_per_worker() && stride > 0 {
                let each =
                    value.chunks(stride).map(|value| self.part(&types.btf, id, value.get(..len).unwrap_or(value)));
                shown.insert("values".to_owned(), each.collect());
            } else {
                shown.insert("value".to_owned(), self.part(&types.btf, id, value));
            }
        }
        (!shown.is_empty()).then_some(Value::Object(shown))
    }

    fn part(&mut self, btf: &Btf, id: TypeId, bytes: &[u8]) -> Value {
        let (value, weight) = weighed(btf, id, bytes);
        self.weight = self.weight.saturating_add(weight);
        value
    }
}

/// Bytes as JSON by their type; see the rules of this file.
#[must_use]
pub fn by_type(btf: &Btf, id: TypeId, bytes: &[u8]) -> Value {
    weighed(btf, id, bytes).0
}

fn weighed(btf: &Btf, id: TypeId, bytes: &[u8]) -> (Value, usize) {
    let digits_max = bytes.len().saturating_mul(2);
    let mut reader = Reader { btf, weight_left: TYPED_WEIGHT_MAX, digits_left: digits_max };
    let value = reader.value(id, bytes, 0);
    let value = value.unwrap_or_else(|| Value::String(to_hex(bytes)));
    (value, VALUE_WEIGHT + TYPED_WEIGHT_MAX - reader.weight_left + 2 * (digits_max - reader.digits_left))
}

struct Reader<'a> {
    btf: &'a Btf,
    weight_left: usize,
    /// Bytes that may be shown as digits yet: hostile members lie over each other.
    digits_left: usize,
}

impl Reader<'_> {
    fn claim(&mut self, weight: usize) -> Option<()> {
        self.weight_left = self.weight_left.checked_sub(weight)?;
        Some(())
    }

    /// What bytes mean, or their digits; `None` where too many were shown already.
    fn value(&mut self, id: TypeId, bytes: &[u8], depth: usize) -> Option<Value> {
        if let Some(value) = self.meaning(id, bytes, depth) {
            return Some(value);
        }
        self.digits_left = self.digits_left.checked_sub(bytes.len())?;
        Some(Value::String(to_hex(bytes)))
    }

    fn meaning(&mut self, id: TypeId, bytes: &[u8], depth: usize) -> Option<Value> {
        let btf = self.btf;
        let id = btf.resolve(id)?;
        let fits = |len: u32| (len as usize == bytes.len()).then_some(());
        match btf.kind(id) {
            Kind::Int { len, bits, encoding } => {
                fits(*len)?;
                let whole = number(bytes)?;
                let bit_count = u32::from(*bits);
                let bit_count = if (1..=8 * len).contains(&bit_count) { bit_count } else { 8 * len };
                integer(low_bits(whole, bit_count), bit_count, *encoding)
            }
            Kind::Ptr(_) => {
                fits(8)?;
                Some(hexadecimal(number(bytes)?))
            }
            Kind::Float(len) => {
                fits(*len)?;
                float(bytes)
            }
            Kind::Enum { len, is_signed, values } => {
                fits(*len)?;
                self.enumerator((*is_signed, values), number(bytes).filter(|_| *len <= 8)?, 8 * len)
            }
            Kind::Array { element, count } => self.array(*element, *count, bytes, depth),
            Kind::Struct { len, members } | Kind::Union { len, members } => {
                fits(*len)?;
                let mut shown = Map::new();
                self.members(members, bytes, depth, &mut shown)?;
                Some(Value::Object(shown))
            }
            Kind::DataSec { vars, .. } => self.variables(id, vars, bytes, depth),
            Kind::Void
            | Kind::Forward
            | Kind::Typedef(_)
            | Kind::Modifier(_)
            | Kind::Func(_)
            | Kind::FuncProto { .. }
            | Kind::Var(_)
            | Kind::DeclTag { .. } => None,
        }
    }

    fn array(&mut self, element: TypeId, count: u32, bytes: &[u8], depth: usize) -> Option<Value> {
        let (len, count) = (self.btf.len_of(element)? as usize, count as usize);
        if len.checked_mul(count) != Some(bytes.len()) || depth == TYPED_DEPTH_MAX {
            return None;
        }
        if let Some(text) = text(bytes).filter(|_| self.is_char(element)) {
            self.claim(text.len())?;
            return Some(Value::String(text.to_owned()));
        }
        self.claim(count.checked_mul(VALUE_WEIGHT)?)?;
        let each = (0..count).map(|index| self.value(element, &bytes[index * len..][..len], depth + 1));
        each.collect()
    }

    /// Whether a type is `char` itself: typedefs of it are numbers, as with bpftool. Clang says of it no more than its name.
    fn is_char(&self, id: TypeId) -> bool {
        let mut id = id;
        for _ in 0..TYPED_DEPTH_MAX {
            let Kind::Modifier(next) = self.btf.kind(id) else { break };
            id = *next;
        }
        let Kind::Int { len: 1, encoding, .. } = self.btf.kind(id) else { return false };
        let name = self.btf.get(id).and_then(|found| self.btf.short_text(found.name, SYMBOL_NAME_LEN_MAX));
        encoding & CHARACTER != 0 || name == Some("char")
    }

    /// Adds the members of a structure or union to `shown`.
    fn members(
        &mut self,
        members: &[Member],
        bytes: &[u8],
        depth: usize,
        shown: &mut Map<String, Value>,
    ) -> Option<()> {
        if depth == TYPED_DEPTH_MAX {
            return None;
        }
        self.claim(members.len().checked_mul(VALUE_WEIGHT)?)?;
        for member in members {
            let name = self.btf.short_text(member.name, SYMBOL_NAME_LEN_MAX)?;
            let id = self.btf.resolve(member.member_type)?;
            if let Some(bit_count) = self.bit_count(member, id) {
                // Without a name it is padding.
                if !name.is_empty() {
                    let value = self.bit_field(id, bytes, member.bit_offset, bit_count)?;
                    self.insert(shown, name, value)?;
                }
                continue;
            }
            let (start, len) = (member.bit_offset as usize / 8, self.btf.len_of(id)? as usize);
            let part = bytes.get(start..)?.get(..len)?;
            if !name.is_empty() {
                let value = self.value(id, part, depth + 1)?;
                self.insert(shown, name, value)?;
            } else if let Kind::Struct { members, .. } | Kind::Union { members, .. } = self.btf.kind(id) {
                self.members(members, part, depth + 1, shown)?;
            }
        }
        Some(())
    }

    fn insert(&mut self, shown: &mut Map<String, Value>, name: &str, value: Value) -> Option<()> {
        self.claim(name.len())?;
        shown.entry(name).or_insert(value);
        Some(())
    }

    /// Bits of a bit field; `None` for other members. Old compilers say them with the integer.
    fn bit_count(&self, member: &Member, id: TypeId) -> Option<u32> {
        if member.bit_len > 0 {
            return Some(member.bit_len);
        }
        let Kind::Int { len, bits, .. } = self.btf.kind(id) else { return None };
        let is_part = u32::from(*bits) < len.saturating_mul(8) && bits % 8 != 0;
        is_part.then_some((*bits).into())
    }

    fn bit_field(&mut self, id: TypeId, bytes: &[u8], bit_offset: u32, bit_count: u32) -> Option<Value> {
        let within = bit_offset % 8;
        let len = (within + bit_count).div_ceil(8) as usize;
        let part = bytes.get(bit_offset as usize / 8..)?.get(..len)?;
        let bits = low_bits(number(part)? >> within, bit_count);
        let btf = self.btf;
        if let Kind::Int { encoding, .. } = btf.kind(id) {
            return integer(bits, bit_count, *encoding);
        }
        let Kind::Enum { is_signed, values, .. } = btf.kind(id) else { return Some(hexadecimal(bits)) };
        self.enumerator((*is_signed, values), bits, bit_count.min(64))
    }

    fn enumerator(&mut self, (is_signed, values): (bool, &[EnumValue]), bits: u128, bit_count: u32) -> Option<Value> {
        self.claim(values.len() / VALUE_WEIGHT)?;
        let of_value = |value: &EnumValue| low_bits(u128::from(value.value.cast_unsigned()), bit_count);
        let Some(found) = values.iter().find(|value| of_value(value) == bits) else {
            // Not every compiler says the sign of 32 bits; bpftool takes them as signed.
            let is_signed = bit_count == 32 || is_signed;
            return integer(bits, bit_count, if is_signed { SIGNED } else { 0 });
        };
        let name = self.btf.short_text(found.name, SYMBOL_NAME_LEN_MAX)?;
        self.claim(name.len())?;
        Some(name.into())
    }

    fn variables(&mut self, id: TypeId, vars: &[SectionVar], bytes: &[u8], depth: usize) -> Option<Value> {
        if depth == TYPED_DEPTH_MAX {
            return None;
        }
        self.claim(vars.len().checked_mul(2 * VALUE_WEIGHT)?)?;
        let btf = self.btf;
        let name_of = |id| btf.short_text(btf.get(id)?.name, SYMBOL_NAME_LEN_MAX);
        let mut list = Vec::new();
        for var in vars {
            let name = name_of(var.var)?;
            self.claim(name.len())?;
            let part = bytes.get(var.offset as usize..)?.get(..var.len as usize)?;
            list.push(json!({ name: self.value(var.var, part, depth + 1)? }));
        }
        Some(json!({ name_of(id)?: list }))
    }
}

/// The little-endian number in at most 16 bytes.
fn number(bytes: &[u8]) -> Option<u128> {
    let mut whole = [0; 16];
    whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u128::from_le_bytes(whole))
}

fn low_bits(bits: u128, count: u32) -> u128 {
    bits & u128::MAX.checked_shr(128u32.saturating_sub(count)).unwrap_or(0)
}

fn hexadecimal(bits: u128) -> Value {
    Value::String(format!("{bits:#x}"))
}

fn integer(bits: u128, bit_count: u32, encoding: u8) -> Option<Value> {
    if encoding & BOOLEAN != 0 {
        return Some(Value::Bool(bits != 0));
    }
    if bit_count > 64 {
        return Some(hexadecimal(bits));
    }
    let bits = u64::try_from(bits).ok()?;
    if encoding & CHARACTER != 0
        && let (8, Ok(character)) = (bit_count, u8::try_from(bits))
    {
        return Some(char::from(character).to_string().into());
    }
    let unused = 64u32.checked_sub(bit_count).filter(|unused| *unused < 64)?;
    Some(if encoding & SIGNED != 0 { (bits.cast_signed() << unused >> unused).into() } else { bits.into() })
}

fn float(bytes: &[u8]) -> Option<Value> {
    let number = match *bytes {
        [a, b, c, d] => f64::from(f32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => return None,
    };
    Some(if number.is_finite() { number.into() } else { number.to_string().into() })
}

/// The printable characters up to a zero.
fn text(bytes: &[u8]) -> Option<&str> {
    let text = &bytes[..bytes.iter().position(|byte| *byte == 0)?];
    let is_printable = text.iter().all(|byte| (0x20..0x7f).contains(byte));
    std::str::from_utf8(text).ok().filter(|_| is_printable)
}
