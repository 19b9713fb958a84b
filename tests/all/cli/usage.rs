//! Command lines that are wrong, and those that ask nothing of a host.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use super::{kumite, said};

#[test]
fn a_wrong_line_is_told_in_one_line_with_exit_code_2() {
    for (line, complaint) in [
        (&["frob"][..], "unrecognized subcommand 'frob'; see kumite --help"),
        (&["mode", "balance", "turbo"], "mode \"turbo\": no such mode; use fast, instrumented or verify"),
        (
            &["mode", "a", "b", "c"],
            "unexpected value 'c' for '[WORD]...' found, no more were expected; see kumite mode --help",
        ),
        (&["prog", "attach", "x", "y"], "hook \"y\": no such hook; use xdp, tc-ingress or tc-egress"),
        (&["map", "update", "x", "1"], "map update \"1\": no key and value; write NAME key KEY value VALUE"),
        (&["send"], "<CAPTURE|--flows <FLOWS>|--stop>: missing; see kumite send --help"),
        (
            &["send", "--flows", "x"],
            "flows \"x\": \"x\" is not udp, tcp or icmp; write for example \"udp 10.0.0.0/24:1024-2047 -> 10.1.0.1:53 \
             size 64\"",
        ),
        (
            &["send", "f", "--rate", "0"],
            "rate \"0\": not frames per second; write a number from 1 to 100000000, or max",
        ),
        (&["send", "f", "--seconds=-1"], "--seconds -1: no time to send for; write for example 10 or 0.5"),
        (
            &["mode", "--api", "x"],
            "api \"x\": neither unix:PATH nor a path with a slash; write for example unix:/tmp/a.sock",
        ),
        (
            &["run", "x", "--hex", "00", "--repeat", "9999999999"],
            "--repeat \"9999999999\": not a number from 1 to 4294967295; see kumite run --help",
        ),
        (
            &["run", "x", "--hex", "00", "--repeat", "many"],
            "--repeat \"many\": no whole number that fits; see kumite run --help",
        ),
        (
            &["demo", "--seconds", "99999999999999999999"],
            "--seconds \"99999999999999999999\": no whole number that fits; see kumite demo --help",
        ),
        (
            &["events", "--api", "unix:"],
            "api \"unix:\": no path that a file can have; write for example unix:/tmp/a.sock",
        ),
    ] {
        assert_eq!(said(line), (2, String::new(), format!("kumite: {complaint}\n")), "{line:?}");
    }
}

#[test]
fn a_host_that_is_not_there_is_exit_code_3() {
    let api = "unix:/nonexistent/a.sock";
    let complaint = format!("kumite: api {api}: no host listens there; start one with kumite host\n");
    for line in [
        &["mode"][..],
        &["mode", "fast"],
        &["prog", "list"],
        &["map", "list"],
        &["map", "dump", "x"],
        &["map", "update", "x", "key", "1", "value", "2"],
        &["events"],
        &["send", "--flows", "udp 10.0.0.1 -> 10.0.0.2"],
    ] {
        let line = [line, &["--api", api]].concat();
        assert_eq!(said(&line), (3, String::new(), complaint.clone()), "{line:?}");
    }
}

#[test]
fn a_file_that_is_not_there_is_exit_code_3() {
    let complaint =
        "kumite: /nonexistent.o: cannot read it: No such file or directory (os error 2); name a readable file\n";
    assert_eq!(said(&["prog", "load", "/nonexistent.o"]), (3, String::new(), complaint.to_owned()));
}

#[test]
fn help_is_an_answer_and_a_line_without_command_is_not() {
    let (code, out, complaints) = said(&["--help"]);
    assert_eq!((code, complaints.as_str()), (0, ""));
    assert!(out.contains("Begin with `kumite demo`."), "{out}");
    let (code, out, _) = said(&[]);
    assert_eq!(code, 2);
    assert!(out.contains("Usage: kumite <COMMAND>"), "{out}");
    let (code, out, _) = said(&["--version"]);
    assert_eq!((code, out), (0, format!("kumite {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn completions_are_written_for_a_shell() {
    let (code, out, _) = said(&["completions", "bash"]);
    assert_eq!(code, 0);
    assert!(out.contains("_kumite()"), "{out}");
}

#[test]
fn helpers_are_listed_for_people_and_for_programs() {
    let (code, out, _) = said(&["helpers"]);
    assert_eq!(code, 0);
    assert!(out.contains("bpf_map_lookup_elem"), "{out}");
    let (_, json, _) = said(&["helpers", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let listed = json["helpers"].as_array().expect("a list").len();
    let callable = kumite::helpers::HELPERS.iter().filter(|helper| helper.id != kumite::helpers::UNRESOLVED);
    assert_eq!(listed, callable.count());
    assert!(out.contains("bpf_dynptr_slice_rdwr"), "{out}");
    let listed = json["kernel_functions"].as_array().expect("a list").len();
    assert_eq!(listed, kumite::helpers::KFUNCS.len());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child =
        kumite(&["completions", "zsh"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut first = String::new();
    BufReader::with_capacity(16, child.stdout.take().expect("piped")).read_line(&mut first).expect("a line");
    // The pipe is closed here, long before all is written.
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

/// Writes to the standard input of the binary, and says exit code and both texts.
fn fed(words: &[&str], input: &str) -> (i32, String, String) {
    let mut command = kumite(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

#[test]
fn the_plugin_prints_r0_or_one_line() {
    // r0 = *(u8 *)(r1 + 1); exit
    let program = "71 10 01 00 00 00 00 00 95 00 00 00 00 00 00 00\n";
    for mode in ["fast", "instrumented", "verify"] {
        assert_eq!(fed(&["vm-plugin", "--mode", mode, "aa bb"], program), (0, "bb\n".to_owned(), String::new()));
        let complaint = "kumite: program insn 0: read at guest address 0x1: not mapped for this; mend the program\n";
        assert_eq!(fed(&["vm-plugin", "--mode", mode], program), (1, String::new(), complaint.to_owned()));
    }
    let complaint = "kumite: program: 2 bytes are no whole slots; an instruction has 8\n";
    assert_eq!(fed(&["vm-plugin"], "9500"), (1, String::new(), complaint.to_owned()));
}
