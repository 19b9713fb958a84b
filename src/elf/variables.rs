//! Global variables: each section of them is an array map with one value.
//!
//! Source: libbpf's `bpf_object__init_internal_map`.

use std::collections::HashMap;

use super::btf::{Btf, Kind};
use super::file::{ElfFile, Home, Section, SymbolKind};
use super::map::{ObjectMap, PlacedMap};
use super::{Defect, Object};
use crate::limits::{MAP_BYTES_MAX, MAPS_MAX};
use crate::maps::{MapDef, MapKind};

/// `BPF_F_RDONLY_PROG`: programs may only read the values.
pub(super) const READ_ONLY_FOR_PROGRAMS: u32 = 1 << 7;

/// A global variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its type as C writes it.
    pub type_text: String,
    /// Its bytes.
    pub len: u32,
}

impl Object {
    /// The variables behind one of its maps, in the order of the types; none where it was built without them.
    #[must_use]
    pub fn variables(&self, map: &ObjectMap) -> Vec<Variable> {
        let found = self.btf.as_ref().and_then(|btf| Some((btf, map.value_type?)));
        let Some((btf, Kind::DataSec { vars, .. })) = found.map(|(btf, id)| (btf, btf.kind(id))) else {
            return Vec::new();
        };
        let variable = |var: &super::btf::SectionVar| Variable {
            name: btf.name(var.var).to_owned(),
            type_text: btf.type_text(var.var),
            len: var.len,
        };
        vars.iter().map(variable).collect()
    }
}

/// Puts variables where the symbol table has them: compilers leave the types without the places of those that other files
/// may refer to (libbpf's `btf_fixup_datasec`).
pub(super) fn place(file: &ElfFile<'_>, btf: &mut Btf) {
    let mut places = HashMap::<(&str, &str), u32>::new();
    for symbol in &file.symbols {
        if let (Home::Section(section), SymbolKind::Variable) = (symbol.home, symbol.kind)
            && let Some(section) = file.sections.get(section)
            && let Ok(offset) = u32::try_from(symbol.value)
        {
            places.entry((section.name, symbol.name)).or_insert(offset);
        }
    }
    btf.place_vars(|_, section, var, _| places.get(&(section, var)).copied());
}

/// The maps behind `.data*`, `.bss*` and `.rodata*`.
pub(super) fn maps(file: &ElfFile<'_>, btf: Option<&Btf>) -> Result<Vec<PlacedMap>, Defect> {
    let mut found = Vec::new();
    for (index, section) in file.sections.iter().enumerate() {
        if section.len == 0 || !section.is_variables() {
            continue;
        }
        let frozen = is_named(section, ".rodata");
        if !frozen && !is_named(section, ".data") && !is_named(section, ".bss") {
            continue;
        }
        if found.len() == MAPS_MAX as usize {
            return Err(Defect::TooMany { what: "maps", count: found.len() + 1, max: found.len() });
        }
        found.push(PlacedMap { section: index, offset: None, id: None, map: map(section, frozen, btf)? });
    }
    Ok(found)
}

fn is_named(section: &Section<'_>, word: &str) -> bool {
    section.name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn map(section: &Section<'_>, frozen: bool, btf: Option<&Btf>) -> Result<ObjectMap, Defect> {
    let too_long =
        || Defect::Section { section: section.name.to_owned(), what: "its variables are too long for a map" };
    let value_len = u32::try_from(section.len).map_err(|_| too_long())?;
    if section.len > MAP_BYTES_MAX {
        return Err(too_long());
    }
    let def = MapDef {
        name: section.name.to_owned(),
        kind: MapKind::ARRAY,
        key_len: 4,
        value_len,
        max_entries: 1,
        flags: if frozen { READ_ONLY_FOR_PROGRAMS } else { 0 },
        ..MapDef::default()
    };
    let value_type = btf.and_then(|btf| btf.section(section.name)).map(|(id, _)| id);
    let lock_offset = btf.zip(value_type).and_then(|(btf, id)| btf.member_offset(id, "bpf_spin_lock"));
    // The kernel refuses locks in memory that programs may only read; there they are variables like others.
    let def = MapDef { lock_offset: lock_offset.filter(|_| !frozen), ..def };
    let contents = if section.is_zero() { Vec::new() } else { section.bytes.to_vec() };
    Ok(ObjectMap { contents, frozen, value_type, ..ObjectMap::new(def) })
}
