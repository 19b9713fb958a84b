//! Loaded programs on hosts: maps that outlive mode switches, tail calls whose slots change under load, traps that
//! cost their frame and nothing else.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kumite::elf::{Object, ObjectMap};
use kumite::flow::{Event, Hook, Host, HostConfig, HostError, Judge, ModeTarget};
use kumite::isa;
use kumite::maps::{MapDef, MapKind};
use kumite::port::udp::{IoPath, WireConfig};
use kumite::program::{Program, RawProgram};
use kumite::run::Run;
use kumite::verdict::ProgramKind;
use kumite::vm::{Loaded, Mode, Outcome};

use super::{assert_all_left, packets, send_in_window, start, until, wire};
use crate::ports::free_addresses;

/// Counts in `counts[0]`, goes on in slot 0 of `jumps`, and sends the frame back where the slot is empty.
const COUNT: &str = "
    r6 = r1
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = map_by_idx(0)
    call 1
    if r0 == 0 goto +2
    r1 = 1
    lock *(u64 *)(r0 + 0) += r1
    r1 = r6
    r2 = map_by_idx(1)
    r3 = 0
    call 12
    r0 = 3
    exit";

fn object(name: &str, programs: &[(&str, ProgramKind, &str)]) -> Object {
    let programs = programs.iter().map(|(name, kind, text)| {
        let slots = isa::assemble(text).unwrap_or_else(|error| panic!("{error}"));
        let raw = RawProgram { name: (*name).to_owned(), section: "test".to_owned(), slots, ..RawProgram::default() };
        Arc::new(Program::check(raw, *kind).unwrap_or_else(|rejection| panic!("{rejection}")))
    });
    let map = |name: &str, kind, value_len| {
        let name = name.to_owned();
        ObjectMap::new(MapDef { name, kind, key_len: 4, value_len, max_entries: 4, flags: 0, ..MapDef::default() })
    };
    Object {
        name: name.to_owned(),
        programs: programs.collect(),
        refused: Vec::new(),
        maps: vec![map("counts", MapKind::ARRAY, 8), map("jumps", MapKind::PROGRAM_ARRAY, 4)],
        refused_maps: Vec::new(),
        license: None,
        btf: None,
    }
}

fn counted(host: &Host) -> u64 {
    let value = host.map("counts").expect("loaded").host_lookup(&[0; 4]).expect("an array's element");
    u64::from_ne_bytes(value.try_into().expect("eight bytes"))
}

fn spar() -> Object {
    object(
        "spar.o",
        &[
            ("count", ProgramKind::Xdp, COUNT),
            ("drop", ProgramKind::Xdp, "r0 = 1\nexit"),
            ("back", ProgramKind::Xdp, "r0 = 3\nexit"),
            ("stray", ProgramKind::Xdp, "r1 = 0\nr0 = *(u32 *)(r1 + 0)\nexit"),
            ("turn", ProgramKind::Xdp, "goto -1"),
            ("classify", ProgramKind::Tc, "r0 = 0\nexit"),
        ],
    )
}

