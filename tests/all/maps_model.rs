//! Our maps against plain collections: what programs and hosts do, in random order, and the same answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kumite::cage::Cage;
use kumite::maps::{self, Errno, Finish, Map, MapDef, MapEnv, MapKind, WorkerIndex};
use kumite::trap::Access;

use crate::random::Random;

const OPERATIONS: u32 = 20_000;
const WORKERS: u32 = 3;
const NO_PREALLOC: u32 = 1;

fn make(kind: MapKind, key_len: u32, value_len: u32, max_entries: u32, flags: u32) -> (Arc<Cage>, Arc<dyn Map>) {
    let cage = Cage::new().expect("address space");
    let def = MapDef { name: "m".to_owned(), kind, key_len, value_len, max_entries, flags, ..MapDef::default() };
    let map = maps::create(&def, MapEnv { cage: &cage, worker_count: WORKERS, budget: &Arc::default() })
        .expect("a good definition");
    (cage, map)
}

/// What a program sees behind the pointer of a lookup.
fn seen(cage: &Cage, map: &dyn Map, worker: u32, key: &[u8]) -> Option<Vec<u8>> {
    let addr = map.lookup(WorkerIndex(worker), key).expect("a type with lookups")?;
    let mut value = vec![0; map.def().value_len as usize];
    cage.read(u64::from(addr), &mut value).expect("values are readable");
    Some(value)
}

fn keys_of(map: &dyn Map) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    while let Ok(key) = map.next_key(keys.last().map(Vec::as_slice)) {
        keys.push(key);
    }
    keys
}

/// One value for each worker; equal where they share it.
type Model = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

