//! A program run on frames that the caller gives, as `BPF_PROG_TEST_RUN` does it.
//!
//! The frame lies in a chunk of a page with the headroom and tail room that a port leaves; of a longer one, the rest is in
//! fragments. The packet of an sk_buff has a chunk that it can grow in. The context says interface 1, queue 0. Maps keep what
//! runs leave in them.
//!
//! Source: `bpf_prog_test_run_xdp` in `net/bpf/test_run.c`. Unlike the kernel, each repetition finds the frame as it came in.
//! What is timed are runs: a burst of frames is placed, then the clock is read, they are run one after the other, and the
//! clock is read again.
//!
//! Invariant: one thread; nothing of one frame is seen by the next but through maps.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::frame_report::{CopyReport, FindingReport, FrameReport, RedirectReport, TimerReport};
use super::hexadecimal::to_hex;
use super::preset::{Preset, PresetError};
use super::test_context::{ContextError, TestContext};
use crate::cage::{CageError, Region};
use crate::elf::Object;
use crate::limits::{
    BURST_MAX, FRAGMENT_LEN_MAX, FRAGMENTS_MAX, FRAME_LEN_MIN, FUEL_DEFAULT, HEADROOM, RUN_CHUNK_LEN,
    RUN_SKB_CHUNK_LEN, RUN_TRACE_LINES_MAX, STACK_LEN, TAIL_RESERVE, TURN_TIMERS_MAX,
};
use crate::maps::WorkerIndex;
use crate::program::Program;
use crate::run::{Clock, Context, Run, Window, World};
use crate::trap::Fault;
use crate::verdict::{ProgramKind, Verdict};
use crate::vm::jit::TranslateError;
use crate::vm::{Instance, LoadError, Loaded, Mode, Outcome, fire};

/// Longest frame in one piece.
const LINEAR_LEN_MAX: u32 = RUN_CHUNK_LEN - HEADROOM - TAIL_RESERVE;
/// Longest packet of an sk_buff: the kernel has 64 bytes before it in its page.
const SKB_LEN_MAX: u32 = RUN_CHUNK_LEN - 64 - TAIL_RESERVE;
/// Bytes of fragments at most.
const FRAGMENTS_LEN_MAX: u32 = FRAGMENTS_MAX * FRAGMENT_LEN_MAX;
/// The interface that frames come in by: the kernel's loopback.
const IFINDEX: u32 = 1;

/// A program cannot be run on a frame.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The object cannot be brought to life, or has no such program.
    #[error("{0}")]
    Load(#[from] LoadError),
    /// The object has several programs and none was named.
    #[error("{object}: it has {} programs; choose one of {}", .programs.len(), .programs.join(", "))]
    Ambiguous {
        /// Name of the object.
        object: String,
        /// Its programs.
        programs: Vec<String>,
    },
    /// The object has none.
    #[error("{object}: it has no programs; functions are programs where their section is executable and not .text")]
    NoProgram {
        /// Name of the object.
        object: String,
    },
    /// A map cannot be filled.
    #[error("{0}")]
    Preset(#[from] PresetError),
    /// What the context is to say is refused.
    #[error("{0}")]
    Context(#[from] ContextError),
    /// The context does not fit a frame.
    #[error("frame {number}: {reason}")]
    FrameContext {
        /// Which one, from 1.
        number: usize,
        /// Why.
        reason: ContextError,
    },
    /// There is no memory to run in.
    #[error("{0}")]
    Cage(#[from] CageError),
    /// A frame is too short or too long.
    #[error("frame {number}: its length of {len} is not between {min} and {max} bytes; leave it out")]
    Frame {
        /// Which one, from 1.
        number: usize,
        /// Its bytes.
        len: usize,
        /// Fewest that a program takes.
        min: u32,
        /// Most that a program takes.
        max: u32,
    },
}

/// What is to be run.
#[derive(Debug)]
pub struct RunRequest<'a> {
    /// The object.
    pub object: &'a Object,
    /// Name of the program; may be left out where the object has one alone.
    pub program: Option<&'a str>,
    /// What maps hold before.
    pub presets: &'a [Preset],
}

/// A program with its maps, ready to be run on frames.
#[derive(Debug)]
pub struct TestRun {
    world: Arc<World>,
    instance: Instance,
    program: Arc<Loaded>,
    room: Room,
    place: Place,
    stack: Region,
    trace: Arc<Mutex<Vec<String>>>,
    /// What the context says where nobody says it; raw programs have none.
    blank: Option<TestContext>,
    context: Option<TestContext>,
}

/// Where a frame lies.
#[derive(Debug)]
struct Place {
    chunk: Region,
    ctx: Region,
}

impl Place {
    fn new(world: &World, room: Room) -> Result<Self, CageError> {
        let chunk = world.cage.alloc((room.chunk_len + room.fragments_len).into(), "the frame")?;
        Ok(Self { chunk, ctx: world.cage.alloc(Context::LEN.into(), "the context")? })
    }
}

/// What a program's frames find.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// Bytes of the chunk.
    chunk_len: u32,
    /// Longest input in one piece, metadata aside.
    linear_len_max: u32,
    /// Bytes of fragments at most.
    fragments_len: u32,
}

impl Room {
    fn of(program: &Program) -> Self {
        match program.kind() {
            ProgramKind::Xdp if program.takes_fragments() => Self { fragments_len: FRAGMENTS_LEN_MAX, ..Self::PAGE },
            ProgramKind::Tc | ProgramKind::SocketFilter => {
                Self { chunk_len: RUN_SKB_CHUNK_LEN, linear_len_max: SKB_LEN_MAX, fragments_len: 0 }
            }
            ProgramKind::Xdp | ProgramKind::FlowDissector | ProgramKind::Raw => Self::PAGE,
        }
    }

    const PAGE: Self = Self { chunk_len: RUN_CHUNK_LEN, linear_len_max: LINEAR_LEN_MAX, fragments_len: 0 };
}

/// A frame of a length that a chunk holds.
#[derive(Clone, Copy)]
struct Sized<'f> {
    bytes: &'f [u8],
    len: u32,
}

