//! A host as a network card: several ports, hooks with several programs, and books that balance over all of them.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use kumite::flow::{Event, Hook, Host, HostConfig, HostError, Judge, Place, PortConfig, PortStats, Rank, Stats};
use kumite::limits::HOPS_MAX;
use kumite::maps::{self, MapDef, MapKind, Target};
use kumite::port::PortSpec;
use kumite::run::{Context, Redirect, Run};
use kumite::verdict::ProgramKind;

use super::{DROP, PASS, REDIRECT, Rule, TX, always, byte, packet, packets, rule, send_in_window, until};
use crate::shared::skipped;

const OK: u64 = 0;
const SHOT: u64 = 2;
const PIPE: u64 = 3;
const TC_REDIRECT: u64 = 7;
const UNSPEC: u64 = 0xffff_ffff;
/// `BPF_F_INGRESS`.
const INGRESS: u64 = 1;
const LAN: u32 = 2;
const DMZ: u32 = 3;

fn tc<F>(name: &'static str, judge: F) -> Arc<dyn Judge>
where
    F: Fn(&mut Run<'_>) -> u64 + Send + Sync + 'static,
{
    static NEXT_ID: AtomicU64 = AtomicU64::new(2_000_000);
    let id = u32::try_from(NEXT_ID.fetch_add(1, Ordering::Relaxed)).expect("few");
    Arc::new(Rule { id, name, kind: ProgramKind::Tc, judge: move |_, run: &mut Run<'_>| judge(run) })
}

fn spec(text: &str) -> PortSpec {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn port(name: &str, text: &str) -> PortConfig {
    PortConfig { name: name.to_owned(), spec: spec(text) }
}

fn start(name: &str, wire: &str, worker_count: u32) -> Arc<Host> {
    Host::start(HostConfig { worker_count, ..HostConfig::new(name, spec(wire)) }).expect("links are to be had")
}

fn port_of(stats: &Stats, name: &str) -> PortStats {
    stats.ports.iter().find(|port| port.port == name).expect("a port of the host").clone()
}

/// Stops hosts, in their order, and checks their books.
fn balanced<const N: usize>(hosts: [&Arc<Host>; N]) -> [Stats; N] {
    hosts.map(|host| {
        host.stop();
        let stats = host.stats();
        assert!(stats.is_balanced(), "{stats:#?}");
        stats
    })
}

fn word(run: &Run<'_>, offset: u32) -> u32 {
    let mut word = [0; 4];
    run.world.cage.read(u64::from(run.head.ctx + offset), &mut word).expect("the context");
    u32::from_le_bytes(word)
}

fn set_word(run: &Run<'_>, offset: u32, value: u32) {
    run.world.cage.write(u64::from(run.head.ctx + offset), &value.to_le_bytes()).expect("the context");
}

fn redirect(run: &mut Run<'_>, target: Target, flags: u64) {
    // As engines do before a helper is called.
    run.touch();
    run.redirect = Some(Redirect { target, flags });
}

#[test]
fn programs_of_a_hook_run_by_priority_and_go_on_by_their_actions() {
    for worker_count in [1, 2] {
        let cable = format!("link:card-chain-{worker_count}");
        let (left, right) = (start("left", &cable, 1), start("right", &cable, worker_count));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let says = |letter: char, answer: u64| {
            let seen = Arc::clone(&seen);
            move |_: &mut Run<'_>| {
                seen.lock().expect("no panic").push(letter);
                answer
            }
        };
        let xdp = |letter, answer| {
            let say = says(letter, answer);
            rule("xdp", move |_, run| say(run))
        };
        let rank = |priority, actions: &str| Rank { priority, actions: actions.parse().expect("actions") };
        let at = |hook| Place::wire(hook);
        let attach = |hook, judge, rank| right.attach_judge_at(&at(hook), judge, rank).expect("a hook");
        attach(Hook::Xdp, xdp('c', PASS), Rank::default());
        attach(Hook::Xdp, xdp('d', DROP), rank(60, "drop"));
        attach(Hook::Xdp, xdp('a', PASS), rank(10, "pass"));
        attach(Hook::Xdp, xdp('b', TX), rank(10, "pass,tx"));
        attach(Hook::TcIngress, tc("f", says('f', PIPE)), rank(2, "pass"));
        attach(Hook::TcIngress, tc("e", says('e', UNSPEC)), rank(1, "pass"));
        attach(Hook::TcIngress, tc("g", says('g', SHOT)), rank(3, "pass"));
        attach(Hook::TcIngress, tc("h", says('h', OK)), rank(4, "pass"));
        let mut sent = 0;
        let mut send = || {
            assert_eq!(left.send(&[&packet(7)]).expect("runs"), 1);
            sent += 1;
            until("the frame", || port_of(&right.stats(), "wire").rx == sent);
            std::mem::take(&mut *seen.lock().expect("no panic")).into_iter().collect::<String>()
        };
        // The last one's verdict is in its actions: the frame goes on, as in libxdp.
        assert_eq!(send(), "abcdefg");
        right.attach_judge_at(&at(Hook::Xdp), xdp('x', TX), rank(20, "pass")).expect("a hook");
        assert_eq!(send(), "abx");
        let refused = right.attach_judge_at(&at(Hook::TcEgress), tc("i", |_| OK), rank(1, "drop")).expect_err("tc");
        assert!(matches!(refused, HostError::Actions { hook: "tc-egress", .. }));
        right.detach_at(&at(Hook::TcIngress), None).expect("attached");
        let gone = right.detach_at(&at(Hook::TcIngress), None).expect_err("empty");
        assert_eq!(gone.to_string(), "hook tc-ingress: no program is attached; attach one first");
        let [left, right] = balanced([&left, &right]);
        let wire = port_of(&right, "wire");
        assert_eq!((wire.rx, wire.tx, wire.drop, wire.pass), (2, 1, 1, 0));
        let hook = |index: usize| (wire.hooks[index].pass, wire.hooks[index].drop, wire.hooks[index].tx);
        assert_eq!((hook(0), hook(1)), ((1, 0, 1), (0, 1, 0)));
        let programs: Vec<(u32, Option<&str>)> =
            wire.hooks[0].programs.iter().map(|one| (one.priority, one.actions.as_deref())).collect();
        let (pass, drop) = (Some("pass"), Some("drop"));
        assert_eq!(programs, [(10, pass), (10, Some("pass,tx")), (20, pass), (50, pass), (60, drop)]);
        assert_eq!(port_of(&left, "wire").rx, 1);
    }
}

/// A host with three ports, and a peer on each.
fn star(name: &str, worker_count: u32) -> (Arc<Host>, [Arc<Host>; 3]) {
    let links = ["wire", "lan", "dmz"].map(|end| format!("link:card-{name}-{worker_count}-{end}"));
    let peers = links.each_ref().map(|link| start("peer", link, 1));
    for peer in &peers {
        peer.attach_judge(always(DROP), Hook::Xdp).expect("a hook");
    }
    let ports = vec![port("lan", &links[1]), port("dmz", &links[2])];
    let config = HostConfig { worker_count, ports, ..HostConfig::new("middle", spec(&links[0])) };
    (Host::start(config).expect("links are to be had"), peers)
}

#[test]
fn redirects_reach_every_port_and_what_reaches_none_is_aborted() {
    const COUNT: u32 = 3000;
    for worker_count in [1, 2] {
        let (middle, peers) = star("redirect", worker_count);
        let world = middle.world();
        let def = MapDef {
            name: "ports".to_owned(),
            kind: MapKind::DEVMAP_HASH,
            key_len: 4,
            value_len: 4,
            max_entries: 4,
            ..MapDef::default()
        };
        let entry = world.maps.enter(maps::create(&def, world.map_env()).expect("good")).expect("room");
        for ifindex in [1, LAN, DMZ] {
            entry.map().host_update(&ifindex.to_ne_bytes(), &ifindex.to_ne_bytes(), 0).expect("room");
        }
        let handle = maps::MapTable::handle(entry.id());
        let out = rule("out", move |_, run| {
            // BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS
            let (target, flags) = match byte(run, 63) % 6 {
                0 => (Target::Port(LAN), 0),
                1 => (Target::Port(DMZ), 0),
                2 => (Target::Port(9), 0),
                3 => (Target::Ports { map: handle }, 1 << 3 | 1 << 4),
                4 => (Target::Processor(0), 0),
                _ => return PASS,
            };
            redirect(run, target, flags);
            REDIRECT
        });
        middle.attach_judge(out, Hook::Xdp).expect("a hook");
        // Passed frames go into the ingress of dmz, with a copy to lan, and from there to the wire.
        let into = tc("into", |run| {
            set_word(run, Context::SKB_MARK, 77);
            set_word(run, Context::SKB_CB + 8, 78);
            let len = run.window.frame_len();
            run.touch();
            run.copies.push(Redirect::to_port(LAN, 0), len).expect("room").fill(1);
            redirect(run, Target::Port(DMZ), INGRESS);
            TC_REDIRECT
        });
        middle.attach_judge_at(&Place::wire(Hook::TcIngress), into, Rank::default()).expect("a hook");
        let back = tc("back", |run| {
            assert_eq!((word(run, Context::SKB_MARK), word(run, Context::SKB_CB + 8)), (77, 78));
            assert_eq!((word(run, Context::SKB_INGRESS_IFINDEX), word(run, Context::SKB_IFINDEX)), (1, DMZ));
            redirect(run, Target::Port(1), 0);
            TC_REDIRECT
        });
        middle.attach_judge_at(&Place::new("dmz", Hook::TcIngress), back, Rank::default()).expect("a hook");
        let frames = packets(COUNT);
        send_in_window(&peers[0], &frames, 128, || port_of(&middle.stats(), "wire").rx);
        until("all frames", || port_of(&middle.stats(), "wire").rx == u64::from(COUNT));
        let [middle, wire, lan, dmz] = balanced([&middle, &peers[0], &peers[1], &peers[2]]);
        let expected: Vec<u64> =
            (0..6).map(|rest| frames.iter().filter(|frame| frame[63] % 6 == rest).count() as u64).collect();
        let [a, b, none, both, processor, passed] = expected[..] else { panic!("six kinds") };
        let rx = |stats: &Stats| port_of(stats, "wire").rx;
        assert_eq!((rx(&wire), rx(&lan), rx(&dmz)), (passed, a + both + passed, b + both));
        let own = port_of(&middle, "wire");
        assert_eq!((own.redirect, own.aborted_by.target), (a + b + both + passed, none + processor));
        assert_eq!((own.copies, own.copies_lost, own.aborted), (both + passed, 0, none + processor));
        let ingress = port_of(&middle, "dmz");
        assert_eq!((ingress.reentered, ingress.redirect, ingress.rx), (passed, passed, 0));
    }
}

#[test]
fn a_frame_that_is_sent_in_circles_ends() {
    let (middle, peers) = star("circle", 1);
    let on = |to: u32| {
        tc("on", move |run| {
            redirect(run, Target::Port(to), 0);
            TC_REDIRECT
        })
    };
    let place = |name: &str| Place::new(name, Hook::TcEgress);
    middle.attach_judge_at(&place("lan"), on(DMZ), Rank::default()).expect("a hook");
    middle.attach_judge_at(&place("dmz"), on(LAN), Rank::default()).expect("a hook");
    middle.attach_judge_at(&Place::wire(Hook::TcIngress), on(LAN), Rank::default()).expect("a hook");
    assert_eq!(peers[0].send(&[&packet(1)]).expect("runs"), 1);
    until("the frame", || port_of(&middle.stats(), "wire").rx == 1);
    let [stats] = balanced([&middle]);
    let ended: u64 = stats.ports.iter().map(|port| port.hooks[2].aborted_by.hops).sum();
    let redirects: u64 = stats.ports.iter().map(|port| port.redirected).sum();
    assert_eq!((ended, redirects), (1, HOPS_MAX.into()));
}

#[test]
fn tc_egress_sees_what_the_source_and_the_stack_send_and_nothing_of_xdp() {
    for worker_count in [1, 2] {
        let cable = format!("link:card-egress-{worker_count}");
        let (left, right) = (start("left", &cable, 1), start("right", &cable, worker_count));
        right
            .attach_judge(rule("even", |_, run| if byte(run, 63).is_multiple_of(2) { TX } else { PASS }), Hook::Xdp)
            .expect("a hook");
        let every_third = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&every_third);
        let judge = tc("third", move |run| {
            assert_eq!((word(run, Context::SKB_INGRESS_IFINDEX), word(run, Context::SKB_IFINDEX)), (0, 1));
            if count.fetch_add(1, Ordering::Relaxed) % 3 == 2 { SHOT } else { OK }
        });
        for host in [&left, &right] {
            host.attach_judge_at(&Place::wire(Hook::TcEgress), Arc::clone(&judge), Rank::default()).expect("a hook");
        }
        let question: Vec<u8> = [
            &[0xff; 6][..],
            &[2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &[2, 0, 0, 0, 0, 2, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1],
            &[0; 21],
            &[1; 1],
        ]
        .concat();
        let mut frames = packets(600);
        frames.extend(vec![question; 600]);
        let seen = || port_of(&right.stats(), "wire").rx + port_of(&left.stats(), "wire").egress_ended;
        send_in_window(&left, &frames, 128, seen);
        until("all frames", || seen() == 1200);
        let [left, right] = balanced([&left, &right]);
        let (from, to) = (port_of(&left, "wire"), port_of(&right, "wire"));
        assert_eq!((from.sent, from.egress_ended + from.tx_frames), (1200, 1200));
        assert_eq!(to.rx, to.tx + to.pass);
        assert!(to.tx > 0 && to.replies > 0 && to.egress_ended > 0, "{to:?}");
        assert_eq!(to.tx_frames, to.tx + to.replies - to.egress_ended);
        let egress: u64 = [&from, &to].iter().map(|port| port.hooks[2].pass + port.hooks[2].drop).sum();
        assert_eq!((egress, from.sent + to.replies), (every_third.load(Ordering::Relaxed), egress));
    }
}

#[test]
fn a_tag_beside_a_frame_is_in_it_when_it_leaves() {
    let (left, right) = (start("left", "link:card-tag", 1), start("right", "link:card-tag", 1));
    let tag = tc("tag", |run| {
        run.skb.vlan = Some(kumite::run::Vlan { protocol: 0x88a8, tci: 0x6007 });
        OK
    });
    left.attach_judge_at(&Place::wire(Hook::TcEgress), tag, Rank::default()).expect("a hook");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let keep = rule("keep", move |_, run| {
        let mut bytes = vec![0; run.window.frame_len() as usize];
        run.world.cage.read(run.window.data.into(), &mut bytes).expect("within the frame");
        *kept.lock().expect("no panic") = bytes;
        DROP
    });
    right.attach_judge(keep, Hook::Xdp).expect("a hook");
    let frame = packet(5);
    left.send(&[&frame]).expect("runs");
    until("the frame", || port_of(&right.stats(), "wire").rx == 1);
    let expected = [&frame[..12], &[0x88, 0xa8, 0x60, 0x07], &frame[12..]].concat();
    assert_eq!(*seen.lock().expect("no panic"), expected);
    balanced([&left, &right]);
}

#[test]
fn hooks_and_ports_change_while_traffic_flows_and_no_frame_is_lost() {
    const COUNT: u32 = 40_000;
    for worker_count in [1, 2] {
        let cable = format!("link:card-live-{worker_count}");
        let (left, right) = (start("left", &cable, 1), start("right", &cable, worker_count));
        left.attach_judge(always(DROP), Hook::Xdp).expect("a hook");
        right.attach_judge(always(TX), Hook::Xdp).expect("a hook");
        let frames = packets(COUNT);
        thread::scope(|scope| {
            let sender = scope.spawn(|| send_in_window(&left, &frames, 128, || port_of(&left.stats(), "wire").rx));
            let mut round = 0u32;
            while !sender.is_finished() {
                let at = Place::wire(Hook::Xdp);
                let next = rule("next", |_, _| PASS);
                right.attach_judge_at(&at, Arc::clone(&next), Rank { priority: 1, ..Rank::default() }).expect("a hook");
                right.detach_at(&at, Some(next.id())).expect("attached");
                let link = format!("link:card-live-{worker_count}-{round}");
                let ifindex = right.add_port(&port("lan", &link)).expect("room");
                let place = Place::new("lan", Hook::TcEgress);
                right.attach_judge_at(&place, tc("pass", |_| OK), Rank::default()).expect("a hook");
                let twice = right.add_port(&port("lan", &link)).expect_err("the name is taken");
                assert!(matches!(twice, HostError::PortTaken { .. }));
                right.remove_port("lan").expect("there");
                assert_eq!(ifindex, round + 2, "an index is used once");
                round += 1;
            }
            sender.join().expect("all frames came back");
            assert!(round > 0);
        });
        until("the last frames came back", || port_of(&left.stats(), "wire").rx == u64::from(COUNT));
        assert_eq!(right.remove_port("wire").expect_err("it stays").to_string(), HostError::WirePort.to_string());
        let [left, right] = balanced([&left, &right]);
        let (from, to) = (port_of(&left, "wire"), port_of(&right, "wire"));
        let all = u64::from(COUNT);
        assert_eq!((from.sent, from.rx, to.rx, to.tx, to.aborted), (all, all, all, all, 0));
        assert_eq!(right.removed.expect("some were").rx, 0);
    }
}

#[test]
fn ports_are_bounded_and_a_port_that_cannot_be_opened_leaves_nothing() {
    let host = start("host", "link:card-bounds", 2);
    let missing = host.add_port(&port("lan", "packet:kumite-none")).expect_err("no interface");
    assert_eq!(missing.to_string(), "packet:kumite-none: no interface has this name; `ip link` lists them");
    for number in 0..3 {
        host.add_port(&port(&format!("p{number}"), &format!("link:card-bounds-{number}"))).expect("room");
    }
    let full = host.add_port(&port("p3", "link:card-bounds-3")).expect_err("four ports");
    assert!(matches!(full, HostError::PortsFull { count: 4, .. }), "{full}");
    host.remove_port("p1").expect("there");
    host.add_port(&port("p3", "link:card-bounds-3")).expect("room again");
    assert_eq!(host.stats().ports.len(), 4);
    balanced([&host]);
    assert!(matches!(host.add_port(&port("p4", "link:card-bounds-4")), Err(HostError::Stopped { .. })));
}

#[test]
fn over_a_bad_wire_received_refused_and_lost_frames_are_those_that_were_sent() {
    const COUNT: u32 = 20_000;
    let bad = "fault.seed=7&fault.loss=0.1&fault.reorder=0.1&fault.corrupt=0.1";
    for worker_count in [1, 2] {
        let cable = format!("link:card-fault-{worker_count}");
        let left = start("left", &cable, 1);
        let right = start("right", &format!("{cable}?{bad}"), worker_count);
        let odd = rule("odd", |_, run| u64::from(byte(run, 63) % 5));
        right.attach_judge(odd, Hook::Xdp).expect("a hook");
        let frames = packets(COUNT);
        let seen = || {
            let port = port_of(&right.stats(), "wire");
            port.rx + port.socket_drops
        };
        let sender = frames.chunks(64);
        for (index, chunk) in sender.enumerate() {
            let batch: Vec<&[u8]> = chunk.iter().map(Vec::as_slice).collect();
            let mut taken = 0;
            until("room", || {
                taken += left.send(&batch[taken..]).expect("runs");
                taken == batch.len()
            });
            // Frames that others are to overtake wait for those.
            until("most frames", || seen() + 1000 > index as u64 * 64);
        }
        left.stop();
        right.stop();
        let (from, to) = (port_of(&left.stats(), "wire"), port_of(&right.stats(), "wire"));
        assert!(to.is_balanced() && to.has_all_left() && from.has_all_left(), "{to:?}");
        assert!(to.socket_drops > u64::from(COUNT) / 20, "{to:?}");
        assert_eq!(to.rx + to.socket_drops, from.tx_frames, "{from:?} {to:?}");
        assert_eq!(from.tx_frames + from.tx_errors, u64::from(COUNT), "{from:?}");
    }
}

fn ip(arguments: &str) {
    let answer = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(answer.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&answer.stderr));
}

#[test]
fn the_kernels_own_ping_is_answered_through_programs_by_a_stack_behind_a_tap() {
    for worker_count in [1, 2] {
        let asked = thread::spawn(move || {
            // SAFETY: takes no pointers; concerns this thread alone.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The kernel's stack is behind the tap of the right host; the left host's responder answers it.
            let cable = format!("link:card-tap-{worker_count}");
            let left = start("left", &cable, 1);
            let stack = Some(spec("tap:stack0"));
            let config = HostConfig { worker_count, stack, ..HostConfig::new("right", spec(&cable)) };
            let right = Host::start(config).expect("root may make taps");
            let (inward, outward) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let (into, out) = (Arc::clone(&inward), Arc::clone(&outward));
            let count = rule("in", move |_, _| {
                into.fetch_add(1, Ordering::Relaxed);
                PASS
            });
            right.attach_judge(count, Hook::Xdp).expect("a hook");
            let count = tc("out", move |_| {
                out.fetch_add(1, Ordering::Relaxed);
                OK
            });
            right.attach_judge_at(&Place::wire(Hook::TcEgress), count, Rank::default()).expect("a hook");
            ip("address add 10.0.0.2/24 dev stack0");
            ip("link set stack0 up");
            let us = Ipv4Addr::new(10, 0, 0, 1).to_string();
            let ping = Command::new("ping").args(["-c", "3", "-i", "0.05", "-W", "10", &us]).output();
            match ping {
                Ok(answer) => {
                    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
                    assert!(answer.status.success() && text.contains("3 received"), "{text}");
                }
                Err(_) => {
                    // Without a ping of its own, the machine's stack speaks UDP to the echo service.
                    let socket = std::net::UdpSocket::bind("10.0.0.2:0").expect("our address");
                    socket.set_read_timeout(Some(super::PATIENCE)).expect("a socket");
                    for number in 0..3u8 {
                        socket.send_to(&[number; 9], "10.0.0.1:7").expect("a route");
                        let mut answer = [0; 16];
                        assert_eq!(socket.recv(&mut answer).expect("an answer in time"), 9);
                        assert_eq!(answer[..9], [number; 9]);
                    }
                }
            }
            assert!(inward.load(Ordering::Relaxed) >= 4 && outward.load(Ordering::Relaxed) >= 4);
            // The interface goes: noticed, told, survived.
            ip("link delete stack0");
            let mut is_told = false;
            until("the event", || {
                let told = |event: &Event| matches!(event, Event::PortGone { port, .. } if port == "stack");
                is_told |= right.events().iter().any(|happened| told(&happened.event));
                is_told
            });
            let before = port_of(&right.stats(), "stack");
            assert!(before.is_gone && before.forwarded >= 4, "{before:?}");
            left.send(&[&packet(1)]).expect("runs");
            until("the frame", || port_of(&right.stats(), "stack").tx_errors > before.tx_errors);
            right.remove_port("stack").expect("there");
            // The built-in responder stands behind PASS now.
            let passed = port_of(&right.stats(), "wire").pass;
            left.send(&[&packet(1)]).expect("runs");
            until("the frame", || port_of(&right.stats(), "wire").pass > passed);
            balanced([&left, &right]);
            Ok(())
        });
        if let Err(error) = asked.join().expect("the ping is answered") {
            return skipped(&format!("no network namespace: {error}"));
        }
    }
}
