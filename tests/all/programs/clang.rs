//! Builds our own C programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shared::skipped;

/// Compilers that the programs are built with, each with cpu versions that it knows.
pub(crate) const COMPILERS: [(&str, &[&str]); 2] =
    [("clang-14", &["v1", "v3"]), ("clang-19", &["v1", "v2", "v3", "v4"])];

/// Whether a program can be executed on this machine.
pub(crate) fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Whether the compiler is there; where not, says that its part of a test is skipped.
pub(crate) fn available(compiler: &str) -> bool {
    let found = has(compiler);
    if !found {
        skipped(&format!("no {compiler}"));
    }
    found
}

/// Builds a C file of the repository and says where the object is.
///
/// # Panics
/// If the compiler refuses it.
pub(crate) fn build(compiler: &str, cpu: &str, source: &str) -> PathBuf {
    build_with(compiler, cpu, &Path::new(env!("CARGO_MANIFEST_DIR")).join(source), &[])
}

/// Builds C text, for tests of a single feature.
///
/// # Panics
/// If the compiler refuses it.
pub(crate) fn build_text(compiler: &str, name: &str, text: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.c"));
    std::fs::write(&source, text).expect("the target folder can be written");
    build_with(compiler, "v3", &source, &[])
}

/// Builds a C file with further options.
///
/// # Panics
/// If the compiler refuses it.
pub(crate) fn build_with(compiler: &str, cpu: &str, source: &Path, options: &[&str]) -> PathBuf {
    let stem = source.file_stem().expect("a file").to_string_lossy();
    let object = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{stem}.{compiler}.{cpu}.o"));
    let output = Command::new(compiler)
        .args(["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-I/usr/include/x86_64-linux-gnu"])
        .arg(format!("-mcpu={cpu}"))
        .args(options)
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(&object)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the compiler was found");
    assert!(output.status.success(), "{compiler} {}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    object
}
