//! Two host processes spar over loopback, commanded as a user would.

use std::fs;
use std::time::Duration;

use kumite::report::{Capture, CapturedFrame};

use super::hosts::{BALANCER, FIREWALL, HostProcess, assert_exact, wait_for, wire_ends};
use super::said;
use crate::control::socket::Folder;

const QUESTIONS: &str = "udp 10.0.0.0/24:1024-2047 -> 10.1.0.1:53 size 64";
const REQUESTS: &str = "udp 10.2.0.0/24:1024-2047 -> 10.1.0.9:9000 size 64";

/// A host with the balancer and one with the firewall.
fn pair(folder: &Folder, words: &[&str]) -> [HostProcess; 2] {
    let [a, b] = wire_ends();
    let balancer = format!("{BALANCER}:balance");
    [
        HostProcess::start(folder, "A", [&a, &b], &[&["--xdp", &balancer, "--ip4", "10.0.0.1"], words].concat()),
        HostProcess::start(
            folder,
            "B",
            [&b, &a],
            &[&["--xdp", FIREWALL, "--mac", "02:00:00:00:00:02"], words].concat(),
        ),
    ]
}

/// Waits until what each host sent has arrived at the other, nothing lost.
fn wait_until_arrived(a: &HostProcess, b: &HostProcess) {
    for (from, to) in [(a, b), (b, a)] {
        wait_for("all frames to arrive", || {
            let sent = from.count("sent") + from.count("tx") + from.count("replies") + from.count("redirect");
            (sent == to.count("rx") + to.count("socket_drops")).then_some(())
        });
        assert_eq!(to.count("socket_drops"), 0, "the pace is below what the sockets hold");
    }
}

#[test]
fn two_hosts_send_to_each_other_and_every_frame_is_in_the_books() {
    let folder = Folder::new();
    let [a, b] = pair(&folder, &[]);
    assert!(
        a.started.starts_with(&format!("host A: xdp balance (fast); api {}\nhost A: wire udp ", a.api)),
        "{}",
        a.started
    );
    let sent = a.ask(&["send", "--flows", QUESTIONS, "--rate", "20000", "--count", "5000"]);
    assert!(sent.starts_with("done: 5,000 frames in "), "{sent}");
    let sent = b.json(&["send", "--flows", REQUESTS, "--rate", "20000", "--count", "3000"]);
    assert_eq!((&sent["state"], &sent["accepted"], &sent["bytes"]), (&"done".into(), &3000.into(), &192_000.into()));
    wait_until_arrived(&a, &b);
    assert_eq!(a.count("rx"), 3000);
    assert_eq!(a.count("pass") + a.count("tx"), 3000);
    assert_eq!(b.count("rx"), 5000 + a.count("tx"));
    let stat = a.ask(&["stat"]);
    assert!(stat.contains("wire: rx 3,000 = pass ") && stat.contains("(exact)"), "{stat}");
    assert!(stat.contains("\nevents: 0 forgotten before anybody read them\n"), "{stat}");
    for host in [a, b] {
        let (code, books) = host.end_by("TERM");
        assert_eq!(code, 0);
        assert_exact(&books);
        assert!(books.contains(" wire: dropped by the kernel before it came here: 0\n"), "{books}");
        assert!(books.contains("; errors 0, peer unreachable "), "{books}");
    }
}

#[test]
fn elements_of_a_live_host_are_shown_by_their_types_and_taken_by_a_run() {
    let folder = Folder::new();
    let [a, b] = pair(&folder, &[]);
    b.ask(&["map", "update", "blocklist", "10.1.0.0/16", "5"]);
    let dumped = b.json(&["map", "dump", "blocklist"]);
    let element = &dumped[0];
    assert_eq!((&element["key"], &element["value"]), (&"100000000a010000".into(), &"0500000000000000".into()));
    let shown = &element["formatted"];
    assert_eq!((&shown["key"]["len"], &shown["value"]), (&16.into(), &5.into()), "{dumped}");
    let found = b.json(&["map", "lookup", "blocklist", "10.1.0.0/16"]);
    assert_eq!(&found[0]["formatted"], shown, "{found}");
    let counters = a.json(&["map", "dump", "counters"]);
    assert_eq!(counters[0]["formatted"]["values"][0]["frames"], 0, "{counters}");
    // A run takes it as it is: its frame is from a blocked address.
    let file = folder.0.join("blocklist.json");
    fs::write(&file, dumped.to_string()).expect("written");
    let frame = "02000000000102000000000208004500001c0000000040117cce0a0100010a00000204d2232800080000";
    let run = |words: &[&str]| said(&[&["run", FIREWALL, "--hex", frame], words].concat());
    let (code, out, complaints) = run(&["--map", &format!("blocklist={}", file.display())]);
    assert_eq!((code, complaints.as_str()), (0, ""));
    assert!(out.starts_with("frame 1: drop ") && run(&[]).1.starts_with("frame 1: pass "), "{out}");
}

