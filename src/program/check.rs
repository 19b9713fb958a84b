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
        let RawProgram { name: program, section, slots, functions, mut lines, mut unresolved, kfuncs } = raw;
        if slots.is_empty() {
            return Err(Rejection::Empty { program });
        }
        if slots.len() > PROGRAM_SLOTS_MAX {
            return Err(Rejection::TooLong { program, count: slots.len(), max: PROGRAM_SLOTS_MAX });
        }
        let insns = isa::decode(&slots).map_err(|error| Rejection::Form { program: program.clone(), error })?;
        for (pc, insn) in insns.iter().enumerate() {
            check_insn(&program, kind, pc, insn, kfuncs.len())?;
        }
        let functions = split(&program, &insns, functions)?;
        for function in &functions {
            check_function(&program, &insns, function)?;
        }
        lines.retain(|line| line.pc < insns.len());
        lines.sort_by_key(|line| line.pc);
        unresolved.retain(|unresolved| unresolved.pc < insns.len());
        unresolved.sort_by_key(|unresolved| unresolved.pc);
        Ok(Self {
            name: program,
            section,
            kind,
            insns: insns.into(),
            functions: functions.into(),
            lines: lines.into(),
            unresolved: unresolved.into(),
            kfuncs: kfuncs.into(),
        })
    }
}

