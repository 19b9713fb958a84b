//! Mistakes that other virtual machines shipped, one test each, named after the mistake and run in every mode.
//!
//! Each carries its number in the list of such mistakes; those of the loader, of maps and of tail calls are beside the other
//! tests of these.

use kumite::isa;
use kumite::limits::{CALL_FRAMES_MAX, FRAME_STACK_LEN, FUEL_DEFAULT, RUN_CHUNK_LEN};
use kumite::maps::{MapDef, MapKind};
use kumite::program::{Program, RawProgram};
use kumite::trap::TrapKind;
use kumite::verdict::ProgramKind;
use kumite::vm::{Linked, Loaded, Mode};

use crate::stage::{Ran, Stage, slots};

const MIN64: u64 = 1 << 63;
const MIN32: u64 = 1 << 31;

/// Runs a program in every mode on its memory; all must agree.
pub(crate) fn on(stage: &Stage, loaded: &Loaded, memory: &[u8]) -> Ran {
    let [verify, fast, instrumented] =
        [Mode::Verify, Mode::Fast, Mode::Instrumented].map(|mode| stage.run_raw(mode, loaded, memory));
    assert_eq!(fast.essence(), verify.essence());
    assert_eq!(instrumented.essence(), verify.essence());
    verify
}

fn ran(text: &str, memory: &[u8]) -> Ran {
    let stage = Stage::new();
    on(&stage, &stage.load_raw(text), memory)
}

/// r0 of a program that must not trap.
fn r0(text: &str) -> u64 {
    let ran = ran(text, &[]);
    assert_eq!(ran.trap, None, "{text}");
    ran.r0
}

fn trap(text: &str, memory: &[u8]) -> String {
    ran(text, memory).trap_text()
}

/// `r0 = a op b` for 64 bits, and for 32, with the operand in a register and, where it fits, as an immediate.
fn operation(op: &str, a: u64, b: u64) -> [u64; 2] {
    let [wide, narrow] =
        ["r", "w"].map(|letter| r0(&format!("r0 = {a:#x} ll\nr1 = {b:#x} ll\n{letter}0 {op} {letter}1\nexit")));
    if let Ok(imm) = i32::try_from(b.cast_signed()) {
        for (letter, result) in [("r", wide), ("w", narrow)] {
            let with_imm = r0(&format!("r0 = {a:#x} ll\n{letter}0 {op} {imm}\nexit"));
            assert_eq!(with_imm, result, "{letter}0 {op} {imm}, r0 = {a:#x}");
        }
    }
    [wide, narrow]
}

fn rejection(slots: Vec<[u8; 8]>) -> String {
    let raw = RawProgram { name: "test".to_owned(), slots, ..RawProgram::default() };
    Program::check(raw, ProgramKind::Raw).expect_err("must be refused").to_string()
}

fn refused(text: &str) -> String {
    rejection(slots(text))
}

// Arithmetic and encoding

#[test]
fn regression_01_division_and_remainder_by_zero_are_defined() {
    for op in ["/=", "s/="] {
        assert_eq!(operation(op, u64::MAX, 0), [0, 0]);
    }
    for op in ["%=", "s%="] {
        assert_eq!(operation(op, u64::MAX, 0), [u64::MAX, u64::from(u32::MAX)]);
    }
}

#[test]
fn regression_02_a_divisor_is_zero_by_its_width() {
    assert_eq!(operation("/=", 7, 1 << 32), [0, 0], "32 bits: divided by zero; 64 bits: by a large number");
    assert_eq!(operation("%=", 7, 1 << 32), [7, 7]);
    assert_eq!(operation("/=", 3 << 32 | 7, 1 << 32), [3, 0]);
    assert_eq!(operation("s/=", 3 << 32 | 7, 1 << 32), [3, 0]);
}

#[test]
fn regression_03_the_smallest_number_divided_by_minus_one_does_not_trap() {
    assert_eq!(operation("s/=", MIN64, u64::MAX), [MIN64, 0]);
    assert_eq!(operation("s%=", MIN64, u64::MAX), [0, 0]);
    assert_eq!(operation("s/=", MIN32, u64::MAX), [MIN32.wrapping_neg(), MIN32]);
    assert_eq!(operation("s%=", MIN32, u64::MAX), [0, 0]);
}

#[test]
fn regression_04_the_smallest_number_is_divided_like_any_other() {
    assert_eq!(operation("s/=", MIN64, 3), [0xd555_5555_5555_5556, 0]);
    assert_eq!(operation("s%=", MIN64, 3), [(-2_i64).cast_unsigned(), 0]);
    assert_eq!(operation("s/=", MIN32, 3)[1], 0xd555_5556);
    assert_eq!(operation("s%=", MIN32, 3)[1], 0xffff_fffe);
}

