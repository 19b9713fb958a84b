//! The embedded types: a small notation, read into BTF at first use.
//!
//! The text is our own and part of the program, so a mistake in it is a broken invariant and no error.

use std::collections::HashMap;
use std::str::SplitWhitespace;

use crate::elf::btf::{Btf, EnumValue, Kind, Member, Type, TypeId};

/// Integers by name: bytes, and 1 where they are signed.
const INTEGERS: [(&str, u32, u8); 15] = [
    ("int", 4, 1),
    ("unsigned-char", 1, 0),
    ("__s8", 1, 1),
    ("__s16", 2, 1),
    ("__s32", 4, 1),
    ("__s64", 8, 1),
    ("__u8", 1, 0),
    ("__u16", 2, 0),
    ("__u32", 4, 0),
    ("__u64", 8, 0),
    ("__be16", 2, 0),
    ("__be32", 4, 0),
    ("__be64", 8, 0),
    ("__sum16", 2, 0),
    ("__wsum", 4, 0),
];

struct Reader<'a> {
    words: SplitWhitespace<'a>,
    types: Vec<Type>,
    strings: Vec<u8>,
    known: HashMap<&'a str, TypeId>,
}

/// Reads types.
///
/// # Panics
/// If the text is not in the notation.
pub(super) fn read(text: &str) -> Btf {
    let lines = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(" ");
    let mut reader =
        Reader { words: lines.split_whitespace(), types: Vec::new(), strings: vec![0], known: HashMap::new() };
    reader.integers();
    while let Some(word) = reader.words.next() {
        let name = reader.word();
        let id = reader.named(name);
        let kind = if word == "enum" { reader.enumeration() } else { reader.composite(word) };
        let place = id.0 as usize - 1;
        reader.types[place].kind = kind;
    }
    Btf::of(reader.types, reader.strings)
}

impl<'a> Reader<'a> {
    fn word(&mut self) -> &'a str {
        self.words.next().expect("the notation has a word here")
    }

    fn number(word: &str) -> u32 {
        word.parse().unwrap_or_else(|_| panic!("the notation has a number here, not {word}"))
    }

    fn string(&mut self, text: &str) -> u32 {
        let at = u32::try_from(self.strings.len()).expect("a short text");
        self.strings.extend(text.bytes().chain([0]));
        at
    }

    fn add(&mut self, name: &str, kind: Kind) -> TypeId {
        let name = if name.is_empty() { 0 } else { self.string(name) };
        self.types.push(Type { name, kind });
        TypeId(u32::try_from(self.types.len()).expect("a short text"))
    }

    /// Each name that begins with underscores is a typedef of a nameless integer, as in the headers.
    fn integers(&mut self) {
        for (name, len, encoding) in INTEGERS {
            let bits = u8::try_from(len * 8).expect("at most 64");
            let integer = Kind::Int { len, bits, encoding };
            let id = if name.starts_with('_') {
                let integer = self.add("", integer);
                self.add(name, Kind::Typedef(integer))
            } else {
                self.add(&name.replace('-', " "), integer)
            };
            self.known.insert(name, id);
        }
    }

    /// The type with this name, which the text may describe later.
    fn named(&mut self, name: &'a str) -> TypeId {
        if let Some(id) = self.known.get(name) {
            return *id;
        }
        let id = self.add(name, Kind::Forward);
        self.known.insert(name, id);
        id
    }

    fn enumeration(&mut self) -> Kind {
        let len = Self::number(self.word());
        assert_eq!(self.word(), "{", "an enumeration has values");
        let (mut values, mut next, mut prefix) = (Vec::new(), 0, "");
        loop {
            let word = self.word();
            if word == "}" {
                let is_signed = values.iter().any(|value: &EnumValue| value.value < 0);
                return Kind::Enum { len, is_signed, values };
            }
            if let Some(found) = word.strip_prefix('+') {
                prefix = found;
                continue;
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, value.parse().expect("a value is a number")),
                None => (word, next),
            };
            next = value + 1;
            values.push(EnumValue { name: self.string(&format!("{prefix}{name}")), value });
        }
    }

    fn composite(&mut self, word: &str) -> Kind {
        let len = Self::number(self.word());
        assert_eq!(self.word(), "{", "a structure has members");
        let mut members = Vec::new();
        loop {
            let name = self.word();
            if name == "}" {
                break;
            }
            let name = if name == "_" { 0 } else { self.string(name) };
            let place = self.word();
            let (bit_offset, bit_len) = place.split_once(':').unwrap_or((place, "0"));
            let (bit_offset, bit_len) = (Self::number(bit_offset), Self::number(bit_len));
            members.push(Member { name, member_type: self.member_type(), bit_offset, bit_len });
        }
        match word {
            "struct" => Kind::Struct { len, members },
            "union" => Kind::Union { len, members },
            _ => panic!("the notation has no {word}"),
        }
    }

    fn member_type(&mut self) -> TypeId {
        let word = self.word();
        let (base, count) = match word {
            "struct" | "union" | "enum" => {
                let mut ahead = self.words.clone();
                let next = ahead.next().expect("a structure has a name or a length");
                if next.starts_with(|first: char| first.is_ascii_digit()) {
                    let kind = self.composite(word);
                    return self.add("", kind);
                }
                let (name, count) = array(self.word());
                (self.named(name), count)
            }
            "*" => (self.add("", Kind::Ptr(TypeId(0))), None),
            word => {
                let (name, count) = array(word);
                let id = self.known.get(name).copied();
                (id.unwrap_or_else(|| panic!("the notation has no integer {name}")), count)
            }
        };
        match count {
            Some(count) => self.add("", Kind::Array { element: base, count }),
            None => base,
        }
    }
}

/// `name[count]` in its parts.
fn array(word: &str) -> (&str, Option<u32>) {
    match word.split_once('[') {
        Some((name, count)) => (name, Some(Reader::number(count.trim_end_matches(']')))),
        None => (word, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_notation_is_read() {
        let btf = read(
            "# nothing\nstruct a 8 { x 0:3 __u8 y 8 __u16[2] _ 32 union 4 { z 0 * b 0 struct b } }\nenum e 4 { p +Q_ r=7 s }",
        );
        let find = |name: &str| btf.types().find(|(id, _)| btf.name(*id) == name).expect(name).1;
        let Kind::Struct { len: 8, members } = &find("a").kind else { panic!("{:?}", find("a")) };
        let names: Vec<_> =
            members.iter().map(|member| (btf.text(member.name), member.bit_offset, member.bit_len)).collect();
        assert_eq!(names, [("x", 0, 3), ("y", 8, 0), ("", 32, 0)]);
        assert_eq!(btf.len_of(members[1].member_type), Some(4));
        assert_eq!(find("b").kind, Kind::Forward);
        let Kind::Enum { values, .. } = &find("e").kind else { panic!("{:?}", find("e")) };
        let values: Vec<_> = values.iter().map(|value| (btf.text(value.name), value.value)).collect();
        assert_eq!(values, [("p", 0), ("Q_r", 7), ("Q_s", 8)]);
    }
}
