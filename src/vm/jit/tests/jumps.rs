//! Branches over a few instructions, which fast mode does whether they are jumped over or not.

use super::*;

#[test]
fn what_a_branch_jumps_over_counts_only_where_it_does_not() {
    for condition in ["r6 == 3", "w6 != 3", "r6 s> 2", "r6 & 1", "r6 < r7"] {
        for (body, other_way_in) in [
            ("r0 = 5\n", ""),
            ("r0 >>= 1\n", ""),
            ("r0 = 5\nr8 = -r8\n", ""),
            ("r8 += r0\nr0 = r8\n", ""),
            ("r0 = 0x123456789abcdef0 ll\n", ""),
            ("r0 = bswap32 r0\n", ""),
            ("r0 /= r6\n", ""),
            // Somebody else jumps to what is jumped over.
            ("r0 = 5\n", "if r6 > 5 goto over\n"),
        ] {
            for r6 in [0u64, 2, 3, 7, u64::MAX] {
                let text = format!(
                    "r6 = {} ll\nr7 = 3\nr8 = 100\nr0 = 1000\n{other_way_in}if {condition} goto on\nover:\n{body}on:\nr0 += r8\nexit",
                    r6.cast_signed()
                );
                run(&text);
            }
        }
    }
}

#[test]
fn choices_in_a_loop_add_up() {
    let text = "r0 = 0\nr6 = 0\nagain:\nif r6 & 1 goto odd\nr0 += 3\nodd:\nif w6 < 10 goto small\nr0 <<= 1\nr0 &= 0xffff\nsmall:\n\
                r6 += 1\nif r6 != 20 goto again\nexit";
    let mut expected = 0u64;
    for turn in 0..20 {
        expected += if turn % 2 == 0 { 3 } else { 0 };
        expected = if turn >= 10 { (expected << 1) & 0xffff } else { expected };
    }
    assert_eq!(run(text).r0, expected);
}
