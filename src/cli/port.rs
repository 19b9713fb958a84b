//! `kumite port`: the ports of a running host.
//!
//! Invariant: when a change's command ends, every worker acts on it.

use hyper::Method;
use serde_json::json;

use super::asking::{typed, write_json};
use super::table::Table;
use super::{Api, CliError, Exit, Form, Out};
use crate::control::escape;
use crate::control::view::PortPlaceView;
use crate::port::PortSpec;

/// List, add and remove ports of a running host
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the ports
    List {
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
    /// Open a further port
    Add {
        /// Name of the port
        name: String,
        /// What it is: KIND:ADDRESS?OPTION=VALUE
        #[arg(value_name = "PORT")]
        spec: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
    /// Close a port that is not the wire; programs leave its hooks
    Remove {
        /// Name of the port
        name: String,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        form: Form,
    },
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let (answer, form, line) = match &args.action {
        Action::List { api, form } => return list(api, form, out),
        Action::Add { name, spec, api, form } => {
            let spec: PortSpec = spec.parse().map_err(CliError::usage)?;
            let wanted = json!({ "name": name, "port": spec.to_string() });
            let answer = api.client()?.send(&Method::POST, "/v1/ports", &wanted)?;
            let line = format!("{name}: {spec}, interface index {}", answer["ifindex"]);
            (answer, form, line)
        }
        Action::Remove { name, api, form } => {
            let path = format!("/v1/ports/{}", escape(name));
            let answer = api.client()?.call(&Method::DELETE, &path, Default::default())?;
            (answer, form, format!("{name}: removed"))
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
    let answer = client.get("/v1/ports")?;
    if form.json {
        write_json(out, &answer)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["index", "port", "workers", "is", "moved by"]);
    let ports: Vec<PortPlaceView> = typed(&client, answer)?;
    for port in ports {
        let path = if port.is_gone { "gone".to_owned() } else { port.path };
        table.row([port.ifindex.to_string(), port.port, port.drivers.to_string(), port.spec, path]);
    }
    table.write(out)?;
    Ok(Exit::Done)
}
