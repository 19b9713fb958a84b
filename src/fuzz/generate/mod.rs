//! Random cases: programs of the instruction table's rows and of pieces that use maps, helpers, context and packet.
//!
//! A seed decides the [`Form`]: programs that the kernel's verifier mostly accepts, programs that only kumite runs and that
//! end well, and wild ones, whose instructions were changed at random.
//!
//! Invariant: every program is well-formed; the same seed gives the same case.

mod around;
mod furniture;
mod pieces;
mod single;
mod wild;
mod writer;

use super::{Case, CaseProgram, CaseSlot, Expected, Input};
use crate::isa::random::{Dialect, Dice, MemoryKind, Shape, program, program_in};
use crate::isa::{Does, Insn, Row, encode};
use crate::verdict::ProgramKind;
pub use single::{Single, single};

use around::Around;
use furniture::{PROGRAM_SLOTS, PROGRAMS};

/// What the programs of a case are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The kernel's verifier accepts most of them.
    Kernel,
    /// Only kumite runs them; they end well, given enough fuel.
    Kumite,
    /// Raw programs without maps; they end well unless memory ends early.
    Raw,
    /// Their instructions were changed at random.
    Wild,
}

impl Form {
    /// The form of a seed's case.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        match seed % 8 {
            0 | 1 => Self::Kernel,
            2 | 3 => Self::Kumite,
            4 => Self::Raw,
            _ => Self::Wild,
        }
    }
}

/// Bytes of a raw program's memory.
const RAW_LEN: usize = 64;

/// The case of a seed.
#[must_use]
pub fn case(seed: u64) -> Case {
    let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6b75_6d69_7465);
    let form = Form::of(seed);
    match form {
        Form::Raw => raw(seed, &mut dice),
        Form::Kernel => on_a_hook(seed, Dialect::Kernel, &mut dice),
        Form::Kumite => on_a_hook(seed, Dialect::Kumite, &mut dice),
        Form::Wild => {
            let mut tame =
                if dice.once_in(3) { raw(seed, &mut dice) } else { on_a_hook(seed, Dialect::Kumite, &mut dice) };
            wild::change(&mut tame, &mut dice);
            tame
        }
    }
}

fn new_case(seed: u64, kind: ProgramKind) -> Case {
    Case {
        about: format!("Seed {seed} of kumite fuzz: engines disagree."),
        kind,
        fuel: None,
        maps: Vec::new(),
        sockets: None,
        programs: Vec::new(),
        slots: Vec::new(),
        input: Input::Memory { offset: 0, bytes: Vec::new() },
        expected: Expected::default(),
    }
}

fn raw(seed: u64, dice: &mut Dice) -> Case {
    let mut case = new_case(seed, ProgramKind::Raw);
    let shape = Shape {
        seed: dice.bits(),
        insns: main_len(dice) + dice.below(20),
        functions: dice.pick(&[1, 1, 1, 2, 3, 4]),
        memory_len: u32::try_from(RAW_LEN).expect("small"),
        ..Shape::default()
    };
    case.programs.push(named("main", &program(&shape)));
    let room = crate::limits::RUN_CHUNK_LEN - 8;
    let offset = match dice.below(4) {
        0 => room - u32::try_from(dice.below(RAW_LEN)).expect("small"),
        1 => u32::try_from(dice.below(16)).expect("small"),
        _ => 0,
    };
    case.input = Input::Memory { offset, bytes: furniture::bytes(dice, RAW_LEN) };
    case
}

fn on_a_hook(seed: u64, dialect: Dialect, dice: &mut Dice) -> Case {
    let kinds = [ProgramKind::Xdp, ProgramKind::Xdp, ProgramKind::Tc, ProgramKind::SocketFilter];
    let mut case = new_case(seed, dice.pick(&kinds));
    // The kernel gives socket filters no packet pointers.
    let has_packet = case.kind != ProgramKind::SocketFilter && dice.once_in(2);
    let memory = if has_packet { MemoryKind::Packet } else { MemoryKind::Plain };
    case.maps = furniture::maps(dice);
    let targets = if dice.once_in(3) { 1 + dice.below(2) } else { 0 };
    for place in 0..=targets {
        let shape = Shape {
            seed: dice.bits(),
            insns: if place == 0 { main_len(dice) } else { 3 + dice.below(10) },
            functions: dice.pick(if place == 0 { &[1, 1, 1, 2, 2, 3] } else { &[1, 1, 1, 2] }),
            memory_len: furniture::MEMORY_LEN,
            memory,
            dialect,
            // Written as a piece, where the context is in its register.
            rows: |row: &Row| !matches!(row.does, Does::LoadPacket(..)),
        };
        let functions = shape.functions;
        let mut around = Around { kind: case.kind, dialect, memory, functions, calls_back: false };
        let name = ["main", "one", "two"][place];
        case.programs.push(named(name, &program_in(&mut around, &shape)));
    }
    for index in 0..PROGRAM_SLOTS {
        if targets > 0 && !dice.once_in(3) {
            case.slots.push(CaseSlot { map: PROGRAMS, index, program: dice.below(targets + 1) });
        }
    }
    let len = [64, 60, 65, 80, 100, 128, 200, 300][dice.below(8)];
    case.input = Input::Frame(furniture::bytes(dice, len));
    case.keep_used_maps();
    case
}

/// About how many instructions a main function has: translating is what takes the time, so most are short.
fn main_len(dice: &mut Dice) -> usize {
    if dice.once_in(8) { 30 + dice.below(50) } else { 3 + dice.below(22) }
}

fn named(name: &str, insns: &[Insn]) -> CaseProgram {
    CaseProgram { name: name.to_owned(), slots: encode(insns) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::isa::decode;
    use crate::program::{Program, RawProgram};

    #[test]
    fn generated_programs_are_well_formed() {
        for seed in 0..2000 {
            let case = case(seed);
            for program in &case.programs {
                let raw = RawProgram { name: "test".into(), slots: program.slots.clone(), ..RawProgram::default() };
                let checked = Program::check(raw, case.kind);
                assert!(checked.is_ok(), "seed {seed}: {}", checked.expect_err("refused"));
            }
        }
    }

    #[test]
    fn a_generated_case_is_a_case_file_that_reads_back() {
        for seed in 0..200 {
            let case = case(seed);
            let text = case.to_string();
            assert_eq!(Case::parse(&text).as_ref(), Ok(&case), "seed {seed}\n{text}");
        }
    }

    #[test]
    fn every_row_that_runs_is_generated() {
        let mut seen = BTreeSet::new();
        for seed in 0..3000 {
            for program in case(seed).programs {
                seen.extend(decode(&program.slots).expect("well-formed").iter().map(|insn| insn.does));
            }
        }
        let runs = crate::isa::ROWS.iter().filter(|row| row.support == crate::isa::Support::Runs);
        let missing: Vec<&str> = runs.filter(|row| !seen.contains(&row.does)).map(|row| row.name).collect();
        assert_eq!(missing, Vec::<&str>::new());
    }
}
