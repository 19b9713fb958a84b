//! Kernel functions: bound by name, shown by name, refused and trapped by name.

use std::path::PathBuf;

use kumite::elf::Object;
use kumite::report::{FrameReport, RunRequest, TestRun};
use kumite::vm::Mode;

use crate::cli::said;
use crate::kernel;
use crate::programs::clang;

/// What objects are made of: what headers of any age have, and kernel functions.
const HEAD: &str = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n
char _license[] SEC(\"license\") = \"GPL\";
extern int bpf_dynptr_from_xdp(struct xdp_md *x, __u64 flags, struct bpf_dynptr *ptr) __ksym;
extern int bpf_dynptr_from_xdp___too(struct xdp_md *x, __u64 flags, struct bpf_dynptr *ptr) __ksym __weak;
extern int bpf_nobody_has(void) __ksym __weak;
extern __u32 bpf_dynptr_size(const struct bpf_dynptr *p) __ksym;
extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, __u64 *timestamp) __ksym;
extern int bpf_xdp_metadata_rx_hash(const struct xdp_md *ctx, __u32 *hash, int *rss_type) __ksym;
extern int bpf_xdp_metadata_rx_vlan_tag(const struct xdp_md *ctx, __be16 *proto, __u16 *tci) __ksym;
";

const FRAME: [u8; 60] = [7; 60];

fn built(name: &str, text: &str) -> Option<PathBuf> {
    clang::available("clang-19").then(|| clang::build_text("clang-19", name, &format!("{HEAD}{text}")))
}

fn reports(path: &PathBuf) -> Vec<FrameReport> {
    let bytes = std::fs::read(path).expect("the compiler wrote it");
    let object = Object::parse("test.o", &bytes).expect("an object of clang");
    let run = TestRun::new(&RunRequest { object: &object, program: None, presets: &[] });
    let run = run.unwrap_or_else(|error| panic!("{error}"));
    let modes = [Mode::Fast, Mode::Instrumented, Mode::Verify].into_iter();
    modes.map(|mode| run.reports(mode, 1, [&FRAME[..]]).next().expect("one").expect("a good length")).collect()
}

#[test]
fn a_network_card_that_knows_nothing_says_so_and_writes_nothing() {
    let text = "SEC(\"xdp\") int main_of(struct xdp_md *ctx)
{
	__u64 timestamp = 5;
	__u32 hash = 6;
	int type = 7;
	__u16 tci = 8;
	__be16 proto = 9;
	if (bpf_xdp_metadata_rx_timestamp(ctx, &timestamp) != -95)
		return 100;
	if (bpf_xdp_metadata_rx_hash(ctx, &hash, &type) != -95)
		return 101;
	if (bpf_xdp_metadata_rx_vlan_tag(ctx, &proto, &tci) != -95)
		return 102;
	return timestamp + hash + type + tci + proto;
}";
    let Some(path) = built("rx_metadata", text) else { return };
    for report in reports(&path) {
        assert_eq!((report.retval, report.trap, report.findings.len()), (35, None, 0), "{} mode", report.mode);
    }
}

#[test]
fn a_kernel_function_that_is_there_is_not_null_by_any_of_its_names() {
    let text = "SEC(\"xdp\") int main_of(struct xdp_md *ctx)
{
	struct bpf_dynptr whole;
	if (!(void *)bpf_dynptr_from_xdp___too || (void *)bpf_nobody_has)
		return 1;
	return bpf_dynptr_from_xdp___too(ctx, 0, &whole) ? 1 : bpf_dynptr_size(&whole);
}";
    let Some(path) = built("weak_kfuncs", text) else { return };
    for report in reports(&path) {
        assert_eq!((report.retval, report.trap), (60, None), "{} mode", report.mode);
    }
    let path = path.to_str().expect("text");
    let (code, out, _) = said(&["disasm", path]);
    assert_eq!(code, 0);
    assert!(out.contains("call kfunc 2 ; bpf_dynptr_size\n"), "{out}");
    let (_, out, _) = said(&["inspect", path]);
    let names = "kernel functions: bpf_dynptr_from_xdp___too, bpf_nobody_has (missing), bpf_dynptr_size\n";
    assert!(out.contains(names), "{out}");
}

#[test]
fn a_dynptr_that_was_never_made_is_a_trap_that_names_the_function() {
    let text = "SEC(\"xdp\") int main_of(struct xdp_md *ctx)
{
	struct bpf_dynptr never = {};
	__u32 size = bpf_dynptr_size(&never);
	return bpf_dynptr_from_xdp(ctx, 0, &never) + size;
}";
    let Some(path) = built("never_made", text) else { return };
    for report in reports(&path) {
        let trap = report.trap.expect("it traps");
        let expected = "kernel function bpf_dynptr_size: argument 1 is not a dynptr that was made";
        assert!(trap.contains(expected), "{trap}");
    }
}

