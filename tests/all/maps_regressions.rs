//! Mistakes that other virtual machines shipped in their maps, named after the mistake.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kumite::cage::Cage;
use kumite::limits::WORKERS_MAX;
use kumite::maps::{self, Errno, Finish, Map, MapDef, MapEnv, MapError, MapKind, WorkerIndex};

const NO_PREALLOC: u32 = 1;
const WORKER: WorkerIndex = WorkerIndex(0);

fn make(cage: &Arc<Cage>, kind: MapKind, sizes: [u32; 3], flags: u32) -> Result<Arc<dyn Map>, MapError> {
    let [key_len, value_len, max_entries] = sizes;
    let def = MapDef { name: "m".to_owned(), kind, key_len, value_len, max_entries, flags, ..MapDef::default() };
    // Only maps of maps look at it.
    let like = MapDef { kind: MapKind::ARRAY, key_len: 4, value_len: 4, max_entries: 1, ..MapDef::default() };
    let def = MapDef { inner: Some(Arc::new(like)), ..def };
    maps::create(&def, MapEnv { cage, worker_count: WORKERS_MAX, budget: &Arc::default() })
}

/// Linux e1868b9e36d0: the product of entries and size overflowed, and a small map was used as a large one.
#[test]
fn regression_54_entries_times_size_does_not_overflow() {
    let cage = Cage::new().expect("address space");
    let large = [1, 4, 8, 4096, 0xffff, 1 << 16, (1 << 29) + 1, 1 << 30, 1 << 31, u32::MAX - 7, u32::MAX];
    let begin = Instant::now();
    let mut refused = 0;
    for map_type in maps::MAP_TYPES {
        for key_len in [0, 4, 8, 260, 512, u32::MAX] {
            for value_len in large {
                for max_entries in large {
                    let bytes = u64::from(value_len) * u64::from(max_entries);
                    let made = make(&cage, map_type.kind, [key_len, value_len, max_entries], NO_PREALLOC)
                        .or_else(|_| make(&cage, map_type.kind, [key_len, value_len, max_entries], 0));
                    match made {
                        // Only bits of a bloom filter's values are kept.
                        Ok(_) if map_type.kind == MapKind::BLOOM_FILTER => {}
                        // There is memory for some of them.
                        Ok(map) if map.def().flags & NO_PREALLOC != 0 => {}
                        Ok(_) => assert!(bytes <= 1 << 30, "{} of {bytes} bytes", map_type.kind),
                        Err(error) => {
                            let text = error.to_string();
                            assert!(text.starts_with("map m: ") && !text.contains('\n'), "{text}");
                            refused += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(refused > 1000);
    assert!(begin.elapsed() < Duration::from_secs(60), "absurd sizes are refused at once: {:?}", begin.elapsed());
    // What was made and dropped is free once no other test's thread holds an older guard.
    let all = (0..1000).find_map(|_| cage.alloc((4 << 30) - (16 << 20), "all of it").ok());
    assert!(all.is_some(), "what was refused holds no memory");
}

#[test]
fn absurd_sizes_are_refused_in_one_line() {
    let cage = Cage::new().expect("address space");
    let text = |kind, sizes, flags| make(&cage, kind, sizes, flags).expect_err("absurd").to_string();
    assert_eq!(
        text(MapKind::ARRAY, [4, 1 << 20, u32::MAX], 0),
        "map m: more than 1 GiB for its entries (E2BIG); correct the definition, or its size with --map-size"
    );
    assert_eq!(
        text(MapKind::HASH, [512, 1, 1 << 31], 0),
        "map m: more than 1 GiB for its entries (E2BIG); correct the definition, or its size with --map-size"
    );
    assert_eq!(
        text(MapKind::PROGRAM_ARRAY, [4, 4, u32::MAX], 0),
        "map m: more than 1048576 programs (E2BIG); correct the definition, or its size with --map-size"
    );
    assert_eq!(
        text(MapKind::RING_BUFFER, [0, 0, 1 << 31], 0),
        "map m: more than 1 GiB for its entries (E2BIG); correct the definition, or its size with --map-size"
    );
    assert_eq!(
        text(MapKind::LPM_TRIE, [8, 4, 10], 0),
        "map m: an LPM trie needs BPF_F_NO_PREALLOC (EINVAL); correct the definition, or its size with --map-size"
    );
    assert_eq!(
        text(MapKind(33), [4, 4, 1], 0),
        "map m: type arena is not supported: memory that programs lay out themselves is not there yet; use another map type"
    );
    let held: Vec<_> = (0..4).map(|_| make(&cage, MapKind::ARRAY, [4, 1 << 20, 1000], 0).expect("room")).collect();
    assert_eq!(
        text(MapKind::ARRAY, [4, 1 << 20, 1000], 0),
        "map m: cage: no room for 1048576000 bytes of map values; make maps smaller or unload programs"
    );
    drop(held);
}

/// Linux CVE-2024-50262: the walk of a trie wrote behind its stack when every prefix length was on one path.
#[test]
fn regression_57_a_walk_of_the_deepest_trie_stays_inside() {
    let cage = Cage::new().expect("address space");
    for byte_count in [1u32, 4, 256] {
        let map = make(&cage, MapKind::LPM_TRIE, [4 + byte_count, 1, 5000], NO_PREALLOC).expect("good");
        let key = |len: u32| [len.to_ne_bytes().as_slice(), &vec![0xff; byte_count as usize]].concat();
        let bits = byte_count * 8;
        for len in 0..=bits {
            map.update(WORKER, &key(len), &[1], 1).expect("room");
        }
        let mut walked = vec![map.next_key(None).expect("not empty")];
        while let Ok(next) = map.next_key(walked.last().map(Vec::as_slice)) {
            walked.push(next);
        }
        assert_eq!(walked, (0..=bits).rev().map(key).collect::<Vec<_>>(), "the deepest comes first");
        for len in [bits + 1, u32::MAX] {
            assert_eq!(map.next_key(Some(&key(len))), Ok(key(bits)), "a prefix too long restarts the walk");
            assert_eq!(map.update(WORKER, &key(len), &[1], 0), Err(Errno::EINVAL));
            assert_eq!(map.delete(&key(len)), Err(Errno::EINVAL));
            assert_eq!(map.lookup(WORKER, &key(len)), Ok(None));
            assert_eq!(map.host_lookup(&key(len)), Err(Errno::ENOENT));
        }
    }
}

/// The same for callers of ours, which can give bytes of any length where the kernel reads by the definition.
#[test]
fn keys_and_values_of_another_length_are_refused() {
    let cage = Cage::new().expect("address space");
    for map_type in maps::MAP_TYPES {
        let kind = map_type.kind;
        let (sizes, flags) = match kind {
            MapKind::LPM_TRIE => ([8, 4, 4], NO_PREALLOC),
            MapKind::QUEUE | MapKind::STACK | MapKind::BLOOM_FILTER => ([0, 4, 4], 0),
            MapKind::RING_BUFFER => ([0, 0, 4096], 0),
            _ => ([4, 4, 4], 0),
        };
        let map = make(&cage, kind, sizes, flags).expect("good");
        for len in [0, 1, 3, 5, 7, 9, 1000] {
            let bytes = vec![0; len];
            let key = vec![0; sizes[0] as usize];
            if len != sizes[0] as usize {
                assert!(map.lookup(WORKER, &bytes).is_err() || kind == MapKind::QUEUE || kind == MapKind::STACK);
                assert!(map.update(WORKER, &bytes, &[0; 4], 0).is_err());
                assert!(map.delete(&bytes).is_err());
                assert!(map.next_key(Some(&bytes)).is_err());
                assert!(map.host_lookup(&bytes).is_err());
                assert!(map.host_update(&bytes, &[0; 4], 0).is_err());
            }
            let mut into = bytes.clone();
            assert!(map.update(WORKER, &key, &bytes, 0).is_err(), "{kind}: a value of {len} bytes");
            assert!(map.host_update(&key, &bytes, 0).is_err(), "{kind}: a value of {len} bytes");
            assert!(map.push(&bytes, 0).is_err() && map.pop(&mut into).is_err() && map.peek(&mut into).is_err());
        }
    }
}

/// Linux CVE-2021-3489, CVE-2024-41009: positions and headers lay in memory that others could write.
#[test]
fn regression_58_no_program_forges_a_ring_buffers_positions() {
    let cage = Cage::new().expect("address space");
    let map = make(&cage, MapKind::RING_BUFFER, [0, 0, 4096], 0).expect("good");
    let ring = map.as_ring_buffer().expect("it is one");
    let first = u64::from(ring.reserve(16, 0).expect("room"));
    let second = u64::from(ring.reserve(16, 0).expect("room"));
    // Everything that a program can write, headers of the kernel's layout included.
    cage.fill(first - 8, 2 * 4096, 0xff).expect("the whole region is writable");
    assert_eq!([0, 1, 2, 3].map(|what| ring.query(what)), [48, 4096, 0, 48]);
    ring.finish(first, Finish::Submit).expect("reserved");
    assert_eq!(ring.read(|record| assert_eq!(record, [0xff; 16])), 1);
    assert_eq!(ring.read(|_| panic!("the second is not finished")), 0);
    ring.finish(second, Finish::Discard).expect("reserved");
    assert_eq!(ring.read(|_| panic!("it was discarded")), 0);
    assert_eq!([0, 2, 3].map(|what| ring.query(what)), [0, 48, 48]);
}

#[test]
fn regression_58_a_ring_buffers_record_is_finished_once_and_by_its_address_only() {
    let cage = Cage::new().expect("address space");
    let map = make(&cage, MapKind::RING_BUFFER, [0, 0, 4096], 0).expect("good");
    let ring = map.as_ring_buffer().expect("it is one");
    let record = u64::from(ring.reserve(64, 0).expect("room"));
    let refused = |addr: u64| assert_eq!(ring.finish(addr, Finish::Submit), Err(Errno::EINVAL), "{addr:#x}");
    for addr in (record - 64..record + 3 * 4096).filter(|addr| *addr != record) {
        refused(addr);
    }
    for addr in [0, 8, u64::from(u32::MAX), u64::MAX, u64::MAX - 7, record | 1 << 32, record.wrapping_neg()] {
        refused(addr);
    }
    ring.finish(record, Finish::Submit).expect("reserved");
    refused(record);
    assert_eq!(ring.read(|record| assert_eq!(record.len(), 64)), 1);
    refused(record);
}

/// bpftime's handler of maps: a value was freed while a program still held its pointer.
#[test]
fn regression_59_a_value_pointer_used_after_delete_reaches_no_other_element_within_its_burst() {
    let cage = Cage::new().expect("address space");
    for (kind, key_len, flags) in [
        (MapKind::HASH, 4, 0),
        (MapKind::HASH, 4, NO_PREALLOC),
        (MapKind::LRU_HASH, 4, 0),
        (MapKind::PERCPU_HASH, 4, 0),
        (MapKind::LPM_TRIE, 8, NO_PREALLOC),
    ] {
        let map = make(&cage, kind, [key_len, 8, 4], flags).expect("good");
        let key = |number: u32| {
            let mut key = 32u32.to_ne_bytes().to_vec();
            key.extend(number.to_be_bytes());
            key.split_off(key.len() - key_len as usize)
        };
        let burst = crossbeam::epoch::pin();
        for number in 0..4 {
            map.update(WORKER, &key(number), &[1; 8], 1).expect("room");
        }
        let held = u64::from(map.lookup(WORKER, &key(0)).expect("lookups").expect("there"));
        map.delete(&key(0)).expect("there");
        map.update(WORKER, &key(9), &[9; 8], 1).expect("one was deleted");
        let mut value = [0; 8];
        cage.read(held, &mut value).expect("still mapped");
        assert_eq!(value, [1; 8], "{kind}: the value stays until the burst ends");
        cage.write(held, &[0xee; 8]).expect("still mapped");
        for number in [1, 2, 3, 9] {
            let value = map.host_lookup(&key(number)).expect("there");
            assert_ne!(value[..8], [0xee; 8], "{kind}: key {number} has another value");
        }
        assert_eq!(map.lookup(WORKER, &key(0)), Ok(None));
        drop(burst);
    }
}

#[test]
fn a_frozen_array_is_read_only_for_programs_and_host() {
    let cage = Cage::new().expect("address space");
    let map = make(&cage, MapKind::ARRAY, [4, 16, 1], 1 << 7).expect("good");
    map.host_update(&[0; 4], &[7; 16], 0).expect("not frozen yet");
    map.freeze().expect("arrays can be frozen");
    assert_eq!(map.host_update(&[0; 4], &[8; 16], 0), Err(Errno::EPERM));
    assert_eq!(map.update(WORKER, &[0; 4], &[8; 16], 0), Err(Errno::EPERM));
    let addr = u64::from(map.value_addr(3).expect("an array of one entry"));
    assert!(cage.write(addr, &[1]).is_err());
    assert_eq!(map.host_lookup(&[0; 4]), Ok(vec![7; 16]));
    assert_eq!(map.value_addr(16), None);
    let hash = make(&cage, MapKind::HASH, [4, 16, 1], 0).expect("good");
    assert_eq!(hash.freeze(), Err(Errno::EPERM));
}
