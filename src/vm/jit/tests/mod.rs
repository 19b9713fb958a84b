//! Tests of generated code against what programs must do, without the interpreter.

use std::sync::Arc;

use super::{Counting, Hooks, Native, NoHooks};
use crate::cage::{Cage, Region};
use crate::isa::assemble;
use crate::limits::{FUEL_DEFAULT, STACK_LEN};
use crate::maps::{MapTable, WorkerIndex};
use crate::program::{Program, RawProgram};
use crate::run::{Clock, Run, World};
use crate::verdict::ProgramKind;
use crate::vm::{Linked, Outcome};

/// A world with two workers and a clock that stands.
pub(super) fn world() -> Arc<World> {
    Arc::new(World {
        cage: Cage::new().expect("address space"),
        maps: Arc::new(MapTable::new()),
        worker_count: 2,
        clock: Clock::Fixed(0),
        trace: Box::new(|_| {}),
    })
}

/// Slots as a program of a world, linked without maps.
fn link(world: &Arc<World>, slots: Vec<[u8; 8]>) -> Arc<Linked> {
    let raw = RawProgram { name: "main".into(), slots, ..RawProgram::default() };
    let program = Program::check(raw, ProgramKind::Raw).unwrap_or_else(|rejection| panic!("{rejection}"));
    let linked = Linked::link(Arc::new(program), Arc::clone(world), Box::new([]));
    Arc::new(linked.unwrap_or_else(|error| panic!("{error}")))
}

/// A program of this text, in a world of its own.
pub(super) fn linked(text: &str) -> Arc<Linked> {
    link(&world(), assemble(text).unwrap_or_else(|error| panic!("{error}")))
}

/// A place to run programs: a stack, and memory that r1 points at.
struct Place {
    world: Arc<World>,
    stack: Region,
    memory: Region,
}

impl Place {
    fn new(world: &Arc<World>) -> Self {
        let stack = world.cage.alloc(u64::from(STACK_LEN), "a stack").expect("room");
        let memory = world.cage.alloc(4096, "memory").expect("room");
        Self { world: Arc::clone(world), stack, memory }
    }

    fn run<H: Hooks>(&self, native: &Native<H>, memory: &[u8], fuel: u64) -> Outcome {
        self.memory.write(0, memory);
        let mut run = Run::new(&self.world, WorkerIndex(0), ProgramKind::Raw, self.stack.addr() + STACK_LEN);
        run.reset(fuel);
        run.head.ctx = self.memory.addr();
        run.head.arg2 = memory.len() as u64;
        native.run(&mut run)
    }
}

/// Runs a text in both modes, which must agree.
fn run_with(text: &str, memory: &[u8], fuel: u64) -> Outcome {
    let world = world();
    let place = Place::new(&world);
    let linked = link(&world, assemble(text).unwrap_or_else(|error| panic!("{error}")));
    let fast = Native::<NoHooks>::translate(&linked).unwrap_or_else(|error| panic!("{error}"));
    let counting = Native::<Counting>::translate(&linked).unwrap_or_else(|error| panic!("{error}"));
    let first = place.run(&fast, memory, fuel);
    let second = place.run(&counting, memory, fuel);
    let told = |outcome: &Outcome| {
        (outcome.r0, outcome.fuel_left, outcome.tail_calls, outcome.trap.as_ref().map(|at| at.trap))
    };
    assert_eq!(told(&first), told(&second), "{text}");
    second
}

fn run(text: &str) -> Outcome {
    run_with(text, &[], FUEL_DEFAULT)
}

#[test]
fn a_program_returns_what_it_computes() {
    let outcome = run("r0 = 6\nr0 *= 7\nexit");
    assert_eq!(outcome.r0, 42);
    assert!(outcome.trap.is_none());
    assert_eq!(outcome.fuel_left, FUEL_DEFAULT - 3);
    assert_eq!(outcome.insns, Some(3));
}

#[test]
fn a_wild_pointer_is_a_trap() {
    let outcome = run("r0 = 1\nr1 = 16\nr0 = *(u64 *)(r1 + 0)\nexit");
    assert_eq!(
        outcome.trap.expect("a trap").to_string(),
        "main insn 2: read at guest address 0x10: not mapped for this"
    );
}
