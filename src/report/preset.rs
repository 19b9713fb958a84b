//! Elements of maps as JSON: what `kumite run` puts into maps before and shows after.
//!
//! ```json
//! [{"key": "0a000001", "value": "0100000000000000"},
//!  {"key": 7, "value": [1, 0, 0, 0]},
//!  {"key": "00000000", "values": ["01", "02"]},
//!  {"key": 0, "program": "backend"}]
//! ```
//! Bytes are hexadecimal digits, a number (little-endian, as wide as the key or value), or an array of bytes, each a number
//! or `"0x1f"`, as bpftool prints them. A per-CPU map takes one `value` for all workers or `values`, one a worker; a program
//! array takes names of programs. The list may stand alone or as `elements` of an object. Dumps have the same form.

use serde_json::{Value, json};

use super::hexadecimal::{from_hex, to_hex};
use crate::limits::MAP_KEY_LEN_MAX;
use crate::maps::{Errno, Map, MapDef, MapKind};
use crate::vm::Instance;

/// A preset cannot be put into its map.
#[derive(Debug, thiserror::Error)]
pub enum PresetError {
    /// No map has the name.
    #[error("map {map}: the object has none of this name; it has {}", .maps.join(", "))]
    NoMap {
        /// The name.
        map: String,
        /// Those that there are.
        maps: Vec<String>,
    },
    /// The file is no JSON.
    #[error("map {map}: {source}; write a list of elements")]
    Json {
        /// Name of the map.
        map: String,
        /// From the parser.
        source: serde_json::Error,
    },
    /// An element is not in the form of one.
    #[error("map {map}: element {index}: {what}; write {{\"key\": \"00ff\", \"value\": \"01\"}}")]
    Form {
        /// Name of the map.
        map: String,
        /// Which one, from 0.
        index: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A key or value has a wrong length.
    #[error("map {map}: element {index}: its {part} has {len} bytes where the map has {expected}; write all of them")]
    Len {
        /// Name of the map.
        map: String,
        /// Which one, from 0.
        index: usize,
        /// `key` or `value`.
        part: &'static str,
        /// Its bytes.
        len: usize,
        /// Those that the map wants.
        expected: u32,
    },
    /// A slot of a program array names no program.
    #[error("map {map}: element {index}: no program is called {program}; name one of the object")]
    NoProgram {
        /// Name of the map.
        map: String,
        /// Which one, from 0.
        index: usize,
        /// The name.
        program: String,
    },
    /// The map does not take the element.
    #[error("map {map}: element {index}: the map refused it ({errno}); see the type of the map")]
    Refused {
        /// Name of the map.
        map: String,
        /// Which one, from 0.
        index: usize,
        /// Its answer.
        errno: Errno,
    },
}

/// What a map is to hold before the first run.
#[derive(Clone, Debug)]
pub struct Preset {
    /// Name of the map.
    pub map: String,
    /// The text of the file.
    pub json: String,
}

impl Preset {
    /// Puts the elements into the map. `worker_count`: how many values a per-CPU element has.
    ///
    /// # Errors
    /// [`PresetError`]; elements before the wrong one are in the map then.
    pub fn apply(&self, instance: &Instance, worker_count: u32) -> Result<(), PresetError> {
        let map = instance.map(&self.map).ok_or_else(|| PresetError::NoMap {
            map: self.map.clone(),
            maps: instance.maps().iter().map(|(_, map)| map.def().name.clone()).collect(),
        })?;
        let text: Value =
            serde_json::from_str(&self.json).map_err(|source| PresetError::Json { map: self.map.clone(), source })?;
        let elements = text.as_array().or_else(|| text.get("elements")?.as_array());
        let elements = elements.ok_or_else(|| self.form(0, "the file is no list of elements"))?;
        for (index, element) in elements.iter().enumerate() {
            let value_count = if is_per_cpu(map.def().kind) { worker_count as usize } else { 1 };
            self.put(instance, map.as_ref(), value_count, (index, element))?;
        }
        Ok(())
    }

    fn form(&self, index: usize, what: &'static str) -> PresetError {
        PresetError::Form { map: self.map.clone(), index, what }
    }

