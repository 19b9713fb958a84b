//! The binary as a user meets it: exit codes, texts, and two hosts end to end.

mod diff;
mod fuzz;
mod hosts;
mod run;
mod spar;
mod usage;

use std::process::{Command, Output};

/// The binary with these words.
pub(crate) fn kumite(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kumite"));
    command.args(words);
    command
}

/// Runs the binary to its end.
pub(crate) fn output(words: &[&str]) -> Output {
    kumite(words).output().expect("the binary runs")
}

/// Exit code and both texts.
pub(crate) fn said(words: &[&str]) -> (i32, String, String) {
    let output = output(words);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

/// A number with its thousands apart, as reports write it.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}
