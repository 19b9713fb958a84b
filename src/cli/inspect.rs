//! `kumite inspect`: what an object holds, and whether it would be brought to life.
//!
//! Invariant: runs no program; says of a refused one what `run` says.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::asking::write_json;
use super::table::counted;
use super::{CliError, Exit, Form, Out, object_file};
use crate::elf::btf::Kind;
use crate::elf::{Object, ObjectMap, Pinning, Variable};
use crate::flow::Hook;
use crate::helpers;
use crate::program::{Feature, Program};
use crate::report::{RunError, try_load};
use crate::verdict::ProgramKind;
use crate::vm::{Instance, Mode};

/// List the programs, maps and variables of an object, and say what run and host would refuse; exit code 1 where no program loads
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Object file, or - for standard input
    object: PathBuf,
    #[command(flatten)]
    said: object_file::Said,
    #[command(flatten)]
    form: Form,
}

/// What becomes of an object that is brought to life.
struct Trial {
    /// Why the object as a whole is refused.
    refused: Option<String>,
    instance: Option<Instance>,
}

impl Trial {
    fn new(object: &Object) -> Result<Self, CliError> {
        match try_load(object) {
            Ok(instance) => Ok(Self { refused: None, instance: Some(instance) }),
            Err(RunError::Cage(error)) => Err(CliError::host_failed(error)),
            Err(error) => Ok(Self { refused: Some(error.to_string()), instance: None }),
        }
    }

    /// Why a program is refused, in the words of `run`; `None` where it runs.
    fn refusal(&self, name: &str) -> Option<String> {
        let program = self.instance.as_ref()?.expect_program(name);
        program.err().map(|error| error.to_string())
    }

    /// Why a program has no code and is interpreted in every mode.
    fn interpreted(&self, name: &str) -> Option<String> {
        self.instance.as_ref()?.program(name)?.translated(Mode::Fast).err().map(ToString::to_string)
    }

    /// Why a host attaches it nowhere; `None` where it has a hook.
    fn hookless(program: &Program) -> Option<String> {
        let (kind, hook) = (program.kind(), Hook::Xdp);
        let has = format!("hosts have no hook but {hook} yet");
        (kind != ProgramKind::Xdp).then(|| format!("{has}; use kumite run or diff for {} programs", kind.name()))
    }

    fn exit(&self) -> Exit {
        let loads = self.instance.as_ref().is_some_and(|instance| !instance.programs().is_empty());
        if loads { Exit::Done } else { Exit::Refused }
    }
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let object = object_file::read(&args.object, &args.said)?;
    let trial = Trial::new(&object)?;
    if args.form.json {
        write_json(out, &as_json(&object, &trial))?;
        return Ok(trial.exit());
    }
    writeln!(out, "{}: license {}", object.name, object.license.as_deref().unwrap_or("none"))?;
    for program in &object.programs {
        write!(
            out,
            "program {} ({}, section {}): {}, {}, {}",
            program.name(),
            program.kind().name(),
            program.section(),
            counted(program.insns().len() as u64, "slot"),
            counted(program.functions().len() as u64, "function"),
            counted(program.lines().len() as u64, "source line"),
        )?;
        match (trial.refusal(program.name()), trial.interpreted(program.name())) {
            (Some(why), _) => writeln!(out, "; refused: {why}")?,
            (None, Some(why)) => writeln!(out, "; interpreted in every mode: {why}")?,
            (None, None) => writeln!(out)?,
        }
        write_needs(program, out)?;
        if let Some(why) = Trial::hookless(program) {
            writeln!(out, "  host: {why}")?;
        }
    }
    for refused in &object.refused {
        writeln!(out, "program {} (section {}): refused: {}", refused.name, refused.section, refused.reason)?;
    }
    for map in &object.maps {
        write_map(object_types(&object, map), map, out)?;
        for Variable { name, type_text, len } in object.variables(map) {
            writeln!(out, "  variable {name}: {type_text}, {}", counted(len.into(), "byte"))?;
        }
    }
    for map in &object.refused_maps {
        writeln!(out, "map {} ({}): refused: the type is not supported", map.def.name, map.def.kind)?;
    }
    match &trial.refused {
        Some(why) => writeln!(out, "the object is refused: {why}")?,
        None if trial.exit() == Exit::Refused => writeln!(out, "no program of the object loads")?,
        None => {}
    }
    Ok(trial.exit())
}

/// Helpers of a program by name, or by number where kumite has none.
fn helper_names(program: &Program) -> Vec<String> {
    let called = program.helpers().into_iter().filter(|id| *id != helpers::UNRESOLVED);
    let missing = |id| helpers::kernel_name(id).map_or(format!("{id} (missing)"), |name| format!("{name} (missing)"));
    let name = |id| helpers::by_id(id).map_or_else(|| missing(id), |(_, helper)| helper.name.to_owned());
    called.map(name).collect()
}

