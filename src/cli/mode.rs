//! `kumite mode`: how programs of a running host run.

use hyper::Method;
use serde_json::json;

use super::asking::{typed, write_json};
use super::{Api, CliError, Exit, Form, Out};
use crate::control::view::ProgramView;
use crate::vm::Mode;

/// Show or change how programs run: fast, instrumented, verify
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// [PROGRAM|id:NUMBER|all] MODE; without words, the modes are shown
    #[arg(value_name = "WORD", num_args = 0..=2)]
    words: Vec<String>,
    #[command(flatten)]
    api: Api,
    #[command(flatten)]
    form: Form,
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let client = args.api.client()?;
    let (program, mode) = match args.words.as_slice() {
        [] => return show(&client, args.form.json, out),
        [mode] => ("all", mode),
        [program, mode, ..] => (program.as_str(), mode),
    };
    let mode: Mode = mode.parse().map_err(CliError::usage)?;
    let answer = client.send(&Method::PUT, "/v1/modes", &json!({ "program": program, "mode": mode.name() }))?;
    if args.form.json {
        write_json(out, &answer)?;
    } else {
        writeln!(out, "{program}: {mode}")?;
    }
    Ok(Exit::Done)
}

fn show(client: &crate::control::Client, json: bool, out: Out<'_>) -> Result<Exit, CliError> {
    let answer = client.get("/v1/programs")?;
    let programs: Vec<ProgramView> = typed(client, answer)?;
    if json {
        let modes: serde_json::Map<_, _> =
            programs.into_iter().map(|program| (program.name, program.mode.into())).collect();
        write_json(out, &modes.into())?;
        return Ok(Exit::Done);
    }
    for program in programs {
        writeln!(out, "{}: {}", program.name, program.mode)?;
    }
    Ok(Exit::Done)
}
