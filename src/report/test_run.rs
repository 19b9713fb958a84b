//! A program run on frames that the caller gives, as `BPF_PROG_TEST_RUN` does it.
//!
//! The frame lies in a chunk of a page with the headroom and tail room that a port leaves; the context says interface 1,
//! queue 0. Maps keep what runs leave in them.
//!
//! Source: `bpf_prog_test_run_xdp` in `net/bpf/test_run.c`. Unlike the kernel, the frame is restored before each
//! repetition.
//!
//! Invariant: one thread; nothing of one frame is seen by the next but through maps.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::hexadecimal::to_hex;
use super::preset::{Preset, PresetError};
use crate::cage::{CageError, Region};
use crate::elf::Object;
use crate::limits::{
    FRAME_LEN_MIN, FUEL_DEFAULT, HEADROOM, PAGE_LEN, RUN_CHUNK_LEN, RUN_TRACE_LINES_MAX, TAIL_RESERVE,
};
use crate::maps::WorkerIndex;
use crate::run::{Clock, Context, Run, Window, World};
use crate::trap::Fault;
use crate::verdict::{ProgramKind, Verdict};
use crate::vm::jit::TranslateError;
use crate::vm::{Instance, LoadError, Loaded, Mode, Outcome};

/// Longest frame that a run takes.
const FRAME_LEN_MAX: u32 = RUN_CHUNK_LEN - HEADROOM - TAIL_RESERVE;

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
    /// A map cannot be filled.
    #[error("{0}")]
    Preset(#[from] PresetError),
    /// There is no memory to run in.
    #[error("{0}")]
    Cage(#[from] CageError),
    /// A frame is too short or too long.
    #[error("frame {number}: {len} bytes are not between {min} and {max}; leave it out")]
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

/// What became of a frame.
#[derive(Clone, Debug, Serialize)]
pub struct FrameReport {
    /// Name of the program that was entered.
    pub prog: String,
    /// Name of the mode.
    pub mode: &'static str,
    /// Low 32 bits of r0; 0 after a trap.
    pub retval: u32,
    /// What the return value means on the program's hook; `aborted` after a trap.
    #[serde(serialize_with = "by_name")]
    pub verdict: Verdict,
    /// The frame afterwards, in hexadecimal.
    pub data_out: String,
    /// The metadata before the frame, in hexadecimal, where the program left some.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub meta_out: String,
    /// Instructions executed; null in modes that do not count them.
    pub insns: Option<u64>,
    /// Tail calls taken.
    pub tail_calls: u32,
    /// Why the run stopped early, in words.
    pub trap: Option<String>,
    /// What verify mode noticed.
    pub findings: Vec<FindingReport>,
    /// Lines that the program wrote with `bpf_trace_printk`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<String>,
    /// Where a redirect helper sent the frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<RedirectReport>,
    /// Mean nanoseconds of a run, where it was repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_ns: Option<f64>,
}

fn by_name<S: serde::Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(verdict.name())
}

/// Something that verify mode noticed.
#[derive(Clone, Debug, Serialize)]
pub struct FindingReport {
    /// Identifier of its kind.
    pub id: &'static str,
    /// Name of the program that was executing.
    pub prog: String,
    /// Slot index.
    pub insn: usize,
    /// What happened, in words.
    pub what: String,
}

/// Target of a redirect.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RedirectReport {
    /// Interface index.
    pub ifindex: u32,
    /// The helper's flags.
    pub flags: u64,
}

