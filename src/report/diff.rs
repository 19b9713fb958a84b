//! One program on the same frames here and in the kernel, compared: what `kumite diff` and the tests tell.
//!
//! Maps are made and filled alike on both sides and kept from frame to frame; at the end their contents are compared. What
//! depends on the moment or on chance (time, random numbers, the order of an LRU map) differs by nature. A context is given
//! to both sides alike. Routes and sockets are given to ours alone: the kernel asks its own, of the network namespace that
//! this runs in, and the report says so.
//!
//! Invariant: the kernel runs on processor 0 alone, whose per-CPU values are those of our only worker.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::frame_report::FrameReport;
use super::hexadecimal::to_hex;
use super::test_run::{RunError, RunRequest, TestRun};
use crate::elf::Object;
use crate::kernel::{self, HAS_ELEMENTS, KernelError, KernelMap, KernelObject, LinkedSlot, TestInput};
use crate::limits::{DIFF_ENTRIES_MAX, DIFFERENCES_MAX};
use crate::maps::{Errno, Map, MapKind};
use crate::run::World;
use crate::run::routes::Routes;
use crate::run::sockets::Socket;
use crate::verdict::ProgramKind;
use crate::vm::Mode;

/// What the runs of a comparison find beside frames and maps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// What the context says before, as [`TestRun::give_context`] takes it.
    pub context: Option<&'a [u8]>,
    /// What our side finds where programs ask for ways.
    pub routes: Option<&'a Routes>,
    /// What our side finds where programs look for sockets.
    pub sockets: Option<&'a [Socket]>,
}

impl Given<'_> {
    fn furnish(&self, world: &World) -> Result<(), RunError> {
        if let Some(routes) = self.routes {
            world.routes.replace(routes.clone());
        }
        self.sockets.map_or(Ok(()), |sockets| Ok(world.sockets.replace(sockets.to_vec())?))
    }

    /// What the kernel cannot be given.
    fn kernels_own(&self) -> Vec<&'static str> {
        let routes = self.routes.map(|_| "routes");
        routes.into_iter().chain(self.sockets.map(|_| "sockets")).collect()
    }
}

/// A program cannot be compared with the kernel.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// It does not run here.
    #[error("{0}")]
    Run(#[from] RunError),
    /// A map cannot be filled on both sides.
    #[error("map {map}: only arrays, hashes, tries and program arrays can be filled on both sides; leave it out")]
    Preset {
        /// Name of the map.
        map: String,
    },
    /// It does not run in the kernel.
    #[error("{0}")]
    Kernel(#[from] KernelError),
}

/// What a comparison found.
#[derive(Debug, Serialize)]
pub struct Diff {
    /// Name of the program.
    pub prog: String,
    /// Frames that the kernel ran the program on.
    pub frames: usize,
    /// Frames that a side makes no packet of: too long, or they end within a header.
    pub refused: usize,
    /// Maps whose contents were not compared: too large, or of a type whose elements bpf(2) does not show.
    pub unseen: Vec<String>,
    /// What was given to our side alone, for the kernel asks its own: `routes`, `sockets`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kernels_own: Vec<&'static str>,
    /// What each mode did.
    pub modes: Vec<ModeDiff>,
}

impl Diff {
    /// Whether every mode did all that the kernel did, with a frame at least.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.frames > 0 && self.modes.iter().all(|mode| mode.different == 0)
    }
}

/// What a mode did otherwise than the kernel.
#[derive(Debug, Serialize)]
pub struct ModeDiff {
    /// Name of the mode.
    pub mode: &'static str,
    /// Return values, packets, contexts and map elements that differ.
    pub different: usize,
    /// The first of them.
    pub differences: Vec<Difference>,
}

/// Something that differs.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Which frame, from 1; none for what maps hold at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<usize>,
    /// What: `return value`, `packet`, `context`, or an element of a map.
    pub part: String,
    /// What the kernel has.
    pub kernel: String,
    /// What we have.
    pub kumite: String,
}

/// What one side did with a frame.
#[derive(Default)]
struct Answer {
    retval: String,
    packet: String,
    /// The context afterwards; empty where the kind of program has none that can be compared.
    context: String,
}

/// What one side did: with each frame that the kernel takes, then the elements of each map.
struct Side {
    frames: Vec<Option<Answer>>,
    maps: Vec<(String, Elements)>,
}

/// Frames shorter than this may end within their network header, and the kernel makes no packet of such.
const SHORT_LEN: usize = 14 + 40;

/// Elements by key, as text.
type Elements = BTreeMap<String, String>;