impl TestRun {
    /// Brings the object to life in a world of its own and fills its maps.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn new(request: &RunRequest<'_>) -> Result<Self, RunError> {
        let trace = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&trace);
        let world = world(Box::new(move |line: &str| {
            let mut lines = lock(&lines);
            if lines.len() < RUN_TRACE_LINES_MAX {
                lines.push(line.to_owned());
            }
        }))?;
        let instance = Instance::load(&world, request.object)?;
        let program = Arc::clone(choose(&instance, request)?);
        for preset in request.presets {
            preset.apply(&instance, &world)?;
        }
        let room = Room::of(program.linked().program());
        let place = Place::new(&world, room)?;
        let stack = world.cage.alloc_apart(STACK_LEN.into(), "the stack")?;
        let blank = TestContext::new(program.linked().program().kind(), &[]).ok();
        Ok(Self { world, instance, program, room, place, stack, trace, blank, context: None })
    }

    /// Says what the context of each run holds before, as `ctx_in` of `BPF_PROG_TEST_RUN`: `struct xdp_md`, whose `data` is
    /// the length of the metadata at the start of each frame and whose `data_end` is the frame's; `struct __sk_buff`; or
    /// `struct bpf_flow_keys`. Fewer bytes are taken with zeros behind them. Reports hold the context afterwards from now on.
    ///
    /// # Errors
    /// [`RunError::Context`] where the kernel would refuse it.
    pub fn give_context(&mut self, bytes: &[u8]) -> Result<(), RunError> {
        self.context = Some(TestContext::new(self.program.linked().program().kind(), bytes)?);
        Ok(())
    }

    /// The context that was given, as `BPF_PROG_TEST_RUN` takes it with this frame; empty where none was.
    pub(super) fn kernels_context(&self, frame: &[u8]) -> Vec<u8> {
        self.context.as_ref().map(|context| context.for_kernel(frame.len())).unwrap_or_default()
    }

    /// The object with its maps.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The world that it runs in.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The program that runs.
    #[must_use]
    pub fn program(&self) -> &Arc<Loaded> {
        &self.program
    }

    /// Why the mode has no code for the program, where it has none: the interpreter runs it then.
    #[must_use]
    pub fn untranslated(&self, mode: Mode) -> Option<&TranslateError> {
        self.program.translated(mode).err()
    }

    /// Runs the program on each frame, `repeat` times each (at least once). What is reported is the last repetition.
    pub fn reports<'a>(
        &'a self,
        mode: Mode,
        repeat: u32,
        frames: impl IntoIterator<Item = &'a [u8]> + 'a,
    ) -> impl Iterator<Item = Result<FrameReport, RunError>> + 'a {
        let kind = self.program.linked().program().kind();
        let stack_top = self.stack.addr() + STACK_LEN;
        let mut run = Run::new(&self.world, WorkerIndex(0), kind, stack_top);
        // Beside the first place, where there are repetitions.
        let mut places = Vec::new();
        let frames = (1..).zip(frames);
        frames.map(move |(number, frame)| {
            let frame = Sized { bytes: frame, len: self.input_len(number, frame)? };
            while places.len() + 1 < BURST_MAX.min(repeat.saturating_sub(1) as usize) {
                places.push(Place::new(&self.world, self.room)?);
            }
            Ok(self.report(&mut run, mode, repeat, frame, &places))
        })
    }

    /// Whether frames can be run, before any is: so that a wrong one costs no results.
    ///
    /// # Errors
    /// [`RunError::Frame`] at the first of a wrong length, [`RunError::FrameContext`] at one that the context does not fit.
    pub fn check<'a>(&self, frames: impl IntoIterator<Item = &'a [u8]>) -> Result<(), RunError> {
        (1..).zip(frames).try_for_each(|(number, frame)| self.check_one(number, frame))
    }

    /// Whether frame `number`, from 1, can be run.
    ///
    /// # Errors
    /// As [`TestRun::check`].
    pub fn check_one(&self, number: usize, frame: &[u8]) -> Result<(), RunError> {
        self.input_len(number, frame).map(|_| ())
    }

    /// Length of frame `number`, from 1, with the metadata before it.
    fn input_len(&self, number: usize, frame: &[u8]) -> Result<u32, RunError> {
        let max = self.room.linear_len_max + self.room.fragments_len;
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        if !(FRAME_LEN_MIN..=max).contains(&len) {
            return Err(RunError::Frame { number, len: frame.len(), min: FRAME_LEN_MIN, max });
        }
        if let Some(context) = &self.context {
            context.check(len, self.room.fragments_len).map_err(|reason| RunError::FrameContext { number, reason })?;
        }
        Ok(len)
    }

    fn report(&self, run: &mut Run<'_>, mode: Mode, repeat: u32, frame: Sized<'_>, places: &[Place]) -> FrameReport {
        // Programs reach their maps by number; nothing that they may reach is freed while this is held.
        let guard = crossbeam::epoch::pin();
        self.put(run, &self.place, frame);
        let mut outcome = self.program.run(mode, run);
        let mut mean_ns = None;
        if repeat > 1 {
            let mut elapsed = Duration::ZERO;
            let mut left = repeat as usize - 1;
            while left > 0 {
                // The first place comes last, so that what is reported does not depend on the count.
                let burst = &places[..places.len().min(left - 1)];
                burst.iter().chain([&self.place]).for_each(|place| self.put(run, place, frame));
                // What the run knows of the packet: it is the same everywhere but for where the packet lies.
                let skb = run.skb;
                let started = Instant::now();
                for place in burst.iter().chain([&self.place]) {
                    self.aim(run, place, frame.len);
                    run.skb = skb;
                    run.skb.moved(place.chunk.addr().wrapping_sub(self.place.chunk.addr()));
                    outcome = self.program.run(mode, run);
                }
                elapsed += started.elapsed();
                left -= burst.len() + 1;
            }
            mean_ns = Some(mean_ns_of(elapsed, repeat - 1));
        }
        drop(guard);
        let report = self.report_of(run, mode, &outcome, mean_ns);
        FrameReport { timers: self.fire_timers(run, mode), ..report }
    }

    /// Calls the functions of timers that are due, a bounded number.
    fn fire_timers(&self, run: &mut Run<'_>, mode: Mode) -> Vec<TimerReport> {
        let mut reports = Vec::new();
        while reports.len() < TURN_TIMERS_MAX
            && let Some((program, outcome)) = fire(run, mode, FUEL_DEFAULT)
        {
            reports.push(TimerReport {
                prog: program.linked().program().name().to_owned(),
                trap: outcome.trap.as_ref().map(ToString::to_string),
                findings: run.findings.iter().map(FindingReport::of).collect(),
            });
        }
        reports
    }

    /// Makes the run ready for the frame in a place.
    fn aim(&self, run: &mut Run<'_>, place: &Place, len: u32) {
        run.reset(FUEL_DEFAULT);
        run.kind = self.program.linked().program().kind();
        if run.kind == ProgramKind::Raw {
            run.head.arg2 = len.into();
        }
        let meta_len = self.context().map_or(0, TestContext::meta_len);
        let linear_len = self.context().map_or(len, |context| context.linear_len_max().min(len));
        let linear_len = (linear_len - meta_len).min(self.room.linear_len_max);
        run.window = Window::new(place.chunk.addr(), self.room.chunk_len, HEADROOM, linear_len);
        run.window.fragments_len = len - meta_len - linear_len;
        run.window.meta -= meta_len;
        (run.ifindex, run.queue) = (IFINDEX, 0);
        if let Some(context) = self.context() {
            context.prepare(run);
        }
        if run.kind == ProgramKind::SocketFilter {
            // The kernel has taken the link header off.
            run.window.data += FRAME_LEN_MIN;
            run.window.meta = run.window.data;
        }
        run.head.ctx = place.ctx.addr();
    }

    /// Puts the frame into a place, all zero around it, and its context beside it.
    fn put(&self, run: &mut Run<'_>, place: &Place, frame: Sized<'_>) {
        self.aim(run, place, frame.len);
        self.write(run, place, frame).expect("chunk and context are writable guest memory");
    }

    fn write(&self, run: &mut Run<'_>, place: &Place, frame: Sized<'_>) -> Result<(), Fault> {
        let chunk = u64::from(place.chunk.addr());
        let cage = &self.world.cage;
        let end = u64::from(run.window.frame_end());
        let start = end - u64::from(frame.len);
        cage.fill(chunk, start - chunk, 0)?;
        cage.write(start, frame.bytes)?;
        cage.fill(end, chunk + place.chunk.len() - end, 0)?;
        Context::write(run)?;
        self.context().map_or(Ok(()), |context| context.apply(run))
    }

    /// What the context says beside the frame.
    fn context(&self) -> Option<&TestContext> {
        self.context.as_ref().or(self.blank.as_ref())
    }

    /// What a flow dissector left, its offsets kept within the frame (`bpf_flow_dissect` of `net/core/flow_dissector.c`).
    fn flow_keys(&self, run: &Run<'_>) -> Result<Vec<u8>, Fault> {
        let mut keys = vec![0; Context::FLOW_KEYS_LEN as usize];
        self.world.cage.read((run.head.ctx + Context::FLOW_KEYS).into(), &mut keys)?;
        let end = u16::try_from(run.window.frame_len()).unwrap_or(u16::MAX);
        let mut start = u16::try_from(FRAME_LEN_MIN).expect("an Ethernet header");
        let (offsets, _) = keys[Context::KEYS_NHOFF as usize..].as_chunks_mut::<2>();
        for offset in &mut offsets[..2] {
            start = u16::from_le_bytes(*offset).clamp(start, end);
            *offset = start.to_le_bytes();
        }
        Ok(keys)
    }

    fn report_of(&self, run: &Run<'_>, mode: Mode, outcome: &Outcome, mean_ns: Option<f64>) -> FrameReport {
        let program = self.program.linked().program();
        let bytes = |start: u32, end: u32| {
            let mut bytes = vec![0; end.saturating_sub(start) as usize];
            self.world.cage.read(start.into(), &mut bytes).expect("helpers keep the frame in its chunk");
            to_hex(&bytes)
        };
        #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits count, as in the kernel")]
        let retval = outcome.r0 as u32;
        let verdict = if outcome.trap.is_some() { Verdict::Aborted } else { Verdict::of(program.kind(), retval) };
        // The kernel puts zeros where it took the link header off.
        let link =
            if run.kind == ProgramKind::SocketFilter { "00".repeat(FRAME_LEN_MIN as usize) } else { String::new() };
        let readable = "the context is guest memory";
        let (data_out, meta_out) = match run.kind {
            ProgramKind::FlowDissector => (to_hex(&self.flow_keys(run).expect(readable)), String::new()),
            ProgramKind::Xdp | ProgramKind::Tc | ProgramKind::SocketFilter | ProgramKind::Raw => {
                (link + &bytes(run.window.data, run.window.frame_end()), bytes(run.window.meta, run.window.data))
            }
        };
        let ctx_out = self.context.as_ref().map(|context| to_hex(&context.after(run).expect(readable)));
        FrameReport {
            prog: program.name().to_owned(),
            mode: mode.name(),
            retval,
            verdict,
            data_out,
            meta_out,
            ctx_out,
            insns: outcome.insns,
            tail_calls: outcome.tail_calls,
            trap: outcome.trap.as_ref().map(ToString::to_string),
            trace: std::mem::take(&mut *lock(&self.trace)),
            findings: run.findings.iter().map(FindingReport::of).collect(),
            timers: Vec::new(),
            redirect: run.redirect.as_ref().map(RedirectReport::of),
            copies: run.copies.held().iter().map(CopyReport::of).collect(),
            mean_ns,
        }
    }
}

