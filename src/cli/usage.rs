//! A wrong command line in one line.
//!
//! Invariant: what the parser of command lines says reaches nobody but in the form `where: what; how to mend`.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

/// Whether this is no error but an answer: help or version.
pub(super) fn is_answer(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

/// Whether the line ends before a command: all that helps is the list of them.
pub(super) fn lacks_command(error: &Error) -> bool {
    error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

/// The error as `where: what; how to mend`.
pub(super) fn one_line(error: &Error, line: &[OsString], definition: &Command) -> String {
    let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if reason.contains("; ") {
        return reason;
    }
    let reason = number_words(error, reason);
    let value = || Some((text(error, ContextKind::InvalidArg)?, text(error, ContextKind::InvalidValue)?));
    let kind = error.kind();
    let said = if kind == ErrorKind::ValueValidation
        && let Some((option, value)) = value()
    {
        format!("{} {value:?}: {reason}", bare(&option))
    } else if kind == ErrorKind::InvalidValue
        && let Some((option, value)) = value()
    {
        let valid = text(error, ContextKind::ValidValue).unwrap_or_default();
        format!("{} {value:?}: not one of {valid}", bare(&option))
    } else if kind == ErrorKind::MissingRequiredArgument
        && let Some(options) = text(error, ContextKind::InvalidArg)
    {
        format!("{options}: missing")
    } else {
        first_line(error)
    };
    format!("{said}; see {} --help", command_of(line, definition))
}

/// What the parser of numbers says, in words of ours.
fn number_words(error: &Error, reason: String) -> String {
    if std::error::Error::source(error).is_some_and(|source| source.is::<std::num::ParseIntError>()) {
        return "no whole number that fits".to_owned();
    }
    match reason.split_once(" is not in ").and_then(|(_, range)| range.split_once("..=")) {
        Some((first, last)) => format!("not a number from {first} to {last}"),
        None => reason,
    }
}

fn text(error: &Error, kind: ContextKind) -> Option<String> {
    let value = error.get(kind)?;
    if let ContextValue::Strings(texts) = value {
        return Some(texts.join(", "));
    }
    if let ContextValue::String(text) = value { Some(text.clone()) } else { None }
}

/// An option without the place of its value, an argument without its brackets.
fn bare(option: &str) -> String {
    let name = option.split(' ').next().unwrap_or_default();
    name.trim_matches(['<', '>', '[', ']', '.']).to_lowercase()
}

fn first_line(error: &Error) -> String {
    let rendered = error.render().to_string();
    let line = rendered.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").replace("; ", ", ")
}

/// The command that the line's first words name.
fn command_of(line: &[OsString], definition: &Command) -> String {
    let mut command = definition;
    let mut name = definition.get_name().to_owned();
    for word in line.iter().skip(1) {
        let Some(inner) = command.find_subcommand(word) else { break };
        command = inner;
        name = format!("{name} {}", inner.get_name());
    }
    name
}
