//! Our maps under several threads at once: nothing that was never written is seen, and nothing that stays is missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kumite::cage::Cage;
use kumite::maps::{self, Errno, Finish, Map, MapDef, MapEnv, MapKind, WorkerIndex};

use crate::random::Random;

const OPERATIONS: u32 = 30_000;
const WORKERS: u32 = 4;
const NO_PREALLOC: u32 = 1;
/// Words of a value.
const WORDS: usize = 6;
const VALUE_LEN: u32 = 48;

fn make(kind: MapKind, key_len: u32, value_len: u32, max_entries: u32, flags: u32) -> (Arc<Cage>, Arc<dyn Map>) {
    let cage = Cage::new().expect("address space");
    let def = MapDef { name: "m".to_owned(), kind, key_len, value_len, max_entries, flags, ..MapDef::default() };
    let map = maps::create(&def, MapEnv { cage: &cage, worker_count: WORKERS, budget: &Arc::default() })
        .expect("a good definition");
    (cage, map)
}

/// Sets a flag when dropped, so that the readers of a scope end also when a writer fails.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// A value that tells its key and whether it is whole.
fn value_of(key: u32, random: u64) -> Vec<u8> {
    let word = |index: u64| random.wrapping_mul(2 * index + 1).wrapping_add(u64::from(key));
    (0..WORDS as u64).flat_map(|index| if index == 0 { random } else { word(index) }.to_le_bytes()).collect()
}

fn assert_whole(key: u32, value: &[u8]) {
    let random = u64::from_le_bytes(value[..8].try_into().expect("eight"));
    assert_eq!(value, value_of(key, random), "a value of key {key} that was written whole");
}

fn key_of(kind: MapKind, number: u32) -> Vec<u8> {
    if kind == MapKind::LPM_TRIE {
        // Numbers that share prefixes.
        [&(16 + number % 17).to_ne_bytes()[..], &(number << 12).to_be_bytes()[..]].concat()
    } else {
        number.to_ne_bytes().to_vec()
    }
}

/// Writers insert, renew and delete keys while readers look; keys below `stay` are renewed and never deleted.
fn churn(map: &dyn Map, key_count: u32, stay: u32, reader: impl Fn(u32, &[u8], bool) + Sync) {
    let kind = map.def().kind;
    for number in 0..stay {
        map.update(WorkerIndex(0), &key_of(kind, number), &value_of(number, 1), 0).expect("room");
    }
    let writing = AtomicUsize::new(2);
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let writing = &writing;
            scope.spawn(move || {
                let _done = Done(writing);
                let mut random = Random::new(u64::from(worker) + 31);
                for _ in 0..OPERATIONS {
                    let number = random.below(key_count);
                    let key = key_of(kind, number);
                    if number >= stay && random.below(3) == 0 {
                        let answer = map.delete(&key);
                        assert!(matches!(answer, Ok(()) | Err(Errno::ENOENT)), "{answer:?}");
                    } else {
                        let answer = map.update(WorkerIndex(worker), &key, &value_of(number, random.next()), 0);
                        assert!(matches!(answer, Ok(()) | Err(Errno::E2BIG | Errno::ENOSPC)), "{answer:?}");
                    }
                }
            });
        }
        for seed in 0..2 {
            let (writing, reader) = (&writing, &reader);
            scope.spawn(move || {
                let mut random = Random::new(seed + 41);
                while writing.load(Ordering::Acquire) > 0 {
                    let number = random.below(key_count);
                    reader(number, &key_of(kind, number), number < stay);
                }
            });
        }
    });
}

#[test]
fn a_host_sees_whole_values_of_the_right_key_however_often_places_are_used_again() {
    for (kind, max_entries, flags) in [
        (MapKind::HASH, 12, 0),
        (MapKind::HASH, 300, NO_PREALLOC),
        (MapKind::LRU_HASH, 300, 0),
        (MapKind::LPM_TRIE, 12, NO_PREALLOC),
        (MapKind::LPM_TRIE, 300, NO_PREALLOC),
    ] {
        let key_len = if kind == MapKind::LPM_TRIE { 8 } else { 4 };
        let (_cage, map) = make(kind, key_len, VALUE_LEN, max_entries, flags);
        churn(&*map, 16, 4, |number, key, stays| match map.host_lookup(key) {
            // A shorter prefix may answer for one that is not there.
            Ok(value) if kind != MapKind::LPM_TRIE || stays => assert_whole(number, &value),
            Ok(_) => {}
            Err(errno) => assert!(!stays && errno == Errno::ENOENT, "key {number}: {errno}"),
        });
    }
}

