//! What tests share: the data beside the repository, skipping where something is absent, expected files.

use std::env;
use std::path::PathBuf;

/// Says why a test is skipped.
///
/// # Panics
/// If `REQUIRE_ALL=1` asks that no test be skipped.
pub(crate) fn skipped(why: &str) {
    assert!(env::var_os("REQUIRE_ALL").is_none_or(|value| value != "1"), "REQUIRE_ALL=1, but {why}");
    println!("skipped: {why}");
}

/// The text of a shared file; `None`, with the reason printed, where there is none.
pub(crate) fn read(path: &str) -> Option<String> {
    let directory = env::var_os("KUMITE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")), PathBuf::from);
    let text = std::fs::read_to_string(directory.join(path)).ok();
    if text.is_none() {
        skipped("no shared data");
    }
    text
}

/// Compares text with a file of the repository; `BLESS=1` writes the file instead.
///
/// # Panics
/// If they differ.
pub(crate) fn golden(path: &str, text: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    if env::var_os("BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&file, text).expect("the repository can be written");
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(expected == text, "{path} is out of date; run the test with BLESS=1 and look at the difference");
}