#[test]
fn regression_05_signed_division_truncates_toward_zero() {
    let minus = |number: i64| number.wrapping_neg().cast_unsigned();
    assert_eq!(operation("s/=", minus(13), 4), [minus(3), 0xffff_fffd]);
    assert_eq!(operation("s%=", minus(13), 4), [minus(1), 0xffff_ffff]);
    assert_eq!(operation("s/=", 13, minus(4)), [minus(3), 0xffff_fffd]);
    assert_eq!(operation("s%=", 13, minus(4)), [1, 1]);
}

#[test]
fn regression_06_a_negative_immediate_is_sign_extended_also_where_the_comparison_is_unsigned() {
    assert_eq!(r0("r0 = 0\nr1 = -1\nif r1 >= -1 goto +1\nexit\nr0 = 1\nexit"), 1);
    assert_eq!(r0("r0 = 0\nr1 = 0xffffffff ll\nif r1 > -2 goto +1\nexit\nr0 = 1\nexit"), 0);
    assert_eq!(r0("r0 = 0\nw1 = -1\nif w1 > -2 goto +1\nexit\nr0 = 1\nexit"), 1);
    assert_eq!(r0("r0 = 0xffffffffffffffff ll\nr0 &= -16\nexit"), u64::MAX - 15);
    assert_eq!(r0("r0 = 0\nr1 = 0x8000000000000000 ll\nif r1 & -1 goto +1\nexit\nr0 = 1\nexit"), 1);
    assert_eq!(r0("r0 = 5\nr0 *= -1\nexit"), (-5_i64).cast_unsigned());
}

#[test]
fn regression_07_shift_counts_are_masked_in_every_register() {
    for count in ["r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"] {
        let shifted = |op: &str| r0(&format!("r0 = 0x8000000000000001 ll\n{count} = 65\nr0 {op} {count}\nexit"));
        assert_eq!(shifted("<<="), 2, "{count}");
        assert_eq!(shifted(">>="), 1 << 62, "{count}");
        assert_eq!(shifted("s>>="), 3 << 62, "{count}");
    }
    assert_eq!(r0("r0 = 3\nr0 <<= r0\nexit"), 24, "the count in the shifted register");
    assert_eq!(operation("<<=", 1, 33), [1 << 33, 2]);
    assert_eq!(operation("s>>=", 0x8000_0000, 33), [0, 0xc000_0000]);
}

#[test]
fn regression_08_a_32_bit_result_clears_the_upper_half() {
    let ones = "r0 = -1\nr1 = -1\n";
    let low = u64::from(u32::MAX);
    for (insn, result) in [
        ("w0 = w1", low),
        ("w0 = -1", low),
        ("w0 = -w0", 1),
        ("w0 *= w1", 1),
        ("w0 += 0", low),
        ("w0 += -1", low - 1),
        ("w0 |= 0", low),
        ("w0 &= -1", low),
        ("w0 ^= 0", low),
        ("w0 <<= 0", low),
        ("w0 >>= 0", low),
        ("w0 s>>= 0", low),
        ("w0 %= 0", low),
    ] {
        assert_eq!(r0(&format!("{ones}{insn}\nexit")), result, "{insn}");
    }
}

#[test]
fn regression_09_a_product_with_the_immediate_zero_is_zero() {
    assert_eq!(operation("*=", 7, 0), [0, 0]);
    assert_eq!(r0("r0 = 7\nr1 = 9\nr0 *= 0\nexit"), 0);
}

#[test]
fn regression_10_negation_and_addition_wrap_without_panic() {
    assert_eq!(r0("r0 = 0x8000000000000000 ll\nr0 = -r0\nexit"), MIN64);
    assert_eq!(r0("r0 = 0x80000000 ll\nw0 = -w0\nexit"), MIN32);
    assert_eq!(operation("+=", u64::MAX, 1), [0, 0]);
    assert_eq!(operation("-=", 0, 1), [u64::MAX, u64::from(u32::MAX)]);
    assert_eq!(operation("*=", MIN64, u64::MAX), [MIN64, 0]);
}

#[test]
fn regression_11_byte_order_operations_truncate_and_a_bad_width_is_refused() {
    let value = "r0 = 0x0123456789abcdef ll\n";
    for (insn, result) in [
        ("r0 = le16 r0", 0xcdef),
        ("r0 = le32 r0", 0x89ab_cdef),
        ("r0 = be16 r0", 0xefcd),
        ("r0 = be32 r0", 0xefcd_ab89),
        ("r0 = bswap16 r0", 0xefcd),
    ] {
        assert_eq!(r0(&format!("{value}{insn}\nexit")), result, "{insn}");
    }
    let width_24 = [0xd4, 0, 0, 0, 24, 0, 0, 0];
    assert!(rejection(vec![width_24, slots("exit")[0]]).starts_with("test insn 0: "));
}

#[test]
fn regression_12_a_long_jump_takes_its_target_from_the_immediate() {
    assert_eq!(r0("r0 = 1\ngotol +1\nr0 = 2\nexit"), 1);
    let filler = "r0 += 1\n".repeat(40_000);
    assert_eq!(r0(&format!("r0 = 1\ngotol end\n{filler}end: exit")), 1, "further than 16 bits reach");
}

