//! Our own C programs: built by every clang, run by every engine and by the kernel, compared frame by frame.

pub(crate) mod clang;
mod frames;
mod kernel_object;
mod network;
mod table;
mod timers;

use std::collections::BTreeMap;
use std::path::Path;

use kumite::elf::Object;
use kumite::maps::Map;
use kumite::report::{FrameReport, RunRequest, TestRun, from_hex};
use kumite::run::World;
use kumite::verdict::ProgramKind;
use kumite::vm::Mode;

use crate::kernel::{self, KernelMap, TestInput};
use crate::random::Random;
use kernel_object::KernelObject;

/// Frames of one comparison.
const FRAME_COUNT: usize = 60;

/// What maps hold before: map, key, value.
type Preset<'a> = &'a [(&'a str, Vec<u8>, Vec<u8>)];

/// Gives a world what the kernel's network namespace has.
type Furnish<'a> = &'a dyn Fn(&World);

/// Every element of a map by key, the values of processor 0 only.
type Elements = BTreeMap<Vec<u8>, Vec<u8>>;

fn elements_of(map: &dyn Map) -> Elements {
    let mut elements = Elements::new();
    let mut key = map.next_key(None).ok();
    while let Some(at) = key {
        let value = map.host_lookup(&at).expect("the key was just named");
        key = map.next_key(Some(&at)).ok();
        elements.insert(at, value);
    }
    elements
}

fn elements_in_kernel(map: &KernelMap, value_len: usize) -> Elements {
    let mut elements = Elements::new();
    let mut key = map.next_key(None).ok();
    while let Some(at) = key {
        let mut value = map.lookup(&at).expect("the key was just named");
        value.truncate(value_len);
        key = map.next_key(Some(&at)).ok();
        elements.insert(at, value);
    }
    elements
}

fn records_of(map: &dyn Map) -> Option<Vec<Vec<u8>>> {
    let ring = map.as_ring_buffer()?;
    let mut records = Vec::new();
    ring.read(|record| records.push(record.to_vec()));
    Some(records)
}

fn frames(kind: ProgramKind, count: usize) -> Vec<Vec<u8>> {
    // The kernel makes no skb of a packet that ends within its network header.
    let len_min = if kind == ProgramKind::Xdp { 14 } else { 14 + 40 };
    let mut random = Random::new(7);
    let all = std::iter::repeat_with(|| frames::frame(&mut random));
    all.filter(|frame| frame.len() >= len_min).take(count).collect()
}

fn parse(path: &Path) -> Object {
    let bytes = std::fs::read(path).expect("the compiler wrote it");
    let object = Object::parse(&path.display().to_string(), &bytes).expect("an object of clang");
    let refused: Vec<String> = object.refused.iter().map(|refused| refused.reason.to_string()).collect();
    assert!(refused.is_empty(), "{refused:?}");
    object
}

fn test_run(object: &Object, program: &str, preset: Preset<'_>, furnish: Furnish<'_>) -> TestRun {
    let run = TestRun::new(&RunRequest { object, program: Some(program), presets: &[] });
    let run = run.unwrap_or_else(|error| panic!("{error}"));
    furnish(run.world());
    for (map, key, value) in preset {
        run.instance().map(map).expect("a map of the object").host_update(key, value, 0).expect("room");
    }
    run
}

/// What a program runs on.
struct Input {
    /// The frame, behind its metadata.
    bytes: Vec<u8>,
    /// What the context says before.
    context: Vec<u8>,
}

impl Input {
    /// The context says now the least, now more, as the frame's random bytes have it.
    fn new(kind: ProgramKind, program: &str, frame: &[u8]) -> Self {
        let dice = |at: usize, below: u8| u32::from(frame[at] % below);
        let mut context = match kind {
            ProgramKind::Xdp => vec![0; 24],
            ProgramKind::Tc | ProgramKind::SocketFilter => vec![0; 192],
            ProgramKind::FlowDissector => vec![0; 56],
            ProgramKind::Raw => panic!("no hook of the kernel's"),
        };
        let meta_len = if kind == ProgramKind::Xdp && dice(1, 4) == 0 { 4 * dice(2, 9) } else { 0 };
        let bytes = [&vec![0xd0; meta_len as usize], frame].concat();
        let len = u32::try_from(bytes.len()).expect("short");
        let mut put = |offset: usize, value: u32| context[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        match kind {
            ProgramKind::Xdp => {
                put(0, meta_len);
                put(4, len);
                put(12, dice(3, 2));
            }
            ProgramKind::Tc | ProgramKind::SocketFilter => {
                put(8, 0x1234_5678);
                put(32, dice(1, 8));
                put(36, dice(2, 3));
                put(40, dice(3, 2));
                for (offset, value) in (48..68).step_by(4).zip(0xa0..) {
                    put(offset, value);
                }
                put(152, 0x5eed);
                put(160, if dice(4, 2) == 0 { 0 } else { len + dice(5, 200) });
                put(164, dice(6, 200));
                // The kernel's stack would take copies apart by it.
                put(176, if program != "copies" && dice(7, 6) == 0 { 500 } else { 0 });
                put(184, 0xbeef);
            }
            ProgramKind::FlowDissector => put(48, dice(1, 8)),
            ProgramKind::Raw => {}
        }
        Self { bytes, context }
    }
}

/// Reports of all inputs.
fn reports(run: &mut TestRun, mode: Mode, inputs: &[Input]) -> Vec<FrameReport> {
    let mut report = |input: &Input| {
        run.give_context(&input.context).unwrap_or_else(|error| panic!("{error}"));
        let report = run.reports(mode, 1, [input.bytes.as_slice()]).next().expect("a report for each frame");
        report.expect("frames of ordinary length")
    };
    inputs.iter().map(&mut report).collect()
}

/// Runs a program of an object on the same frames in every mode, and in the kernel where that can be.
fn compare(path: &Path, program: &str, preset: Preset<'_>, frame_count: usize) {
    compare_furnished(path, program, preset, &|_| (), frame_count);
}

/// The same in a world that is like the calling thread's network namespace.
fn compare_furnished(path: &Path, program: &str, preset: Preset<'_>, furnish: Furnish<'_>, frame_count: usize) {
    let kind = parse(path).program(program).expect("a program of the object").kind();
    let inputs: Vec<Input> = frames(kind, frame_count).iter().map(|frame| Input::new(kind, program, frame)).collect();
    compare_on(path, program, preset, furnish, &inputs);
}

/// The same on these inputs.
fn compare_on(path: &Path, program: &str, preset: Preset<'_>, furnish: Furnish<'_>, inputs: &[Input]) {
    table::expect(path, program, inputs.len());
    let object = parse(path);
    let mut verified = test_run(&object, program, preset, furnish);
    let expected = reports(&mut verified, Mode::Verify, inputs);
    let place = |number: usize| format!("{} {program} frame {number}", path.display());
    let mut verdicts: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, report) in expected.iter().enumerate() {
        assert_eq!(report.trap, None, "{}", place(number));
        let findings: Vec<String> = report.findings.iter().map(|finding| format!("{finding:?}")).collect();
        assert!(findings.is_empty(), "{}: {findings:?}", place(number));
        *verdicts.entry(report.verdict.name()).or_default() += 1;
    }
    println!("{} {program}: {verdicts:?}", path.display());
    for mode in [Mode::Fast, Mode::Instrumented] {
        let mut run = test_run(&object, program, preset, furnish);
        assert!(run.untranslated(mode).is_none(), "{program} is interpreted in {mode} mode");
        for (number, (report, expected)) in reports(&mut run, mode, inputs).iter().zip(&expected).enumerate() {
            let essence = |report: &FrameReport| {
                (
                    report.retval,
                    report.data_out.clone(),
                    report.meta_out.clone(),
                    report.ctx_out.clone(),
                    format!("{:?} {:?}", report.redirect, report.copies),
                    report.tail_calls,
                    report.trap.clone(),
                )
            };
            assert_eq!(essence(report), essence(expected), "{} in {mode} mode", place(number));
        }
        for ((_, map), (_, expected)) in run.instance().maps().iter().zip(verified.instance().maps()) {
            let name = &map.def().name;
            if map.as_program_array().is_some() {
                continue;
            }
            assert_eq!(elements_of(map.as_ref()), elements_of(expected.as_ref()), "map {name} in {mode} mode");
        }
    }
    if !KernelObject::available() {
        return;
    }
    kernel::stay_on_processor_0();
    let kernel = KernelObject::load(path);
    let map_of = |name: &str| {
        let map = verified.instance().map(name).expect("a map of the object");
        kernel.map(map.def())
    };
    for (map, key, value) in preset {
        map_of(map).update(key, value, 0).expect("room");
    }
    let judge = kernel.program(program);
    for (number, (input, report)) in inputs.iter().zip(&expected).enumerate() {
        let output = judge.test_run(&TestInput { packet: &input.bytes, ctx: &input.context, repeat: 1 });
        let output = output.unwrap_or_else(|errno| panic!("{}: {errno}: {:02x?}", place(number), input.bytes));
        assert_eq!(report.retval, output.retval, "{}: return value", place(number));
        // The kernel gives metadata out with the packet.
        let left = from_hex(&format!("{}{}", report.meta_out, report.data_out));
        assert_eq!(left, Some(output.packet), "{}: packet", place(number));
        let context = report.ctx_out.as_deref().and_then(from_hex);
        assert_eq!(context, Some(output.ctx), "{}: context", place(number));
    }
    for (_, map) in verified.instance().maps() {
        let def = map.def();
        let theirs = map_of(&def.name);
        if let Some(records) = records_of(map.as_ref()) {
            assert_eq!(Ok(records), theirs.records(def.max_entries), "records of {}", def.name);
        } else if map.as_program_array().is_none() {
            let ours = elements_of(map.as_ref());
            let value_len = ours.values().next().map_or(0, Vec::len);
            assert_eq!(ours, elements_in_kernel(&theirs, value_len), "map {}", def.name);
        }
    }
}

/// Builds a source with every compiler and cpu version from `cpu_min` on, and compares each of its programs.
fn compare_builds(source: &str, cpu_min: &str, programs: &[&str], preset: Preset<'_>) {
    for (compiler, cpus) in clang::COMPILERS {
        if !clang::available(compiler) {
            continue;
        }
        for cpu in cpus.iter().filter(|cpu| **cpu >= cpu_min) {
            let object = clang::build(compiler, cpu, source);
            for program in programs {
                compare(&object, program, preset, FRAME_COUNT);
            }
        }
    }
}

#[test]
fn a_parser_counts_as_in_the_kernel() {
    compare_builds("tests/programs/parse.c", "v1", &["parse"], &[]);
}

#[test]
fn a_tunnel_wraps_unwraps_cuts_and_annotates_as_in_the_kernel() {
    compare_builds("tests/programs/tunnel.c", "v1", &["wrap", "unwrap", "resize", "annotate"], &[]);
}

#[test]
fn global_variables_of_every_section_end_as_in_the_kernel() {
    compare_builds("tests/programs/globals.c", "v1", &["globals"], &[]);
}

#[test]
fn functions_call_functions_as_in_the_kernel() {
    compare_builds("tests/programs/functions.c", "v1", &["short_chain", "long_chain"], &[]);
}

#[test]
fn atomic_operations_leave_what_they_leave_in_the_kernel() {
    compare_builds("tests/programs/atomics.c", "v3", &["atomics"], &[]);
}

#[test]
fn checksums_by_helper_are_those_of_the_kernel() {
    compare_builds("tests/programs/sums.c", "v1", &["answer", "whole_header"], &[]);
}

#[test]
fn ring_buffer_records_are_those_of_the_kernel() {
    compare_builds("tests/programs/events.c", "v1", &["events_of_frames"], &[]);
}

#[test]
fn a_tc_program_classifies_as_in_the_kernel() {
    compare_builds("tests/programs/classify.c", "v1", &["classify"], &[]);
}

#[test]
fn a_socket_filter_reads_headers_by_offset_as_in_the_kernel() {
    compare_builds("tests/programs/filter.c", "v1", &["filter", "headers"], &[]);
}

#[test]
fn packets_are_read_and_written_by_offset_as_in_the_kernel() {
    compare_builds("tests/programs/skb_bytes.c", "v1", &["bytes", "filter"], &[]);
}

#[test]
fn checksums_are_brought_up_to_date_as_in_the_kernel() {
    compare_builds("tests/programs/skb_checksum.c", "v1", &["checksums", "translate"], &[]);
}

#[test]
fn hashes_of_flows_are_kept_as_in_the_kernel() {
    compare_builds("tests/programs/skb_hash.c", "v1", &["hashes"], &[]);
}

#[test]
fn room_in_packets_is_made_and_taken_as_in_the_kernel() {
    compare_builds("tests/programs/skb_room.c", "v1", &["grow", "shrink", "ends", "protocols"], &[]);
}

#[test]
fn packets_grow_as_far_as_in_the_kernel() {
    compare_builds("tests/programs/skb_growth.c", "v1", &["growth"], &[]);
    if clang::available("clang-14") {
        let object = clang::build("clang-14", "v2", "tests/programs/skb_growth.c");
        compare(&object, "growth", &[], 1300);
    }
}

#[test]
fn tags_are_pushed_and_popped_as_in_the_kernel() {
    compare_builds("tests/programs/skb_vlan.c", "v1", &["tags", "all_off"], &[]);
}

#[test]
fn tunnels_are_said_and_asked_for_as_in_the_kernel() {
    compare_builds("tests/programs/skb_tunnel.c", "v1", &["tunnels"], &[]);
}

#[test]
fn packets_say_of_themselves_what_they_say_in_the_kernel() {
    compare_builds("tests/programs/skb_type.c", "v1", &["marks", "sockets", "groups"], &[]);
}

#[test]
fn targets_and_copies_are_noted_as_in_the_kernel() {
    compare_builds("tests/programs/skb_redirect.c", "v1", &["targets", "copies"], &[]);
}

#[test]
fn helpers_of_sk_buffs_agree_with_the_kernel_over_ten_thousand_calls_each() {
    if !clang::available("clang-14") {
        return;
    }
    // Frames that make so many calls of each helper of a program.
    for (source, program, frame_count) in [
        ("bytes", "bytes", 1300),
        ("bytes", "filter", 1300),
        ("checksum", "checksums", 1300),
        ("hash", "hashes", 6500),
        ("redirect", "copies", 3400),
        ("redirect", "targets", 5000),
        ("room", "ends", 5000),
        ("room", "grow", 3400),
        ("room", "protocols", 2600),
        ("room", "shrink", 1300),
        ("tunnel", "tunnels", 5000),
        ("type", "marks", 3800),
        ("vlan", "tags", 2600),
    ] {
        // A version that no other test builds, at the same time and place.
        let object = clang::build("clang-14", "v2", &format!("tests/programs/skb_{source}.c"));
        compare(&object, program, &[], frame_count);
    }
}

#[test]
fn a_repeated_run_finds_its_headers_as_single_runs_do() {
    if !clang::available("clang-14") {
        return;
    }
    let text = format!("#include \"{}/tests/programs/skb_bytes.c\"\n", env!("CARGO_MANIFEST_DIR"));
    let object = parse(&clang::build_text("clang-14", "repeated", &text));
    let frame = frames(ProgramKind::SocketFilter, 1).remove(0);
    let left = |repeat: u32, times: usize| -> Vec<Elements> {
        let run = test_run(&object, "filter", &[], &|_| ());
        for report in run.reports(Mode::Fast, repeat, std::iter::repeat_n(frame.as_slice(), times)) {
            assert_eq!(report.expect("a frame of ordinary length").trap, None);
        }
        run.instance().maps().iter().map(|(_, map)| elements_of(map.as_ref())).collect()
    };
    assert_eq!(left(9, 1), left(1, 9));
}

#[test]
fn a_flow_dissector_finds_keys_as_in_the_kernel() {
    compare_builds("tests/programs/dissect.c", "v1", &["dissect", "anywhere"], &[]);
}

#[test]
fn functions_that_helpers_call_back_do_what_they_do_in_the_kernel() {
    compare_builds("tests/programs/callbacks.c", "v1", &["sum_of_bytes", "walk_over_maps"], &[]);
}

#[test]
fn numbers_and_texts_are_read_and_written_as_in_the_kernel() {
    compare_builds("tests/programs/text.c", "v1", &["numbers_of_bytes", "lines_of_bytes", "probes"], &[]);
}

#[test]
fn cookies_for_syns_are_made_and_checked_as_in_the_kernel() {
    compare_builds("tests/programs/syncookie.c", "v1", &["cookies_4", "cookies_6"], &[]);
}

#[test]
fn dynamic_pointers_hold_their_bounds_as_in_the_kernel() {
    compare_builds("tests/programs/dynptr.c", "v1", &["memory", "records"], &[]);
}

#[test]
fn dynamic_pointers_of_frames_are_cut_and_written_as_in_the_kernel() {
    let programs = ["xdp_parts", "xdp_writes", "tc_parts", "tc_writes", "filter_parts"];
    compare_builds("tests/programs/dynptr_kfuncs.c", "v1", &programs, &[]);
}

#[test]
fn kernel_functions_of_dynamic_pointers_agree_with_the_kernel_over_ten_thousand_calls_each() {
    if !clang::available("clang-14") {
        return;
    }
    let object = clang::build("clang-14", "v2", "tests/programs/dynptr_kfuncs.c");
    for program in ["xdp_parts", "xdp_writes", "tc_parts", "tc_writes"] {
        compare(&object, program, &[], 1300);
    }
}

#[test]
fn open_coded_iterators_count_as_in_the_kernel() {
    compare_builds("tests/programs/iterators.c", "v1", &["count"], &[]);
}

/// Frames that are mostly longer than their linear part, each with random bytes, metadata and a linear part of its own.
fn long_inputs(count: usize) -> Vec<Input> {
    let mut random = Random::new(11);
    let mut draw = |below: u32| random.below(below) as usize;
    let mut input = || {
        let near_the_end = 3520 + 4096 * (1 + draw(3)) - 30 + draw(60);
        let len = [14 + draw(200), 3500 + draw(60), near_the_end, 14 + draw(16_000)][draw(4)];
        let len = if draw(40) == 0 { 60_000 + draw(13_000) } else { len };
        let meta_len = if draw(3) == 0 { 4 * draw(9) } else { 0 };
        let linear_len = if draw(3) == 0 && len < 60_000 { (14 + draw(3600)).min(len) } else { len };
        let bytes: Vec<u8> = (0..meta_len + len).map(|_| draw(256).to_le_bytes()[0]).collect();
        let mut context = vec![0; 24];
        for (offset, value) in [(0, meta_len), (4, meta_len + linear_len)] {
            context[offset..offset + 4].copy_from_slice(&u32::try_from(value).expect("short").to_le_bytes());
        }
        Input { bytes, context }
    };
    (0..count).map(|_| input()).collect()
}

#[test]
fn fragments_of_frames_are_reached_and_changed_as_in_the_kernel() {
    for (compiler, cpu, count) in [("clang-14", "v1", 60), ("clang-19", "v4", 60), ("clang-14", "v2", 1300)] {
        if clang::available(compiler) {
            let object = clang::build(compiler, cpu, "tests/programs/fragments.c");
            for program in ["bytes", "bounds", "pieces"] {
                compare_on(&object, program, &[], &|_| (), &long_inputs(count));
            }
        }
    }
}

#[test]
fn exceptions_end_runs_as_in_the_kernel() {
    compare_builds("tests/programs/exceptions.c", "v1", &["throws", "jumps"], &[]);
}

#[test]
fn a_balancer_of_tail_calls_rewrites_as_in_the_kernel() {
    let programs = ["balance", "backend_0", "backend_1", "backend_local"];
    compare_builds("src/cli/demo/balancer.c", "v1", &programs, &[]);
}

#[test]
fn tail_calls_out_of_subprograms_nest_as_in_the_kernel() {
    compare_builds("tests/programs/nested.c", "v1", &["hop", "stride"], &[]);
}

#[test]
fn a_firewall_judges_as_in_the_kernel() {
    let prefix = |len: u32, address: [u8; 4]| [&len.to_le_bytes()[..], &address].concat();
    let rule = |action: u32| [&action.to_le_bytes()[..], &[0; 12]].concat();
    let preset = [
        ("blocklist", prefix(24, [10, 0, 7, 0]), vec![0; 8]),
        ("blocklist", prefix(32, [10, 0, 1, 200]), vec![0; 8]),
        ("blocklist", prefix(8, [11, 0, 0, 0]), vec![0; 8]),
        ("rules", vec![0, 53, 17, 0], rule(1)),
        ("rules", vec![0, 80, 6, 0], rule(3)),
        ("rules", vec![0, 0, 1, 0], rule(1)),
    ];
    compare_builds("src/cli/demo/firewall.c", "v1", &["firewall"], &preset);
}

#[test]
fn the_demonstrations_objects_are_what_their_sources_say() {
    if !clang::available("clang-19") {
        return;
    }
    for name in ["balancer", "firewall"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let source = format!("src/cli/demo/{name}.c");
        let options = ["-fdebug-compilation-dir=."];
        let built = parse(&clang::build_with("clang-19", "v3", &root.join(&source), &options));
        let kept = parse(&root.join(format!("src/cli/demo/{name}.o")));
        assert_eq!(kept.programs.len(), built.programs.len());
        for (kept, built) in kept.programs.iter().zip(&built.programs) {
            let advice = "build src/cli/demo again as its C files say";
            assert_eq!(kept.name(), built.name(), "{advice}");
            assert_eq!(kept.insns(), built.insns(), "{name}.o {}: {advice}", kept.name());
        }
        let defs = |object: &Object| object.maps.iter().map(|map| map.def.clone()).collect::<Vec<_>>();
        assert_eq!(defs(&kept), defs(&built));
    }
}
