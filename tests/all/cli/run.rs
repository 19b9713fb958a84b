//! `kumite run`, `kumite disasm` and `kumite inspect`: objects without a host.

use std::fs;
use std::path::{Path, PathBuf};

use kumite::report::{Capture, CapturedFrame};
use serde_json::Value;

use super::said;

const BALANCER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/demo/balancer.o");
const FIREWALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/demo/firewall.o");

/// UDP from 10.0.0.1:1234 to 10.0.0.2, port 9000, without a checksum.
const FRAME: &str = "0200000000010200000000020800\
                     4500001c0000000040117ccf0a0000010a000002\
                     04d2232800080000";

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Runs with `--json`: exit code, the lines.
fn json(words: &[&str]) -> (i32, Vec<Value>) {
    let (code, out, complaints) = said(&[words, &["--json"]].concat());
    assert_eq!(complaints, "");
    (code, out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect())
}

#[test]
fn a_frame_is_judged_in_every_mode_and_shown_as_json() {
    for mode in ["fast", "instrumented", "verify"] {
        let (code, lines) = json(&["run", BALANCER, "--prog", "balance", "--hex", FRAME, "--mode", mode]);
        assert_eq!((code, lines.len()), (0, 1));
        let report = &lines[0];
        assert_eq!(report["prog"], "balance");
        assert_eq!(report["mode"], mode);
        assert_eq!(report["verdict"], "tx");
        assert_eq!(report["retval"], 3);
        assert_eq!(report["tail_calls"], 1);
        assert_eq!(report["insns"].is_u64(), mode != "fast");
        assert_eq!(report["trap"], Value::Null);
        assert_eq!(report["findings"], Value::Array(Vec::new()));
        let out = report["data_out"].as_str().expect("digits");
        assert!(out.starts_with("020000000002020000000001") && out.len() == FRAME.len(), "{out}");
    }
}

#[test]
fn a_repeated_run_tells_its_mean_time_and_leaves_its_traces_in_maps() {
    let dump = place("repeated.json");
    let dump_text = dump.to_str().expect("text");
    let line = ["run", BALANCER, "--prog", "balance", "--hex", FRAME, "--repeat", "50", "--dump-maps", dump_text];
    let (code, out, _) = said(&line);
    assert_eq!(code, 0);
    assert!(out.starts_with("frame 1: tx (retval 3), 42 bytes in, 42 out") && out.contains(" ns a run\n"), "{out}");
    let maps: Value = serde_json::from_str(&fs::read_to_string(dump).expect("written")).expect("JSON");
    assert_eq!(maps["counters"]["type"], "percpu_array");
    let elements = maps["counters"]["elements"].as_array().expect("a list");
    let counted = |element: &Value| element["values"][0].as_str().expect("digits").starts_with("3200000000000000");
    assert_eq!(elements.iter().filter(|element| counted(element)).count(), 1, "50 frames to one backend: {elements:?}");
    assert_eq!(maps["backends"]["elements"][1]["program"], "backend_1");
}