    fn put(
        &self,
        instance: &Instance,
        map: &dyn Map,
        value_count: usize,
        (index, element): (usize, &Value),
    ) -> Result<(), PresetError> {
        let def = map.def();
        let refused = |errno| PresetError::Refused { map: self.map.clone(), index, errno };
        let key = element.get("key").ok_or_else(|| self.form(index, "it has no key"))?;
        let key = self.bytes(index, "key", key, def.key_len)?;
        if let Some(array) = map.as_program_array() {
            let name = element.get("program").and_then(Value::as_str);
            let name = name.ok_or_else(|| self.form(index, "it names no program"))?;
            let slot = key.first_chunk().map(|slot| u32::from_le_bytes(*slot)).ok_or(Errno::EINVAL).map_err(refused)?;
            let program = instance.program(name).ok_or_else(|| PresetError::NoProgram {
                map: self.map.clone(),
                index,
                program: name.to_owned(),
            })?;
            return array.replace(slot, Some(program.slot())).map_err(refused);
        }
        let value = if let Some(values) = element.get("values").and_then(Value::as_array) {
            if values.len() != value_count {
                return Err(self.form(index, "its values are not one for each worker"));
            }
            let values = values.iter().map(|value| self.value(index, def, value.get("value").unwrap_or(value)));
            values.collect::<Result<Vec<_>, _>>()?.concat()
        } else {
            let value = element.get("value").ok_or_else(|| self.form(index, "it has no value"))?;
            self.value(index, def, value)?.repeat(value_count)
        };
        map.host_update(&key, &value, 0).map_err(refused)
    }

