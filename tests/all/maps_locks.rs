//! Locks in the values of maps: against the kernel's, and what a program that misuses them gets.

use std::sync::Arc;

use kumite::cage::Cage;
use kumite::maps::{self, Errno, Map, MapDef, MapEnv, MapKind, WorkerIndex};
use kumite::verdict::ProgramKind;
use kumite::vm::Mode;

use crate::kernel::{self, KernelMap};
use crate::maps_kernel_runs::Both;
use crate::random::Random;
use crate::stage::{Stage, slots};

const OPERATIONS: u32 = 10_000;
const LOCK: u64 = 4;

fn def(kind: MapKind, flags: u32) -> MapDef {
    MapDef {
        name: "m".to_owned(),
        kind,
        key_len: 4,
        value_len: 16,
        max_entries: 5,
        flags,
        lock_offset: Some(4),
        ..MapDef::default()
    }
}

fn create(cage: &Arc<Cage>, def: &MapDef) -> Arc<dyn Map> {
    maps::create(def, MapEnv { cage, worker_count: 1, budget: &Arc::default() }).expect("a good definition")
}

#[test]
fn maps_with_locks_answer_as_the_kernels() {
    if !kernel::available() {
        return;
    }
    for (kind, flags) in [(MapKind::ARRAY, 0), (MapKind::HASH, 0), (MapKind::HASH, 1)] {
        let cage = Cage::new().expect("address space");
        let def = def(kind, flags);
        let (ours, theirs) = (create(&cage, &def), KernelMap::of(&def, None).expect("a good definition"));
        let mut random = Random::new(u64::from(kind.0));
        for operation in 0..OPERATIONS {
            let key = random.below(7).to_ne_bytes();
            let at = format!("{kind} operation {operation} key {key:?}");
            match random.below(8) {
                0 | 1 => assert_eq!(ours.host_lookup(&key), theirs.lookup(&key), "lookup, {at}"),
                2 | 3 => {
                    assert_eq!(ours.host_lookup_locked(&key), theirs.lookup_with(&key, LOCK), "locked lookup, {at}");
                }
                4 if kind == MapKind::HASH => assert_eq!(ours.delete(&key), theirs.delete(&key), "delete, {at}"),
                _ => {
                    let value = random.bytes(16);
                    let flags = random.pick(&[0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 1 << 32]);
                    let answer = ours.host_update(&key, &value, flags);
                    assert_eq!(answer, theirs.update(&key, &value, flags), "update with flags {flags}, {at}");
                }
            }
        }
    }
}

