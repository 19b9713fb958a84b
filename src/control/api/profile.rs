//! The route to what instrumented mode counted.
//!
//! Invariant: reads counters while they count; stops no worker.

use std::collections::BTreeMap;

use hyper::Method;
use serde_json::{Value, json};

use super::Desk;
use crate::control::view::{HelperCallView, LineView, ProfileView, TailCallView};
use crate::control::{Body, Call, Refusal, Route};
use crate::helpers;
use crate::isa::Does;
use crate::program::Program;

pub(super) const PROFILE: Route<Desk> = Route {
    path: "/v1/programs/{program}/profile",
    method: Method::GET,
    what: "What instrumented mode counted: source lines, helper calls, tail calls.",
    body: Body::Json,
    answer: profile,
};

fn profile(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let loaded = desk.program(call.param("program"))?;
    let program = loaded.linked().program();
    let counts = loaded.counts().ok_or_else(|| Refusal::Conflict {
        place: format!("program {}", program.name()),
        what: "it is not translated, so nothing counts".to_owned(),
        mend: "see kumite prog list for the reason".to_owned(),
    })?;
    let insns = program.insns().iter().zip(&counts.executed).filter(|(insn, _)| insn.does != Does::SecondSlot);
    let helpers = counts.helpers.iter().map(|call| HelperCallView {
        pc: call.pc,
        helper: helpers::name_of(call.helper).unwrap_or_default().to_owned(),
        count: call.count,
    });
    let tail_calls = counts.tail_calls.iter().map(|call| TailCallView {
        pc: call.pc,
        taken: call.taken,
        fell_through: call.fell_through,
    });
    Ok(json!(ProfileView {
        program: program.name().to_owned(),
        insns: insns.clone().count(),
        insns_reached: insns.filter(|(_, count)| **count > 0).count(),
        runs: counts.executed.first().copied().unwrap_or(0),
        lines: lines(program, &counts.executed),
        helpers: helpers.collect(),
        tail_calls: tail_calls.collect(),
    }))
}

/// Source lines in order. Parts of a line are told apart by their column; where a part begins at several places, which is
/// where the compiler put copies of it, these add up, and the line's count is that of its most executed part.
fn lines(program: &Program, executed: &[u64]) -> Vec<LineView> {
    let mut parts: BTreeMap<(&str, u32, u32), u64> = BTreeMap::new();
    let mut found: BTreeMap<(&str, u32), (u64, &str)> = BTreeMap::new();
    let mut before = None;
    for line in program.lines() {
        let part = (&*line.file, line.line, line.column);
        let is_same = before.replace(part) == Some(part);
        let count = executed.get(line.pc).copied().unwrap_or(0);
        let sum = parts.entry(part).or_insert(0);
        // Two records in a row are one place.
        *sum += if is_same { 0 } else { count };
        let known = found.entry((&line.file, line.line)).or_insert((0, &line.text));
        known.0 = known.0.max(*sum);
    }
    let view = |((file, line), (count, text)): ((&str, u32), (u64, &str))| LineView {
        file: file.to_owned(),
        line,
        count,
        text: text.to_owned(),
    };
    found.into_iter().map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::assemble;
    use crate::program::{Line, RawProgram};
    use crate::verdict::ProgramKind;

    #[test]
    fn copies_of_a_line_add_up_and_its_parts_do_not() {
        let line = |pc, line, column| Line { pc, file: "main.c".into(), line, column, text: "".into() };
        // Line 7 was put in two places, the first of them in two pieces; line 8 has two parts that run one after the other.
        let lines = vec![line(0, 7, 1), line(1, 7, 1), line(2, 8, 1), line(3, 8, 5), line(4, 7, 1), line(5, 9, 1)];
        let slots = assemble(&("r0 = 0\n".repeat(5) + "exit")).expect("text of the test");
        let raw = RawProgram { name: "main".into(), slots, lines, ..RawProgram::default() };
        let program = Program::check(raw, ProgramKind::Xdp).expect("well-formed");
        let counted = lines_of(&program, &[10, 10, 10, 8, 5, 10]);
        assert_eq!(counted, [(7, 15), (8, 10), (9, 10)]);
    }

    fn lines_of(program: &Program, executed: &[u64]) -> Vec<(u32, u64)> {
        lines(program, executed).into_iter().map(|line| (line.line, line.count)).collect()
    }
}
