//! `kumite prog`: programs of a running host.
//!
//! Invariant: what it shows has a number, which tells it from others of its name.

use std::path::PathBuf;

use hyper::Method;
use serde_json::json;

use super::asking::{typed, write_json};
use super::table::{Table, counted, grouped};
use super::{Api, CliError, Exit, Form, Out, object_file};
use crate::control::escape;
use crate::control::view::{ObjectView, ProfileView, ProgramView};
use crate::flow::Hook;
use crate::limits::OBJECT_LEN_MAX;

/// List, load, attach and detach programs of a running host
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the programs
    List {
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
    /// Show what instrumented mode counted in a program: source lines, helper calls, tail calls
    Profile {
        /// Name of the program, OBJECT/PROGRAM, or id:NUMBER
        program: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
    /// Load an object file
    Load {
        /// The file, as clang made it
        object: PathBuf,
        #[command(flatten)]
        said: object_file::Said,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
    /// Unload an object none of whose programs is on a hook
    Unload {
        /// Name of the object, or id:NUMBER, as kumite prog list shows them
        object: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
    /// Put a program on a hook; it takes the place of the one there
    Attach {
        /// Name of the program, OBJECT/PROGRAM, or id:NUMBER
        program: String,
        /// Name of the hook
        hook: Hook,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
    /// Take the program off a hook: frames pass
    Detach {
        /// Name of the hook
        hook: Hook,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    match &args.action {
        Action::List { api, form } => list(api, form, out),
        Action::Profile { program, api, form } => profile(program, api, form, out),
        Action::Load { object, said, api, form } => load(object, said, api, form, out),
        Action::Unload { object, api, form } => {
            let path = format!("/v1/objects/{}", escape(object));
            let answer = api.client()?.call(&Method::DELETE, &path, Default::default())?;
            if form.json {
                write_json(out, &answer)?
            } else {
                writeln!(out, "{object}: unloaded")?
            }
            Ok(Exit::Done)
        }
        Action::Attach { program, hook, api, form } => {
            let path = format!("/v1/hooks/{hook}");
            let answer = api.client()?.send(&Method::PUT, &path, &json!({ "program": program }))?;
            if form.json {
                write_json(out, &answer)?
            } else {
                writeln!(out, "{hook}: {program}")?
            }
            Ok(Exit::Done)
        }
        Action::Detach { hook, api, form } => {
            let answer = api.client()?.call(&Method::DELETE, &format!("/v1/hooks/{hook}"), Default::default())?;
            if form.json {
                write_json(out, &answer)?
            } else {
                writeln!(out, "{hook}: empty")?
            }
            Ok(Exit::Done)
        }
    }
}

fn list(api: &Api, form: &Form, out: Out<'_>) -> Result<Exit, CliError> {
    let client = api.client()?;
    let answer = client.get("/v1/programs")?;
    if form.json {
        write_json(out, &answer)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["id", "program", "object", "kind", "slots", "mode", "hook"]);
    let programs: Vec<ProgramView> = typed(&client, answer)?;
    let mut notes = Vec::new();
    for program in programs {
        notes.extend(program.interpreted.map(|why| format!("interpreted in every mode: {why}")));
        table.row([
            program.id.to_string(),
            program.name,
            object_named(&program.object, program.object_id),
            program.kind,
            grouped(program.slots as u64),
            program.mode,
            program.hook.unwrap_or_default(),
        ]);
    }
    table.write(out)?;
    for note in notes {
        writeln!(out, "{note}")?;
    }
    Ok(Exit::Done)
}

fn profile(program: &str, api: &Api, form: &Form, out: Out<'_>) -> Result<Exit, CliError> {
    let client = api.client()?;
    let answer = client.get(&format!("/v1/programs/{}/profile", escape(program)))?;
    if form.json {
        write_json(out, &answer)?;
        return Ok(Exit::Done);
    }
    let profile: ProfileView = typed(&client, answer)?;
    let (reached, insns) = (profile.insns_reached, profile.insns);
    writeln!(out, "{}: {}, {reached} of {insns} instructions reached", profile.program, counted(profile.runs, "run"))?;
    if profile.runs == 0 {
        writeln!(out, "nothing is counted yet; let it run with kumite mode instrumented")?;
    }
    let mut file = "";
    for line in &profile.lines {
        if line.file != file {
            file = &line.file;
            writeln!(out, "\n{file}")?;
        }
        writeln!(out, "{:>14} {:>5}  {}", grouped(line.count), line.line, line.text)?;
    }
    if !profile.helpers.is_empty() || !profile.tail_calls.is_empty() {
        writeln!(out)?;
    }
    for call in &profile.helpers {
        writeln!(out, "insn {}: {} called {}", call.pc, call.helper, counted(call.count, "time"))?;
    }
    for call in &profile.tail_calls {
        let (taken, missed) = (counted(call.taken, "time"), counted(call.fell_through, "time"));
        writeln!(out, "insn {}: tail call taken {taken}, fell through {missed}", call.pc)?;
    }
    Ok(Exit::Done)
}

fn load(
    object: &std::path::Path,
    said: &object_file::Said,
    api: &Api,
    form: &Form,
    out: Out<'_>,
) -> Result<Exit, CliError> {
    let bytes = object_file::bytes(object, OBJECT_LEN_MAX)?;
    let name = object.file_name().unwrap_or_default().to_string_lossy();
    let client = api.client()?;
    let answer =
        client.call(&Method::POST, &format!("/v1/objects?name={}{}", escape(&name), said.query()?), bytes.into())?;
    if form.json {
        write_json(out, &answer)?;
        return Ok(Exit::Done);
    }
    let loaded: ObjectView = typed(&client, answer)?;
    let object = object_named(&loaded.object, loaded.id);
    writeln!(out, "{object}: programs {}; maps {}", or_none(&loaded.programs), or_none(&loaded.maps))?;
    for refused in loaded.refused {
        writeln!(out, "refused {}: {}", refused.name, refused.why)?;
    }
    Ok(Exit::Done)
}

/// An object with its number, which tells it from others of its name.
pub(super) fn object_named(name: &str, id: u32) -> String {
    format!("{name} (id:{id})")
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
