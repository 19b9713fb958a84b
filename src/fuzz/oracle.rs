//! The kernel asked about a case: what its verifier says of the programs, and what they do there.
//!
//! Maps of one definition are made once and emptied before each run, but for program arrays, which the kernel binds to the
//! kind of their first program.
//!
//! Invariant: the thread that asks stays on one processor, whose per-CPU values are those of our only worker.

use super::bench::{Elements, Ran, is_array, is_hash, is_queue};
use super::{Case, Input};
use crate::kernel::{self, KernelError, KernelMap, KernelProgram, TestInput, TestOutput};
use crate::limits::FRAME_LEN_MIN;
use crate::maps::{Errno, MapDef, MapKind};
use crate::program::Program;
use crate::report::to_hex;
use crate::trap::TrapKind;
use crate::verdict::ProgramKind;
use crate::vm::Loaded;

/// Whether the kernel is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelUse {
    /// Where it lets us.
    Auto,
    /// It must let us.
    On,
    /// Never.
    Off,
}

/// The kernel, with maps that it keeps from case to case.
#[derive(Debug)]
pub struct Oracle {
    processor: usize,
    maps: Vec<(MapDef, KernelMap)>,
}

/// What the kernel made of a case.
#[derive(Debug)]
pub(super) struct Answer {
    retval: u32,
    packet: Vec<u8>,
    /// What each map holds; `None` where that cannot be compared.
    maps: Vec<Option<Elements>>,
}

impl Oracle {
    /// The kernel, asked by the calling thread from the `nth` of its processors.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`].
    pub fn new(nth: usize) -> Result<Self, KernelError> {
        let unavailable = |errno| KernelError::Unavailable { errno };
        kernel::available().map_err(unavailable)?;
        let processor = kernel::stay_on_processor(nth).ok_or_else(|| unavailable(Errno::EPERM))?;
        Ok(Self { processor, maps: Vec::new() })
    }

    /// The kernel where it is to be asked.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] where it must be asked and cannot be.
    pub fn wanted(kernel: KernelUse, nth: usize) -> Result<Option<Self>, KernelError> {
        match kernel {
            KernelUse::Off => Ok(None),
            KernelUse::Auto => Ok(Self::new(nth).ok()),
            KernelUse::On => Self::new(nth).map(Some),
        }
    }

    /// Whether the kernel has anything to run this on.
    pub(super) fn takes(case: &Case) -> bool {
        let comparable = |kind| is_array(kind) || is_hash(kind) || is_queue(kind) || kind == MapKind::PROGRAM_ARRAY;
        matches!(case.kind, ProgramKind::Xdp | ProgramKind::Tc | ProgramKind::SocketFilter)
            && matches!(case.input, Input::Frame(_))
            && case.sockets.is_none()
            && case.maps.iter().all(|map| comparable(map.def.kind))
    }

    /// Loads the programs and runs the first.
    ///
    /// # Errors
    /// [`KernelError`] where the kernel refuses one or a map.
    pub(super) fn ask(&mut self, case: &Case, programs: &[std::sync::Arc<Loaded>]) -> Result<Answer, KernelError> {
        let mut arrays = Vec::new();
        let mut taken = Vec::new();
        for map in &case.maps {
            if map.def.kind == MapKind::PROGRAM_ARRAY {
                arrays.push(made(&map.def)?);
            } else {
                taken.push(self.map(&map.def, &taken)?);
            }
        }
        let (mut arrays_left, mut taken_left) = (arrays.iter(), taken.iter());
        let maps: Vec<&KernelMap> = case
            .maps
            .iter()
            .map(|map| match map.def.kind {
                MapKind::PROGRAM_ARRAY => arrays_left.next().expect("one for each"),
                _ => &self.maps[*taken_left.next().expect("one for each")].1,
            })
            .collect();
        let fds: Vec<i32> = maps.iter().map(|map| map.fd()).collect();
        let load = |program: &Program| kernel::load_program(program, &fds, "GPL");
        let loaded = programs.iter().map(|program| load(program.linked().program()));
        let loaded = loaded.collect::<Result<Vec<KernelProgram>, _>>()?;
        for slot in &case.slots {
            let put = maps[slot.map].update(&slot.index.to_ne_bytes(), &loaded[slot.program].fd().to_ne_bytes(), 0);
            put.map_err(|errno| failed(&case.maps[slot.map].def, errno))?;
        }
        let output = self.run(case, programs[0].linked().program(), &loaded[0], &maps);
        // An array and the programs in it keep each other alive, whatever became of the run.
        for slot in &case.slots {
            // One that is empty already was named twice.
            let _ = maps[slot.map].delete(&slot.index.to_ne_bytes());
        }
        let output = output?;
        let contents = maps.iter().zip(&case.maps).map(|(map, given)| self.contents(map, &given.def));
        Ok(Answer { retval: output.retval, packet: output.packet, maps: contents.collect() })
    }