#[test]
fn regression_13_a_two_slot_load_joins_its_halves_without_sign() {
    assert_eq!(r0("r0 = 0x80000000 ll\nexit"), MIN32);
    assert_eq!(r0("r0 = 0xffffffff80000000 ll\nexit"), 0xffff_ffff_8000_0000);
    let mut cut = slots("r0 = 1 ll\nexit");
    cut.truncate(1);
    assert!(rejection(cut).starts_with("test insn 0: "));
    let mut dirty = slots("r0 = 1 ll\nexit");
    dirty[1][1] = 1;
    let refusal = rejection(dirty);
    assert!(refusal.starts_with("test insn 0: "), "{refusal}");
}

#[test]
fn regression_14_no_jump_or_call_lands_in_a_second_slot() {
    let refusal = refused("goto +1\nr0 = 1 ll\nexit");
    assert!(refusal.starts_with("test insn 0: "), "{refusal}");
    let refusal = refused("call +1\nr0 = 1 ll\nexit");
    assert!(refusal.starts_with("test insn 0: "), "{refusal}");
}

#[test]
fn regression_15_jumps_out_of_the_program_and_falling_off_a_function_are_refused() {
    for text in ["goto -2\nexit", "goto +1\nexit", "if r1 == 0 goto +7\nexit", "gotol +100\nexit"] {
        let refusal = refused(text);
        assert!(refusal.starts_with("test insn 0: "), "{refusal}");
    }
    let refusal = refused("call +1\nr0 = 0\nr0 = 1\nexit");
    assert!(refusal.starts_with("test insn 1: "), "falls into the subprogram: {refusal}");
    let refusal = refused("r0 = 0");
    assert!(refusal.starts_with("test insn 0: "), "{refusal}");
}

#[test]
fn regression_16_a_register_that_holds_a_pc_or_all_ones_is_a_number_like_any_other() {
    for value in [0_u64, 1, 2, u64::MAX, u64::from(u32::MAX), 0xffff_fffe, i64::MAX.cast_unsigned()] {
        let text = format!("r6 = {value:#x} ll\ncall sub\nr0 = r6\nexit\nsub: r0 = r6\nexit");
        assert_eq!(r0(&text), value);
        assert_eq!(r0(&format!("r0 = {value:#x} ll\nexit")), value);
    }
}

#[test]
fn regression_17_displacements_of_every_length_work_with_every_register() {
    const MIDDLE: i32 = 200;
    let memory: Vec<u8> = (0..=u8::MAX).chain(0..=u8::MAX).collect();
    let offsets = [0, 1, -1, 126, 127, 128, -127, -128, -129, 255, -200];
    for base in 0..=9 {
        // Some machines have no short form of an address in these registers, or another one at zero.
        let (sum, loaded) = (if base == 0 { 6 } else { 0 }, if base == 8 { 7 } else { 8 });
        let mut text = format!("r{base} = r1\nr{base} += {MIDDLE}\nr{sum} = 0\n");
        let mut expected: u64 = 0;
        let mut after = memory.clone();
        for off in offsets {
            let (sign, distance) = if off < 0 { ('-', -off) } else { ('+', off) };
            text += &format!(
                "r{loaded} = *(u16 *)(r{base} {sign} {distance})\nr{sum} *= 31\nr{sum} += r{loaded}\n\
                 r{loaded} += 1\n*(u16 *)(r{base} {sign} {distance}) = r{loaded}\n"
            );
            let at = usize::try_from(MIDDLE + off).expect("inside");
            let value = u16::from_le_bytes([after[at], after[at + 1]]);
            expected = expected.wrapping_mul(31).wrapping_add(value.into());
            after[at..at + 2].copy_from_slice(&value.wrapping_add(1).to_le_bytes());
        }
        text += &format!("r0 = r{sum}\nexit");
        let ran = ran(&text, &memory);
        assert_eq!((ran.trap, ran.r0), (None, expected), "r{base}");
        assert!(ran.memory == after, "r{base}: what was stored");
    }
}

#[test]
fn regression_18_a_large_program_runs_whole() {
    let text = format!("r0 = 0\n{}exit", "r0 += 1\n".repeat(60_000));
    assert_eq!(r0(&text), 60_000);
}

#[test]
fn regression_19_registers_survive_helper_calls() {
    let helper = "call 8\n";
    let text = format!(
        "r6 = 6\nr7 = 7\nr8 = 8\nr9 = 9\n*(u64 *)(r10 - 8) = 10\n{}r0 = r6\nr0 *= 10\nr0 += r7\nr0 *= 10\nr0 += r8
         r0 *= 10\nr0 += r9\nr0 *= 100\nr1 = *(u64 *)(r10 - 8)\nr0 += r1\nexit",
        helper.repeat(5)
    );
    assert_eq!(r0(&text), 678_910);
}

