//! What maps of maps share: which maps they take, and how long one that was taken out stays usable.
//!
//! A program that looks up in a map of maps gets the handle of the inner map, never memory, and passes it to helpers.
//!
//! Source: `kernel/bpf/map_in_map.c`.
//!
//! Invariant: an inner map keeps its place in the table until every run that could have its handle has ended.

use std::sync::Arc;

use super::absent;
use super::check::{self, refuse};
use super::{Entry, Errno, MAP_TYPES, MapDef, MapError, MapKind, MapTable};

/// A map that holds maps. `Map::delete` takes one out; `Map::host_lookup` gives its number.
pub trait MapOfMaps: Send + Sync {
    /// Puts a map in, by its entry in the table of the host.
    ///
    /// # Errors
    /// `EINVAL` for a map that is not as the definition's inner maps are; else the kernel's errno.
    fn put(&self, key: &[u8], inner: &Arc<Entry>, flags: u64) -> Result<(), Errno>;

    /// The map with this key.
    ///
    /// # Errors
    /// `ENOENT` where there is none.
    fn inner(&self, key: &[u8]) -> Result<Arc<Entry>, Errno>;
}

/// What the inner maps of this definition are to be.
pub(super) fn template(def: &MapDef) -> Result<Arc<MapDef>, MapError> {
    let Some(inner) = &def.inner else {
        return refuse(def, "nothing says what its inner maps are", Errno::EINVAL);
    };
    if [MapKind::ARRAY_OF_MAPS, MapKind::HASH_OF_MAPS].contains(&inner.kind) {
        return refuse(def, "its inner maps are maps of maps", Errno::EINVAL);
    }
    if inner.kind == MapKind::PROGRAM_ARRAY {
        return refuse(def, "its inner maps are program arrays", Errno::ENOTSUPP);
    }
    if !MAP_TYPES.iter().any(|map_type| map_type.kind == inner.kind) {
        return Err(absent::unsupported(inner));
    }
    Ok(Arc::clone(inner))
}

/// Whether a map may stand where the template says what maps are to be: the kernel's `map_meta_equal`.
pub(super) fn equal(template: &MapDef, map: &MapDef) -> bool {
    let alike = template.kind == map.kind
        && template.key_len == map.key_len
        && template.value_len == map.value_len
        && template.flags == map.flags
        && template.lock_offset == map.lock_offset
        && template.timer_offset == map.timer_offset;
    let any_count = match template.kind {
        MapKind::ARRAY => template.flags & check::INNER_MAP != 0,
        MapKind::XSKMAP => false,
        _ => true,
    };
    alike && (any_count || template.max_entries == map.max_entries)
}

/// What a program gets for an inner map: its handle, in 32 bits. Never 0, which stands for no map.
pub(super) fn handle(inner: &Entry) -> u32 {
    u32::try_from(MapTable::handle(inner.id())).expect("handles lie in the first megabyte")
}

/// The number of an inner map, as bpf(2) shows it.
pub(super) fn number(inner: &Entry) -> Vec<u8> {
    inner.id().0.to_ne_bytes().to_vec()
}

/// Lets go of an inner map once no run can have its handle any more.
pub(super) fn retire(inner: Option<Arc<Entry>>) {
    if let Some(inner) = inner {
        crossbeam::epoch::pin().defer(move || drop(inner));
    }
}
