//! `kumite fuzz`: a campaign, and case files run again.

use std::fs;

use serde_json::Value;

use super::said;
use crate::programs::clang;

#[test]
fn a_campaign_without_divergence_ends_with_0_and_counts() {
    let (code, out, complaints) =
        said(&["fuzz", "--count", "40", "--seed", "1", "--kernel", "off", "--jobs", "1", "--json"]);
    assert_eq!((code, complaints.as_str()), (0, ""));
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&report["programs"], &report["seed"], &report["jobs"]), (&40.into(), &1.into(), &1.into()));
    assert_eq!((&report["divergences"], &report["kernel"]["asked"]), (&Value::Array(Vec::new()), &0.into()));
    let (code, out, _) = said(&["fuzz", "--count", "40", "--seed", "1", "--kernel", "off"]);
    assert_eq!(code, 0);
    assert!(
        out.starts_with("40 programs from seed 1 in ") && out.ends_with("\nkernel: not asked\n0 divergences\n"),
        "{out}"
    );
}

#[test]
fn a_case_file_is_run_again_and_held_against_what_it_says() {
    let good = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/tail_called_program_starts_afresh.case");
    let (code, out, complaints) = said(&["fuzz", "--case", good, "--kernel", "off"]);
    assert_eq!((code, complaints.as_str()), (0, ""));
    assert_eq!(out, format!("{good}: the kernel was not asked\n"));
    let folder = std::env::temp_dir().join(format!("kumite-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("wrong.case");
    fs::write(&path, "-- about\nr0 is said wrongly.\n-- asm main\nr0 = 1\nexit\n-- r0 2\n").expect("a file");
    let place = path.to_str().expect("text");
    let (code, out, _) = said(&["fuzz", "--case", place, "--kernel", "off"]);
    assert_eq!((code, out), (1, format!("{place}: 1 difference\n  r0 is 0x1, should be 0x2\n")));
    fs::write(&path, "-- asm main\nr0 = 1\n").expect("a file");
    let (code, _, complaints) = said(&["fuzz", "--case", place]);
    assert_eq!(code, 1);
    assert_eq!(complaints, "kumite: main insn 0: main falls off its end; end it with `exit` or `goto`\n");
    fs::write(&path, "-- r0\n").expect("a file");
    let (code, _, complaints) = said(&["fuzz", "--case", place]);
    assert_eq!(code, 1);
    assert_eq!(complaints, format!("kumite: {place}: line 1: \"\" is not a number; correct the section\n"));
    fs::remove_dir_all(folder).expect("our folder");
}

#[test]
fn what_a_users_program_does_wrong_is_caught_and_shown_again_by_a_run() {
    if !clang::available("clang-19") {
        return;
    }
    // Of UDP over IPv4 alone it reads a byte behind the frame.
    let text = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>
SEC(\"xdp\") int faulty(struct xdp_md *ctx)
{
	unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (data + 40 > end)
		return XDP_PASS;
	if (data[12] == 8 && data[13] == 0 && data[23] == 17 && data[36] == 35)
		return *(volatile unsigned char *)end ? XDP_DROP : XDP_PASS;
	return XDP_PASS;
}
char _license[] SEC(\"license\") = \"GPL\";";
    let object = clang::build_text("clang-19", "faulty", text);
    let object = object.to_str().expect("text");
    let folder = std::env::temp_dir().join(format!("kumite-hunt-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let place = folder.to_str().expect("text");
    let (code, out, complaints) = said(&["fuzz", object, "--count", "500", "--seed", "1", "-o", place, "--json"]);
    assert_eq!((code, complaints.as_str()), (1, ""));
    let report: Value = serde_json::from_str(&out).expect("JSON");
    let catches = report["catches"].as_array().expect("a list");
    assert_eq!((catches.len(), &catches[0]["frames"], &catches[0]["maps"]), (1, &1.into(), &Value::Null), "{out}");
    let what = catches[0]["what"].as_str().expect("text");
    assert!(what.starts_with("finding: faulty insn ") && what.contains("packet"), "{what}");
    let pcap = catches[0]["pcap"].as_str().expect("text");
    let (code, out, _) = said(&["run", object, "--pcap", pcap, "--fail-on", "finding"]);
    assert!(code == 1 && out.contains(what), "{code} {out}");
    // The command that is told does the same; what was caught before is not overwritten.
    let command = catches[0]["command"].as_str().expect("text");
    let words: Vec<&str> = command.split(' ').collect();
    assert_eq!(said(&words[1..]).0, 1, "{command}");
    let unreached = report["unreached"].as_array().expect("a list").len() as u64;
    let insns = &report["insns"];
    assert_eq!(unreached, insns["all"].as_u64().expect("a count") - insns["reached"].as_u64().expect("a count"));
    let (code, out, _) = said(&["fuzz", object, "--count", "500", "--seed", "1", "-o", place, "--forbid", "pass"]);
    assert!(code == 1 && out.contains("verdict: pass is forbidden") && out.contains("catch_2.pcap"), "{out}");
    assert!(!out.contains("catch_1.pcap"), "{out}");
    let (code, _, complaints) = said(&["fuzz", object, "--allow", "pass,away"]);
    assert!(
        code == 2 && complaints.contains("\"away\": no such verdict; use pass, drop, tx, redirect or aborted"),
        "{complaints}"
    );
    fs::remove_dir_all(folder).expect("our folder");
}
