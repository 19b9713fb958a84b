//! Case files: `tests/cases/*.case`, run in every mode, each on a bench of its own.

use std::fs;
use std::path::{Path, PathBuf};

use kumite::fuzz::{Bench, Case};
use kumite::vm::Mode;

/// All case files.
pub(crate) fn paths() -> Vec<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"));
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("case files").map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> Case {
    let text = fs::read_to_string(path).expect("a case file");
    Case::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_case_ends_as_it_says_in_every_mode() {
    let mut wrong = Vec::new();
    for path in paths() {
        let case = read(&path);
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        assert!(!case.about.is_empty(), "{file}: says not what it is about");
        for mode in Mode::ALL {
            let mut bench = Bench::new().expect("address space");
            let scene = bench.set(&case).unwrap_or_else(|error| panic!("{file}: {error}"));
            let ran = scene.run(mode, None).unwrap_or_else(|error| panic!("{file}: {error}"));
            wrong.extend(case.differences(mode, &ran).into_iter().map(|what| format!("{file} {mode}: {what}")));
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_case_that_is_printed_reads_back() {
    for path in paths() {
        let case = read(&path);
        assert_eq!(Case::parse(&case.to_string()).as_ref(), Ok(&case), "{}\n{case}", path.display());
    }
}
