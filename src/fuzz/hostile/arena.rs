//! Where hostile programs run: a host of two workers whose maps, packets and contexts hold addresses, with canaries around.
//!
//! Invariant: what a program may change lies in the cage; all else is looked at after each run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::attacks::{LURES_AT, Plan};
use super::canary::{self, Canaries};
use super::cpu_time;
use super::lures::Lures;
use crate::cage::Region;
use crate::fuzz::BenchError;
use crate::helpers::KFUNCS;
use crate::isa::random::Dice;
use crate::isa::{self, AsmError};
use crate::limits::{FRAME_LEN_MIN, HEADROOM, RUN_CHUNK_LEN, STACK_LEN};
use crate::maps::{self, Map, MapDef, MapId, MapKind, ProgramArray, WorkerIndex};
use crate::program::{Kfunc, Need, Program, RawProgram};
use crate::run::{Clock, Context, Run, Window, World};
use crate::trap::TrapKind;
use crate::verdict::ProgramKind;
use crate::vm::{self, Linked, Loaded, Mode};

/// Workers: two, that race.
const WORKERS: u32 = 2;
/// Bytes of a packet.
const FRAME_LEN: u32 = 200;
/// Words of a canary in a thread's stack.
const STACK_WORDS: usize = 64;
/// Timers that are called after a run at most.
const TIMERS_MAX: usize = 8;
/// Elements of a map that the host looks at after a run.
const ELEMENTS_MAX: usize = 64;

/// Place of an array.
pub(super) const ARRAY: usize = 0;
/// Place of a hash.
pub(super) const HASH: usize = 1;
/// Place of the ring buffer.
pub(super) const RING: usize = 2;
/// Place of the program array.
pub(super) const PROGRAMS: usize = 3;
/// Place of an array whose values have a timer.
pub(super) const TIMED: usize = 4;
/// Place of an array whose values have a lock.
pub(super) const LOCKED: usize = 5;
/// Place of a hash all of whose elements share few chains.
pub(super) const CHAIN: usize = 6;

/// Place of an array of one value, which programs know by its address.
pub(super) const VALUE: usize = 15;

/// The maps: name, type, bytes of key and value, entries, flags.
pub(super) const MAPS: [(&str, MapKind, u32, u32, u32, u32); 16] = [
    ("array", MapKind::ARRAY, 4, 64, 8, 0),
    ("hash", MapKind::HASH, 8, 64, 64, 0),
    ("ring", MapKind::RING_BUFFER, 0, 0, 4096, 0),
    ("programs", MapKind::PROGRAM_ARRAY, 4, 4, 4, 0),
    ("timed", MapKind::ARRAY, 4, 64, 4, 0),
    ("locked", MapKind::ARRAY, 4, 64, 4, 0),
    ("chain", MapKind::HASH, 8, 64, 2, 1),
    ("percpu", MapKind::PERCPU_ARRAY, 4, 64, 4, 0),
    ("lru", MapKind::LRU_HASH, 8, 64, 16, 0),
    ("trie", MapKind::LPM_TRIE, 8, 64, 64, 1),
    ("queue", MapKind::QUEUE, 0, 64, 8, 0),
    ("bloom", MapKind::BLOOM_FILTER, 0, 8, 64, 0),
    ("ports", MapKind::DEVMAP, 4, 4, 4, 0),
    ("events", MapKind::PERF_EVENT_ARRAY, 4, 4, 2, 0),
    ("stack", MapKind::STACK, 0, 512, 8, 0),
    ("value", MapKind::ARRAY, 4, 64, 1, 0),
];

/// What one worker has.
struct Desk {
    stack: Region,
    context: Region,
    chunk: Region,
}

/// Where hostile programs run.
pub(super) struct Arena {
    world: Arc<World>,
    maps: Vec<(MapId, Arc<dyn Map>)>,
    desks: Vec<Desk>,
    canaries: Canaries,
    lures: Lures,
}

/// A text of ours is no program.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    /// It cannot be assembled.
    #[error("{0}")]
    Text(#[from] AsmError),
    /// It cannot be loaded.
    #[error("{0}")]
    Load(#[from] BenchError),
}

/// How one run ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    /// Why it stopped early.
    pub(super) trap: Option<TrapKind>,
    /// Time on a processor.
    pub(super) time: Duration,
    /// What was changed or exceeded that must not be.
    pub(super) breach: Option<String>,
}

