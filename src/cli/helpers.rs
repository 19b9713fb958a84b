//! `kumite helpers`: the helpers and map types that programs may use.
//!
//! Invariant: shows the lists that loading goes by, and no list of its own.

use serde_json::json;

use super::asking::write_json;
use super::table::Table;
use super::{CliError, Exit, Form, Out};
use crate::helpers::HELPERS;
use crate::maps::MAP_TYPES;

/// List the helpers and map types that programs may use
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    form: Form,
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    if args.form.json {
        let helper = |helper: &&crate::helpers::Helper| {
            let kinds: Vec<&str> = helper.kinds.iter().map(|kind| kind.name()).collect();
            json!({ "id": helper.id, "name": helper.name, "args": helper.args.len(), "cost": helper.cost, "kinds": kinds })
        };
        let map = |map: &&crate::maps::MapType| json!({ "id": map.kind.0, "name": map.kind.to_string() });
        let helpers: Vec<_> = HELPERS.iter().map(helper).collect();
        let maps: Vec<_> = MAP_TYPES.iter().map(map).collect();
        write_json(out, &json!({ "helpers": helpers, "maps": maps }))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["id", "helper", "args", "cost", "programs"]);
    for helper in HELPERS {
        let kinds: Vec<&str> = helper.kinds.iter().map(|kind| kind.name()).collect();
        table.row([
            helper.id.to_string(),
            format!("bpf_{}", helper.name),
            helper.args.len().to_string(),
            helper.cost.to_string(),
            if kinds.is_empty() { "all".to_owned() } else { kinds.join(" ") },
        ]);
    }
    table.write(out)?;
    writeln!(out)?;
    let mut table = Table::new(&["id", "map type"]);
    for map in MAP_TYPES {
        table.row([map.kind.0.to_string(), map.kind.to_string()]);
    }
    table.write(out)?;
    Ok(Exit::Done)
}