/// Brings an object to life as a run or a host would, to see which of its programs are refused and why.
///
/// # Errors
/// [`RunError::Load`] where the object as a whole is refused; [`RunError::Cage`] where there is no memory for it.
pub fn try_load(object: &Object) -> Result<Instance, RunError> {
    Ok(Instance::load(&world(Box::new(|_| {}))?, object)?)
}

/// A world of one worker.
fn world(trace: Box<dyn Fn(&str) + Send + Sync>) -> Result<Arc<World>, CageError> {
    World::new(1, Clock::Monotonic, trace).map(Arc::new)
}

fn lock(lines: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    lines.lock().expect("nothing panics while it holds the lines")
}

fn choose<'a>(instance: &'a Instance, request: &RunRequest<'_>) -> Result<&'a Arc<Loaded>, RunError> {
    if let Some(name) = request.program {
        return Ok(instance.expect_program(name)?);
    }
    match (instance.programs(), instance.refused()) {
        ([program], []) => Ok(program),
        ([], [refused]) => Ok(instance.expect_program(&refused.name)?),
        ([], []) => Err(RunError::NoProgram { object: instance.name().to_owned() }),
        (programs, refused) => {
            let loaded = programs.iter().map(|program| program.linked().program().name().to_owned());
            let programs = loaded.chain(refused.iter().map(|refused| refused.name.clone())).collect();
            Err(RunError::Ambiguous { object: instance.name().to_owned(), programs })
        }
    }
}

