//! The data that lies beside the repository, and what a test does where it is absent.

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