    /// Fills the maps and runs a program.
    fn run(
        &self,
        case: &Case,
        program: &Program,
        loaded: &KernelProgram,
        maps: &[&KernelMap],
    ) -> Result<TestOutput, KernelError> {
        for (map, given) in maps.iter().zip(&case.maps) {
            self.fill(map, &given.def, &given.elements).map_err(|errno| failed(&given.def, errno))?;
        }
        let output = loaded.test_run(&TestInput { packet: case.input.bytes(), ctx: &[], repeat: 1 });
        output.map_err(|errno| KernelError::Run { program: program.name().to_owned(), errno })
    }

    fn map(&mut self, def: &MapDef, taken: &[usize]) -> Result<usize, KernelError> {
        let known = self.maps.iter().enumerate();
        let mut known = known.filter(|(place, (known, _))| known == def && !taken.contains(place));
        if let Some((place, _)) = known.next() {
            return Ok(place);
        }
        self.maps.push((def.clone(), made(def)?));
        Ok(self.maps.len() - 1)
    }

    /// Where our processor's value lies among those of all, and their length.
    fn own(&self, def: &MapDef) -> std::ops::Range<usize> {
        if !def.kind.is_per_worker() {
            return 0..def.value_len as usize;
        }
        let stride = usize::try_from(def.value_stride()).expect("a value fits memory");
        let start = self.processor * stride;
        start..start + def.value_len as usize
    }

    fn fill(&self, map: &KernelMap, def: &MapDef, elements: &Elements) -> Result<(), Errno> {
        if is_queue(def.kind) {
            while map.lookup_and_delete(&[]).is_ok() {}
        } else if is_array(def.kind) {
            let zero = vec![0; map.value_len()];
            for index in 0..def.max_entries {
                map.update(&index.to_ne_bytes(), &zero, 0)?;
            }
        } else if is_hash(def.kind) {
            let mut next = map.next_key(None);
            while let Ok(key) = next {
                next = map.next_key(Some(&key));
                map.delete(&key)?;
            }
        }
        for (key, value) in elements {
            let mut whole = vec![0; map.value_len()];
            let own = self.own(def);
            let len = own.len().min(value.len());
            whole[own][..len].copy_from_slice(&value[..len]);
            map.update(key, &whole, 0)?;
        }
        Ok(())
    }

    fn contents(&self, map: &KernelMap, def: &MapDef) -> Option<Elements> {
        let mut elements = Elements::new();
        if is_queue(def.kind) {
            while let Ok(value) = map.lookup_and_delete(&[]) {
                elements.push((Vec::new(), value));
            }
            return Some(elements);
        }
        if !is_array(def.kind) && !is_hash(def.kind) {
            return None;
        }
        let own = self.own(def);
        let keys = std::iter::successors(map.next_key(None).ok(), |key| map.next_key(Some(key)).ok());
        elements.extend(keys.filter_map(|key| {
            let value = map.lookup(&key).ok()?;
            Some((key, value[own.clone()].to_vec()))
        }));
        elements.sort();
        Some(elements)
    }
}

fn made(def: &MapDef) -> Result<KernelMap, KernelError> {
    KernelMap::of(def, None).map_err(|errno| failed(def, errno))
}

fn failed(def: &MapDef, errno: Errno) -> KernelError {
    KernelError::Map { map: def.name.clone(), what: "it cannot be made or filled", errno }
}

impl Answer {
    /// The first thing that our run did otherwise: what, the kernel's, ours.
    pub(super) fn differs(&self, case: &Case, ours: &Ran) -> Option<(String, String, String)> {
        let told = |part: &str, theirs: String, ours: String| Some((part.to_owned(), theirs, ours));
        // The kernel counts call frames for each program, we for the run: the manual tells of it under differences.
        if ours.trap.is_some_and(|trap| trap.kind == TrapKind::CallDepth) {
            return None;
        }
        if ours.trap.is_some() {
            return told("trap", "none".to_owned(), ours.trap_text());
        }
        #[expect(clippy::cast_possible_truncation, reason = "the kernel gives out the low half")]
        let retval = ours.r0 as u32;
        if retval != self.retval {
            return told("r0", format!("{:#x}", self.retval), format!("{retval:#x}"));
        }
        // The kernel puts zeros where it took the link header off.
        let link = if case.kind == ProgramKind::SocketFilter { FRAME_LEN_MIN as usize } else { 0 };
        let mut packet = vec![0; link];
        packet.extend_from_slice(&ours.memory);
        if packet != self.packet {
            return told("packet", to_hex(&self.packet), to_hex(&packet));
        }
        for ((theirs, ours), map) in self.maps.iter().zip(&ours.maps).zip(&case.maps) {
            let Some(theirs) = theirs else { continue };
            let cut = |(key, value): &(Vec<u8>, Vec<u8>)| {
                (key.clone(), value[..value.len().min(map.def.value_len as usize)].to_vec())
            };
            let ours: Elements = ours.iter().map(cut).collect();
            if let Some(difference) = super::differential::elements_differ(&map.def.name, theirs, &ours) {
                return Some(difference);
            }
        }
        None
    }
}
