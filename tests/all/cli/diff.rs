//! `kumite diff`: a program here and in the kernel.

use serde_json::Value;

use super::said;
use crate::kernel::available;
use crate::programs::clang;

const FIREWALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/demo/firewall.o");
/// UDP from 10.0.0.1:1234 to 10.0.0.2, port 9000, without a checksum.
const FRAME: &str = "0200000000010200000000020800\
                     4500001c0000000040117ccf0a0000010a000002\
                     04d2232800080000";

#[test]
fn a_program_that_does_what_the_kernel_does_is_equal_in_every_mode() {
    if !available() {
        return;
    }
    let (code, out, complaints) = said(&["diff", FIREWALL, "--hex", FRAME]);
    assert_eq!((code, complaints.as_str()), (0, ""));
    let equal = |mode| format!("firewall in {mode} mode: 1 frame: equal to the kernel\n");
    assert_eq!(out, ["fast", "instrumented", "verify"].map(equal).concat());
}

#[test]
fn frames_that_no_side_takes_are_left_out_and_prove_nothing() {
    if !available() {
        return;
    }
    let (code, out, complaints) = said(&["diff", FIREWALL, "--mode", "fast", "--hex", "0200"]);
    assert_eq!((code, complaints.as_str()), (1, ""));
    assert_eq!(out, "firewall in fast mode: 0 frames: nothing to compare\nleft out, too short or too long: 1 frame\n");
}

#[test]
fn what_differs_is_shown_and_makes_the_exit_code_1() {
    if !available() || !clang::available("clang-19") {
        return;
    }
    // The kernel's processors have the same clock as ours, and never the same random numbers.
    let text = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, long); } drawn SEC(\".maps\");
SEC(\"xdp\") int chance(struct xdp_md *ctx)
{
	int key = 0;
	long *value = bpf_map_lookup_elem(&drawn, &key);
	if (value)
		*value = (long)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
	return XDP_PASS;
}
char _license[] SEC(\"license\") = \"GPL\";";
    let object = clang::build_text("clang-19", "chance", text);
    let object = object.to_str().expect("text");
    let (code, out, _) = said(&["diff", object, "--mode", "fast", "--hex", FRAME, "--json"]);
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &report["frames"]), (1, &Value::from(1)));
    assert_eq!(report["modes"][0]["different"], 1);
    assert_eq!(report["modes"][0]["differences"][0]["part"], "map drawn, 00000000");
    let (_, out, _) = said(&["diff", object, "--mode", "fast", "--hex", FRAME]);
    assert!(
        out.starts_with("chance in fast mode: 1 frame: 1 difference\n  map drawn, 00000000:\n    kernel "),
        "{out}"
    );
}

#[test]
fn a_program_that_the_verifier_refuses_says_so() {
    if !available() || !clang::available("clang-19") {
        return;
    }
    let text = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>
SEC(\"xdp\") int reads(struct xdp_md *ctx) { return *(volatile char *)(long)ctx->data; }
char _license[] SEC(\"license\") = \"GPL\";";
    let object = clang::build_text("clang-19", "reads", text);
    let (code, _, complaints) = said(&["diff", object.to_str().expect("text"), "--hex", FRAME]);
    assert_eq!(code, 1);
    assert_eq!(
        complaints,
        "kumite: kernel: reads: EACCES: R1 offset is outside of the packet; the kernel cannot be compared with\n"
    );
}
