//! `kumite hook`: who judges frames where, and in which order.
//!
//! Invariant: when a change's command ends, every worker acts on it.

use hyper::Method;
use serde_json::json;

use super::asking::{typed, write_json};
use super::table::Table;
use super::{Api, CliError, Exit, Form, Out};
use crate::control::escape;
use crate::control::view::HookView;
use crate::flow::{Actions, Hook, Place, WIRE_PORT};

/// List the hooks of a running host's ports, and put programs on them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the hooks and the programs on them, in the order in which they run
    List {
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
    /// Put a program on a hook, beside those that are there
    Attach {
        /// Name of the program, OBJECT/PROGRAM, or id:NUMBER
        program: String,
        /// xdp, tc-ingress or tc-egress
        hook: Hook,
        /// Port that the hook belongs to
        #[arg(long, value_name = "NAME", default_value = WIRE_PORT)]
        port: String,
        /// Lower ones run first
        #[arg(long, value_name = "N", default_value_t = 50)]
        priority: u32,
        /// On xdp: verdicts after which the next program runs, as pass,drop or none
        #[arg(long, value_name = "VERDICTS", default_value_t)]
        actions: Actions,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
    /// Take a program, or all, off a hook
    Detach {
        /// xdp, tc-ingress or tc-egress
        hook: Hook,
        /// Name of the program, OBJECT/PROGRAM, or id:NUMBER; without it all go
        program: Option<String>,
        /// Port that the hook belongs to
        #[arg(long, value_name = "NAME", default_value = WIRE_PORT)]
        port: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let (answer, form, line) = match &args.action {
        Action::List { api, form } => return list(api, form, out),
        Action::Attach { program, hook, port, priority, actions, api, form } => {
            let wanted =
                json!({ "program": program, "port": port, "priority": priority, "actions": actions.to_string() });
            let answer = api.client()?.send(&Method::POST, &format!("/v1/hooks/{hook}"), &wanted)?;
            (answer, form, format!("{}: {program}, priority {priority}", Place::new(port, *hook)))
        }
        Action::Detach { hook, program, port, api, form } => {
            let mut path = format!("/v1/hooks/{hook}?port={}", escape(port));
            if let Some(program) = program {
                path.push_str(&format!("&program={}", escape(program)));
            }
            let answer = api.client()?.call(&Method::DELETE, &path, Default::default())?;
            let what = program.as_deref().map_or("empty".to_owned(), |program| format!("without {program}"));
            (answer, form, format!("{}: {what}", Place::new(port, *hook)))
        }
    };
    if form.json {
        write_json(out, &answer)?;
    } else {
        writeln!(out, "{line}")?;
    }
    Ok(Exit::Done)
}

fn list(api: &Api, form: &Form, out: Out<'_>) -> Result<Exit, CliError> {
    let client = api.client()?;
    let answer = client.get("/v1/hooks")?;
    if form.json {
        write_json(out, &answer)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["port", "hook", "priority", "program", "goes on after"]);
    let hooks: Vec<HookView> = typed(&client, answer)?;
    for hook in hooks {
        if hook.programs.is_empty() {
            table.row([hook.port.clone(), hook.hook.clone(), String::new(), String::new(), String::new()]);
        }
        for program in hook.programs {
            let named = format!("{} (id:{})", program.program, program.id);
            let actions = program.actions.unwrap_or_else(|| "unspec, pipe".to_owned());
            table.row([hook.port.clone(), hook.hook.clone(), program.priority.to_string(), named, actions]);
        }
    }
    table.write(out)?;
    Ok(Exit::Done)
}