/// What can be said of an instruction without looking at others.
fn check_insn(program: &str, kind: ProgramKind, pc: usize, insn: &Insn, kfunc_count: usize) -> Result<(), Rejection> {
    let program = || program.to_owned();
    let row = insn.row().expect("decoded instructions have a row");
    // By number the kernel's functions mean nothing; what the loader has put into the program's list has a name.
    let names_kfunc = matches!(insn.does, Does::CallKfunc | Does::LoadVarAddr)
        && usize::try_from(insn.imm).is_ok_and(|index| index < kfunc_count);
    if let Support::Refused { because } = row.support
        && !names_kfunc
    {
        return Err(Rejection::Unsupported { program: program(), pc, name: row.name, because });
    }
    if insn.written() == Some(Reg::FP) {
        return Err(Rejection::WritesFramePointer { program: program(), pc });
    }
    if matches!(insn.does, Does::LoadPacket(..)) && matches!(kind, ProgramKind::Xdp | ProgramKind::FlowDissector) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::assemble;

    fn raw(text: &str) -> RawProgram {
        let slots = assemble(text).unwrap_or_else(|error| panic!("{error}"));
        RawProgram { name: "xdp_main".into(), slots, ..RawProgram::default() }
    }

    fn accepted(text: &str) -> Program {
        Program::check(raw(text), ProgramKind::Xdp).unwrap_or_else(|rejection| panic!("{rejection}"))
    }

    fn refused(raw: RawProgram) -> String {
        Program::check(raw, ProgramKind::Xdp).expect_err("a program that is not well-formed").to_string()
    }

    fn refusal(text: &str) -> String {
        refused(raw(text))
    }

    #[test]
    fn a_program_without_instructions_is_refused() {
        assert_eq!(refusal(""), "xdp_main: it has no instruction; end it with `exit` at least");
    }

    #[test]
    fn a_program_beyond_the_limit_is_refused() {
        let slots = vec![[0x95, 0, 0, 0, 0, 0, 0, 0]; PROGRAM_SLOTS_MAX + 1];
        assert_eq!(
            refused(RawProgram { name: "xdp_main".into(), slots, ..RawProgram::default() }),
            "xdp_main: 1000001 slots are more than 1000000; split it with tail calls"
        );
    }

    #[test]
    fn a_slot_that_is_no_instruction_is_named() {
        let mut raw = raw("r0 = 0\nexit");
        raw.slots[0][1] = 0x10;
        assert_eq!(refused(raw), "xdp_main insn 0: mov_imm has src 1 where only 0 is allowed; rebuild the object");
    }

    #[test]
    fn instructions_that_kumite_does_not_run_are_errors_not_panics() {
        assert_eq!(
            refusal("r1 = addr_space_cast(r2, 0, 1)\nexit"),
            "xdp_main insn 0: addr_space_cast is not supported: there are no arenas here; rebuild the object without it"
        );
        for row in isa::ROWS.iter().filter(|row| row.support != Support::Runs) {
            let insn = Insn { does: row.does, dst: Reg::R0, src: Reg::R0, off: 0, imm: 0 };
            let mut insns = vec![insn];
            if insn.does.is_wide() {
                insns.push(Insn { does: Does::SecondSlot, ..insn });
            }
            let raw = RawProgram { slots: isa::encode(&insns), ..RawProgram::default() };
            let rejection = Program::check(raw, ProgramKind::Xdp).expect_err("a refused instruction");
            assert!(matches!(rejection, Rejection::Unsupported { pc: 0, .. }), "{}: {rejection}", row.name);
        }
    }

    #[test]
    fn legacy_packet_loads_are_for_hooks_that_have_them() {
        let text = "r0 = *(u8 *)skb[14]\nexit";
        assert_eq!(
            refusal(text),
            "xdp_main insn 0: xdp programs have no legacy packet loads; read the packet through the context"
        );
        assert!(Program::check(raw(text), ProgramKind::SocketFilter).is_ok());
        assert!(Program::check(raw(text), ProgramKind::Tc).is_ok());
    }

    #[test]
    fn nothing_writes_the_frame_pointer() {
        let texts = [
            "r10 += 8",
            "r10 = r1",
            "w10 = -w10",
            "r10 = 5 ll",
            "r10 = *(u64 *)(r1 + 0)",
            "r10 = load_acquire((u64 *)(r1 + 0))",
            "r10 = atomic_fetch_add((u64 *)(r1 + 0), r10)",
            "w10 = xchg32_32(r1 + 0, w10)",
        ];
        for text in texts {
            assert_eq!(
                refusal(&format!("{text}\nexit")),
                "xdp_main insn 0: the frame pointer r10 is read-only; copy it to another register first",
                "{text}"
            );
        }
        accepted("*(u64 *)(r10 - 8) = r10\nlock *(u64 *)(r10 - 8) += r10\nexit");
    }

    #[test]
    fn jumps_stay_in_the_program() {
        assert_eq!(
            refusal("goto -2\nexit"),
            "xdp_main insn 0: jump to -1 leaves xdp_main (0 to 1); rebuild the object"
        );
        assert_eq!(
            refusal("if r1 == 0 goto +1\nexit"),
            "xdp_main insn 0: jump to 2 leaves xdp_main (0 to 1); rebuild the object"
        );
        assert_eq!(
            refusal("gotol +2147483647\nexit"),
            "xdp_main insn 0: jump to 2147483648 leaves xdp_main (0 to 1); rebuild the object"
        );
        accepted("goto -1");
    }

    #[test]
    fn jumps_do_not_enter_another_function() {
        assert_eq!(
            refusal("call sub\nmay_goto sub\nexit\nsub: exit"),
            "xdp_main insn 1: jump to 3 leaves xdp_main (0 to 2); rebuild the object"
        );
        assert_eq!(
            refusal("main: call sub\nexit\nsub: goto main"),
            "xdp_main insn 2: jump to 0 leaves sub_2 (2 to 2); rebuild the object"
        );
    }

    #[test]
    fn jumps_and_calls_into_a_two_slot_load_are_refused() {
        assert_eq!(
            refusal("goto +1\nr1 = 5 ll\nexit"),
            "xdp_main insn 0: jump lands inside a two-slot load at 2; rebuild the object"
        );
        let mut inside = raw("call sub\nexit\nr1 = 5 ll\nsub: exit");
        inside.slots[0][4] = 2;
        assert_eq!(refused(inside), "xdp_main insn 0: call lands inside a two-slot load at 3; rebuild the object");
    }

    #[test]
    fn calls_stay_in_the_program() {
        for (text, target, last) in [("call -5", -4, 1), ("call +1", 2, 1), ("r1 = code_addr(+7)", 8, 2)] {
            assert_eq!(
                refusal(&format!("{text}\nexit")),
                format!(
                    "xdp_main insn 0: call of {target} leaves the program (0 to {last}); link the object's functions"
                )
            );
        }
    }

    #[test]
    fn no_function_falls_off_its_end() {
        assert_eq!(
            refusal("exit\nr0 = 0"),
            "xdp_main insn 1: xdp_main falls off its end; end it with `exit` or `goto`"
        );
        assert_eq!(
            refusal("call sub\nif r0 == 0 goto -2\nsub: exit"),
            "xdp_main insn 1: xdp_main falls off its end; end it with `exit` or `goto`"
        );
        assert_eq!(refusal("r1 = 5 ll"), "xdp_main insn 0: xdp_main falls off its end; end it with `exit` or `goto`");
    }

    #[test]
    fn functions_are_found_by_calls_and_named_by_the_object() {
        let mut text = raw("call one\nr2 = code_addr(two)\nexit\none: exit\ntwo: exit");
        text.functions = vec![
            Function { name: "first".into(), start: 4, end: 0 },
            Function { name: "alias".into(), start: 4, end: 0 },
        ];
        let program = Program::check(text, ProgramKind::Xdp).expect("three functions");
        let functions: Vec<_> =
            program.functions().iter().map(|function| (function.name.as_str(), function.start, function.end)).collect();
        assert_eq!(functions, [("xdp_main", 0, 4), ("first", 4, 5), ("sub_5", 5, 6)]);
        assert_eq!(program.function_at(3).map(|function| function.name.as_str()), Some("xdp_main"));
    }

    #[test]
    fn a_function_that_begins_where_nothing_does_is_refused() {
        for start in [1, 3, usize::MAX] {
            let mut text = raw("r1 = 5 ll\nexit");
            text.functions = vec![Function { name: "odd".into(), start, end: 0 }];
            assert_eq!(
                refused(text),
                format!(
                    "xdp_main: function odd is said to begin at {start}, where no instruction does; rebuild the object"
                )
            );
        }
    }

    #[test]
    fn too_many_functions_are_refused() {
        let text: String = (0..256).map(|_| "call +255\n").chain((0..256).map(|_| "exit\n")).collect();
        assert_eq!(
            refusal(&format!("{text}exit")),
            "xdp_main: 257 functions are more than 256; inline some, or split it with tail calls"
        );
    }

    #[test]
    fn lines_are_sorted_and_those_outside_are_dropped() {
        let line = |pc, line| super::super::Line { pc, file: "a.c".into(), line, column: 0, text: "".into() };
        let mut text = raw("r0 = 0\nexit");
        text.lines = vec![line(9, 3), line(1, 2), line(0, 1)];
        let program = Program::check(text, ProgramKind::Xdp).expect("two instructions");
        assert_eq!(program.lines().iter().map(|line| line.line).collect::<Vec<_>>(), [1, 2]);
    }
}
