//! Objects that were damaged or made to do harm: every byte string gives an object or an error of one line, soon.

use std::time::{Duration, Instant};

use kumite::elf::Object;

use super::builder::{Builder, Names};
use super::error_of;
use crate::random::Random;

/// Longest that reading any of the small files here may take on a slow machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(5);

fn real() -> [(&'static str, &'static [u8]); 2] {
    [
        ("balancer.o", include_bytes!("../../../src/cli/demo/balancer.o")),
        ("firewall.o", include_bytes!("../../../src/cli/demo/firewall.o")),
    ]
}

fn survive(name: &str, bytes: &[u8]) {
    let started = Instant::now();
    if let Err(error) = Object::parse(name, bytes) {
        let text = error.to_string();
        assert!(text.starts_with(&format!("{name}: ")) && !text.contains('\n'), "{text}");
        assert!(text.contains("; "), "{text}: no word on how to mend it");
    }
    assert!(started.elapsed() < PATIENCE, "{name}: read for {:?}", started.elapsed());
}

#[test]
fn an_object_cut_off_anywhere_gives_an_error() {
    for (name, whole) in real() {
        for len in (0..whole.len()).step_by(7) {
            survive(name, &whole[..len]);
            assert!(Object::parse(name, &whole[..len]).is_err(), "{name}: the section table is at the end");
        }
    }
}

#[test]
fn flipped_bytes_give_an_object_or_an_error() {
    for (name, whole) in real() {
        let mut random = Random::new(11);
        for _ in 0..6000 {
            let mut bytes = whole.to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(u32::try_from(bytes.len()).expect("short")) as usize;
                bytes[at] = random.pick(&[0, 1, 0x7f, 0x80, 0xff, random.clone().bytes(1)[0]]);
            }
            survive(name, &bytes);
        }
    }
}

