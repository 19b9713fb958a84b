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
        helper: helpers::by_id(call.helper).map_or("", |(_, helper)| helper.name).to_owned(),
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
