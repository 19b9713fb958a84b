//! Maps of maps: against the kernel's and a plain collection, and what programs do with what they hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use kumite::cage::Cage;
use kumite::maps::{self, Entry, Errno, Map, MapDef, MapEnv, MapError, MapKind, MapTable, WorkerIndex};
use kumite::verdict::ProgramKind;
use kumite::vm::Mode;

use crate::kernel::{self, KernelMap};
use crate::maps_kernel_runs::Both;
use crate::random::Random;
use crate::stage::{Stage, slots};

const OPERATIONS: u32 = 10_000;
const NO_PREALLOC: u32 = 1;
const ANY_COUNT: u32 = 1 << 12;

fn def(kind: MapKind, key_len: u32, value_len: u32, max_entries: u32, flags: u32) -> MapDef {
    MapDef { name: "inner".to_owned(), kind, key_len, value_len, max_entries, flags, ..MapDef::default() }
}

fn outer(kind: MapKind, key_len: u32, max_entries: u32, inner: &MapDef) -> MapDef {
    MapDef { name: "outer".to_owned(), inner: Some(Arc::new(inner.clone())), ..def(kind, key_len, 4, max_entries, 0) }
}

struct Table {
    cage: Arc<Cage>,
    maps: Arc<MapTable>,
}

impl Table {
    fn new() -> Self {
        Self { cage: Cage::new().expect("address space"), maps: Arc::new(MapTable::new()) }
    }

    fn create(&self, def: &MapDef) -> Result<Arc<dyn Map>, MapError> {
        maps::create(def, MapEnv { cage: &self.cage, worker_count: 1, budget: &Arc::default() })
    }

