//! 86,200 single instructions as the Linux 6.18 translator executed them, in every mode.

use kumite::verdict::ProgramKind;
use kumite::vm::Mode;
use serde_json::Value;

use crate::shared;
use crate::stage::{Stage, slots};

/// What the program finds in memory and leaves there, as 64-bit words: dst, src, r0, memory; then the first three as the
/// instruction left them, and whether it jumped.
const WORDS: usize = 8;

/// A program that runs `raw` once on operands from memory, so that one translation serves all cases.
fn program(raw: [u8; 8]) -> Vec<[u8; 8]> {
    let mut text = slots(
        "r6 = r1
         r7 = *(u64 *)(r6 + 0)
         r8 = *(u64 *)(r6 + 8)
         r0 = *(u64 *)(r6 + 16)
         r9 = r6
         r9 += 24",
    );
    text.push(raw);
    text.extend(slots(
        "goto +1
         *(u64 *)(r6 + 56) = 1
         *(u64 *)(r6 + 32) = r7
         *(u64 *)(r6 + 40) = r8
         *(u64 *)(r6 + 48) = r0
         exit",
    ));
    text
}

fn number(value: &Value) -> u64 {
    match value {
        Value::String(hex) => u64::from_str_radix(hex, 16).expect("hexadecimal"),
        Value::Number(number) => number.as_u64().expect("not negative"),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => panic!("{value} is no number"),
    }
}

fn words(bytes: &[u8]) -> [u64; WORDS] {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|index| u64::from_le_bytes(words[index]))
}

#[test]
fn every_instruction_does_what_the_kernels_translator_does() {
    let Some(text) = shared::read("isa/semantics.jsonl") else { return };
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).expect("the data is JSON");
        let cases = entry["cases"].as_array().expect("cases");
        if cases.is_empty() {
            continue;
        }
        let hex = entry["raw"].as_str().expect("raw bytes");
        let raw = std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal"));
        let stage = Stage::new();
        let loaded = stage.load("test", ProgramKind::Raw, program(raw), &[]);
        count += cases.len();
        for case in cases {
            let value = |at: usize| number(&case[at]);
            let before = [value(0), value(1), value(2), value(3), 0, 0, 0, 0];
            let after = [value(0), value(1), value(2), value(7), value(4), value(5), value(6), value(8)];
            for mode in Mode::ALL {
                let ran = stage.run_raw(mode, &loaded, before.map(u64::to_le_bytes).as_flattened());
                if ran.trap.is_some() || words(&ran.memory) != after {
                    wrong.push(format!(
                        "{} {hex} {mode} {case}: {:x?} {}",
                        entry["name"],
                        words(&ran.memory),
                        ran.trap_text()
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} cases, the first:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    assert_eq!(count, 86_200, "cases");
    println!("semantics: {count} of {count} cases in each of {} modes", Mode::ALL.len());
}
