//! What it costs to enter a program: the empty one, whole and in parts.

use std::hint::black_box;

use kumite::limits::FUEL_DEFAULT;
use kumite::vm::Mode;
use serde_json::{Value, json};

use crate::arguments::Care;
use crate::bench::Lane;
use crate::clock::{self, median};
use crate::engine::Absent;
use crate::machine::{Bench, Machine};

/// Nanoseconds a run of the empty program in fast mode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The judge asked, the run made ready before: what its row says.
    pub(crate) whole_ns: f64,
    /// Of that, the run made ready.
    pub(crate) reset_ns: f64,
    /// With bounds and context written as well: what a turn does before the verdict.
    pub(crate) turn_ns: f64,
}

/// Times the three, round by round.
pub(crate) fn measure(empty: &Lane, care: Care) -> Result<Entry, Absent> {
    const RUNS: u64 = 20_000;
    let (rounds, pieces) = match care {
        Care::Full => (15, 40),
        Care::Quick => (5, 8),
    };
    let mut machine = Machine::new(empty.row, &empty.instance, Mode::Fast)?;
    let mut bench = Bench::new(empty.row.frame())?;
    let mut times: [Vec<f64>; 3] = Default::default();
    machine.time_turns(RUNS);
    for _ in 0..rounds {
        let (reset, _) = clock::window(pieces, || {
            clock::sample(RUNS, || bench.in_bursts(RUNS, |bench| black_box(&mut bench.run).reset(FUEL_DEFAULT)))
        });
        let (whole, _) = clock::window(pieces, || clock::sample(RUNS, || machine.run(RUNS)));
        let (turn, _) = clock::window(pieces, || machine.time_turns(RUNS));
        times.iter_mut().zip([whole, reset, turn]).for_each(|(times, ns)| times.extend(ns));
    }
    let unsteady = || Absent::because("no window was steady");
    let [whole_ns, reset_ns, turn_ns] = times.map(|times| median(&times).ok_or_else(unsteady));
    Ok(Entry { whole_ns: whole_ns?, reset_ns: reset_ns?, turn_ns: turn_ns? })
}

impl Entry {
    pub(crate) fn print(&self) {
        println!(
            "\nEntry of the empty program in fast mode: {:.2} ns, of which {:.2} ns make the run ready; a turn, with bounds and \
             context: {:.2} ns",
            self.whole_ns, self.reset_ns, self.turn_ns
        );
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "whole_ns": self.whole_ns, "reset_ns": self.reset_ns, "turn_ns": self.turn_ns })
    }
}
