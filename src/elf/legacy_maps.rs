//! Maps defined by numbers: the section `maps`, an array of `struct bpf_map_def` of 20 bytes or more.
//!
//! Each symbol is one map. The first five words mean the same to every loader; what follows them does not, and is read
//! by none but their own dialect.
//!
//! Source: libbpf up to 0.8, `struct bpf_map_def`.

use super::Defect;
use super::file::{ElfFile, Home, SymbolKind};
use super::map::{ObjectMap, PlacedMap};
use crate::limits::MAPS_MAX;
use crate::maps::{MapDef, MapKind};

/// Name of the section.
pub(super) const SECTION: &str = "maps";
/// Bytes of the shortest definition.
const DEF_LEN_MIN: usize = 20;

/// The maps of the section, by ascending place.
pub(super) fn maps(file: &ElfFile<'_>) -> Result<Vec<PlacedMap>, Defect> {
    let Some((section, contents)) = file.section(SECTION) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for symbol in &file.symbols {
        if symbol.home != Home::Section(section) || symbol.kind == SymbolKind::Section || symbol.name.is_empty() {
            continue;
        }
        if found.len() == MAPS_MAX as usize {
            return Err(Defect::TooMany { what: "maps", count: found.len() + 1, max: found.len() });
        }
        let cut_off = || Defect::Map { map: symbol.name.to_owned(), what: "its definition has fewer than 20 bytes" };
        let start = usize::try_from(symbol.value).map_err(|_| cut_off())?;
        let rest = contents.bytes.get(start..).ok_or_else(cut_off)?;
        let words = rest.first_chunk::<DEF_LEN_MIN>().ok_or_else(cut_off)?.as_chunks::<4>().0;
        let [kind, key_len, value_len, max_entries, flags] =
            std::array::from_fn(|index| u32::from_le_bytes(words[index]));
        let def = MapDef {
            name: symbol.name.to_owned(),
            kind: MapKind(kind),
            key_len,
            value_len,
            max_entries,
            flags,
            ..MapDef::default()
        };
        found.push(PlacedMap { section, offset: Some(symbol.value), map: ObjectMap::new(def) });
    }
    found.sort_by_key(|placed| placed.offset);
    Ok(found)
}
