//! Contents of maps changed at random, written as presets.

use serde_json::{Map as Object, Value};

use crate::isa::random::Dice;
use crate::maps::{Map, MapKind};
use crate::report::dump;
use crate::vm::Instance;

/// Elements of a map that are changed or added at most.
const CHANGES_MAX: usize = 4;
/// Elements that are left out one by one when a catch is made small.
const ELEMENTS_MAX: usize = 256;
/// Longest value whose bytes are changed: larger maps are not configuration.
const VALUE_LEN_MAX: u32 = 4096;

/// Changes elements of some of the instance's arrays and hashes; what these hold afterwards. `None` where none was changed.
pub(super) fn changed(instance: &Instance, dice: &mut Dice) -> Option<String> {
    let mut dumps = Object::new();
    for (_, map) in instance.maps() {
        let def = map.def();
        let kinds = [MapKind::ARRAY, MapKind::HASH, MapKind::LRU_HASH];
        let is_plain = def.lock_offset.is_none() && def.timer_offset.is_none() && def.value_len <= VALUE_LEN_MAX;
        if kinds.contains(&def.kind) && is_plain && dice.once_in(2) && change(map.as_ref(), dice) {
            dumps.insert(def.name.clone(), dump(map.as_ref(), None));
        }
    }
    (!dumps.is_empty()).then(|| Value::Object(dumps).to_string())
}

/// The same contents with less in them, one step a text: without a map, or without an element of one.
pub(super) fn simpler(text: &str) -> Vec<String> {
    let Ok(Value::Object(maps)) = serde_json::from_str::<Value>(text) else { return Vec::new() };
    let mut all = Vec::new();
    for (name, map) in &maps {
        let mut fewer = maps.clone();
        fewer.remove(name);
        if !fewer.is_empty() {
            all.push(Value::Object(fewer).to_string());
        }
        let count = map.get("elements").and_then(Value::as_array).map_or(0, Vec::len);
        for place in 0..count.min(ELEMENTS_MAX) {
            let mut fewer = maps.clone();
            let elements = fewer.get_mut(name).and_then(|map| map.get_mut("elements")).and_then(Value::as_array_mut);
            elements.expect("it was just counted").remove(place);
            all.push(Value::Object(fewer).to_string());
        }
    }
    all
}

/// Whether the map took a change: what is full or frozen keeps what it has.
fn change(map: &dyn Map, dice: &mut Dice) -> bool {
    let def = map.def();
    let mut is_changed = false;
    for _ in 0..1 + dice.below(CHANGES_MAX) {
        let key = if def.kind == MapKind::ARRAY {
            let index = dice.below(def.max_entries as usize);
            u32::try_from(index).expect("an index of an array").to_ne_bytes().to_vec()
        } else {
            random_bytes(def.key_len, dice)
        };
        let mut value = map.host_lookup(&key).unwrap_or_else(|_| random_bytes(def.value_len, dice));
        let at = dice.below(value.len());
        value[at] = dice.pick(&[0, 1, 2, 0x7f, 0x80, 0xff]);
        is_changed |= map.host_update(&key, &value, 0).is_ok();
    }
    is_changed
}

fn random_bytes(len: u32, dice: &mut Dice) -> Vec<u8> {
    (0..len).map(|_| if dice.once_in(2) { 0 } else { dice.bits().to_le_bytes()[0] }).collect()
}
