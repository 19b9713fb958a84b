//! What it takes to bring a program to code.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use kumite::isa::Does;
use kumite::vm::jit::{Native, NoHooks};
use kumite::vm::{Instance, Linked, Loaded};
use serde_json::{Value, json};

use crate::bench::Lane;
use crate::clock::{float, median};
use crate::machine;

/// Times that each program is translated.
const TIMES: usize = 7;

/// Microseconds of one row's programs together.
#[derive(Debug)]
pub(crate) struct Translation {
    row: &'static str,
    /// Instructions, without the second halves of two-slot loads.
    insns: u64,
    /// To fast mode's code.
    fast_us: f64,
    /// To all that a load makes: both modes of generated code.
    loaded_us: f64,
    /// To what the interpreter runs: the first form that can.
    linked_us: f64,
    /// Bytes of fast mode's code.
    code_len: usize,
}

fn us(what: impl Fn()) -> f64 {
    let times: Vec<f64> = (0..TIMES)
        .map(|_| {
            let began = Instant::now();
            what();
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    median(&times).expect("some times")
}

/// Links a program of an instance once more.
fn link(instance: &Instance, loaded: &Loaded) -> Linked {
    let program = Arc::clone(loaded.linked().program());
    Linked::link(program, Arc::clone(machine::world()), instance.maps().to_vec().into()).expect("it was linked before")
}

/// Translates a row's programs again and again.
pub(crate) fn of(lane: &Lane) -> Translation {
    let instance = &lane.instance;
    let mut sum =
        Translation { row: lane.row.name, insns: 0, fast_us: 0.0, loaded_us: 0.0, linked_us: 0.0, code_len: 0 };
    for loaded in instance.programs() {
        let linked = loaded.linked();
        sum.insns += linked.insns().iter().filter(|insn| insn.does != Does::SecondSlot).count() as u64;
        sum.code_len += Native::<NoHooks>::translate(linked).map_or(0, |native| native.code_len());
        sum.fast_us += us(|| drop(black_box(Native::<NoHooks>::translate(linked))));
        sum.loaded_us += us(|| drop(black_box(Loaded::new(Arc::clone(linked)))));
        sum.linked_us += us(|| drop(black_box(link(instance, loaded))));
    }
    sum
}

/// Microseconds an instruction over all rows: fast mode, a whole load, linked alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerInsn {
    pub(crate) fast_us: f64,
    pub(crate) loaded_us: f64,
    pub(crate) linked_us: f64,
}

pub(crate) fn per_insn(all: &[Translation]) -> Option<PerInsn> {
    let insns: u64 = all.iter().map(|row| row.insns).sum();
    let per = |us: fn(&Translation) -> f64| all.iter().map(us).sum::<f64>() / float(insns);
    (insns > 0).then(|| PerInsn {
        fast_us: per(|row| row.fast_us),
        loaded_us: per(|row| row.loaded_us),
        linked_us: per(|row| row.linked_us),
    })
}

pub(crate) fn print(all: &[Translation]) {
    println!("\nTranslation, microseconds (an instruction in parentheses):");
    println!("{:<16}{:>8}{:>18}{:>18}{:>18}{:>10}", "", "insns", "fast", "whole load", "linked", "code");
    for row in all {
        let each = |us: f64| format!("{us:.0} ({:.2})", us / float(row.insns));
        let (fast, loaded, linked) = (each(row.fast_us), each(row.loaded_us), each(row.linked_us));
        println!("{:<16}{:>8}{fast:>18}{loaded:>18}{linked:>18}{:>10}", row.row, row.insns, row.code_len);
    }
}

pub(crate) fn json(all: &[Translation]) -> Value {
    let rows = all.iter().map(|row| {
        json!({
            "row": row.row,
            "insns": row.insns,
            "fast_us": row.fast_us,
            "loaded_us": row.loaded_us,
            "linked_us": row.linked_us,
            "code_len": row.code_len,
        })
    });
    rows.collect()
}
