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
        "kumite: kernel: reads: EACCES: insn 1: invalid access to packet, off=0 size=1, R1(id=0,off=0,r=0): R1 offset is \
         outside of the packet; the kernel cannot be compared with\n"
    );
}

#[test]
fn a_context_is_given_to_both_sides() {
    if !available() || !clang::available("clang-19") {
        return;
    }
    // What each returns depends on what the context says: metadata and the interface, or the mark.
    let head = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nchar _license[] SEC(\"license\") = \"GPL\";\n";
    let xdp = "SEC(\"xdp\") int meta(struct xdp_md *ctx)
{
	__u32 *mine = (void *)(long)ctx->data_meta;
	if ((void *)(mine + 1) > (void *)(long)ctx->data)
		return 77;
	return *mine + ctx->ingress_ifindex;
}";
    let tc = "SEC(\"tc\") int mark(struct __sk_buff *skb) { skb->priority = skb->mark + 1; return skb->mark; }";
    let marked = format!("0000000000000000{}", "2a000000");
    let cases = [
        // data 4, data_end left to us, ingress_ifindex 1: the loopback of any network namespace.
        ("diff_meta", xdp, "0400000000000000000000000100000000000000", format!("05000000{FRAME}"), Some(6)),
        ("diff_mark", tc, marked.as_str(), FRAME.to_owned(), Some(42)),
        ("diff_meta", xdp, "0600000000000000", format!("05000000{FRAME}"), None),
    ];
    for (name, text, context, frame, retval) in cases {
        let object = clang::build_text("clang-19", name, &format!("{head}{text}"));
        let object = object.to_str().expect("text");
        let (code, out, complaints) = said(&["diff", object, "--hex", &frame, "--ctx-in", context, "--json"]);
        let Some(retval) = retval else {
            let why = "kumite: context: data is 6; the length of the metadata is a multiple of 4 up to 252\n";
            assert_eq!((code, complaints.as_str()), (1, why));
            continue;
        };
        assert_eq!((code, complaints.as_str()), (0, ""), "{name}: {out}");
        // The context did come to the program.
        let (_, out, _) = said(&["run", object, "--hex", &frame, "--ctx-in", context, "--json"]);
        let report: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(report["retval"], retval, "{name}");
    }
}

#[test]
fn routes_and_sockets_are_ours_alone_and_the_report_says_so() {
    if !available() || !clang::available("clang-19") {
        return;
    }
    let text = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nchar _license[] SEC(\"license\") = \"GPL\";
SEC(\"xdp\") int way(struct xdp_md *ctx)
{
	struct bpf_fib_lookup fib = {};
	fib.family = 2;
	fib.ipv4_dst = 0x090200c6;
	fib.ifindex = ctx->ingress_ifindex;
	return bpf_fib_lookup(ctx, &fib, sizeof(fib), BPF_FIB_LOOKUP_SKIP_NEIGH);
}";
    let object = clang::build_text("clang-19", "diff_way", text);
    let routes = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("diff_routes.json");
    let interfaces = r#"[{"ifindex": 1, "ifname": "lo", "mtu": 65536}]"#;
    let json = format!(r#"{{"interfaces": {interfaces}, "routes": [{{"type": "blackhole", "dst": "198.0.2.9"}}]}}"#);
    std::fs::write(&routes, json).expect("written");
    let line = ["diff", object.to_str().expect("text"), "--mode", "fast", "--hex", FRAME];
    let with_routes = [&line[..], &["--routes", routes.to_str().expect("text")]].concat();
    let (code, out, complaints) = said(&with_routes);
    assert_eq!(complaints, "");
    // The kernel of this machine has no such route, and the difference is told with where it may come from.
    assert!(out.ends_with("given to kumite alone, the kernel asks its own: routes\n"), "{out}");
    assert_eq!((code, out.lines().next()), (1, Some("way in fast mode: 1 frame: 1 difference")), "{out}");
    let (_, out, _) = said(&[&with_routes[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["kernels_own"], serde_json::json!(["routes"]));
    let (_, out, _) = said(&[&line[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert!(report.get("kernels_own").is_none(), "{report}");
}

#[test]
fn locks_in_variables_and_timers_in_nested_structures_are_known_to_both_sides() {
    if !available() || !clang::available("clang-19") {
        return;
    }
    let text = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nchar _license[] SEC(\"license\") = \"GPL\";
static struct bpf_spin_lock lock SEC(\".data.guarded\");
static long count SEC(\".data.guarded\");
struct held { long uses; struct { long more; struct bpf_timer timer; } inner; };
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, struct held);
} timed SEC(\".maps\");
SEC(\"tc\") int counts(struct __sk_buff *skb)
{
	int key = 0;
	struct held *held = bpf_map_lookup_elem(&timed, &key);
	if (!held)
		return 2;
	bpf_spin_lock(&lock);
	count += skb->len;
	bpf_spin_unlock(&lock);
	held->uses++;
	return bpf_timer_init(&held->inner.timer, &timed, 1) == 0;
}";
    let object = clang::build_text("clang-19", "diff_fields", text);
    let (code, out, complaints) =
        said(&["diff", object.to_str().expect("text"), "--hex", &format!("{FRAME}{}", "00".repeat(40)), "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{complaints}"));
    assert_eq!((code, &report["frames"]), (0, &Value::from(1)), "{out}");
}
