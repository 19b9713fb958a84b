//! A row on all engines: checked to do the same, then timed in rounds that go from engine to engine.

use std::sync::Arc;

#[cfg(feature = "unguarded")]
use kumite::vm::jit::unguarded::{Bare, Unfueled, Unmasked};
use kumite::vm::{Instance, Mode};

use crate::arguments::Care;
use crate::build::Built;
use crate::clock::{float, median, runs_in, window};
use crate::engine::{Absent, Answer, Column, Engine, Grain};
use crate::kernel_engine::Kernel;
use crate::machine::{self, Machine};
use crate::native::Native;
use crate::probe;
use crate::rbpf_engines::{Rbpf, Way};
use crate::rows::Row;
#[cfg(feature = "unguarded")]
use crate::unguarded::Unguarded;

/// A piece of a window: shorter than the scheduler's slice, long beside what it takes to read a clock.
const PIECE_NS: f64 = 1e6;

/// An engine, or why there is none.
type Place = Result<Box<dyn Engine>, Absent>;

/// A row on all engines.
pub(crate) struct Lane {
    pub(crate) row: &'static Row,
    pub(crate) instance: Arc<Instance>,
    pub(crate) engines: Vec<(Column, Place)>,
}

impl Lane {
    pub(crate) fn new(row: &'static Row, built: Built) -> Result<Self, Absent> {
        let instance = Arc::new(machine::load(row, &built.object)?);
        let engines = Column::ALL.map(|column| (column, engine(column, row, &built, &instance)));
        Ok(Self { row, instance, engines: engines.into() })
    }

    /// Runs every engine on a fresh frame, twice, as what maps hold may make a difference. A peer that is wrong is not timed.
    ///
    /// # Panics
    /// If two of the others differ: nothing is timed then.
    pub(crate) fn check(&mut self) {
        let name = self.row.name;
        let mut first: Option<(Column, Answer)> = None;
        for (column, engine) in &mut self.engines {
            if column.is_peer()
                && let Ok(running) = engine
                && let Err(why) = probe::survives(&mut **running)
            {
                *engine = Err(why);
            }
            for _ in 0..2 {
                let Ok(running) = engine else { break };
                let difference = match (running.answer(), &first) {
                    (Err(why), _) => why.to_string(),
                    (Ok(answer), None) => {
                        first = Some((*column, answer));
                        continue;
                    }
                    (Ok(answer), Some((_, expected))) if answer == *expected => continue,
                    (Ok(answer), Some((other, expected))) if answer.value == expected.value => {
                        format!("leaves another frame than {}", other.name())
                    }
                    (Ok(answer), Some((other, expected))) => {
                        format!("answers {:#x}, {} {:#x}", answer.value, other.name(), expected.value)
                    }
                };
                assert!(column.is_peer(), "{name}: {}: {difference}", column.name());
                *engine = Err(Absent(difference));
            }
        }
    }

    fn engine(&mut self, column: Column) -> Option<&mut Box<dyn Engine>> {
        let found = self.engines.iter_mut().find(|(own, _)| *own == column);
        found.and_then(|(_, engine)| engine.as_mut().ok())
    }
}

fn engine(column: Column, row: &Row, built: &Built, instance: &Arc<Instance>) -> Place {
    Ok(match column {
        Column::Kernel => Box::new(Kernel::new(row, built)?),
        Column::Fast => Box::new(Machine::new(row, instance, Mode::Fast)?),
        Column::Instrumented => Box::new(Machine::new(row, instance, Mode::Instrumented)?),
        Column::Verify => Box::new(Machine::new(row, instance, Mode::Verify)?),
        #[cfg(feature = "unguarded")]
        Column::Unfueled => Box::new(Unguarded::<Unfueled>::new(row, instance)?),
        #[cfg(feature = "unguarded")]
        Column::Unmasked => Box::new(Unguarded::<Unmasked>::new(row, instance)?),
        #[cfg(feature = "unguarded")]
        Column::Bare => Box::new(Unguarded::<Bare>::new(row, instance)?),
        #[cfg(not(feature = "unguarded"))]
        Column::Unfueled | Column::Unmasked | Column::Bare => {
            return Err(Absent::because("bench with `--features unguarded`"));
        }
        Column::RbpfJit => Box::new(Rbpf::new(row, built, Way::Jit)?),
        Column::RbpfCranelift => Box::new(Rbpf::new(row, built, Way::Cranelift)?),
        Column::RbpfInterpreter => Box::new(Rbpf::new(row, built, Way::Interpreter)?),
        Column::Native => Box::new(Native::new(row, built.native)?),
        Column::Scalar => Box::new(Native::new(row, built.scalar)?),
    })
}

