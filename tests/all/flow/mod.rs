//! Hosts on loopback: what becomes of frames, that each is counted once, and that changes under load lose none.
//!
//! What sits on the hooks here is written in Rust; loaded programs, in `programs`, come through the same door.

mod card;
mod programs;
mod stack;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kumite::flow::{Addresses, Event, Hook, Host, HostConfig, HostError, Judge, ModeTarget, PortStats};
use kumite::port::PortSpec;
use kumite::port::udp::{IoPath, Trains, WireConfig};
use kumite::run::{Redirect, Run};
use kumite::verdict::ProgramKind;
use kumite::vm::{Mode, Outcome};

use crate::ports::{WAYS, free_addresses};

/// How long a condition may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

const ABORTED: u64 = 0;
const DROP: u64 = 1;
const PASS: u64 = 2;
const TX: u64 = 3;
const REDIRECT: u64 = 4;

/// What a test puts on a hook.
struct Rule<F> {
    id: u32,
    name: &'static str,
    kind: ProgramKind,
    judge: F,
}

impl<F> std::fmt::Debug for Rule<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl<F: Fn(Mode, &mut Run<'_>) -> u64 + Send + Sync> Judge for Rule<F> {
    fn name(&self) -> &str {
        self.name
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn kind(&self) -> ProgramKind {
        self.kind
    }

    fn judge(&self, mode: Mode, run: &mut Run<'_>) -> Outcome {
        let r0 = (self.judge)(mode, run);
        Outcome { r0, fuel_left: run.head.fuel, tail_calls: 0, insns: None, trap: None }
    }
}

fn rule<F>(name: &'static str, judge: F) -> Arc<dyn Judge>
where
    F: Fn(Mode, &mut Run<'_>) -> u64 + Send + Sync + 'static,
{
    static NEXT_ID: AtomicU32 = AtomicU32::new(1_000_000);
    Arc::new(Rule { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), name, kind: ProgramKind::Xdp, judge })
}

fn always(r0: u64) -> Arc<dyn Judge> {
    rule("always", move |_, _| r0)
}

/// Byte `at` of the frame under judgement.
fn byte(run: &Run<'_>, at: u32) -> u8 {
    let mut byte = [0];
    run.world.cage.read(u64::from(run.window.data + at), &mut byte).expect("within the frame");
    byte[0]
}

fn start(name: &str, local: SocketAddr, peer: SocketAddr, io: IoPath, worker_count: u32) -> Arc<Host> {
    start_with(name, local, peer, io, Trains::On, worker_count)
}

fn start_with(
    name: &str,
    local: SocketAddr,
    peer: SocketAddr,
    io: IoPath,
    trains: Trains,
    worker_count: u32,
) -> Arc<Host> {
    let wire = PortSpec::udp(WireConfig { local, peer }, io, trains);
    let config = HostConfig { worker_count, ..HostConfig::new(name, wire) };
    Host::start(config).expect("loopback")
}

fn wire(host: &Host) -> PortStats {
    let port = host.stats().ports.remove(0);
    assert!(port.is_balanced(), "{port:?}");
    port
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: never came");
        thread::sleep(Duration::from_micros(200));
    }
}

/// After a stop every frame that was to leave has left or failed.
fn assert_all_left(port: &PortStats) {
    assert!(port.is_balanced(), "{port:?}");
    assert!(port.has_all_left(), "{port:?}");
}

/// Sends frames with at most `window` of them unanswered, where `answered` says how many were.
fn send_in_window(host: &Host, frames: &[Vec<u8>], window: u64, mut answered: impl FnMut() -> u64) {
    let deadline = Instant::now() + PATIENCE;
    let mut next = 0;
    while next < frames.len() {
        let room = usize::try_from(window - (next as u64 - answered()).min(window)).expect("small");
        let batch: Vec<&[u8]> = frames[next..].iter().take(room.min(64)).map(Vec::as_slice).collect();
        let taken = host.send(&batch).expect("the host runs");
        next += taken;
        if taken == 0 {
            assert!(Instant::now() < deadline, "stuck at frame {next}: {:?}", host.stats());
            thread::yield_now();
        }
    }
}

/// A UDP packet from 10.0.0.2, so that flows spread over workers; byte 60 on is the number.
fn packet(number: u32) -> Vec<u8> {
    let mut frame = vec![0; 64 + (number % 100) as usize];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    frame[14] = 0x45;
    frame[23] = 17;
    frame[26..34].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
    frame[34..36].copy_from_slice(&(number % 64).to_be_bytes()[2..]);
    frame[60..64].copy_from_slice(&number.to_be_bytes());
    frame
}

fn packets(count: u32) -> Vec<Vec<u8>> {
    (0..count).map(packet).collect()
}

#[test]
fn frames_that_are_sent_back_come_back_whole_and_every_count_agrees() {
    for (io, trains) in WAYS {
        for worker_count in [1, 2] {
            let [a, b] = free_addresses();
            let left = start_with("left", a, b, io, trains, 1);
            let right = start_with("right", b, a, io, trains, worker_count);
            right.attach_judge(always(TX), Hook::Xdp).expect("a hook");
            let intact = Arc::new(AtomicU64::new(0));
            let check = rule("check", {
                let intact = Arc::clone(&intact);
                move |_, run| {
                    let number = u32::from_be_bytes([60, 61, 62, 63].map(|at| byte(run, at)));
                    let len = run.window.frame_len() as usize;
                    let mut bytes = vec![0; len];
                    run.world.cage.read(u64::from(run.window.data), &mut bytes).expect("the frame");
                    intact.fetch_add(u64::from(bytes == packet(number)), Ordering::Relaxed);
                    DROP
                }
            });
            left.attach_judge(check, Hook::Xdp).expect("a hook");
            let frames = packets(20_000);
            send_in_window(&left, &frames, 256, || wire(&left).rx);
            until("the last frame", || wire(&left).rx == 20_000);
            left.stop();
            right.stop();
            let (l, r) = (wire(&left), wire(&right));
            let bytes: u64 = frames.iter().map(|frame| frame.len() as u64).sum();
            assert_eq!((l.sent, l.tx_frames, l.rx, l.drop, l.tx_errors), (20_000, 20_000, 20_000, 20_000, 0), "{io}");
            assert_eq!((r.rx, r.tx, r.tx_frames, r.rx_bytes, r.tx_bytes), (20_000, 20_000, 20_000, bytes, bytes));
            assert_eq!((l.socket_drops, r.socket_drops), (0, 0));
            assert_eq!(intact.load(Ordering::Relaxed), 20_000);
            assert_all_left(&l);
            assert_all_left(&r);
            let program = right.stats().programs.remove(0);
            assert_eq!((program.runs, program.modes[0].tx, program.hook.as_deref()), (20_000, 20_000, Some("xdp")));
        }
    }
}

#[test]
fn each_verdict_has_its_count_and_each_abort_its_reason() {
    for (io, trains) in WAYS {
        let [a, b] = free_addresses();
        let left = start_with("left", a, b, io, trains, 1);
        let right = start_with("right", b, a, io, trains, 1);
        left.attach_judge(always(DROP), Hook::Xdp).expect("a hook");
        let by_number = rule("by number", |_, run| match byte(run, 63) % 10 {
            0 => ABORTED,
            1 => DROP,
            2 => PASS,
            3 => TX,
            4 => {
                run.redirect = Some(Redirect::to_port(1, 0));
                REDIRECT
            }
            5 => {
                run.redirect = Some(Redirect::to_port(99, 0));
                REDIRECT
            }
            6 => REDIRECT,
            7 => 77,
            8 => 0xffff_ffff_0000_0002,
            _ => panic!("a mistake of ours"),
        });
        right.attach_judge(by_number, Hook::Xdp).expect("a hook");
        let frames: Vec<Vec<u8>> = (0..1000u32)
            .map(|number| {
                let mut frame = packet(number);
                frame[63] = u8::try_from(number % 10).expect("small");
                frame
            })
            .collect();
        send_in_window(&left, &frames, 200, || wire(&right).rx);
        until("all frames", || wire(&right).rx == 1000 && wire(&left).rx == 200);
        right.stop();
        let port = wire(&right);
        assert_eq!((port.drop, port.pass, port.tx, port.redirect, port.aborted), (100, 200, 100, 100, 500), "{io}");
        assert_eq!((port.aborted_by.trap, port.aborted_by.verdict), (0, 200));
        assert_eq!((port.aborted_by.target, port.aborted_by.panic), (200, 100));
        assert_all_left(&port);
        let events = right.events();
        let strange: Vec<_> = events.iter().filter(|told| matches!(&told.event, Event::Verdict { .. })).collect();
        let text = "returns 77, which is no answer of xdp programs: the frame's verdict is aborted".to_owned();
        let expected = Event::Verdict { program: "by number".to_owned(), text };
        assert!(!strange.is_empty() && strange.iter().all(|told| told.event == expected), "{io}: {strange:?}");
        let panics = events
            .into_iter()
            .filter(|told| matches!(&told.event, Event::Panic { worker: 0, text } if text == "a mistake of ours"));
        assert_eq!(panics.count(), 100);
        assert_eq!(right.stats().programs[0].runs, 1000);
        assert_eq!(right.stats().programs[0].modes[0].aborted, 300, "what the program itself said, and panics");
    }
}

#[test]
fn a_frame_may_grow_and_shrink_while_it_is_judged() {
    for (io, trains) in WAYS {
        let [a, b] = free_addresses();
        let peer = UdpSocket::bind(a).expect("free");
        peer.connect(b).expect("loopback");
        peer.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let host = start_with("host", b, a, io, trains, 1);
        let push = rule("push", |_, run| {
            run.window.data -= 4;
            run.world.cage.write(u64::from(run.window.data), b"head").expect("headroom");
            run.window.data_end -= 2;
            TX
        });
        host.attach_judge(push, Hook::Xdp).expect("a hook");
        let mut bytes = [0; 128];
        for round in 0..2000u32 {
            peer.send(&packet(round)[..40]).expect("loopback");
            assert_eq!(peer.recv(&mut bytes).expect("it comes back"), 42, "{io}");
            assert_eq!(&bytes[..4], b"head");
            assert_eq!(bytes[4..42], packet(round)[..38]);
        }
        host.stop();
        assert_all_left(&wire(&host));
    }
}

#[test]
fn a_mode_switch_under_load_loses_no_frame() {
    for (io, trains) in WAYS {
        let [a, b] = free_addresses();
        let left = start_with("left", a, b, io, trains, 1);
        let right = start_with("right", b, a, io, trains, 1);
        left.attach_judge(always(DROP), Hook::Xdp).expect("a hook");
        let seen = Arc::new([const { AtomicU64::new(0) }; 3]);
        let count = rule("count", {
            let seen = Arc::clone(&seen);
            move |mode, _| {
                seen[mode as usize].fetch_add(1, Ordering::Relaxed);
                TX
            }
        });
        right.attach_judge(Arc::clone(&count), Hook::Xdp).expect("a hook");
        let done = Arc::new(AtomicBool::new(false));
        let switcher = thread::spawn({
            let (right, done) = (Arc::clone(&right), Arc::clone(&done));
            move || {
                let mut switches = 0u64;
                while !done.load(Ordering::Relaxed) {
                    for mode in [Mode::Verify, Mode::Instrumented, Mode::Fast] {
                        let target = if switches.is_multiple_of(2) {
                            ModeTarget::All
                        } else {
                            ModeTarget::Program("count".to_owned())
                        };
                        right.set_mode(&target, mode).expect("a known program");
                        switches += 1;
                    }
                    if switches.is_multiple_of(30) {
                        right.attach_judge(always(TX), Hook::Xdp).expect("a hook");
                        right.attach_judge(Arc::clone(&count), Hook::Xdp).expect("a hook");
                    }
                }
                switches
            }
        });
        send_in_window(&left, &packets(30_000), 256, || wire(&left).rx);
        until("the last frame", || wire(&left).rx == 30_000);
        done.store(true, Ordering::Relaxed);
        let switches = switcher.join().expect("switches");
        left.stop();
        right.stop();
        let port = wire(&right);
        assert_eq!((port.rx, port.tx, port.tx_frames, port.socket_drops), (30_000, 30_000, 30_000, 0), "{io}");
        let stats = right.stats();
        let by_mode = |mode: &str| -> u64 {
            let modes =
                stats.programs.iter().filter(|program| program.program == "count").flat_map(|program| &program.modes);
            modes.filter(|runs| runs.mode == mode).map(|runs| runs.total()).sum()
        };
        for mode in Mode::ALL {
            assert_eq!(by_mode(mode.name()), seen[mode as usize].load(Ordering::Relaxed), "{mode}");
        }
        assert_eq!(stats.programs.iter().map(|program| program.runs).sum::<u64>(), 30_000);
        assert!(switches > 10, "{switches} switches only");
    }
}

#[test]
fn after_a_change_returns_the_next_frame_is_judged_by_it() {
    let [a, b] = free_addresses();
    let peer = UdpSocket::bind(a).expect("free");
    peer.connect(b).expect("loopback");
    peer.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let host = start("host", b, a, IoPath::Auto, 2);
    let mut bytes = [0; 64];
    for _ in 0..200 {
        host.attach_judge(always(TX), Hook::Xdp).expect("a hook");
        peer.send(&[1; 20]).expect("loopback");
        assert_eq!(peer.recv(&mut bytes).expect("sent back"), 20);
        host.detach(Hook::Xdp).expect("attached");
        assert_eq!(host.attached(Hook::Xdp), None);
        let before = wire(&host).pass;
        peer.send(&[1; 20]).expect("loopback");
        until("a pass", || wire(&host).pass == before + 1);
    }
    assert_eq!(wire(&host).tx, 200);
}

#[test]
fn the_stack_behind_pass_answers_and_without_a_program_all_frames_pass() {
    for (io, trains) in WAYS {
        let [a, b] = free_addresses();
        let peer = UdpSocket::bind(a).expect("free");
        peer.connect(b).expect("loopback");
        peer.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let host = start_with("host", b, a, io, trains, 1);
        let arp = |last: u8| {
            let request: [&[u8]; 5] = [
                &[0xff; 6],
                &[2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
                &[2, 0, 0, 0, 0, 2, 10, 0, 0, 2],
                &[0, 0, 0, 0, 0, 0, 10, 0, 0],
                &[last],
            ];
            request.concat()
        };
        let mut bytes = [0; 64];
        for (number, program) in [(1, None), (1, Some(always(PASS))), (7, Some(always(PASS)))] {
            if let Some(program) = program {
                host.attach_judge(program, Hook::Xdp).expect("a hook");
            }
            host.set_responder(Addresses::numbered(number)).expect("runs");
            peer.send(&arp(9)).expect("loopback");
            peer.send(&arp(number)).expect("loopback");
            assert_eq!(peer.recv(&mut bytes).expect("an answer"), 42, "{io}");
            assert_eq!(bytes[..14], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, number, 8, 6]);
            assert_eq!(bytes[20..22], [0, 2]);
        }
        host.stop();
        let port = wire(&host);
        assert_eq!((port.rx, port.pass, port.replies, port.tx_frames), (6, 6, 3, 3));
        assert_all_left(&port);
    }
}

#[test]
fn runts_giants_and_floods_are_counted_once_each() {
    for (io, trains) in WAYS {
        let [a, b] = free_addresses();
        let peer = UdpSocket::bind(a).expect("free");
        peer.connect(b).expect("loopback");
        let host = start_with("host", b, a, io, trains, 1);
        host.attach_judge(always(DROP), Hook::Xdp).expect("a hook");
        let total = 60_000u64;
        let lens = [64, 0, 13, 14, 1792, 1793, 8000];
        for number in 0..total {
            let len = lens[usize::try_from(number).expect("small") % lens.len()];
            peer.send(&[3; 8000][..len]).expect("loopback takes or drops, never fails");
        }
        until("all frames", || {
            let port = wire(&host);
            port.rx + port.socket_drops == total
        });
        host.stop();
        let port = wire(&host);
        assert_eq!(port.rx + port.socket_drops, total, "{io}");
        assert_eq!(port.refused, port.refused_by.runt + port.refused_by.oversize);
        assert!(port.refused_by.runt > 0 && port.refused_by.oversize > 0 && port.drop > 0);
    }
}

#[test]
fn a_peer_that_vanishes_and_returns_finds_the_host_as_it_left_it() {
    for (io, trains) in WAYS {
        let [a, b] = free_addresses();
        let left = start_with("left", a, b, io, trains, 1);
        let mut expected = 0;
        let mut sent = 0;
        for round in 0..4 {
            // Nobody listens at b.
            let frames = packets(300);
            send_in_window(&left, &frames, 1 << 40, || 0);
            sent += 300;
            until("frames to nobody", || {
                let port = wire(&left);
                port.tx_frames + port.tx_errors == sent
            });
            let right = start_with("right", b, a, io, trains, 1);
            right.attach_judge(always(TX), Hook::Xdp).expect("a hook");
            send_in_window(&left, &frames, 128, || wire(&left).rx - expected);
            sent += 300;
            expected += 300;
            until("frames to the peer", || wire(&left).rx == expected);
            right.stop();
            let port = wire(&right);
            assert_eq!((port.rx, port.tx_frames), (300, 300), "{io}, round {round}");
        }
        left.stop();
        let port = wire(&left);
        assert_all_left(&port);
        assert!(port.unreachable > 0, "{port:?}");
        assert_eq!(port.rx_errors, 0);
    }
}

#[test]
fn a_stop_sends_what_was_accepted_and_judges_what_had_arrived() {
    for (io, trains) in WAYS {
        for _ in 0..10 {
            let [a, b] = free_addresses();
            let peer = UdpSocket::bind(a).expect("free");
            peer.connect(b).expect("loopback");
            peer.set_read_timeout(Some(PATIENCE)).expect("a socket");
            let host = start_with("host", b, a, io, trains, 1);
            host.attach_judge(always(TX), Hook::Xdp).expect("a hook");
            for number in 0..100 {
                peer.send(&packet(number)).expect("loopback");
            }
            // As many as the peer's ordinary socket holds.
            let frames = packets(100);
            let batch: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            let taken = host.send(&batch).expect("runs") as u64;
            host.stop();
            let port = wire(&host);
            assert_eq!((port.rx, port.tx, port.sent, port.tx_frames), (100, 100, taken, 100 + taken), "{io}");
            let mut bytes = [0; 256];
            for _ in 0..100 + taken {
                peer.recv(&mut bytes).expect("it was sent");
            }
            let error = host.send(&batch).expect_err("stopped");
            assert_eq!(error.to_string(), "host host: stopped; start another");
            assert!(matches!(host.detach(Hook::Xdp), Err(HostError::Stopped { .. })));
            // The address is free for the next host; a process that another test is about to start may hold it for a moment.
            let wire = WireConfig { local: b, peer: a };
            kumite::port::udp::Socket::open(wire, 1).expect("freed");
        }
    }
}

#[test]
fn a_full_outbox_takes_what_fits_and_the_rest_later() {
    let [a, b] = free_addresses();
    let host = start("host", a, b, IoPath::Auto, 1);
    let frame = packet(1);
    let batch = vec![frame.as_slice(); 5000];
    let mut sent = 0;
    until("all accepted", || {
        let taken = host.send(&batch[sent..]).expect("runs");
        assert!(taken <= 512 + 5000);
        sent += taken;
        sent == batch.len()
    });
    host.stop();
    let port = wire(&host);
    assert_eq!((port.sent, port.tx_frames + port.tx_errors), (5000, 5000));
}

#[test]
fn impossible_frames_hosts_and_programs_are_refused_in_words() {
    let [a, b] = free_addresses();
    let wire = WireConfig { local: a, peer: b };
    let refusal =
        |worker_count| Host::start(HostConfig { worker_count, ..HostConfig::new("red", wire) }).expect_err("refused");
    assert_eq!(refusal(0).to_string(), "host red: 0 workers; choose 1 to 64");
    assert_eq!(refusal(65).to_string(), "host red: 65 workers; choose 1 to 64");
    let host = Host::start(HostConfig::new("red\0 ", wire)).expect("any name will do");
    let again = Host::start(HostConfig::new("blue", wire)).expect_err("in use");
    assert_eq!(again.to_string(), format!("wire udp {a}: address in use; choose another LOCAL"));
    let frame = packet(1);
    let long = vec![0; 1793];
    assert_eq!(host.send(&[&frame, &long]).expect("the first fits"), 1);
    assert_eq!(
        host.send(&[&long]).expect_err("too long").to_string(),
        "frame 0 of 1793 bytes: cannot be sent; send frames of 14 to 1792 bytes"
    );
    assert!(matches!(host.send(&[&frame[..13]]), Err(HostError::FrameLen { index: 0, len: 13 })));
    let tc = Arc::new(Rule { id: 1, name: "classify", kind: ProgramKind::Tc, judge: |_, _: &mut Run<'_>| PASS });
    assert_eq!(
        host.attach_judge(tc, Hook::Xdp).expect_err("another kind").to_string(),
        "program classify: a tc program cannot sit on hook xdp; attach a program of the hook's kind"
    );
    let error = host.set_mode(&ModeTarget::Program("ghost".to_owned()), Mode::Verify).expect_err("unknown");
    assert_eq!(error.to_string(), "program ghost: not loaded; load an object that has it");
    assert_eq!(
        host.detach(Hook::Xdp).expect_err("empty").to_string(),
        "hook xdp: no program is attached; attach one first"
    );
}

#[test]
fn snapshots_under_load_are_balanced_and_only_grow() {
    let [a, b] = free_addresses();
    let left = start("left", a, b, IoPath::Auto, 2);
    let right = start("right", b, a, IoPath::Auto, 2);
    left.attach_judge(always(TX), Hook::Xdp).expect("a hook");
    right.attach_judge(always(TX), Hook::Xdp).expect("a hook");
    // These frames go back and forth until the end.
    let frames = packets(200);
    let batch: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    assert_eq!(left.send(&batch).expect("runs"), 200);
    let mut last = 0;
    let deadline = Instant::now() + PATIENCE;
    while last < 20_000 {
        let port = wire(&right);
        assert!(port.rx >= last);
        last = port.rx;
        assert!(Instant::now() < deadline, "{port:?}");
    }
    left.stop();
    right.stop();
    for host in [&left, &right] {
        assert_all_left(&wire(host));
        assert_eq!(host.stats().workers_alive, 0);
    }
}

#[test]
fn a_trace_line_is_an_event_and_an_idle_host_stays_quiet() {
    let [a, b] = free_addresses();
    let host = start("host", a, b, IoPath::Auto, 1);
    (host.world().trace)("hello from a program");
    let before = Instant::now();
    let told = host.events();
    assert!(told.iter().all(|told| told.at <= before), "the time of happening, not of reading");
    let events: Vec<Event> = told.into_iter().map(|told| told.event).collect();
    assert_eq!(events, [Event::Trace { text: "hello from a program".to_owned() }]);
    assert!(host.events().is_empty());
    assert_eq!(host.io_report(), format!("wire udp {a} -> {b}: io_uring (multishot receive, trains)"));
    assert_eq!(wire(&host).turns, 0);
}

#[test]
fn a_judge_that_leaves_bounds_outside_the_chunk_costs_its_frame_and_no_other() {
    for (io, trains) in WAYS {
        let [a, b] = free_addresses();
        let left = start_with("left", a, b, io, trains, 1);
        let right = start_with("right", b, a, io, trains, 1);
        let stray = rule("stray", |_, run| {
            if byte(run, 63).is_multiple_of(4) {
                run.window.data_end = run.window.chunk + run.window.chunk_len + 1;
            }
            TX
        });
        right.attach_judge(stray, Hook::Xdp).expect("a hook");
        left.attach_judge(always(DROP), Hook::Xdp).expect("a hook");
        // More than there are chunks: a lost chunk would be missed.
        send_in_window(&left, &packets(4000), 200, || wire(&right).rx);
        until("all frames", || wire(&right).rx == 4000 && wire(&left).rx == 3000);
        right.stop();
        let port = wire(&right);
        assert_eq!((port.tx, port.aborted, port.aborted_by.panic), (3000, 1000, 1000), "{io}");
        assert_eq!(right.stats().workers_alive, 0);
        assert!(!right.events().iter().any(|happened| matches!(happened.event, Event::WorkerLost { .. })));
        assert_all_left(&port);
    }
}

/// A judge that waits at its first frame until the test lets it go on.
struct Gate {
    reached: AtomicBool,
    open: AtomicBool,
    judged: AtomicU64,
}

impl Gate {
    fn new() -> Arc<Self> {
        let (reached, open) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { reached, open, judged: AtomicU64::new(0) })
    }

    fn pass(&self) {
        self.judged.fetch_add(1, Ordering::Relaxed);
        self.reached.store(true, Ordering::Release);
        while !self.open.load(Ordering::Acquire) {
            thread::yield_now();
        }
    }
}

#[test]
fn a_change_that_a_worker_does_not_take_in_time_says_so_and_comes_into_force_all_the_same() {
    let [a, b] = free_addresses();
    let peer = UdpSocket::bind(a).expect("free");
    peer.connect(b).expect("loopback");
    let host = start("red", b, a, IoPath::Auto, 1);
    let gate = Gate::new();
    let slow = rule("slow", {
        let gate = Arc::clone(&gate);
        move |_, _| {
            gate.pass();
            DROP
        }
    });
    host.attach_judge(Arc::clone(&slow), Hook::Xdp).expect("a hook");
    peer.send(&[1; 60]).expect("loopback");
    until("the frame", || gate.reached.load(Ordering::Acquire));
    let change = thread::spawn({
        let host = Arc::clone(&host);
        move || host.attach_judge(always(DROP), Hook::Xdp)
    });
    until("the change", || host.attached(Hook::Xdp).as_deref() == Some("always"));
    // The change waits for the worker now; nothing else waits for the change.
    assert_eq!(host.stats().workers_alive, 1);
    let error = change.join().expect("no panic").expect_err("the worker is at its frame");
    assert_eq!(
        error.to_string(),
        "host red: worker 0 still acts on what was before, 1000 ms after the change; it takes the change after its \
         frame: wait, or run with less fuel"
    );
    let held = Arc::strong_count(&slow);
    gate.open.store(true, Ordering::Release);
    host.detach(Hook::Xdp).expect("attached, and the worker goes on");
    assert!(Arc::strong_count(&slow) < held, "the plan that the worker held is freed");
    let before = wire(&host).pass;
    peer.send(&[1; 60]).expect("loopback");
    until("a frame without a program", || wire(&host).pass == before + 1);
    assert_eq!(gate.judged.load(Ordering::Relaxed), 1);
}

/// A judge whose runs end by fuel.
#[derive(Debug)]
struct Burner(Arc<dyn Judge>);

impl Judge for Burner {
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
        Outcome { fuel_left: 0, ..self.0.judge(mode, run) }
    }
}

#[test]
fn after_a_long_run_a_worker_takes_a_change_before_the_next_frame_of_the_burst() {
    for io in [IoPath::Ring, IoPath::Plain] {
        let [a, b] = free_addresses();
        let peer = UdpSocket::bind(a).expect("free");
        peer.connect(b).expect("loopback");
        let host = start("host", b, a, io, 1);
        let (first, second) = (Gate::new(), Gate::new());
        let slow = rule("slow", {
            let (first, second) = (Arc::clone(&first), Arc::clone(&second));
            move |_, _| {
                if first.open.load(Ordering::Acquire) {
                    second.pass()
                } else {
                    first.pass()
                }
                DROP
            }
        });
        host.attach_judge(Arc::new(Burner(slow)), Hook::Xdp).expect("a hook");
        // While the first frame waits, the others gather to a burst.
        for _ in 0..21 {
            peer.send(&[1; 60]).expect("loopback");
        }
        until("the first frame", || first.reached.load(Ordering::Acquire));
        first.open.store(true, Ordering::Release);
        until("the second frame", || second.reached.load(Ordering::Acquire));
        let change = thread::spawn({
            let host = Arc::clone(&host);
            move || host.attach_judge(always(DROP), Hook::Xdp)
        });
        // Whoever sees the name sees the change published.
        until("the change", || host.attached(Hook::Xdp).as_deref() == Some("always"));
        second.open.store(true, Ordering::Release);
        // The machine may be busy for longer than the change waits; it is in force all the same.
        let changed = change.join().expect("no panic");
        assert!(matches!(changed, Ok(()) | Err(HostError::Late { .. })), "{changed:?}");
        until("the last frame", || wire(&host).rx == 21);
        assert_eq!((first.judged.load(Ordering::Relaxed), second.judged.load(Ordering::Relaxed)), (1, 1), "{io}");
        assert_eq!(wire(&host).drop, 21);
    }
}

#[test]
fn a_stop_ends_a_burst_of_long_runs_and_the_books_balance() {
    let [a, b] = free_addresses();
    let peer = UdpSocket::bind(a).expect("free");
    peer.connect(b).expect("loopback");
    let host = start("host", b, a, IoPath::Auto, 1);
    let (gate, stopping) = (Gate::new(), Arc::new(AtomicBool::new(false)));
    let slow = rule("slow", {
        let (gate, stopping) = (Arc::clone(&gate), Arc::clone(&stopping));
        move |_, _| {
            gate.pass();
            if stopping.load(Ordering::Acquire) {
                // Longer than a stopping worker goes on: each frame is the last of its kind.
                thread::sleep(Duration::from_millis(kumite::limits::DRAIN_MS_MAX + 1));
            }
            DROP
        }
    });
    host.attach_judge(Arc::new(Burner(slow)), Hook::Xdp).expect("a hook");
    for _ in 0..40 {
        peer.send(&[1; 60]).expect("loopback");
    }
    until("the first frame", || gate.reached.load(Ordering::Acquire));
    stopping.store(true, Ordering::Release);
    let stopper = thread::spawn({
        let host = Arc::clone(&host);
        move || host.stop()
    });
    until("the stop", || host.send(&[]).is_err());
    // While it waits for the worker, reports do not.
    assert_eq!(host.stats().workers_alive, 1);
    gate.open.store(true, Ordering::Release);
    stopper.join().expect("no panic");
    let judged = gate.judged.load(Ordering::Relaxed);
    assert!(judged <= 4, "{judged} frames were judged");
    let port = wire(&host);
    assert_eq!((port.rx, port.drop), (judged, judged));
}