/// Nanoseconds with tenths, at least one of them.
fn mean_ns_of(whole: Duration, count: u32) -> f64 {
    let mean = whole.as_secs_f64() * 1e9 / f64::from(count);
    (mean * 10.0).round().max(1.0) / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::assemble;
    use crate::program::RawProgram;

    fn object(text: &str) -> Object {
        let slots = assemble(text).unwrap_or_else(|error| panic!("{error}"));
        let raw = RawProgram { name: "main".to_owned(), slots, ..RawProgram::default() };
        let program = Program::check(raw, ProgramKind::Xdp).unwrap_or_else(|rejection| panic!("{rejection}"));
        let programs = vec![Arc::new(program)];
        Object {
            name: "a.o".to_owned(),
            programs,
            refused: Vec::new(),
            maps: Vec::new(),
            refused_maps: Vec::new(),
            license: None,
            btf: None,
        }
    }

    fn run(text: &str, mode: Mode, repeat: u32, frames: &[&[u8]]) -> Vec<FrameReport> {
        let object = object(text);
        let run = TestRun::new(&RunRequest { object: &object, program: None, presets: &[] }).expect("it runs");
        let reports: Result<_, _> = run.reports(mode, repeat, frames.iter().copied()).collect();
        reports.expect("frames of a good length")
    }

    #[test]
    fn the_mean_of_a_run_is_that_of_the_run_and_not_of_placing_its_frame() {
        // To place such a frame takes far longer than to pass it; what was not subtracted wrongly is above the least mean.
        let frame = [7; LINEAR_LEN_MAX as usize];
        let text = "r1 = 10000\nnext:\nr1 += -1\nif r1 != 0 goto next\nr0 = 2\nexit";
        for repeat in [2, 3, 65, 1000] {
            for report in run(text, Mode::Fast, repeat, &[&frame[..]; 10]) {
                let mean_ns = report.mean_ns.expect("it was repeated");
                assert!(mean_ns > 0.1, "{mean_ns} ns for ten thousand jumps, {repeat} runs");
            }
        }
        assert_eq!(run("r0 = 2\nexit", Mode::Fast, 1, &[&frame[..]])[0].mean_ns, None);
        assert!((mean_ns_of(Duration::ZERO, 1) - 0.1).abs() < 1e-9);
        assert!((mean_ns_of(Duration::from_nanos(1234), 100) - 12.3).abs() < 1e-9);
    }

    #[test]
    fn every_repetition_finds_the_frame_as_it_came_in_and_where_the_first_did() {
        // Says where the frame is and what it begins with, and spoils it.
        let text = "r2 = *(u32 *)(r1 + 0)\nr0 = *(u8 *)(r2 + 0)\nr0 += r2\nr3 = r0\n*(u64 *)(r2 + 0) = r3\nexit";
        let retval = |repeat| {
            let reports = run(text, Mode::Fast, repeat, &[&[1; 60][..], &[9; 60][..]]);
            [reports[0].retval, reports[1].retval]
        };
        let [first, second] = retval(1);
        assert_eq!(second, first + 8);
        for repeat in [2, 3, 64, 65, 66, 200] {
            assert_eq!(retval(repeat), [first, second], "{repeat}");
        }
    }
}