/// Which types hold locks, and with which flags.
#[test]
fn definitions_with_locks_are_refused_with_the_kernels_errno() {
    if !kernel::available() {
        return;
    }
    let cage = Cage::new().expect("address space");
    for kind in [1, 2, 5, 6, 9, 10].map(MapKind) {
        for flags in [0, 1 << 7, 1 << 8] {
            let def = def(kind, flags);
            let ours = match maps::create(&def, MapEnv { cage: &cage, worker_count: 1, budget: &Arc::default() }) {
                Ok(_) => Ok(()),
                Err(maps::MapError::Definition { errno, .. }) => Err(errno),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(ours, KernelMap::of(&def, None).map(drop), "{kind} flags {flags:#x}");
        }
    }
    let text = |def: &MapDef| {
        maps::create(def, MapEnv { cage: &cage, worker_count: 1, budget: &Arc::default() })
            .expect_err("refused")
            .to_string()
    };
    for lock_offset in [6, 13, 16, u32::MAX] {
        let def = MapDef { lock_offset: Some(lock_offset), ..def(MapKind::HASH, 0) };
        assert_eq!(
            text(&def),
            "map m: a lock or timer that is not in its values (EINVAL); correct the definition, or its size with --map-size"
        );
    }
    let def = MapDef { timer_offset: Some(0), ..def(MapKind::HASH, 0) };
    assert_eq!(text(&def), "map m: a lock in a timer (EINVAL); correct the definition, or its size with --map-size");
}

/// Adds the frame's second word to a value under its lock; the first is the key.
const ADD: &str = "r2 = 0\nr3 = r10\nr3 += -8\nr4 = 8\ncall 189\nif r0 != 0 goto out
    r1 = map_by_idx(0)\nr2 = r10\nr2 += -8\ncall 1\nif r0 == 0 goto out
    r6 = r0\nr1 = r6\nr1 += 4\ncall 93
    r2 = *(u32 *)(r10 - 4)\nr7 = *(u32 *)(r6 + 8)\nr7 += r2\n*(u32 *)(r6 + 8) = r7
    r1 = r6\nr1 += 4\ncall 94\nr0 = r7\nexit
    out: r0 = -1\nexit";

fn frame(key: u32, number: u32) -> Vec<u8> {
    let mut frame = [key, number].map(u32::to_ne_bytes).as_flattened().to_vec();
    frame.resize(20, 0);
    frame
}

#[test]
fn programs_lock_values_as_in_the_kernel() {
    if !kernel::available() {
        return;
    }
    for kind in [MapKind::ARRAY, MapKind::HASH] {
        let def = def(kind, 0);
        let theirs = KernelMap::of(&def, None).expect("a good definition");
        let both = Both::load(ADD, &def, theirs.fd());
        let mut random = Random::new(3);
        for operation in 0..OPERATIONS {
            let key = random.below(6);
            if random.below(10) == 0 {
                let value = random.bytes(16);
                let [ours, theirs] = [
                    both.map.host_update(&key.to_ne_bytes(), &value, LOCK),
                    theirs.update(&key.to_ne_bytes(), &value, LOCK),
                ];
                assert_eq!(ours, theirs, "{kind} {operation}");
            }
            both.compare(random.pick(&Mode::ALL), &frame(key, random.below(1000)), &(kind, operation));
        }
    }
}

#[test]
fn a_run_that_ends_or_traps_with_a_lock_releases_it() {
    let stage = Stage::new();
    let (id, map) = stage.map(&def(MapKind::ARRAY, 0));
    let lock =
        "*(u32 *)(r10 - 4) = 0\nr1 = map_by_idx(0)\nr2 = r10\nr2 += -4\ncall 1\nr6 = r0\nr1 = r6\nr1 += 4\ncall 93\n";
    let load =
        |text: &str| stage.load("locks", ProgramKind::Xdp, slots(&format!("{lock}{text}")), &[(id, Arc::clone(&map))]);
    let held = "a lock that may be taken: the run holds one already";
    let cases = [
        ("r0 = 2\nexit", String::new(), &["lock-leak"][..]),
        ("r1 = 0\nr0 = *(u32 *)(r1 + 0)\nexit", "read at guest address".to_owned(), &[]),
        ("r1 = r6\nr1 += 4\ncall 93\nr0 = 1\nexit", format!("helper 93: argument 1 is not {held}"), &[]),
        ("r1 = r6\ncall 94\nr0 = 1\nexit", "helper 94: argument 1 is not the lock that the run holds".to_owned(), &[]),
        ("r1 = r6\nr1 += 4\ncall 94\nr1 = r6\nr1 += 4\ncall 94\nr0 = 1\nexit", "is not the lock".to_owned(), &[]),
        ("r1 = r6\nr1 += 4\ncall 94\nr1 = r6\nr1 += 5\ncall 93\nr0 = 1\nexit", "the address of a lock".to_owned(), &[]),
        ("r1 = r6\nr1 += 4\ncall 94\nr1 = 0\ncall 93\nr0 = 1\nexit", "cannot write 4 bytes".to_owned(), &[]),
    ];
    for (text, trap, findings) in cases {
        let program = load(text);
        for mode in Mode::ALL {
            let ran = stage.run_frame(mode, &program, &[0; 64]);
            assert!(ran.trap_text().contains(&trap), "{mode}: {}", ran.trap_text());
            assert_eq!(ran.trap.is_none(), trap.is_empty(), "{mode}: {}", ran.trap_text());
            if mode == Mode::Verify && trap.is_empty() {
                assert_eq!(ran.findings.iter().map(|finding| finding.id).collect::<Vec<_>>(), findings);
            }
        }
    }
}

#[test]
fn a_lock_that_a_program_spoiled_ends_in_a_trap_and_not_in_a_hang() {
    let stage = Stage::new();
    let (id, map) = stage.map(&def(MapKind::ARRAY, 0));
    let spoil = "*(u32 *)(r10 - 4) = 1\nr1 = map_by_idx(0)\nr2 = r10\nr2 += -4\ncall 1\nr1 = 9\n*(u32 *)(r0 + 4) = r1\nr0 = 1\nexit";
    let spoils = stage.load("spoils", ProgramKind::Xdp, slots(spoil), &[(id, Arc::clone(&map))]);
    let adds = stage.load("adds", ProgramKind::Xdp, slots(ADD), &[(id, Arc::clone(&map))]);
    for mode in Mode::ALL {
        assert_eq!(stage.run_frame(mode, &spoils, &[0; 64]).r0, 1);
        let ran = stage.run_frame(mode, &adds, &frame(1, 1));
        assert!(ran.trap_text().ends_with("helper 93: argument 1 is not a lock that is ever released"), "{mode}");
        assert_eq!(stage.run_frame(mode, &adds, &frame(2, 0)).trap, None, "{mode}: another value has its own lock");
    }
    let key = 1u32.to_ne_bytes();
    assert_eq!(map.host_update(&key, &[7; 16], LOCK), Err(Errno::EBUSY));
    assert_eq!(map.host_lookup_locked(&key), Err(Errno::EBUSY));
    map.host_update(&key, &[7; 16], 0).expect("no lock is asked for");
    assert_eq!(map.host_lookup(&key).expect("there")[8..], [7; 8]);
}

/// The lock and the timer of an element, as they lie in the cage.
fn kept(cage: &Cage, map: &dyn Map, key: u32) -> [u8; 24] {
    let addr = map.lookup(WorkerIndex(0), &key.to_ne_bytes()).expect("a key").expect("an element");
    let mut bytes = [0; 24];
    cage.read(addr.into(), &mut bytes).expect("a value");
    bytes
}

/// Writes the lock and the timer of an element, as a program does.
fn spoil(cage: &Cage, map: &dyn Map, key: u32) {
    let addr = map.lookup(WorkerIndex(0), &key.to_ne_bytes()).expect("a key").expect("an element");
    cage.write(addr.into(), &[9; 24]).expect("a value");
}

fn with_timer(kind: MapKind) -> MapDef {
    MapDef { value_len: 32, lock_offset: Some(16), timer_offset: Some(0), ..def(kind, 0) }
}

#[test]
fn an_element_is_born_with_a_free_lock_and_no_timer() {
    let cage = Cage::new().expect("address space");
    let map = create(&cage, &with_timer(MapKind::HASH));
    // More elements come and go than the map has places.
    for round in 0..200u32 {
        map.host_update(&round.to_ne_bytes(), &[7; 32], 0).expect("room");
        let born = kept(&cage, map.as_ref(), round);
        assert_eq!((&born[..20], &born[20..]), (&[0; 20][..], &[7; 4][..]), "round {round}");
        spoil(&cage, map.as_ref(), round);
        if round % 2 == 0 {
            map.host_update(&round.to_ne_bytes(), &[8; 32], 0).expect("it is there");
            assert_eq!(kept(&cage, map.as_ref(), round)[..20], [0; 20], "round {round}");
            spoil(&cage, map.as_ref(), round);
        }
        map.delete(&round.to_ne_bytes()).expect("it is there");
    }
}

/// Linux 6.18 answers so: after an update of an array's element its timer is gone and `bpf_timer_init` works again; an
/// element of a hash that is written under its lock keeps it.
#[test]
fn an_array_ends_the_timer_of_an_element_that_is_updated() {
    let (key, worker) = (1u32.to_ne_bytes(), WorkerIndex(0));
    for (kind, flags, ends) in [
        (MapKind::ARRAY, 0, true),
        (MapKind::ARRAY, LOCK, true),
        (MapKind::HASH, 0, true),
        (MapKind::HASH, LOCK, false),
    ] {
        let cage = Cage::new().expect("address space");
        let map = create(&cage, &with_timer(kind));
        let updates: [&dyn Fn() -> Result<(), Errno>; 2] =
            [&|| map.host_update(&key, &[7; 32], flags), &|| map.update(worker, &key, &[7; 32], flags)];
        for update in updates {
            map.host_update(&key, &[7; 32], 0).expect("room");
            spoil(&cage, map.as_ref(), 1);
            let addr = map.lookup(worker, &key).expect("a key").expect("an element");
            cage.write(u64::from(addr) + 16, &[0; 4]).expect("a lock that is free");
            update().expect("it is there");
            let after = kept(&cage, map.as_ref(), 1);
            assert_eq!(after[..16] == [0; 16], ends, "{kind} with flags {flags}");
            assert_eq!(after[20..], [7; 4], "{kind} with flags {flags}");
        }
    }
}

#[test]
fn values_that_are_written_and_read_under_their_lock_are_whole() {
    for kind in [MapKind::ARRAY, MapKind::HASH] {
        let cage = Cage::new().expect("address space");
        let map = create(&cage, &def(kind, 0));
        let key = [0; 4];
        map.host_update(&key, &[0; 16], 0).expect("room");
        std::thread::scope(|scope| {
            for writer in 1..=2u8 {
                let map = &map;
                scope.spawn(move || {
                    for number in 0..3000u32 {
                        let byte = writer.wrapping_mul(number.to_ne_bytes()[0]);
                        // The lock may be busy for longer than a writer waits.
                        let _ = map.host_update(&key, &[byte; 16], LOCK);
                    }
                });
            }
            for _ in 0..3000 {
                if let Ok(value) = map.host_lookup_locked(&key) {
                    assert_eq!(value[4..8], [0; 4], "the lock is not shown");
                    assert!(value[8..].iter().chain(&value[..4]).all(|byte| *byte == value[0]), "torn: {value:?}");
                }
            }
        });
    }
}

#[test]
fn a_program_waits_in_vain_a_few_times_only() {
    let stage = Stage::new();
    let (id, map) = stage.map(&def(MapKind::ARRAY, 0));
    // Takes the lock of a value, and updates that value under its lock for ever.
    let text = "*(u32 *)(r10 - 4) = 0\n*(u64 *)(r10 - 24) = 7\n*(u64 *)(r10 - 16) = 7
        r1 = map_by_idx(0)\nr2 = r10\nr2 += -4\ncall 1\nr1 = r0\nr1 += 4\ncall 93
        *(u32 *)(r10 - 28) = 1\nr1 = map_by_idx(0)\nr2 = r10\nr2 += -28\ncall 1\nr8 = r0\nr7 = 0
        again: r7 += 1\n*(u64 *)(r8 + 8) = r7\nr1 = map_by_idx(0)\nr2 = r10\nr2 += -4\nr3 = r10\nr3 += -24\nr4 = 4\ncall 2
        if r0 != 0 goto again
        exit";
    let program = stage.load("waits", ProgramKind::Xdp, slots(text), &[(id, Arc::clone(&map))]);
    for mode in Mode::ALL {
        let ran = stage.run_frame(mode, &program, &[0; 64]);
        assert!(ran.trap_text().ends_with("fuel used up: the program ran too long"), "{mode}: {}", ran.trap_text());
        let value = map.host_lookup(&1u32.to_ne_bytes()).expect("there");
        let calls = u64::from_ne_bytes(value[8..].try_into().expect("eight"));
        assert!((1..=5).contains(&calls), "{mode}: {calls} calls");
    }
}
