//! `kumite mode`: how programs of a running host run.
//!
//! Invariant: when the command ends, every worker runs the program in its new mode.

use hyper::Method;
use serde_json::json;

use super::asking::{typed, write_json};
use super::{Api, CliError, Exit, Form, Out};
use crate::control::Client;
use crate::control::view::ProgramView;
use crate::vm::Mode;

/// Show or change how programs run: fast, instrumented, verify
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// [PROGRAM|id:NUMBER|all] MODE; without MODE, that of the program is shown, or those of all
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
        [] => return show(programs(&client)?, &args.form, out),
        [word] if word.parse::<Mode>().is_err() => {
            let mut programs = programs(&client)?;
            programs.retain(|program| program.name == *word || format!("id:{}", program.id) == *word);
            if programs.is_empty() {
                let mend = "say fast, instrumented or verify, or a program of kumite prog list";
                return Err(CliError::usage(format!("mode {word:?}: neither a mode nor a program; {mend}")));
            }
            return show(programs, &args.form, out);
        }
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

fn programs(client: &Client) -> Result<Vec<ProgramView>, CliError> {
    typed(client, client.get("/v1/programs")?)
}

fn show(programs: Vec<ProgramView>, form: &Form, out: Out<'_>) -> Result<Exit, CliError> {
    if form.json {
        // Of programs of one name, the newest has the name, as in commands.
        let mut modes = serde_json::Map::new();
        for program in programs {
            let (name, id, mode) = (program.name, program.id, program.mode);
            if let Some(older) = modes.insert(name.clone(), json!({ "id": id, "mode": mode })) {
                modes.insert(format!("id:{}", older["id"]), older);
            }
        }
        let modes = modes.into_iter().map(|(name, program)| (name, program["mode"].clone()));
        write_json(out, &modes.collect())?;
        return Ok(Exit::Done);
    }
    for program in programs {
        writeln!(out, "{}: {}", program.name, program.mode)?;
    }
    Ok(Exit::Done)
}
