//! Instrumented mode: how often each instruction was executed.
//!
//! Each worker has counters of its own, so that none waits for another and no count is lost. They lie outside the cage.
//!
//! Invariant: only the worker that they belong to writes counters; everyone may read them.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value};
use cranelift_frontend::FunctionBuilder;

use super::hooks::{Hooks, Stop, StopAt};
use super::outline::{Outline, helper};
use crate::helpers::TAIL_CALL;
use crate::isa::{Does, Insn};
use crate::run::Head;
use crate::vm::{Linked, Mode};

/// Counters of one worker begin at a multiple of this many: two cache lines, which processors fetch together.
const LINE: usize = 16;

/// Counts how often each instruction is executed: instrumented mode.
#[derive(Debug)]
pub struct Counting {
    outline: Outline,
    /// Instructions of each segment.
    lens: Box<[u32]>,
    /// Which program this is, as [`Head::program`] says it.
    program: u64,
    /// For each worker: a counter for each segment, then one for each place of a tail call, then one of the tail calls that
    /// led here.
    counters: Box<[AtomicU64]>,
    /// Counters of one worker.
    stride: usize,
    /// Workers that have counters; others would count as the last.
    workers: u32,
}

impl Hooks for Counting {
    const MODE: Mode = Mode::Instrumented;
    const CODE_TABLE: usize = 1;
    type Kept = Value;

    fn new(linked: &Linked) -> Self {
        let outline = Outline::new(linked.program(), linked.insns());
        let segments = outline.segments();
        let lens = (0..segments.len()).map(|index| insn_count(outline.segment(linked.insns(), index))).collect();
        let stride = (segments.len() + outline.tail_calls().len() + 1).next_multiple_of(LINE);
        let workers = linked.world().worker_count.max(1);
        let counters = (0..stride * workers as usize).map(|_| AtomicU64::new(0)).collect();
        Self { lens, program: u64::from(linked.id()), counters, stride, workers, outline }
    }

    fn function(&self, builder: &mut FunctionBuilder<'_>, run: Value) -> Value {
        let worker = builder.ins().uload32(MemFlagsData::trusted(), run, field(offset_of!(Head, worker)));
        let last = builder.ins().iconst(I64, i64::from(self.workers - 1));
        let worker = builder.ins().umin(worker, last);
        let start = self.counters.as_ptr().addr() as u64;
        let start = builder.ins().iconst(I64, start.cast_signed());
        let at = builder.ins().imul_imm_u(worker, i64::from(field(self.stride * size_of::<u64>())));
        builder.ins().iadd(start, at)
    }

    fn program(&self, builder: &mut FunctionBuilder<'_>, run: Value) {
        let program = builder.ins().iconst(I64, self.program.cast_signed());
        builder.ins().store(MemFlagsData::trusted(), program, run, field(offset_of!(Head, program)));
    }

    fn entered(&self, builder: &mut FunctionBuilder<'_>, kept: Value, tail_calls: Value) {
        let tailed = builder.ins().icmp_imm_u(IntCC::NotEqual, tail_calls, 0);
        let tailed = builder.ins().uextend(I64, tailed);
        let offset = field(self.entered_index() * size_of::<u64>());
        let before = builder.ins().load(I64, MemFlagsData::trusted(), kept, offset);
        let after = builder.ins().iadd(before, tailed);
        builder.ins().store(MemFlagsData::trusted(), after, kept, offset);
    }

    fn insn(&self, builder: &mut FunctionBuilder<'_>, run: Value, kept: Value, pc: usize) {
        if let Some(segment) = self.outline.segment_starting(pc) {
            add(builder, kept, segment * size_of::<u64>(), 1);
            add(builder, run, offset_of!(Head, insns), self.lens[segment]);
        }
    }

    fn tail_call(&self, builder: &mut FunctionBuilder<'_>, kept: Value, pc: usize) {
        let place = self.outline.tail_calls().binary_search(&pc).expect("the outline lists every tail call");
        add(builder, kept, (self.outline.segments().len() + place) * size_of::<u64>(), 1);
    }

