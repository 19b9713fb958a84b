//! Types that relocations are resolved against, found by name.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::notation;
use crate::elf::ObjectError;
use crate::elf::btf::{Btf, Kind, TypeId};

/// The types of a kernel, or those that kumite brings along.
#[derive(Debug)]
pub struct Types {
    btf: Btf,
    by_name: HashMap<Box<str>, Vec<TypeId>>,
}

impl Types {
    /// Reads a file of types, such as `/sys/kernel/btf/vmlinux`. `name` is how messages call it.
    ///
    /// # Errors
    /// [`ObjectError`] where it is not BTF.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self, ObjectError> {
        Btf::read(bytes).map(Self::of).map_err(|defect| defect.in_file(name))
    }

    /// The types that kumite brings along: headers of packets and what the UAPI headers say of network programs.
    #[must_use]
    pub fn embedded() -> &'static Self {
        static EMBEDDED: LazyLock<Types> = LazyLock::new(|| Types::of(notation::read(include_str!("uapi.types"))));
        &EMBEDDED
    }

    fn of(btf: Btf) -> Self {
        let mut by_name = HashMap::<Box<str>, Vec<TypeId>>::new();
        for (id, found) in btf.types() {
            let name = essential(btf.text(found.name));
            if !name.is_empty() && !matches!(found.kind, Kind::DataSec { .. } | Kind::Var(_) | Kind::DeclTag { .. }) {
                by_name.entry(name.into()).or_default().push(id);
            }
        }
        Self { btf, by_name }
    }

    /// The types themselves.
    #[must_use]
    pub fn btf(&self) -> &Btf {
        &self.btf
    }

    /// Types with this name, flavours aside.
    #[must_use]
    pub fn named(&self, name: &str) -> &[TypeId] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }
}

/// A name without its flavour: `task_struct___old` is another view of `task_struct`.
pub(super) fn essential(name: &str) -> &str {
    match name.rfind("___") {
        Some(at) if at > 0 && at + 3 < name.len() && !name[..at].ends_with('_') => &name[..at],
        Some(_) | None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flavour_is_no_part_of_a_name() {
        for (name, expected) in [
            ("iphdr", "iphdr"),
            ("iphdr___old", "iphdr"),
            ("a___b___c", "a___b"),
            ("___x", "___x"),
            ("x___", "x___"),
            ("__sk_buff", "__sk_buff"),
        ] {
            assert_eq!(essential(name), expected);
        }
    }

    #[test]
    fn the_embedded_types_are_there_and_complete() {
        let types = Types::embedded();
        let len = |name: &str| types.named(name).first().and_then(|id| types.btf().len_of(*id));
        for (name, bytes) in [("iphdr", 20), ("ipv6hdr", 40), ("tcphdr", 20), ("__sk_buff", 192), ("bpf_func_id", 4)] {
            assert_eq!(len(name), Some(bytes), "{name}");
        }
        let forward = types.btf().types().find(|(_, found)| found.kind == Kind::Forward);
        assert_eq!(forward, None, "a type that is named and not described");
    }
}
