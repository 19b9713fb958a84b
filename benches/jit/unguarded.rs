//! Fast mode without parts of its safety: what cage and fuel cost is the difference.

use std::hint::black_box;
use std::sync::Arc;

use kumite::limits::FUEL_DEFAULT;
use kumite::vm::Instance;
use kumite::vm::jit::{Native, unguarded};

use crate::clock::{self, Sample};
use crate::engine::{Absent, Answer, Engine};
use crate::machine::Bench;
use crate::rows::Row;

/// A program in code that keeps less safety.
#[derive(Debug)]
pub(crate) struct Unguarded<K: unguarded::Kept> {
    native: Native<unguarded::Unguarded<K>>,
    bench: Bench,
    _instance: Arc<Instance>,
}

impl<K: unguarded::Kept> Unguarded<K> {
    pub(crate) fn new(row: &Row, instance: &Arc<Instance>) -> Result<Self, Absent> {
        if instance.programs().len() > 1 {
            return Err(Absent::because("tail calls lead to guarded code"));
        }
        let program = instance.expect_program(row.name).map_err(Absent::because)?;
        let native = Native::translate(program.linked()).map_err(Absent::because)?;
        Ok(Self { native, bench: Bench::new(row.frame())?, _instance: Arc::clone(instance) })
    }
}

impl<K: unguarded::Kept> Engine for Unguarded<K> {
    fn answer(&mut self) -> Result<Answer, Absent> {
        self.bench.place();
        let outcome = self.native.run(&mut self.bench.run);
        if let Some(trap) = &outcome.trap {
            return Err(Absent::because(trap));
        }
        let value = u32::try_from(outcome.r0 & 0xffff_ffff).expect("masked");
        Ok(Answer { value, frame: self.bench.frame() })
    }

    fn time(&mut self, runs: u64) -> Sample {
        let (native, bench) = (&self.native, &mut self.bench);
        clock::sample(runs, || {
            bench.in_bursts(runs, |bench| {
                bench.run.reset(FUEL_DEFAULT);
                black_box(native.run(&mut bench.run));
            });
        })
    }
}
