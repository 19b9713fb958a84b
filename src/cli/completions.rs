//! `kumite completions`: completions for a shell.
//!
//! Invariant: made from the definition of the command line, so that they say what it takes.

use super::{CliError, Exit, Out};

/// Write completions for a shell
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    // Into memory first: the generator does not report failed output.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::definition(), "kumite", &mut text);
    out.write_all(&text)?;
    Ok(Exit::Done)
}