    fn enter(&self, def: &MapDef) -> Arc<Entry> {
        self.maps.enter(self.create(def).expect("a good definition")).expect("room")
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
}

/// The kernel's map beside ours, where it is asked.
struct Theirs {
    outer: KernelMap,
    inner: Vec<KernelMap>,
    /// Which inner map a number of the kernel's means.
    names: BTreeMap<u32, usize>,
}

impl Theirs {
    fn new(def: &MapDef, inner: &[MapDef]) -> Self {
        let inner: Vec<_> = inner.iter().map(|def| KernelMap::of(def, None).expect("a good definition")).collect();
        let outer = KernelMap::of(def, Some(&inner[0])).expect("a good definition");
        let key = vec![0; def.key_len as usize];
        let mut names = BTreeMap::new();
        for (index, inner) in inner[..GOOD].iter().enumerate() {
            outer.update(&key, &inner.fd().to_ne_bytes(), 0).expect("it fits");
            names.insert(number(&outer.lookup(&key).expect("there")), index);
        }
        outer.delete(&key).expect("there");
        Self { outer, inner, names }
    }
}

/// Inner maps that fit; those behind them do not.
const GOOD: usize = 3;

/// Random operations on a map of maps, its model, and the kernel's map. One in `rare` changes something: the kernel waits
/// for a grace period then.
fn compare(def: &MapDef, theirs: Option<&Theirs>, inner: &[MapDef], rare: u32) {
    let table = Table::new();
    let ours = table.create(def).expect("a good definition");
    let maps = ours.as_map_of_maps().expect("it is one");
    let inner: Vec<_> = inner.iter().map(|def| table.enter(def)).collect();
    let mut key = vec![0; def.key_len as usize];
    let mut model = BTreeMap::new();
    let mut random = Random::new(u64::from(def.kind.0));
    let is_array = def.kind == MapKind::ARRAY_OF_MAPS;
    for operation in 0..OPERATIONS {
        key[..4].copy_from_slice(&random.below(14).to_ne_bytes());
        let at = format!("{} operation {operation} key {key:?}", def.kind);
        let outside = is_array && number(&key[..4]) >= def.max_entries;
        if random.below(rare) == 0 {
            let gone = random.below(3) == 0;
            let index = random.below(3) as usize;
            let flags = if is_array { 0 } else { random.pick(&[0, 0, 1, 2]) };
            let exists = model.contains_key(&key);
            let full = model.len() == def.max_entries as usize && !exists;
            let expected = match (gone, exists, flags) {
                (false, true, 1) => Err(Errno::EEXIST),
                (true, false, _) | (false, false, 2) if !outside => Err(Errno::ENOENT),
                (false, ..) if full => Err(Errno::E2BIG),
                _ if outside => Err(Errno::E2BIG),
                _ => Ok(()),
            };
            let answer = if gone { ours.delete(&key) } else { maps.put(&key, &inner[index], flags) };
            assert_eq!(answer, expected, "gone {gone} flags {flags}, {at}");
            if let Some(theirs) = theirs {
                let fd = theirs.inner[index].fd().to_ne_bytes();
                let answer = if gone { theirs.outer.delete(&key) } else { theirs.outer.update(&key, &fd, flags) };
                assert_eq!(answer, expected, "gone {gone} flags {flags}, {at}");
            }
            match (answer, gone) {
                (Ok(()), true) => drop(model.remove(&key)),
                (Ok(()), false) => drop(model.insert(key.clone(), index)),
                (Err(_), _) => {}
            }
            continue;
        }
        match random.below(8) {
            0..=3 => {
                let seen = ours
                    .host_lookup(&key)
                    .map(|id| inner.iter().position(|inner| inner.id().0 == number(&id)).expect("one of them"));
                assert_eq!(seen, model.get(&key).copied().ok_or(Errno::ENOENT), "lookup, {at}");
                if let Some(theirs) = theirs {
                    assert_eq!(seen, theirs.outer.lookup(&key).map(|id| theirs.names[&number(&id)]), "lookup, {at}");
                }
                let handle = ours.lookup(WorkerIndex(0), &key).expect("it has lookups");
                let expected = seen.ok().map(|index| MapTable::handle(inner[index].id()));
                assert_eq!(handle.map(u64::from), expected, "a program's lookup, {at}");
            }
            4 | 5 => {
                let [index, flags] = random.pick(&[[GOOD, 0], [GOOD, 1], [GOOD, 4], [0, 3], [1, 4]]);
                let answer = maps.put(&key, &inner[index], flags as u64);
                let refused = if outside && flags == 0 { Errno::E2BIG } else { Errno::EINVAL };
                assert_eq!(answer, Err(refused), "map {index} with flags {flags}, {at}");
                if let Some(theirs) = theirs {
                    let fd = theirs.inner[index].fd().to_ne_bytes();
                    assert_eq!(
                        theirs.outer.update(&key, &fd, flags as u64),
                        answer,
                        "map {index}, flags {flags}, {at}"
                    );
                }
            }
            _ => {
                let mut keys: Vec<Vec<u8>> = Vec::new();
                while let Ok(next) = ours.next_key(keys.last().map(Vec::as_slice)) {
                    keys.push(next);
                }
                keys.sort();
                assert!(is_array || keys.iter().eq(model.keys()), "{at}");
                if let Some(theirs) = theirs.filter(|_| is_array) {
                    assert_eq!(ours.next_key(Some(&key)), theirs.outer.next_key(Some(&key)), "next key, {at}");
                }
            }
        }
    }
    if let Some(theirs) = theirs {
        assert_eq!(ours.host_update(&key, &[0xff; 4], 0), theirs.outer.update(&key, &[0xff; 4], 0), "no descriptor");
    }
}

#[test]
fn maps_of_maps_do_as_a_tree_and_answer_as_the_kernels() {
    let with_kernel = kernel::available();
    for (kind, key_len, like) in [
        (MapKind::ARRAY_OF_MAPS, 4, def(MapKind::ARRAY, 4, 8, 3, 0)),
        (MapKind::HASH_OF_MAPS, 12, def(MapKind::HASH, 4, 8, 3, NO_PREALLOC)),
    ] {
        let mut inner = vec![like.clone(); GOOD];
        inner.push(MapDef { value_len: 16, ..like.clone() });
        let def = outer(kind, key_len, 10, &like);
        compare(&def, None, &inner, 3);
        if with_kernel {
            compare(&def, Some(&Theirs::new(&def, &inner)), &inner, 80);
        }
    }
}

#[test]
fn what_an_inner_map_must_be_like_is_as_in_the_kernel() {
    if !kernel::available() {
        return;
    }
    let table = Table::new();
    let [small, large] = [3, 4].map(|count| {
        [
            def(MapKind::ARRAY, 4, 8, count, 0),
            def(MapKind::ARRAY, 4, 8, count, ANY_COUNT),
            def(MapKind::PERCPU_ARRAY, 4, 8, count, 0),
            def(MapKind::HASH, 4, 8, count, 0),
            def(MapKind::HASH, 4, 8, count, NO_PREALLOC),
            def(MapKind::HASH, 8, 8, count, 0),
            def(MapKind::PERCPU_HASH, 4, 8, count, 0),
            def(MapKind::LRU_HASH, 4, 8, count, 0),
            def(MapKind::LPM_TRIE, 8, 8, count, NO_PREALLOC),
            def(MapKind::QUEUE, 0, 8, count, 0),
            def(MapKind::STACK, 0, 8, count, 0),
            def(MapKind::RING_BUFFER, 0, 0, count / 4 * 4096 + 4096, 0),
        ]
    });
    let defs: Vec<_> = small.into_iter().chain(large).collect();
    let mut fitted = 0;
    for like in &defs {
        let like_theirs = KernelMap::of(like, None).expect("a good definition");
        let def = outer(MapKind::ARRAY_OF_MAPS, 4, 1, like);
        let ours = table.create(&def).expect("a good definition");
        let theirs = KernelMap::of(&def, Some(&like_theirs)).expect("a good definition");
        for inner in &defs {
            let entry = table.enter(inner);
            let answer = ours.as_map_of_maps().expect("it is one").put(&[0; 4], &entry, 0);
            let inner_theirs = KernelMap::of(inner, None).expect("a good definition");
            assert_eq!(answer, theirs.update(&[0; 4], &inner_theirs.fd().to_ne_bytes(), 0), "{like:?} {inner:?}");
            fitted += u32::from(answer.is_ok());
        }
    }
    assert!(fitted > 24, "more than each its like");
}

#[test]
fn definitions_of_maps_of_maps_are_refused_with_the_kernels_errno() {
    if !kernel::available() {
        return;
    }
    let table = Table::new();
    let mut random = Random::new(5);
    let array = def(MapKind::ARRAY, 4, 8, 1, 0);
    let inner = [
        array.clone(),
        def(MapKind::HASH, 4, 8, 1, 0),
        def(MapKind::PROGRAM_ARRAY, 4, 4, 1, 0),
        outer(MapKind::ARRAY_OF_MAPS, 4, 1, &array),
        outer(MapKind::HASH_OF_MAPS, 4, 1, &array),
    ];
    let inner_theirs = inner.each_ref().map(|def| {
        let like = def.inner.as_ref().map(|like| KernelMap::of(like, None).expect("good"));
        KernelMap::of(def, like.as_ref()).expect("a good definition")
    });
    let mut made = 0;
    for _ in 0..OPERATIONS {
        let index = random.below(5) as usize;
        let [one, other] = [random.below(15), random.below(15)].map(|bit| 1 << bit);
        let def = MapDef {
            key_len: random.pick(&[0, 4, 4, 4, 8, 512]),
            value_len: random.pick(&[4, 4, 4, 4, 4, 0, 8]),
            max_entries: random.pick(&[0, 1, 10, 100]),
            flags: random.pick(&[0, 0, 0, one, one | other]),
            ..outer(random.pick(&[MapKind::ARRAY_OF_MAPS, MapKind::HASH_OF_MAPS]), 4, 1, &inner[index])
        };
        let ours = match table.create(&def) {
            Ok(_) => Ok(()),
            Err(MapError::Definition { errno, .. }) => Err(errno),
            Err(other) => panic!("{other}"),
        };
        let theirs = KernelMap::of(&def, Some(&inner_theirs[index])).map(drop);
        assert_eq!(ours, theirs, "{def:?}");
        made += u32::from(ours.is_ok());
    }
    assert!(made > 100);
}

/// Looks up the first word of the frame in the outer map, and the second in what it finds.
const TWO_LOOKUPS: &str = "r2 = 0\nr3 = r10\nr3 += -8\nr4 = 8\ncall 189\nif r0 != 0 goto out
    r1 = map_by_idx(0)\nr2 = r10\nr2 += -8\ncall 1\nif r0 == 0 goto out
    r1 = r0\nr2 = r10\nr2 += -4\ncall 1\nif r0 == 0 goto none
    r1 = *(u32 *)(r0 + 0)\nr2 = r1\nr2 += 1\n*(u32 *)(r0 + 0) = r2\nr0 = r1\nexit
    out: r0 = -1\nexit
    none: r0 = -2\nexit";

fn words(words: [u32; 2]) -> Vec<u8> {
    let mut frame = words.map(u32::to_ne_bytes).as_flattened().to_vec();
    frame.resize(20, 0);
    frame
}

#[test]
fn programs_look_up_in_inner_maps_as_in_the_kernel() {
    if !kernel::available() {
        return;
    }
    kernel::stay_on_processor_0();
    for (kind, like) in [
        (MapKind::ARRAY_OF_MAPS, def(MapKind::ARRAY, 4, 4, 3, 0)),
        (MapKind::ARRAY_OF_MAPS, def(MapKind::HASH, 4, 4, 3, 0)),
        (MapKind::HASH_OF_MAPS, def(MapKind::ARRAY, 4, 4, 3, ANY_COUNT)),
        (MapKind::HASH_OF_MAPS, def(MapKind::PERCPU_HASH, 4, 4, 3, 0)),
    ] {
        let def = outer(kind, 4, 4, &like);
        let like_theirs = KernelMap::of(&like, None).expect("a good definition");
        let theirs = KernelMap::of(&def, Some(&like_theirs)).expect("a good definition");
        let both = Both::load(TWO_LOOKUPS, &def, theirs.fd());
        let maps = both.map.as_map_of_maps().expect("it is one");
        let inner = [0u32, 1].map(|number| {
            let ours = maps::create(&like, both.stage.world.map_env()).expect("a good definition");
            let inner = KernelMap::of(&like, None).expect("a good definition");
            for key in number..3 {
                let key = key.to_ne_bytes();
                let len = if like.kind == MapKind::PERCPU_HASH { 8 } else { 4 };
                ours.host_update(&key, &vec![7; len], 0).expect("room");
                inner.update(&key, &vec![7; inner.value_len()], 0).expect("room");
            }
            (both.stage.world.maps.enter(ours).expect("room"), inner)
        });
        let mut random = Random::new(u64::from(like.kind.0));
        for operation in 0..OPERATIONS {
            // The kernel waits for a grace period at each.
            if random.below(100) == 0 {
                let key = random.below(4).to_ne_bytes();
                let (ours, inner) = &inner[random.below(2) as usize];
                if random.below(3) == 0 {
                    assert_eq!(both.map.delete(&key), theirs.delete(&key));
                } else {
                    assert_eq!(maps.put(&key, ours, 0), theirs.update(&key, &inner.fd().to_ne_bytes(), 0));
                }
            }
            let mode = random.pick(&Mode::ALL);
            both.compare(mode, &words([random.below(5), random.below(4)]), &(kind, operation));
        }
    }
}

/// Linux CVE-2023-52447, ebpf-for-windows#4906: an inner map was freed while a program still used it.
#[test]
fn regression_56_an_inner_map_that_was_taken_out_lives_until_the_burst_ends() {
    let table = Table::new();
    let like = def(MapKind::HASH, 4, 4, 3, 0);
    for kind in [MapKind::ARRAY_OF_MAPS, MapKind::HASH_OF_MAPS] {
        let outer = table.create(&outer(kind, 4, 2, &like)).expect("a good definition");
        let maps = outer.as_map_of_maps().expect("it is one");
        let key = [0; 4];
        for leaves in ["deleted", "replaced"] {
            let entry = table.enter(&like);
            let id = entry.id();
            maps.put(&key, &entry, 0).expect("it fits");
            drop(entry);
            let burst = crossbeam::epoch::pin();
            let handle = u64::from(outer.lookup(WorkerIndex(0), &key).expect("lookups").expect("there"));
            match leaves {
                "deleted" => outer.delete(&key).expect("there"),
                _ => maps.put(&key, &table.enter(&like), 0).expect("it fits"),
            }
            for _ in 0..1000 {
                crossbeam::epoch::pin().flush();
            }
            let held = table.maps.map_by_handle(handle, &burst).expect("the run may still use it");
            held.update(WorkerIndex(0), &[1; 4], &[2; 4], 0).expect("it works as before");
            assert_eq!(held.host_lookup(&[1; 4]), Ok(vec![2; 4]));
            drop(burst);
            let gone = (0..100_000).any(|_| {
                let guard = crossbeam::epoch::pin();
                guard.flush();
                std::thread::yield_now();
                table.maps.map(id, &guard).is_none()
            });
            assert!(gone, "a map that was {leaves} leaves the table after the burst");
        }
    }
}

#[test]
fn verify_mode_knows_that_an_inner_map_is_no_memory() {
    let stage = Stage::new();
    let like = def(MapKind::ARRAY, 4, 4, 3, 0);
    let (id, map) = stage.map(&outer(MapKind::ARRAY_OF_MAPS, 4, 1, &like));
    let inner = stage.world.maps.enter(maps::create(&like, stage.world.map_env()).expect("good")).expect("room");
    map.as_map_of_maps().expect("it is one").put(&[0; 4], &inner, 0).expect("it fits");
    let load = |text| stage.load("reads", ProgramKind::Xdp, slots(text), &[(id, Arc::clone(&map))]);
    let program = load(
        "*(u32 *)(r10 - 4) = 0\nr1 = map_by_idx(0)\nr2 = r10\nr2 += -4\ncall 1\nif r0 == 0 goto out
        r0 = *(u32 *)(r0 + 4)\nout: exit",
    );
    for mode in Mode::ALL {
        let ran = stage.run_frame(mode, &program, &[0; 64]);
        assert!(ran.trap_text().contains("read at guest address"), "{mode}: {}", ran.trap_text());
        if mode == Mode::Verify {
            let [finding] = &ran.findings[..] else { panic!("{:?}", ran.findings) };
            assert_eq!(
                finding.to_string(),
                "reads insn 7: read of 4 bytes at offset 4 of a map, which programs only pass to helpers (map-access)"
            );
        }
    }
    let program = load(TWO_LOOKUPS.replace("r2 = 0\n", "r6 = r1\nr2 = 0\n").as_str());
    let ran = stage.run_frame(Mode::Verify, &program, &words([0, 1]));
    assert_eq!((ran.r0, ran.trap, ran.findings), (0, None, Vec::new()));
}

#[test]
fn a_map_of_maps_without_a_template_or_with_a_bad_one_is_refused_in_one_line() {
    let table = Table::new();
    let text = |def: &MapDef| table.create(def).expect_err("refused").to_string();
    let array = def(MapKind::ARRAY, 4, 8, 1, 0);
    let good = outer(MapKind::ARRAY_OF_MAPS, 4, 1, &array);
    let with = |inner: Option<MapDef>| MapDef { inner: inner.map(Arc::new), ..good.clone() };
    assert_eq!(
        text(&with(None)),
        "map outer: nothing says what its inner maps are (EINVAL); correct the definition, or its size with --map-size"
    );
    assert_eq!(
        text(&with(Some(good.clone()))),
        "map outer: its inner maps are maps of maps (EINVAL); correct the definition, or its size with --map-size"
    );
    assert_eq!(
        text(&with(Some(def(MapKind::PROGRAM_ARRAY, 4, 4, 1, 0)))),
        "map outer: its inner maps are program arrays (ENOTSUPP); correct the definition, or its size with --map-size"
    );
    assert!(text(&with(Some(def(MapKind(33), 4, 4, 1, 0)))).starts_with("map inner: "));
    let huge = MapDef { max_entries: u32::MAX, ..good };
    assert_eq!(
        text(&huge),
        "map outer: more than 1 GiB for its entries (E2BIG); correct the definition, or its size with --map-size"
    );
    assert_eq!(table.create(&array).expect("good").delete(&[0; 4]), Err(Errno::EINVAL));
}