    /// A segment is counted whole when it begins; what a stop left of it is taken off.
    fn executed(head: &Head, stops: &[Stop<'_>]) -> Option<u64> {
        let left = stops.iter().map(|stop| match stop.at {
            StopAt::Insn => {
                let insns = stop.linked.insns();
                let outline = Outline::new(stop.linked.program(), insns);
                let end = outline.segment_end(outline.segment_at(stop.pc));
                u64::from(insn_count(&insns[stop.pc + 1..end]))
            }
            StopAt::Entry => 0,
        });
        Some(head.insns - left.sum::<u64>())
    }
}

impl Counting {
    /// Place of the counter of the tail calls that led here.
    fn entered_index(&self) -> usize {
        self.outline.segments().len() + self.outline.tail_calls().len()
    }

    /// A counter, summed over the workers. While they run, what is read lies between the counts before and after.
    fn sum(&self, index: usize) -> u64 {
        let workers = self.counters.chunks_exact(self.stride);
        workers.map(|counters| counters[index].load(Ordering::Relaxed)).sum()
    }

    /// Tail calls that led here.
    pub(super) fn tail_runs(&self) -> u64 {
        self.sum(self.entered_index())
    }

    /// Sums over the workers.
    pub(super) fn counts(&self, linked: &Linked) -> Counts {
        let sum = |index| self.sum(index);
        let insns = linked.insns();
        let mut executed = vec![0; insns.len()];
        for (index, start) in self.outline.segments().iter().enumerate() {
            executed[*start..self.outline.segment_end(index)].fill(sum(index));
        }
        let mut helpers = Vec::new();
        for (pc, insn) in insns.iter().enumerate() {
            if insn.does == Does::SecondSlot {
                executed[pc] = 0;
            }
            if insn.does == Does::CallHelper && helper(insn).id != TAIL_CALL {
                helpers.push(HelperCount { pc, helper: helper(insn).id, count: executed[pc] });
            }
        }
        let first = self.outline.segments().len();
        let tail_calls = self.outline.tail_calls().iter().enumerate().map(|(place, pc)| {
            let taken = sum(first + place);
            TailCallCount { pc: *pc, taken, fell_through: executed[*pc].saturating_sub(taken) }
        });
        Counts { tail_calls: tail_calls.collect(), helpers, executed }
    }
}

/// What instrumented mode counted in one program, all workers together. Where a run trapped, what follows in the block of
/// the trap counts as executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often each slot was executed; 0 for the second slot of a two-slot instruction.
    pub executed: Vec<u64>,
    /// Calls of helpers, by ascending slot.
    pub helpers: Vec<HelperCount>,
    /// Tail calls, by ascending slot.
    pub tail_calls: Vec<TailCallCount>,
}

/// How often a call of a helper was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelperCount {
    /// Slot index.
    pub pc: usize,
    /// Helper number.
    pub helper: u32,
    /// Times.
    pub count: u64,
}

/// What became of a tail call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailCallCount {
    /// Slot index.
    pub pc: usize,
    /// Times that another program went on.
    pub taken: u64,
    /// Times that the slot was empty, the index outside, or the limit reached.
    pub fell_through: u64,
}

/// Instructions among slots: the second slot of a two-slot instruction is none.
fn insn_count(insns: &[Insn]) -> u32 {
    let count = insns.iter().filter(|insn| insn.does != Does::SecondSlot).count();
    u32::try_from(count).expect("a translated program is short")
}

/// Adds to a counter in host memory.
fn add(builder: &mut FunctionBuilder<'_>, base: Value, offset: usize, amount: u32) {
    let offset = field(offset);
    let before = builder.ins().load(I64, MemFlagsData::trusted(), base, offset);
    let after = builder.ins().iadd_imm_u(before, i64::from(amount));
    builder.ins().store(MemFlagsData::trusted(), after, base, offset);
}

/// An offset in host memory as the instruction holds it.
fn field(offset: usize) -> i32 {
    i32::try_from(offset).expect("counters of a translated program and fields of a run lie near")
}
