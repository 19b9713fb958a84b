//! The instruction table against data and tools that know nothing of it.

use kumite::isa::random::{self, Dice, Shape};
use kumite::isa::{self, Does, Field, Part, ROWS, Row};
use kumite::program::{Program, RawProgram, disassemble};
use kumite::verdict::ProgramKind;
use serde_json::Value;

use crate::shared;

fn slots_of(hex: &str) -> Vec<[u8; 8]> {
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("the data is hexadecimal"))
        .collect();
    bytes.chunks_exact(8).map(|slot| slot.try_into().expect("chunks of eight")).collect()
}

/// Programs whose verdict is not the kernel's: their names in the data, the field set, and why. A field of `*` means
/// the program with every field as it should be.
const DEVIATIONS: &[(&str, &str, &str)] = &[
    ("callx", "*", "the conformance suite needs it; the kernel has no such instruction"),
    ("ld_map_fd", "*", "programs name maps by index; a descriptor means nothing outside its process"),
    ("ld_map_value_fd", "*", "programs name maps by index; a descriptor means nothing outside its process"),
];

#[test]
fn every_program_of_the_negatives_gets_the_kernels_verdict() {
    let Some(text) = shared::read("isa/encoding_negative.jsonl") else { return };
    let mut differing: Vec<String> = Vec::new();
    let mut seen = vec![false; DEVIATIONS.len()];
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).expect("the data is JSON");
        let word = |key: &str| case[key].as_str().unwrap_or_default();
        let raw = RawProgram { name: "case".into(), slots: slots_of(word("raw")), ..RawProgram::default() };
        let verdict = Program::check(raw, ProgramKind::SocketFilter);
        if verdict.is_ok() == (word("kernel") == "accept") {
            continue;
        }
        let field = if word("kind") == "valid" { "*" } else { word("field") };
        match DEVIATIONS.iter().position(|(name, at, _)| *name == word("name") && *at == field) {
            Some(index) => seen[index] = true,
            None => differing.push(format!(
                "{} {} {}: kernel {} ({}), kumite {:?}",
                word("name"),
                field,
                case["value"],
                word("kernel"),
                word("why"),
                verdict.map(|_| "accept").map_err(|rejection| rejection.to_string()),
            )),
        }
    }
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
    println!("verdicts: {} programs, those of {} listed kinds aside", text.lines().count(), DEVIATIONS.len());
    for ((name, field, _), seen) in DEVIATIONS.iter().zip(seen) {
        assert!(seen, "{name} {field} is listed as a deviation but does not deviate");
    }
}

#[test]
fn every_entry_of_the_rfc_has_exactly_one_row() {
    let Some(text) = shared::read("isa/isa.json") else { return };
    let data: Value = serde_json::from_str(&text).expect("the data is JSON");
    let entries: Vec<&Value> =
        ["insns", "linux_ext"].iter().flat_map(|list| data[list].as_array().expect("a list")).collect();
    assert_eq!(entries.len(), ROWS.len());
    for entry in entries {
        let name = entry["name"].as_str().expect("a name");
        let rows: Vec<_> = ROWS.iter().filter(|row| row.name == name).collect();
        let [row] = rows.as_slice() else { panic!("{name} has {} rows", rows.len()) };
        assert_eq!(format!("{:#04x}", row.opcode), entry["op"].as_str().expect("an opcode"), "{name}");
        let group = entry["group"].as_str().expect("a group");
        assert!(group.starts_with(row.group.name()), "{name} is in {group}, not {}", row.group.name());
        for part in Part::ALL {
            let expected = &entry[part.name()];
            match row.field(part) {
                Field::Is(value) => assert_eq!(expected.as_i64(), Some(value.into()), "{name} {}", part.name()),
                Field::Any => assert_eq!(expected.as_str(), Some("any"), "{name} {}", part.name()),
                Field::Ignored => {}
            }
        }
    }
}

