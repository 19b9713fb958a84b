//! Maps defined by numbers: the section `maps`, an array of definitions of 16 bytes or more.
//!
//! Each symbol is one map, and the distance between them tells the dialect. The first five words mean the same to every
//! loader (`struct bpf_map_def`); those that have 16 bytes lack the flags. Of 28 bytes (aya) the last word says whether
//! the map is shared by name; of 36 bytes (iproute2's `struct bpf_elf_map`) the last four say the map's number, whether
//! it is shared, the number of the inner map and the index at which that is put into the outer one.
//!
//! Source: libbpf up to 0.8, `struct bpf_map_def`; iproute2, `include/bpf_elf.h`; aya, `bpf_map_def`.

use std::collections::HashMap;
use std::sync::Arc;

use super::Defect;
use super::file::{ElfFile, Home, SymbolKind};
use super::map::{ObjectMap, Pinning, PlacedMap};
use crate::limits::MAPS_MAX;
use crate::maps::{MapDef, MapKind};

/// Name of the section.
pub(super) const SECTION: &str = "maps";
/// Bytes of the shortest definition.
const DEF_LEN_MIN: usize = 16;
/// Bytes of aya's definition.
const AYA_LEN: usize = 28;
/// Bytes of iproute2's definition.
const IPROUTE2_LEN: usize = 36;
/// `BPF_ELF_... PIN_GLOBAL_NS` of iproute2: shared by all objects. 1 is shared by loads of one object, which is nobody.
const PIN_GLOBAL: u32 = 2;

/// Types of maps that hold maps: arrays and hash tables of them.
const OF_MAPS: [MapKind; 2] = [MapKind(12), MapKind(13)];

/// What iproute2 says of maps in maps.
#[derive(Clone, Copy)]
struct Nesting {
    id: u32,
    inner_id: u32,
    inner_index: u32,
}

/// The maps of the section, by ascending place.
pub(super) fn maps(file: &ElfFile<'_>) -> Result<Vec<PlacedMap>, Defect> {
    let Some((section, contents)) = file.section(SECTION) else { return Ok(Vec::new()) };
    let here = |symbol: &&super::file::Symbol<'_>| {
        symbol.home == Home::Section(section) && symbol.kind != SymbolKind::Section && !symbol.name.is_empty()
    };
    let mut symbols: Vec<_> = file.symbols.iter().filter(here).collect();
    if symbols.len() > MAPS_MAX as usize {
        return Err(Defect::TooMany { what: "maps", count: symbols.len(), max: MAPS_MAX as usize });
    }
    symbols.sort_by_key(|symbol| symbol.value);
    let mut found = Vec::with_capacity(symbols.len());
    let mut nestings = Vec::with_capacity(symbols.len());
    for (index, symbol) in symbols.iter().enumerate() {
        let cut_off = || Defect::Map { map: symbol.name.to_owned(), what: "its definition has fewer than 16 bytes" };
        let start = usize::try_from(symbol.value).map_err(|_| cut_off())?;
        let next = symbols[index + 1..].iter().map(|next| next.value).find(|next| *next > symbol.value);
        let end = next.and_then(|next| usize::try_from(next).ok()).unwrap_or(contents.bytes.len());
        let bytes = contents.bytes.get(start..end).filter(|bytes| bytes.len() >= DEF_LEN_MIN).ok_or_else(cut_off)?;
        let words = bytes.as_chunks::<4>().0;
        let word = |index: usize| words.get(index).map_or(0, |word| u32::from_le_bytes(*word));
        let def = MapDef {
            name: symbol.name.to_owned(),
            kind: MapKind(word(0)),
            key_len: word(1),
            value_len: word(2),
            max_entries: word(3),
            flags: word(4),
            ..MapDef::default()
        };
        let mut map = ObjectMap::new(def);
        let mut id = None;
        if bytes.len() == AYA_LEN && word(6) == 1 {
            map.pinning = Pinning::ByName;
        }
        if bytes.len() == IPROUTE2_LEN {
            id = Some(word(5)).filter(|id| *id != 0);
            if word(6) == PIN_GLOBAL {
                map.pinning = Pinning::ByName;
            }
            nestings.push(Some(Nesting { id: word(5), inner_id: word(7), inner_index: word(8) }));
        } else {
            nestings.push(None);
        }
        found.push(PlacedMap { section, offset: Some(symbol.value), id, map });
    }
    nest(&mut found, &nestings);
    Ok(found)
}

/// Gives outer maps the definition and the first inner map that their numbers name.
fn nest(found: &mut [PlacedMap], nestings: &[Option<Nesting>]) {
    let by_id: HashMap<u32, usize> = nestings
        .iter()
        .enumerate()
        .filter_map(|(place, nesting)| nesting.filter(|nesting| nesting.id != 0).map(|nesting| (nesting.id, place)))
        .collect();
    for place in 0..found.len() {
        let is_outer = OF_MAPS.contains(&found[place].map.def.kind);
        let inner = nestings[place].filter(|_| is_outer).and_then(|nesting| by_id.get(&nesting.inner_id));
        let Some((inner, nesting)) = inner.and_then(|inner| Some((*inner, nestings[*inner]?))) else { continue };
        let def = found[inner].map.def.clone();
        if nesting.inner_index != u32::MAX {
            found[place].map.inner_maps.push((nesting.inner_index, def.name.clone()));
        }
        found[place].map.def.inner = Some(Arc::new(def));
    }
}