/// Runs the program on each frame in the kernel and in these modes, and compares.
///
/// # Errors
/// [`DiffError`] where one side cannot run it.
pub fn diff(request: &RunRequest<'_>, given: Given<'_>, frames: &[&[u8]], modes: &[Mode]) -> Result<Diff, DiffError> {
    let mut first = TestRun::new(request)?;
    give_context(&mut first, given)?;
    for preset in request.presets {
        let map = first.instance().map(&preset.map);
        if map.is_some_and(|map| !is_comparable(map.as_ref()) && map.as_program_array().is_none()) {
            return Err(DiffError::Preset { map: preset.map.clone() });
        }
    }
    let program = first.program().linked().program();
    kernel::stay_on_processor_0();
    let theirs = KernelObject::load(request.object, program, &slots(&first))?;
    let expected = in_kernel(request.object, &theirs, &first, frames)?;
    let refused = expected.frames.iter().filter(|frame| frame.is_none()).count();
    let maps = first.instance().maps().iter().map(|(_, map)| map.as_ref());
    let seen_otherwise = |map: &dyn Map| map.as_ring_buffer().is_some() || map.as_program_array().is_some();
    let unseen = maps.filter(|map| !is_comparable(*map) && !seen_otherwise(*map));
    let mut report = Diff {
        prog: program.name().to_owned(),
        frames: frames.len() - refused,
        refused,
        unseen: unseen.map(|map| map.def().name.clone()).collect(),
        kernels_own: given.kernels_own(),
        modes: Vec::new(),
    };
    for mode in modes {
        let mut run = TestRun::new(request)?;
        given.furnish(run.world())?;
        give_context(&mut run, given)?;
        let found = here(&run, *mode, frames, &expected)?;
        report.modes.push(compare(&expected, &found, mode.name()));
    }
    Ok(report)
}

/// Programs in the slots of program arrays.
fn slots(run: &TestRun) -> Vec<LinkedSlot> {
    let guard = crossbeam::epoch::pin();
    let mut found = Vec::new();
    for (index, (_, map)) in run.instance().maps().iter().enumerate() {
        let Some(array) = map.as_program_array() else { continue };
        let filled = (0..array.slot_count()).filter_map(|slot| Some((slot, array.slot(slot, &guard)?)));
        found.extend(filled.map(|(slot, held)| LinkedSlot { map: index, slot, program: held.name.clone() }));
    }
    found
}

/// Whether the elements of such maps can be compared: bytes that mean the same on both sides, readable by bpf(2), and not
/// more of them than a person waits for.
fn is_comparable(map: &dyn Map) -> bool {
    let def = map.def();
    HAS_ELEMENTS.contains(&def.kind) && def.max_entries <= DIFF_ENTRIES_MAX
}

/// Gives the kernel's maps what ours hold.
fn fill(object: &Object, theirs: &KernelObject, run: &TestRun) -> Result<(), KernelError> {
    for (index, ((_, map), kernel_map)) in run.instance().maps().iter().zip(theirs.maps()).enumerate() {
        let def = map.def();
        // What is frozen was filled when it was made.
        if !is_comparable(map.as_ref()) || object.maps[index].frozen {
            continue;
        }
        let mut key = map.next_key(None).ok();
        while let Some(at) = key {
            if let Ok(mut value) = map.host_lookup(&at) {
                // Values of the kernel's other processors are zero.
                value.resize(kernel_map.value_len(), 0);
                let zero = def.kind == MapKind::ARRAY && value.iter().all(|byte| *byte == 0);
                let put = if zero { Ok(()) } else { kernel_map.update(&at, &value, 0) };
                put.map_err(|errno| KernelError::Map { map: def.name.clone(), what: "it cannot be filled", errno })?;
            }
            key = map.next_key(Some(&at)).ok();
        }
    }
    Ok(())
}

fn in_kernel(object: &Object, theirs: &KernelObject, run: &TestRun, frames: &[&[u8]]) -> Result<Side, DiffError> {
    fill(object, theirs, run)?;
    let mut side = Side { frames: Vec::with_capacity(frames.len()), maps: Vec::new() };
    for (number, frame) in (1..).zip(frames) {
        if run.check_one(number, frame).is_err() {
            side.frames.push(None);
            continue;
        }
        let ctx = run.kernels_context(frame);
        match theirs.program().test_run(&TestInput { packet: frame, ctx: &ctx, repeat: 1 }) {
            Ok(output) => side.frames.push(Some(Answer {
                retval: output.retval.to_string(),
                packet: to_hex(&output.packet),
                context: to_hex(&output.ctx),
            })),
            Err(Errno::EINVAL) if frame.len() < SHORT_LEN => side.frames.push(None),
            Err(errno) => {
                let program = run.program().linked().program().name().to_owned();
                return Err(KernelError::Run { program, errno }.into());
            }
        }
    }
    for ((_, map), kernel_map) in run.instance().maps().iter().zip(theirs.maps()) {
        let def = map.def();
        if map.as_ring_buffer().is_some() {
            let records = kernel_map.records(def.max_entries).map_err(|errno| {
                let (map, what) = (def.name.clone(), "its records cannot be read");
                KernelError::Map { map, what, errno }
            })?;
            side.maps.push((def.name.clone(), numbered(records.iter().map(|record| to_hex(record)))));
        } else if is_comparable(map.as_ref()) {
            side.maps.push((def.name.clone(), elements_in_kernel(kernel_map, def.value_len as usize)));
        }
    }
    Ok(side)
}

