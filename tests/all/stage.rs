//! A world for one program at a time: what the engine tests run on.

use std::sync::{Arc, Mutex};

use kumite::cage::Region;
use kumite::isa;
use kumite::limits::{FUEL_DEFAULT, HEADROOM, RUN_CHUNK_LEN, STACK_LEN};
use kumite::maps::{self, Map, MapDef, MapId, WorkerIndex};
use kumite::program::{Program, RawProgram};
use kumite::run::{Clock, Context, Finding, Redirect, Run, Window, World};
use kumite::trap::{Fault, Trap, TrapKind};
use kumite::verdict::ProgramKind;
use kumite::vm::{Linked, Loaded, Mode};

/// The moment at which every test takes place.
pub(crate) const NOW_NS: u64 = 1_000_000_000_000;

/// A world with one worker.
pub(crate) struct Stage {
    pub(crate) world: Arc<World>,
    stack: Region,
    context: Region,
    chunk: Region,
    /// Lines of `bpf_trace_printk`.
    pub(crate) lines: Arc<Mutex<Vec<String>>>,
    pub(crate) fuel: u64,
}

/// How a run ended, and what it left.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) r0: u64,
    pub(crate) trap: Option<Trap>,
    /// Name of the program that trapped.
    pub(crate) trapped_in: Option<String>,
    pub(crate) fuel_left: u64,
    pub(crate) tail_calls: u32,
    /// The memory, or the frame with its metadata before it.
    pub(crate) memory: Vec<u8>,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) findings: Vec<Finding>,
}

impl Ran {
    /// What every engine must agree on. Of a fault only that it was one: generated code does not tell the length.
    pub(crate) fn essence(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let trap = self.trap.map(|trap| match trap.kind {
            TrapKind::Memory(fault) => {
                Trap { kind: TrapKind::Memory(Fault { addr: 0, len: 0, access: fault.access }), ..trap }
            }
            TrapKind::Misaligned { .. }
            | TrapKind::Fuel
            | TrapKind::CallDepth
            | TrapKind::NoHelper { .. }
            | TrapKind::HelperArg { .. }
            | TrapKind::Unresolved
            | TrapKind::HelperMemory { .. }
            | TrapKind::Thrown { .. }
            | TrapKind::ThrownBehindCall
            | TrapKind::KfuncArg { .. }
            | TrapKind::KfuncMemory { .. } => trap,
        });
        let tail_calls = if trap.is_none() { self.tail_calls } else { 0 };
        (self.r0, trap, self.trapped_in.clone(), self.fuel_left, tail_calls, self.memory.clone(), self.redirect)
    }

    /// The trap as text, or the empty string.
    pub(crate) fn trap_text(&self) -> String {
        self.trap.map(|trap| trap.to_string()).unwrap_or_default()
    }
}