/// Kernel functions of a program, with a word beside those that kumite lacks.
fn kfunc_names(program: &Program) -> Vec<String> {
    let is_there = |name: &str| helpers::kfunc_by_name(name).is_some();
    let name = |name: &str| if is_there(name) { name.to_owned() } else { format!("{name} (missing)") };
    program.kfuncs().iter().map(|kfunc| name(&kfunc.name)).collect()
}

fn feature_names(program: &Program) -> Vec<&'static str> {
    let mut names: Vec<&str> = program.features().into_iter().map(Feature::name).collect();
    if !program.unresolved().is_empty() {
        names.push("unresolved CO-RE");
    }
    names
}

/// What a program needs, a line a kind of thing.
fn write_needs(program: &Program, out: Out<'_>) -> Result<(), CliError> {
    let (helpers, features) = (helper_names(program), feature_names(program));
    if !helpers.is_empty() {
        writeln!(out, "  helpers: {}", helpers.join(", "))?;
    }
    if !program.kfuncs().is_empty() {
        writeln!(out, "  kernel functions: {}", kfunc_names(program).join(", "))?;
    }
    if !features.is_empty() {
        writeln!(out, "  features: {}", features.join(", "))?;
    }
    for unresolved in program.unresolved() {
        let line = program.line_at(unresolved.pc).map(|line| format!(" ({}:{})", line.file, line.line));
        let line = line.unwrap_or_default();
        writeln!(out, "  insn {}{line}: traps when it is reached: no {}", unresolved.pc, unresolved.what)?;
    }
    Ok(())
}

/// The types of a map's keys and values as C writes them; none for variables, which are listed with theirs.
fn object_types(object: &Object, map: &ObjectMap) -> [Option<String>; 2] {
    let btf = object.btf.as_ref();
    [map.key_type, map.value_type].map(|id| {
        let (btf, id) = btf.zip(id)?;
        (!matches!(btf.kind(id), Kind::DataSec { .. })).then(|| btf.type_text(id))
    })
}

fn write_map([key, value]: [Option<String>; 2], map: &ObjectMap, out: Out<'_>) -> Result<(), CliError> {
    let named = |name: Option<String>| name.map(|name| format!(" ({name})")).unwrap_or_default();
    let def = &map.def;
    write!(
        out,
        "map {} ({}): key {}{}, value {}{}, {}, flags {:#x}",
        def.name,
        def.kind,
        counted(def.key_len.into(), "byte"),
        named(key),
        counted(def.value_len.into(), "byte"),
        named(value),
        if def.max_entries == 1 { "1 entry".to_owned() } else { format!("{} entries", def.max_entries) },
        def.flags
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

fn as_json(object: &Object, trial: &Trial) -> Value {
    let program = |program: &Program| {
        json!({
            "name": program.name(),
            "kind": program.kind().name(),
            "section": program.section(),
            "slots": program.insns().len(),
            "functions": program.functions().iter().map(|function| &function.name).collect::<Vec<_>>(),
            "lines": program.lines().len(),
            "helpers": helper_names(program),
            "kernel_functions": program.kfuncs().iter().map(|kfunc| &kfunc.name).collect::<Vec<_>>(),
            "features": feature_names(program),
            "unresolved": program
                .unresolved()
                .iter()
                .map(|unresolved| json!({"insn": unresolved.pc, "what": unresolved.what.as_ref()}))
                .collect::<Vec<_>>(),
            "refused": trial.refusal(program.name()),
            "host_refuses": trial.refusal(program.name()).or_else(|| Trial::hookless(program)),
            "interpreted": trial.interpreted(program.name()),
        })
    };
    let map = |map: &ObjectMap| {
        let entries = map.slots.iter().chain(&map.inner_maps);
        let [key_type, value_type] = object_types(object, map);
        json!({
            "name": map.def.name,
            "type": map.def.kind.to_string(),
            "key_len": map.def.key_len,
            "value_len": map.def.value_len,
            "key_type": key_type,
            "value_type": value_type,
            "max_entries": map.def.max_entries,
            "flags": map.def.flags,
            "frozen": map.frozen,
            "pinned": map.pinning == Pinning::ByName,
            "variables": object
                .variables(map)
                .into_iter()
                .map(|Variable { name, type_text, len }| json!({"name": name, "type": type_text, "len": len}))
                .collect::<Vec<_>>(),
            "entries": entries.map(|(index, name)| json!({"index": index, "name": name})).collect::<Vec<_>>(),
        })
    };
    let refused = object.refused.iter();
    json!({
        "object": object.name,
        "object_refused": trial.refused,
        "license": object.license,
        "programs": object.programs.iter().map(|found| program(found)).collect::<Vec<_>>(),
        "refused": refused
            .map(|refused| json!({"name": refused.name, "section": refused.section, "reason": refused.reason.to_string()}))
            .collect::<Vec<_>>(),
        "maps": object.maps.iter().map(map).collect::<Vec<_>>(),
        "refused_maps": object.refused_maps.iter().map(map).collect::<Vec<_>>(),
    })
}