#[test]
fn regression_20_bad_registers_reserved_fields_and_unknown_opcodes_are_refused_with_the_place() {
    let exit = slots("exit")[0];
    for (bad, why) in [
        ([0xb7, 0x0b, 0, 0, 0, 0, 0, 0], "register 11"),
        ([0xbf, 0xb0, 0, 0, 0, 0, 0, 0], "source register 11"),
        ([0xb7, 0x0a, 0, 0, 0, 0, 0, 0], "r10 is read-only"),
        ([0x07, 0x10, 0, 0, 0, 0, 0, 0], "source register of an immediate operation"),
        ([0x37, 0, 2, 0, 1, 0, 0, 0], "offset 2 of a division"),
        ([0xff, 0, 0, 0, 0, 0, 0, 0], "unknown opcode"),
        ([0x06, 0, 1, 0, 0, 0, 0, 0], "offset of a long jump"),
    ] {
        let refusal = rejection(vec![exit, bad, exit]);
        assert!(refusal.starts_with("test insn 1: "), "{why}: {refusal}");
    }
}

#[test]
fn regression_21_an_instruction_that_does_not_run_is_an_error() {
    let refused = isa::ROWS.iter().filter(|row| row.support != isa::Support::Runs);
    let mut count = 0;
    for row in refused {
        let insn = isa::Insn { does: row.does, dst: isa::Reg::R0, src: isa::Reg::R0, off: 0, imm: 0 };
        let mut insns = vec![insn];
        if row.does.is_wide() {
            insns.push(isa::Insn { does: isa::Does::SecondSlot, ..insn });
        }
        let refusal = rejection(isa::encode(&insns));
        assert!(refusal.starts_with(&format!("test insn 0: {} is not supported: ", row.name)), "{refusal}");
        count += 1;
    }
    assert!(count > 2, "there are some");
}

// Atomics

#[test]
fn regression_22_an_exchange_without_fetch_is_refused() {
    for imm in [0xe0, 0xf0] {
        let slot = [0xdb, 0x1a, 0xf8, 0xff, imm, 0, 0, 0];
        let refusal = rejection(vec![slot, slots("exit")[0]]);
        assert!(refusal.starts_with("test insn 0: "), "{refusal}");
    }
}

#[test]
fn regression_23_fetched_values_reach_r0_and_are_zero_extended() {
    let start = "*(u64 *)(r10 - 8) = -1\n";
    assert_eq!(r0(&format!("{start}r0 = 5\nr0 = atomic_fetch_add((u64 *)(r10 - 8), r0)\nexit")), u64::MAX);
    let low = u64::from(u32::MAX);
    assert_eq!(r0(&format!("{start}r0 = -1\nr1 = 3\nw0 = cmpxchg32_32(r10 - 8, w0, w1)\nexit")), low);
    assert_eq!(r0(&format!("{start}r0 = 0\nr1 = 3\nw0 = cmpxchg32_32(r10 - 8, w0, w1)\nexit")), low);
    assert_eq!(r0(&format!("{start}r0 = 7\nw0 = xchg32_32(r10 - 8, w0)\nexit")), low);
    let swapped = format!("{start}r0 = -1\nr1 = 3\nr0 = cmpxchg_64(r10 - 8, r0, r1)\nr0 = *(u64 *)(r10 - 8)\nexit");
    assert_eq!(r0(&swapped), 3);
}

#[test]
fn regression_24_misaligned_and_outside_atomics_trap() {
    for (size, offset) in [("u64", 4), ("u32", 2), ("u32", 1)] {
        let text = format!("r0 = 0\nlock *({size} *)(r1 + {offset}) += r0\nexit");
        let trap = ran(&text, &[0; 16]).trap.expect("a trap");
        assert!(matches!(trap.kind, TrapKind::Misaligned { .. }), "{trap}");
        assert_eq!(trap.pc, 1);
    }
    let text = "r0 = 0\nr1 += 4096\nlock *(u64 *)(r1 + 0) += r0\nexit";
    assert!(matches!(ran(text, &[0; 8]).trap.expect("a trap").kind, TrapKind::Memory(_)));
    assert!(trap("r0 = 0\nr1 = 0\nr0 = xchg_64(r1 + 0, r0)\nexit", &[]).starts_with("insn 2: "));
}

// Memory

#[test]
fn regression_25_an_access_does_not_wrap_at_the_end_of_the_address_space() {
    for address in ["0xffffffff", "0xfffffffc", "0xffffffffffffffff", "0x7fffffffffffffff"] {
        for offset in [0, 7, 32767] {
            let trap = trap(&format!("r1 = {address} ll\nr0 = *(u64 *)(r1 + {offset})\nexit"), &[]);
            assert!(trap.starts_with("insn 2: read at guest address "), "{trap}");
        }
    }
}

