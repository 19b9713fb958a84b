//! Where cases run: a world of one worker that many cases use one after the other.
//!
//! Maps of one definition are made once; arrays, hashes, tries, queues, stacks and ring buffers are emptied before each
//! run, and every run has the same time and chance, so that the modes' runs of a case begin alike. What a wild program
//! writes outside its maps may be left for later cases, and elements of hashes lie elsewhere in each run:
//! [`super::Differential`] sees to that.

use std::sync::{Arc, Mutex};

use super::{Case, Input};
use crate::cage::{CageError, Region};
use crate::limits::{
    FRAME_LEN_MIN, FUEL_DEFAULT, HEADROOM, RUN_CHUNK_LEN, RUN_TRACE_LINES_MAX, STACK_LEN, TAIL_RESERVE,
};
use crate::maps::{self, Errno, Map, MapDef, MapError, MapId, MapKind, WorkerIndex};
use crate::program::{Program, RawProgram, Rejection};
use crate::run::sockets::{Socket, SocketsError};
use crate::run::{Clock, Context, Finding, Redirect, Run, Window, World};
use crate::trap::{Fault, Trap, TrapKind};
use crate::verdict::ProgramKind;
use crate::vm::jit::TranslateError;
use crate::vm::{LinkError, Linked, Loaded, Mode, Outcome};

/// The moment at which every run takes place.
const NOW_NS: u64 = 1_000_000_000_000;
/// Longest frame that a run takes.
const FRAME_LEN_MAX: usize = (RUN_CHUNK_LEN - HEADROOM - TAIL_RESERVE) as usize;