/// A program with its maps, ready to be run on frames.
#[derive(Debug)]
pub struct TestRun {
    world: Arc<World>,
    instance: Instance,
    program: Arc<Loaded>,
    chunk: Region,
    ctx: Region,
    stack: Region,
    trace: Arc<Mutex<Vec<String>>>,
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
        let chunk = world.cage.alloc(RUN_CHUNK_LEN.into(), "the frame")?;
        let ctx = world.cage.alloc(Context::LEN.into(), "the context")?;
        let stack = world.cage.alloc(PAGE_LEN.into(), "the stack")?;
        Ok(Self { world, instance, program, chunk, ctx, stack, trace })
    }

    /// The object with its maps.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.instance
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
        let stack_top = self.stack.addr() + PAGE_LEN;
        let mut run = Run::new(&self.world, WorkerIndex(0), kind, stack_top);
        let frames = (1..).zip(frames);
        frames.map(move |(number, frame)| self.report(&mut run, mode, repeat, (number, frame)))
    }

    /// Whether frames can be run, before any is: so that a wrong one costs no results.
    ///
    /// # Errors
    /// [`RunError::Frame`] at the first of a wrong length.
    pub fn check<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> Result<(), RunError> {
        (1..).zip(frames).try_for_each(|(number, frame)| frame_len(number, frame).map(|_| ()))
    }

    fn report(
        &self,
        run: &mut Run<'_>,
        mode: Mode,
        repeat: u32,
        (number, frame): (usize, &[u8]),
    ) -> Result<FrameReport, RunError> {
        let len = frame_len(number, frame)?;
        // Programs reach their maps by number; nothing that they may reach is freed while this is held.
        let guard = crossbeam::epoch::pin();
        let mut outcome = self.once(run, mode, frame, len);
        let mut mean_ns = None;
        if repeat > 1 {
            // First, as it leaves the frame as it came in.
            let placing = self.placing(run, frame, len, repeat);
            let started = Instant::now();
            for _ in 1..repeat {
                outcome = self.once(run, mode, frame, len);
            }
            mean_ns = Some(mean_ns_of(started.elapsed().saturating_sub(placing), repeat - 1));
        }
        drop(guard);
        Ok(self.report_of(run, mode, &outcome, mean_ns))
    }

    fn once(&self, run: &mut Run<'_>, mode: Mode, frame: &[u8], len: u32) -> Outcome {
        self.place(run, frame, len).expect("chunk and context are writable guest memory");
        self.program.run(mode, run)
    }

    /// How long it takes to place the frame as often as it was placed for the runs.
    fn placing(&self, run: &Run<'_>, frame: &[u8], len: u32, repeat: u32) -> Duration {
        let mut idle = Run::new(&self.world, WorkerIndex(0), run.kind, run.head.stack_top);
        let started = Instant::now();
        for _ in 1..repeat {
            self.place(&mut idle, frame, len).expect("chunk and context are writable guest memory");
            std::hint::black_box(&idle);
        }
        started.elapsed()
    }

    /// Puts the frame into its chunk, all zero around it, and makes the run ready.
    fn place(&self, run: &mut Run<'_>, frame: &[u8], len: u32) -> Result<(), Fault> {
        let chunk = u64::from(self.chunk.addr());
        let cage = &self.world.cage;
        run.reset(FUEL_DEFAULT);
        run.kind = self.program.linked().program().kind();
        if run.kind == ProgramKind::Raw {
            run.head.arg2 = len.into();
        }
        run.window = Window::new(self.chunk.addr(), RUN_CHUNK_LEN, HEADROOM, len);
        cage.fill(chunk, HEADROOM.into(), 0)?;
        cage.write(chunk + u64::from(HEADROOM), frame)?;
        cage.fill(chunk + u64::from(HEADROOM + len), (RUN_CHUNK_LEN - HEADROOM - len).into(), 0)?;
        run.head.ctx = self.ctx.addr();
        if run.kind == ProgramKind::SocketFilter {
            // The kernel has taken the link header off.
            run.window.data += FRAME_LEN_MIN;
            run.window.meta = run.window.data;
        }
        Context::write(run)
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
        let finding = |finding: &crate::run::Finding| FindingReport {
            id: finding.id,
            prog: finding.program.clone(),
            insn: finding.pc,
            what: finding.what.clone(),
        };
        // The kernel puts zeros where it took the link header off.
        let link =
            if run.kind == ProgramKind::SocketFilter { "00".repeat(FRAME_LEN_MIN as usize) } else { String::new() };
        FrameReport {
            prog: program.name().to_owned(),
            mode: mode.name(),
            retval,
            verdict,
            data_out: link + &bytes(run.window.data, run.window.data_end),
            meta_out: bytes(run.window.meta, run.window.data),
            insns: outcome.insns,
            tail_calls: outcome.tail_calls,
            trap: outcome.trap.as_ref().map(ToString::to_string),
            trace: std::mem::take(&mut *lock(&self.trace)),
            findings: run.findings.iter().map(finding).collect(),
            redirect: run.redirect.map(|target| RedirectReport { ifindex: target.ifindex, flags: target.flags }),
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
        (programs, refused) => {
            let loaded = programs.iter().map(|program| program.linked().program().name().to_owned());
            let programs = loaded.chain(refused.iter().map(|refused| refused.name.clone())).collect();
            Err(RunError::Ambiguous { object: instance.name().to_owned(), programs })
        }
    }
}

/// Nanoseconds with tenths.
fn mean_ns_of(whole: Duration, count: u32) -> f64 {
    let mean = whole.as_secs_f64() * 1e9 / f64::from(count);
    (mean * 10.0).round() / 10.0
}
/// Length of frame `number`, from 1, where a chunk holds it.
fn frame_len(number: usize, frame: &[u8]) -> Result<u32, RunError> {
    let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    if (FRAME_LEN_MIN..=FRAME_LEN_MAX).contains(&len) {
        return Ok(len);
    }
    Err(RunError::Frame { number, len: frame.len(), min: FRAME_LEN_MIN, max: FRAME_LEN_MAX })
}