/// What an update may do, by its flags and whether the key is there.
fn allowed(flags: u64, exists: bool) -> Result<(), Errno> {
    match (flags, exists) {
        (1, true) => Err(Errno::EEXIST),
        (2, false) => Err(Errno::ENOENT),
        (0..=2, _) => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

fn stored(value: &[u8], old: Option<&Vec<Vec<u8>>>, worker: u32, per_cpu: bool) -> Vec<Vec<u8>> {
    if !per_cpu {
        return vec![value.to_vec(); WORKERS as usize];
    }
    let zeros = vec![vec![0; value.len()]; WORKERS as usize];
    let mut values = old.cloned().unwrap_or(zeros);
    values[worker as usize] = value.to_vec();
    values
}

#[test]
fn hashes_and_arrays_do_as_a_tree_of_values() {
    for (kind, key_len, value_len, max_entries, flags) in [
        (MapKind::ARRAY, 4, 9, 30, 0),
        (MapKind::PERCPU_ARRAY, 4, 9, 30, 0),
        (MapKind::HASH, 4, 16, 20, 0),
        (MapKind::HASH, 24, 1, 20, NO_PREALLOC),
        (MapKind::PERCPU_HASH, 7, 16, 20, 0),
        (MapKind::LRU_HASH, 4, 16, 40, 0),
        (MapKind::LRU_PERCPU_HASH, 4, 16, 40, 0),
    ] {
        let (cage, map) = make(kind, key_len, value_len, max_entries, flags);
        let is_array = [MapKind::ARRAY, MapKind::PERCPU_ARRAY].contains(&kind);
        let per_cpu = [MapKind::PERCPU_ARRAY, MapKind::PERCPU_HASH, MapKind::LRU_PERCPU_HASH].contains(&kind);
        let mut model = Model::new();
        if is_array {
            for index in 0..max_entries {
                model.insert(index.to_ne_bytes().to_vec(), vec![vec![0; value_len as usize]; WORKERS as usize]);
            }
        }
        let mut random = Random::new(u64::from(kind.0));
        for operation in 0..OPERATIONS {
            let at = format!("{kind} operation {operation}");
            let worker = random.below(WORKERS);
            let mut key = random.below(33).to_ne_bytes().to_vec();
            key.resize(key_len as usize, 1);
            match random.below(10) {
                0..=2 => {
                    let expected = model.get(&key).map(|values| values[worker as usize].clone());
                    assert_eq!(seen(&cage, &*map, worker, &key), expected, "{at}");
                }
                3..=6 => {
                    let value = random.bytes(value_len as usize);
                    let flags = random.pick(&[0, 0, 1, 2, 3]);
                    let mut expected = allowed(flags, model.contains_key(&key));
                    let full = model.len() == max_entries as usize && !model.contains_key(&key);
                    if (full && expected.is_ok()) || (is_array && full && flags < 3) {
                        expected = Err(Errno::E2BIG);
                    }
                    if expected.is_ok() {
                        let values = stored(&value, model.get(&key), worker, per_cpu);
                        model.insert(key.clone(), values);
                    }
                    assert_eq!(map.update(WorkerIndex(worker), &key, &value, flags), expected, "{at}");
                }
                7 | 8 => {
                    let expected = match model.contains_key(&key) {
                        _ if is_array => Err(Errno::EINVAL),
                        true => Ok(()),
                        false => Err(Errno::ENOENT),
                    };
                    assert_eq!(map.delete(&key), expected, "{at}");
                    if expected.is_ok() {
                        model.remove(&key);
                    }
                }
                _ => {
                    let mut keys = keys_of(&*map);
                    keys.sort();
                    let mut expected: Vec<_> = model.keys().cloned().collect();
                    expected.sort();
                    assert_eq!(keys, expected, "{at}");
                }
            }
        }
        for (key, values) in &model {
            let host = map.host_lookup(key).expect("there");
            let padded = values.iter().flat_map(|value| {
                let mut value = value.clone();
                value.resize(value.len().next_multiple_of(8), 0);
                value
            });
            let expected = if per_cpu { padded.collect() } else { values[0].clone() };
            assert_eq!(host, expected);
        }
    }
}

#[test]
fn an_lpm_trie_finds_what_a_search_through_all_prefixes_finds() {
    let (cage, map) = make(MapKind::LPM_TRIE, 7, 8, 100, NO_PREALLOC);
    let covers = |prefix: &[u8], key: &[u8]| {
        let len = u32::from_ne_bytes(prefix[..4].try_into().expect("four"));
        let key_len = u32::from_ne_bytes(key[..4].try_into().expect("four"));
        let bit = |bytes: &[u8], at: u32| bytes[4 + at as usize / 8] >> (7 - at % 8) & 1;
        len <= key_len && (0..len).all(|at| bit(prefix, at) == bit(key, at))
    };
    let same = |one: &[u8], other: &[u8]| one[..4] == other[..4] && covers(one, other);
    let mut model: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut random = Random::new(21);
    for operation in 0..OPERATIONS {
        let len = random.below(26);
        let mut key = len.to_ne_bytes().to_vec();
        key.extend([random.pick(&[0, 0x80, 0xff]), random.pick(&[1, 2, 0x40]), random.pick(&[0, 7])]);
        let at = format!("operation {operation} key {key:?}");
        match random.below(4) {
            0 => {
                let matching = model.iter().filter(|(prefix, _)| covers(prefix, &key));
                let longest =
                    matching.max_by_key(|(prefix, _)| u32::from_ne_bytes(prefix[..4].try_into().expect("four")));
                let expected = longest.filter(|_| len <= 24).map(|(_, value)| value.clone());
                assert_eq!(seen(&cage, &*map, 0, &key), expected, "{at}");
            }
            1 | 2 => {
                let value = random.bytes(8);
                let flags = random.pick(&[0, 0, 1, 2]);
                let place = model.iter().position(|(prefix, _)| len <= 24 && same(prefix, &key));
                let mut expected = allowed(flags, place.is_some());
                if expected.is_ok() && place.is_none() && model.len() == 100 {
                    expected = Err(Errno::ENOSPC);
                }
                if len > 24 {
                    expected = Err(Errno::EINVAL);
                }
                if expected.is_ok() {
                    match place {
                        Some(place) => model[place] = (key.clone(), value.clone()),
                        None => model.push((key.clone(), value.clone())),
                    }
                }
                assert_eq!(map.update(WorkerIndex(1), &key, &value, flags), expected, "{at}");
            }
            _ => {
                let place = model.iter().position(|(prefix, _)| len <= 24 && same(prefix, &key));
                let expected = match place {
                    _ if len > 24 => Err(Errno::EINVAL),
                    Some(_) => Ok(()),
                    None => Err(Errno::ENOENT),
                };
                if let Some(place) = place {
                    model.remove(place);
                }
                assert_eq!(map.delete(&key), expected, "{at}");
            }
        }
        if operation % 64 == 0 {
            let mut keys = keys_of(&*map);
            keys.sort();
            let mut expected: Vec<_> = model.iter().map(|(prefix, _)| prefix.clone()).collect();
            expected.sort();
            assert_eq!(keys, expected, "{at}");
        }
    }
}

#[test]
fn a_full_lru_hash_takes_every_new_element_and_keeps_those_in_use() {
    for kind in [MapKind::LRU_HASH, MapKind::LRU_PERCPU_HASH] {
        for max_entries in [1, 2, 100] {
            let (cage, map) = make(kind, 4, 4, max_entries, 0);
            for number in 0..OPERATIONS {
                let key = number.to_ne_bytes();
                map.update(WorkerIndex(0), &key, &key, 1).expect("room is made");
                // A host's lookup is no use; a program's is one.
                let per_cpu = kind == MapKind::LRU_PERCPU_HASH;
                let value = map.host_lookup(&key).expect("the newest is there");
                assert_eq!(value[..4], key);
                assert_eq!(value.len(), if per_cpu { 8 * WORKERS as usize } else { 4 });
                if number == 0 || max_entries == 100 {
                    assert_eq!(seen(&cage, &*map, 0, &[0; 4]), Some(vec![0; 4]), "in use after {number}");
                }
                if number % 1000 == 0 {
                    assert!(keys_of(&*map).len() <= max_entries as usize);
                }
            }
            assert_eq!(keys_of(&*map).len(), max_entries as usize);
        }
    }
}

#[test]
fn a_full_hash_takes_an_element_for_each_that_was_deleted_within_one_burst() {
    for (kind, flags) in [(MapKind::HASH, 0), (MapKind::PERCPU_HASH, 0), (MapKind::HASH, NO_PREALLOC)] {
        let (cage, map) = make(kind, 4, 8, 50, flags);
        let burst = crossbeam::epoch::pin();
        for number in 0..50u32 {
            map.update(WorkerIndex(0), &number.to_ne_bytes(), &[1; 8], 1).expect("room");
        }
        for number in 0..OPERATIONS {
            let (old, new) = (number.to_ne_bytes(), (number + 50).to_ne_bytes());
            assert_eq!(map.update(WorkerIndex(0), &new, &[2; 8], 0), Err(Errno::E2BIG));
            map.delete(&old).expect("it is there");
            map.update(WorkerIndex(0), &new, &u64::from(number).to_ne_bytes(), 0).expect("one was deleted");
            map.update(WorkerIndex(0), &new, &u64::from(number + 1).to_ne_bytes(), 2).expect("it is there");
            assert_eq!(seen(&cage, &*map, 0, &new).as_deref(), Some(&u64::from(number + 1).to_ne_bytes()[..]));
        }
        assert_eq!(keys_of(&*map).len(), 50);
        drop(burst);
    }
}

#[test]
fn a_full_lpm_trie_takes_a_prefix_for_each_that_was_deleted_within_one_burst() {
    let (cage, map) = make(MapKind::LPM_TRIE, 8, 8, 50, NO_PREALLOC);
    let key = |number: u32| [&32u32.to_ne_bytes()[..], &number.to_be_bytes()[..]].concat();
    let burst = crossbeam::epoch::pin();
    for number in 0..50 {
        map.update(WorkerIndex(0), &key(number), &[1; 8], 1).expect("room");
    }
    for number in 0..OPERATIONS {
        assert_eq!(map.update(WorkerIndex(0), &key(number + 50), &[2; 8], 0), Err(Errno::ENOSPC));
        map.delete(&key(number)).expect("it is there");
        map.update(WorkerIndex(0), &key(number + 50), &u64::from(number).to_ne_bytes(), 0).expect("one was deleted");
        let value = seen(&cage, &*map, 0, &key(number + 50));
        assert_eq!(value.as_deref(), Some(&u64::from(number).to_ne_bytes()[..]));
    }
    assert_eq!(keys_of(&*map).len(), 50);
    drop(burst);
}

#[test]
fn a_queue_and_a_stack_do_as_a_deque() {
    for kind in [MapKind::QUEUE, MapKind::STACK] {
        let (_cage, map) = make(kind, 0, 5, 7, 0);
        let mut model: VecDeque<Vec<u8>> = VecDeque::new();
        let mut random = Random::new(22);
        for operation in 0..OPERATIONS {
            let mut value = vec![9; 5];
            match random.below(5) {
                0 => {
                    let next = if kind == MapKind::QUEUE { model.front() } else { model.back() };
                    let answer = map.peek(&mut value).map(|()| value.clone());
                    assert_eq!(answer, next.cloned().ok_or(Errno::ENOENT), "operation {operation}");
                }
                1 | 2 => {
                    let next = if kind == MapKind::QUEUE { model.pop_front() } else { model.pop_back() };
                    let answer = map.pop(&mut value).map(|()| value.clone());
                    assert_eq!(answer, next.ok_or(Errno::ENOENT), "operation {operation}");
                    assert!(answer.is_ok() || value == [0; 5], "zeros for nothing");
                }
                _ => {
                    let pushed = random.bytes(5);
                    let flags = random.pick(&[0, 0, 2]);
                    let full = model.len() == 7;
                    let expected = if full && flags == 0 { Err(Errno::E2BIG) } else { Ok(()) };
                    assert_eq!(map.push(&pushed, flags), expected, "operation {operation}");
                    if expected.is_ok() {
                        if full {
                            model.pop_front();
                        }
                        model.push_back(pushed);
                    }
                }
            }
        }
    }
}

/// A record of the model: bytes, and what became of it.
type Record = (u32, Vec<u8>, Option<Finish>);

#[test]
fn a_ring_buffer_does_as_a_deque_of_records() {
    let size = 4096;
    let (cage, map) = make(MapKind::RING_BUFFER, 0, 0, size, 0);
    let ring = map.as_ring_buffer().expect("it is one");
    let footprint = |len: usize| (len as u64 + 8).next_multiple_of(8);
    let mut model: VecDeque<Record> = VecDeque::new();
    let (mut produced, mut consumed, mut lost) = (0u64, 0u64, 0u64);
    let mut random = Random::new(23);
    for operation in 0..OPERATIONS {
        let at = format!("operation {operation}");
        match random.below(8) {
            0..=2 => {
                let len = random.pick(&[0, 1, 7, 8, 9, 100, 1000, 4000, 4080, 4081, 5000]);
                let addr = ring.reserve(len as u64, 0);
                let fits = produced + footprint(len) - consumed < u64::from(size);
                assert_eq!(addr.is_some(), fits, "{at} of {len} bytes");
                lost += u64::from(!fits && footprint(len) <= u64::from(size));
                if let Some(addr) = addr {
                    let bytes = random.bytes(len);
                    assert!(cage.check(u64::from(addr), len as u64, Access::Write).is_ok(), "in one piece");
                    cage.write(u64::from(addr), &bytes).expect("writable");
                    produced += footprint(len);
                    model.push_back((addr, bytes, None));
                }
            }
            3..=5 if !model.is_empty() => {
                let index = random.below(u32::try_from(model.len()).expect("few")) as usize;
                let (addr, _, end) = &mut model[index];
                let finish = random.pick(&[Finish::Submit, Finish::Submit, Finish::Discard]);
                let expected = if end.is_none() { Ok(()) } else { Err(Errno::EINVAL) };
                assert_eq!(ring.finish(u64::from(*addr), finish), expected, "{at}");
                end.get_or_insert(finish);
            }
            6 => {
                let mut records = Vec::new();
                let count = ring.read(|record| records.push(record.to_vec()));
                let mut expected = Vec::new();
                while let Some((_, bytes, Some(finish))) = model.pop_front_if(|(_, _, end)| end.is_some()) {
                    consumed += footprint(bytes.len());
                    if finish == Finish::Submit {
                        expected.push(bytes);
                    }
                }
                assert_eq!(records, expected, "{at}");
                assert_eq!(count, expected.len(), "{at}");
            }
            _ => {
                let queried = [0, 1, 2, 3, 4].map(|what| ring.query(what));
                assert_eq!(queried, [produced - consumed, u64::from(size), consumed, produced, 0], "{at}");
                assert_eq!(ring.lost(), lost, "{at}");
            }
        }
    }
}
