//! Our maps against the kernel's: the same operations on both, and the same answer to each.

use std::collections::BTreeSet;
use std::sync::Arc;

use kumite::cage::Cage;
use kumite::maps::{self, CODE_TABLES, Errno, Map, MapDef, MapEnv, MapError, MapKind, Slot};
use kumite::verdict::ProgramKind;

use crate::kernel::{self, Batch, KernelMap, KernelProgram};
use crate::random::Random;

const OPERATIONS: u32 = 20_000;
const NO_PREALLOC: u32 = 1;

/// How far the order of keys is defined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Each key has its successor.
    Keys,
    /// A walk finds the same set.
    Set,
}

fn def(kind: MapKind, key_len: u32, value_len: u32, max_entries: u32, flags: u32) -> MapDef {
    MapDef { name: "m".to_owned(), kind, key_len, value_len, max_entries, flags, ..MapDef::default() }
}

fn ours(cage: &Arc<Cage>, def: &MapDef) -> Result<Arc<dyn Map>, MapError> {
    let worker_count =
        u32::try_from(KernelMap::possible_processors().expect("sysfs is mounted")).expect("few processors");
    maps::create(def, MapEnv { cage, worker_count, budget: &Arc::default() })
}

fn theirs(def: &MapDef) -> Result<KernelMap, Errno> {
    KernelMap::create(def.kind.0, def.key_len, def.value_len, def.max_entries, def.flags)
}

/// All keys, in the order of the walk.
fn walk(next_key: impl Fn(Option<&[u8]>) -> Result<Vec<u8>, Errno>) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    loop {
        match next_key(keys.last().map(Vec::as_slice)) {
            Ok(key) => keys.push(key),
            Err(Errno::ENOENT) => return keys,
            Err(errno) => panic!("a walk ends with {errno}"),
        }
    }
}

/// Runs a random sequence of operations on both maps; `keys` gives the keys.
fn compare(def: &MapDef, order: Order, seed: u64, mut keys: impl FnMut(&mut Random) -> Vec<u8>) {
    if !kernel::available() {
        return;
    }
    let cage = Cage::new().expect("address space");
    let ours = ours(&cage, def).expect("a good definition");
    let theirs = theirs(def).expect("a good definition");
    let mut random = Random::new(seed);
    let per_cpu = [MapKind::PERCPU_ARRAY, MapKind::PERCPU_HASH, MapKind::LRU_PERCPU_HASH].contains(&def.kind);
    let value_len = if per_cpu {
        def.value_len.next_multiple_of(8) as usize * KernelMap::possible_processors().expect("sysfs is mounted")
    } else {
        def.value_len as usize
    };
    for operation in 0..OPERATIONS {
        let key = keys(&mut random);
        let at = format!("{} seed {seed} operation {operation} key {key:?}", def.kind);
        match random.below(12) {
            0..=2 => assert_eq!(ours.host_lookup(&key), theirs.lookup(&key), "lookup, {at}"),
            3..=6 => {
                let value = random.bytes(value_len);
                let flags = random.pick(&[0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 1 << 32]);
                let answer = ours.host_update(&key, &value, flags);
                assert_eq!(answer, theirs.update(&key, &value, flags), "update with flags {flags}, {at}");
            }
            7..=9 => assert_eq!(ours.delete(&key), theirs.delete(&key), "delete, {at}"),
            _ if order == Order::Keys => {
                let key = (random.below(8) > 0).then_some(key.as_slice());
                assert_eq!(ours.next_key(key), theirs.next_key(key), "next key of {key:?}, {at}");
            }
            _ if operation % 100 == 0 => {
                let [ours, theirs] = [walk(|key| ours.next_key(key)), walk(|key| theirs.next_key(key))];
                let set: BTreeSet<_> = ours.iter().collect();
                assert_eq!(set.len(), ours.len(), "no key twice, {at}");
                assert_eq!(set, theirs.iter().collect(), "{at}");
            }
            _ => {
                let first = ours.next_key(None).map(drop);
                assert_eq!(first, theirs.next_key(None).map(drop), "first key, {at}");
            }
        }
    }
}