#[test]
fn regression_26_every_engine_forms_the_same_address() {
    // The upper half of a register is no part of an address; an offset is added after it is cut off.
    let text = "r2 = 0x1234567800000000 ll\nr1 |= r2\nr0 = *(u8 *)(r1 + 1)\nexit";
    let ran = ran(text, &[1, 2, 3, 4]);
    assert_eq!((ran.trap, ran.r0), (None, 2));
}

#[test]
fn regression_27_generated_code_checks_every_access() {
    for address in ["0", "1", "4095", "65536", "0x80000000", "-1", "-4096"] {
        for access in ["r0 = *(u8 *)(r1 + 0)", "*(u8 *)(r1 + 0) = 1", "*(u64 *)(r1 - 8) = r1"] {
            let text = format!("r1 = {address}\nr0 = 0\n{access}\nexit");
            let text = if address.starts_with("0x") { text.replacen('\n', " ll\n", 1) } else { text };
            let trap = trap(&text, &[]);
            assert!(trap.contains(": not mapped for this"), "{address} {access}: {trap}");
        }
    }
}

#[test]
fn regression_28_every_byte_of_an_access_is_checked() {
    let stage = Stage::new();
    for (size, len) in [("u16", 2), ("u32", 4), ("u64", 8)] {
        for access in [format!("r0 = *({size} *)(r1 + 0)"), format!("*({size} *)(r1 + 0) = r1")] {
            let loaded = stage.load_raw(&format!("r0 = 0\n{access}\nexit"));
            for mode in Mode::ALL {
                let fits = stage.run_raw_at(mode, &loaded, RUN_CHUNK_LEN - len, &[7; 8]);
                assert_eq!(fits.trap, None, "{access} {mode}");
                let hangs_over = stage.run_raw_at(mode, &loaded, RUN_CHUNK_LEN - len + 1, &[7; 8]);
                assert_eq!(hangs_over.trap.map(|trap| trap.pc), Some(1), "{access} {mode}");
                assert!(hangs_over.memory.iter().all(|byte| *byte == 7), "{access} {mode}: nothing is written");
            }
        }
    }
}

#[test]
fn regression_29_stores_are_translated_like_loads() {
    let ran = ran("*(u32 *)(r1 + 4) = -1\n*(u16 *)(r1 + 1) = 0\nr0 = *(u64 *)(r1 + 0)\nexit", &[9; 8]);
    assert_eq!((ran.trap, ran.r0), (None, u64::from_le_bytes([9, 0, 0, 9, 255, 255, 255, 255])));
}

#[test]
fn regression_30_operands_have_the_width_that_their_size_says() {
    let text = "r2 = 0x1122334455667788 ll\n*(u8 *)(r1 + 0) = r2\n*(u16 *)(r1 + 2) = r2\n*(u32 *)(r1 + 4) = r2
                r0 = *(s8 *)(r1 + 0)\nexit";
    let ran = ran(text, &[0; 8]);
    assert_eq!(ran.memory, [0x88, 0, 0x88, 0x77, 0x88, 0x77, 0x66, 0x55]);
    assert_eq!(ran.r0, 0xffff_ffff_ffff_ff88);
}

#[test]
fn regression_31_an_address_is_32_bits_however_it_is_scaled() {
    // What a multiplication by 2, 4 or 8 pushes out of 32 bits is gone before an address is formed, in either width.
    for shift in 1..=3u32 {
        for letter in ["w", "r"] {
            let index = 1u64 << (32 - shift) | 4 >> shift;
            let text = format!(
                "r2 = {index:#x} ll\n{letter}2 <<= {shift}\nr1 += r2\nr0 = *(u8 *)(r1 + 1)\n*(u8 *)(r1 + 2) = 9\nexit"
            );
            let at = 4 >> shift << shift;
            let ran = ran(&text, &[10, 11, 12, 13, 14, 15, 16, 17]);
            assert_eq!((ran.trap, ran.r0), (None, 11 + at), "{text}");
            assert_eq!(ran.memory[usize::try_from(at).expect("small") + 2], 9, "{text}");
        }
    }
}