#[test]
fn large_values_are_seen_whole_though_their_places_are_used_again_at_once() {
    // So large that there is next to no slack, and that a copy takes longer than a turn through all places.
    const LARGE: usize = 1 << 18;
    for (kind, flags) in [(MapKind::HASH, 0), (MapKind::LPM_TRIE, NO_PREALLOC)] {
        let key_len = if kind == MapKind::LPM_TRIE { 8 } else { 4 };
        let (_cage, map) = make(kind, key_len, 1 << 18, 2, flags);
        let keys = [0, 1].map(|number| key_of(kind, number));
        // Both are there before anybody looks: the shorter prefix would answer for the other.
        for (key, low) in keys.iter().zip([0, 1]) {
            map.update(WorkerIndex(0), key, &[low, 0].repeat(LARGE / 2), 0).expect("room");
        }
        let writing = AtomicUsize::new(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _done = Done(&writing);
                for round in 0..3000u32 {
                    let [low, high, _, _] = round.to_le_bytes();
                    let number = usize::from(low % 2);
                    let value = [low, high].repeat(LARGE / 2);
                    map.update(WorkerIndex(0), &keys[number], &value, 0).expect("room");
                }
            });
            for number in [0, 1] {
                let (map, key, writing) = (&map, &keys[number], &writing);
                scope.spawn(move || {
                    while writing.load(Ordering::Acquire) > 0 {
                        let Ok(value) = map.host_lookup(key) else { continue };
                        assert!(value[2..] == value[..LARGE - 2], "one value from end to end");
                        assert_eq!(usize::from(value[0] % 2), number, "of the right key");
                    }
                });
            }
        });
    }
}

#[test]
fn a_program_sees_whole_values_of_the_right_key_until_its_burst_ends() {
    for (kind, flags) in [(MapKind::HASH, 0), (MapKind::LPM_TRIE, NO_PREALLOC)] {
        let key_len = if kind == MapKind::LPM_TRIE { 8 } else { 4 };
        // Places enough for all that the writers do while a reader does not run.
        let (cage, map) = make(kind, key_len, VALUE_LEN, 1 << 17, flags);
        churn(&*map, 16, 4, |number, key, stays| {
            let _burst = crossbeam::epoch::pin();
            let addr = map.lookup(WorkerIndex(3), key).expect("a type with lookups");
            assert!(addr.is_some() || !stays, "key {number} stays");
            let Some(addr) = addr.filter(|_| kind != MapKind::LPM_TRIE || stays) else { return };
            for _ in 0..3 {
                let mut value = [0; 8 * WORDS];
                cage.read(u64::from(addr), &mut value).expect("readable");
                assert_whole(number, &value);
                std::thread::yield_now();
            }
        });
    }
}

#[test]
fn after_all_the_churn_a_map_still_takes_exactly_as_many_elements_as_it_has() {
    for (kind, flags) in [
        (MapKind::HASH, 0),
        (MapKind::PERCPU_HASH, 0),
        (MapKind::LRU_HASH, 0),
        (MapKind::LRU_PERCPU_HASH, 0),
        (MapKind::LPM_TRIE, NO_PREALLOC),
    ] {
        let key_len = if kind == MapKind::LPM_TRIE { 8 } else { 4 };
        let (_cage, map) = make(kind, key_len, VALUE_LEN, 9, flags);
        churn(&*map, 20, 0, |_, key, _| {
            let _ = (map.lookup(WorkerIndex(0), key), map.next_key(Some(key)));
        });
        while let Ok(key) = map.next_key(None) {
            map.delete(&key).expect("nobody else is there");
        }
        let full = if kind == MapKind::LPM_TRIE { Err(Errno::ENOSPC) } else { Err(Errno::E2BIG) };
        let evicts = [MapKind::LRU_HASH, MapKind::LRU_PERCPU_HASH].contains(&kind);
        for number in 0..12 {
            let answer = map.update(WorkerIndex(0), &key_of(kind, number), &[0; 8 * WORDS], 1);
            assert_eq!(answer, if number < 9 || evicts { Ok(()) } else { full }, "{kind} element {number}");
        }
        let mut count = 0;
        let mut key = map.next_key(None);
        while let Ok(found) = key {
            count += 1;
            key = map.next_key(Some(&found));
        }
        assert_eq!(count, 9, "{kind}");
    }
}