impl Arena {
    /// An arena. The addresses that programs are given are of the process, so they differ from one to the next.
    pub(super) fn new() -> Result<Self, BenchError> {
        let world = Arc::new(World::new(WORKERS, Clock::Monotonic, Box::new(|_| {}))?);
        let alloc = |len| world.cage.alloc(u64::from(len), "a hostile program");
        let desk = |_| -> Result<Desk, BenchError> {
            let stack = world.cage.alloc_apart(STACK_LEN.into(), "a hostile program")?;
            Ok(Desk { stack, context: alloc(Context::LEN)?, chunk: alloc(RUN_CHUNK_LEN)? })
        };
        let desks = (0..WORKERS).map(desk).collect::<Result<Vec<_>, _>>()?;
        let mut maps = Vec::new();
        for (name, kind, key_len, value_len, max_entries, flags) in MAPS {
            let mut def =
                MapDef { name: name.to_owned(), kind, key_len, value_len, max_entries, flags, ..MapDef::default() };
            def.timer_offset = (name == MAPS[TIMED].0).then_some(0);
            def.lock_offset = (name == MAPS[LOCKED].0).then_some(0);
            let map = maps::create(&def, world.map_env())?;
            maps.push((world.maps.insert(Arc::clone(&map))?, map));
        }
        let canaries = Canaries::around(&world.cage);
        let host = canaries.addresses().chain([
            std::ptr::from_ref(world.as_ref()).addr() as u64,
            std::ptr::from_ref(world.maps.as_ref()).addr() as u64,
            programs(&maps).code_table(0).addr() as u64,
            programs(&maps).code_table(1).addr() as u64,
            (vm::interp::run as *const ()).addr() as u64,
        ]);
        let guest = desks.iter().flat_map(|desk: &Desk| [&desk.stack, &desk.context, &desk.chunk]);
        let guest = guest.flat_map(|region| [u64::from(region.addr()), u64::from(region.addr()) + region.len()]);
        let lures = Lures { base: world.cage.base().addr() as u64, host: host.collect(), guest: guest.collect() };
        Ok(Self { world, maps, desks, canaries, lures })
    }

    /// What programs are given as addresses; those of the calling thread's stack are added for each run.
    pub(super) fn lures(&self) -> &Lures {
        &self.lures
    }

    /// Checks and links a program.
    pub(super) fn link(&self, kind: ProgramKind, name: String, text: &str) -> Result<Arc<Linked>, PlanError> {
        let kfunc =
            |kfunc: &&crate::helpers::Helper| Kfunc { name: format!("bpf_{}", kfunc.name), need: Need::Required };
        let slots = isa::assemble(text)?;
        let kfuncs = KFUNCS.iter().map(kfunc).collect();
        let raw = RawProgram { name, section: "hostile".to_owned(), slots, kfuncs, ..RawProgram::default() };
        let program = Program::check(raw, kind).map_err(|rejection| BenchError::Rejected(Box::new(rejection)))?;
        let maps = self.maps.as_slice().into();
        let linked = Linked::link(Arc::new(program), Arc::clone(&self.world), maps).map_err(BenchError::Link)?;
        Ok(Arc::new(linked))
    }

    /// Loads a plan's programs and runs it in a mode.
    pub(super) fn run(&self, plan: &Plan, mode: Mode, fuel: u64, dice: &mut Dice) -> Result<Vec<Ended>, PlanError> {
        let load = |(number, text): (usize, &String)| {
            self.link(plan.kind, format!("hostile_{number}"), text).map(|linked| Arc::new(Loaded::new(linked)))
        };
        let loaded = plan.texts.iter().enumerate().map(load).collect::<Result<Vec<_>, _>>()?;
        let array = programs(&self.maps);
        for (index, program) in (0..array.slot_count()).zip(loaded.iter().cycle()) {
            // The array takes programs of the first one's kind alone; others find it empty.
            let _ = array.replace(index, Some(program.slot()));
        }
        self.hand_out(dice);
        let mut ended = if plan.is_race {
            self.race(&loaded, plan.kind, mode, fuel)
        } else {
            vec![self.judge(&loaded[0], 0, mode, fuel)]
        };
        array.clear();
        self.look_around();
        if let Some(last) = ended.last_mut().filter(|last| last.breach.is_none()) {
            last.breach = self.canaries.changed().map(|addr| format!("a byte of the host at {addr:#x} was changed"));
        }
        Ok(ended)
    }

    /// Puts addresses where programs read: values of the array, packets, contexts.
    fn hand_out(&self, dice: &mut Dice) {
        for array in [ARRAY, VALUE].map(|place| &self.maps[place].1) {
            for index in 0..array.def().max_entries {
                let value: Vec<u8> = (0..8).flat_map(|_| self.lures.pick(dice).to_ne_bytes()).collect();
                array.host_update(&index.to_ne_bytes(), &value, 0).expect("an array has its elements");
            }
        }
        for desk in &self.desks {
            desk.chunk.write(0, &[0xcc; RUN_CHUNK_LEN as usize]);
            let words: Vec<u8> = (0..20).flat_map(|_| self.lures.pick(dice).to_ne_bytes()).collect();
            desk.chunk.write(u64::from(HEADROOM) + LURES_AT as u64, &words);
        }
    }

