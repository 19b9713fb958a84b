//! `kumite vm-plugin`: the plugin that the bpf_conformance suite runs.
//!
//! Invariant: writes r0 and nothing else, or one line of complaint.

use std::io::Read;

use super::{CliError, Exit, Out};
use crate::limits::PROGRAM_SLOTS_MAX;
use crate::vm::{Mode, vm_plugin};

/// Run a program from standard input over a piece of memory and print r0 (bpf_conformance's plugin protocol)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The memory, in hexadecimal
    memory: Option<String>,
    /// How to run it
    #[arg(long, default_value = "fast")]
    mode: Mode,
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    // Two digits a byte, and as much white space.
    let text_len_max = 4 * 8 * PROGRAM_SLOTS_MAX as u64;
    let mut program = String::new();
    let read = std::io::stdin().lock().take(text_len_max).read_to_string(&mut program);
    read.map_err(|error| CliError::refused(format!("program: {error}; write it in hexadecimal to standard input")))?;
    let r0 = vm_plugin(args.memory.as_deref(), &program, args.mode).map_err(CliError::refused)?;
    writeln!(out, "{r0:x}")?;
    Ok(Exit::Done)
}