#[test]
fn regression_32_no_helper_writes_to_a_read_only_map() {
    for mode in Mode::ALL {
        let stage = Stage::new();
        let name = "constants".to_owned();
        let def = MapDef { name, kind: MapKind::ARRAY, key_len: 4, value_len: 16, max_entries: 1, ..MapDef::default() };
        let maps = [stage.map(&MapDef { flags: 1 << 7, ..def })];
        maps[0].1.host_update(&[0; 4], &[7; 16], 0).expect("not frozen yet");
        maps[0].1.freeze().expect("arrays can be frozen");
        let start = "r6 = map_val(map_by_idx(0)) + 0\n*(u64 *)(r10 - 8) = 0x3231\n";
        for (what, text) in [
            ("strtol", "r1 = r10\nr1 += -8\nr2 = 8\nr3 = 10\nr4 = r6\ncall 105"),
            ("probe_read_kernel", "r1 = r6\nr2 = 8\nr3 = r10\nr3 += -8\ncall 113"),
            ("a store", "*(u64 *)(r6 + 8) = 1"),
            ("an atomic operation", "r1 = 1\nlock *(u64 *)(r6 + 8) += r1"),
        ] {
            let loaded = stage.load("test", ProgramKind::Raw, slots(&format!("{start}{text}\nr0 = 0\nexit")), &maps);
            let trap = stage.run_raw(mode, &loaded, &[]).trap.unwrap_or_else(|| panic!("{what} in {mode} mode"));
            let is_memory = matches!(trap.kind, TrapKind::Memory(_) | TrapKind::HelperMemory { .. });
            assert!(is_memory, "{what} in {mode} mode: {trap}");
            assert_eq!(maps[0].1.host_lookup(&[0; 4]), Ok(vec![7; 16]), "{what} in {mode} mode");
        }
        // It can be read.
        let reader = stage.load("test", ProgramKind::Raw, slots(&format!("{start}r0 = *(u8 *)(r6 + 15)\nexit")), &maps);
        assert_eq!(stage.run_raw(mode, &reader, &[]).r0, 7);
    }
}

#[test]
fn regression_33_a_packet_pointer_kept_across_a_move_of_the_frame_is_found() {
    let keeps = "r6 = r1\nr7 = *(u32 *)(r1 + 0)\n";
    let reads = "r0 = *(u8 *)(r7 + 20)\nr0 = 2\nexit";
    let adjust = "r1 = r6\nr2 = 4\ncall 44\n";
    let shrink = "r1 = r6\nr2 = -4\ncall 65\n";
    let meta = "r1 = r6\nr2 = -4\ncall 54\n";
    let stale = |ran: &Ran| ran.findings.iter().filter(|finding| finding.id == "stale-packet-pointer").count();
    for mode in Mode::ALL {
        let expected = usize::from(mode == Mode::Verify);
        for (moves, found) in [(adjust, expected), (shrink, expected), (meta, expected), ("", 0)] {
            let stage = Stage::new();
            let loaded = stage.load("test", ProgramKind::Xdp, slots(&format!("{keeps}{moves}{reads}")), &[]);
            let ran = stage.run_frame(mode, &loaded, &[0xaa; 60]);
            assert_eq!((ran.trap, ran.r0, stale(&ran)), (None, 2, found), "{moves} in {mode} mode");
        }
        // The program that a subprogram tail-calls moves it, and the caller of the subprogram knows nothing of that.
        let stage = Stage::new();
        let (name, kind) = ("jumps".to_owned(), MapKind::PROGRAM_ARRAY);
        let def = MapDef { name, kind, key_len: 4, value_len: 4, max_entries: 1, ..MapDef::default() };
        let maps = [stage.map(&def)];
        let next = stage.load("next", ProgramKind::Xdp, slots("r2 = 4\ncall 44\nr0 = 0\nexit"), &maps);
        let caller =
            format!("{keeps}r1 = r6\ncall sub\n{reads}\nsub: r2 = map_by_idx(0)\nr3 = 0\ncall 12\nr0 = 0\nexit");
        let caller = stage.load("test", ProgramKind::Xdp, slots(&caller), &maps);
        let array = maps[0].1.as_program_array().expect("a program array");
        for found in [0, expected] {
            let ran = stage.run_frame(mode, &caller, &[0xaa; 60]);
            assert_eq!((ran.trap, ran.r0, stale(&ran)), (None, 2, found), "tail call in {mode} mode");
            array.replace(0, Some(next.slot())).expect("a slot");
        }
    }
}

#[test]
fn regression_34_bytes_that_a_frame_grows_by_are_zero() {
    // Behind the frame lies what no program may see.
    for mode in Mode::ALL {
        let stage = Stage::new();
        for growth in [1, 6, 100, 1000] {
            let text = format!("r2 = {growth}\ncall 65\nr0 = 2\nexit");
            let ran = stage.run_frame(mode, &stage.load("test", ProgramKind::Xdp, slots(&text), &[]), &[0xaa; 60]);
            assert_eq!((ran.trap, ran.memory.len()), (None, 60 + growth), "{mode}");
            assert!(ran.memory[..60].iter().all(|byte| *byte == 0xaa), "{mode}");
            assert!(ran.memory[60..].iter().all(|byte| *byte == 0), "{growth} bytes in {mode} mode");
        }
    }
}

