//! What `kumite run` puts into maps before it runs: elements as JSON.
//!
//! ```json
//! [{"key": "0a000001", "value": "0100000000000000"},
//!  {"key": 7, "value": [1, 0, 0, 0]},
//!  {"key": "00000000", "values": ["01", "02"]},
//!  {"key": 0, "program": "backend"},
//!  {"key": 1, "map": "inner"}]
//! ```
//! Bytes are hexadecimal digits, a number (little-endian, as wide as the key or value), or an array of bytes, each a number
//! or `"0x1f"`, as bpftool prints them. A per-CPU map takes one `value` for all workers or `values`, one a worker: what is too much
//! is left out, what is missing is zero; a program
//! array takes names of programs, a map of maps those of maps; a queue or stack needs no `key`. The list may stand alone, as `elements` of an object, or
//! in one under the map's name: what [`super::dump`] and [`super::dump_all`] give is taken. A ring buffer takes `records`,
//! a list of digits.
//!
//! Invariant: what a dump of one instance says can be put into another of the same object.

use serde_json::Value;

use super::hexadecimal::from_hex;
use crate::maps::{Errno, Finish, Map, MapDef, RingBuffer};
use crate::run::World;
use crate::vm::{Instance, LoadError};

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
    #[error("map {map}: element {index}: {what}; write {mend}")]
    Form {
        /// Name of the map.
        map: String,
        /// Which one, from 0.
        index: usize,
        /// What is wrong.
        what: &'static str,
        /// What an element of such a map looks like.
        mend: &'static str,
    },
    /// A key or value has a wrong length.
    #[error(
        "map {map}: element {index}: the length of its {part} is {len} where the map has {expected}; write all bytes"
    )]
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
    #[error("map {map}: element {index}: {source}")]
    NoProgram {
        /// Name of the map.
        map: String,
        /// Which one, from 0.
        index: usize,
        /// Why it is not there.
        source: Box<LoadError>,
    },
    /// An element of a map of maps names no map.
    #[error("map {map}: element {index}: no map is called {inner}; name one of the object")]
    NoInner {
        /// Name of the map.
        map: String,
        /// Which one, from 0.
        index: usize,
        /// The name.
        inner: String,
    },
    /// The map holds constants, and the element is another than it holds.
    #[error(
        "map {map}: element {index}: the map is frozen and holds another value; give variables theirs with --const"
    )]
    Frozen {
        /// Name of the map.
        map: String,
        /// Which one, from 0.
        index: usize,
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

/// What a map is to hold before the first run; see [`Preset::all`] for what several are to hold.
#[derive(Clone, Debug)]
pub struct Preset {
    /// Name of the map.
    pub map: String,
    /// The text of the file.
    pub json: String,
}

impl Preset {
    /// What all maps of a dump are to hold, in the order of their names: what [`super::dump_all`] gives. Records that
    /// programs sent to perf event arrays are left out: none can be put there. `None` where the text is no such dump.
    #[must_use]
    pub fn all(text: &str) -> Option<Vec<Self>> {
        let maps: serde_json::Map<String, Value> = serde_json::from_str(text).ok()?;
        if maps.values().any(|map| !map.is_object()) {
            return None;
        }
        let can_be_put = |map: &Value| map.get("elements").is_some() || map["type"] != "perf_event_array";
        let maps = maps.into_iter().filter(|(_, map)| can_be_put(map));
        Some(maps.map(|(map, contents)| Self { map, json: contents.to_string() }).collect())
    }

    /// Puts the elements into the map, which is one of an instance in this world.
    ///
    /// # Errors
    /// [`PresetError`]; elements before the wrong one are in the map then.
    pub fn apply(&self, instance: &Instance, world: &World) -> Result<(), PresetError> {
        let map = instance.map(&self.map).ok_or_else(|| PresetError::NoMap {
            map: self.map.clone(),
            maps: instance.maps().iter().map(|(_, map)| map.def().name.clone()).collect(),
        })?;
        let text: Value =
            serde_json::from_str(&self.json).map_err(|source| PresetError::Json { map: self.map.clone(), source })?;
        let (what, missing) = match map.as_ring_buffer() {
            Some(_) => ("records", "the file is no list of records"),
            None => ("elements", "the file is no list of elements"),
        };
        let inside = |value: &Value| value.get(what).and_then(Value::as_array).cloned();
        let elements = text.as_array().cloned().or_else(|| inside(&text)).or_else(|| inside(text.get(&self.map)?));
        for (index, element) in elements.ok_or_else(|| self.form(0, missing))?.iter().enumerate() {
            match map.as_ring_buffer() {
                Some(ring) => self.put_record(world, ring, (index, element))?,
                None => {
                    let value_count = if map.def().kind.is_per_worker() { world.worker_count as usize } else { 1 };
                    self.put(instance, map.as_ref(), value_count, (index, element))?;
                }
            }
        }
        Ok(())
    }

    fn put_record(
        &self,
        world: &World,
        ring: &RingBuffer,
        (index, record): (usize, &Value),
    ) -> Result<(), PresetError> {
        let bytes = record
            .as_str()
            .and_then(from_hex)
            .ok_or_else(|| self.form_like(index, "its record is no digits", r#"{"records": ["00ff"]}"#))?;
        let refused = |errno| PresetError::Refused { map: self.map.clone(), index, errno };
        let place = ring.reserve(bytes.len() as u64, 0).ok_or_else(|| refused(Errno::EAGAIN))?;
        world.cage.write(place.into(), &bytes).expect("a reserved record is writable guest memory");
        ring.finish(place.into(), Finish::Submit).map_err(refused)
    }

    fn form_like(&self, index: usize, what: &'static str, mend: &'static str) -> PresetError {
        PresetError::Form { map: self.map.clone(), index, what, mend }
    }

    fn form(&self, index: usize, what: &'static str) -> PresetError {
        self.form_like(index, what, r#"{"key": "00ff", "value": "01"}"#)
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
        let key = match element.get("key") {
            // Queues and stacks have none.
            None if def.key_len == 0 => Vec::new(),
            None => return Err(self.form(index, "it has no key")),
            Some(key) => self.bytes(index, "key", key, def.key_len)?,
        };
        if let Some(array) = map.as_program_array() {
            let name = element.get("program").and_then(Value::as_str);
            let name =
                name.ok_or_else(|| self.form_like(index, "it names no program", r#"{"key": 0, "program": "NAME"}"#))?;
            let slot = key.first_chunk().map(|slot| u32::from_le_bytes(*slot)).ok_or(Errno::EINVAL).map_err(refused)?;
            let program = instance.expect_program(name);
            let program = program.map_err(|source| PresetError::NoProgram {
                map: self.map.clone(),
                index,
                source: Box::new(source),
            })?;
            return array.replace(slot, Some(program.slot())).map_err(refused);
        }
        if let Some(outer) = map.as_map_of_maps() {
            let name = element.get("map").and_then(Value::as_str);
            let name = name.ok_or_else(|| self.form_like(index, "it names no map", r#"{"key": 0, "map": "NAME"}"#))?;
            let inner = instance.entry(name).ok_or_else(|| PresetError::NoInner {
                map: self.map.clone(),
                index,
                inner: name.to_owned(),
            })?;
            return outer.put(&key, inner, 0).map_err(refused);
        }
        let value = if let Some(values) = element.get("values").and_then(Value::as_array) {
            // A dump of another machine has as many as that has processors: the first workers' are taken.
            let values = values.iter().map(|value| self.value(index, def, value.get("value").unwrap_or(value)));
            let mut values = values.take(value_count).collect::<Result<Vec<_>, _>>()?;
            let first = values.first().ok_or_else(|| self.form(index, "it has no value"))?;
            values.resize(value_count, vec![0; first.len()]);
            values.concat()
        } else {
            let value = element.get("value").ok_or_else(|| self.form(index, "it has no value"))?;
            self.value(index, def, value)?.repeat(value_count)
        };
        match map.host_update(&key, &value, 0) {
            // A dump shows what is read-only too; that it stays as it is is no mistake.
            Err(Errno::EPERM) if map.host_lookup(&key).as_ref() == Ok(&value) => Ok(()),
            Err(Errno::EPERM) => Err(PresetError::Frozen { map: self.map.clone(), index }),
            done => done.map_err(refused),
        }
    }

    /// A value, padded as per-CPU maps want it.
    fn value(&self, index: usize, def: &MapDef, value: &Value) -> Result<Vec<u8>, PresetError> {
        let mut bytes = self.bytes(index, "value", value, def.value_len)?;
        if def.kind.is_per_worker() {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::elf::{Object, ObjectMap};
    use crate::maps::{MAP_TYPES, MapKind};
    use crate::report::{dump, dump_all};
    use crate::run::Clock;

    /// An instance with a map of each form, in a world with two workers.
    fn instance() -> (Instance, Arc<World>) {
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
        let flows = map("flows", MapKind::HASH, 2);
        let mut outer = map("outer", MapKind::ARRAY_OF_MAPS, 4);
        outer.def.inner = Some(Arc::new(flows.def.clone()));
        outer.inner_maps = vec![(2, "flows".to_owned())];
        let object = Object {
            name: "test.o".to_owned(),
            programs: Vec::new(),
            refused: Vec::new(),
            maps: vec![flows, map("counts", MapKind::PERCPU_ARRAY, 3), outer],
            refused_maps: Vec::new(),
            license: None,
            btf: None,
        };
        (Instance::load(&world, &object).expect("three maps"), world)
    }

    fn put((instance, world): &(Instance, Arc<World>), map: &str, json: &str) -> Result<(), String> {
        let preset = Preset { map: map.to_owned(), json: json.to_owned() };
        preset.apply(instance, world).map_err(|error| error.to_string())
    }

    fn elements((instance, _): &(Instance, Arc<World>), map: &str) -> String {
        dump(instance.map(map).expect("a map").as_ref(), None)["elements"].to_string()
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
        for (json, values) in [
            (r#"[{"key": 2, "values": [7, 8, 9]}]"#, r#"["070000","080000"]"#),
            (r#"[{"key": 2, "values": [7]}]"#, r#"["070000","000000"]"#),
        ] {
            put(&instance, "counts", json).expect("taken");
            assert!(
                elements(&instance, "counts").contains(&format!(r#"{{"key":"02000000","values":{values}}}"#)),
                "{json}"
            );
        }
        let all = dump_all(&instance.0);
        assert_eq!(all["flows"]["type"], "hash");
        assert_eq!(all["counts"]["max_entries"], 4);
    }

    #[test]
    fn maps_of_maps_take_maps_by_name_and_show_them_so() {
        let instance = instance();
        assert_eq!(elements(&instance, "outer"), r#"[{"key":"02000000","map":"flows"}]"#);
        put(&instance, "outer", r#"[{"key": 0, "map": "flows"}]"#).expect("it fits");
        let both = r#"[{"key":"00000000","map":"flows"},{"key":"02000000","map":"flows"}]"#;
        assert_eq!(elements(&instance, "outer"), both);
        for (json, error) in [
            (r#"[{"key": 0, "map": "what"}]"#, "element 0: no map is called what; name one of the object"),
            (r#"[{"key": 0, "map": "counts"}]"#, "element 0: the map refused it (EINVAL); see the type of the map"),
            (r#"[{"key": 0, "value": 1}]"#, r#"element 0: it names no map; write {"key": 0, "map": "NAME"}"#),
        ] {
            assert_eq!(put(&instance, "outer", json), Err(format!("map outer: {error}")));
        }
    }

    #[test]
    fn what_is_no_element_is_refused_with_its_place() {
        let instance = instance();
        let form = r#"write {"key": "00ff", "value": "01"}"#;
        for (map, json, error) in [
            ("what", "[]", "map what: the object has none of this name; it has flows, counts, outer".to_owned()),
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
                "map flows: element 0: the length of its key is 1 where the map has 4; write all bytes".to_owned(),
            ),
            ("counts", r#"[{"key": 1, "values": []}]"#, format!("map counts: element 0: it has no value; {form}")),
            (
                "counts",
                r#"[{"key": 9, "value": 1}]"#,
                "map counts: element 0: the map refused it (E2BIG); see the type of the map".to_owned(),
            ),
        ] {
            assert_eq!(put(&instance, map, json), Err(error), "{json}");
        }
    }

    /// Maps of redirect targets.
    const TARGETS: [MapKind; 3] = [MapKind::DEVMAP, MapKind::CPUMAP, MapKind::DEVMAP_HASH];

    /// The types whose dumps show what is in them and can be put back: not bloom filters and sockets, as in the kernel, nor
    /// perf event arrays, which only programs write.
    fn shown() -> impl Iterator<Item = &'static &'static crate::maps::MapType> {
        let hidden = [MapKind::BLOOM_FILTER, MapKind::XSKMAP, MapKind::PERF_EVENT_ARRAY];
        MAP_TYPES.iter().filter(move |map_type| !hidden.contains(&map_type.kind))
    }

    /// Maps of every type, with a program for the program array.
    fn of_every_type() -> (Instance, Arc<World>) {
        let (_, world) = instance();
        let mut maps = Vec::new();
        let array = MapDef { kind: MapKind::ARRAY, key_len: 4, value_len: 3, max_entries: 4, ..MapDef::default() };
        // Only maps of maps look at it.
        let inner = Arc::new(array);
        for map_type in shown() {
            let (key_len, value_len, max_entries, flags) = match map_type.kind {
                MapKind::QUEUE | MapKind::STACK => (0, 3, 4, 0),
                MapKind::RING_BUFFER => (0, 0, 4096, 0),
                MapKind::LPM_TRIE => (8, 3, 4, 1),
                MapKind::PROGRAM_ARRAY | MapKind::ARRAY_OF_MAPS | MapKind::HASH_OF_MAPS => (4, 4, 4, 0),
                kind if TARGETS.contains(&kind) => (4, 4, 4, 0),
                _ => (4, 3, 4, 0),
            };
            let name = map_type.kind.to_string();
            maps.push(ObjectMap::new(MapDef {
                name,
                kind: map_type.kind,
                key_len,
                value_len,
                max_entries,
                flags,
                inner: Some(Arc::clone(&inner)),
                ..MapDef::default()
            }));
        }
        let name = ".rodata".to_owned();
        let kind = MapKind::ARRAY;
        let def = MapDef { name, kind, key_len: 4, value_len: 4, max_entries: 1, ..MapDef::default() };
        maps.push(ObjectMap { contents: vec![1, 2, 3, 4], frozen: true, ..ObjectMap::new(def) });
        let raw = crate::program::RawProgram {
            name: "out".to_owned(),
            slots: crate::isa::assemble("r0 = 0\nexit").expect("text of the test"),
            ..Default::default()
        };
        let program = crate::program::Program::check(raw, crate::verdict::ProgramKind::Xdp).expect("well-formed");
        let object = Object {
            name: "all.o".to_owned(),
            programs: vec![Arc::new(program)],
            refused: Vec::new(),
            maps,
            refused_maps: Vec::new(),
            license: None,
            btf: None,
        };
        (Instance::load(&world, &object).expect("maps of every type"), world)
    }

    #[test]
    fn what_a_dump_says_is_taken_back_by_a_map_of_every_type() {
        let first = of_every_type();
        for map_type in shown() {
            let name = map_type.kind.to_string();
            let elements = match map_type.kind {
                MapKind::QUEUE | MapKind::STACK => r#"[{"value": "010203"}, {"value": "040506"}]"#,
                MapKind::RING_BUFFER => r#"{"records": ["0102", "030405060708090a0b"]}"#,
                MapKind::LPM_TRIE => {
                    r#"[{"key": "180000000a000100", "value": 7}, {"key": "080000000a000000", "value": 8}]"#
                }
                MapKind::PROGRAM_ARRAY => r#"[{"key": 2, "program": "out"}]"#,
                MapKind::ARRAY_OF_MAPS | MapKind::HASH_OF_MAPS => r#"[{"key": 3, "map": "array"}]"#,
                kind if kind.is_per_worker() => r#"[{"key": 3, "values": [1, 2]}, {"key": 1, "values": [3, 4]}]"#,
                // There are two workers.
                MapKind::CPUMAP => r#"[{"key": 1, "value": 5}]"#,
                _ => r#"[{"key": 3, "value": 1}, {"key": 1, "value": 2}]"#,
            };
            put(&first, &name, elements).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let all = dump_all(&first.0);
        let second = of_every_type();
        for (name, dumped) in all.as_object().expect("an object") {
            let count = dumped.get("elements").or(dumped.get("records")).expect("a list").as_array().expect("a list");
            assert!(!count.is_empty(), "{name} is empty: nothing is shown by it");
            // Both the map's own part and the whole file are taken.
            let text = if name.contains("hash") { all.to_string() } else { dumped.to_string() };
            put(&second, name, &text).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert_eq!(dump_all(&second.0), all);
        let changed = put(&second, ".rodata", r#"[{"key": 0, "value": 7}]"#);
        let refused =
            "map .rodata: element 0: the map is frozen and holds another value; give variables theirs with --const";
        assert_eq!(changed, Err(refused.to_owned()), "what is read-only stays as it is");
    }

    #[test]
    fn elements_come_in_an_order_that_is_not_that_of_their_coming() {
        let (one, other) = (instance(), instance());
        put(&one, "flows", r#"[{"key": 1, "value": 1}, {"key": 2, "value": 2}, {"key": 3, "value": 3}]"#)
            .expect("taken");
        put(&other, "flows", r#"[{"key": 3, "value": 3}, {"key": 1, "value": 1}, {"key": 2, "value": 2}]"#)
            .expect("taken");
        assert_eq!(elements(&one, "flows"), elements(&other, "flows"));
        assert!(elements(&one, "flows").starts_with(r#"[{"key":"01000000""#));
        put(&one, "counts", r#"[{"key": 1, "value": 1}]"#).expect("taken");
        let counts = elements(&one, "counts");
        assert!(counts.find(r#""01000000""#) < counts.find(r#""02000000""#), "{counts}");
    }
}
