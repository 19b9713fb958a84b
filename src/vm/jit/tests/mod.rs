//! Generated code beside the interpreter: traps to the letter, calls, counts, memory.

mod calls;
mod counts;
mod jumps;
mod lookups;
mod memory;
mod traps;
mod updates;

use std::sync::Arc;

use super::{Counting, Native, NoHooks};
use crate::cage::Region;
use crate::isa::assemble;
use crate::limits::{FUEL_DEFAULT, STACK_LEN};
use crate::maps::{self, Map, MapDef, MapId, MapKind, MapTable, WorkerIndex};
use crate::program::{Program, RawProgram};
use crate::run::{Clock, Run, World};
use crate::trap::Trap;
use crate::verdict::ProgramKind;
use crate::vm::{Linked, Loaded, Mode, Outcome};

/// Maps of an object.
type Maps = Vec<(MapId, Arc<dyn Map>)>;

/// A world with two workers and a clock that stands.
fn world() -> Arc<World> {
    let trace = |line: &str| assert!(line != "panic", "a sink that fails");
    Arc::new(World::new(2, Clock::Fixed(0), Box::new(trace)).expect("address space"))
}

fn slots(text: &str) -> Vec<[u8; 8]> {
    assemble(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

/// A program of a world.
fn link(world: &Arc<World>, name: &str, text: &str, maps: &Maps) -> Arc<Linked> {
    let raw = RawProgram { name: name.to_owned(), slots: slots(text), ..RawProgram::default() };
    let program = Program::check(raw, ProgramKind::Raw).unwrap_or_else(|rejection| panic!("{rejection}"));
    let linked = Linked::link(Arc::new(program), Arc::clone(world), maps.clone().into());
    Arc::new(linked.unwrap_or_else(|error| panic!("{error}")))
}

/// A program of this text, in a world of its own.
pub(super) fn linked(text: &str) -> Arc<Linked> {
    link(&world(), "main", text, &Maps::new())
}

/// A map of a world. Keys have four bytes.
fn map(world: &World, kind: MapKind, value_len: u32, max_entries: u32) -> (MapId, Arc<dyn Map>) {
    map_of(world, &MapDef { name: "map".to_owned(), kind, key_len: 4, value_len, max_entries, ..MapDef::default() })
}

/// A map of a world.
fn map_of(world: &World, def: &MapDef) -> (MapId, Arc<dyn Map>) {
    let map = maps::create(def, world.map_env()).unwrap_or_else(|error| panic!("{error}"));
    (world.maps.insert(Arc::clone(&map)).expect("room"), map)
}

/// A place to run programs: a stack, and a page of memory that r1 points into.
struct Place {
    world: Arc<World>,
    worker: WorkerIndex,
    stack: Region,
    memory: Region,
}

impl Place {
    fn new(world: &Arc<World>) -> Self {
        let stack = world.cage.alloc_apart(u64::from(STACK_LEN), "a stack").expect("room");
        let memory = world.cage.alloc(4096, "memory").expect("room");
        Self { world: Arc::clone(world), worker: WorkerIndex(0), stack, memory }
    }

    fn new_run(&self, fuel: u64) -> Run<'_> {
        let mut run = Run::new(&self.world, self.worker, ProgramKind::Raw, self.stack.addr() + STACK_LEN);
        run.reset(fuel);
        run.head.ctx = self.memory.addr();
        run.head.arg2 = 64;
        run
    }

    /// Runs in one mode, with the memory zeroed and the stack full of what must not be seen.
    fn run(&self, loaded: &Loaded, mode: Mode, fuel: u64) -> Outcome {
        self.stack.write(0, &[0xa5; STACK_LEN as usize]);
        self.memory.write(0, &[0; 4096]);
        loaded.run(mode, &mut self.new_run(fuel))
    }

    /// Runs in every mode; all must agree, to the address of a fault and the number of instructions.
    fn agree(&self, loaded: &Loaded, fuel: u64) -> Outcome {
        let verify = self.run(loaded, Mode::Verify, fuel);
        let told = |outcome: &Outcome| {
            let trap = outcome.trap.as_ref().map(|at| (at.program.name().to_owned(), at.trap));
            let tail_calls = if trap.is_none() { outcome.tail_calls } else { 0 };
            (outcome.r0, outcome.fuel_left, tail_calls, trap)
        };
        for mode in [Mode::Fast, Mode::Instrumented] {
            loaded.translated(mode).unwrap_or_else(|error| panic!("{error}"));
            let outcome = self.run(loaded, mode, fuel);
            assert_eq!(told(&outcome), told(&verify), "{mode}, fuel {fuel}");
            if mode == Mode::Instrumented {
                assert_eq!(outcome.insns, verify.insns, "fuel {fuel}");
            }
        }
        verify
    }
}

/// Runs a text in every mode.
fn run_with(text: &str, fuel: u64) -> Outcome {
    let world = world();
    let loaded = Loaded::new(link(&world, "main", text, &Maps::new()));
    Place::new(&world).agree(&loaded, fuel)
}

fn run(text: &str) -> Outcome {
    run_with(text, FUEL_DEFAULT)
}

fn trap(text: &str) -> Trap {
    run(text).trap.unwrap_or_else(|| panic!("a trap of\n{text}")).trap
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
fn registers_are_zero_at_entry_but_for_the_arguments() {
    for number in [0, 3, 4, 5, 6, 7, 8, 9] {
        assert_eq!(run(&format!("r0 = r{number}\nexit")).r0, 0, "r{number}");
    }
    assert_eq!(run("r0 = r2\nexit").r0, 64);
}

#[test]
fn a_program_that_is_too_long_says_so_and_runs_in_verify_mode() {
    let world = world();
    let text = format!("{}r0 = 5\nexit", "r1 = 1\n".repeat(crate::limits::TRANSLATE_SLOTS_MAX));
    let loaded = Loaded::new(link(&world, "long", &text, &Maps::new()));
    let error = loaded.translated(Mode::Fast).expect_err("too long");
    assert_eq!(
        error.to_string(),
        "long: 65538 slots are more than the translator takes (65536); run it in verify mode or split it"
    );
    assert_eq!(Place::new(&world).run(&loaded, Mode::Fast, FUEL_DEFAULT).r0, 5, "the interpreter stands in");
}

#[test]
fn a_function_with_too_many_blocks_says_so_and_runs_in_verify_mode() {
    let world = world();
    let text = format!("{}r0 = 6\nexit", "if r0 == 1 goto +0\n".repeat(crate::limits::TRANSLATE_BLOCKS_MAX));
    let loaded = Loaded::new(link(&world, "branchy", &text, &Maps::new()));
    assert_eq!(
        loaded.translated(Mode::Fast).expect_err("too many").to_string(),
        "branchy insn 0: 8193 blocks in its function are more than the translator takes (8192); run it in verify mode or \
         split it"
    );
    assert_eq!(Place::new(&world).run(&loaded, Mode::Fast, FUEL_DEFAULT).r0, 6);
}