    /// One run by a worker, with canaries in the thread's stack above and below it.
    fn judge(&self, loaded: &Loaded, worker: u32, mode: Mode, fuel: u64) -> Ended {
        let canary: [AtomicU64; STACK_WORDS] = [const { AtomicU64::new(0) }; STACK_WORDS];
        canary::fill(&canary);
        let kind = loaded.linked().program().kind();
        let desk = &self.desks[worker as usize];
        let mut run = Run::new(&self.world, WorkerIndex(worker), kind, desk.stack.addr() + STACK_LEN);
        run.reset(fuel);
        run.clear_stack();
        desk.context.write(0, &[0; Context::LEN as usize]);
        run.head.ctx = desk.context.addr();
        run.window = Window::new(desk.chunk.addr(), RUN_CHUNK_LEN, HEADROOM, FRAME_LEN);
        if kind == ProgramKind::SocketFilter {
            run.window.data += FRAME_LEN_MIN;
            run.window.meta = run.window.data;
        }
        Context::write(&mut run).expect("the context is mapped");
        // The addresses of this thread's stack and of the run: in the packet, and where an sk_buff keeps a program's own.
        let own = [&raw const canary as u64, std::ptr::from_ref(&run).addr() as u64].map(u64::to_ne_bytes).concat();
        desk.chunk.write(u64::from(HEADROOM) + LURES_AT as u64, &own);
        if kind != ProgramKind::Xdp {
            desk.context.write(48, &own);
        }
        let fixed = |run: &Run<'_>| {
            let head = &run.head;
            (head.cage_base.addr(), head.ctx, head.stack_top, head.worker, head.deepest_frame, head.arg2)
        };
        let before = fixed(&run);
        let start = cpu_time::of_this_thread();
        let outcome = loaded.run(mode, &mut run);
        let time = cpu_time::of_this_thread() - start;
        let executed = outcome.insns.unwrap_or(0);
        let breach = if let Some(addr) = canary::changed(&canary) {
            Some(format!("a byte of the host's stack at {addr:#x} was changed"))
        } else if fixed(&run) != before {
            Some("the head of the run was changed".to_owned())
        } else if executed > fuel || outcome.fuel_left > fuel {
            Some(format!("{executed} instructions were executed and {} fuel is left of {fuel}", outcome.fuel_left))
        } else {
            self.out_of_place(&run)
        };
        let trap = outcome.trap.map(|at| at.trap.kind);
        if worker == 0 {
            for _ in 0..TIMERS_MAX {
                if vm::fire(&mut run, mode, fuel).is_none() {
                    break;
                }
            }
        }
        Ended { trap, time, breach }
    }

    /// Whether the bounds of the frame, which helpers move, left its chunk.
    fn out_of_place(&self, run: &Run<'_>) -> Option<String> {
        let window = run.window;
        let chunk = window.chunk..=window.chunk + window.chunk_len;
        let is_ordered =
            window.data <= window.data_end && [window.data, window.data_end].iter().all(|at| chunk.contains(at));
        (!is_ordered).then(|| format!("the frame's bounds left its chunk: {window:?}"))
    }

    /// Two workers run the first and the last program at once, while the host replaces slots and elements.
    fn race(&self, loaded: &[Arc<Loaded>], kind: ProgramKind, mode: Mode, fuel: u64) -> Vec<Ended> {
        let over = AtomicBool::new(false);
        let [first, .., last] = loaded else { return vec![self.judge(&loaded[0], 0, mode, fuel)] };
        thread::scope(|scope| {
            let other = scope.spawn(|| self.judge(last, 1, mode, fuel));
            let controller = scope.spawn(|| {
                let array = programs(&self.maps);
                let mut dice = Dice::new(fuel ^ kind as u64);
                while !over.load(Ordering::Acquire) {
                    let slot = (!dice.once_in(3)).then(|| loaded[dice.below(loaded.len())].slot());
                    // Outside the array, of another kind, empty already: all are answers.
                    let _ = array.replace(u32::try_from(dice.below(5)).expect("small"), slot);
                    let key = dice.below(8).to_ne_bytes();
                    let _ = self.maps[HASH].1.host_update(&key, &[0x77; 64], 0);
                    let _ = self.maps[HASH].1.delete(&dice.below(8).to_ne_bytes());
                    thread::yield_now();
                }
            });
            let ended = self.judge(first, 0, mode, fuel);
            let other = other.join().expect("a hostile program is no reason to panic");
            over.store(true, Ordering::Release);
            controller.join().expect("the host does not panic");
            vec![ended, other]
        })
    }

    /// What a host does with what programs left: reads the records and walks the maps.
    fn look_around(&self) {
        for (_, map) in &self.maps {
            if let Some(ring) = map.as_ring_buffer() {
                ring.read(|_| {});
            }
            let mut value = vec![0; map.def().value_len as usize];
            for _ in 0..ELEMENTS_MAX {
                if map.pop(&mut value).is_err() {
                    break;
                }
            }
            let mut key = map.next_key(None).ok();
            for _ in 0..ELEMENTS_MAX {
                let Some(known) = key else { break };
                // What another type answers is no matter here.
                let _ = map.host_lookup(&known);
                key = map.next_key(Some(&known)).ok();
            }
        }
    }
}

fn programs(maps: &[(MapId, Arc<dyn Map>)]) -> &ProgramArray {
    maps[PROGRAMS].1.as_program_array().expect("it is a program array")
}
