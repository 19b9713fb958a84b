//! The kernel's translator, by `BPF_PROG_TEST_RUN` with many repetitions.
//!
//! The kernel says what a run took in whole nanoseconds, cut off. What the thread had of a processor during the call says
//! where in that nanosecond it was; it is believed no further.

use kumite::kernel::{KernelObject, LinkedSlot, TestInput, TestOutput};

use crate::build::Built;
use crate::clock::{self, Sample, Steady, float};
use crate::engine::{Absent, Answer, Engine, Grain};
use crate::rows::Row;

/// A program in the kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    object: KernelObject,
    frame: Vec<u8>,
    /// What a call costs beside its runs: the least that was seen, in nanoseconds of the thread.
    call_ns: f64,
}

impl Kernel {
    pub(crate) fn new(row: &Row, built: &Built) -> Result<Self, Absent> {
        let object = &built.object;
        let program = object.program(row.name).ok_or_else(|| Absent::because("the program was refused"))?;
        let slots: Vec<LinkedSlot> = object
            .maps
            .iter()
            .enumerate()
            .flat_map(|(index, map)| map.slots.iter().map(move |(slot, name)| (index, *slot, name.clone())))
            .map(|(map, slot, program)| LinkedSlot { map, slot, program })
            .collect();
        let loaded = KernelObject::load(object, program, &slots).map_err(Absent::because)?;
        for element in (row.elements)() {
            let index = object.maps.iter().position(|map| map.def.name == element.map);
            let index = index.ok_or_else(|| Absent::because(format!("no map is called {}", element.map)))?;
            loaded.maps()[index].update(&element.key, &element.value, 0).map_err(Absent::because)?;
        }
        let mut kernel = Self { object: loaded, frame: row.frame(), call_ns: f64::INFINITY };
        for _ in 0..3 {
            let before = clock::thread_ns();
            kernel.run(2)?;
            kernel.call_ns = kernel.call_ns.min(clock::thread_ns() - before);
        }
        Ok(kernel)
    }

    fn run(&self, repeat: u32) -> Result<TestOutput, Absent> {
        let input = TestInput { packet: &self.frame, ctx: &[], repeat };
        self.object.program().test_run(&input).map_err(Absent::because)
    }
}

impl Engine for Kernel {
    fn answer(&mut self) -> Result<Answer, Absent> {
        let output = self.run(1)?;
        Ok(Answer { value: output.retval, frame: output.packet })
    }

    fn grain(&self) -> Grain {
        Grain::Whole
    }

    fn time(&mut self, runs: u64) -> Sample {
        // One run alone is not timed by a loop.
        let repeat = u32::try_from(runs).unwrap_or(u32::MAX).max(2);
        let before = clock::thread_ns();
        let output = self.run(repeat).expect("it ran before");
        let thread_ns = clock::thread_ns() - before - self.call_ns;
        let whole = f64::from(output.mean_ns);
        let runs = float(repeat.into());
        let finer = thread_ns / runs;
        Sample { ns: finer.clamp(whole, whole + 1.0), steady: Steady::of((whole + 0.5) * runs, thread_ns) }
    }
}
