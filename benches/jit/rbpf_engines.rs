//! rbpf's three engines, given the same instructions: its helpers are the plain C tables of the native columns.
//!
//! It has no tail calls, and checks addresses in its interpreter alone.

use std::hint::black_box;

use kumite::isa::{self, Does, Insn};
use rbpf::EbpfVmRaw;

use crate::build::Built;
use crate::clock::{self, Sample};
use crate::engine::{Absent, Answer, Engine};
use crate::low_memory::LowMemory;
use crate::rows::Row;
use crate::tables;

/// Which of its engines.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Interpreter,
    Jit,
    Cranelift,
}

/// A program in rbpf.
pub(crate) struct Rbpf {
    machine: EbpfVmRaw<'static>,
    way: Way,
    frame: Vec<u8>,
    memory: LowMemory,
}

impl Rbpf {
    pub(crate) fn new(row: &Row, built: &Built, way: Way) -> Result<Self, Absent> {
        if built.object.maps.iter().any(|map| !map.slots.is_empty()) {
            return Err(Absent::because("rbpf has no tail calls"));
        }
        let program = built.object.program(row.name).ok_or_else(|| Absent::because("the program was refused"))?;
        let mut ranges = Vec::new();
        let mut insns = Vec::with_capacity(program.insns().len());
        for insn in program.insns() {
            if insn.does != Does::LoadMapByIndex {
                insns.push(*insn);
                continue;
            }
            let index = usize::try_from(insn.imm & 0xffff_ffff).map_err(Absent::because)?;
            let (at, table) = tables::table(built.native, &built.object.maps[index].def.name)?;
            ranges.push(table.range());
            insns.push(Insn { does: Does::LoadImm64, imm: (at.addr() as u64).cast_signed(), ..*insn });
        }
        // The machine borrows its program for as long as it lives: to the end of the bench.
        let text: &'static [u8] = Vec::leak(isa::encode(&insns).concat());
        let mut machine = EbpfVmRaw::new(Some(text)).map_err(Absent::because)?;
        if !ranges.is_empty() {
            tables::prepare_helpers(built.native)?;
            tables::fill(built.native, row)?;
            machine.register_helper(1, tables::lookup).map_err(Absent::because)?;
            machine.register_helper(2, tables::update).map_err(Absent::because)?;
            ranges.into_iter().for_each(|range| machine.register_allowed_memory(range));
        }
        match way {
            Way::Interpreter => {}
            Way::Jit => machine.jit_compile().map_err(Absent::because)?,
            Way::Cranelift => machine.cranelift_compile().map_err(Absent::because)?,
        }
        let frame = row.frame();
        Ok(Self { machine, way, memory: LowMemory::new(&frame)?, frame })
    }

    fn run(&mut self) -> Result<u64, rbpf::lib::Error> {
        let memory = self.memory.bytes();
        match self.way {
            Way::Interpreter => self.machine.execute_program(memory),
            // SAFETY: the programs of the bench stay in their frame; the kernel's verifier said so.
            Way::Jit => unsafe { self.machine.execute_program_jit(memory) },
            Way::Cranelift => self.machine.execute_program_cranelift(memory),
        }
    }
}

impl Engine for Rbpf {
    fn answer(&mut self) -> Result<Answer, Absent> {
        self.memory.place(&self.frame);
        let value = self.run().map_err(Absent::because)?;
        let value = u32::try_from(value & 0xffff_ffff).expect("masked");
        Ok(Answer { value, frame: self.memory.frame() })
    }

    fn time(&mut self, runs: u64) -> Sample {
        clock::sample(runs, || {
            for _ in 0..runs {
                black_box(self.run()).expect("it ran before");
            }
        })
    }
}
