//! BTF: the types that an object was built with.
//!
//! Source: `Documentation/bpf/btf.rst` and `include/uapi/linux/btf.h` of Linux.
//!
//! Invariant: memory is bounded by a multiple of the section's length; no walk along types follows more than
//! [`CHAIN_MAX`] links, so cycles end.

use super::Defect;
use super::file::text;
use crate::limits::{BTF_TYPES_MAX, MAPS_MAX, SYMBOL_NAME_LEN_MAX};

/// Most links that are followed from a type to what it means.
const CHAIN_MAX: usize = 64;
/// Deepest structure in a structure that is searched for a lock or timer; the kernel's `MAX_RESOLVE_DEPTH`.
const NESTING_MAX: usize = 32;
/// Most members that are looked at in such a search.
const MEMBERS_SEARCHED_MAX: u32 = 1 << 16;
/// Where the kernel's own magic number stands.
pub(super) const MAGIC: u16 = 0xeb9f;

/// Number of a type; 0 is `void`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub u32);

/// A member of a structure or union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where its name begins among the strings.
    pub name: u32,
    /// Its type.
    pub member_type: TypeId,
    /// Offset from the start of the structure, in bits.
    pub bit_offset: u32,
    /// Bits of a bit field; 0 for other members.
    pub bit_len: u32,
}

/// A variable in a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionVar {
    /// Its [`Kind::Var`].
    pub var: TypeId,
    /// Offset into the section; in an object, as its symbol table tells.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// A value of an enumeration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnumValue {
    /// Where its name begins among the strings.
    pub name: u32,
    /// The value, sign-extended where the enumeration is signed.
    pub value: i64,
}

/// What a type is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No value; also what number 0 is.
    Void,
    /// An integer of `len` bytes; `encoding`: 1 signed, 2 character, 4 boolean.
    Int {
        /// Bytes.
        len: u32,
        /// Bits that count.
        bits: u8,
        /// How to show it.
        encoding: u8,
    },
    /// A pointer.
    Ptr(TypeId),
    /// An array.
    Array {
        /// Type of an element.
        element: TypeId,
        /// Elements.
        count: u32,
    },
    /// A structure.
    Struct {
        /// Bytes.
        len: u32,
        /// In the order of the source.
        members: Vec<Member>,
    },
    /// A union.
    Union {
        /// Bytes.
        len: u32,
        /// In the order of the source.
        members: Vec<Member>,
    },
    /// An enumeration.
    Enum {
        /// Bytes.
        len: u32,
        /// Whether its values are said to be signed; not every compiler says it of 32 bits.
        is_signed: bool,
        /// In the order of the source.
        values: Vec<EnumValue>,
    },
    /// A structure or union that is only declared.
    Forward,
    /// Another name for a type.
    Typedef(TypeId),
    /// `const`, `volatile`, `restrict` or a type tag.
    Modifier(TypeId),
    /// A function, with its prototype.
    Func(TypeId),
    /// The prototype of a function.
    FuncProto {
        /// What it returns.
        returns: TypeId,
        /// What it takes.
        params: Vec<TypeId>,
    },
    /// A variable.
    Var(TypeId),
    /// The variables of a section.
    DataSec {
        /// Bytes.
        len: u32,
        /// Its variables.
        vars: Vec<SectionVar>,
    },
    /// A floating-point number of so many bytes.
    Float(u32),
    /// A note on a declaration; its name is the note.
    DeclTag {
        /// What it is on.
        target: TypeId,
        /// Which parameter or member, -1 for the whole.
        component: i32,
    },
}

/// A type with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// Where its name begins among the strings; 0 for none.
    pub name: u32,
    /// What it is.
    pub kind: Kind,
}

/// All types of an object.
#[derive(Clone, Debug)]
pub struct Btf {
    /// The first is number 1.
    types: Vec<Type>,
    strings: Vec<u8>,
    /// Those that describe sections.
    sections: Vec<TypeId>,
}

/// Reads little-endian words one after the other.
pub(super) struct Words<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl Words<'_> {
    pub(super) fn u32(&mut self) -> Option<u32> {
        let word = self.bytes.get(self.at..)?.first_chunk::<4>()?;
        self.at += 4;
        Some(u32::from_le_bytes(*word))
    }
}

impl Btf {
    /// Types that are not in a file; none of them describes a section.
    pub(super) fn of(types: Vec<Type>, strings: Vec<u8>) -> Self {
        Self { types, strings, sections: Vec::new() }
    }

