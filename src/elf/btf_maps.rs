//! Maps defined by types: the section `.maps`.
//!
//! A definition is a variable whose structure says the map by the types of its members: `__uint(max_entries, 8)` is a
//! pointer to an array of eight, `__type(key, u32)` a pointer to the key.
//!
//! Source: libbpf's `parse_btf_map_def` and `bpf_object__collect_map_relos`.

use std::collections::HashMap;
use std::sync::Arc;

use super::Defect;
use super::btf::{Btf, Kind, Member, TypeId};
use super::file::{ElfFile, Home, Symbol, SymbolKind};
use super::map::{ObjectMap, Pinning, PlacedMap};
use crate::limits::MAPS_MAX;
use crate::maps::{MapDef, MapKind};

/// Name of the section.
pub(super) const SECTION: &str = ".maps";
/// Members that a definition may have: more than there are properties.
const PROPERTIES_MAX: usize = 32;
/// Bytes of a pointer in an object.
const POINTER_LEN: u64 = 8;

/// The maps of the section, by ascending place.
pub(super) fn maps(file: &ElfFile<'_>, btf: Option<&Btf>) -> Result<Vec<PlacedMap>, Defect> {
    let Some((section, _)) = file.section(SECTION) else { return Ok(Vec::new()) };
    let no_types = |what| Defect::Section { section: SECTION.to_owned(), what };
    let btf = btf.ok_or_else(|| no_types("its maps are defined by types, and the object has no .BTF"))?;
    let (_, vars) = btf.section(SECTION).ok_or_else(|| no_types("the object's .BTF does not describe it"))?;
    if vars.len() > MAPS_MAX as usize {
        return Err(Defect::TooMany { what: "maps", count: vars.len(), max: MAPS_MAX as usize });
    }
    let mut symbols = HashMap::<&str, &Symbol<'_>>::new();
    for symbol in &file.symbols {
        if symbol.home == Home::Section(section) && symbol.kind != SymbolKind::Section {
            symbols.entry(symbol.name).or_insert(symbol);
        }
    }
    let mut found = Vec::new();
    for var in vars {
        let name = btf.name(var.var);
        let wrong = |what| Defect::Map { map: name.to_owned(), what };
        let symbol = symbols.get(name).ok_or_else(|| wrong("no symbol says where it is"))?;
        let id = btf.resolve(var.var).ok_or_else(|| wrong("its type goes in a circle"))?;
        let Definition { map, values_at } = Reader { btf, map: name }.definition(id, Depth::Outer)?;
        found.push((PlacedMap { section, offset: Some(symbol.value), id: None, map }, values_at, symbol.len));
    }
    found.sort_by_key(|(placed, ..)| placed.offset);
    fill(file, section, &mut found)?;
    Ok(found.into_iter().map(|(placed, ..)| placed).collect())
}

/// Whether a definition stands in the section or describes the inner maps of one that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Outer,
    Inner,
}

struct Definition {
    map: ObjectMap,
    /// Offset of the member `values`, where there is one.
    values_at: Option<u64>,
}

struct Reader<'a> {
    btf: &'a Btf,
    map: &'a str,
}

