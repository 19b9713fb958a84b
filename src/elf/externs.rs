//! Symbols that an object declares and leaves to the kernel to define: its configuration, its functions and variables.
//!
//! The configuration is a map with one value that programs may only read, filled from what is said outside, else from
//! what kumite says of itself; what nobody says is zero for weak symbols, and refused for others where it is used.
//!
//! Source: libbpf's `bpf_object__collect_externs` and `set_kcfg_value_*`.
//!
//! Invariant: each name is read once, so that a reference costs the same however many variables there are.

use std::collections::HashMap;

use super::Defect;
use super::Settings;
use super::btf::{Btf, Kind, TypeId};
use super::map::{ObjectMap, PlacedMap};
use super::value;
use super::variables::READ_ONLY_FOR_PROGRAMS;
use crate::limits::CONFIGURATION_LEN_MAX;
use crate::maps::{MapDef, MapKind};

/// Section of the configuration in the types.
const CONFIGURATION: &str = ".kconfig";
/// Section of the kernel's functions and variables in the types.
const KERNEL: &str = ".ksyms";
/// Stands for the section of the configuration, which is none of the file's.
pub(super) const NO_SECTION: usize = usize::MAX;

/// What kumite says of itself: it answers as Linux 6.18 on x86-64 does.
const OURS: [(&str, &str); 14] = [
    ("LINUX_KERNEL_VERSION", "0x61200"),
    ("LINUX_HAS_BPF_COOKIE", "1"),
    ("LINUX_HAS_SYSCALL_WRAPPER", "1"),
    // What `bpf_jiffies64` counts by.
    ("CONFIG_HZ", "250"),
    ("CONFIG_64BIT", "y"),
    ("CONFIG_X86_64", "y"),
    ("CONFIG_BPF", "y"),
    ("CONFIG_BPF_SYSCALL", "y"),
    ("CONFIG_BPF_JIT", "y"),
    ("CONFIG_NET", "y"),
    ("CONFIG_INET", "y"),
    ("CONFIG_IPV6", "y"),
    ("CONFIG_XDP_SOCKETS", "y"),
    ("CONFIG_DEBUG_INFO_BTF", "y"),
];

/// Who is to define a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extern {
    /// The configuration: the offset of its value, and whether anybody says it.
    Configuration {
        /// Offset into the map's value.
        offset: u32,
        /// Whether a value was found.
        is_said: bool,
    },
    /// A function of the kernel.
    Function,
    /// A variable of the kernel.
    Variable,
}

/// All such symbols of an object.
#[derive(Debug)]
pub(super) struct Externs<'a> {
    by_name: HashMap<&'a str, Extern>,
    /// The value of the configuration's map.
    contents: Vec<u8>,
    section_type: Option<TypeId>,
}

/// Puts the variables of the configuration where its map has them.
pub(super) fn place(btf: &mut Btf) {
    let mut end = 0;
    btf.place_vars(|btf, section, _, var| {
        let len = btf.len_of(var.var).filter(|_| section == CONFIGURATION)? as usize;
        let start = start_behind(end);
        end = start.saturating_add(len);
        u32::try_from(start).ok()
    });
}

/// Where the variable behind one that ends there begins.
fn start_behind(end: usize) -> usize {
    end.next_multiple_of(8)
}

impl<'a> Externs<'a> {
    pub(super) fn read(btf: Option<&'a Btf>, settings: &Settings) -> Result<Self, Defect> {
        let mut externs = Self { by_name: HashMap::new(), contents: Vec::new(), section_type: None };
        let Some(btf) = btf else { return Ok(externs) };
        if let Some((id, vars)) = btf.section(CONFIGURATION) {
            externs.section_type = Some(id);
            for var in vars {
                externs.add(btf, btf.name(var.var), var.var, settings)?;
            }
        }
        for var in btf.section(KERNEL).map_or(&[][..], |(_, vars)| vars) {
            let is_function = matches!(btf.kind(var.var), Kind::Func(_));
            let found = if is_function { Extern::Function } else { Extern::Variable };
            externs.by_name.entry(btf.name(var.var)).or_insert(found);
        }
        Ok(externs)
    }

    /// Makes room for a variable of the configuration, and fills it.
    fn add(&mut self, btf: &Btf, name: &'a str, id: TypeId, settings: &Settings) -> Result<(), Defect> {
        let wrong = |what| Defect::Configuration { name: name.to_owned(), what };
        let len = btf.len_of(id).ok_or_else(|| wrong("its type has no length"))? as usize;
        let start = start_behind(self.contents.len());
        let end = start.checked_add(len).filter(|end| *end <= CONFIGURATION_LEN_MAX);
        self.contents.resize(end.ok_or_else(|| wrong("the variables before it are too long"))?, 0);
        let said = settings.configuration.iter().rfind(|(said, _)| said == name).map(|(_, value)| value.as_str());
        let said = said.or_else(|| OURS.iter().find(|(ours, _)| *ours == name).map(|(_, value)| *value));
        if let Some(text) = said {
            let kind = btf.resolve(id).map_or(&Kind::Void, |id| btf.kind(id));
            value::write(Some(kind), text, &mut self.contents[start..])
                .ok_or_else(|| wrong("its value does not fit its type"))?;
        }
        let offset = u32::try_from(start).expect("below the limit");
        self.by_name.entry(name).or_insert(Extern::Configuration { offset, is_said: said.is_some() });
        Ok(())
    }

    pub(super) fn find(&self, name: &str) -> Option<Extern> {
        self.by_name.get(name).copied()
    }

    /// The map of the configuration, where the object has one.
    pub(super) fn map(&self) -> Option<PlacedMap> {
        if self.contents.is_empty() {
            return None;
        }
        let def = MapDef {
            name: CONFIGURATION.to_owned(),
            kind: MapKind::ARRAY,
            key_len: 4,
            value_len: u32::try_from(self.contents.len()).expect("below the limit"),
            max_entries: 1,
            flags: READ_ONLY_FOR_PROGRAMS,
            ..MapDef::default()
        };
        let contents = self.contents.clone();
        let map = ObjectMap { contents, frozen: true, value_type: self.section_type, ..ObjectMap::new(def) };
        Some(PlacedMap { section: NO_SECTION, offset: None, id: None, map })
    }
}
