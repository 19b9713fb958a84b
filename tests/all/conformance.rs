//! The bpf_conformance suite, in every mode.

use kumite::vm::{Mode, vm_plugin};
use serde_json::Value;

use crate::shared;

#[test]
fn every_program_of_the_suite_gives_its_result_in_every_mode() {
    let Some(text) = shared::read("isa/conformance.jsonl") else { return };
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).expect("the data is JSON");
        let word = |key: &str| case[key].as_str().unwrap_or_default();
        let expected = u64::from_str_radix(word("result").trim_start_matches("0x"), 16).expect("a result");
        count += 1;
        for mode in Mode::ALL {
            match vm_plugin(Some(word("mem")), word("raw"), mode) {
                Ok(r0) if r0 == expected => {}
                Ok(r0) => wrong.push(format!("{} {mode}: {r0:#x} instead of {expected:#x}", word("name"))),
                Err(error) => wrong.push(format!("{} {mode}: {error}", word("name"))),
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} programs:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(count, 313, "programs of the suite");
    println!("conformance: {count} of {count} programs in each of {} modes", Mode::ALL.len());
}