#[test]
fn regression_36_the_stack_ends_where_it_ends_and_offsets_reach_their_ends() {
    let bottom = "r0 = 0\n*(u64 *)(r10 - 512) = 5\nr0 = *(u64 *)(r10 - 512)\nexit";
    assert_eq!(r0(bottom), 5);
    assert!(trap("r0 = *(u8 *)(r10 + 0)\nexit", &[]).starts_with("insn 0: read at "));
    assert!(trap("*(u64 *)(r10 - 1) = 0\nexit", &[]).starts_with("insn 0: write at "));
    for offset in ["+ 32767", "- 32768"] {
        assert!(trap(&format!("r0 = *(u8 *)(r10 {offset})\nexit"), &[]).starts_with("insn 0: read at "));
        let back = match offset {
            "+ 32767" => "r1 += -32767",
            _ => "r1 += 32768",
        };
        let there_and_back = ran(&format!("{back}\nr0 = *(u8 *)(r1 {offset})\nexit"), &[42; 8]);
        assert_eq!((there_and_back.trap, there_and_back.r0), (None, 42));
    }
}

#[test]
fn regression_37_a_bad_load_ends_one_run_and_no_more() {
    let stage = Stage::new();
    let bad = stage.load_raw("r1 = 0\nr0 = *(u64 *)(r1 + 0)\nexit");
    let good = stage.load_raw("r0 = 1\nexit");
    for _ in 0..100 {
        assert!(on(&stage, &bad, &[]).trap.is_some());
        assert_eq!(on(&stage, &good, &[]).r0, 1);
    }
}

// Calls, stack, termination

#[test]
fn regression_38_recursion_stops_at_the_depth() {
    let ran = ran("call +1\nexit\nr0 = 0\ncall -2\nexit", &[]);
    assert_eq!(ran.trap_text(), format!("insn 3: calls nest deeper than {CALL_FRAMES_MAX}"));
    let chain = |calls: u32| -> String {
        let text = "call +1\nexit\n".repeat(usize::try_from(calls).expect("small"));
        format!("{text}r0 = 1\nexit")
    };
    assert_eq!(r0(&chain(CALL_FRAMES_MAX - 1)), 1);
    assert!(trap(&chain(CALL_FRAMES_MAX), &[]).ends_with(&format!("calls nest deeper than {CALL_FRAMES_MAX}")));
}

#[test]
fn regression_39_calls_out_of_the_program_are_refused() {
    for target in [-2, 1, i32::MAX, i32::MIN] {
        let mut call = slots("call +0\nexit");
        call[0][4..].copy_from_slice(&target.to_le_bytes());
        let refusal = rejection(call);
        assert!(refusal.starts_with("test insn 0: "), "{target}: {refusal}");
    }
}

#[test]
fn regression_40_every_frame_has_its_own_stack_and_finds_it_zeroed() {
    // Each frame stores its depth, calls, and finds it again; a second call finds nothing of the first.
    let text = "*(u64 *)(r10 - 8) = 1\n*(u64 *)(r10 - 512) = 2\ncall sub\nr6 = r0\ncall sub\nr0 += r6
                r1 = *(u64 *)(r10 - 8)\nr2 = *(u64 *)(r10 - 512)\nr0 *= 100\nr1 *= 10\nr0 += r1\nr0 += r2\nexit
                sub: r0 = *(u64 *)(r10 - 8)\nr1 = *(u64 *)(r10 - 512)\nr0 += r1
                *(u64 *)(r10 - 8) = 7\n*(u64 *)(r10 - 512) = 7\nexit";
    assert_eq!(r0(text), 12);
    let text = "r6 = r10\nr1 = r10\ncall sub\nr0 -= r6\nr0 = -r0\nexit\nsub: r0 = r10\nexit";
    assert_eq!(r0(text), u64::from(FRAME_STACK_LEN));
}

#[test]
fn regression_41_fuel_ends_a_run_at_the_same_place_in_every_mode() {
    let text =
        "r7 = 0\nr6 = 10\nloop: r7 += 1\nr6 += -1\ncall sub\nif r6 != 0 goto loop\nr0 = r7\nexit\nsub: r2 = 1\nexit";
    let mut stage = Stage::new();
    let loaded = stage.load_raw(text);
    let whole = on(&stage, &loaded, &[]);
    assert_eq!((whole.trap, whole.r0), (None, 10));
    let used = FUEL_DEFAULT - whole.fuel_left;
    // Eight slots to enter, nine times four to repeat, ten times two for the subprogram.
    assert_eq!(used, 8 + 9 * 4 + 10 * 2);
    for fuel in 0..used {
        stage.fuel = fuel;
        let ran = on(&stage, &loaded, &[]);
        assert_eq!(ran.trap.map(|trap| trap.kind), Some(TrapKind::Fuel), "fuel {fuel}");
        assert_eq!((ran.r0, ran.fuel_left), (0, 0));
    }
    stage.fuel = used;
    let exact = on(&stage, &loaded, &[]);
    assert_eq!((exact.trap, exact.r0, exact.fuel_left), (None, 10, 0));
}