fn index(random: &mut Random, bound: u32) -> Vec<u8> {
    if random.below(16) == 0 {
        return random.pick(&[u32::MAX, 1 << 31, bound + 1]).to_ne_bytes().to_vec();
    }
    random.below(bound + 1).to_ne_bytes().to_vec()
}

#[test]
fn arrays_answer_as_the_kernels() {
    for (value_len, max_entries) in [(1, 1), (4, 17), (12, 100)] {
        let def = def(MapKind::ARRAY, 4, value_len, max_entries, 0);
        compare(&def, Order::Keys, 1, |random| index(random, max_entries));
    }
}

#[test]
fn per_cpu_arrays_answer_as_the_kernels() {
    for (value_len, max_entries) in [(1, 1), (8, 17), (20, 100)] {
        let def = def(MapKind::PERCPU_ARRAY, 4, value_len, max_entries, 0);
        compare(&def, Order::Keys, 2, |random| index(random, max_entries));
    }
}

/// Keys of `key_len` bytes that differ in their first or last two bytes.
fn short_keys(key_len: u32, bound: u32) -> impl FnMut(&mut Random) -> Vec<u8> {
    move |random| {
        let mut key = vec![7; key_len as usize];
        let number = random.below(bound).to_le_bytes();
        let len = key.len().min(2);
        let at = if random.below(2) == 0 { 0 } else { key.len() - len };
        key[at..at + len].copy_from_slice(&number[..len]);
        key
    }
}

#[test]
fn hashes_answer_as_the_kernels() {
    for (key_len, value_len, flags) in [(4, 8, 0), (1, 1, 0), (8, 4, NO_PREALLOC), (13, 24, 0), (40, 100, NO_PREALLOC)]
    {
        let def = def(MapKind::HASH, key_len, value_len, 32, flags);
        compare(&def, Order::Set, 3, short_keys(key_len, 48));
    }
}

#[test]
fn a_hash_of_one_element_answers_as_the_kernels() {
    compare(&def(MapKind::HASH, 4, 8, 1, 0), Order::Set, 4, short_keys(4, 2));
    compare(&def(MapKind::HASH, 4, 8, 1, NO_PREALLOC), Order::Set, 5, short_keys(4, 2));
}

#[test]
fn per_cpu_hashes_answer_as_the_kernels() {
    for (key_len, value_len, flags) in [(4, 8, 0), (16, 1, 0), (5, 12, NO_PREALLOC)] {
        let def = def(MapKind::PERCPU_HASH, key_len, value_len, 32, flags);
        compare(&def, Order::Set, 6, short_keys(key_len, 48));
    }
}

#[test]
fn lru_hashes_that_are_not_full_answer_as_the_kernels() {
    kernel::stay_on_processor_0();
    for kind in [MapKind::LRU_HASH, MapKind::LRU_PERCPU_HASH] {
        compare(&def(kind, 6, 10, 4096, 0), Order::Set, 7, short_keys(6, 100));
        compare(&def(kind, 6, 10, 4096, 2), Order::Set, 8, short_keys(6, 100));
    }
}

/// Prefixes of a few bits over keys that share most of their bytes; now and then one that is too long.
fn prefixes(byte_count: u32, spread: u32) -> impl FnMut(&mut Random) -> Vec<u8> {
    move |random| {
        let len_max = byte_count * 8;
        let len = match random.below(20) {
            0 => len_max + 1 + random.below(2) * 1000,
            1..=4 => len_max,
            _ => random.below(len_max + 1),
        };
        let mut key = len.to_ne_bytes().to_vec();
        key.resize(4 + byte_count as usize, 0xaa);
        for _ in 0..random.below(3) {
            let at = 4 + random.below(byte_count) as usize;
            key[at] = random.below(spread).to_le_bytes()[0];
        }
        key
    }
}

