//! The goals of code quality, each with its figure.

use serde_json::{Value, json};

use crate::engine::Column;
use crate::entry::Entry;
use crate::loads::Loads;
use crate::table::Table;
use crate::translation::PerInsn;

/// Code that may lie about after many loads, in KiB: none.
const CODE_LEFT_MAX: f64 = 0.0;

/// A goal and where we are.
#[derive(Debug)]
pub(crate) struct Goal {
    what: &'static str,
    /// At most this.
    most: f64,
    figure: Option<f64>,
    /// More of the figure.
    note: String,
}

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Measurements<'a> {
    pub(crate) table: &'a Table,
    pub(crate) entry: Option<Entry>,
    pub(crate) per_insn: Option<PerInsn>,
    pub(crate) loads: Option<Loads>,
}

pub(crate) fn goals(measured: &Measurements<'_>) -> Vec<Goal> {
    let table = measured.table;
    let goal = |what, most, figure| Goal { what, most, figure, note: String::new() };
    // Over those rows that both columns have.
    let mean = |what, most, column, to| {
        let (count, all) = table.mean_count(column, to);
        let note = if count < all { format!("over {count} of {all} rows") } else { String::new() };
        Goal { what, most, figure: table.mean(column, to), note }
    };
    let to_kernel = |row: &str| table.row(row)?.ratio(Column::Fast, Column::Kernel);
    let worst = table.worst(Column::Fast, Column::Kernel);
    let chain = table.row("tail_calls").and_then(|row| row.net_ns(Column::Fast));
    let parse = table.row("parse").and_then(|row| row.ratio(Column::Fast, Column::Native));
    // A step of the interpreters, over the rows that both have.
    let steps = table.rows.iter().filter_map(|row| Some((row, row.steps?)));
    let steps = steps.filter_map(|(row, steps)| {
        let a_step = |column| Some(row.net_ns(column)? / crate::clock::float(steps));
        Some((a_step(Column::Verify)?, a_step(Column::RbpfInterpreter)?))
    });
    let (ours, theirs): (Vec<f64>, Vec<f64>) = steps.unzip();
    let [ours, theirs] = [ours, theirs].map(|steps| crate::clock::geometric_mean(&steps));
    let step = ours.zip(theirs);
    let left = measured.loads.map(|loads| {
        crate::clock::float(loads.after.code_resident.saturating_sub(loads.before.code_resident))
            + crate::clock::float(loads.after.code_size.saturating_sub(loads.before.code_size))
    });
    vec![
        mean("fast to kernel, geometric mean", 0.80, Column::Fast, Column::Kernel),
        Goal {
            note: worst.map(|(row, _)| row.to_owned()).unwrap_or_default(),
            ..goal("fast to kernel, worst row", 1.1, worst.map(|(_, ratio)| ratio))
        },
        Goal {
            note: measured.entry.map(|entry| format!("reset {:.2} of it", entry.reset_ns)).unwrap_or_default(),
            ..goal("entry, ns", 2.5, measured.entry.map(|entry| entry.whole_ns))
        },
        goal("array map to kernel", 0.48, to_kernel("array_map")),
        goal("hash map to kernel", 0.55, to_kernel("hash_map")),
        goal("load balancer to kernel", 0.65, to_kernel("balancer")),
        goal("parse to native", 1.25, parse),
        mean("cage and fuel over neither, geometric mean", 1.12, Column::Fast, Column::Bare),
        goal("33 tail calls, ns", 75.0, chain),
        Goal {
            note: measured.per_insn.map(|per| format!("both modes {:.2}", per.loaded_us)).unwrap_or_default(),
            ..goal("translation, us an instruction", 3.0, measured.per_insn.map(|per| per.fast_us))
        },
        Goal {
            note: "linked for the interpreter".to_owned(),
            ..goal("to a first runnable form, us an instruction", 1.5, measured.per_insn.map(|per| per.linked_us))
        },
        Goal {
            note: measured.loads.map(|loads| format!("after {} loads", loads.count)).unwrap_or_default(),
            ..goal("code memory left over, KiB", CODE_LEFT_MAX, left)
        },
        mean("instrumented to fast, geometric mean", 1.5, Column::Instrumented, Column::Fast),
        Goal {
            note: step.map(|(ours, theirs)| format!("{ours:.2} ns and {theirs:.2} ns")).unwrap_or_default(),
            ..goal("verify to rbpf's interpreter, a step", 2.0, step.map(|(ours, theirs)| ours / theirs))
        },
    ]
}

pub(crate) fn print(goals: &[Goal]) {
    println!("\nGoals:");
    for goal in goals {
        let note = if goal.note.is_empty() { String::new() } else { format!(" ({})", goal.note) };
        match goal.figure {
            Some(figure) => {
                let word = if figure <= goal.most { "met" } else { "not met" };
                println!("{:<46}{figure:>8.2}  <= {:<6}{word}{note}", goal.what, goal.most);
            }
            None => println!("{:<46}{:>8}  <= {:<6}not measured", goal.what, "-", goal.most),
        }
    }
}

pub(crate) fn json(goals: &[Goal]) -> Value {
    let goal = |goal: &Goal| {
        let met = goal.figure.map(|figure| figure <= goal.most);
        json!({ "goal": goal.what, "at_most": goal.most, "figure": goal.figure, "met": met, "note": goal.note })
    };
    goals.iter().map(goal).collect()
}
