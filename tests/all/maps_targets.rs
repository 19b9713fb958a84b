//! Maps of redirect targets: against the kernel's and a plain collection, and what `bpf_redirect_map` answers.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use kumite::cage::Cage;
use kumite::maps::{self, Map, MapDef, MapEnv, MapKind, Target};
use kumite::run::Redirect;
use kumite::verdict::ProgramKind;
use kumite::vm::Mode;

use crate::kernel::{self, KernelMap};
use crate::maps_kernel_runs::Both;
use crate::random::Random;
use crate::stage::{Stage, slots};

const OPERATIONS: u32 = 10_000;
/// The loopback interface, which every machine has.
const LOOPBACK: u32 = 1;

fn def(kind: MapKind, value_len: u32, max_entries: u32) -> MapDef {
    MapDef { name: "m".to_owned(), kind, key_len: 4, value_len, max_entries, ..MapDef::default() }
}

fn create(cage: &Arc<Cage>, def: &MapDef) -> Arc<dyn Map> {
    let worker_count =
        u32::try_from(KernelMap::possible_processors().expect("sysfs is mounted")).expect("few processors");
    maps::create(def, MapEnv { cage, worker_count, budget: &Arc::default() }).expect("a good definition")
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes(bytes[..4].try_into().expect("four"))
}

/// Random operations on a map, its model, and the kernel's map. `values` are first words for ours, with theirs.
fn compare(def: &MapDef, values: &[(u32, u32)]) {
    let cage = Cage::new().expect("address space");
    let (ours, theirs) = (create(&cage, def), KernelMap::of(def, None).expect("a good definition"));
    let targets = ours.as_redirect_map().expect("it is one");
    let mut random = Random::new(u64::from(def.kind.0));
    let mut model = BTreeMap::new();
    let is_hash = def.kind == MapKind::DEVMAP_HASH;
    for operation in 0..OPERATIONS {
        let index = if random.below(16) == 0 { u32::MAX } else { random.below(def.max_entries + 2) };
        let key = index.to_ne_bytes();
        let at = format!("{} operation {operation} index {index}", def.kind);
        match random.below(8) {
            0 | 1 => assert_eq!(ours.host_lookup(&key), theirs.lookup(&key), "lookup, {at}"),
            2 | 3 => {
                let answer = ours.delete(&key);
                assert_eq!(answer, theirs.delete(&key), "delete, {at}");
                model.remove(&index);
            }
            4..=6 => {
                let flags = random.pick(&[0, 0, 0, 1, 2, 3]);
                let (value, value_theirs) = random.pick(values);
                let bytes = |value: u32, program: u32| {
                    [value, program].map(u32::to_ne_bytes).as_flattened()[..def.value_len as usize].to_vec()
                };
                let program = random.pick(&[0, 0, 0, u32::MAX, 9999]);
                let answer = ours.host_update(&key, &bytes(value, program), flags);
                let expected = theirs.update(&key, &bytes(value_theirs, program), flags);
                assert_eq!(answer, expected, "update to {value} {program} with flags {flags}, {at}");
                if answer.is_ok() {
                    model.insert(index, value);
                    if value == 0 && def.kind != MapKind::XSKMAP {
                        model.remove(&index);
                    }
                }
            }
            _ if is_hash => {
                let mut keys = Vec::new();
                while let Ok(next) = ours.next_key(keys.last().map(Vec::as_slice)) {
                    keys.push(next);
                }
                let mut keys: Vec<u32> = keys.iter().map(|key| word(key)).collect();
                keys.sort_unstable();
                assert!(keys.iter().eq(model.keys()), "{at}");
                assert_eq!(ours.next_key(None).map(drop), theirs.next_key(None).map(drop), "first key, {at}");
            }
            _ => assert_eq!(ours.next_key(Some(&key)), theirs.next_key(Some(&key)), "next key, {at}"),
        }
        let target = model.get(&index).map(|value| match def.kind {
            MapKind::CPUMAP => Target::Processor(index),
            MapKind::XSKMAP => Target::Socket(*value),
            _ => Target::Port(*value),
        });
        assert_eq!(targets.target(index), target, "{at}");
    }
    assert_eq!(targets.holds_port(LOOPBACK), model.values().any(|value| *value == LOOPBACK) && is_devmap(def.kind));
}