#[test]
fn lpm_tries_answer_as_the_kernels() {
    for (byte_count, value_len, spread) in [(1, 1, 256), (4, 8, 4), (4, 5, 256), (16, 24, 8), (9, 4, 3), (256, 1, 256)]
    {
        let def = def(MapKind::LPM_TRIE, 4 + byte_count, value_len, 64, NO_PREALLOC);
        compare(&def, Order::Keys, 10, prefixes(byte_count, spread));
        let def = MapDef { max_entries: 4096, ..def };
        compare(&def, Order::Keys, 11, prefixes(byte_count, spread));
    }
}

#[test]
fn a_walk_of_an_lpm_trie_goes_in_the_kernels_order() {
    if !kernel::available() {
        return;
    }
    let cage = Cage::new().expect("address space");
    let def = def(MapKind::LPM_TRIE, 8, 4, 1000, NO_PREALLOC);
    let (ours, theirs) = (ours(&cage, &def).expect("good"), theirs(&def).expect("good"));
    let mut random = Random::new(12);
    let mut keys = prefixes(4, 256);
    for _ in 0..5000 {
        let key = keys(&mut random);
        assert_eq!(ours.host_update(&key, &[0; 4], 0), theirs.update(&key, &[0; 4], 0));
    }
    let walked = walk(|key| ours.next_key(key));
    assert!(walked.len() > 100);
    assert_eq!(walked, walk(|key| theirs.next_key(key)));
}

#[test]
fn queues_and_stacks_answer_as_the_kernels() {
    if !kernel::available() {
        return;
    }
    let cage = Cage::new().expect("address space");
    let mut random = Random::new(13);
    for (kind, value_len, max_entries) in
        [(MapKind::QUEUE, 8, 5), (MapKind::STACK, 8, 5), (MapKind::QUEUE, 3, 1), (MapKind::STACK, 100, 64)]
    {
        let def = def(kind, 0, value_len, max_entries, 0);
        let (ours, theirs) = (ours(&cage, &def).expect("good"), theirs(&def).expect("good"));
        let mut popped = vec![0; value_len as usize];
        for operation in 0..OPERATIONS {
            let at = format!("{kind} operation {operation}");
            match random.below(8) {
                0 => assert_eq!(ours.host_lookup(&[]), theirs.lookup(&[]), "peek, {at}"),
                1..=3 => {
                    let ours = ours.pop(&mut popped).map(|()| popped.clone());
                    assert_eq!(ours, theirs.lookup_and_delete(&[]), "pop, {at}");
                }
                _ => {
                    let value = random.bytes(value_len as usize);
                    let flags = random.pick(&[0, 0, 0, 0, 2, 1, 3, 4]);
                    let ours = ours.host_update(&[], &value, flags);
                    assert_eq!(ours, theirs.update(&[], &value, flags), "push with flags {flags}, {at}");
                }
            }
        }
    }
}

#[test]
fn bloom_filters_answer_as_the_kernels() {
    if !kernel::available() {
        return;
    }
    let cage = Cage::new().expect("address space");
    let mut random = Random::new(15);
    for (value_len, max_entries, extra) in [(4, 1000, 0), (13, 5000, 3), (64, 1000, 15)] {
        let def = MapDef { extra, ..def(MapKind::BLOOM_FILTER, 0, value_len, max_entries, 0) };
        let (ours, theirs) = (ours(&cage, &def).expect("good"), KernelMap::of(&def, None).expect("good"));
        let mut model = BTreeSet::new();
        let mut mistaken = 0;
        for operation in 0..OPERATIONS {
            let at = format!("operation {operation}");
            let mut value = vec![0; value_len as usize];
            value[..4].copy_from_slice(&random.below(2000).to_ne_bytes());
            match random.below(8) {
                0 => {
                    let flags = random.pick(&[0, 0, 1, 2, 4]);
                    let answer = ours.host_update(&[], &value, flags);
                    assert_eq!(answer, theirs.update(&[], &value, flags), "push with flags {flags}, {at}");
                    if answer.is_ok() {
                        model.insert(value);
                    }
                }
                1 => {
                    assert_eq!(ours.pop(&mut value), Err(Errno::EOPNOTSUPP));
                    assert_eq!(ours.delete(&[]), Err(Errno::EOPNOTSUPP));
                    assert_eq!(ours.next_key(None), theirs.next_key(None));
                }
                _ => {
                    let answer = ours.peek(&mut value);
                    if model.contains(&value) {
                        assert_eq!((answer, theirs.holds(&value)), (Ok(()), Ok(())), "{at}");
                    } else if answer.is_ok() {
                        mistaken += 1;
                    } else {
                        assert_eq!(answer, Err(Errno::ENOENT), "{at}");
                    }
                }
            }
        }
        assert!(mistaken < OPERATIONS / 10, "{mistaken} values mistaken for others");
        assert!(model.len() > 300);
    }
    for extra in [0, 1, 15, 16, 1 << 32] {
        for flags in 0..16 {
            let def = MapDef { extra, flags: 1 << flags, ..def(MapKind::BLOOM_FILTER, 0, 8, 100, 0) };
            assert_eq!(errno_of(ours(&cage, &def)), KernelMap::of(&def, None).map(drop), "{def:?}");
        }
    }
}