/// A case cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// There is no memory to run in.
    #[error("{0}")]
    Cage(#[from] CageError),
    /// A map cannot be made.
    #[error("{0}")]
    Map(#[from] MapError),
    /// A map does not take an element or a program.
    #[error("map {map}: it does not take what the case puts into it ({errno}); correct the case")]
    Element {
        /// Name of the map.
        map: String,
        /// Its answer.
        errno: Errno,
    },
    /// A program is not well-formed.
    #[error("{0}")]
    Rejected(Box<Rejection>),
    /// A program cannot be linked.
    #[error("{0}")]
    Link(#[from] LinkError),
    /// A program cannot be translated, so there is nothing to compare.
    #[error("{program}: {reason}")]
    Untranslated {
        /// Its name.
        program: String,
        /// Why.
        reason: String,
    },
    /// The sockets cannot be read.
    #[error("{0}")]
    Sockets(#[from] SocketsError),
    /// The input has a length that no run takes.
    #[error("the case's input of {len} bytes is not between {min} and {max}; change its length")]
    Len {
        /// Its length.
        len: usize,
        /// Fewest bytes.
        min: usize,
        /// Most bytes.
        max: usize,
    },
}

/// Where cases run.
#[derive(Debug)]
pub struct Bench {
    world: Arc<World>,
    stack: Region,
    context: Region,
    chunk: Region,
    maps: Vec<Kept>,
    lines: Arc<Mutex<Vec<String>>>,
}

/// A map that the bench keeps.
#[derive(Debug)]
struct Kept {
    /// Whose programs it may hold, where it is a program array.
    kind: Option<ProgramKind>,
    id: MapId,
    map: Arc<dyn Map>,
}

/// A case on its bench, ready to be run.
#[derive(Debug)]
pub struct Scene<'b> {
    bench: &'b Bench,
    case: &'b Case,
    maps: Vec<(MapId, Arc<dyn Map>)>,
    programs: Vec<Arc<Loaded>>,
}

/// Elements by key; what has no keys by order.
pub(super) type Elements = Vec<(Vec<u8>, Vec<u8>)>;

/// How a run ended, and what it left.
#[derive(Clone, Debug)]
pub struct Ran {
    /// r0 at the end; 0 after a trap.
    pub r0: u64,
    /// Why it stopped early. Of a fault only that it was one: generated code does not tell the length.
    pub trap: Option<Trap>,
    /// Name of the program that trapped.
    pub trapped_in: Option<String>,
    /// Fuel left; 0 after a trap.
    pub fuel_left: u64,
    /// Tail calls taken; 0 after a trap.
    pub tail_calls: u32,
    /// The memory, or the frame with its metadata before it.
    pub memory: Vec<u8>,
    /// The context; empty for raw programs.
    pub context: Vec<u8>,
    /// Where the last redirect helper sent the frame.
    pub redirect: Option<Redirect>,
    /// What each map holds.
    pub maps: Vec<Elements>,
    /// What verify mode noticed.
    pub findings: Vec<Finding>,
    /// Lines of `bpf_trace_printk`.
    pub lines: Vec<String>,
    /// The trap in words, as this mode has it.
    trap_text: String,
}

impl Ran {
    /// The trap in words with the program's name, or the empty string.
    #[must_use]
    pub fn trap_text(&self) -> String {
        self.trap_text.clone()
    }

    /// The value of an element of a map, by the map's place.
    #[must_use]
    pub fn value(&self, map: usize, key: &[u8]) -> Option<&[u8]> {
        let elements = self.maps.get(map)?.iter();
        elements.into_iter().find(|(known, _)| known == key).map(|(_, value)| value.as_slice())
    }
}

impl Bench {
    /// A bench with a world of its own.
    ///
    /// # Errors
    /// [`BenchError::Cage`].
    pub fn new() -> Result<Self, BenchError> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let trace = move |line: &str| {
            let mut lines = sink.lock().expect("nothing panics while it holds the lines");
            if lines.len() < RUN_TRACE_LINES_MAX {
                lines.push(line.to_owned());
            }
        };
        let world = Arc::new(World::new(1, Clock::Fixed(NOW_NS), Box::new(trace))?);
        let alloc = |len| world.cage.alloc(u64::from(len), "a case");
        let stack = world.cage.alloc_apart(STACK_LEN.into(), "a case")?;
        let (context, chunk) = (alloc(Context::LEN)?, alloc(RUN_CHUNK_LEN)?);
        Ok(Self { world, stack, context, chunk, maps: Vec::new(), lines })
    }

    /// Brings a case to life: its maps made, its programs loaded in every mode.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn set<'b>(&'b mut self, case: &'b Case) -> Result<Scene<'b>, BenchError> {
        check_len(&case.input)?;
        let mut taken = Vec::new();
        for map in &case.maps {
            taken.push(self.map(&map.def, case.kind, &taken)?);
        }
        if let Some(sockets) = &case.sockets {
            self.world.sockets.replace(Socket::parse_list(sockets)?)?;
        }
        let kept = taken.iter().map(|place| &self.maps[*place]);
        let maps: Vec<_> = kept.map(|kept| (kept.id, Arc::clone(&kept.map))).collect();
        let load = |program: &super::CaseProgram| self.load(case.kind, program, &maps);
        let programs = case.programs.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        for slot in &case.slots {
            let map = &case.maps[slot.map].def.name;
            let refused = |errno| BenchError::Element { map: map.clone(), errno };
            let array = maps[slot.map].1.as_program_array().ok_or_else(|| refused(Errno::EINVAL))?;
            array.replace(slot.index, Some(programs[slot.program].slot())).map_err(refused)?;
        }
        Ok(Scene { bench: self, case, maps, programs })
    }

    /// The place of a map of this definition that is not among `taken`.
    fn map(&mut self, def: &MapDef, kind: ProgramKind, taken: &[usize]) -> Result<usize, BenchError> {
        let kind = Some(kind).filter(|_| def.kind == MapKind::PROGRAM_ARRAY);
        let fits = |kept: &Kept| kept.map.def() == def && kept.kind == kind;
        let known = (0..self.maps.len()).find(|place| fits(&self.maps[*place]) && !taken.contains(place));
        if let Some(place) = known {
            return Ok(place);
        }
        let map = maps::create(def, self.world.map_env())?;
        let id = self.world.maps.insert(Arc::clone(&map))?;
        self.maps.push(Kept { kind, id, map });
        Ok(self.maps.len() - 1)
    }

    fn load(
        &self,
        kind: ProgramKind,
        program: &super::CaseProgram,
        maps: &[(MapId, Arc<dyn Map>)],
    ) -> Result<Arc<Loaded>, BenchError> {
        let raw = RawProgram {
            name: program.name.clone(),
            section: "case".to_owned(),
            slots: program.slots.clone(),
            ..RawProgram::default()
        };
        let program = Program::check(raw, kind).map_err(|rejection| BenchError::Rejected(Box::new(rejection)))?;
        let linked = Linked::link(Arc::new(program), Arc::clone(&self.world), maps.into())?;
        let loaded = Loaded::new(Arc::new(linked));
        for mode in Mode::ALL {
            let untranslated = |reason: &TranslateError| BenchError::Untranslated {
                program: loaded.linked().program().name().to_owned(),
                reason: reason.to_string(),
            };
            loaded.translated(mode).map_err(untranslated)?;
        }
        Ok(Arc::new(loaded))
    }
}