#[test]
fn maps_keep_their_contents_while_modes_change_under_load() {
    for io in [IoPath::Ring, IoPath::Plain] {
        let [a, b] = free_addresses();
        let left = start("left", a, b, io, 1);
        let right = start("right", b, a, io, 2);
        left.load(&spar()).expect("loads");
        left.attach(&left.program("drop").expect("loaded"), Hook::Xdp).expect("a hook");
        right.load(&spar()).expect("loads");
        right.attach(&right.program("count").expect("loaded"), Hook::Xdp).expect("a hook");
        let done = Arc::new(AtomicBool::new(false));
        let switcher = thread::spawn({
            let (right, done) = (Arc::clone(&right), Arc::clone(&done));
            move || {
                let target = ModeTarget::Program("count".to_owned());
                let programs = [Some("back"), Some("stray"), None];
                for (mode, program) in Mode::ALL.into_iter().cycle().zip(programs.into_iter().cycle()) {
                    right.set_mode(&target, mode).expect("loaded");
                    // Both send the frame back, but for the middle one, which would trap: it is never put there.
                    let program = program.filter(|name| *name == "back");
                    right.set_slot("jumps", 0, program).expect("a slot");
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
        });
        send_in_window(&left, &packets(20_000), 256, || wire(&left).rx);
        until("the last frame", || wire(&left).rx == 20_000);
        done.store(true, Ordering::Relaxed);
        switcher.join().expect("switches");
        left.stop();
        right.stop();
        assert_eq!(counted(&right), 20_000, "{io}: every frame was counted once, whatever the mode");
        let port = wire(&right);
        assert_eq!((port.rx, port.tx, port.aborted, port.socket_drops), (20_000, 20_000, 0, 0), "{io}");
        assert_all_left(&port);
        let stats = right.stats();
        let count = stats.programs.iter().find(|program| program.program == "count").expect("attached");
        assert_eq!((count.runs, count.traps), (20_000, 0));
        assert!(count.modes.iter().filter(|runs| runs.total() > 0).count() >= 2, "{:?}", count.modes);
    }
}

#[test]
fn a_slot_is_seen_by_the_next_frame_in_every_mode() {
    let [a, b] = free_addresses();
    let peer = UdpSocket::bind(a).expect("free");
    peer.connect(b).expect("loopback");
    let host = start("host", b, a, IoPath::Auto, 1);
    host.load(&spar()).expect("loads");
    host.attach(&host.program("count").expect("loaded"), Hook::Xdp).expect("a hook");
    let mut expected = [0u64; 3];
    for round in 0..30u64 {
        for mode in Mode::ALL {
            host.set_mode(&ModeTarget::All, mode).expect("runs");
            for (program, verdict) in [(None, 0), (Some("drop"), 1), (Some("back"), 0), (Some("stray"), 2)] {
                host.set_slot("jumps", 0, program).expect("a slot");
                peer.send(&[1; 60]).expect("loopback");
                expected[verdict] += 1;
                until("the frame", || {
                    let port = wire(&host);
                    [port.tx, port.drop, port.aborted] == expected
                });
            }
            host.set_slot("jumps", 0, None).expect("a slot");
        }
        assert_eq!(counted(&host), (round + 1) * 12);
    }
    let traps = host.events().into_iter().filter(|told| {
        matches!(&told.event, Event::Trap { program, text } if program == "count" && text.starts_with("stray insn 1: read at guest"))
    });
    assert_eq!(traps.count(), 90);
    assert_eq!(wire(&host).aborted_by.trap, 90);
}

#[test]
fn a_program_that_never_ends_costs_its_frames_and_not_the_host() {
    let [a, b] = free_addresses();
    let peer = UdpSocket::bind(a).expect("free");
    peer.connect(b).expect("loopback");
    let config = HostConfig { fuel: 10_000, ..HostConfig::new("host", WireConfig { local: b, peer: a }) };
    let host = Host::start(config).expect("free");
    host.load(&spar()).expect("loads");
    for mode in Mode::ALL {
        host.set_mode(&ModeTarget::All, mode).expect("runs");
        host.attach(&host.program("turn").expect("loaded"), Hook::Xdp).expect("a hook");
        let before = wire(&host);
        for _ in 0..100 {
            peer.send(&[1; 60]).expect("loopback");
        }
        until("the traps", || wire(&host).aborted_by.trap == before.aborted_by.trap + 100);
        host.attach(&host.program("back").expect("loaded"), Hook::Xdp).expect("a hook");
        peer.send(&[1; 60]).expect("loopback");
        until("a frame after them", || wire(&host).tx == before.tx + 1);
    }
    let text = "turn insn 0: fuel used up: the program ran too long";
    let events = host.events();
    let is_one = |event: &Event| matches!(event, Event::Trap { text: told, .. } if told.starts_with(text));
    let told = events.iter().filter(|happened| is_one(&happened.event)).count() as u64;
    assert!(told > 0 && told + host.stats().events_untold == 100 * Mode::ALL.len() as u64, "{told} are told");
}

#[test]
fn objects_programs_maps_and_slots_are_found_by_name_or_refused_in_words() {
    let [a, b] = free_addresses();
    let host = start("host", a, b, IoPath::Auto, 1);
    let first = host.load(&spar()).expect("loads");
    let second = host.load(&spar()).expect("loads again");
    assert_ne!(first, second);
    assert_eq!(host.instances().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [first, second]);
    let newest = Arc::clone(&host.instances()[1].1);
    assert!(Arc::ptr_eq(&host.program("count").expect("loaded"), newest.program("count").expect("there")));
    assert!(Arc::ptr_eq(&host.map("counts").expect("loaded"), newest.map("counts").expect("there")));
    let refusal = |map: &str, index, program| host.set_slot(map, index, program).expect_err("refused").to_string();
    assert_eq!(refusal("ghost", 0, None), "map ghost: not loaded; load an object that has it");
    assert_eq!(
        refusal("counts", 0, Some("drop")),
        "map counts: a map of type array holds no programs; name one of type prog_array"
    );
    assert_eq!(
        refusal("jumps", 4, Some("drop")),
        "map jumps: slot 4 of 4 does not take the program (E2BIG); choose another slot or a program of the array's kind"
    );
    assert_eq!(refusal("jumps", 0, Some("ghost")), "program ghost: not loaded; load an object that has it");
    assert_eq!(host.program("ghost").expect_err("unknown").to_string(), refusal("jumps", 0, Some("ghost")));
    host.set_slot("jumps", 0, None).expect("empty already");
    let classify = host.program("classify").expect("loaded");
    assert!(matches!(host.attach(&classify, Hook::Xdp), Err(HostError::Kind { kind: "tc", .. })));
    host.attach(&host.program("count").expect("loaded"), Hook::Xdp).expect("a hook");
    assert_eq!(host.attached(Hook::Xdp), Some("count".to_owned()));
    assert_eq!(
        host.unload(second).expect_err("attached").to_string(),
        "object spar.o: its program count sits on hook xdp; detach it first"
    );
    host.unload(first).expect("not attached");
    assert_eq!(
        host.unload(first).expect_err("gone").to_string(),
        "object 1: not loaded; list the objects for their numbers"
    );
    host.detach(Hook::Xdp).expect("attached");
    host.unload(second).expect("detached");
    assert!(host.map("counts").is_none() && host.instances().is_empty() && host.stats().programs.is_empty());
}

/// Passes what its program would send back.
#[derive(Debug)]
struct Wrapped(Arc<Loaded>);

impl Judge for Wrapped {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    fn kind(&self) -> ProgramKind {
        self.0.kind()
    }

    fn judge(&self, mode: Mode, run: &mut Run<'_>) -> Outcome {
        let outcome = self.0.judge(mode, run);
        Outcome { r0: if outcome.r0 == 3 { 2 } else { outcome.r0 }, ..outcome }
    }
}

#[test]
fn what_wraps_a_loaded_program_under_its_number_sits_in_its_place() {
    let [a, b] = free_addresses();
    let peer = UdpSocket::bind(a).expect("free");
    peer.connect(b).expect("loopback");
    let host = start("host", b, a, IoPath::Auto, 1);
    host.load(&spar()).expect("loads");
    let back = host.program("back").expect("loaded");
    host.attach_judge(Arc::new(Wrapped(Arc::clone(&back))), Hook::Xdp).expect("a hook");
    peer.send(&[1; 60]).expect("loopback");
    until("a pass", || wire(&host).pass == 1);
    host.attach(&back, Hook::Xdp).expect("a hook");
    peer.send(&[1; 60]).expect("loopback");
    until("a frame back", || wire(&host).tx == 1);
    let stats = host.stats();
    let runs = stats.programs.iter().find(|program| program.program == "back").map(|program| program.runs);
    assert_eq!(runs, Some(2), "one book for both");
}

#[test]
fn objects_loaded_and_unloaded_again_and_again_leave_nothing_behind() {
    let [a, b] = free_addresses();
    let host = start("host", a, b, IoPath::Auto, 1);
    let mut object = spar();
    // A quarter of the cage for each: without its memory back, the host would be full soon.
    object.maps[0].def.max_entries = 100 << 20;
    object.maps[0].def.value_len = 8;
    for _ in 0..12 {
        let id = host.load(&object).expect("there is room, once the object before is gone");
        host.attach(&host.program("count").expect("loaded"), Hook::Xdp).expect("a hook");
        host.detach(Hook::Xdp).expect("attached");
        host.unload(id).expect("detached");
        drop(host.instances());
        // Memory is free again after every worker's quiet point.
        until("the memory back", || {
            crossbeam_quiet();
            host.world().cage.alloc(2 << 30, "a test").is_ok()
        });
    }
}

/// Lets this thread do its part of what was put off.
fn crossbeam_quiet() {
    crossbeam::epoch::pin().flush();
}

/// Leaves a word on its stack and tells in `counts[0]` where.
const LEAVES: &str = "
    r6 = 0x5ec7e75ec7e7 ll
    *(u64 *)(r10 - 16) = r6
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = map_by_idx(0)
    call 1
    if r0 == 0 goto +3
    r1 = r10
    r1 += -16
    *(u64 *)(r0 + 0) = r1
    r0 = 1
    exit";

/// Reads the word whose address is in `counts[0]` into `counts[0]`.
const FORGES: &str = "
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = map_by_idx(0)
    call 1
    if r0 == 0 goto +3
    r1 = *(u64 *)(r0 + 0)
    r1 = *(u64 *)(r1 + 0)
    *(u64 *)(r0 + 0) = r1
    r0 = 2
    exit";

#[test]
fn a_program_that_forges_stack_addresses_finds_nothing_of_the_one_before_it() {
    for mode in Mode::ALL {
        let [a, b] = free_addresses();
        let peer = UdpSocket::bind(a).expect("free");
        peer.connect(b).expect("loopback");
        let host = start("host", b, a, IoPath::Auto, 1);
        host.set_mode(&ModeTarget::All, mode).expect("runs");
        host.load(&object("leaves.o", &[("leaves", ProgramKind::Xdp, LEAVES)])).expect("loads");
        host.attach(&host.program("leaves").expect("loaded"), Hook::Xdp).expect("a hook");
        peer.send(&[1; 60]).expect("loopback");
        until("the first", || wire(&host).drop == 1);
        let place = counted(&host);
        assert!(place > 0);
        host.load(&object("forges.o", &[("forges", ProgramKind::Xdp, FORGES)])).expect("loads");
        host.map("counts").expect("loaded").host_update(&[0; 4], &place.to_ne_bytes(), 0).expect("an element");
        host.attach(&host.program("forges").expect("loaded"), Hook::Xdp).expect("a hook");
        peer.send(&[1; 60]).expect("loopback");
        until("the second", || wire(&host).pass == 1);
        assert_eq!(counted(&host), 0, "{mode}");
    }
}

#[test]
fn runs_that_went_on_by_a_tail_call_are_counted_beside_those_of_the_hook() {
    let [a, b] = free_addresses();
    let peer = UdpSocket::bind(a).expect("free");
    peer.connect(b).expect("loopback");
    let host = start("host", b, a, IoPath::Auto, 1);
    host.load(&spar()).expect("loads");
    host.set_slot("jumps", 0, Some("drop")).expect("a slot");
    host.attach(&host.program("count").expect("loaded"), Hook::Xdp).expect("a hook");
    for (mode, runs, tail_runs) in [(Mode::Fast, 1, 0), (Mode::Instrumented, 2, 1), (Mode::Verify, 3, 2)] {
        host.set_mode(&ModeTarget::All, mode).expect("runs");
        peer.send(&[1; 60]).expect("loopback");
        until("the frame", || wire(&host).drop == runs);
        let stats = host.stats();
        let of = |name: &str| stats.programs.iter().find(|program| program.program == name).expect("loaded");
        assert_eq!((of("count").runs, of("count").tail_runs), (runs, 0), "{mode}");
        assert_eq!((of("drop").runs, of("drop").tail_runs), (0, tail_runs), "{mode}");
    }
}
