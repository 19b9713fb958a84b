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

mod object_file;

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
    Disasm disasm,
    Inspect inspect,
    Run run,
}

/// A virtual machine server for BPF network programs.
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
    let result = match Line::try_parse_from(args) {
        Ok(line) => line.command.execute(out),
        Err(error) => Err(CliError::usage(error.render())),
    };
    match result {
        Ok(exit) => exit,
        Err(error) => {
            if !error.text.is_empty() {
                // Nobody is left to tell where this fails too.
                let _ = writeln!(complaints, "kumite: {}", error.text);
            }
            error.exit
        }
    }
}