fn check_len(input: &Input) -> Result<(), BenchError> {
    let (min, max) = match input {
        Input::Memory { .. } => (0, RUN_CHUNK_LEN as usize),
        Input::Frame(_) => (FRAME_LEN_MIN as usize, FRAME_LEN_MAX),
    };
    let len = input.bytes().len();
    if (min..=max).contains(&len) { Ok(()) } else { Err(BenchError::Len { len, min, max }) }
}

impl Scene<'_> {
    /// Its programs, in the case's order.
    #[must_use]
    pub fn programs(&self) -> &[Arc<Loaded>] {
        &self.programs
    }

    /// Puts what the case says into maps and memory, and runs its first program. `fuel` is instead of the case's.
    ///
    /// # Errors
    /// [`BenchError::Element`] where a map does not take its elements.
    pub fn run(&self, mode: Mode, fuel: Option<u64>) -> Result<Ran, BenchError> {
        let Bench { world, stack, context, chunk, lines, .. } = self.bench;
        // Programs reach their maps by number; nothing that they may reach is freed while this is held.
        let guard = crossbeam::epoch::pin();
        for ((_, map), given) in self.maps.iter().zip(&self.case.maps) {
            let refused = |errno| BenchError::Element { map: given.def.name.clone(), errno };
            fill(map.as_ref(), &given.elements).map_err(refused)?;
        }
        let kind = self.case.kind;
        let mut run = Run::new(world, WorkerIndex(0), kind, stack.addr() + STACK_LEN);
        run.reset(fuel.or(self.case.fuel).unwrap_or(FUEL_DEFAULT));
        run.clear_stack();
        match &self.case.input {
            Input::Memory { offset, bytes } => {
                chunk.write(0, &[0; RUN_CHUNK_LEN as usize]);
                let mapped = bytes.len().min((RUN_CHUNK_LEN - offset) as usize);
                if !bytes.is_empty() {
                    chunk.write((*offset).into(), &bytes[..mapped]);
                    run.head.ctx = chunk.addr() + offset;
                    run.head.arg2 = bytes.len() as u64;
                }
            }
            Input::Frame(frame) => {
                // Zeros before the frame as in the kernel's test runs; behind it what no program may see.
                chunk.write(0, &[0; HEADROOM as usize]);
                chunk.write(HEADROOM.into(), &[0xcc; (RUN_CHUNK_LEN - HEADROOM) as usize]);
                chunk.write(HEADROOM.into(), frame);
                context.write(0, &[0; Context::LEN as usize]);
                run.head.ctx = context.addr();
                let len = u32::try_from(frame.len()).expect("shorter than a page");
                run.window = Window::new(chunk.addr(), RUN_CHUNK_LEN, HEADROOM, len);
                if kind == ProgramKind::SocketFilter {
                    // The kernel has taken the link header off.
                    run.window.data += FRAME_LEN_MIN;
                    run.window.meta = run.window.data;
                }
                Context::write(&mut run).expect("the context is mapped");
            }
        }
        lines.lock().expect("nothing panics while it holds the lines").clear();
        let outcome = self.programs[0].run(mode, &mut run);
        drop(guard);
        Ok(self.ran(&run, &outcome))
    }

    fn ran(&self, run: &Run<'_>, outcome: &Outcome) -> Ran {
        let chunk = &self.bench.chunk;
        let (start, end) = match &self.case.input {
            Input::Memory { offset, bytes } => {
                (*offset, (*offset as usize + bytes.len()).min(RUN_CHUNK_LEN as usize) as u64)
            }
            Input::Frame(_) => {
                let window = run.window;
                (window.meta.min(window.data) - window.chunk, u64::from(window.data_end - window.chunk))
            }
        };
        let mut memory = vec![0; usize::try_from(end - u64::from(start)).expect("within a page")];
        chunk.read(start.into(), &mut memory);
        let mut context = vec![0; if self.case.kind == ProgramKind::Raw { 0 } else { Context::LEN as usize }];
        self.bench.context.read(0, &mut context);
        let at = outcome.trap.as_ref();
        let lines = self.bench.lines.lock().expect("nothing panics while it holds the lines").clone();
        Ran {
            r0: outcome.r0,
            trap: at.map(|at| without_length(at.trap)),
            trapped_in: at.map(|at| at.program.name().to_owned()),
            fuel_left: outcome.fuel_left,
            tail_calls: if at.is_some() { 0 } else { outcome.tail_calls },
            memory,
            context,
            redirect: run.redirect,
            maps: self.maps.iter().map(|(_, map)| contents(map.as_ref())).collect(),
            findings: run.findings.clone(),
            lines,
            trap_text: at.map(ToString::to_string).unwrap_or_default(),
        }
    }
}

