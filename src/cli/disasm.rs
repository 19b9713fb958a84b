//! `kumite disasm`: the programs of an object as text.
//!
//! Invariant: brings no program to life; what it prints of a program, the assembler reads back.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::asking::write_json;
use super::{CliError, Exit, Form, Out, object_file};
use crate::elf::Object;
use crate::helpers;
use crate::isa::Does;
use crate::program::{Named, Names, Program, disassemble_with};

/// Print the programs of an object, with source lines and the names of helpers and maps
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Object file, or - for standard input
    object: PathBuf,
    #[command(flatten)]
    said: object_file::Said,
    /// Only this program
    #[arg(long, value_name = "NAME")]
    prog: Option<String>,
    #[command(flatten)]
    form: Form,
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let object = object_file::read(&args.object, &args.said)?;
    let maps: Vec<&str> = object.maps.iter().map(|map| map.def.name.as_str()).collect();
    let names = Names { helper: Some(|id| helpers::by_id(id).map(|(_, helper)| helper.name)), maps: &maps };
    let chosen = args.prog.as_ref().map(|name| object.expect_program(name).map_err(CliError::refused)).transpose()?;
    if object.programs.is_empty() && object.refused.is_empty() {
        let mend = "functions are programs where their section is executable and not .text";
        return Err(CliError::refused(format!("{}: it has no programs; {mend}", object.name)));
    }
    let is_whole = chosen.is_none() && !object.refused.is_empty();
    let exit = if is_whole { Exit::Refused } else { Exit::Done };
    if args.form.json {
        write_json(out, &as_json(&object, chosen.map(AsRef::as_ref), names))?;
        return Ok(exit);
    }
    if let Some(program) = chosen {
        write!(out, "{}", disassemble_with(program, names))?;
        return Ok(exit);
    }
    for (index, program) in object.programs.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        writeln!(out, "; program {} in section {} ({})", program.name(), program.section(), program.kind().name())?;
        write!(out, "{}", disassemble_with(program, names))?;
    }
    for refused in &object.refused {
        writeln!(out, "; refused: {}", refused.reason)?;
    }
    Ok(exit)
}

fn as_json(object: &Object, chosen: Option<&Program>, names: Names<'_>) -> Value {
    let all = object.programs.iter().map(AsRef::as_ref);
    let programs = all.filter(|program: &&Program| chosen.is_none_or(|chosen| std::ptr::eq(*program, chosen)));
    let refused = object.refused.iter().filter(|_| chosen.is_none());
    json!({
        "object": object.name,
        "programs": programs.map(|program| program_json(program, names)).collect::<Vec<_>>(),
        "refused": refused
            .map(|refused| json!({ "name": refused.name, "section": refused.section, "reason": refused.reason.to_string() }))
            .collect::<Vec<_>>(),
    })
}

fn program_json(program: &Program, names: Names<'_>) -> Value {
    let functions = program.functions().iter();
    let insns = program.insns().iter().enumerate().filter(|(_, insn)| insn.does != Does::SecondSlot);
    let insns = insns.map(|(pc, insn)| {
        let mut told = json!({ "pc": pc, "text": insn.at(pc).to_string() });
        match names.named(program, pc, insn) {
            Some(Named::Function(name)) => told["function"] = name.into(),
            Some(Named::Helper(name)) => told["helper"] = name.into(),
            Some(Named::Kfunc(name)) => told["kernel_function"] = name.into(),
            Some(Named::Map(name)) => told["map"] = name.into(),
            None => {}
        }
        if let Some(line) = program.line_at(pc) {
            told["source"] = json!({ "file": &*line.file, "line": line.line, "text": line.text.trim() });
        }
        told
    });
    json!({
        "name": program.name(),
        "section": program.section(),
        "kind": program.kind().name(),
        "functions": functions
            .map(|function| json!({ "name": function.name, "start": function.start, "end": function.end }))
            .collect::<Vec<_>>(),
        "insns": insns.collect::<Vec<_>>(),
    })
}
