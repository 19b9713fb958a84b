//! `kumite inspect`: what an object holds.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{CliError, Exit, Out, object_file};
use crate::elf::{Object, ObjectMap, Pinning};
use crate::program::Program;

/// List the programs and maps of an object
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Object file
    object: PathBuf,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let object = object_file::read(&args.object)?;
    if args.json {
        writeln!(out, "{:#}", as_json(&object))?;
        return Ok(Exit::Done);
    }
    writeln!(out, "{}: license {}", object.name, object.license.as_deref().unwrap_or("none"))?;
    for program in &object.programs {
        let functions = program.functions().len();
        writeln!(
            out,
            "program {} ({}, section {}): {} slots, {functions} {}, {} source lines",
            program.name(),
            program.kind().name(),
            program.section(),
            program.insns().len(),
            if functions == 1 { "function" } else { "functions" },
            program.lines().len(),
        )?;
    }
    for refused in &object.refused {
        writeln!(out, "program {} (section {}): refused: {}", refused.name, refused.section, refused.reason)?;
    }
    for map in &object.maps {
        write_map(map, out)?;
    }
    Ok(Exit::Done)
}

fn write_map(map: &ObjectMap, out: Out<'_>) -> Result<(), CliError> {
    let def = &map.def;
    write!(
        out,
        "map {} ({}): key {} bytes, value {} bytes, {} entries, flags {:#x}",
        def.name, def.kind, def.key_len, def.value_len, def.max_entries, def.flags
    )?;
    if map.frozen {
        write!(out, ", read-only")?;
    }
    if map.pinning == Pinning::ByName {
        write!(out, ", shared by name")?;
    }
    if let Some(inner) = &map.def.inner {
        write!(out, ", inner maps {}", inner.kind)?;
    }
    writeln!(out)?;
    for (index, name) in map.slots.iter().chain(&map.inner_maps) {
        writeln!(out, "  {index}: {name}")?;
    }
    Ok(())
}

fn as_json(object: &Object) -> Value {
    let program = |program: &Program| {
        json!({
            "name": program.name(),
            "kind": program.kind().name(),
            "section": program.section(),
            "slots": program.insns().len(),
            "functions": program.functions().iter().map(|function| &function.name).collect::<Vec<_>>(),
            "lines": program.lines().len(),
        })
    };
    let map = |map: &ObjectMap| {
        let entries = map.slots.iter().chain(&map.inner_maps);
        json!({
            "name": map.def.name,
            "type": map.def.kind.to_string(),
            "key_len": map.def.key_len,
            "value_len": map.def.value_len,
            "max_entries": map.def.max_entries,
            "flags": map.def.flags,
            "frozen": map.frozen,
            "pinned": map.pinning == Pinning::ByName,
            "entries": entries.map(|(index, name)| json!({"index": index, "name": name})).collect::<Vec<_>>(),
        })
    };
    let refused = object.refused.iter();
    json!({
        "object": object.name,
        "license": object.license,
        "programs": object.programs.iter().map(|found| program(found)).collect::<Vec<_>>(),
        "refused": refused
            .map(|refused| json!({"name": refused.name, "section": refused.section, "reason": refused.reason.to_string()}))
            .collect::<Vec<_>>(),
        "maps": object.maps.iter().map(map).collect::<Vec<_>>(),
    })
}