fn elements_in_kernel(map: &KernelMap, value_len: usize) -> Elements {
    let mut elements = Elements::new();
    let mut key = map.next_key(None).ok();
    while let Some(at) = key {
        if let Ok(value) = map.lookup(&at) {
            elements.insert(to_hex(&at), to_hex(value.get(..value_len).unwrap_or(&value)));
        }
        key = map.next_key(Some(&at)).ok();
    }
    elements
}

fn numbered(values: impl Iterator<Item = String>) -> Elements {
    values.enumerate().map(|(number, value)| (format!("record {number}"), value)).collect()
}

/// Gives a run the context that both sides have: where none is said, one of zeros where the kernel gives it back so that it
/// can be compared.
fn give_context(run: &mut TestRun, given: Given<'_>) -> Result<(), RunError> {
    let blank: Option<&[u8]> = match run.program().linked().program().kind() {
        ProgramKind::Tc | ProgramKind::SocketFilter => Some(&[]),
        ProgramKind::Xdp | ProgramKind::FlowDissector | ProgramKind::Raw => None,
    };
    given.context.or(blank).map_or(Ok(()), |context| run.give_context(context))
}

fn here(run: &TestRun, mode: Mode, frames: &[&[u8]], expected: &Side) -> Result<Side, DiffError> {
    let compared = frames.iter().zip(&expected.frames).filter(|(_, theirs)| theirs.is_some());
    let compared: Vec<&[u8]> = compared.map(|(frame, _)| *frame).collect();
    let mut side = Side { frames: Vec::with_capacity(compared.len()), maps: Vec::new() };
    for report in run.reports(mode, 1, compared) {
        let FrameReport { retval, meta_out, data_out, ctx_out, trap, .. } = report?;
        side.frames.push(Some(Answer {
            retval: trap.unwrap_or_else(|| retval.to_string()),
            // The kernel gives metadata out with the packet.
            packet: meta_out + &data_out,
            context: ctx_out.unwrap_or_default(),
        }));
    }
    for (_, map) in run.instance().maps() {
        let def = map.def();
        if let Some(ring) = map.as_ring_buffer() {
            let mut records = Vec::new();
            ring.read(|record| records.push(to_hex(record)));
            side.maps.push((def.name.clone(), numbered(records.into_iter())));
        } else if is_comparable(map.as_ref()) {
            let elements = walk(map.as_ref()).map(|(key, value)| {
                let own = value.get(..def.value_len as usize).unwrap_or(&value);
                (to_hex(&key), to_hex(own))
            });
            side.maps.push((def.name.clone(), elements.collect()));
        }
    }
    Ok(side)
}

/// All elements of a map that nobody changes meanwhile.
fn walk(map: &dyn Map) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let keys = std::iter::successors(map.next_key(None).ok(), |key| map.next_key(Some(key)).ok());
    keys.filter_map(|key| Some((key.clone(), map.host_lookup(&key).ok()?)))
}

fn compare(theirs: &Side, ours: &Side, mode: &'static str) -> ModeDiff {
    let mut diff = ModeDiff { mode, different: 0, differences: Vec::new() };
    let mut tell = |frame: Option<usize>, part: &str, kernel: &str, kumite: &str| {
        if kernel == kumite {
            return;
        }
        diff.different += 1;
        if diff.differences.len() < DIFFERENCES_MAX {
            let (kernel, kumite) = (kernel.to_owned(), kumite.to_owned());
            diff.differences.push(Difference { frame, part: part.to_owned(), kernel, kumite });
        }
    };
    let compared = (1..).zip(&theirs.frames).filter_map(|(number, frame)| Some((number, frame.as_ref()?)));
    for ((number, theirs), ours) in compared.zip(ours.frames.iter().flatten()) {
        tell(Some(number), "return value", &theirs.retval, &ours.retval);
        tell(Some(number), "packet", &theirs.packet, &ours.packet);
        tell(Some(number), "context", &theirs.context, &ours.context);
    }
    for ((name, theirs), (_, ours)) in theirs.maps.iter().zip(&ours.maps) {
        let keys: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        let value = |elements: &Elements, key: &String| elements.get(key).map_or("absent", String::as_str).to_owned();
        for key in keys {
            tell(None, &format!("map {name}, {key}"), &value(theirs, key), &value(ours, key));
        }
    }
    diff
}