#[test]
fn records_that_find_their_ring_buffer_full_are_counted_with_the_map() {
    let folder = Folder::new();
    let [a, b] = pair(&folder, &[]);
    b.ask(&["map", "update", "blocklist", "10.0.0.0/24", "0"]);
    a.ask(&["send", "--flows", QUESTIONS, "--rate", "20000", "--count", "5000"]);
    wait_until_arrived(&a, &b);
    // A record takes 24 of the 65,536 bytes.
    let lost = 5000 - 65_535 / 24;
    let stat = b.json(&["stat"]);
    assert_eq!((&stat["records"][0]["map"], &stat["records"][0]["lost"]), (&"drops".into(), &lost.into()));
    let stat = b.ask(&["stat"]);
    assert!(stat.contains(" 2,270 records lost because it was full\n") && stat.contains("\nmap drops (id:"), "{stat}");
    let maps = b.ask(&["map", "list"]);
    let drops = maps.lines().find(|line| line.contains(" drops ")).expect("a map");
    assert!(drops.ends_with("2,270") && maps.lines().next().is_some_and(|heads| heads.ends_with("lost")), "{maps}");
}

#[test]
fn modes_slots_and_maps_change_under_load_without_losing_a_frame() {
    let folder = Folder::new();
    let [a, b] = pair(&folder, &[]);
    for (host, flows) in [(&a, QUESTIONS), (&b, REQUESTS)] {
        let sent = host.ask(&["send", "--flows", flows, "--rate", "2000", "--seconds", "600", "--detach"]);
        assert!(sent.starts_with("sending: "), "{sent}");
    }
    for mode in ["instrumented", "verify", "fast"] {
        for host in [&a, &b] {
            assert_eq!(host.ask(&["mode", mode]), format!("all: {mode}\n"));
            let before = host.count("rx");
            wait_for("frames in the new mode", || (host.count("rx") > before + 20).then_some(()));
        }
    }
    let profile = a.json(&["prog", "profile", "balance"]);
    assert!(profile["runs"].as_u64() > Some(20), "{profile}");
    assert!(profile["tail_calls"][0]["taken"].as_u64() > Some(20), "{profile}");
    assert_eq!(profile["tail_calls"][0]["fell_through"], 0);
    let text = a.ask(&["prog", "profile", "balance"]);
    assert!(text.contains("tail call taken "), "{text}");
    assert_eq!(b.ask(&["mode", "firewall", "verify"]), "firewall: verify\n");
    assert_eq!(b.ask(&["mode"]), "firewall: verify\n");
    assert_eq!(a.ask(&["mode", "balance"]), "balance: fast\n");
    let what = "neither a mode nor a program; say fast, instrumented or verify, or a program of kumite prog list";
    assert_eq!(a.said(&["mode", "turbo"]), (2, String::new(), format!("kumite: mode \"turbo\": {what}\n")));

    // Slot 2 lets frames pass; backend_0 sends them back.
    wait_for("frames that pass", || (a.count("pass") > 0).then_some(()));
    assert_eq!(
        a.ask(&["map", "update", "backends", "key", "2", "value", "prog", "backend_0"]),
        "backends: element updated\n"
    );
    let passed = a.count("pass");
    let sent_back = a.count("tx");
    wait_for("frames that are sent back", || (a.count("tx") > sent_back + 100).then_some(()));
    assert_eq!(a.count("pass"), passed, "no frame passes after the slot was changed");
    let slots = a.ask(&["map", "dump", "backends"]);
    let lines = [
        "key 00 00 00 00  program backend_0",
        "key 01 00 00 00  program backend_1",
        "key 02 00 00 00  program backend_0",
    ];
    assert_eq!(slots.lines().collect::<Vec<_>>(), lines);

    // A blocked prefix drops half of what A sends.
    assert_eq!(b.count("drop"), 0);
    b.ask(&["map", "update", "blocklist", "10.0.0.0/25", "0"]);
    wait_for("frames that are dropped", || (b.count("drop") > 50).then_some(()));
    let hits = b.json(&["map", "lookup", "blocklist", "10.0.0.0/25"]);
    assert_ne!(hits[0]["value"], "0000000000000000", "the firewall counts in the map");
    let events = b.ask(&["events", "--count", "3"]);
    assert!(events.lines().all(|line| line.contains("record  drops 0a0000")), "{events}");
    b.ask(&["map", "delete", "blocklist", "10.0.0.0/25"]);
    assert_eq!(b.ask(&["map", "dump", "blocklist"]), "");

    for host in [&a, &b] {
        let stopped = host.ask(&["send", "--stop"]);
        assert!(stopped.starts_with("stopped: "), "{stopped}");
    }
    wait_until_arrived(&a, &b);
    for host in [a, b] {
        let (code, books) = host.end_by("INT");
        assert_eq!(code, 0);
        assert_exact(&books);
    }
}

