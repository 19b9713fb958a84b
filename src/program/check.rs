//! The whole-program form checks: what makes a [`Program`] of a [`RawProgram`].
//!
//! They are those of the kernel that need no data flow (`check_subprogs`, `resolve_pseudo_ldimm64` and the reserved-field
//! checks of `do_check` in `kernel/bpf/verifier.c`). Where ours differ is in the manual, under differences.
//!
//! Invariant: linear in the program's length but for sorting; no input makes it panic.

use std::collections::BTreeMap;

use super::{Function, Program, RawProgram, Rejection};
use crate::isa::{self, Does, Insn, Reg, Support};
use crate::limits::{FUNCTIONS_MAX, PROGRAM_SLOTS_MAX};
use crate::verdict::ProgramKind;

impl Program {
    /// Checks that a program is well-formed, and finds its functions.
    ///
    /// # Errors
    /// The first [`Rejection`] found: of slots first, then of functions, then of jumps.
    pub fn check(raw: RawProgram, kind: ProgramKind) -> Result<Self, Rejection> {
        let RawProgram { name: program, section, slots, functions, mut lines } = raw;
        if slots.is_empty() {
            return Err(Rejection::Empty { program });
        }
        if slots.len() > PROGRAM_SLOTS_MAX {
            return Err(Rejection::TooLong { program, count: slots.len(), max: PROGRAM_SLOTS_MAX });
        }
        let insns = isa::decode(&slots).map_err(|error| Rejection::Form { program: program.clone(), error })?;
        for (pc, insn) in insns.iter().enumerate() {
            check_insn(&program, kind, pc, insn)?;
        }
        let functions = split(&program, &insns, functions)?;
        for function in &functions {
            check_function(&program, &insns, function)?;
        }
        lines.retain(|line| line.pc < insns.len());
        lines.sort_by_key(|line| line.pc);
        Ok(Self { name: program, section, kind, insns: insns.into(), functions: functions.into(), lines: lines.into() })
    }
}

/// What can be said of an instruction without looking at others.
fn check_insn(program: &str, kind: ProgramKind, pc: usize, insn: &Insn) -> Result<(), Rejection> {
    let program = || program.to_owned();
    let row = insn.row().expect("decoded instructions have a row");
    if let Support::Refused { because } = row.support {
        return Err(Rejection::Unsupported { program: program(), pc, name: row.name, because });
    }
    if insn.written() == Some(Reg::FP) {
        return Err(Rejection::WritesFramePointer { program: program(), pc });
    }
    if matches!(insn.does, Does::LoadPacket(..)) && kind == ProgramKind::Xdp {
        return Err(Rejection::PacketLoad { program: program(), pc, kind: kind.name() });
    }
    Ok(())
}

/// The program's functions: those it was said to have, and every target of a local call or code address.
fn split(program: &str, insns: &[Insn], named: Vec<Function>) -> Result<Vec<Function>, Rejection> {
    let program = || program.to_owned();
    let mut starts: BTreeMap<usize, Option<String>> = BTreeMap::from([(0, None)]);
    for Function { name, start, .. } in named {
        match insns.get(start) {
            Some(insn) if insn.does != Does::SecondSlot => {
                starts.entry(start).or_default().get_or_insert(name);
            }
            Some(_) | None => return Err(Rejection::FunctionStart { program: program(), function: name, start }),
        }
    }
    for (pc, insn) in insns.iter().enumerate() {
        let Some(target) = insn.function_target(pc) else {
            continue;
        };
        let Some((start, first)) = at(insns, target) else {
            return Err(Rejection::CallLeavesProgram { program: program(), pc, target, last: insns.len() - 1 });
        };
        if first.does == Does::SecondSlot {
            return Err(Rejection::CallIntoSecondSlot { program: program(), pc, target: start });
        }
        starts.entry(start).or_default();
    }
    if starts.len() > FUNCTIONS_MAX {
        return Err(Rejection::TooManyFunctions { program: program(), count: starts.len(), max: FUNCTIONS_MAX });
    }
    let ends: Vec<usize> = starts.keys().copied().skip(1).chain([insns.len()]).collect();
    let functions = starts.into_iter().zip(ends).map(|((start, name), end)| {
        let name = match (name, start) {
            (Some(name), _) => name,
            (None, 0) => program(),
            (None, _) => format!("sub_{start}"),
        };
        Function { name, start, end }
    });
    Ok(functions.collect())
}

/// Its jumps stay in it and land on instructions; it does not fall off its end.
fn check_function(program: &str, insns: &[Insn], function: &Function) -> Result<(), Rejection> {
    let program = || program.to_owned();
    for pc in function.start..function.end {
        let Some(target) = insns[pc].jump_target(pc) else {
            continue;
        };
        match at(insns, target) {
            Some((target, landing)) if (function.start..function.end).contains(&target) => {
                if landing.does == Does::SecondSlot {
                    return Err(Rejection::JumpIntoSecondSlot { program: program(), pc, target });
                }
            }
            Some(_) | None => {
                return Err(Rejection::JumpLeavesFunction {
                    program: program(),
                    pc,
                    target,
                    function: function.name.clone(),
                    start: function.start,
                    last: function.end - 1,
                });
            }
        }
    }
    let last = function.end - 1;
    if matches!(insns[last].does, Does::Exit | Does::Goto | Does::GotoLong) {
        return Ok(());
    }
    let pc = if insns[last].does == Does::SecondSlot { last - 1 } else { last };
    Err(Rejection::FallsOffEnd { program: program(), pc, function: function.name.clone() })
}

/// The instruction at a target, if the program reaches that far.
fn at(insns: &[Insn], target: i64) -> Option<(usize, &Insn)> {
    let pc = usize::try_from(target).ok()?;
    insns.get(pc).map(|insn| (pc, insn))
}