/// Slots of assembler text.
pub(crate) fn slots(text: &str) -> Vec<[u8; 8]> {
    isa::assemble(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

impl Stage {
    pub(crate) fn new() -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let trace = move |line: &str| sink.lock().expect("no panic").push(line.to_owned());
        let world = World::new(1, Clock::Fixed(NOW_NS), Box::new(trace)).expect("address space");
        let alloc = |len| world.cage.alloc(u64::from(len), "a test").expect("room");
        let stack = world.cage.alloc_apart(STACK_LEN.into(), "a test").expect("room");
        let (context, chunk) = (alloc(Context::LEN), alloc(RUN_CHUNK_LEN));
        Self { world: Arc::new(world), stack, context, chunk, lines, fuel: FUEL_DEFAULT }
    }

    /// Makes a map and enters it in the world.
    pub(crate) fn map(&self, def: &MapDef) -> (MapId, Arc<dyn Map>) {
        let map = maps::create(def, self.world.map_env()).unwrap_or_else(|error| panic!("{error}"));
        (self.world.maps.insert(Arc::clone(&map)).expect("room"), map)
    }

    /// Checks and links a program.
    pub(crate) fn load(
        &self,
        name: &str,
        kind: ProgramKind,
        slots: Vec<[u8; 8]>,
        maps: &[(MapId, Arc<dyn Map>)],
    ) -> Arc<Loaded> {
        let raw = RawProgram { name: name.to_owned(), section: "test".to_owned(), slots, ..RawProgram::default() };
        let program = Program::check(raw, kind).unwrap_or_else(|rejection| panic!("{rejection}"));
        let linked = Linked::link(Arc::new(program), Arc::clone(&self.world), maps.into());
        let loaded = Loaded::new(Arc::new(linked.unwrap_or_else(|error| panic!("{error}"))));
        for mode in Mode::ALL {
            loaded.translated(mode).expect("no mode falls back on another where modes are compared");
        }
        Arc::new(loaded)
    }

    /// Checks and links a raw program without maps.
    pub(crate) fn load_raw(&self, text: &str) -> Arc<Loaded> {
        self.load("test", ProgramKind::Raw, slots(text), &[])
    }

    /// A run for programs of a kind, not yet ready.
    pub(crate) fn new_run(&self, kind: ProgramKind) -> Run<'_> {
        Run::new(&self.world, WorkerIndex(0), kind, self.stack.addr() + STACK_LEN)
    }

    /// Runs a raw program on memory at the start of a page; none means NULL.
    pub(crate) fn run_raw(&self, mode: Mode, loaded: &Loaded, memory: &[u8]) -> Ran {
        self.run_raw_at(mode, loaded, 0, memory)
    }

    /// Runs a raw program on memory at an offset of its page. The memory may reach beyond the page: what lies there is
    /// not mapped.
    pub(crate) fn run_raw_at(&self, mode: Mode, loaded: &Loaded, offset: u32, memory: &[u8]) -> Ran {
        let mut run = self.new_run(ProgramKind::Raw);
        run.reset(self.fuel);
        let mapped = memory.len().min((RUN_CHUNK_LEN - offset) as usize);
        if !memory.is_empty() {
            self.chunk.write(u64::from(offset), &memory[..mapped]);
            run.head.ctx = self.chunk.addr() + offset;
            run.head.arg2 = memory.len() as u64;
        }
        let outcome = loaded.run(mode, &mut run);
        let mut after = vec![0; mapped];
        self.chunk.read(u64::from(offset), &mut after);
        Self::ran(&run, &outcome, after)
    }

    /// Runs a program of a hook on a frame.
    pub(crate) fn run_frame(&self, mode: Mode, loaded: &Loaded, frame: &[u8]) -> Ran {
        let kind = loaded.linked().program().kind();
        let mut run = self.new_run(kind);
        run.reset(self.fuel);
        // Zeros before the frame as in the kernel's test runs; behind it what no program may see.
        self.chunk.write(0, &[0; HEADROOM as usize]);
        self.chunk.write(u64::from(HEADROOM), &[0xcc; (RUN_CHUNK_LEN - HEADROOM) as usize]);
        self.chunk.write(u64::from(HEADROOM), frame);
        run.head.ctx = self.context.addr();
        run.window =
            Window::new(self.chunk.addr(), RUN_CHUNK_LEN, HEADROOM, u32::try_from(frame.len()).expect("short"));
        Context::write(&mut run).expect("the context is mapped");
        let outcome = loaded.run(mode, &mut run);
        let window = run.window;
        let mut after = vec![0; (window.data_end - window.meta) as usize];
        self.chunk.read(u64::from(window.meta - window.chunk), &mut after);
        Self::ran(&run, &outcome, after)
    }

    fn ran(run: &Run<'_>, outcome: &kumite::vm::Outcome, memory: Vec<u8>) -> Ran {
        let at = outcome.trap.as_ref();
        Ran {
            r0: outcome.r0,
            trap: at.map(|at| at.trap),
            trapped_in: at.map(|at| at.program.name().to_owned()),
            fuel_left: outcome.fuel_left,
            tail_calls: outcome.tail_calls,
            memory,
            redirect: run.redirect,
            findings: run.findings.clone(),
        }
    }
}