#[test]
fn a_host_drains_what_has_arrived_before_it_ends() {
    let folder = Folder::new();
    let [a, b] = pair(&folder, &["--io", "plain"]);
    a.ask(&["send", "--flows", QUESTIONS, "--rate", "max", "--count", "2000"]);
    wait_for("all to leave A", || (a.count("tx_frames") == 2000).then_some(()));
    let socket_drops = b.count("socket_drops");
    let (code, books) = b.end_by("TERM");
    assert_eq!(code, 0);
    assert_exact(&books);
    assert!(books.contains(&format!("rx {} = ", super::grouped(2000 - socket_drops))), "{books}");
}

#[test]
fn a_capture_is_sent_once_and_other_files_are_refused() {
    let folder = Folder::new();
    let [a, b] = pair(&folder, &[]);
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.0.join(name);
        fs::write(&path, bytes).expect("a file of ours");
        path.display().to_string()
    };
    let frames = |lens: &[usize]| -> Vec<CapturedFrame> {
        lens.iter().map(|len| CapturedFrame { at: Duration::ZERO, bytes: vec![1; *len] }).collect()
    };
    for (name, form) in [("a.pcap", Capture::Pcap), ("a.pcapng", Capture::PcapNg)] {
        let path = write(name, &form.write(&frames(&[60, 61, 1500])));
        let before = b.count("rx");
        let sent = a.ask(&["send", &path]);
        assert!(sent.starts_with("done: 3 frames in "), "{sent}");
        wait_for("the frames", || (b.count("rx") == before + 3).then_some(()));
    }
    let refused = |path: &str| {
        let (code, out, complaint) = a.said(&["send", path]);
        assert_eq!((code, out.as_str()), (1, ""), "{complaint}");
        complaint
    };
    let long = write("long.pcap", &Capture::Pcap.write(&frames(&[60, 9000])));
    let complaint =
        "kumite: capture frame 2: 9000 bytes, but the wire takes 14 to 1792; cut the frame out of the file\n";
    assert_eq!(refused(&long), complaint);
    assert!(refused(&write("text", b"what")).starts_with("kumite: capture: "));
}

#[test]
fn objects_are_loaded_attached_and_unloaded_while_the_host_runs() {
    let folder = Folder::new();
    let [a, b] = wire_ends();
    let host = HostProcess::start(&folder, "A", [&a, &b], &[]);
    assert!(host.started.starts_with("host A: xdp no program, frames pass; api "), "{}", host.started);
    let loaded = host.ask(&["prog", "load", BALANCER]);
    assert_eq!(
        loaded,
        "balancer.o (id:1): programs backend_0, backend_1, backend_local, balance; maps backends, counters, .rodata\n"
    );
    assert_eq!(host.ask(&["prog", "attach", "balance", "xdp"]), "xdp: balance\n");
    let listed = host.json(&["prog", "list"]);
    assert_eq!((&listed[3]["name"], &listed[3]["hook"]), (&"balance".into(), &"xdp".into()));
    let (code, _, complaint) = host.said(&["prog", "unload", "balancer.o"]);
    let expected = "kumite: object balancer.o: its program balance sits on hook xdp; detach it first\n";
    assert_eq!((code, complaint.as_str()), (1, expected));
    assert_eq!(host.ask(&["prog", "detach", "xdp"]), "xdp: empty\n");
    assert_eq!(host.ask(&["prog", "unload", "balancer.o"]), "balancer.o: unloaded\n");
    assert_eq!(host.json(&["prog", "list"]), serde_json::json!([]));
    assert_eq!(host.json(&["map", "list"]), serde_json::json!([]));
}

