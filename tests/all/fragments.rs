//! Frames with fragments: for programs that say that they take them, and for nobody else.

use std::path::PathBuf;

use crate::cli::said;
use crate::kernel;
use crate::programs::clang;

const TEXT: &str = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n
SEC(\"xdp\") int short_one(struct xdp_md *ctx) { return bpf_xdp_get_buff_len(ctx); }
SEC(\"xdp.frags\") int long_one(struct xdp_md *ctx) { return bpf_xdp_get_buff_len(ctx); }
SEC(\"xdp.frags\") int reads_on(struct xdp_md *ctx) { return *((unsigned char *)(long)ctx->data_end + 4); }
char _license[] SEC(\"license\") = \"GPL\";";

fn built(name: &str) -> Option<PathBuf> {
    clang::available("clang-19").then(|| clang::build_text("clang-19", name, TEXT))
}

fn capture(name: &str, lens: &[u32]) -> String {
    let path = format!("{}/{name}.pcap", env!("CARGO_TARGET_TMPDIR"));
    let mut bytes = [0xa1b2_c3d4_u32.to_le_bytes(), [2, 0, 4, 0]].concat();
    for word in [0, 0, 0x4_0000, 1_u32] {
        bytes.extend(word.to_le_bytes());
    }
    for len in lens {
        for word in [0, 0, *len, *len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(vec![2; *len as usize]);
    }
    std::fs::write(&path, bytes).expect("the target folder can be written");
    path
}

#[test]
fn a_long_frame_is_for_programs_that_take_fragments() {
    let Some(path) = built("fragments_run") else { return };
    let path = path.to_str().expect("text");
    let frames = capture("fragments_run", &[60, 9000, 65_535, 73_153]);
    let retvals = |program: &str| {
        let (code, out, complaints) = said(&["run", path, "--prog", program, "--pcap", &frames, "--json"]);
        assert_eq!((code, complaints.as_str()), (0, ""));
        let lens = out.lines().filter_map(|line| line.parse::<serde_json::Value>().ok()?["retval"].as_u64());
        lens.collect::<Vec<_>>()
    };
    assert_eq!(retvals("long_one"), [60, 9000, 65_535]);
    assert_eq!(retvals("short_one"), [60]);
    let long = "02".repeat(3521);
    let (code, _, complaints) = said(&["run", path, "--prog", "short_one", "--hex", &long]);
    let expected = "kumite: frame 1: its length of 3521 is not between 14 and 3520 bytes; leave it out\n";
    assert_eq!((code, complaints.as_str()), (1, expected));
}

#[test]
fn reading_on_behind_the_linear_part_is_found() {
    let Some(path) = built("fragments_read") else { return };
    let long = "02".repeat(5000);
    let path = path.to_str().expect("text");
    let (_, out, _) = said(&["run", path, "--prog", "reads_on", "--mode", "verify", "--hex", &long]);
    assert!(out.contains("read of 1 bytes at offset 3524 of a packet of 5000 bytes"), "{out}");
}

#[test]
fn long_frames_are_compared_with_the_kernel() {
    let Some(path) = built("fragments_diff") else { return };
    if !kernel::available() {
        return;
    }
    let frames = capture("fragments_diff", &[60, 3520, 3521, 9000, 65_535, 73_152]);
    let path = path.to_str().expect("text");
    let words = ["diff", path, "--prog", "long_one", "--mode", "fast", "--pcap", &frames];
    assert_eq!(said(&words), (0, "long_one in fast mode: 6 frames: equal to the kernel\n".to_owned(), String::new()));
    let words = ["diff", path, "--prog", "short_one", "--mode", "fast", "--pcap", &frames];
    let expected = "short_one in fast mode: 2 frames: equal to the kernel\nleft out, too short or too long: 4 frames\n";
    assert_eq!(said(&words), (0, expected.to_owned(), String::new()));
}