#[test]
fn regression_42_endless_loops_end() {
    assert_eq!(trap("goto -1\nexit", &[]), "insn 0: fuel used up: the program ran too long");
    assert_eq!(trap("loop: r0 = 1\nr1 = 2\ngoto loop", &[]), "insn 2: fuel used up: the program ran too long");
    let callx = trap("r6 = 8\nloop: callx r6\nif r0 == 0 goto loop\nexit", &[]);
    assert!(callx.ends_with("fuel used up: the program ran too long"), "{callx}");
    let may_goto = "r0 = 0\nloop: may_goto out\nr0 += 1\ngoto loop\nout: exit";
    let ran = ran(may_goto, &[]);
    assert_eq!(ran.trap, None, "a loop with a budget ends by itself");
    assert!(ran.r0 > 1000);
}

#[test]
fn regression_46_an_unknown_helper_is_refused_by_number_and_trapped_by_register() {
    for (number, name) in [("999", ""), ("194", " (bpf_kptr_xchg)"), ("0", "")] {
        let raw =
            RawProgram { name: "test".to_owned(), slots: slots(&format!("call {number}\nexit")), ..Default::default() };
        let program = Program::check(raw, ProgramKind::Raw).expect("well-formed");
        let linked = Linked::link(std::sync::Arc::new(program), Stage::new().world, Box::new([]));
        let refusal = linked.expect_err("no such helper").to_string();
        let expected =
            format!("test insn 0: helper {number}{name} is not supported; see `kumite helpers` for those that are");
        assert_eq!(refusal, expected);
    }
    for (number, text) in
        [("999", "999"), ("-1", "18446744073709551615"), ("12", "12"), ("0x100000008 ll", "4294967304")]
    {
        let ran = ran(&format!("r1 = {number}\ncallx r1\nexit"), &[]);
        let trap = ran.trap.expect("a trap").to_string();
        assert!(trap.ends_with(&format!(": no helper has number {text}")), "{trap}");
    }
}

#[test]
fn regression_47_a_null_context_traps_only_where_it_is_used() {
    assert_eq!(r0("r0 = r1\nexit"), 0);
    assert_eq!(trap("r0 = *(u32 *)(r1 + 0)\nexit", &[]), "insn 0: read at guest address 0x0: not mapped for this");
}

#[test]
fn regression_35_memory_of_one_run_is_not_visible_to_the_next() {
    let stage = Stage::new();
    let fill: String = (1..=64).map(|word| format!("*(u64 *)(r10 - {}) = 0x21212121\n", 8 * word)).collect();
    let secret = stage.load_raw(&format!("{fill}call sub\nexit\nsub: {fill}r0 = 0\nexit"));
    let sum: String = (1..=64).map(|word| format!("r1 = *(u64 *)(r10 - {})\nr0 |= r1\n", 8 * word)).collect();
    let reader = stage.load_raw(&format!("r0 = 0\n{sum}exit"));
    let by_pointer = stage.load_raw("r1 = r10\nr1 += -512\ncall sub\nexit\nsub: r0 = *(u64 *)(r1 + 256)\nexit");
    // "%s" of what the stack holds, which no prototype speaks of.
    let format =
        "r1 = 0x007325 ll\n*(u64 *)(r10 - 8) = r1\nr1 = r10\nr1 += -8\nr2 = 3\nr3 = r10\nr3 += -64\ncall 6\nexit";
    let by_format = stage.load_raw(format);
    for mode in Mode::ALL {
        for (what, program) in [("loads", &reader), ("a pointer", &by_pointer), ("a format", &by_format)] {
            assert_eq!(stage.run_raw(mode, &secret, &[]).trap, None);
            let ran = stage.run_raw(mode, program, &[]);
            assert_eq!((ran.trap, ran.r0), (None, 0), "{what} in {mode} mode");
        }
    }
}

#[test]
fn a_record_of_a_run_that_trapped_does_not_stop_the_reader() {
    for mode in Mode::ALL {
        let stage = Stage::new();
        let def = MapDef {
            name: "events".to_owned(),
            kind: MapKind::RING_BUFFER,
            key_len: 0,
            value_len: 0,
            max_entries: 4096,
            flags: 0,
            ..MapDef::default()
        };
        let maps = [stage.map(&def)];
        let reserve = "r1 = map_by_idx(0)\nr2 = 8\nr3 = 0\ncall 131\nr6 = r0\n";
        let load = |text: &str| stage.load("test", ProgramKind::Raw, slots(text), &maps);
        let trapping = load(&format!("{reserve}r1 = 0\nr0 = *(u8 *)(r1 + 0)\nexit"));
        let sending = load(&format!("{reserve}*(u64 *)(r6 + 0) = 7\nr1 = r6\nr2 = 0\ncall 132\nr0 = 0\nexit"));
        assert!(stage.run_raw(mode, &trapping, &[]).trap.is_some());
        assert_eq!(stage.run_raw(mode, &sending, &[]).trap, None);
        let mut records = Vec::new();
        maps[0].1.as_ring_buffer().expect("a ring buffer").read(|record| records.push(record.to_vec()));
        assert_eq!(records, [7_u64.to_le_bytes().to_vec()], "{mode}");
    }
}
