//! Symbols that an object declares and leaves to the kernel to define.
//!
//! Source: libbpf's `bpf_object__collect_externs`.
//!
//! Invariant: each name is read once, so that a reference costs the same however many variables there are.

use std::collections::HashMap;

use super::btf::Btf;

/// Who is to define a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExternKind {
    /// The kernel's configuration (`__kconfig`).
    Configuration,
    /// The kernel itself (`__ksym`).
    Kernel,
}

/// Sections of such symbols in the types.
const SECTIONS: [(&str, ExternKind); 2] = [(".kconfig", ExternKind::Configuration), (".ksyms", ExternKind::Kernel)];

/// All such symbols of an object.
#[derive(Debug)]
pub(super) struct Externs<'a> {
    by_name: HashMap<&'a str, ExternKind>,
}

impl<'a> Externs<'a> {
    pub(super) fn read(btf: Option<&'a Btf>) -> Self {
        let mut by_name = HashMap::new();
        for (section, kind) in SECTIONS {
            let Some((btf, (_, vars))) = btf.and_then(|btf| Some((btf, btf.section(section)?))) else { continue };
            for var in vars {
                by_name.entry(btf.name(var.var)).or_insert(kind);
            }
        }
        Self { by_name }
    }

    pub(super) fn kind(&self, name: &str) -> Option<ExternKind> {
        self.by_name.get(name).copied()
    }
}