    /// A value, padded as per-CPU maps want it.
    fn value(&self, index: usize, def: &MapDef, value: &Value) -> Result<Vec<u8>, PresetError> {
        let mut bytes = self.bytes(index, "value", value, def.value_len)?;
        if is_per_cpu(def.kind) {
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        Ok(bytes)
    }

    fn bytes(&self, index: usize, part: &'static str, value: &Value, expected: u32) -> Result<Vec<u8>, PresetError> {
        let wrong = || self.form(index, "its key or value is neither digits, a number nor a list of bytes");
        let bytes = match value {
            Value::String(digits) => from_hex(digits).ok_or_else(wrong)?,
            Value::Array(bytes) => bytes.iter().map(byte).collect::<Option<Vec<u8>>>().ok_or_else(wrong)?,
            Value::Number(number) => {
                let value = number.as_u64().or_else(|| number.as_i64().map(i64::cast_unsigned)).ok_or_else(wrong)?;
                let filler = if number.as_i64().is_some_and(i64::is_negative) { 0xff } else { 0 };
                let mut bytes = value.to_le_bytes().to_vec();
                let len = expected as usize;
                if bytes.iter().skip(len).any(|byte| *byte != filler) {
                    return Err(self.form(index, "its number is too large for the key or value"));
                }
                bytes.resize(len, filler);
                bytes
            }
            Value::Null | Value::Bool(_) | Value::Object(_) => return Err(wrong()),
        };
        if bytes.len() != expected as usize {
            return Err(PresetError::Len { map: self.map.clone(), index, part, len: bytes.len(), expected });
        }
        Ok(bytes)
    }
}

/// A byte as a number or as bpftool prints it.
fn byte(value: &Value) -> Option<u8> {
    match value {
        Value::String(text) => u8::from_str_radix(text.strip_prefix("0x")?, 16).ok(),
        Value::Number(number) => u8::try_from(number.as_u64()?).ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn is_per_cpu(kind: MapKind) -> bool {
    // percpu_hash, percpu_array, lru_percpu_hash
    matches!(kind.0, 5 | 6 | 10)
}

/// All elements of a map. The records of a ring buffer are taken out of it.
#[must_use]
pub fn dump(map: &dyn Map) -> Value {
    let def = map.def();
    let mut elements = Vec::new();
    if let Some(array) = map.as_program_array() {
        let guard = crossbeam::epoch::pin();
        for index in 0..array.slot_count() {
            if let Some(slot) = array.slot(index, &guard) {
                elements.push(json!({"key": to_hex(&index.to_le_bytes()), "program": slot.name}));
            }
        }
    } else if let Some(ring) = map.as_ring_buffer() {
        let mut records = Vec::new();
        ring.read(|record| records.push(to_hex(record)));
        return json!({
            "type": def.kind.to_string(),
            "max_entries": def.max_entries,
            "records": records,
            "lost": ring.lost(),
        });
    } else if def.key_len > 0 && def.key_len <= MAP_KEY_LEN_MAX {
        let mut key = map.next_key(None).ok();
        // A map that others change meanwhile may begin anew for ever.
        while let Some(at) = key.filter(|_| elements.len() < def.max_entries as usize) {
            if let Ok(value) = map.host_lookup(&at) {
                elements.push(element(def, &at, &value));
            }
            key = map.next_key(Some(&at)).ok();
        }
    }
    json!({
        "type": def.kind.to_string(),
        "key_len": def.key_len,
        "value_len": def.value_len,
        "max_entries": def.max_entries,
        "elements": elements,
    })
}

fn element(def: &MapDef, key: &[u8], value: &[u8]) -> Value {
    if !is_per_cpu(def.kind) {
        return json!({"key": to_hex(key), "value": to_hex(value)});
    }
    let stride = usize::try_from(def.value_stride()).unwrap_or(usize::MAX).max(1);
    let values = value.chunks(stride).map(|value| to_hex(&value[..value.len().min(def.value_len as usize)]));
    json!({"key": to_hex(key), "values": values.collect::<Vec<_>>()})
}

/// All maps of an instance by name, each as [`dump`] gives it.
#[must_use]
pub fn dump_all(instance: &Instance) -> Value {
    instance.maps().iter().map(|(_, map)| (map.def().name.clone(), dump(map.as_ref()))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    use crate::elf::{Object, ObjectMap};

    use crate::run::{Clock, World};

    fn instance() -> Instance {
        let world = Arc::new(World::new(2, Clock::Fixed(0), Box::new(|_| {})).expect("address space"));
        let map = |name: &str, kind, value_len| {
            ObjectMap::new(MapDef {
                name: name.to_owned(),
                kind,
                key_len: 4,
                value_len,
                max_entries: 4,
                flags: 0,
                ..MapDef::default()
            })
        };
        let object = Object {
            name: "test.o".to_owned(),
            programs: Vec::new(),
            refused: Vec::new(),
            maps: vec![map("flows", MapKind::HASH, 2), map("counts", MapKind::PERCPU_ARRAY, 3)],
            license: None,
            btf: None,
        };
        Instance::load(&world, &object).expect("two maps")
    }

    fn put(instance: &Instance, map: &str, json: &str) -> Result<(), String> {
        let preset = Preset { map: map.to_owned(), json: json.to_owned() };
        preset.apply(instance, 2).map_err(|error| error.to_string())
    }

    fn elements(instance: &Instance, map: &str) -> String {
        dump(instance.map(map).expect("a map").as_ref())["elements"].to_string()
    }

    #[test]
    fn elements_are_taken_in_every_form_and_shown_in_one() {
        let instance = instance();
        for json in [
            r#"[{"key": "0a000001", "value": "0102"}]"#,
            r#"{"elements": [{"key": 16777226, "value": 513}]}"#,
            r#"[{"key": ["0x0a", "0x00", "0x00", "0x01"], "value": [1, 2]}]"#,
        ] {
            put(&instance, "flows", json).expect("taken");
            assert_eq!(elements(&instance, "flows"), r#"[{"key":"0a000001","value":"0102"}]"#, "{json}");
        }
        put(
            &instance,
            "counts",
            r#"[{"key": 1, "value": -2}, {"key": 2, "values": [1, {"cpu": 1, "value": "020000"}]}]"#,
        )
        .expect("taken");
        let zeros = r#""values":["000000","000000"]"#;
        assert_eq!(
            elements(&instance, "counts"),
            format!(
                r#"[{{"key":"00000000",{zeros}}},{{"key":"01000000","values":["feffff","feffff"]}},{{"key":"02000000","values":["010000","020000"]}},{{"key":"03000000",{zeros}}}]"#
            )
        );
        let all = dump_all(&instance);
        assert_eq!(all["flows"]["type"], "hash");
        assert_eq!(all["counts"]["max_entries"], 4);
    }

    #[test]
    fn what_is_no_element_is_refused_with_its_place() {
        let instance = instance();
        let form = r#"write {"key": "00ff", "value": "01"}"#;
        for (map, json, error) in [
            ("what", "[]", "map what: the object has none of this name; it has flows, counts".to_owned()),
            (
                "flows",
                "[",
                "map flows: EOF while parsing a list at line 1 column 1; write a list of elements".to_owned(),
            ),
            ("flows", "7", format!("map flows: element 0: the file is no list of elements; {form}")),
            (
                "flows",
                r#"[{"key": 1, "value": 1}, {"value": 1}]"#,
                format!("map flows: element 1: it has no key; {form}"),
            ),
            ("flows", r#"[{"key": 1}]"#, format!("map flows: element 0: it has no value; {form}")),
            (
                "flows",
                r#"[{"key": 1, "value": true}]"#,
                format!(
                    "map flows: element 0: its key or value is neither digits, a number nor a list of bytes; {form}"
                ),
            ),
            (
                "flows",
                r#"[{"key": 1, "value": 65536}]"#,
                format!("map flows: element 0: its number is too large for the key or value; {form}"),
            ),
            (
                "flows",
                r#"[{"key": "00", "value": 1}]"#,
                "map flows: element 0: its key has 1 bytes where the map has 4; write all of them".to_owned(),
            ),
            (
                "counts",
                r#"[{"key": 1, "values": [1]}]"#,
                format!("map counts: element 0: its values are not one for each worker; {form}"),
            ),
            (
                "counts",
                r#"[{"key": 9, "value": 1}]"#,
                "map counts: element 0: the map refused it (E2BIG); see the type of the map".to_owned(),
            ),
        ] {
            assert_eq!(put(&instance, map, json), Err(error), "{json}");
        }
    }
}