#[test]
fn maps_are_filled_from_files_and_records_are_shown() {
    let (blocklist, dump) = (place("blocklist.json"), place("firewall.json"));
    fs::write(&blocklist, r#"[{"key": "080000000a000000", "value": 0}]"#).expect("written");
    let preset = format!("blocklist={}", blocklist.display());
    let dump_text = dump.to_str().expect("text");
    let (code, lines) = json(&["run", FIREWALL, "--hex", FRAME, "--map", &preset, "--dump-maps", dump_text]);
    assert_eq!((code, &lines[0]["verdict"]), (0, &Value::from("drop")));
    let maps: Value = serde_json::from_str(&fs::read_to_string(dump).expect("written")).expect("JSON");
    assert_eq!(maps["blocklist"]["elements"][0]["value"], "0100000000000000");
    assert_eq!(maps["drops"]["records"][0], "0a0000010a0000020000110200000000".replace("0200000000", "022a000000"));
    let slots = place("slots.json");
    fs::write(&slots, r#"[0, 1, 2].map"#).expect("written");
    let preset = format!("rules={}", slots.display());
    let (code, _, complaint) = said(&["run", FIREWALL, "--hex", FRAME, "--map", &preset]);
    assert_eq!(code, 1);
    assert_eq!(complaint, "kumite: map rules: trailing characters at line 1 column 10; write a list of elements\n");
}

#[test]
fn captures_go_in_and_come_out() {
    let (one, first, second) = (place("frame.bin"), place("first.pcap"), place("second.pcapng"));
    let [one_text, first_text, second_text] = [&one, &first, &second].map(|path| path.to_str().expect("text"));
    fs::write(&one, kumite::report::from_hex(FRAME).expect("digits")).expect("written");
    let balance = ["run", BALANCER, "--prog", "balance"];
    assert_eq!(said(&[&balance[..], &["--data-in", one_text, "--pcap-out", first_text]].concat()).0, 0);
    let back = ["--pcap", first_text, "--pcap-out", second_text, "--data-out", one_text];
    assert_eq!(said(&[&balance[..], &back].concat()).0, 0);
    let frames = Capture::read(&fs::read(&second).expect("written")).expect("a capture");
    assert_eq!(frames.len(), 1);
    assert_eq!(fs::read(&one).expect("written"), frames[0].bytes);
}

/// An object of one program, in the section of its hook.
fn object_in(name: &str, section: &str, text: &str) -> String {
    let mut builder = crate::objects::Builder::new();
    let len = kumite::isa::assemble(text).expect("a program").len() as u64 * 8;
    let index = builder.text(section, text);
    builder.symbol("main", crate::objects::Names::Function, index, 0, len);
    let path = place(name);
    fs::write(&path, builder.finish()).expect("written");
    path.to_str().expect("text").to_owned()
}

#[test]
fn a_context_goes_in_and_comes_out() {
    // The mark becomes the priority, and cb[1] what was in the tstamp's low half.
    let tc =
        "r2 = *(u32 *)(r1 + 8)\n*(u32 *)(r1 + 32) = r2\nr2 = *(u32 *)(r1 + 152)\n*(u32 *)(r1 + 52) = r2\nr0 = 0\nexit";
    let object_file = object_in("context.o", "tc", tc);
    let mut given = vec![0; 192];
    given[8..12].copy_from_slice(&[1, 2, 3, 4]);
    given[152..156].copy_from_slice(&[5, 6, 7, 8]);
    let mut expected = given.clone();
    expected[32..36].copy_from_slice(&[1, 2, 3, 4]);
    expected[40] = 1;
    expected[52..56].copy_from_slice(&[5, 6, 7, 8]);
    expected[160] = 42;
    let (before, after) = (place("context.in"), place("context.out"));
    fs::write(&before, &given).expect("written");
    let [before, after] = [&before, &after].map(|path| path.to_str().expect("text"));
    let run = ["run", &object_file, "--hex", FRAME];
    for ctx_in in [before.to_owned(), kumite::report::to_hex(&given)] {
        let (code, lines) = json(&[&run[..], &["--ctx-in", &ctx_in, "--ctx-out", after]].concat());
        assert_eq!((code, &lines[0]["ctx_out"]), (0, &Value::from(kumite::report::to_hex(&expected))));
        assert_eq!(fs::read(after).expect("written"), expected);
    }
    let (_, lines) = json(&run);
    assert_eq!(lines[0]["ctx_out"], Value::Null, "nobody asked for it");
    let refused = said(&[&run[..], &["--ctx-in", "010"]].concat());
    let complaint = "kumite: --ctx-in \"010\": an odd number of digits; write two digits a byte\n";
    assert_eq!(refused, (2, String::new(), complaint.to_owned()));
    let refused = said(&[&run[..], &["--ctx-in", "01"]].concat());
    let settable = "mark, priority, ingress_ifindex, ifindex, cb, tstamp, wire_len, gso_segs, gso_size and hwtstamp";
    let complaint = format!("kumite: context: byte 0 of __sk_buff is not zero; only {settable} may be set\n");
    assert_eq!(refused, (1, String::new(), complaint));
}

#[test]
fn metadata_goes_in_before_the_frame_and_comes_out() {
    // Takes the first word of the metadata away, and returns the second.
    let xdp = "r6 = r1\nr2 = 4\ncall 54\nr2 = *(u32 *)(r6 + 8)\nr3 = *(u32 *)(r6 + 0)\nr4 = r2\nr4 += 4\n\
               if r4 > r3 goto out\nr0 = *(u32 *)(r2 + 0)\nout: exit";
    let object_file = object_in("metadata.o", "xdp", xdp);
    let input = format!("0102030405060708{FRAME}");
    let context = "0800000032000000";
    let (code, lines) = json(&["run", &object_file, "--hex", &input, "--ctx-in", context]);
    let report = &lines[0];
    assert_eq!((code, &report["retval"]), (0, &Value::from(0x0807_0605)));
    let ids: Vec<&Value> =
        report["findings"].as_array().expect("a list").iter().map(|finding| &finding["id"]).collect();
    assert_eq!(ids, ["unknown-verdict"]);
    assert_eq!((&report["meta_out"], &report["data_out"]), (&Value::from("05060708"), &Value::from(FRAME)));
    assert_eq!(report["ctx_out"], format!("040000002e000000{}", "00".repeat(16)));
    let refused = said(&["run", &object_file, "--hex", FRAME, "--ctx-in", context]);
    let complaint = "kumite: frame 1: context: data_end is 50; it must be the length of the input, metadata included\n";
    assert_eq!(refused, (1, String::new(), complaint.to_owned()));
}

#[test]
fn a_flow_dissector_leaves_its_keys_and_a_copy_is_shown() {
    // ip_proto becomes 17.
    let text = "r2 = *(u64 *)(r1 + 144)\nr3 = 17\n*(u8 *)(r2 + 9) = r3\nr0 = 0\nexit";
    let dissector = object_in("dissector.o", "flow_dissector", text);
    let (code, lines) = json(&["run", &dissector, "--hex", FRAME]);
    assert_eq!((code, &lines[0]["verdict"]), (0, &Value::from("pass")));
    assert_eq!(lines[0]["data_out"], format!("0e000e000000000000110800{}", "00".repeat(44)));
    let copier = object_in("copier.o", "tc", "r2 = 1\nr3 = 1\ncall 13\nexit");
    let (code, lines) = json(&["run", &copier, "--hex", FRAME]);
    let copies = serde_json::json!([{ "ifindex": 1, "flags": 1, "data": FRAME }]);
    assert_eq!((code, &lines[0]["copies"]), (0, &copies));
    let (_, out, _) = said(&["run", &copier, "--hex", FRAME]);
    assert!(out.contains("\n  copy: 42 bytes to interface 1\n"), "{out}");
}

#[test]
fn what_cannot_be_run_is_told_in_one_line() {
    let missing = place("missing.o");
    let garbage = place("garbage.o");
    fs::write(&garbage, "what").expect("written");
    let (missing, garbage) = (missing.to_str().expect("text"), garbage.to_str().expect("text"));
    for (line, code, complaint) in [
        (
            &["run", BALANCER, "--hex", FRAME][..],
            2,
            format!("{BALANCER}: it has 4 programs; choose one of backend_0, backend_1, backend_local, balance"),
        ),
        (
            &["run", FIREWALL, "--hex", FRAME, "--prog", "wall"],
            1,
            format!("{FIREWALL}: no program is called wall; it has firewall"),
        ),
        (&["run", FIREWALL, "--hex", "0"], 2, "--hex \"0\": not hexadecimal; write two digits a byte".to_owned()),
        (
            &["run", FIREWALL, "--hex", "00"],
            1,
            "frame 1: its length of 1 is not between 14 and 3520 bytes; leave it out".to_owned(),
        ),
        (
            &["run", FIREWALL, "--hex", FRAME, "--map", "rules="],
            2,
            "map \"rules=\": no file is named; write NAME=FILE.json, or FILE.json for a dump of all maps".to_owned(),
        ),
        (
            &["run", garbage, "--hex", FRAME],
            1,
            format!(
                "{garbage}: not a BPF object: it does not begin as an ELF file does; build it with `clang -target bpf -c`"
            ),
        ),
        (
            &["disasm", missing],
            3,
            format!("{missing}: cannot read it: No such file or directory (os error 2); name a readable file"),
        ),
        (&["disasm", FIREWALL, "--prog", "wall"], 1, format!("{FIREWALL}: no program is called wall; it has firewall")),
    ] {
        assert_eq!(said(line), (code, String::new(), format!("kumite: {complaint}\n")), "{line:?}");
    }
}

#[test]
fn a_program_that_traps_is_exit_code_1() {
    let mut builder = crate::objects::Builder::new();
    let xdp = builder.text("xdp", "r1 = 0\nr0 = *(u64 *)(r1 + 8)\nexit");
    builder.symbol("wild", crate::objects::Names::Function, xdp, 0, 24);
    let object = place("wild.o");
    fs::write(&object, builder.finish()).expect("written");
    let object = object.to_str().expect("text");
    for mode in ["fast", "instrumented", "verify"] {
        let (code, lines) = json(&["run", object, "--hex", FRAME, "--mode", mode]);
        assert_eq!((code, &lines[0]["verdict"]), (1, &Value::from("aborted")));
        let trap = lines[0]["trap"].as_str().expect("a trap");
        assert_eq!(trap, "wild insn 1: read at guest address 0x8: not mapped for this", "{mode}");
    }
}

#[test]
fn an_answer_that_the_hook_does_not_know_is_a_finding_in_every_mode() {
    let strange = object_in("strange.o", "xdp", "r0 = 7\nexit");
    let known = object_in("known.o", "xdp", "r0 = 4\nexit");
    let what = "returns 7, which is no answer of xdp programs: the frame's verdict is aborted";
    for mode in ["fast", "instrumented", "verify"] {
        let (code, lines) = json(&["run", &strange, "--hex", FRAME, "--mode", mode]);
        let finding = &lines[0]["findings"][0];
        assert_eq!((code, &finding["id"], &finding["what"]), (0, &"unknown-verdict".into(), &what.into()));
        assert!(finding.get("insn").is_none(), "{finding}");
        let (_, lines) = json(&["run", &known, "--hex", FRAME, "--mode", mode]);
        assert_eq!(lines[0]["findings"], Value::Array(Vec::new()));
    }
    let (code, out, _) = said(&["run", &strange, "--hex", FRAME, "--fail-on", "finding"]);
    let line = format!(": {what} (unknown-verdict)\n");
    assert!(code == 1 && out.contains("  finding: ") && out.contains(&line), "{out}");
    let tc = object_in("strange_tc.o", "tc", "r0 = 9\nexit");
    let (_, lines) = json(&["run", &tc, "--hex", &format!("{FRAME}{}", "00".repeat(40))]);
    let what = "returns 9, which is no answer of tc programs: the frame's verdict is pass";
    assert_eq!(lines[0]["findings"][0]["what"], what);
}

#[test]
fn an_object_is_listed_and_its_programs_are_printed() {
    let (code, out, _) = said(&["inspect", FIREWALL]);
    assert_eq!(code, 0);
    for line in [
        "license Dual MIT/GPL\n",
        "program firewall (xdp, section xdp): ",
        "map blocklist (lpm_trie): key 8 bytes (struct prefix), value 8 bytes (__u64), 1024 entries, flags 0x1\n",
        "map .rodata (array): key 4 bytes, value 4 bytes, 1 entry, flags 0x80, read-only\n",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let (code, out, _) = said(&["inspect", BALANCER, "--json"]);
    assert_eq!(code, 0);
    let listed: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(listed["maps"][0]["entries"][2]["name"], "backend_local");
    assert_eq!(listed["programs"][0]["functions"][1], "forward");
    let programs = listed["programs"].as_array().expect("a list");
    let jumps = |program: &&Value| program["features"].as_array().expect("a list").contains(&"tail calls".into());
    let jumping = programs.iter().find(jumps).expect("a balancer jumps");
    assert!(jumping["helpers"].as_array().expect("a list").contains(&"tail_call".into()), "{jumping}");

    let (code, out, _) = said(&["disasm", FIREWALL, "--prog", "firewall"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("firewall:\n; ./src/cli/demo/firewall.c:"), "{out}");
    assert!(out.contains("\ndropped:\n"), "{out}");
    let (_, all, _) = said(&["disasm", FIREWALL]);
    assert_eq!(all, format!("; program firewall in section xdp (xdp)\n{out}"));
}

#[test]
fn what_is_said_of_an_object_reaches_it() {
    let wrong = |args: &[&str]| {
        let (code, out, error) = said(&[&["inspect", FIREWALL], args].concat());
        (code, out, error)
    };
    let (code, out, _) = wrong(&["--map-size", "blocklist=77", "--type", "firewall=tc"]);
    assert_eq!(code, 0);
    assert!(out.contains("program firewall (tc, section xdp): "), "{out}");
    assert!(
        out.contains("map blocklist (lpm_trie): key 8 bytes (struct prefix), value 8 bytes (__u64), 77 entries"),
        "{out}"
    );
    for (args, code, text) in [
        (["--type", "x"], 2, "--type \"x\": no such kind of program; write [NAME=]xdp, tc, socket or flow_dissector"),
        (["--const", "x"], 2, "--const \"x\": names no thing or no value; write NAME=VALUE"),
        (["--map-size", "x=1"], 1, "no map is called x; take a name that `kumite inspect` shows"),
        (["--btf", FIREWALL], 1, "section .BTF at 0x0: it does not begin as BTF does; rebuild the object with `-g`"),
        (["--btf", "/nonexistent"], 3, "/nonexistent: cannot read it: "),
    ] {
        let (got, _, error) = wrong(&args);
        assert!(got == code && error.contains(text), "{args:?}: {got}: {error}");
    }
}

/// An object of the test's own with these XDP programs.
fn object(name: &str, programs: &[(&str, &str)]) -> String {
    let mut builder = crate::objects::Builder::new();
    for (program, text) in programs {
        let slots = kumite::isa::assemble(text).expect("text of the test").len();
        let section = builder.text(&format!("xdp/{program}"), text);
        builder.symbol(program, crate::objects::Names::Function, section, 0, 8 * slots as u64);
    }
    let path = place(name);
    fs::write(&path, builder.finish()).expect("written");
    path.display().to_string()
}

#[test]
fn several_frames_end_with_their_tally_and_findings_fail_where_asked() {
    // Reads behind the end of a frame of 14 bytes: a finding, where the frame is short.
    let object = object("peeks.o", &[("peeks", "r2 = *(u32 *)(r1 + 0)\nw0 = *(u8 *)(r2 + 20)\nw0 = 1\nexit")]);
    let (short, long) = ([7; 14], [7; 60]);
    let frame = |bytes: &[u8]| CapturedFrame { at: std::time::Duration::ZERO, bytes: bytes.to_vec() };
    let capture = place("peeks.pcap");
    fs::write(&capture, Capture::Pcap.write(&[frame(&short), frame(&long), frame(&short)])).expect("written");
    let run = ["run", &object, "--pcap", capture.to_str().expect("text")];
    let (code, lines) = json(&run);
    assert_eq!((code, lines.len()), (0, 4));
    let tally = serde_json::json!({
        "tally": { "frames": 3, "pass": 0, "drop": 3, "tx": 0, "redirect": 0, "aborted": 0, "traps": 0, "findings": 2 }
    });
    assert_eq!(lines[3], tally);
    let (code, out, _) = said(&[&run[..], &["--fail-on", "finding"]].concat());
    assert_eq!(code, 1);
    let last = "3 frames: pass 0, drop 3, tx 0, redirect 0, aborted 0; 0 traps, 2 findings";
    assert_eq!(out.lines().last(), Some(last));
    for mode in ["fast", "instrumented"] {
        let refused = said(&[&run[..], &["--fail-on", "finding", "--mode", mode]].concat());
        let complaint = format!(
            "kumite: --fail-on finding: {mode} mode notices strange return values alone; leave --mode out or say verify\n"
        );
        assert_eq!(refused, (2, String::new(), complaint));
    }
    let (_, out, _) = said(&["run", &object, "--hex", FRAME]);
    assert!(!out.contains(" frames: "), "one frame needs no tally: {out}");
    let (code, _, complaint) = said(&[&run[..], &["--fail-on", "luck"]].concat());
    assert_eq!(code, 2);
    assert_eq!(complaint, "kumite: --fail-on \"luck\": not one of finding, trap; see kumite run --help\n");
}

#[test]
fn what_a_run_dumps_is_taken_by_the_next() {
    let [first, second] = ["first-dump.json", "second-dump.json"].map(|name| place(name).display().to_string());
    let run = ["run", BALANCER, "--prog", "balance", "--hex", FRAME];
    assert_eq!(said(&[&run[..], &["--repeat", "3", "--dump-maps", &first]].concat()).0, 0);
    let presets = ["backends", "counters", ".rodata"].map(|map| format!("{map}={first}"));
    let presets: Vec<&str> = presets.iter().flat_map(|preset| ["--map", preset]).collect();
    let again = [&run[..], &["--dump-maps", &second], &presets].concat();
    let (code, _, complaint) = said(&again);
    assert_eq!((code, complaint.as_str()), (0, ""));
    let read =
        |path: &str| -> Value { serde_json::from_str(&fs::read_to_string(path).expect("written")).expect("JSON") };
    let (first, second) = (read(&first), read(&second));
    let formatted = &first["counters"]["elements"][0]["formatted"];
    assert!(formatted["values"][0]["frames"].is_u64(), "what is shown by type is in the dump that is taken: {first}");
    assert_eq!(first["backends"], second["backends"]);
    let packets = |dump: &Value| {
        let values = dump["counters"]["elements"].as_array().expect("a list").iter();
        let counts = values.map(|element| element["values"][0].as_str().expect("digits")[..2].to_owned());
        counts.collect::<Vec<_>>()
    };
    assert!(packets(&first).contains(&"03".to_owned()) && packets(&second).contains(&"04".to_owned()), "{second}");
    // The same, all maps of a file at once, shown on standard output.
    let whole = place("first-dump.json").display().to_string();
    let (code, out, complaint) = said(&[&run[..], &["--map", &whole, "--dump-maps", "-"]].concat());
    assert_eq!((code, complaint.as_str()), (0, ""));
    let third: Value = serde_json::from_str(&out[out.find("\n{").expect("an object")..]).expect("JSON");
    assert_eq!(third, second);
    // Constants of another build.
    let other = place("other-constants.json");
    fs::write(&other, r#"{".rodata": {"elements": [{"key": 0, "value": 7}]}}"#).expect("written");
    let other = other.display().to_string();
    let (code, _, complaint) = said(&[&run[..], &["--map", &other]].concat());
    assert_eq!(code, 1);
    assert!(complaint.starts_with("kumite: map .rodata: element 0: "), "{complaint}");
    let len = first[".rodata"]["value_len"].as_u64().expect("a count");
    let zeros = "00".repeat(usize::try_from(len).expect("few"));
    fs::write(&other, serde_json::json!({".rodata": {"elements": [{"key": 0, "value": zeros}]}}).to_string())
        .expect("written");
    let frozen = "the map is frozen and holds another value; give variables theirs with --const";
    let complaint = format!("kumite: map .rodata: element 0: {frozen}\n");
    assert_eq!(said(&[&run[..], &["--map", &other]].concat()), (1, String::new(), complaint));
    fs::write(&other, "[]").expect("written");
    let complaint = format!("kumite: {other}: no dump of all maps; say NAME={other} for the elements of one\n");
    assert_eq!(said(&[&run[..], &["--map", &other]].concat()), (1, String::new(), complaint));
}

#[test]
fn frames_that_no_program_takes_are_skipped_and_counted() {
    let frame = |len: usize| CapturedFrame { at: std::time::Duration::ZERO, bytes: vec![7; len] };
    let capture = place("lengths.pcap");
    fs::write(&capture, Capture::Pcap.write(&[frame(60), frame(13), frame(14), frame(3521)])).expect("written");
    let run = ["run", FIREWALL, "--pcap", capture.to_str().expect("text")];
    let (code, out, complaint) = said(&run);
    assert_eq!((code, complaint.as_str()), (0, ""));
    for (number, len) in [(2, 13), (4, 3521)] {
        let line =
            format!("skipped: frame {number}: its length of {len} is not between 14 and 3520 bytes; leave it out\n");
        assert!(out.contains(&line), "{out}");
    }
    assert!(out.contains("\nframe 1: ") && out.contains("\nframe 3: ") && !out.contains("\nframe 2: "), "{out}");
    assert!(out.ends_with("; 0 traps, 0 findings; 2 frames skipped\n"), "{out}");
    let (_, lines) = json(&run);
    assert_eq!((&lines[0]["skipped"]["frame"], &lines[4]["tally"]["skipped"]), (&2.into(), &2.into()));
    let (_, help, _) = said(&["run", "--help"]);
    assert!(help.contains("Frames: 14 to 3520 bytes"), "{help}");
}

#[test]
fn variables_are_listed_with_type_and_size() {
    let (_, out, _) = said(&["inspect", BALANCER]);
    assert!(out.contains("\n  variable service_port: __be16, 2 bytes\n"), "{out}");
    assert!(out.contains("\n  variable backend_address: __be32[4], 16 bytes\n"), "{out}");
    let (_, out, _) = said(&["inspect", BALANCER, "--json"]);
    let listed: Value = serde_json::from_str(&out).expect("JSON");
    let map =
        listed["maps"].as_array().expect("a list").iter().find(|map| map["name"] == ".rodata").expect("constants");
    let port = serde_json::json!({"name": "service_port", "type": "__be16", "len": 2});
    assert!(map["variables"].as_array().expect("a list").contains(&port), "{map}");
    let complaint = format!(
        "kumite: {BALANCER}: service_port=70000: it does not fit the variable's type (__be16, 2 bytes); see `kumite \
         inspect` for the object's variables\n"
    );
    assert_eq!(said(&["inspect", BALANCER, "--const", "service_port=70000"]), (1, String::new(), complaint));
}

#[test]
fn what_names_nothing_is_refused() {
    let complaint = format!("kumite: {FIREWALL}: no program is called wall; it has firewall\n");
    assert_eq!(said(&["inspect", FIREWALL, "--type", "wall=xdp"]), (1, String::new(), complaint));
    let empty = object("empty.o", &[]);
    let why = "it has no programs; functions are programs where their section is executable and not .text";
    let complaint = format!("kumite: {empty}: {why}\n");
    assert_eq!(said(&["disasm", &empty]), (1, String::new(), complaint.clone()));
    assert_eq!(said(&["run", &empty, "--hex", FRAME]), (1, String::new(), complaint));
}

#[test]
fn where_a_redirect_leads_is_shown() {
    let redirects = object("redirects.o", &[("redirects", "r1 = 7\nr2 = 0\ncall 23\nexit")]);
    let (code, out, _) = said(&["run", &redirects, "--hex", FRAME]);
    assert!(code == 0 && out.contains("\n  redirect: to interface 7, flags 0x0\n"), "{out}");
}

#[test]
fn what_is_no_regular_file_is_refused_and_never_waited_for() {
    let fifo = place("fifo");
    let fifo = fifo.to_str().expect("text");
    let _ = fs::remove_file(fifo);
    assert!(std::process::Command::new("mkfifo").arg(fifo).status().expect("mkfifo runs").success());
    for (path, line) in [
        (fifo, &["inspect", fifo][..]),
        (fifo, &["run", FIREWALL, "--pcap", fifo]),
        (fifo, &["run", FIREWALL, "--hex", FRAME, "--map", &format!("rules={fifo}")]),
        ("/dev/zero", &["disasm", "/dev/zero"]),
        ("/tmp", &["run", "/tmp", "--hex", FRAME]),
    ] {
        let complaint = format!("kumite: {path}: it is no regular file; name a file, or - for standard input\n");
        assert_eq!(said(line), (3, String::new(), complaint), "{line:?}");
    }
    let mut child = super::kumite(&["inspect", "-"]);
    let child = child.stdin(fs::File::open(FIREWALL).expect("ours")).output().expect("it runs");
    assert!(String::from_utf8_lossy(&child.stdout).starts_with("-: license "), "{child:?}");
    let long = place("long.o");
    fs::File::create(&long).and_then(|file| file.set_len((64 << 20) + 1)).expect("a file with a hole");
    let long = long.to_str().expect("text");
    let complaint = format!("kumite: {long}: longer than 67108864 bytes; name a shorter file\n");
    assert_eq!(said(&["disasm", long]), (1, String::new(), complaint));
    fs::remove_file(long).expect("ours");
}

#[test]
fn names_of_helpers_maps_and_functions_stand_beside_the_instructions() {
    let (_, out, _) = said(&["disasm", FIREWALL]);
    for name in ["; bpf_map_lookup_elem\n", "; map counters\n", "; map blocklist\n", "; dropped\n"] {
        assert!(out.contains(name), "{name}: {out}");
    }
    let text: String =
        out.lines().filter(|line| !line.starts_with("; program")).map(|line| format!("{line}\n")).collect();
    kumite::isa::assemble(&text).expect("what is printed reads back");
    let (code, out, _) = said(&["disasm", FIREWALL, "--json"]);
    assert_eq!(code, 0);
    let listed: Value = serde_json::from_str(&out).expect("JSON");
    let insns = listed["programs"][0]["insns"].as_array().expect("a list");
    let call = insns.iter().find(|insn| insn["helper"] == "map_lookup_elem").expect("a call");
    assert!(call["source"]["line"].is_u64() && call["text"] == "call 1", "{call}");
    assert!(
        insns.iter().any(|insn| insn["map"] == "blocklist") && insns.iter().any(|insn| insn["function"] == "dropped")
    );
    assert_eq!(listed["programs"][0]["functions"][0]["name"], "firewall");
}

#[test]
fn an_object_says_what_would_be_refused_in_the_words_of_a_run() {
    let programs = [("good", "w0 = 2\nexit"), ("bad", "call 999\nexit")];
    let mixed = object("mixed.o", &programs);
    let (code, out, _) = said(&["inspect", &mixed]);
    assert_eq!(code, 0);
    let (_, _, complaint) = said(&["run", &mixed, "--prog", "bad", "--hex", FRAME]);
    let why = complaint.trim().strip_prefix("kumite: ").expect("our name");
    assert!(why.contains("bad insn 0: helper 999 is not supported; see `kumite helpers`"), "{why}");
    assert!(
        out.contains(&format!(
            "program bad (xdp, section xdp/bad): 2 slots, 1 function, 0 source lines; refused: {why}\n"
        )),
        "{out}"
    );
    assert!(out.contains("program good (xdp, section xdp/good): 2 slots, 1 function, 0 source lines\n"), "{out}");
    let mut builder = crate::objects::Builder::new();
    let section = builder.text("tc", "w0 = 0\nexit");
    builder.symbol("shape", crate::objects::Names::Function, section, 0, 16);
    let shape = place("shape.o");
    fs::write(&shape, builder.finish()).expect("written");
    let (code, out, _) = said(&["inspect", shape.to_str().expect("text")]);
    let host = "  host: hosts have no hook but xdp yet; use kumite run or diff for tc programs\n";
    assert!(code == 0 && out.contains(host), "{out}");
    let alone = object("bad.o", &programs[1..]);
    let (code, out, _) = said(&["inspect", &alone, "--json"]);
    assert_eq!(code, 1);
    let listed: Value = serde_json::from_str(&out).expect("JSON");
    assert!(listed["programs"][0]["refused"].as_str().expect("a reason").contains("helper 999 is not supported"));
    let (code, out, _) = said(&["inspect", &alone]);
    assert_eq!((code, out.lines().last()), (1, Some("no program of the object loads")));
}

#[test]
fn programs_ask_for_routes_and_sockets_of_files() {
    let files = ["routes.json", "sockets.json"].map(place);
    let [routes, sockets] = files.each_ref().map(|path| path.to_str().expect("text"));
    let line = ["run", BALANCER, "--prog", "balance", "--hex", FRAME, "--routes", routes, "--sockets", sockets];
    fs::write(routes, r#"{"routes": [{"dst": "default", "dev": "eth0"}]}"#).expect("written");
    fs::write(sockets, r#"[{"protocol": "tcp", "local": "10.0.0.1:80", "state": "ESTAB"}]"#).expect("written");
    let complaint = format!("kumite: {routes}: routes 1: no interface is named \"eth0\"; list it under interfaces\n");
    assert_eq!(said(&line), (1, String::new(), complaint));
    let eth0 = r#"{"ifindex": 2, "ifname": "eth0", "mtu": 1500}"#;
    let json = format!(r#"{{"interfaces": [{eth0}], "routes": [{{"dst": "default", "dev": "eth0"}}]}}"#);
    fs::write(routes, json).expect("written");
    let why = "a socket has a remote end exactly when it is connected; write both or neither";
    assert_eq!(said(&line), (1, String::new(), format!("kumite: {sockets}: sockets 1: {why}\n")));
    fs::write(sockets, r#"[{"protocol": "tcp", "local": "10.0.0.1:80"}]"#).expect("written");
    assert_eq!(said(&line).0, 0);
}