#[test]
fn a_port_is_held_until_its_last_element_goes() {
    let cage = Cage::new().expect("address space");
    let def = MapDef {
        name: "m".to_owned(),
        kind: MapKind::DEVMAP_HASH,
        key_len: 4,
        value_len: 4,
        max_entries: 4,
        ..MapDef::default()
    };
    let map = maps::create(&def, MapEnv { cage: &cage, worker_count: 1, budget: &Arc::default() }).expect("good");
    let targets = map.as_redirect_map().expect("a map of targets");
    // More elements come and go than the map has places.
    for round in 0..100u32 {
        let keys = [round.to_ne_bytes(), (round + 1000).to_ne_bytes()];
        keys.iter().for_each(|key| map.host_update(key, &LOOPBACK.to_ne_bytes(), 0).expect("room"));
        map.delete(&keys[0]).expect("it is there");
        assert!(targets.holds_port(LOOPBACK) && !targets.holds_port(0), "round {round}");
        map.delete(&keys[1]).expect("it is there");
        assert!(!targets.holds_port(LOOPBACK), "round {round}");
    }
    assert!(targets.place_count() >= 4);
}

fn is_devmap(kind: MapKind) -> bool {
    [MapKind::DEVMAP, MapKind::DEVMAP_HASH].contains(&kind)
}

#[test]
fn maps_of_redirect_targets_do_as_a_tree_and_answer_as_the_kernels() {
    if !kernel::available() {
        return;
    }
    let ports = [(0, 0), (LOOPBACK, LOOPBACK)];
    for value_len in [4, 8] {
        compare(&def(MapKind::DEVMAP, value_len, 7), &ports);
        compare(&def(MapKind::DEVMAP_HASH, value_len, 7), &ports);
    }
    let queues = [0, 1, 192, 16384, 16385, u32::MAX].map(|len| (len, len));
    compare(&def(MapKind::CPUMAP, 4, 7), &queues);
    let sockets = [kernel::frame_socket(), kernel::frame_socket()];
    let numbers = [10, 11].map(|number| (number, sockets[number as usize - 10].as_raw_fd().cast_unsigned()));
    compare(&def(MapKind::XSKMAP, 4, 7), &numbers);
}

const REDIRECT: &str = "r2 = 0\nr3 = r10\nr3 += -16\nr4 = 16\ncall 189\nif r0 != 0 goto out
    r1 = map_by_idx(0)\nr2 = *(u32 *)(r10 - 16)\nr3 = *(u64 *)(r10 - 8)\ncall 51\nexit
    out: r0 = -1\nexit";

fn frame(index: u32, flags: u64) -> Vec<u8> {
    let mut frame = index.to_ne_bytes().to_vec();
    frame.extend([0; 4]);
    frame.extend(flags.to_ne_bytes());
    frame.resize(64, 0);
    frame
}

