//! What a program makes use of, for those who ask before they run it.
//!
//! Invariant: read off the instructions alone; says nothing of what is reached.

use std::collections::BTreeSet;

use super::Program;
use crate::isa::Does;

/// Something that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// Jumps that lead in a circle.
    Loops,
    /// Functions besides the main one.
    Subprograms,
    /// `bpf_tail_call`.
    TailCalls,
    /// The address of a function, for helpers that call it.
    Callbacks,
    /// Atomic operations.
    Atomics,
    /// Legacy packet loads.
    PacketLoads,
    /// Variables of `.data`, `.bss` or `.rodata`.
    GlobalVariables,
    /// Calls of kernel functions.
    KernelFunctions,
    /// Signed loads, signed division, unconditional byte swaps, long jumps.
    CpuV4,
}

impl Feature {
    /// Its words in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loops => "loops",
            Self::Subprograms => "subprograms",
            Self::TailCalls => "tail calls",
            Self::Callbacks => "callbacks",
            Self::Atomics => "atomics",
            Self::PacketLoads => "packet loads",
            Self::GlobalVariables => "global variables",
            Self::KernelFunctions => "kernel functions",
            Self::CpuV4 => "cpu v4",
        }
    }
}

impl Program {
    /// Numbers of the helpers that it calls by number, ascending.
    #[must_use]
    pub fn helpers(&self) -> BTreeSet<u32> {
        let calls = self.insns().iter().filter(|insn| insn.does == Does::CallHelper);
        calls.filter_map(|insn| u32::try_from(insn.imm).ok()).collect()
    }

    /// What it makes use of.
    #[must_use]
    pub fn features(&self) -> BTreeSet<Feature> {
        let mut found = BTreeSet::new();
        if self.functions().len() > 1 {
            found.insert(Feature::Subprograms);
        }
        if self.has_circle() {
            found.insert(Feature::Loops);
        }
        for insn in self.insns() {
            found.extend(feature(insn.does, insn.imm));
        }
        found
    }

    /// Whether jumps lead back to where they came from. A jump back alone does not say so: clang puts ways out first.
    fn has_circle(&self) -> bool {
        let mut seen = vec![Seen::Never; self.insns().len()];
        for function in self.functions() {
            // Each entry of the way that is being walked, and how many of its followers are done.
            let mut way = vec![(function.start, 0)];
            while let Some((pc, done)) = way.last_mut() {
                if *done == 0 {
                    if seen[*pc] == Seen::Left {
                        way.pop();
                        continue;
                    }
                    seen[*pc] = Seen::OnTheWay;
                }
                let next = self.followers(*pc)[*done..].iter().position(Option::is_some).map(|skipped| *done + skipped);
                let Some((next, pc_next)) = next.and_then(|index| Some((index, self.followers(*pc)[index]?))) else {
                    seen[*pc] = Seen::Left;
                    way.pop();
                    continue;
                };
                *done = next + 1;
                match seen.get(pc_next) {
                    Some(Seen::OnTheWay) => return true,
                    Some(Seen::Never) => way.push((pc_next, 0)),
                    Some(Seen::Left) | None => {}
                }
            }
        }
        false
    }

    /// Where a run may go on behind an instruction: behind it, and where it jumps to.
    fn followers(&self, pc: usize) -> [Option<usize>; 2] {
        let insn = &self.insns()[pc];
        let goes_on = !matches!(insn.does, Does::Goto | Does::GotoLong | Does::GotoReg | Does::Exit);
        let jump = insn.jump_target(pc).and_then(|target| usize::try_from(target).ok());
        [goes_on.then_some(pc + 1), jump]
    }
}

/// What a walk along the jumps knows of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Never,
    OnTheWay,
    Left,
}

/// `bpf_tail_call`.
const TAIL_CALL: i64 = 12;

fn feature(does: Does, imm: i64) -> Option<Feature> {
    use crate::isa::{Alu, Endian, Sign};
    match does {
        Does::CallHelper if imm == TAIL_CALL => Some(Feature::TailCalls),
        Does::LoadCodeAddr => Some(Feature::Callbacks),
        Does::Atomic(..)
        | Does::Exchange(_)
        | Does::CompareExchange(_)
        | Does::LoadAcquire(_)
        | Does::StoreRelease(_) => Some(Feature::Atomics),
        Does::LoadPacket(..) => Some(Feature::PacketLoads),
        Does::LoadMapValue | Does::LoadMapValueByIndex => Some(Feature::GlobalVariables),
        Does::CallKfunc | Does::LoadVarAddr => Some(Feature::KernelFunctions),
        Does::Load(_, Sign::Extend)
        | Does::MovSigned(..)
        | Does::Alu(_, Alu::Sdiv | Alu::Smod, _)
        | Does::Swap(Endian::Swap, _)
        | Does::GotoLong => Some(Feature::CpuV4),
        Does::Alu(..)
        | Does::Neg(_)
        | Does::Swap(..)
        | Does::LoadImm64
        | Does::LoadMap
        | Does::LoadMapByIndex
        | Does::SecondSlot
        | Does::Load(..)
        | Does::Store(..)
        | Does::Goto
        | Does::Branch(..)
        | Does::MayGoto
        | Does::GotoReg
        | Does::CallHelper
        | Does::CallLocal
        | Does::CallReg
        | Does::Exit
        | Does::AddrSpaceCast => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::assemble;
    use crate::program::RawProgram;
    use crate::verdict::ProgramKind;

    #[test]
    fn what_a_program_uses_is_read_off_its_instructions() {
        let names = |text: &str| {
            let slots = assemble(text).expect("text of the test");
            let raw = RawProgram { name: "main".into(), slots, ..RawProgram::default() };
            let program = Program::check(raw, ProgramKind::SocketFilter).expect("well-formed");
            let features: Vec<&str> = program.features().into_iter().map(Feature::name).collect();
            (features.join(", "), program.helpers().into_iter().collect::<Vec<_>>())
        };
        assert_eq!(names("r0 = 0\nexit"), (String::new(), vec![]));
        assert_eq!(names("call 12\ncall 5\ncall 5\nexit"), ("tail calls".into(), vec![5, 12]));
        assert_eq!(
            names("again: r1 = code_addr(sub)\nif r0 > 5 goto again\ncall sub\nexit\nsub: r0 = 1\nexit"),
            ("loops, subprograms, callbacks".into(), vec![])
        );
        assert_eq!(
            names("goto start\nout: r0 = 0\nexit\nstart: if r1 > 5 goto out\ngoto out"),
            (String::new(), vec![])
        );
        let circle = "goto start\nout: r1 += 1\nstart: if r1 > 5 goto out\nr0 = 0\nexit";
        assert_eq!(names(circle), ("loops".into(), vec![]));
        assert_eq!(names("again: may_goto done\ngoto again\ndone: r0 = 0\nexit").0, "loops");
        assert_eq!(names("r0 = *(u8 *)skb[14]\nr0 s/= 3\nexit"), ("packet loads, cpu v4".into(), vec![]));
    }
}
