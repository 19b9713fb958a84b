//! The same C as clang compiles it for this machine.

use std::ffi::c_void;
use std::hint::black_box;

use crate::build::Library;
use crate::clock::{self, Sample};
use crate::engine::{Absent, Answer, Engine};
use crate::low_memory::LowMemory;
use crate::rows::Row;
use crate::tables;

type Function = unsafe extern "C" fn(*mut u8) -> i32;

/// A program as a function of this process.
#[derive(Debug)]
pub(crate) struct Native {
    function: Function,
    frame: Vec<u8>,
    memory: LowMemory,
}

impl Native {
    pub(crate) fn new(row: &Row, library: Library) -> Result<Self, Absent> {
        let symbol = library.symbol(row.name).ok_or_else(|| Absent::because("the program is not in its library"))?;
        tables::fill(library, row)?;
        // SAFETY: `PROGRAM` of `native_side.h` declares it so.
        let function = unsafe { std::mem::transmute::<*mut c_void, Function>(symbol) };
        let frame = row.frame();
        Ok(Self { function, memory: LowMemory::new(&frame)?, frame })
    }

    fn run(&self) -> i32 {
        // SAFETY: the context is whole, and the programs of the bench stay in what it says.
        unsafe { (self.function)(black_box(self.memory.context())) }
    }
}

impl Engine for Native {
    fn answer(&mut self) -> Result<Answer, Absent> {
        self.memory.place(&self.frame);
        let value = self.run().cast_unsigned();
        Ok(Answer { value, frame: self.memory.frame() })
    }

    fn time(&mut self, runs: u64) -> Sample {
        clock::sample(runs, || {
            for _ in 0..runs {
                black_box(self.run());
            }
        })
    }
}
