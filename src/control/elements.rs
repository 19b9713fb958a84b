//! Elements of maps, as commands read and change them.
//!
//! Invariant: one request works on at most [`API_ELEMENTS_MAX`] elements, so that no map keeps others waiting.

use super::Refusal;
use super::view::{ElementView, ElementsView};
use crate::limits::{API_ELEMENTS_LEN_MAX, API_ELEMENTS_MAX};
use crate::maps::{Errno, Map, MapKind};
use crate::report::{from_hex, to_hex};

/// Types whose elements have a value for each worker.
const PER_WORKER: [MapKind; 3] = [MapKind::PERCPU_HASH, MapKind::PERCPU_ARRAY, MapKind::LRU_PERCPU_HASH];

/// Reads the digits of a key.
pub(super) fn key(map: &dyn Map, digits: &str) -> Result<Vec<u8>, Refusal> {
    bytes("key", map, digits, map.def().key_len as usize)
}

fn bytes(place: &str, map: &dyn Map, digits: &str, len: usize) -> Result<Vec<u8>, Refusal> {
    let name = &map.def().name;
    let bytes = from_hex(digits).filter(|bytes| bytes.len() == len);
    bytes.ok_or_else(|| Refusal::Request {
        place: format!("map {name}: {place} {digits:?}"),
        what: format!("not {len} bytes in hexadecimal"),
        mend: format!("write {} digits", 2 * len),
    })
}

/// The elements behind the key `after`, from the first on for `None`.
pub(super) fn part(map: &dyn Map, after: Option<&[u8]>) -> Result<ElementsView, Refusal> {
    if let Some(array) = map.as_program_array() {
        let guard = crossbeam::epoch::pin();
        let held = (0..array.slot_count()).filter_map(|index| Some((index, array.slot(index, &guard)?)));
        let elements = held.map(|(index, slot)| ElementView {
            key: to_hex(&index.to_le_bytes()),
            value: None,
            values: Vec::new(),
            program: Some(slot.name.clone()),
        });
        return Ok(ElementsView { elements: elements.collect(), next: None });
    }
    let mut elements = Vec::new();
    let mut len = 0;
    let mut last = after.map(<[u8]>::to_vec);
    for _ in 0..API_ELEMENTS_MAX {
        let next = match map.next_key(last.as_deref()) {
            Ok(next) => next,
            Err(Errno::ENOENT) => return Ok(ElementsView { elements, next: None }),
            Err(errno) => return Err(refusal(map, "walking", errno)),
        };
        match map.host_lookup(&next) {
            Ok(value) => {
                len += next.len() + value.len();
                elements.push(element(map, &next, &value));
            }
            // A program deleted it meanwhile.
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(refusal(map, "reading", errno)),
        }
        last = Some(next);
        if len >= API_ELEMENTS_LEN_MAX {
            break;
        }
    }
    Ok(ElementsView { elements, next: last.as_deref().map(to_hex) })
}

/// The element with this key.
pub(super) fn lookup(map: &dyn Map, key: &[u8]) -> Result<ElementView, Refusal> {
    if let Some(array) = map.as_program_array() {
        let guard = crossbeam::epoch::pin();
        let slot = array.slot(index(map, key)?, &guard);
        let slot = slot.ok_or_else(|| refusal(map, "reading", Errno::ENOENT))?;
        let program = Some(slot.name.clone());
        return Ok(ElementView { key: to_hex(key), value: None, values: Vec::new(), program });
    }
    let value = map.host_lookup(key).map_err(|errno| refusal(map, "reading", errno))?;
    Ok(element(map, key, &value))
}

/// Stores a value, given in digits. In a map with a value for each worker, one value goes to all of them.
pub(super) fn update(map: &dyn Map, key: &[u8], digits: &str, flags: &str, worker_count: u32) -> Result<(), Refusal> {
    let def = map.def();
    let flags = match flags {
        "any" => 0,
        "noexist" => 1,
        "exist" => 2,
        _ => {
            return Err(Refusal::Request {
                place: format!("map {}: flags {flags:?}", def.name),
                what: "no such condition".to_owned(),
                mend: "use any, noexist or exist".to_owned(),
            });
        }
    };
    let mut value = bytes("value", map, digits, def.value_len as usize)?;
    if PER_WORKER.contains(&def.kind) {
        let stride = usize::try_from(def.value_stride()).expect("a value fits in memory");
        value.resize(stride, 0);
        value = value.repeat(worker_count as usize);
    }
    map.host_update(key, &value, flags).map_err(|errno| refusal(map, "storing", errno))
}

/// Removes an element.
pub(super) fn delete(map: &dyn Map, key: &[u8]) -> Result<(), Refusal> {
    map.delete(key).map_err(|errno| refusal(map, "deleting", errno))
}

/// The slot that a key of a program array means.
pub(super) fn index(map: &dyn Map, key: &[u8]) -> Result<u32, Refusal> {
    let bytes = <[u8; 4]>::try_from(key).map_err(|_| refusal(map, "finding the slot", Errno::EINVAL))?;
    Ok(u32::from_le_bytes(bytes))
}

fn element(map: &dyn Map, key: &[u8], value: &[u8]) -> ElementView {
    let def = map.def();
    let (len, stride) = (def.value_len as usize, usize::try_from(def.value_stride()).expect("it fits in memory"));
    let (value, values) = if PER_WORKER.contains(&def.kind) && stride > 0 {
        let each = value.chunks(stride).map(|value| to_hex(value.get(..len).unwrap_or(value)));
        (None, each.collect())
    } else {
        (Some(to_hex(value)), Vec::new())
    };
    ElementView { key: to_hex(key), value, values, program: None }
}

/// What the map says about an element, in words.
pub(super) fn refusal(map: &dyn Map, doing: &str, errno: Errno) -> Refusal {
    let def = map.def();
    if map.as_ring_buffer().is_some() {
        let text = format!("map {} ({}): it has no elements; read its records with kumite events", def.name, def.kind);
        return Refusal::Guest { text };
    }
    let mend = match errno {
        Errno::ENOENT => "see the elements with kumite map dump",
        Errno::EEXIST => "leave out noexist to replace it",
        Errno::E2BIG | Errno::ENOSPC => {
            "the map is full or the index lies outside; delete elements or raise max_entries"
        }
        Errno::EPERM | Errno::EACCES => "the map is read-only for commands",
        Errno::ENOMEM => "free memory in the host's cage by unloading programs",
        _ => "this type of map does not do that",
    };
    Refusal::Guest { text: format!("map {} ({}): {doing} an element: {errno}; {mend}", def.name, def.kind) }
}