    /// Reads the types of a section `.BTF`, or of the kernel's file of that form.
    ///
    /// # Errors
    /// [`Defect::Btf`] at the first byte that cannot be.
    pub fn read(bytes: &[u8]) -> Result<Self, Defect> {
        let wrong = |at, what| Defect::Btf { section: ".BTF", at, what };
        let magic = bytes.first_chunk::<2>().map(|magic| u16::from_le_bytes(*magic));
        if magic != Some(MAGIC) {
            return Err(wrong(0, "it does not begin as BTF does"));
        }
        let mut words = Words { bytes, at: 4 };
        let header: Option<[u32; 5]> =
            (|| Some([words.u32()?, words.u32()?, words.u32()?, words.u32()?, words.u32()?]))();
        let [header_len, type_offset, type_len, string_offset, string_len] =
            header.ok_or_else(|| wrong(0, "the header is cut off"))?;
        let part = |offset: u32, len: u32| {
            let start = (header_len as usize).checked_add(offset as usize)?;
            bytes.get(start..start.checked_add(len as usize)?).map(|part| (start, part))
        };
        let (start, type_bytes) =
            part(type_offset, type_len).ok_or_else(|| wrong(8, "the types lie outside the section"))?;
        let (_, strings) =
            part(string_offset, string_len).ok_or_else(|| wrong(16, "the strings lie outside the section"))?;
        let mut words = Words { bytes: type_bytes, at: 0 };
        let mut types = Vec::new();
        let mut sections = Vec::new();
        while words.at < type_bytes.len() {
            let at = start + words.at;
            let found = read_type(&mut words).ok_or_else(|| wrong(at, "a type is cut off or of an unknown kind"))?;
            if types.len() == BTF_TYPES_MAX as usize {
                return Err(wrong(at, "it has more types than an object may hold"));
            }
            if matches!(found.kind, Kind::DataSec { .. }) {
                if sections.len() == MAPS_MAX as usize {
                    return Err(wrong(at, "it has more sections of variables than a host has maps"));
                }
                sections.push(TypeId(u32::try_from(types.len()).expect("below the limit") + 1));
            }
            types.push(found);
        }
        Ok(Self { types, strings: strings.to_vec(), sections })
    }

    /// The type with this number; `None` for `void` and numbers that the object does not have.
    #[must_use]
    pub fn get(&self, id: TypeId) -> Option<&Type> {
        self.types.get((id.0 as usize).checked_sub(1)?)
    }

    /// What the type is, `void` where there is none.
    #[must_use]
    pub fn kind(&self, id: TypeId) -> &Kind {
        self.get(id).map_or(&Kind::Void, |found| &found.kind)
    }

