//! Where the blocks of a program begin.
//!
//! Invariant: a *leader* is where a jump can land or a block ends before it; a *segment* begins at each leader and behind
//! each call that may not come back, so all instructions of a segment run equally often unless one traps.

use crate::helpers::{self, TAIL_CALL};
use crate::isa::{Alu, Does, Insn};
use crate::program::Program;

const LEADER: u8 = 1;
const LOOP: u8 = 2;
const SEGMENT: u8 = 4;
const TARGET: u8 = 8;

/// Where the blocks of a program begin.
#[derive(Debug)]
pub(super) struct Outline {
    marks: Box<[u8]>,
    /// First slots of the segments, ascending.
    segments: Box<[usize]>,
    /// Slots with a tail call, ascending.
    tail_calls: Box<[usize]>,
}

impl Outline {
    /// Of a linked program.
    pub(super) fn new(program: &Program, insns: &[Insn]) -> Self {
        let mut marks = vec![0; insns.len()];
        let mut mark = |pc: usize, bits: u8| {
            if let Some(place) = marks.get_mut(pc) {
                *place |= bits;
            }
        };
        for function in program.functions() {
            mark(function.start, LEADER);
        }
        let mut tail_calls = Vec::new();
        for (pc, insn) in insns.iter().enumerate() {
            if let Some(target) = jump_target(insn, pc) {
                mark(target, if target <= pc { LEADER | LOOP | TARGET } else { LEADER | TARGET });
                mark(pc + 1, LEADER);
            }
            if insn.does == Does::Exit {
                mark(pc + 1, LEADER);
            }
            if is_tail_call(insn) {
                tail_calls.push(pc);
            }
            if is_tail_call(insn) || matches!(insn.does, Does::CallLocal | Does::LoadPacket(..)) {
                mark(pc + 1, SEGMENT);
            }
        }
        let segments = (0..marks.len()).filter(|pc| marks[*pc] & (LEADER | SEGMENT) != 0).collect();
        Self { marks: marks.into(), segments, tail_calls: tail_calls.into() }
    }

    /// Whether a block begins here.
    pub(super) fn is_leader(&self, pc: usize) -> bool {
        self.marks[pc] & LEADER != 0
    }

    /// Whether a jump leads to here, rather than that a block ends before it alone.
    pub(super) fn is_target(&self, pc: usize) -> bool {
        self.marks[pc] & TARGET != 0
    }

    /// Whether a jump leads back to here.
    pub(super) fn is_loop(&self, pc: usize) -> bool {
        self.marks[pc] & LOOP != 0
    }

    /// The segment that begins here, if one does.
    pub(super) fn segment_starting(&self, pc: usize) -> Option<usize> {
        self.segments.binary_search(&pc).ok()
    }

    /// The segment that holds this slot.
    pub(super) fn segment_at(&self, pc: usize) -> usize {
        self.segments.partition_point(|start| *start <= pc) - 1
    }

    /// First slots of the segments, ascending.
    pub(super) fn segments(&self) -> &[usize] {
        &self.segments
    }

    /// Slot behind a segment's last.
    pub(super) fn segment_end(&self, segment: usize) -> usize {
        self.segments.get(segment + 1).copied().unwrap_or(self.marks.len())
    }

    /// A segment's instructions.
    pub(super) fn segment<'i>(&self, insns: &'i [Insn], segment: usize) -> &'i [Insn] {
        &insns[self.segments[segment]..self.segment_end(segment)]
    }

    /// Slots with a tail call, ascending.
    pub(super) fn tail_calls(&self) -> &[usize] {
        &self.tail_calls
    }
}

/// Whether an instruction changes one register, and nothing else, by something cheap.
pub(super) fn is_arithmetic(insn: &Insn) -> bool {
    if let Does::Alu(_, op, _) = insn.does {
        return !matches!(op, Alu::Div | Alu::Mod | Alu::Sdiv | Alu::Smod);
    }
    matches!(insn.does, Does::MovSigned(..) | Does::Neg(_) | Does::Swap(..) | Does::LoadImm64 | Does::SecondSlot)
}

/// Where a jump goes.
pub(super) fn jump_target(insn: &Insn, pc: usize) -> Option<usize> {
    let target = insn.jump_target(pc)?;
    Some(usize::try_from(target).expect("a jump lands in its function: the program was checked"))
}

/// Start of the subprogram that a local call means.
pub(super) fn call_target(insn: &Insn, pc: usize) -> usize {
    let target = insn.function_target(pc).and_then(|target| usize::try_from(target).ok());
    target.expect("a local call lands on a subprogram: the program was checked")
}

/// Whether a linked instruction is a tail call.
pub(super) fn is_tail_call(insn: &Insn) -> bool {
    insn.does == Does::CallHelper && helper(insn).id == TAIL_CALL
}

/// The helper that a linked call means.
pub(super) fn helper(insn: &Insn) -> &'static helpers::Helper {
    helpers::at(usize::try_from(insn.imm).expect("linking made the index"))
}
