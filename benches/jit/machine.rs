//! Kumite's three modes, entered as a worker does it for a burst of frames.
//!
//! What a row times is what a worker does for the program: the run made ready and the judge asked, under one pin a burst.
//! What it does for the frame (bounds, context) is the same for all programs and is timed apart.

use std::hint::black_box;
use std::sync::{Arc, OnceLock};

use kumite::cage::Region;
use kumite::flow::Judge;
use kumite::limits::{BURST_MAX, FUEL_DEFAULT, HEADROOM, RUN_CHUNK_LEN, STACK_LEN};
use kumite::maps::WorkerIndex;
use kumite::run::{Clock, Context, Run, Window, World};
use kumite::verdict::ProgramKind;
use kumite::vm::{Instance, Loaded, Mode};

use crate::clock::{self, Sample};
use crate::engine::{Absent, Answer, Engine};
use crate::rows::Row;

/// The world of all of them: runs borrow it to the end of the bench.
pub(crate) fn world() -> &'static Arc<World> {
    static WORLD: OnceLock<Arc<World>> = OnceLock::new();
    WORLD.get_or_init(|| {
        let world = World::new(1, Clock::Monotonic, Box::new(|_| {}));
        Arc::new(world.expect("there is address space for one cage"))
    })
}

/// Brings a row's object to life and fills its maps.
pub(crate) fn load(row: &Row, object: &kumite::elf::Object) -> Result<Instance, Absent> {
    let instance = Instance::load(world(), object).map_err(Absent::because)?;
    for element in (row.elements)() {
        let map =
            instance.map(element.map).ok_or_else(|| Absent::because(format!("no map is called {}", element.map)))?;
        map.host_update(&element.key, &element.value, 0).map_err(Absent::because)?;
    }
    Ok(instance)
}

/// A frame in the cage, with a worker's run on it.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) run: Run<'static>,
    window: Window,
    frame: Vec<u8>,
    _regions: [Region; 3],
}

impl Bench {
    pub(crate) fn new(frame: Vec<u8>) -> Result<Self, Absent> {
        let world = world();
        let region = |len: u32, what| world.cage.alloc(len.into(), what).map_err(Absent::because);
        let chunk = region(RUN_CHUNK_LEN, "the frame")?;
        let context = region(Context::LEN, "the context")?;
        let stack = world.cage.alloc_apart(STACK_LEN.into(), "the stack").map_err(Absent::because)?;
        let mut run = Run::new(world, WorkerIndex(0), ProgramKind::Xdp, stack.addr() + STACK_LEN);
        let len = u32::try_from(frame.len()).expect("short");
        let window = Window::new(chunk.addr(), RUN_CHUNK_LEN, HEADROOM, len);
        run.head.ctx = context.addr();
        Ok(Self { run, window, frame, _regions: [chunk, context, stack] })
    }

    /// Makes the run ready for the frame where it lies, as a turn does.
    pub(crate) fn aim(&mut self) {
        self.run.reset(FUEL_DEFAULT);
        self.run.window = self.window;
        Context::write(&mut self.run).expect("the context is guest memory");
    }

    /// Puts the frame back as it came in.
    pub(crate) fn place(&mut self) {
        world().cage.write(self.window.data.into(), &self.frame).expect("the chunk is guest memory");
        self.aim();
    }

    /// The frame as it is now.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; self.run.window.frame_len() as usize];
        world().cage.read(self.run.window.data.into(), &mut frame).expect("the chunk is guest memory");
        frame
    }

    /// Does something `runs` times, in bursts as a worker.
    pub(crate) fn in_bursts(&mut self, runs: u64, mut one: impl FnMut(&mut Self)) {
        let mut left = runs;
        while left > 0 {
            let burst = left.min(BURST_MAX as u64);
            self.run.begin_burst();
            (0..burst).for_each(|_| one(self));
            self.run.end_burst();
            left -= burst;
        }
    }
}

/// A program in one of the modes.
#[derive(Debug)]
pub(crate) struct Machine {
    judge: Arc<dyn Judge>,
    mode: Mode,
    bench: Bench,
    _instance: Arc<Instance>,
}

impl Machine {
    pub(crate) fn new(row: &Row, instance: &Arc<Instance>, mode: Mode) -> Result<Self, Absent> {
        let program = instance.expect_program(row.name).map_err(Absent::because)?;
        program.translated(mode).map_err(Absent::because)?;
        let judge: Arc<dyn Judge> = Arc::<Loaded>::clone(program);
        Ok(Self { judge, mode, bench: Bench::new(row.frame())?, _instance: Arc::clone(instance) })
    }

    /// Instructions of one run, in modes that count them.
    pub(crate) fn steps(&mut self) -> Option<u64> {
        self.bench.place();
        self.judge.judge(self.mode, &mut self.bench.run).insns
    }

    /// Runs it that often.
    pub(crate) fn run(&mut self, runs: u64) {
        let (judge, mode) = (&*self.judge, self.mode);
        self.bench.in_bursts(runs, |bench| {
            bench.run.reset(FUEL_DEFAULT);
            black_box(judge.judge(mode, &mut bench.run));
        });
    }

    /// The same with what a turn does for the frame.
    pub(crate) fn time_turns(&mut self, runs: u64) -> Sample {
        let (judge, mode, bench) = (&*self.judge, self.mode, &mut self.bench);
        clock::sample(runs, || {
            bench.in_bursts(runs, |bench| {
                bench.aim();
                black_box(judge.judge(mode, &mut bench.run));
            });
        })
    }
}

impl Engine for Machine {
    fn answer(&mut self) -> Result<Answer, Absent> {
        self.bench.place();
        let outcome = self.judge.judge(self.mode, &mut self.bench.run);
        if let Some(trap) = &outcome.trap {
            return Err(Absent::because(trap));
        }
        if let Some(finding) = self.bench.run.findings.first() {
            return Err(Absent::because(finding));
        }
        let value = u32::try_from(outcome.r0 & 0xffff_ffff).expect("masked");
        Ok(Answer { value, frame: self.bench.frame() })
    }

    fn time(&mut self, runs: u64) -> Sample {
        clock::sample(runs, || self.run(runs))
    }
}