#[test]
fn what_a_running_host_refuses_is_exit_code_1_and_one_line() {
    let folder = Folder::new();
    let [a, b] = wire_ends();
    let host = HostProcess::start(&folder, "A", [&a, &b], &["--xdp", FIREWALL]);
    let garbage = folder.0.join("garbage.o");
    fs::write(&garbage, b"\x7fELF and nothing more").expect("a file of ours");
    let garbage = garbage.display().to_string();
    for (line, complaint) in [
        (&["map", "dump", "nix"][..], "map nix: the host has none of this name; see kumite map list"),
        (&["map", "dump", "nix.o/rules"], "object nix.o: the host has none of this name; see kumite prog list"),
        (
            &["map", "lookup", "rules", "1"],
            "map rules (hash): reading an element: ENOENT; see the elements with kumite map dump",
        ),
        (
            &["map", "update", "rules", "key", "1", "value", "prog", "x"],
            "map rules: it holds values, neither programs nor maps; send {\"value\": DIGITS}; {\"program\": NAME} for a program array; {\"map\": NAME} for a map of maps",
        ),
        (
            &["map", "update", "counters", "9", "1"],
            "map counters (percpu_array): storing an element: E2BIG; the map is full or the index lies outside; delete elements \
             or raise max_entries",
        ),
        (&["map", "dump", "drops"], "map drops (ringbuf): it has no elements; read its records with kumite events"),
        (&["mode", "nix", "fast"], "program nix: not loaded; load an object that has it"),
        (&["prog", "attach", "nix", "xdp"], "program nix: not loaded; load an object that has it"),
        (&["send", "--stop"], "source: none was started; start one with kumite send"),
    ] {
        assert_eq!(host.said(line), (1, String::new(), format!("kumite: {complaint}\n")), "{line:?}");
    }
    let (code, _, complaint) = host.said(&["prog", "load", &garbage]);
    assert_eq!((code, complaint.lines().count()), (1, 1), "{complaint}");
    assert!(complaint.starts_with("kumite: garbage.o: "), "{complaint}");
    for (line, complaint) in [
        (
            &["map", "update", "rules", "key", "1", "value", "zz"][..],
            "value \"zz\": not bytes; write hex 0a 00 00 01, numbers, addresses, or numbers with a width such as 53be16",
        ),
        (&["map", "lookup", "rules", "1", "2"], "key \"1 2\": 2 bytes where the map has 4; write all 4"),
    ] {
        assert_eq!(host.said(line), (2, String::new(), format!("kumite: {complaint}\n")), "{line:?}");
    }
}