/// Instances of the row with every combination of edge values in the fields that it uses, as slots.
pub(crate) fn extremes(row: &Row) -> Vec<Vec<[u8; 8]>> {
    let values = |field: Field, edges: &[i32]| match field {
        Field::Is(value) => vec![value],
        Field::Any => edges.to_vec(),
        Field::Ignored => vec![0],
    };
    let words = [i32::MIN, -1, 0, 1, i32::MAX];
    let mut made = Vec::new();
    for dst in values(row.dst, &[0, 9, 10]) {
        for src in values(row.src, &[0, 9, 10]) {
            for off in values(row.off, &[i16::MIN.into(), -1, 0, 1, i16::MAX.into()]) {
                for imm in values(row.imm, &words) {
                    for next in values(row.next_imm, &words) {
                        let registers = u8::try_from(dst | src << 4).expect("two register numbers");
                        let [off0, off1] = i16::try_from(off).expect("an edge of i16").to_le_bytes();
                        let slot = |opcode, registers, off: [u8; 2], imm: i32| {
                            let [imm0, imm1, imm2, imm3] = imm.to_le_bytes();
                            [opcode, registers, off[0], off[1], imm0, imm1, imm2, imm3]
                        };
                        let mut slots = vec![slot(row.opcode, registers, [off0, off1], imm)];
                        if row.does.is_wide() {
                            slots.push(slot(0, 0, [0, 0], next));
                        }
                        made.push(slots);
                    }
                }
            }
        }
    }
    made
}

#[test]
fn every_row_survives_decoding_encoding_printing_and_assembling_with_extreme_operands() {
    for row in ROWS.iter().filter(|row| row.does != Does::SecondSlot) {
        for slots in extremes(row) {
            let insns = isa::decode(&slots).unwrap_or_else(|error| panic!("{}: {error}", row.name));
            assert_eq!(insns[0].does, row.does, "{}", row.name);
            assert_eq!(isa::encode(&insns), slots, "{}", row.name);
            let text = isa::print(&insns[0], 0);
            assert_eq!(isa::assemble(&text), Ok(slots), "{}: {text}", row.name);
        }
    }
}

#[test]
fn every_program_of_the_conformance_suite_is_well_formed() {
    let Some(text) = shared::read("isa/conformance.jsonl") else { return };
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).expect("the data is JSON");
        let slots = slots_of(case["raw"].as_str().expect("program text"));
        let raw = RawProgram { name: "main".into(), slots: slots.clone(), ..RawProgram::default() };
        let program = Program::check(raw, ProgramKind::Raw).unwrap_or_else(|rejection| panic!("{rejection}"));
        let text = disassemble(&program).to_string();
        assert_eq!(isa::assemble(&text), Ok(slots), "{text}");
    }
}

/// What a fuzzer would find: no bytes make the checks panic, and what they accept prints and reads back.
#[test]
fn damaged_programs_are_refused_or_print_and_read_back() {
    let mut dice = Dice::new(1);
    let mut accepted = 0;
    for seed in 0..2000 {
        let mut slots = isa::encode(&random::program(&Shape { seed, insns: 20, ..Shape::default() }));
        for _ in 0..1 + dice.below(4) {
            let (slot, byte) = (dice.below(slots.len()), dice.below(8));
            slots[slot][byte] ^= 1 << dice.below(8);
        }
        let raw = RawProgram { name: "damaged".into(), slots: slots.clone(), ..RawProgram::default() };
        let Ok(program) = Program::check(raw, ProgramKind::Raw) else { continue };
        accepted += 1;
        let text = disassemble(&program).to_string();
        let again = isa::assemble(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let ignored = |does| matches!(does, Does::Exit | Does::CallReg);
        for ((insn, before), after) in program.insns().iter().zip(&slots).zip(&again) {
            assert!(ignored(insn.does) || before == after, "{text}");
        }
    }
    assert!(accepted > 100, "only {accepted} damaged programs were accepted: the test tests little");
}

#[test]
fn no_text_makes_the_assembler_panic() {
    let mut dice = Dice::new(2);
    let words: Vec<String> = ROWS.iter().flat_map(|row| row.text.split(' ').map(str::to_owned)).collect();
    let spice =
        ["-", "+", "0x", "99999999999999999999999", "<", ">", ":", "\u{e9}", "r1", "w10", "-0x8000000000000001", "1:"];
    for _ in 0..5000 {
        let line: Vec<&str> = (0..dice.below(9))
            .map(|_| if dice.once_in(2) { dice.pick(&spice) } else { words[dice.below(words.len())].as_str() })
            .collect();
        let _ = isa::assemble(&line.join(if dice.once_in(2) { " " } else { "" }));
    }
}

#[test]
fn the_manuals_page_of_instructions_is_made_from_the_table() {
    shared::golden("src/manual/instructions.md", &isa::reference());
}
