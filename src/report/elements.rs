//! Elements of maps as text, as dumps and the control API show them.
//!
//! Invariant: [`super::Preset`] takes what [`dump`] gives; two dumps of equal contents are equal.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::hexadecimal::to_hex;
use super::typed::Typing;
use crate::elf::MapTypes;
use crate::limits::{DUMP_ZEROS_MAX, MAP_KEY_LEN_MAX, TYPED_DUMP_WEIGHT_MAX};
use crate::maps::{Map, MapKind, Slot};
use crate::vm::Instance;

/// An element of a map. Keys and values are hexadecimal digits in memory order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// Its key; empty in queues and stacks.
    pub key: String,
    /// Its value, where all workers share one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
    /// Its values, one a worker, of a per-CPU map.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub values: Vec<String>,
    /// The program in it, of a program array.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub program: Option<String>,
    /// The name of the map in it, of a map of maps.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub map: Option<String>,
    /// Key and value by their types, where the object says them: for reading alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub formatted: Option<Value>,
}

impl Element {
    /// An element with the value that [`Map::host_lookup`] gave.
    #[must_use]
    pub fn of_value(map: &dyn Map, typing: &mut Typing<'_>, key: &[u8], value: &[u8]) -> Self {
        let def = map.def();
        if let Some(outer) = map.as_map_of_maps() {
            let inner = outer.inner(key).ok().map(|inner| inner.map().def().name.clone());
            let formatted = typing.element(def, key, None);
            return Self { key: to_hex(key), value: None, values: Vec::new(), program: None, map: inner, formatted };
        }
        let formatted = typing.element(def, key, Some(value));
        let (len, stride) = (def.value_len as usize, usize::try_from(def.value_stride()).unwrap_or(usize::MAX));
        let (value, values) = if def.kind.is_per_worker() && stride > 0 {
            let each = value.chunks(stride).map(|value| to_hex(value.get(..len).unwrap_or(value)));
            (None, each.collect())
        } else {
            (Some(to_hex(value)), Vec::new())
        };
        Self { key: to_hex(key), value, values, program: None, map: None, formatted }
    }

    /// A slot of a program array.
    #[must_use]
    pub fn of_slot(index: u32, slot: &Slot) -> Self {
        let key = to_hex(&index.to_le_bytes());
        Self { key, value: None, values: Vec::new(), program: Some(slot.name.clone()), map: None, formatted: None }
    }
}

/// All elements of a map, but for the zeros of an array of more than [`DUMP_ZEROS_MAX`]: those of hashes and tries by key, those of arrays by index, those of queues and stacks from the
/// one that went in first. The records of a ring buffer are taken out of it; nobody else may use a queue or stack meanwhile.
/// Elements are shown by `types` too, up to [`TYPED_DUMP_WEIGHT_MAX`].
#[must_use]
pub fn dump(map: &dyn Map, types: Option<&MapTypes>) -> Value {
    let def = map.def();
    if let Some(ring) = map.as_ring_buffer() {
        let mut records = Vec::new();
        ring.read(|record| records.push(to_hex(record)));
        return json!({
            "type": def.kind.to_string(),
            "max_entries": def.max_entries,
            "records": records,
            "lost": ring.lost(),
        });
    }
    if let Some(buffer) = map.as_perf_buffer() {
        let mut records = Vec::new();
        buffer.read(|worker, record| records.push(json!({"worker": worker.0, "record": to_hex(record)})));
        return json!({
            "type": def.kind.to_string(),
            "max_entries": def.max_entries,
            "records": records,
            "lost": buffer.lost(),
        });
    }
    let mut typing = Typing::new(types, TYPED_DUMP_WEIGHT_MAX);
    let elements = if let Some(array) = map.as_program_array() {
        let guard = crossbeam::epoch::pin();
        let slots = (0..array.slot_count()).filter_map(|index| Some((index, array.slot(index, &guard)?)));
        slots.map(|(index, slot)| Element::of_slot(index, slot)).collect()
    } else if def.key_len == 0 {
        queued(map, &mut typing)
    } else if def.key_len <= MAP_KEY_LEN_MAX {
        walked(map, &mut typing)
    } else {
        Vec::new()
    };
    json!({
        "type": def.kind.to_string(),
        "key_len": def.key_len,
        "value_len": def.value_len,
        "max_entries": def.max_entries,
        "elements": elements,
    })
}

fn walked(map: &dyn Map, typing: &mut Typing<'_>) -> Vec<Element> {
    let def = map.def();
    let is_array = [MapKind::ARRAY, MapKind::PERCPU_ARRAY].contains(&def.kind);
    // Zeros are what an array holds anyhow, and a large one is mostly zeros.
    let leaves_zeros_out = is_array && def.max_entries > DUMP_ZEROS_MAX;
    let mut elements = Vec::new();
    let mut key = map.next_key(None).ok();
    // A map that others change meanwhile may begin anew for ever.
    let mut seen = 0;
    while let Some(at) = key.filter(|_| seen < def.max_entries) {
        seen += 1;
        if let Ok(value) = map.host_lookup(&at)
            && !(leaves_zeros_out && value.iter().all(|byte| *byte == 0))
        {
            elements.push(Element::of_value(map, typing, &at, &value));
        }
        key = map.next_key(Some(&at)).ok();
    }
    sort(def.kind, &mut elements);
    elements
}

/// Puts elements into an order that depends on nothing but the map's contents. Arrays come by index already.
pub fn sort(kind: MapKind, elements: &mut [Element]) {
    if ![MapKind::ARRAY, MapKind::PERCPU_ARRAY, MapKind::PROGRAM_ARRAY].contains(&kind) {
        // Digits are in the order of their bytes.
        elements.sort_by(|a, b| a.key.cmp(&b.key));
    }
}

/// The values of a queue or stack: taken out, and put back in the same order.
fn queued(map: &dyn Map, typing: &mut Typing<'_>) -> Vec<Element> {
    let def = map.def();
    let mut value = vec![0; def.value_len as usize];
    let mut values = Vec::new();
    while values.len() < def.max_entries as usize && map.pop(&mut value).is_ok() {
        values.push(value.clone());
    }
    if def.kind == MapKind::STACK {
        values.reverse();
    }
    for value in &values {
        // There is room: it was there before.
        let _ = map.push(value, 0);
    }
    values.iter().map(|value| Element::of_value(map, typing, &[], value)).collect()
}

/// All maps of an instance by name, each as [`dump`] gives it.
#[must_use]
pub fn dump_all(instance: &Instance) -> Value {
    let dumped = |id, map: &dyn Map| (map.def().name.clone(), dump(map, instance.map_types(id)));
    instance.maps().iter().map(|(id, map)| dumped(*id, map.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps::{self, MapDef};
    use crate::run::{Clock, World};

    #[test]
    fn a_large_array_is_dumped_without_its_zeros() {
        let world = World::new(1, Clock::Fixed(0), Box::new(|_| {})).expect("address space");
        for (max_entries, shown) in [(DUMP_ZEROS_MAX, DUMP_ZEROS_MAX as usize), (DUMP_ZEROS_MAX + 1, 1)] {
            let (name, kind) = ("large".to_owned(), MapKind::ARRAY);
            let def = MapDef { name, kind, key_len: 4, value_len: 1, max_entries, ..MapDef::default() };
            let map = maps::create(&def, world.map_env()).expect("room");
            map.host_update(&7u32.to_le_bytes(), &[1], 0).expect("an element");
            let dumped = dump(map.as_ref(), None);
            assert_eq!(dumped["elements"].as_array().map(Vec::len), Some(shown), "{max_entries}");
        }
    }
}
