//! The user: one file a command, one list of them.
//!
//! Exit codes: 0 done, 1 the guest was refused or trapped, 2 usage, 3 the host failed. What goes wrong is one line on
//! standard error: `where: what; how to mend`.
//!
//! Invariant: only this floor prints; a reader that goes away (`| head`) is no error.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{ExitCode, Termination};

use clap::Parser;

use crate::control::ClientError;

mod asking;
mod books;
mod bytes;
mod given;
mod object_file;
mod surroundings;
mod table;
mod usage;
mod wire;

pub use asking::{Api, Form};

/// How a command ended; the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for is done.
    Done = 0,
    /// A program, object or request was refused, or a program trapped.
    Refused = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The host (or the machine below it) failed.
    HostFailed = 3,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// Why a command failed, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CliError {
    /// The exit code that it means.
    pub exit: Exit,
    /// `where: what; how to mend`; empty where nobody is left to read it.
    pub text: String,
}

impl CliError {
    /// The command line is wrong.
    #[must_use]
    pub fn usage(error: impl ToString) -> Self {
        Self { exit: Exit::Usage, text: error.to_string() }
    }

    /// The guest was refused.
    #[must_use]
    pub fn refused(error: impl ToString) -> Self {
        Self { exit: Exit::Refused, text: error.to_string() }
    }

    /// The host failed.
    #[must_use]
    pub fn host_failed(error: impl ToString) -> Self {
        Self { exit: Exit::HostFailed, text: error.to_string() }
    }

    /// A file could not be read.
    #[must_use]
    pub fn file(path: &std::path::Path, error: &io::Error) -> Self {
        Self::host_failed(format!("{}: cannot read it: {error}; name a readable file", path.display()))
    }
}

/// Failed output: a reader that went away ends the command without a word.
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { exit: Exit::Done, text: String::new() };
        }
        Self::host_failed(format!("output: {error}; write to another place"))
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused { status: 400..=499, .. } => Self::refused(error),
            ClientError::NoHost { .. }
            | ClientError::Permission { .. }
            | ClientError::Time { .. }
            | ClientError::Broken { .. }
            | ClientError::Refused { .. } => Self::host_failed(error),
        }
    }
}

/// Where commands write their results.
pub type Out<'a> = &'a mut dyn Write;

/// The list of commands: from each line come its module, its place in the help, and the call.
macro_rules! commands {
    ($($variant:ident $module:ident,)*) => {
        $(mod $module;)*

        #[derive(Debug, clap::Subcommand)]
        enum Command {
            $($variant($module::Args),)*
        }

        impl Command {
            fn execute(&self, out: Out<'_>) -> Result<Exit, CliError> {
                match self {
                    $(Self::$variant(args) => $module::execute(args, out),)*
                }
            }
        }
    };
}

commands! {
    Completions completions,
    Demo demo,
    Diff diff,
    Disasm disasm,
    Events events,
    Fuzz fuzz,
    Helpers helpers,
    Hook hook,
    Host host,
    Inspect inspect,
    Map map,
    Mode mode,
    Port port,
    Prog prog,
    Run run,
    Send send,
    Stat stat,
    VmPlugin vm_plugin,
}

/// A virtual machine server for BPF network programs: two hosts spar with unchanged XDP objects in user space.
///
/// Begin with `kumite demo`.
#[derive(Debug, Parser)]
#[command(name = "kumite", version, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

/// Reads a command line, executes it, and writes what it says to `out` and what went wrong to `complaints`.
///
/// It writes nowhere else.
pub fn main(args: impl IntoIterator<Item = OsString>, out: Out<'_>, complaints: Out<'_>) -> Exit {
    let line: Vec<OsString> = args.into_iter().collect();
    let answer = |error: &clap::Error, exit, out: Out<'_>| {
        write!(out, "{}", error.render())?;
        Ok(exit)
    };
    let result = match Line::try_parse_from(&line) {
        Ok(line) => line.command.execute(out),
        Err(error) if usage::is_answer(&error) => answer(&error, Exit::Done, out),
        Err(error) if usage::lacks_command(&error) => answer(&error, Exit::Usage, out),
        Err(error) => Err(CliError::usage(usage::one_line(&error, &line, &definition()))),
    };
    let result = result.and_then(|exit| {
        out.flush()?;
        Ok(exit)
    });
    match result {
        Ok(exit) => exit,
        Err(error) => {
            if !error.text.is_empty() {
                // Nobody is left to tell where this fails too.
                let _ = writeln!(complaints, "kumite: {}", one_line(&error.text));
            }
            error.exit
        }
    }
}

/// The text with its control characters escaped: names of files and programs may hold any.
fn one_line(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.trim_end().chars().map(escaped).collect()
}

/// The definition of the command line, for completions.
fn definition() -> clap::Command {
    <Line as clap::CommandFactory>::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_holds() {
        definition().debug_assert();
    }

    #[test]
    fn commands_stand_in_order() {
        let names: Vec<String> = definition().get_subcommands().map(|command| command.get_name().to_owned()).collect();
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn what_went_wrong_is_one_line_whatever_the_names_hold() {
        let mut complaints = Vec::new();
        let line = ["kumite", "inspect", "a\nb\x1b.o"].map(OsString::from);
        let exit = main(line, &mut Vec::new(), &mut complaints);
        let text = String::from_utf8(complaints).expect("text");
        assert_eq!(exit, Exit::HostFailed);
        assert!(text.starts_with("kumite: a\\nb\\u{1b}.o: cannot read it: ") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut complaints = Vec::new();
        let exit = main(["kumite", "helpers"].map(OsString::from), &mut Gone, &mut complaints);
        assert_eq!((exit, complaints.as_slice()), (Exit::Done, &b""[..]));
    }

    #[test]
    fn a_full_disk_is_an_error_of_the_machine() {
        let error = CliError::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(error.exit, Exit::HostFailed);
        assert_eq!(error.text, "output: no storage space; write to another place");
    }
}