#[test]
fn workers_count_in_their_own_values_of_one_element() {
    for kind in [MapKind::PERCPU_ARRAY, MapKind::PERCPU_HASH, MapKind::LRU_PERCPU_HASH] {
        let (cage, map) = make(kind, 4, 8, 1, 0);
        let key = [0; 4];
        map.host_update(&key, &[0; 8 * WORKERS as usize], 0).expect("room");
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                let (map, cage) = (&map, &cage);
                scope.spawn(move || {
                    for count in 1..=u64::from(OPERATIONS) {
                        let _burst = crossbeam::epoch::pin();
                        let addr = map.lookup(WorkerIndex(worker), &key).expect("lookups").expect("there");
                        cage.write(u64::from(addr), &(count * u64::from(worker + 1)).to_ne_bytes()).expect("writable");
                    }
                });
            }
        });
        let expected: Vec<u8> =
            (1..=u64::from(WORKERS)).flat_map(|worker| (worker * u64::from(OPERATIONS)).to_ne_bytes()).collect();
        assert_eq!(map.host_lookup(&key), Ok(expected), "{kind}");
        assert_eq!(map.lookup(WorkerIndex(WORKERS), &key), Ok(None), "no such worker");
    }
}

#[test]
fn a_ring_buffer_loses_no_record_of_several_workers_without_counting_it() {
    let (cage, map) = make(MapKind::RING_BUFFER, 0, 0, 1 << 14, 0);
    let ring = map.as_ring_buffer().expect("it is one");
    let producing = AtomicUsize::new(3);
    let [sent, discarded] = [(); 2].map(|()| AtomicUsize::new(0));
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    let mut received = 0;
    let mut take = |record: &[u8]| {
        let word = |at: usize| u64::from_le_bytes(record[at * 8..at * 8 + 8].try_into().expect("eight"));
        let (worker, number) = (word(0), word(1));
        assert!((2..record.len() / 8).all(|at| word(at) == worker ^ number), "a whole record");
        let before = last.insert(worker, number);
        assert!(before.is_none_or(|before| before < number), "in order for each worker");
    };
    std::thread::scope(|scope| {
        for worker in 0..3u64 {
            let (cage, producing, sent, discarded) = (&cage, &producing, &sent, &discarded);
            scope.spawn(move || {
                let _done = Done(producing);
                let mut random = Random::new(worker + 51);
                for number in 0..u64::from(OPERATIONS) {
                    let words = 2 + random.below(30) as usize;
                    let Some(addr) = ring.reserve(words as u64 * 8, 0).map(u64::from) else {
                        std::thread::yield_now();
                        continue;
                    };
                    let mut record = vec![(worker ^ number).to_le_bytes(); words];
                    (record[0], record[1]) = (worker.to_le_bytes(), number.to_le_bytes());
                    cage.write(addr, record.as_flattened()).expect("writable");
                    let submit = random.below(8) > 0;
                    let (finish, counter) = if submit { (Finish::Submit, sent) } else { (Finish::Discard, discarded) };
                    ring.finish(addr, finish).expect("reserved by us");
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while producing.load(Ordering::Acquire) > 0 {
            received += ring.read(&mut take);
        }
    });
    received += ring.read(&mut take);
    let [sent, discarded] = [sent, discarded].map(AtomicUsize::into_inner);
    assert_eq!(received, sent);
    assert_eq!((sent + discarded) as u64 + ring.lost(), 3 * u64::from(OPERATIONS));
    assert_eq!(ring.query(0), 0, "all is read");
}

#[test]
fn what_goes_into_a_queue_comes_out_once() {
    for kind in [MapKind::QUEUE, MapKind::STACK] {
        let (_cage, map) = make(kind, 0, 8, 64, 0);
        let pushing = AtomicUsize::new(2);
        let over = AtomicBool::new(false);
        let pushed: usize = std::thread::scope(|scope| {
            let pushers = [0u64, 1].map(|worker| {
                let (map, pushing) = (&map, &pushing);
                scope.spawn(move || {
                    let _done = Done(pushing);
                    let numbers = 0..u64::from(OPERATIONS);
                    numbers.filter(|number| map.push(&(number * 2 + worker).to_ne_bytes(), 0).is_ok()).count()
                })
            });
            let popper = scope.spawn(|| {
                let mut seen = std::collections::BTreeSet::new();
                let mut value = [0; 8];
                loop {
                    let last_round = pushing.load(Ordering::Acquire) == 0;
                    while map.pop(&mut value).is_ok() {
                        assert!(seen.insert(value), "twice");
                    }
                    if last_round {
                        over.store(true, Ordering::Release);
                        return seen.len();
                    }
                }
            });
            let pushed = pushers.map(|pusher| pusher.join().expect("pushes")).iter().sum();
            assert_eq!(popper.join().expect("pops"), pushed);
            pushed
        });
        assert!(over.into_inner() && pushed > 0);
    }
}