#[test]
fn a_kernel_function_that_a_host_cannot_have_is_refused_with_the_reason() {
    let text =
        "extern void *bpf_xdp_ct_lookup(struct xdp_md *ctx, void *tuple, __u32 len, void *opts, __u32 opts_len) __ksym;
SEC(\"xdp\") int main_of(struct xdp_md *ctx) { return !bpf_xdp_ct_lookup(ctx, 0, 0, 0, 0); }";
    let Some(path) = built("connections", text) else { return };
    let (code, _, complaints) = said(&["run", path.to_str().expect("text"), "--hex", "0200000000010200000000020800"]);
    assert_eq!(code, 1);
    let expected = "connections.c:13): kernel function bpf_xdp_ct_lookup is not supported: a host tracks no connections; \
                    declare it weak and test for it\n";
    assert!(complaints.ends_with(expected), "{complaints}");
}

#[test]
fn a_helper_that_is_not_there_is_refused_by_name_with_its_line() {
    for (name, call, expected) in [
        (
            "helper_lacks",
            "bpf_get_current_pid_tgid()",
            "helper_lacks.c:13): helper 14 (bpf_get_current_pid_tgid) is not supported; see `kumite helpers` for those that are\n",
        ),
        (
            "helper_kind",
            "bpf_skb_pull_data((void *)ctx, 0)",
            "helper_kind.c:13): helper skb_pull_data is not for xdp programs; use it in another hook\n",
        ),
    ] {
        let text = format!("\nSEC(\"xdp\") int main_of(struct xdp_md *ctx) {{ return {call}; }}");
        let Some(path) = built(name, &text) else { return };
        let path = path.to_str().expect("text");
        let (code, _, complaints) = said(&["run", path, "--hex", "0200000000010200000000020800"]);
        assert_eq!(code, 1);
        assert!(complaints.contains(": main_of insn ") && complaints.ends_with(expected), "{complaints}");
        let (_, out, _) = said(&["inspect", path]);
        assert_eq!(out.contains("  helpers: get_current_pid_tgid (missing)\n"), name == "helper_lacks", "{out}");
    }
}

#[test]
fn an_exception_behind_a_tail_call_out_of_a_subprogram_traps() {
    let text = "extern void bpf_throw(__u64 cookie) __ksym;
SEC(\"xdp\") int target(struct xdp_md *ctx) { bpf_throw(16); return 0; }
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, int(struct xdp_md *));
} next SEC(\".maps\") = { .values = { [0] = (void *)&target } };
static __attribute__((noinline)) int below(struct xdp_md *ctx) { bpf_tail_call(ctx, &next, 0); return 10; }
SEC(\"xdp\") int main_of(struct xdp_md *ctx) { return below(ctx) + 8; }";
    let Some(path) = built("thrown_behind", text) else { return };
    let path = path.to_str().expect("text");
    for mode in ["fast", "instrumented", "verify"] {
        let (_, out, _) = said(&["run", path, "--prog", "main_of", "--mode", mode, "--hex", &"02".repeat(60)]);
        let expected = "an exception behind a tail call out of a subprogram is not supported; return instead";
        assert!(out.contains(expected), "{mode}: {out}");
    }
}

#[test]
fn a_program_with_a_function_for_exceptions_is_refused() {
    let text = "extern void bpf_throw(__u64 cookie) __ksym;
__attribute__((noinline)) int caught(__u64 cookie) { return cookie + 1; }
SEC(\"xdp\") __attribute__((btf_decl_tag(\"exception_callback:caught\"))) int main_of(struct xdp_md *ctx)
{
	bpf_throw(ctx->rx_queue_index);
	return 0;
}";
    let Some(path) = built("caught", text) else { return };
    let (code, _, complaints) = said(&["run", path.to_str().expect("text"), "--hex", &"02".repeat(60)]);
    assert_eq!(code, 1);
    let expected = "main_of: caught as its function for exceptions is not supported; take exception_callback off\n";
    assert!(complaints.ends_with(expected), "{complaints}");
}

#[test]
fn a_kernel_function_of_another_hook_is_refused_with_its_line() {
    let text = "SEC(\"tc\") int main_of(struct __sk_buff *skb)
{
	struct bpf_dynptr whole;
	return bpf_dynptr_from_xdp((void *)skb, 0, &whole);
}";
    let Some(path) = built("wrong_hook", text) else { return };
    let (code, _, complaints) = said(&["run", path.to_str().expect("text"), "--hex", "0200000000010200000000020800"]);
    assert_eq!(code, 1);
    let expected =
        "wrong_hook.c:15): kernel function bpf_dynptr_from_xdp is not for tc programs; use it in another hook\n";
    assert!(complaints.ends_with(expected), "{complaints}");
}

#[test]
fn no_number_reaches_a_kernel_function() {
    use kumite::helpers;
    for kfunc in helpers::KFUNCS {
        assert!(helpers::by_id(kfunc.id).is_none());
        for kind in [kumite::verdict::ProgramKind::Xdp, kumite::verdict::ProgramKind::Raw] {
            assert!(helpers::by_register(kfunc.id.into(), kind).is_none());
        }
        let (index, found) = helpers::kfunc_by_name(&format!("bpf_{}", kfunc.name)).expect("it is listed");
        assert!(std::ptr::eq(helpers::at(index), found) && std::ptr::eq(found, *kfunc));
        assert_eq!(helpers::name_of(kfunc.id), Some(kfunc.name));
    }
    assert!(helpers::kfunc_by_name("dynptr_size").is_none());
}

#[test]
fn programs_with_kernel_functions_are_compared_with_the_kernel() {
    let text = "SEC(\"xdp\") int main_of(struct xdp_md *ctx)
{
	struct bpf_dynptr whole;
	return (void *)bpf_nobody_has || bpf_dynptr_from_xdp(ctx, 0, &whole) ? 1 : bpf_dynptr_size(&whole);
}";
    let Some(path) = built("compared_kfuncs", text) else { return };
    if !kernel::available() {
        return;
    }
    let hex = "02".repeat(70);
    let (code, out, complaints) = said(&["diff", path.to_str().expect("text"), "--mode", "fast", "--hex", &hex]);
    assert_eq!((code, complaints.as_str()), (0, ""));
    assert_eq!(out, "main_of in fast mode: 1 frame: equal to the kernel\n");
}