/// What was measured of a program on an engine, in nanoseconds a run.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// The median.
    pub(crate) ns: f64,
    /// The median of what is left when the empty program of the same round is taken off.
    pub(crate) net_ns: f64,
    /// The least.
    pub(crate) least_ns: f64,
    /// Rounds that count.
    pub(crate) rounds: usize,
    /// Pieces of windows that did not: wall and thread clock disagreed.
    pub(crate) discarded: usize,
}

/// How long is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    rounds: usize,
    window_ns: f64,
    /// Of the empty program.
    beside_ns: f64,
}

impl Effort {
    pub(crate) fn of(care: Care) -> Self {
        match care {
            Care::Full => Self { rounds: 9, window_ns: 25e6, beside_ns: 8e6 },
            Care::Quick => Self { rounds: 5, window_ns: 6e6, beside_ns: 2e6 },
        }
    }
}

/// How an engine fills a window.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Runs of a piece.
    runs: u64,
    pieces: usize,
}

impl Pace {
    /// Found by making a piece longer and longer.
    fn find(engine: &mut dyn Engine, window_ns: f64) -> Self {
        let (piece_ns, pieces) = match engine.grain() {
            Grain::Pieces => (PIECE_NS, runs_in(window_ns, PIECE_NS)),
            Grain::Whole => (window_ns, 1),
        };
        let mut runs = 64;
        loop {
            let ns = engine.time(runs).ns;
            if ns * float(runs) >= piece_ns / 20.0 {
                let pieces = usize::try_from(pieces).expect("few");
                return Self { runs: runs_in(piece_ns, ns), pieces };
            }
            runs *= 4;
        }
    }

    /// What a run takes; `None` where nothing was steady.
    fn window(self, engine: &mut dyn Engine, discarded: &mut usize) -> Option<f64> {
        let (ns, unsteady) = window(self.pieces, || engine.time(self.runs));
        *discarded += unsteady;
        ns
    }
}

/// Times every engine of a row; `empty` is the lane of the empty program.
pub(crate) fn measure(lane: &mut Lane, empty: &mut Lane, effort: Effort) -> Vec<(Column, Result<Cell, Absent>)> {
    struct Course {
        column: Column,
        pace: Pace,
        beside: Pace,
        pairs: Vec<(f64, f64)>,
        discarded: usize,
    }
    let mut courses = Vec::new();
    for column in Column::ALL {
        let Some(engine) = lane.engine(column) else { continue };
        let pace = Pace::find(&mut **engine, effort.window_ns);
        let Some(engine) = empty.engine(column) else { continue };
        let beside = Pace::find(&mut **engine, effort.beside_ns);
        courses.push(Course { column, pace, beside, pairs: Vec::new(), discarded: 0 });
    }
    for round in 0..effort.rounds {
        // Another one begins each time, so that none always follows the same.
        let count = courses.len().max(1);
        courses.rotate_left(round % count);
        for course in &mut courses {
            let Some(engine) = lane.engine(course.column) else { continue };
            let Some(ns) = course.pace.window(&mut **engine, &mut course.discarded) else { continue };
            let Some(engine) = empty.engine(course.column) else { continue };
            let Some(beside) = course.beside.window(&mut **engine, &mut course.discarded) else { continue };
            course.pairs.push((ns, beside));
        }
    }
    let cell = |column: Column, missing: Option<&Absent>| {
        if let Some(why) = missing {
            return Err(why.clone());
        }
        let course = courses.iter().find(|course| course.column == column);
        let course = course.ok_or_else(|| Absent::because("there is no empty program to take off"))?;
        let all: Vec<f64> = course.pairs.iter().map(|(ns, _)| *ns).collect();
        let net: Vec<f64> = course.pairs.iter().map(|(ns, beside)| ns - beside).collect();
        let none = || Absent::because("no window was steady; measure on a quieter machine");
        Ok(Cell {
            ns: median(&all).ok_or_else(none)?,
            net_ns: median(&net).ok_or_else(none)?,
            least_ns: all.iter().copied().fold(f64::INFINITY, f64::min),
            rounds: all.len(),
            discarded: course.discarded,
        })
    };
    lane.engines.iter().map(|(column, engine)| (*column, cell(*column, engine.as_ref().err()))).collect()
}