#[test]
fn a_redirect_by_a_map_answers_as_the_kernels() {
    if !kernel::available() {
        return;
    }
    kernel::stay_on_processor_0();
    let socket = kernel::frame_socket();
    for (kind, max_entries, ours, theirs) in [
        (MapKind::DEVMAP, 5, LOOPBACK, LOOPBACK),
        (MapKind::DEVMAP_HASH, 5, LOOPBACK, LOOPBACK),
        (MapKind::CPUMAP, 5, 16, 16),
        (MapKind::XSKMAP, 5, 3, socket.as_raw_fd().cast_unsigned()),
    ] {
        let def = def(kind, 4, max_entries);
        let map = KernelMap::of(&def, None).expect("a good definition");
        let both = Both::load(REDIRECT, &def, map.fd());
        let mut random = Random::new(u64::from(kind.0));
        let mut answers = BTreeMap::new();
        for operation in 0..OPERATIONS {
            let index = random.below(max_entries + 1);
            if random.below(20) == 0 {
                // The stage has one worker, and so one processor.
                let key = if kind == MapKind::CPUMAP { 0 } else { index }.to_ne_bytes();
                if random.below(2) == 0 {
                    assert_eq!(both.map.delete(&key), map.delete(&key));
                } else {
                    let answer = both.map.host_update(&key, &ours.to_ne_bytes(), 0);
                    assert_eq!(answer, map.update(&key, &theirs.to_ne_bytes(), 0));
                }
            }
            let flags = random.pick(&[0, 1, 2, 3, 4, 8, 16, 24, 27, 32, 1 << 32, u64::MAX]);
            let answer = both.compare(random.pick(&Mode::ALL), &frame(index, flags), &(kind, operation, index, flags));
            *answers.entry(answer).or_insert(0) += 1;
        }
        assert!(answers.len() == 5, "every verdict: {answers:?}");
    }
}

#[test]
fn a_redirect_by_a_map_names_its_target_and_an_empty_slot_forgets_the_one_before() {
    let stage = Stage::new();
    let (id, map) = stage.map(&def(MapKind::DEVMAP, 8, 4));
    map.host_update(&2u32.to_ne_bytes(), &[9, 0, 0, 0, 0, 0, 0, 0], 0).expect("a port");
    let two = format!("r6 = r1\nr1 = 5\nr2 = 0\ncall 23\nr1 = r6\n{REDIRECT}");
    let program = stage.load("sends", ProgramKind::Xdp, slots(&two), &[(id, map)]);
    let handle = maps::MapTable::handle(id);
    for mode in Mode::ALL {
        let redirect = |index, flags| {
            let ran = stage.run_frame(mode, &program, &frame(index, flags));
            assert_eq!((ran.trap, &ran.findings[..]), (None, &[][..]), "{mode}");
            (ran.r0, ran.redirect)
        };
        assert_eq!(redirect(2, 1), (4, Some(Redirect::to_port(9, 0))), "{mode}");
        assert_eq!(redirect(1, 2), (2, None), "{mode}");
        assert_eq!(redirect(1, 64), (0, Some(Redirect::to_port(5, 0))), "{mode}: unknown flags change nothing");
        let all = Redirect { target: Target::Ports { map: handle }, flags: 24 };
        assert_eq!(redirect(1, 24), (4, Some(all)), "{mode}");
    }
}

#[test]
fn a_broadcast_reaches_the_ports_of_the_map_but_not_the_one_excluded() {
    let stage = Stage::new();
    for kind in [MapKind::DEVMAP, MapKind::DEVMAP_HASH] {
        let (id, map) = stage.map(&def(kind, 4, 4));
        map.host_update(&3u32.to_ne_bytes(), &[7, 0, 0, 0], 0).expect("a port");
        let handle = maps::MapTable::handle(id);
        let mut run = stage.new_run(ProgramKind::Xdp);
        run.ifindex = 7;
        let _burst = crossbeam::epoch::pin();
        for (flags, port, reached) in [(8, 7, true), (8, 1, false), (24, 7, false)] {
            run.redirect = Some(Redirect { target: Target::Ports { map: handle }, flags });
            assert_eq!(run.redirects_to(port), reached, "{kind} {flags} {port}");
        }
        run.redirect = Some(Redirect { target: Target::Processor(7), flags: 0 });
        assert!(!run.redirects_to(7), "a processor is no port");
    }
}

#[test]
fn only_maps_of_targets_are_redirected_by() {
    let stage = Stage::new();
    let (id, map) = stage.map(&def(MapKind::ARRAY, 4, 4));
    let program = stage.load("sends", ProgramKind::Xdp, slots(REDIRECT), &[(id, map)]);
    for mode in Mode::ALL {
        let ran = stage.run_frame(mode, &program, &frame(0, 0));
        assert_eq!(ran.trap_text(), "insn 10: helper 51: argument 1 is not a map of redirect targets", "{mode}");
    }
}