    /// All types with their numbers.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, &Type)> {
        (1..).map(TypeId).zip(&self.types)
    }

    /// The text that begins at `offset` of the strings; empty where there is none.
    #[must_use]
    pub fn text(&self, offset: u32) -> &str {
        text(&self.strings, offset as usize).unwrap_or("")
    }

    /// The text at an offset of the strings where it has at most `len_max` bytes, found without reading past them; `None`
    /// where it is longer or no text.
    #[must_use]
    pub fn short_text(&self, offset: u32, len_max: usize) -> Option<&str> {
        let rest = self.strings.get(offset as usize..)?;
        let end = rest.iter().take(len_max + 1).position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }

    /// Whether the text that begins at `offset` of the strings is `expected`, found without reading past it.
    fn is_text(&self, offset: u32, expected: &str) -> bool {
        let rest = self.strings.get(offset as usize..).and_then(|rest| rest.strip_prefix(expected.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Whether the type has this name.
    fn is_named(&self, id: TypeId, expected: &str) -> bool {
        self.get(id).is_some_and(|found| self.is_text(found.name, expected))
    }

    /// Bytes of all its strings together.
    pub(super) fn strings_len(&self) -> usize {
        self.strings.len()
    }

    /// Name of a type; empty where it has none.
    #[must_use]
    pub fn name(&self, id: TypeId) -> &str {
        self.get(id).map_or("", |found| self.text(found.name))
    }

    /// The type behind typedefs, `const`, `volatile`, `restrict` and tags; `None` where that goes in a circle.
    #[must_use]
    pub fn resolve(&self, id: TypeId) -> Option<TypeId> {
        let mut id = id;
        for _ in 0..CHAIN_MAX {
            let (Kind::Typedef(next) | Kind::Modifier(next) | Kind::Var(next)) = self.kind(id) else {
                return Some(id);
            };
            id = *next;
        }
        None
    }

    /// Bytes that a value of the type takes; `None` for types without values, circles and more than 32 bits count.
    #[must_use]
    pub fn len_of(&self, id: TypeId) -> Option<u32> {
        let mut id = id;
        let mut times = 1u32;
        for _ in 0..CHAIN_MAX {
            id = self.resolve(id)?;
            let len = match self.kind(id) {
                Kind::Int { len, .. }
                | Kind::Struct { len, .. }
                | Kind::Union { len, .. }
                | Kind::Enum { len, .. }
                | Kind::DataSec { len, .. }
                | Kind::Float(len) => *len,
                Kind::Ptr(_) => 8,
                Kind::Array { element, count } => {
                    times = times.checked_mul(*count)?;
                    id = *element;
                    continue;
                }
                Kind::Void
                | Kind::Forward
                | Kind::Typedef(_)
                | Kind::Modifier(_)
                | Kind::Func(_)
                | Kind::FuncProto { .. }
                | Kind::Var(_)
                | Kind::DeclTag { .. } => return None,
            };
            return times.checked_mul(len);
        }
        None
    }

    /// Offset in bytes of the first member of a structure, or variable of a section, whose own type is the structure of this
    /// name, those of structures within included: what the kernel looks for in the values of maps (`btf_find_field` of
    /// `kernel/bpf/btf.c`).
    #[must_use]
    pub fn member_offset(&self, holder: TypeId, name: &str) -> Option<u32> {
        self.find_member(holder, name, 0, &mut { MEMBERS_SEARCHED_MAX })
    }

    /// `left` is how many members may be looked at yet: hostile types hold each other many times over.
    fn find_member(&self, holder: TypeId, name: &str, depth: usize, left: &mut u32) -> Option<u32> {
        let kind = self.kind(self.resolve(holder)?);
        let places: Vec<(TypeId, u32)> = if let Kind::Struct { members, .. } = kind {
            members.iter().map(|member| (member.member_type, member.bit_offset / 8)).collect()
        } else if let (Kind::DataSec { vars, .. }, 0) = (kind, depth) {
            vars.iter().map(|var| (var.var, var.offset)).collect()
        } else {
            return None;
        };
        places.into_iter().find_map(|(id, offset)| {
            *left = left.checked_sub(1)?;
            let id = self.resolve(id)?;
            let Kind::Struct { .. } = self.kind(id) else { return None };
            if self.is_named(id, name) {
                return Some(offset);
            }
            if depth == NESTING_MAX {
                return None;
            }
            offset.checked_add(self.find_member(id, name, depth + 1, left)?)
        })
    }

    /// The type as C writes it, without qualifiers; a pointer to an array or function is shown as one to its last part.
    #[must_use]
    pub fn type_text(&self, id: TypeId) -> String {
        let (mut id, mut stars, mut counts) = (id, String::new(), String::new());
        let mut word = "";
        for _ in 0..CHAIN_MAX {
            match self.kind(id) {
                Kind::Var(next) | Kind::Modifier(next) => id = *next,
                Kind::Ptr(next) => {
                    stars.push('*');
                    id = *next;
                }
                Kind::Array { element, count } => {
                    counts.push_str(&format!("[{count}]"));
                    id = *element;
                }
                Kind::Struct { .. } | Kind::Forward => {
                    word = "struct";
                    break;
                }
                Kind::Union { .. } => {
                    word = "union";
                    break;
                }
                Kind::Enum { .. } => {
                    word = "enum";
                    break;
                }
                Kind::Func(_) | Kind::FuncProto { .. } => {
                    word = "function";
                    break;
                }
                Kind::Void => {
                    word = "void";
                    break;
                }
                Kind::Int { .. } | Kind::Typedef(_) | Kind::DataSec { .. } | Kind::Float(_) | Kind::DeclTag { .. } => {
                    break;
                }
            }
        }
        let parts = [word, self.name(id), &stars];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ") + &counts
    }

    /// Says where variables lie in their sections. `offset_of` gets these types, the name of the section, that of the variable
    /// and what the types say of it; what it does not know stays as it is, and so does what has too long a name.
    pub(super) fn place_vars(&mut self, mut offset_of: impl FnMut(&Self, &str, &str, &SectionVar) -> Option<u32>) {
        for id in self.sections.clone() {
            let index = id.0 as usize - 1;
            let Kind::DataSec { vars, .. } = &mut self.types[index].kind else { continue };
            let mut placed = std::mem::take(vars);
            let own = &*self;
            if let Some(section) = own.short_text(own.types[index].name, SYMBOL_NAME_LEN_MAX) {
                for var in &mut placed {
                    let name = own.get(var.var).and_then(|found| own.short_text(found.name, SYMBOL_NAME_LEN_MAX));
                    let offset = name.and_then(|name| offset_of(own, section, name, var));
                    var.offset = offset.unwrap_or(var.offset);
                }
            }
            let Kind::DataSec { vars, .. } = &mut self.types[index].kind else { continue };
            *vars = placed;
        }
    }

    /// The variables of a section.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<(TypeId, &[SectionVar])> {
        let id = *self.sections.iter().find(|id| self.is_named(**id, name))?;
        let Kind::DataSec { vars, .. } = self.kind(id) else { return None };
        Some((id, vars))
    }
}

fn read_type(words: &mut Words<'_>) -> Option<Type> {
    let name = words.u32()?;
    let info = words.u32()?;
    let last = words.u32()?;
    let count = info & 0xffff;
    let flag = info >> 31 == 1;
    let kind = match (info >> 24) & 0x1f {
        1 => {
            let word = words.u32()?;
            let [bits, _, _, encoding] = word.to_le_bytes();
            Kind::Int { len: last, bits, encoding: encoding & 0xf }
        }
        2 => Kind::Ptr(TypeId(last)),
        3 => {
            let element = TypeId(words.u32()?);
            words.u32()?;
            Kind::Array { element, count: words.u32()? }
        }
        4 => Kind::Struct { len: last, members: read_members(words, count, flag)? },
        5 => Kind::Union { len: last, members: read_members(words, count, flag)? },
        6 => {
            let value = |words: &mut Words<'_>| {
                let name = words.u32()?;
                let value = words.u32()?;
                Some(EnumValue { name, value: if flag { value.cast_signed().into() } else { value.into() } })
            };
            Kind::Enum { len: last, is_signed: flag, values: (0..count).map(|_| value(words)).collect::<Option<_>>()? }
        }
        7 => Kind::Forward,
        8 => Kind::Typedef(TypeId(last)),
        9 | 10 | 11 | 18 => Kind::Modifier(TypeId(last)),
        12 => Kind::Func(TypeId(last)),
        13 => {
            let param = |words: &mut Words<'_>| {
                words.u32()?;
                words.u32().map(TypeId)
            };
            Kind::FuncProto { returns: TypeId(last), params: (0..count).map(|_| param(words)).collect::<Option<_>>()? }
        }
        14 => {
            words.u32()?;
            Kind::Var(TypeId(last))
        }
        15 => {
            let var = |words: &mut Words<'_>| {
                Some(SectionVar { var: TypeId(words.u32()?), offset: words.u32()?, len: words.u32()? })
            };
            Kind::DataSec { len: last, vars: (0..count).map(|_| var(words)).collect::<Option<_>>()? }
        }
        16 => Kind::Float(last),
        17 => Kind::DeclTag { target: TypeId(last), component: words.u32()?.cast_signed() },
        19 => {
            let value = |words: &mut Words<'_>| {
                let name = words.u32()?;
                let [low, high] = [words.u32()?, words.u32()?];
                Some(EnumValue { name, value: (u64::from(high) << 32 | u64::from(low)).cast_signed() })
            };
            Kind::Enum { len: last, is_signed: flag, values: (0..count).map(|_| value(words)).collect::<Option<_>>()? }
        }
        _ => return None,
    };
    Some(Type { name, kind })
}

fn read_members(words: &mut Words<'_>, count: u32, bit_fields: bool) -> Option<Vec<Member>> {
    let member = |words: &mut Words<'_>| {
        let name = words.u32()?;
        let member_type = TypeId(words.u32()?);
        let offset = words.u32()?;
        let [bit_offset, bit_len] = if bit_fields { [offset & 0x00ff_ffff, offset >> 24] } else { [offset, 0] };
        Some(Member { name, member_type, bit_offset, bit_len })
    };
    (0..count).map(|_| member(words)).collect()
}