#[test]
fn extreme_numbers_in_tables_give_an_object_or_an_error() {
    for (name, whole) in real() {
        let mut random = Random::new(12);
        let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8"));
        let table = usize::try_from(word(whole, 40)).expect("in the file");
        for _ in 0..6000 {
            let mut bytes = whole.to_vec();
            // The ELF header, the section table, or any aligned word: offsets, lengths and counts.
            let (start, end) = random.pick(&[(0, 64), (table, whole.len()), (64, whole.len())]);
            let span = u32::try_from((end - start) / 4).expect("short");
            for _ in 0..=random.below(2) {
                let at = start + 4 * random.below(span) as usize;
                let value = random.pick(&[0u32, 1, 2, 0x7fff_ffff, 0x8000_0000, u32::MAX, u32::MAX - 7, 0xffff]);
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            survive(name, &bytes);
        }
    }
}

#[test]
fn regression_48_a_section_entry_size_of_zero_or_more_than_all_is_of_no_consequence() {
    for (name, whole) in real() {
        let table = usize::try_from(u64::from_le_bytes(whole[40..48].try_into().expect("8"))).expect("in the file");
        for entry_len in [0u64, 1, u64::MAX, 1 << 40] {
            let mut bytes = whole.to_vec();
            for header in (table..bytes.len()).step_by(64) {
                bytes[header + 56..header + 64].copy_from_slice(&entry_len.to_le_bytes());
            }
            let object = Object::parse(name, &bytes).expect("entry sizes are not believed");
            assert!(object.refused.is_empty());
        }
        let mut bytes = whole.to_vec();
        bytes[58..60].copy_from_slice(&0u16.to_le_bytes());
        let error = Object::parse(name, &bytes).expect_err("the section table's own");
        let expected = "damaged object: the section table's entries have a wrong length; rebuild it";
        assert_eq!(error.to_string(), format!("{name}: {expected}"));
    }
}

#[test]
fn regression_49_a_section_of_giant_size_allocates_nothing() {
    let mut builder = Builder::new();
    builder.zeros(".bss", 1 << 40);
    let expected = "section .bss: its variables are too long for a map; rebuild the object";
    assert_eq!(error_of(&builder.finish()), expected);

    let mut builder = Builder::new();
    builder.zeros(".bss", 3 << 30);
    assert_eq!(error_of(&builder.finish()), expected);

    let mut builder = Builder::new();
    builder.zeros(".data", u64::MAX);
    builder.of_type(1);
    assert_eq!(error_of(&builder.finish()), "section .data: it reaches past the end of the file; rebuild the object");
}

#[test]
fn regression_51_overlapping_sections_are_refused() {
    let mut builder = Builder::new();
    builder.data(".data", &[7; 4096]);
    builder.data(".rodata", &[7; 4096]);
    let mut bytes = builder.finish();
    let table = usize::try_from(u64::from_le_bytes(bytes[40..48].try_into().expect("8"))).expect("in the file");
    let len = bytes.len() as u64;
    for section in [1, 2] {
        let header = table + section * 64;
        bytes[header + 24..header + 32].copy_from_slice(&0u64.to_le_bytes());
        bytes[header + 32..header + 40].copy_from_slice(&(len - 64).to_le_bytes());
    }
    assert_eq!(error_of(&bytes), "section .rodata: it overlaps another section; rebuild the object");
}

#[test]
fn functions_that_call_in_circles_are_placed_once() {
    let mut builder = Builder::new();
    let text = builder.text(".text", "a: call b\nexit\nb: call a\nexit");
    let xdp = builder.text("xdp", "call -1\nexit");
    let first = builder.symbol("first", Names::Function, text, 0, 16);
    builder.symbol("second", Names::Function, text, 16, 16);
    builder.symbol("main", Names::Function, xdp, 0, 16);
    builder.relocations(xdp, &[(0, 10, first)]);
    let object = Object::parse("test.o", &builder.finish()).expect("recursion is a matter of the run");
    let program = object.program("main").expect("well-formed");
    let names: Vec<&str> = program.functions().iter().map(|function| function.name.as_str()).collect();
    assert_eq!(names, ["main", "first", "second"]);
}

#[test]
fn an_object_whose_programs_repeat_a_large_function_stays_within_its_budget() {
    let mut builder = Builder::new();
    let large = [&[0xb7, 0, 0, 0, 0, 0, 0, 0].repeat(60_000)[..], &[0x95, 0, 0, 0, 0, 0, 0, 0]].concat();
    let text = builder.text_bytes(".text", &large);
    let xdp = builder.text("xdp", &"call -1\nexit\n".repeat(100));
    let callee = builder.symbol("large", Names::Function, text, 0, large.len() as u64);
    let mut relocations = Vec::new();
    for number in 0..100 {
        builder.symbol(&format!("main_{number}"), Names::Function, xdp, number * 16, 16);
        relocations.push((number * 16, 10, callee));
    }
    builder.relocations(xdp, &relocations);
    let object = Object::parse("test.o", &builder.finish()).expect("the first ones fit");
    assert_eq!(object.programs.len(), 33);
    assert_eq!(
        object.refused[0].reason.to_string(),
        "test.o: 2040102 slots of all programs are more than 2000000; split the object"
    );
}

#[test]
fn regression_53_relocations_against_symbols_of_every_kind_give_a_program_or_a_refusal() {
    for info in 0..=u8::MAX {
        for home in [0, 1, 2, 3, 0xfff1, 0xfff2, 0xffee] {
            let mut builder = Builder::new();
            let xdp = builder.text("xdp", "r1 = 0 ll\ncall -1\nexit");
            builder.data(".data", &[0; 8]);
            builder.symbol("main", Names::Function, xdp, 0, 32);
            let odd = builder.symbol_bound("odd", info, home, 0, 0);
            builder.relocations(xdp, &[(0, 1, odd), (16, 10, odd)]);
            survive("test.o", &builder.finish());
        }
    }
}

/// `.BTF` with a section of so many externs, all of one type, whose names are `v` and a number.
fn externs(section: &str, count: u32) -> Vec<u8> {
    let mut strings = format!("\0{section}\0int\0");
    let int = u32::try_from(section.len()).expect("short") + 2;
    let mut types = vec![int, 1 << 24, 4, 32];
    for number in 0..count {
        types.extend([u32::try_from(strings.len()).expect("short"), 14 << 24, 1, 2]);
        strings += &format!("v{number}\0");
    }
    types.extend([1, 15 << 24 | count, 4 * count]);
    types.extend((0..count).flat_map(|number| [number + 2, 4 * number, 4]));
    super::defects::btf(&types, &strings)
}

#[test]
fn many_references_to_many_externs_are_read_in_one_pass() {
    let count = 60_000;
    let mut builder = Builder::new();
    builder.note(".BTF", &externs(".ksyms", count));
    let text = builder.text("xdp", &format!("{}r0 = 2\nexit", "r1 = 0 ll\n".repeat(count as usize)));
    builder.symbol("main", Names::Function, text, 0, u64::from(count) * 16 + 16);
    let weak_variable = 1 | 2 << 4;
    let relocations: Vec<(u64, u32, u32)> = (0..count)
        .map(|number| {
            let symbol = builder.symbol_bound(&format!("v{}", count - 1 - number), weak_variable, 0, 0, 0);
            (u64::from(number) * 16, 1, symbol)
        })
        .collect();
    builder.relocations(text, &relocations);
    let bytes = builder.finish();
    survive("test.o", &bytes);
    let object = Object::parse("test.o", &bytes).expect("weak symbols may be missing");
    assert_eq!(object.programs.len(), 1, "{:?}", object.refused.first());
}

#[test]
fn records_that_name_one_slot_again_and_again_count_once() {
    let programs: u32 = 4000;
    let records: u32 = 20_000;
    let mut builder = Builder::new();
    builder.note(".BTF", &super::defects::btf(&[], "\0.text\0"));
    let words: Vec<u32> = [16, 1, records].into_iter().chain((0..records).flat_map(|_| [0, 1, 1, 1 << 10])).collect();
    let words: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let line_len = u32::try_from(words.len()).expect("short").to_le_bytes();
    let header = [&[0x9f, 0xeb, 1, 0, 24, 0, 0, 0][..], &[0; 12], &line_len, &words].concat();
    builder.note(".BTF.ext", &header);
    let shared = builder.text(".text", "exit");
    let callee = builder.symbol("shared", Names::Function, shared, 0, 8);
    let xdp = builder.text("xdp", &"call -1\nexit\n".repeat(programs as usize));
    let mut relocations = Vec::new();
    for number in 0..u64::from(programs) {
        builder.symbol(&format!("main_{number}"), Names::Function, xdp, number * 16, 16);
        relocations.push((number * 16, 10, callee));
    }
    builder.relocations(xdp, &relocations);
    let bytes = builder.finish();
    survive("test.o", &bytes);
    let object = Object::parse("test.o", &bytes).expect("lines do not matter");
    assert_eq!(object.programs.len(), programs as usize);
    assert!(object.programs.iter().all(|program| program.lines().len() == 1));
}