impl Drop for Scene<'_> {
    /// Programs in arrays keep the array's programs alive, and these the array.
    fn drop(&mut self) {
        self.maps.iter().filter_map(|(_, map)| map.as_program_array()).for_each(maps::ProgramArray::clear);
    }
}

/// The trap as every engine tells it.
fn without_length(trap: Trap) -> Trap {
    match trap.kind {
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
    }
}

/// Whether elements of such maps are there from the start, as zeros.
pub(super) fn is_array(kind: MapKind) -> bool {
    matches!(kind, MapKind::ARRAY | MapKind::PERCPU_ARRAY)
}

/// Whether elements of such maps come and go by their keys.
pub(super) fn is_hash(kind: MapKind) -> bool {
    [MapKind::HASH, MapKind::PERCPU_HASH, MapKind::LRU_HASH, MapKind::LRU_PERCPU_HASH, MapKind::LPM_TRIE]
        .contains(&kind)
}

/// Whether values of such maps have no keys.
pub(super) fn is_queue(kind: MapKind) -> bool {
    matches!(kind, MapKind::QUEUE | MapKind::STACK)
}

/// Makes a map hold these elements and nothing else.
fn fill(map: &dyn Map, elements: &Elements) -> Result<(), Errno> {
    let def = map.def();
    if is_queue(def.kind) {
        contents(map);
    } else if let Some(ring) = map.as_ring_buffer() {
        ring.read(|_| {});
    } else if is_array(def.kind) {
        let len = usize::try_from(def.value_stride()).expect("a value fits memory");
        let zero = vec![0; if def.kind == MapKind::ARRAY { def.value_len as usize } else { len }];
        for index in 0..def.max_entries {
            map.host_update(&index.to_ne_bytes(), &zero, 0)?;
        }
    } else if is_hash(def.kind) {
        // Each key is asked for behind the last: from the start, an empty table of many buckets is searched every time.
        let mut next = map.next_key(None);
        while let Ok(key) = next {
            next = map.next_key(Some(&key));
            map.delete(&key)?;
        }
    }
    for (key, value) in elements {
        map.host_update(key, value, 0)?;
    }
    Ok(())
}

/// What a map holds; takes it out where that is the only way to see it.
fn contents(map: &dyn Map) -> Elements {
    let def = map.def();
    let mut elements = Elements::new();
    if is_queue(def.kind) {
        let mut value = vec![0; def.value_len as usize];
        while elements.len() <= def.max_entries as usize && map.pop(&mut value).is_ok() {
            elements.push((Vec::new(), value.clone()));
        }
    } else if let Some(ring) = map.as_ring_buffer() {
        ring.read(|record| elements.push((Vec::new(), record.to_vec())));
    } else if is_array(def.kind) || is_hash(def.kind) {
        let keys = std::iter::successors(map.next_key(None).ok(), |key| map.next_key(Some(key)).ok());
        elements.extend(keys.filter_map(|key| Some((key.clone(), map.host_lookup(&key).ok()?))));
        elements.sort();
    }
    elements
}
