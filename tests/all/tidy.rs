//! The house rules that a machine can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules by floor, lowest first: a module imports modules of lower lines, or of its own line to its left.
const FLOORS: &[&[&str]] = &[
    &["limits", "isa", "trap", "verdict"],
    &["cage", "program", "maps"],
    &["run", "helpers", "elf"],
    &["vm"],
    &["port", "flow"],
    &["kernel"],
    &["report", "fuzz"],
    &["control"],
    &["cli"],
];

/// Words that the style forbids in names of files, types and functions.
const FORBIDDEN_NAMES: &[&str] = &["util", "utils", "manager", "misc", "common"];

/// Text that may stand nowhere in the sources.
const FORBIDDEN_TEXT: &[&str] = &["todo!(", "unimplemented!(", "TODO", "FIXME", "XXX", "#[allow(", "#![allow("];

/// The only files with `unsafe` code, each for one reason.
const UNSAFE_FILES: &[&str] = &[
    "src/cage/access.rs",
    "src/cage/mod.rs",
    "src/cage/region.rs",
    "src/fuzz/hostile/canary.rs",
    "src/fuzz/hostile/cpu_time.rs",
    "src/kernel/map.rs",
    "src/kernel/mod.rs",
    "src/maps/program_array.rs",
    "src/maps/table.rs",
    "src/maps/zeroed.rs",
    "src/port/af_xdp/redirect.rs",
    "src/port/buffer_ring.rs",
    "src/port/calls.rs",
    "src/port/outlet.rs",
    "src/port/packet/multishot.rs",
    "src/port/sleep.rs",
    "src/port/tap.rs",
    "src/port/udp/departures.rs",
    "src/port/udp/plain.rs",
    "src/port/udp/ring/mod.rs",
    "src/port/udp/socket.rs",
    "src/port/wake.rs",
    "src/run/world.rs",
    "src/vm/jit/activation.rs",
    "src/vm/jit/code.rs",
    "src/vm/jit/fault.rs",
    "src/vm/jit/mod.rs",
    "src/vm/jit/routines.rs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below `folder`, as paths from the root.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                // What cargo-fuzz builds is none of the project's text.
                folders.extend(Some(path).filter(|path| !path.ends_with("target")));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(root().join(path)).expect("a source file")
}

/// The lines of code: without comments, and without the `#[cfg(test)]` module at the end.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| *line != "#[cfg(test)]").filter(|line| !line.trim_start().starts_with("//"))
}

fn module_of(path: &Path) -> String {
    let mut parts = path.components().skip(1);
    let first = parts.next().expect("a file below src").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn modules_import_lower_floors_only() {
    let order: Vec<&str> = FLOORS.iter().flat_map(|floor| floor.iter().copied()).collect();
    let place = |module: &str| order.iter().position(|name| *name == module);
    let mut wrong = Vec::new();
    for path in rust_files("src") {
        let module = module_of(&path);
        if ["lib", "main", "manual"].contains(&module.as_str()) {
            continue;
        }
        let own = place(&module).unwrap_or_else(|| panic!("{}: module {module} has no floor", path.display()));
        for line in code(&text(&path)) {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                if let Some(other) = place(&rest[..end])
                    && other > own
                {
                    wrong.push(format!("{} imports {}", path.display(), &rest[..end]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that go up: {wrong:#?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let files = ["src", "tests", "benches", "fuzz"].into_iter().filter(|folder| root().join(folder).exists());
    for path in files.flat_map(rust_files) {
        assert!(text(&path).starts_with("//! "), "{}: opens without //!", path.display());
    }
}

#[test]
fn unsafe_code_stays_in_named_files() {
    let holders: BTreeSet<String> = rust_files("src")
        .into_iter()
        .filter(|path| text(path).lines().any(|line| !line.trim_start().starts_with("//") && has_word(line, "unsafe")))
        .map(|path| path.display().to_string())
        .collect();
    let named: BTreeSet<String> = UNSAFE_FILES.iter().map(ToString::to_string).collect();
    assert_eq!(holders, named, "files with unsafe code; update UNSAFE_FILES where the reason is good");
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

#[test]
fn nothing_is_left_behind() {
    for path in rust_files("src").into_iter().chain(rust_files("tests")) {
        if path.ends_with("tidy.rs") {
            continue;
        }
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(!FORBIDDEN_NAMES.contains(&stem.as_str()), "{}: a name that says nothing", path.display());
        for (number, line) in text(&path).lines().enumerate() {
            for word in FORBIDDEN_TEXT {
                assert!(!line.contains(word), "{}:{}: {word}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = text(Path::new("Cargo.toml"));
    let mut inside = false;
    let mut before = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
        } else if inside && line.contains('=') {
            assert!(before.starts_with("# "), "Cargo.toml: {line}: no reason above it");
        }
        before = line;
    }
}

#[test]
fn every_mistake_of_others_has_a_test_of_its_number() {
    let mut found = BTreeSet::new();
    for path in rust_files("src").into_iter().chain(rust_files("tests")) {
        let text = text(&path);
        let mut before = "";
        for line in text.lines() {
            if let Some(name) = line.trim_start().strip_prefix("fn regression_") {
                assert!(before.trim() == "#[test]", "{}: fn regression_{name} is no test", path.display());
                let number = name.split_once('_').and_then(|(number, _)| number.parse::<u32>().ok());
                found.insert(number.unwrap_or_else(|| panic!("{}: {name} has no number", path.display())));
            }
            before = line;
        }
    }
    let missing: Vec<u32> = (1..=61).filter(|number| !found.contains(number)).collect();
    assert!(missing.is_empty(), "mistakes without a test: {missing:?}");
}

#[test]
fn lists_are_sorted_and_complete() {
    let helpers: Vec<u32> = kumite::helpers::HELPERS.iter().map(|helper| helper.id).collect();
    assert!(helpers.is_sorted_by(|a, b| a < b), "HELPERS by number: {helpers:?}");
    let kfuncs: Vec<u32> = kumite::helpers::KFUNCS.iter().map(|kfunc| kfunc.id).collect();
    assert!(kfuncs.is_sorted_by(|a, b| a < b), "KFUNCS by number: {kfuncs:x?}");
    assert!(kfuncs[0] >= kumite::helpers::KFUNC, "no helper of the kernel's has a number there");
    let maps: Vec<u32> = kumite::maps::MAP_TYPES.iter().map(|map_type| map_type.kind.0).collect();
    assert!(maps.is_sorted_by(|a, b| a < b), "MAP_TYPES by number: {maps:?}");
    for (folder, kind, listed) in
        [("src/helpers", "Helper", helpers.len() + kfuncs.len()), ("src/maps", "MapType", maps.len())]
    {
        let mark = format!(": {kind} =");
        let count = |path: &PathBuf| code(&text(path)).filter(|line| line.contains(&mark)).count();
        let made: usize = rust_files(folder).iter().map(count).sum();
        assert_eq!(made, listed, "{folder}: values of {kind} that no list names");
    }
}
