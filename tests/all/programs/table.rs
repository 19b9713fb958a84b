//! Which of our own programs are compared with the kernel, over how many frames: one list for the tests that compare and for
//! the manual.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Programs of a source, and most frames on which a test compares each in every mode.
type Row = (&'static str, &'static [(&'static str, usize)]);

/// By the name of the C file.
const COMPARED: &[Row] = &[
    ("atomics", &[("atomics", 60)]),
    ("balancer", &[("balance", 60), ("backend_0", 60), ("backend_1", 60), ("backend_local", 60)]),
    ("callbacks", &[("sum_of_bytes", 60), ("walk_over_maps", 60)]),
    ("classify", &[("classify", 60)]),
    ("dissect", &[("dissect", 60), ("anywhere", 60)]),
    ("dynptr", &[("memory", 60), ("records", 60)]),
    (
        "dynptr_kfuncs",
        &[("xdp_parts", 1300), ("xdp_writes", 1300), ("tc_parts", 1300), ("tc_writes", 1300), ("filter_parts", 60)],
    ),
    ("events", &[("events_of_frames", 60)]),
    ("exceptions", &[("throws", 60), ("jumps", 60)]),
    ("filter", &[("filter", 60), ("headers", 60)]),
    ("firewall", &[("firewall", 60)]),
    ("fragments", &[("bytes", 1300), ("bounds", 1300), ("pieces", 1300)]),
    ("functions", &[("short_chain", 60), ("long_chain", 60)]),
    ("globals", &[("globals", 60)]),
    ("iterators", &[("count", 60)]),
    ("nested", &[("hop", 60), ("stride", 60)]),
    ("parse", &[("parse", 60)]),
    ("route", &[("route_xdp", 60), ("route_tc", 60), ("too_short", 60)]),
    ("skb_bytes", &[("bytes", 1300), ("filter", 1300)]),
    ("skb_checksum", &[("checksums", 1300), ("translate", 60)]),
    ("skb_growth", &[("growth", 1300)]),
    ("skb_hash", &[("hashes", 6500)]),
    ("skb_redirect", &[("targets", 5000), ("copies", 3400)]),
    ("skb_room", &[("ends", 5000), ("grow", 3400), ("protocols", 2600), ("shrink", 1300)]),
    ("skb_tunnel", &[("tunnels", 5000)]),
    ("skb_type", &[("marks", 3800), ("sockets", 60), ("groups", 60)]),
    ("skb_vlan", &[("tags", 2600), ("all_off", 60)]),
    ("sockets", &[("sockets_xdp", 60), ("sockets_tc", 60)]),
    ("sums", &[("answer", 60), ("whole_header", 60)]),
    ("syncookie", &[("cookies_4", 60), ("cookies_6", 60)]),
    ("text", &[("numbers_of_bytes", 60), ("lines_of_bytes", 60), ("probes", 60)]),
    ("timer", &[("start_slots", 1), ("start_flows", 1)]),
    ("tunnel", &[("wrap", 60), ("unwrap", 60), ("resize", 60), ("annotate", 60)]),
];

/// The list has what a test is about to compare: a program of an object that was built from a C file of ours.
pub(super) fn expect(object: &Path, program: &str, frame_count: usize) {
    let file = object.file_name().expect("a file").to_string_lossy();
    let source = file.split('.').next().expect("a first part");
    let row = COMPARED.iter().find(|(name, _)| *name == source);
    let listed = row.and_then(|(_, programs)| programs.iter().find(|(name, _)| *name == program));
    let (_, most) = listed.unwrap_or_else(|| panic!("{source} {program} is compared and not in the table"));
    assert!(frame_count <= *most, "{source} {program} is compared on {frame_count} frames, and {most} in the table");
}

#[test]
fn the_table_of_the_manual_is_that_of_the_tests_and_has_every_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let stems = |folder: &str, extension: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(root.join(folder)).expect("a folder of the project");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let wanted = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
        wanted.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
    };
    let sources = stems("tests/programs", "c").into_iter().chain(stems("src/cli/demo", "c"));
    let listed: BTreeSet<String> = COMPARED.iter().map(|(source, _)| (*source).to_owned()).collect();
    assert_eq!(sources.collect::<BTreeSet<_>>(), listed);

    // A row that no test names is no comparison.
    let tests = stems("tests/all/programs", "rs").into_iter().filter(|stem| stem != "table");
    let tests: String = tests.map(|stem| text(&root.join(format!("tests/all/programs/{stem}.rs")))).collect();
    let mut table = String::from("| source | programs, each with the most frames at once |\n|---|---|\n");
    for (source, programs) in COMPARED {
        let each = programs.iter().map(|(program, frames)| {
            assert!(tests.contains(&format!("\"{program}\"")), "{source} {program}: no test names it");
            format!("`{program}` {frames}")
        });
        let each = each.collect::<Vec<_>>().join(", ");
        writeln!(table, "| `{source}.c` | {each} |").expect("a string takes it");
    }
    assert!(text(&root.join("src/manual/oracle.md")).contains(&table), "src/manual/oracle.md is to have\n{table}");
}