impl Reader<'_> {
    fn wrong(&self, what: &'static str) -> Defect {
        Defect::Map { map: self.map.to_owned(), what }
    }

    fn definition(&self, id: TypeId, depth: Depth) -> Result<Definition, Defect> {
        let Kind::Struct { members, .. } = self.btf.kind(id) else {
            return Err(self.wrong("its type is no structure"));
        };
        if members.len() > PROPERTIES_MAX {
            return Err(self.wrong("it has more members than a map has properties"));
        }
        let def = MapDef { name: self.map.to_owned(), ..MapDef::default() };
        let mut map = ObjectMap::new(def);
        let mut values_at = None;
        for member in members {
            match self.btf.text(member.name) {
                "type" => map.def.kind = MapKind(self.number(member)?),
                "max_entries" => map.def.max_entries = self.number(member)?,
                "map_flags" => map.def.flags = self.number(member)?,
                "key_size" => map.def.key_len = self.number(member)?,
                "value_size" => map.def.value_len = self.number(member)?,
                "key" => (map.def.key_len, map.key_type) = self.pointed_to(member)?,
                "value" => (map.def.value_len, map.value_type) = self.pointed_to(member)?,
                "pinning" => {
                    map.pinning = match self.number(member)? {
                        0 => Pinning::Own,
                        1 => Pinning::ByName,
                        // Cilium: pinned for its agent, and made anew by each load.
                        16 => Pinning::Own,
                        _ => return Err(self.wrong("its `pinning` is neither none nor by name")),
                    }
                }
                "values" if depth == Depth::Outer => {
                    map.def.inner = self.inner(member)?;
                    values_at = Some(u64::from(member.bit_offset / 8));
                }
                "values" => return Err(self.wrong("its inner maps have `values` of their own")),
                "map_extra" => map.def.extra = self.number(member)?.into(),
                // Where the memory is taken.
                "numa_node" => {
                    self.number(member)?;
                }
                _ => return Err(self.wrong("it has a member that is no property of a map")),
            }
        }
        if map.def.kind == MapKind(0) {
            return Err(self.wrong("it has no `type`"));
        }
        if let Some(value) = map.value_type {
            map.def.lock_offset = self.btf.member_offset(value, "bpf_spin_lock");
            map.def.timer_offset = self.btf.member_offset(value, "bpf_timer");
        }
        if values_at.is_some() && map.def.value_len == 0 {
            map.def.value_len = 4;
        }
        if values_at.is_some() && map.def.key_len == 0 {
            map.def.key_len = 4;
        }
        Ok(Definition { map, values_at })
    }

    /// The type behind a member, typedefs and qualifiers removed.
    fn member_type(&self, member: &Member) -> Result<TypeId, Defect> {
        self.btf.resolve(member.member_type).ok_or_else(|| self.wrong("its type goes in a circle"))
    }

    /// `__uint(name, number)`: a pointer to an array of so many.
    fn number(&self, member: &Member) -> Result<u32, Defect> {
        let no_number = || self.wrong("a property is no number: use `__uint`");
        let Kind::Ptr(array) = self.btf.kind(self.member_type(member)?) else { return Err(no_number()) };
        match self.btf.resolve(*array).map(|array| self.btf.kind(array)) {
            Some(Kind::Array { count, .. }) => Ok(*count),
            _ => Err(no_number()),
        }
    }

    /// `__type(name, type)`: a pointer to the type; its length and itself.
    fn pointed_to(&self, member: &Member) -> Result<(u32, Option<TypeId>), Defect> {
        let Kind::Ptr(target) = self.btf.kind(self.member_type(member)?) else {
            return Err(self.wrong("its key or value is no type: use `__type`"));
        };
        let len = self.btf.len_of(*target).ok_or_else(|| self.wrong("its key or value has no length"))?;
        Ok((len, Some(*target)))
    }

    /// `__array(values, ..)`: the definition of inner maps, or `None` for a program array.
    fn inner(&self, member: &Member) -> Result<Option<Arc<MapDef>>, Defect> {
        let wrong = || self.wrong("its `values` are neither maps nor functions");
        let Kind::Array { element, .. } = self.btf.kind(self.member_type(member)?) else { return Err(wrong()) };
        let element = self.btf.resolve(*element).ok_or_else(wrong)?;
        let Kind::Ptr(target) = self.btf.kind(element) else { return Err(wrong()) };
        let target = self.btf.resolve(*target).ok_or_else(wrong)?;
        if matches!(self.btf.kind(target), Kind::FuncProto { .. }) {
            return Ok(None);
        }
        if !matches!(self.btf.kind(target), Kind::Struct { .. }) {
            return Err(wrong());
        }
        Ok(Some(Arc::new(self.definition(target, Depth::Inner)?.map.def)))
    }
}

/// Reads the initial entries of program arrays and maps of maps out of the section's relocations.
fn fill(file: &ElfFile<'_>, section: usize, found: &mut [(PlacedMap, Option<u64>, u64)]) -> Result<(), Defect> {
    for relocation in file.relocations(section)? {
        let after = found.partition_point(|(placed, ..)| placed.offset.unwrap_or(0) <= relocation.offset);
        let outside = || Defect::Section { section: SECTION.to_owned(), what: "a relocation is outside its maps" };
        let (placed, values_at, len) = found[..after].last_mut().ok_or_else(outside)?;
        let within = relocation.offset - placed.offset.unwrap_or(0);
        let map = &mut placed.map;
        let wrong = |what| Defect::MapValue { map: map.def.name.clone(), offset: relocation.offset, what };
        let start = values_at.filter(|start| within >= *start && within < *len);
        let start = start.ok_or_else(|| wrong("it is not among the map's `values`"))?;
        if (within - start) % POINTER_LEN != 0 {
            return Err(wrong("it is between two entries"));
        }
        let index = u32::try_from((within - start) / POINTER_LEN).map_err(|_| wrong("its index is too large"))?;
        let symbol = file.symbols.get(relocation.symbol).ok_or_else(|| wrong("its symbol does not exist"))?;
        if symbol.home == Home::Undefined {
            return Err(wrong("its symbol is defined nowhere"));
        }
        if symbol.kind == SymbolKind::Section {
            return Err(wrong("it names a static function or map: make that global"));
        }
        if map.def.inner.is_some() {
            map.inner_maps.push((index, symbol.name.to_owned()));
        } else if symbol.kind == SymbolKind::Function {
            map.slots.push((index, symbol.name.to_owned()));
        } else {
            return Err(wrong("it is no function"));
        }
    }
    Ok(())
}
