//! What is said of maps and constants from outside, put into an object that was read.
//!
//! Source: what libbpf's skeletons, `bpf_map__set_max_entries` and cilium/ebpf's `Variables` let a loader do.

use super::btf::{Btf, Kind, TypeId};
use super::file::{ElfFile, Home, SymbolKind};
use super::map::ObjectMap;
use super::text::MapPlaces;
use super::{Defect, Settings, value};

/// Gives maps the sizes that were said.
pub(super) fn size_maps(maps: &mut [ObjectMap], refused: &[ObjectMap], settings: &Settings) -> Result<(), Defect> {
    for (name, size) in &settings.map_sizes {
        match maps.iter_mut().find(|map| map.def.name == *name) {
            Some(map) => map.def.max_entries = *size,
            // What is not made needs no size.
            None if refused.iter().any(|map| map.def.name == *name) => {}
            None => return Err(Defect::NoSuchMap { map: name.clone() }),
        }
    }
    Ok(())
}

/// Gives variables the values that were said.
pub(super) fn set(
    file: &ElfFile<'_>,
    btf: Option<&Btf>,
    places: &MapPlaces,
    maps: &mut [ObjectMap],
    settings: &Settings,
) -> Result<(), Defect> {
    for (name, text) in &settings.constants {
        let wrong = |what: &str| Defect::Constant { name: name.clone(), value: text.clone(), what: what.to_owned() };
        let found = file.symbols.iter().find_map(|symbol| {
            let Home::Section(section) = symbol.home else { return None };
            let is_variable = symbol.kind == SymbolKind::Variable && symbol.name == name;
            Some((symbol, *places.variables.get(&section).filter(|_| is_variable)?))
        });
        let (symbol, map) = found.ok_or_else(|| wrong("the object has no such variable"))?;
        let map = &mut maps[map as usize];
        let len = map.def.value_len as usize;
        let start = usize::try_from(symbol.value).ok().filter(|start| *start <= len);
        let start = start.ok_or_else(|| wrong("the variable is not in its section"))?;
        let end = usize::try_from(symbol.len).ok().and_then(|len| start.checked_add(len)).filter(|end| *end <= len);
        let end = end.ok_or_else(|| wrong("the variable is not in its section"))?;
        // What is all zero at first is not held.
        map.contents.resize(len, 0);
        let known = btf.and_then(|btf| Some((btf, type_of(btf, map, name)?)));
        let kind = known.and_then(|(btf, id)| Some(btf.kind(btf.resolve(id)?)));
        value::write(kind, text, &mut map.contents[start..end]).ok_or_else(|| {
            let len = if end - start == 1 { "1 byte".to_owned() } else { format!("{} bytes", end - start) };
            let type_text = known.map(|(btf, id)| format!("{}, ", btf.type_text(id))).unwrap_or_default();
            wrong(&format!("it does not fit the variable's type ({type_text}{len})"))
        })?;
    }
    Ok(())
}

/// The type of a variable.
fn type_of(btf: &Btf, map: &ObjectMap, name: &str) -> Option<TypeId> {
    let Kind::DataSec { vars, .. } = btf.kind(map.value_type?) else { return None };
    let var = vars.iter().find(|var| btf.name(var.var) == name)?;
    Some(var.var)
}
