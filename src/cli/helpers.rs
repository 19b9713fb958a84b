//! `kumite helpers`: the helpers, kernel functions and map types that programs may use.
//!
//! Invariant: shows the lists that loading goes by, and no list of its own.

use serde_json::json;

use super::asking::write_json;
use super::table::Table;
use super::{CliError, Exit, Form, Out};
use crate::helpers::{HELPERS, Helper, KFUNCS, UNRESOLVED};
use crate::maps::MAP_TYPES;

/// List the helpers, kernel functions and map types that programs may use
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    form: Form,
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    if args.form.json {
        let helper = |helper: &&Helper| {
            let kinds: Vec<&str> = helper.kinds.iter().map(|kind| kind.name()).collect();
            json!({ "id": helper.id, "name": helper.name, "args": helper.args.len(), "cost": helper.cost, "kinds": kinds })
        };
        let map = |map: &&crate::maps::MapType| json!({ "id": map.kind.0, "name": map.kind.to_string() });
        let kfunc = |kfunc: &&Helper| {
            let kinds: Vec<&str> = kfunc.kinds.iter().map(|kind| kind.name()).collect();
            json!({ "name": kfunc.name, "args": kfunc.args.len(), "cost": kfunc.cost, "kinds": kinds })
        };
        let helpers: Vec<_> = HELPERS.iter().filter(|helper| helper.id != UNRESOLVED).map(helper).collect();
        let kfuncs: Vec<_> = KFUNCS.iter().map(kfunc).collect();
        let maps: Vec<_> = MAP_TYPES.iter().map(map).collect();
        write_json(out, &json!({ "helpers": helpers, "kernel_functions": kfuncs, "maps": maps }))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["id", "helper", "args", "cost", "programs"]);
    // What stands in for a function that a program does without is none.
    for helper in HELPERS.iter().filter(|helper| helper.id != UNRESOLVED) {
        let [name, args, cost, kinds] = cells(helper);
        table.row([helper.id.to_string(), name, args, cost, kinds]);
    }
    table.write(out)?;
    writeln!(out)?;
    let mut table = Table::new(&["kernel function", "args", "cost", "programs"]);
    for kfunc in KFUNCS {
        table.row(cells(kfunc));
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

/// Name, count of arguments, cost and programs.
fn cells(helper: &Helper) -> [String; 4] {
    let kinds: Vec<&str> = helper.kinds.iter().map(|kind| kind.name()).collect();
    [
        format!("bpf_{}", helper.name),
        helper.args.len().to_string(),
        helper.cost.to_string(),
        if kinds.is_empty() { "all".to_owned() } else { kinds.join(" ") },
    ]
}