#[test]
fn program_arrays_answer_as_the_kernels() {
    if !kernel::available() {
        return;
    }
    let cage = Cage::new().expect("address space");
    let def = def(MapKind::PROGRAM_ARRAY, 4, 4, 6, 0);
    let (ours, theirs) = (ours(&cage, &def).expect("good"), theirs(&def).expect("good"));
    let array = ours.as_program_array().expect("it is one");
    let exit = [[0xb7, 0x00, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let load = |kind| KernelProgram::load(kind, 0, &exit, "GPL").expect("verified");
    let programs = [(load(KernelProgram::XDP), ProgramKind::Xdp), (load(KernelProgram::TC), ProgramKind::Tc)];
    let mut random = Random::new(14);
    for operation in 0..OPERATIONS {
        let key = index(&mut random, 6);
        let at = format!("operation {operation} key {key:?}");
        match random.below(5) {
            0 => {
                let [ours, theirs] = [ours.host_lookup(&key), theirs.lookup(&key)].map(|id| id.map(drop));
                assert_eq!(ours, theirs, "lookup, {at}");
            }
            1 | 2 => {
                // The first that goes in decides what kind the array is of.
                let (program, kind) = &programs[usize::from(operation > 10 && random.below(4) == 0)];
                let slot = Slot {
                    name: "exit".to_owned(),
                    program_id: 7,
                    kind: *kind,
                    code: [std::ptr::null(); CODE_TABLES],
                    program: Arc::new(()),
                };
                let answer = array.replace(u32::from_ne_bytes(key[..].try_into().expect("four")), Some(slot));
                assert_eq!(answer, theirs.update(&key, &program.fd().to_ne_bytes(), 0), "update, {at}");
            }
            3 => assert_eq!(ours.delete(&key), theirs.delete(&key), "delete, {at}"),
            _ => assert_eq!(ours.next_key(Some(&key)), theirs.next_key(Some(&key)), "next key, {at}"),
        }
    }
    let value = [0; 4];
    assert_eq!(ours.host_update(&[0; 4], &value, 1), theirs.update(&[0; 4], &value, 1), "unknown flags");
    assert_eq!(ours.host_update(&[9; 4], &value, 0), theirs.update(&[9; 4], &value, 0), "outside");
}

#[test]
fn definitions_are_refused_with_the_kernels_errno() {
    if !kernel::available() {
        return;
    }
    let cage = Cage::new().expect("address space");
    let mut random = Random::new(9);
    let kinds = maps::MAP_TYPES.iter().map(|map_type| map_type.kind).collect::<Vec<_>>();
    let mut refused = 0;
    for _ in 0..OPERATIONS {
        let kind = random.pick(&kinds);
        let flags = match random.below(4) {
            0 => 0,
            1 => NO_PREALLOC,
            2 => 1 << random.below(15),
            _ => (1 << random.below(14)) | (1 << random.below(14)),
        };
        let def = def(
            kind,
            random.pick(&[0, 1, 4, 4, 4, 5, 8, 260, 261, 512]),
            random.pick(&[0, 1, 4, 4, 4, 8, 32 << 10, (32 << 10) + 1, (4 << 20) - 400, 4 << 20, 1 << 31, u32::MAX]),
            random.pick(&[0, 1, 2, 3, 4, 4096, 4097, 8192]),
            flags,
        );
        // The kernel would give what the machine cannot spare; no type takes values of 2 GiB.
        let bytes = u64::from(def.max_entries) * u64::from(def.value_len);
        if bytes > 1 << 20 && def.value_len < 1 << 31 {
            continue;
        }
        // How many processors a kernel can count was decided when it was built.
        if kind == MapKind::CPUMAP && def.max_entries > 64 {
            continue;
        }
        let [ours, theirs] = [errno_of(ours(&cage, &def)), theirs(&def).map(drop)];
        assert_eq!(ours, theirs, "{def:?}");
        refused += u32::from(theirs.is_err());
    }
    assert!(refused > OPERATIONS / 8);
}

fn errno_of(created: Result<Arc<dyn Map>, MapError>) -> Result<(), Errno> {
    match created {
        Ok(_) => Ok(()),
        Err(MapError::Definition { errno, .. }) => Err(errno),
        Err(other) => panic!("{other}"),
    }
}

/// What an element taken out at once answers, for every type.
#[test]
fn elements_are_looked_up_and_deleted_as_in_the_kernel() {
    if !kernel::available() {
        return;
    }
    let cage = Cage::new().expect("address space");
    for (kind, key_len, flags) in [
        (MapKind::ARRAY, 4, 0),
        (MapKind::HASH, 4, 0),
        (MapKind::HASH, 4, NO_PREALLOC),
        (MapKind::PERCPU_HASH, 4, 0),
        (MapKind::LRU_HASH, 4, 0),
        (MapKind::LRU_PERCPU_HASH, 4, 0),
        (MapKind::LPM_TRIE, 8, NO_PREALLOC),
        (MapKind::QUEUE, 0, 0),
        (MapKind::STACK, 0, 0),
    ] {
        let def = def(kind, key_len, 8, 4096, flags);
        let (ours, theirs) = (ours(&cage, &def).expect("good"), theirs(&def).expect("good"));
        let mut random = Random::new(u64::from(kind.0));
        for operation in 0..OPERATIONS / 2 {
            let mut key = random.below(20).to_ne_bytes().to_vec();
            key.resize(key_len as usize, 0);
            if random.below(2) == 0 {
                let value = random.bytes(theirs.value_len());
                assert_eq!(ours.host_update(&key, &value, 0), theirs.update(&key, &value, 0));
            } else {
                let answer = ours.host_lookup_and_delete(&key);
                assert_eq!(answer, theirs.lookup_and_delete(&key), "{kind} operation {operation} key {key:?}");
            }
        }
    }
}

#[test]
fn batches_do_what_the_kernels_do() {
    if !kernel::available() {
        return;
    }
    let cage = Cage::new().expect("address space");
    for (kind, key_len, flags) in [
        (MapKind::ARRAY, 4, 0),
        (MapKind::PERCPU_ARRAY, 4, 0),
        (MapKind::HASH, 4, 0),
        (MapKind::PERCPU_HASH, 4, 0),
        (MapKind::LRU_HASH, 4, 0),
        (MapKind::LPM_TRIE, 8, NO_PREALLOC),
        (MapKind::QUEUE, 0, 0),
    ] {
        // The kernel's LRU lists give up elements before the map is full.
        let max_entries = if kind == MapKind::LRU_HASH { 4096 } else { 24 };
        let def = def(kind, key_len, 8, max_entries, flags);
        let (ours, theirs) = (ours(&cage, &def).expect("good"), theirs(&def).expect("good"));
        let (key_len, value_len) = (key_len as usize, theirs.value_len());
        if key_len == 0 {
            assert_eq!(ours.host_lookup_batch(None, 1), Err(Errno::ENOTSUPP));
            assert_eq!(ours.host_update_batch(&[], 0), Err(Errno::ENOTSUPP));
            assert_eq!(ours.host_delete_batch(&[]), Err(Errno::ENOTSUPP));
            assert_eq!(ours.host_lookup_and_delete_batch(1), Err(Errno::ENOTSUPP));
            continue;
        }
        let is_array = [MapKind::ARRAY, MapKind::PERCPU_ARRAY].contains(&kind);
        let mut random = Random::new(u64::from(kind.0) + 1);
        for round in 0..300 {
            let at = format!("{kind} round {round}");
            let count = random.below(8) as usize + 1;
            let mut keys: Vec<Vec<u8>> = (0..count).map(|_| random.below(26).to_ne_bytes().to_vec()).collect();
            keys.iter_mut().for_each(|key| key.resize(key_len, 0));
            let values: Vec<Vec<u8>> = keys.iter().map(|_| random.bytes(value_len)).collect();
            let (mut all_keys, mut all_values) = (keys.concat(), values.concat());
            if random.below(3) > 0 {
                let elements: Vec<_> = keys.into_iter().zip(values).collect();
                let flags = random.pick(&[0, 0, 0, 0, 1, 2, 4]);
                let ours = ours.host_update_batch(&elements, flags);
                let (count, answer) = theirs.batch(Batch::Update, None, (&mut all_keys, &mut all_values), flags);
                match ours {
                    Ok(ours) => assert_eq!((ours.count, ours.end), (count, answer), "update, {at}"),
                    Err(errno) => assert_eq!(Err(errno), answer, "update with flags {flags}, {at}"),
                }
            } else {
                let ours = ours.host_delete_batch(&keys);
                let (count, answer) = theirs.batch(Batch::Delete, None, (&mut all_keys, &mut all_values), 0);
                match ours {
                    Ok(ours) => assert_eq!((ours.count, ours.end), (count, answer), "delete, {at}"),
                    Err(errno) => assert_eq!(Err(errno), answer, "delete, {at}"),
                }
            }
            // A walk in parts: the kernel says ENOENT at its end. Its hashes go by bucket, so theirs is asked for all at once.
            let part = if is_array || kind == MapKind::LPM_TRIE { random.below(9) as usize + 1 } else { 64 };
            let (mut after, mut place) = (None, Vec::new());
            loop {
                let batch = ours.host_lookup_batch(after.as_deref(), part).expect("it has batches");
                let (mut keys, mut values) = (vec![0; part * key_len], vec![0; part * value_len]);
                let (count, answer) = theirs.batch(Batch::Lookup, Some(&mut place), (&mut keys, &mut values), 0);
                let elements = keys.chunks(key_len).zip(values.chunks(value_len)).take(count);
                let mut elements: Vec<_> = elements.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
                let mut seen = batch.elements;
                if part == 64 {
                    elements.sort();
                    seen.sort();
                }
                assert_eq!(seen, elements, "lookup, {at}");
                let end = if batch.next.is_none() { Err(Errno::ENOENT) } else { Ok(()) };
                assert_eq!(answer, end, "lookup, {at}");
                after = batch.next;
                if after.is_none() {
                    break;
                }
            }
            if round % 50 == 49 && !is_array {
                let taken = ours.host_lookup_and_delete_batch(64);
                if kind == MapKind::LPM_TRIE {
                    assert_eq!(taken, Err(Errno::ENOTSUPP));
                    continue;
                }
                let (mut keys, mut values) = (vec![0; 64 * key_len], vec![0; 64 * value_len]);
                let lists = (&mut keys[..], &mut values[..]);
                let (count, _) = theirs.batch(Batch::LookupAndDelete, Some(&mut Vec::new()), lists, 0);
                assert_eq!(taken.expect("it can").elements.len(), count, "{at}");
                assert_eq!(ours.next_key(None), Err(Errno::ENOENT));
            }
        }
    }
}
