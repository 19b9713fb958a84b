//! `kumite disasm`: the programs of an object as text.

use std::path::PathBuf;

use super::{CliError, Exit, Out, object_file};
use crate::program::disassemble;

/// Print the programs of an object, with source lines
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Object file
    object: PathBuf,
    /// Only this program
    #[arg(long, value_name = "NAME")]
    prog: Option<String>,
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let object = object_file::read(&args.object)?;
    if let Some(name) = &args.prog {
        let program = object.expect_program(name).map_err(CliError::refused)?;
        write!(out, "{}", disassemble(program))?;
        return Ok(Exit::Done);
    }
    for (index, program) in object.programs.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        writeln!(out, "; program {} in section {} ({})", program.name(), program.section(), program.kind().name())?;
        write!(out, "{}", disassemble(program))?;
    }
    for refused in &object.refused {
        writeln!(out, "; refused: {}", refused.reason)?;
    }
    Ok(if object.refused.is_empty() { Exit::Done } else { Exit::Refused })
}
