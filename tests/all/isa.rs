//! The instruction table against data and tools that know nothing of it.

use kumite::isa::{Field, Part, ROWS};
use kumite::program::{Program, RawProgram};
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