#[test]
fn a_host_that_cannot_start_says_why() {
    let folder = Folder::new();
    let [a, b] = wire_ends();
    let api = folder.address("x").to_string();
    let wire = format!("udp:{a},peer={b}");
    let start = |words: &[&str]| said(&[&["host", "--name", "A", "--wire", &wire, "--api", &api], words].concat());
    let garbage = folder.0.join("garbage.o");
    fs::write(&garbage, b"garbage").expect("a file of ours");
    let garbage = garbage.display().to_string();
    let (code, out, complaint) = start(&["--xdp", &garbage]);
    assert_eq!((code, out.as_str(), complaint.lines().count()), (1, "", 1), "{complaint}");
    let refused = format!(
        "kumite: {BALANCER}: several XDP programs (backend_0, backend_1, backend_local, balance); name one as {BALANCER}:backend_0\n"
    );
    assert_eq!(start(&["--xdp", BALANCER]), (1, String::new(), refused));
    let (code, _, complaint) = start(&["--xdp", &format!("{BALANCER}:nix")]);
    assert_eq!(code, 1);
    assert!(complaint.contains("no program is called nix; it has backend_0, backend_1"), "{complaint}");
    let (code, _, complaint) = start(&["--xdp", "/nonexistent.o"]);
    assert_eq!(
        (code, complaint.as_str()),
        (3, "kumite: /nonexistent.o: cannot read it: No such file or directory (os error 2); name a readable file\n")
    );
    let (code, _, complaint) = start(&["--workers", "0"]);
    assert_eq!(
        (code, complaint.as_str()),
        (2, "kumite: --workers \"0\": not a number from 1 to 64; see kumite host --help\n")
    );
    assert!(!folder.address("x").path().exists(), "no socket is left behind");

    let running = HostProcess::start(&folder, "A", [&a, &b], &[]);
    let (code, _, complaint) = start(&[]);
    assert_eq!((code, complaint.lines().count()), (3, 1), "{complaint}");
    let [c, d] = wire_ends();
    let (code, _, complaint) =
        said(&["host", "--name", "C", "--wire", &format!("udp:{c},peer={d}"), "--api", &running.api]);
    assert_eq!(code, 3);
    assert_eq!(complaint, format!("kumite: api {}: another host listens there; name another path\n", running.api));
    let client = kumite::control::Client::new(&running.api.parse().expect("an address")).expect("a client");
    client.send(&hyper::Method::POST, "/v1/stop", &serde_json::json!({})).expect("it listens");
    let (code, books) = running.ended();
    assert_eq!(code, 0);
    assert_exact(&books);
}

#[test]
fn rates_are_shown_line_by_line() {
    let folder = Folder::new();
    let [a, _b] = pair(&folder, &[]);
    let lines = a.ask(&["stat", "--watch", "--count", "2"]);
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.lines().all(|line| line.starts_with("rx/s 0  pass 0") && line.ends_with("balance fast")), "{lines}");
}

#[test]
fn the_demonstration_accounts_for_every_frame() {
    let (code, out, complaints) = said(&["demo", "--seconds", "2", "--json"]);
    assert_eq!((code, complaints.as_str()), (0, ""), "{out}");
    let summary: serde_json::Value = serde_json::from_str(&out).expect("one JSON document");
    assert_eq!(summary["exact"], true, "{out}");
    let modes: Vec<&str> =
        summary["modes"].as_array().expect("modes").iter().filter_map(|mode| mode["mode"].as_str()).collect();
    assert_eq!(modes, ["fast", "instrumented", "verify", "fast"]);
    for direction in summary["directions"].as_array().expect("two") {
        assert_eq!(direction["lost"], 0, "{direction}");
        assert!(direction["received"].as_u64().expect("a count") > 100, "{direction}");
    }
    let (code, out, _) = said(&["demo", "--seconds", "2", "--io", "plain", "--rate", "5000"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("A: slot 2 of backends is backend_0 now") && out.contains("Try next"), "{out}");
    // The first second holds the change at its 0.9th, the last one those at 1.2 and 1.6.
    let rates = out.lines().filter(|line| line.contains(" frames/s ("));
    let modes: Vec<&str> = rates.filter_map(|line| line.split(" s  A ").nth(1)?.split(':').next()).collect();
    assert_eq!(modes, ["fast then instrumented", "instrumented then verify then fast"], "{out}");
    assert_eq!(out.matches("(exact)").count(), 2, "{out}");
}

#[test]
fn what_the_demonstration_says_to_try_needs_nothing_but_the_binary() {
    let folder = Folder::new();
    let place = folder.0.join("objects");
    let place = place.to_str().expect("text");
    let (code, out, complaints) = said(&["demo", "--save", place]);
    assert_eq!((code, complaints.as_str()), (0, ""));
    let files: Vec<&str> = out.lines().collect();
    assert_eq!(files.len(), 4, "{out}");
    assert_eq!(fs::read(format!("{place}/firewall.o")).expect("written"), fs::read(FIREWALL).expect("ours"));
    assert_eq!(said(&["demo", "--save", place]).0, 0, "the same files may be there already");
    fs::write(format!("{place}/firewall.o"), "another's").expect("ours");
    let (code, _, complaint) = said(&["demo", "--save", place]);
    let expected =
        format!("kumite: {place}/firewall.o: cannot write it: File exists (os error 17); name another folder\n");
    assert_eq!((code, complaint), (3, expected));
}
