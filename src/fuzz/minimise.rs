//! Makes a case small that engines disagree on: leaves out, empties and simplifies for as long as they still disagree.
//!
//! Invariant: what comes out still disagrees, and is well-formed where what came in was.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::{Case, Input};
use crate::isa::{Alu, Does, Insn, Operand, Reg, Width, decode, encode};

/// Makes a case small for which `diverges` holds, within about `time`.
#[must_use]
pub fn minimise(case: &Case, time: Duration, diverges: &mut dyn FnMut(&Case) -> bool) -> Case {
    let mut smaller = Smaller { case: case.clone(), end: Instant::now() + time, diverges };
    loop {
        let before = smaller.case.clone();
        smaller.fewer_programs();
        for program in 0..smaller.case.programs.len() {
            smaller.fewer_insns(program);
            smaller.simpler_insns(program);
        }
        smaller.simpler_world();
        if smaller.case == before || smaller.is_over() {
            return smaller.case;
        }
    }
}

struct Smaller<'a> {
    case: Case,
    end: Instant,
    diverges: &'a mut dyn FnMut(&Case) -> bool,
}

impl Smaller<'_> {
    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Takes what `change` makes of the case, if it still diverges.
    fn attempt(&mut self, change: impl FnOnce(&mut Case)) -> bool {
        if self.is_over() {
            return false;
        }
        let mut changed = self.case.clone();
        change(&mut changed);
        let better = changed != self.case && (self.diverges)(&changed);
        if better {
            self.case = changed;
        }
        better
    }

    fn fewer_programs(&mut self) {
        for slot in (0..self.case.slots.len()).rev() {
            self.attempt(|case| {
                case.slots.remove(slot);
            });
        }
        for program in (1..self.case.programs.len()).rev() {
            if self.case.slots.iter().all(|slot| slot.program != program) {
                self.attempt(|case| {
                    case.programs.remove(program);
                    for slot in case.slots.iter_mut().filter(|slot| slot.program > program) {
                        slot.program -= 1;
                    }
                });
            }
        }
    }

    fn insns(&self, program: usize) -> Vec<Insn> {
        decode(&self.case.programs[program].slots).unwrap_or_default()
    }

    fn put(&mut self, program: usize, insns: &[Insn]) -> bool {
        let slots = encode(insns);
        self.attempt(|case| case.programs[program].slots = slots)
    }

    fn fewer_insns(&mut self, program: usize) {
        let mut len = (self.insns(program).len() / 2).max(1);
        loop {
            let mut start = 0;
            while start < self.insns(program).len() {
                let insns = self.insns(program);
                let end = (start + len).min(insns.len());
                let gone = without(&insns, start..end).is_some_and(|insns| self.put(program, &insns));
                if !gone {
                    start += len;
                }
                if self.is_over() {
                    return;
                }
            }
            if len == 1 {
                return;
            }
            len /= 2;
        }
    }

    fn simpler_insns(&mut self, program: usize) {
        for pc in 0..self.insns(program).len() {
            let insns = self.insns(program);
            let insn = insns[pc];
            if insn.does == Does::SecondSlot {
                continue;
            }
            let mut with = |new: Insn| {
                let mut insns = insns.clone();
                insns[pc] = new;
                self.put(program, &insns)
            };
            let zero = Insn { dst: Reg::R0, src: Reg::R0, off: 0, imm: 0, does: MOV };
            if insn.does.is_wide() || insn == zero || insn.does != MOV && with(zero) {
                continue;
            }
            let names = insn.target(pc).is_some() || insn.does == Does::CallHelper;
            if !names && insn.imm != 0 && !with(Insn { imm: 0, ..insn }) && insn.imm != 1 {
                with(Insn { imm: 1, ..insn });
            }
        }
    }

    fn simpler_world(&mut self) {
        for map in 0..self.case.maps.len() {
            self.attempt(|case| case.maps[map].elements.clear());
        }
        self.attempt(|case| case.input.bytes_mut().fill(0));
        self.attempt(|case| match &mut case.input {
            Input::Memory { offset, .. } => *offset = 0,
            Input::Frame(bytes) => bytes.truncate(64),
        });
        self.attempt(|case| case.fuel = None);
        self.attempt(Case::keep_used_maps);
    }
}

const MOV: Does = Does::Alu(Width::W64, Alu::Mov, Operand::Imm);

/// The program without some instructions: jumps into them go behind them. `None` where a distance does not fit.
fn without(insns: &[Insn], range: Range<usize>) -> Option<Vec<Insn>> {
    let Range { mut start, mut end } = range;
    if insns.get(start)?.does == Does::SecondSlot {
        start -= 1;
    }
    if insns.get(end).is_some_and(|insn| insn.does == Does::SecondSlot) {
        end += 1;
    }
    let gone = end - start;
    let place = |old: i64| -> i64 {
        let (first, behind) = (i64::try_from(start).unwrap_or(i64::MAX), i64::try_from(end).unwrap_or(i64::MAX));
        if old >= behind { old - i64::try_from(gone).unwrap_or(0) } else { old.min(first) }
    };
    let mut left = Vec::with_capacity(insns.len() - gone);
    for (pc, insn) in insns.iter().enumerate().filter(|(pc, _)| !(start..end).contains(pc)) {
        let mut insn = *insn;
        let target = insn.target(pc).or_else(|| insn.function_target(pc));
        if let Some(target) = target {
            let distance = place(target) - place(i64::try_from(pc).ok()?) - 1;
            if matches!(insn.does, Does::GotoLong | Does::CallLocal | Does::LoadCodeAddr) {
                insn.imm = distance;
            } else {
                insn.off = i16::try_from(distance).ok()?;
            }
        }
        left.push(insn);
    }
    Some(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::assemble;

    fn case(text: &str) -> Case {
        Case::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn jumps_keep_their_targets_when_instructions_between_go() {
        let insns = decode(&assemble("goto +3\nr0 = 1 ll\nr0 = 2\ncall +1\nexit\nexit").expect("text")).expect("slots");
        let left = without(&insns, 2..4).expect("short distances");
        assert_eq!(encode(&left), assemble("goto +0\ncall +1\nexit\nexit").expect("text"));
    }

    #[test]
    fn only_what_the_divergence_needs_is_left() {
        let case = case(
            "-- map m array 4 8 1\n-- element m 00000000\n0102030405060708\n-- memory\n0102\n\
             -- asm main\nr1 = 5\nr2 = 6\nr1 += 7\nif r1 == 3 goto +1\nr0 = map_by_idx(0)\nr0 = 9\nr0 s/= 4\nexit",
        );
        let divides = |case: &Case| case.programs[0].slots.iter().any(|slot| slot[0] == 0x37 && slot[2] == 1);
        let small = minimise(&case, Duration::from_secs(10), &mut |case| divides(case));
        let texts: Vec<String> =
            decode(&small.programs[0].slots).expect("slots").iter().map(|insn| crate::isa::print(insn, 0)).collect();
        assert_eq!(texts, ["r0 s/= 0"]);
        assert!(small.maps.is_empty() && small.input.bytes() == [0, 0], "{small}");
    }
}
