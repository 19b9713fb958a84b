//! The least BTF that bpf(2) asks for: names and shapes of functions that helpers call back, and of map values that hold a
//! lock or a timer.
//!
//! Source: `Documentation/bpf/btf.rst`. Invariant: every type names only types before it.

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: u32 = 24;
const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;

/// A collection of types under construction.
#[derive(Debug)]
pub(super) struct Types {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

/// Number of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TypeId(pub(super) u32);

/// `unsigned int`, the first type of every collection.
const UNSIGNED: TypeId = TypeId(1);
/// A function without parameters that returns it, the second.
const PROTOTYPE: TypeId = TypeId(2);

impl Types {
    pub(super) fn new() -> Self {
        let mut types = Self { types: Vec::new(), strings: vec![0], count: 0 };
        let name = types.name("unsigned int");
        types.add(name, KIND_INT << 24, 4, &[32]);
        types.add(0, KIND_FUNC_PROTO << 24, UNSIGNED.0, &[]);
        types
    }

    fn name(&mut self, name: &str) -> u32 {
        let at = u32::try_from(self.strings.len()).expect("names of one object");
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    /// Adds `struct btf_type` and what follows it.
    fn add(&mut self, name: u32, info: u32, size_or_type: u32, rest: &[u32]) -> TypeId {
        for word in [name, info, size_or_type].iter().chain(rest) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
        self.count += 1;
        TypeId(self.count)
    }

    /// A static function. What it takes is not said: the kernel asks only that it has a name.
    pub(super) fn function(&mut self, name: &str) -> TypeId {
        let spelled: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let name = self.name(&spelled);
        self.add(name, KIND_FUNC << 24, PROTOTYPE.0, &[])
    }

    /// So many bytes of no meaning.
    pub(super) fn bytes(&mut self, len: u32) -> TypeId {
        let name = self.name("unsigned char");
        let byte = self.add(name, KIND_INT << 24, 1, &[8]);
        self.add(0, KIND_ARRAY << 24, 0, &[byte.0, UNSIGNED.0, len])
    }

    /// A key of so many bytes; the kernel wants that of an array to be a number.
    pub(super) fn key(&mut self, len: u32) -> TypeId {
        if len == 4 { UNSIGNED } else { self.bytes(len) }
    }

    /// A structure of `len` bytes with these members at byte offsets.
    pub(super) fn structure(&mut self, name: &str, len: u32, members: &[(&str, TypeId, u32)]) -> TypeId {
        let fields: Vec<u32> =
            members.iter().flat_map(|(name, ty, offset)| [self.name(name), ty.0, offset * 8]).collect();
        let name = self.name(name);
        let count = u32::try_from(members.len()).expect("few");
        self.add(name, KIND_STRUCT << 24 | count, len, &fields)
    }

    /// `struct bpf_spin_lock`.
    pub(super) fn lock(&mut self) -> TypeId {
        self.structure("bpf_spin_lock", 4, &[("val", UNSIGNED, 0)])
    }

    /// `struct bpf_timer`.
    pub(super) fn timer(&mut self) -> TypeId {
        let opaque = self.bytes(16);
        self.structure("bpf_timer", 16, &[("__opaque", opaque, 0)])
    }

    /// The bytes that `BPF_BTF_LOAD` takes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let types_len = u32::try_from(self.types.len()).expect("types of one object");
        let strings_len = u32::try_from(self.strings.len()).expect("names of one object");
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        bytes.extend_from_slice(&[1, 0]);
        for word in [HEADER_LEN, 0, types_len, types_len, strings_len] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&self.types);
        bytes.extend_from_slice(&self.strings);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::btf::Btf;

    #[test]
    fn what_is_encoded_reads_back() {
        let mut types = Types::new();
        assert_eq!(types.function("call.me"), TypeId(3));
        let lock = types.lock();
        types.structure("value", 16, &[("lock", lock, 4)]);
        Btf::read(&types.encode()).expect("well-formed types");
    }
}
