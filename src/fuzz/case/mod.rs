//! Cases: programs with their world and input, and what must come of them, as files that people read.
//!
//! Their form is in the manual, under cases.
//!
//! Invariant: what is printed reads back as the same case.

mod expect;
mod parse;
mod print;

pub use parse::CaseError;

use std::collections::BTreeSet;

use crate::isa::{self, Does, Insn};
use crate::maps::{MapDef, MapKind};
use crate::verdict::ProgramKind;

/// Programs with their world and their input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What the mistake would be, in a sentence.
    pub about: String,
    /// Whose programs.
    pub kind: ProgramKind,
    /// Fuel of the run; the usual amount where nothing is said.
    pub fuel: Option<u64>,
    /// Maps; programs name them by their place.
    pub maps: Vec<CaseMap>,
    /// Sockets of the host, as `--sockets` takes them.
    pub sockets: Option<String>,
    /// Programs; the first is run.
    pub programs: Vec<CaseProgram>,
    /// Programs in slots of program arrays.
    pub slots: Vec<CaseSlot>,
    /// What it runs on.
    pub input: Input,
    /// What must come of it.
    pub expected: Expected,
}

/// A map of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseMap {
    /// What it is.
    pub def: MapDef,
    /// What it holds before: keys and values. In a queue or on a stack, keys are empty.
    pub elements: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A program of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseProgram {
    /// Its name.
    pub name: String,
    /// Its text.
    pub slots: Vec<[u8; 8]>,
}

/// A program in a slot of a program array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaseSlot {
    /// The array, by its place among the maps.
    pub map: usize,
    /// Which slot.
    pub index: u32,
    /// The program, by its place.
    pub program: usize,
}

/// What a case runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Memory for raw programs; none means NULL.
    Memory {
        /// Where it begins in its page. What reaches beyond the page is not mapped.
        offset: u32,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A frame for programs of a hook.
    Frame(Vec<u8>),
}

impl Input {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Memory { bytes, .. } | Self::Frame(bytes) => bytes,
        }
    }

    /// Its bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Memory { bytes, .. } | Self::Frame(bytes) => bytes,
        }
    }
}

/// What must come of a case, as far as it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// r0 at the end.
    pub r0: Option<u64>,
    /// Fuel left.
    pub fuel_left: Option<u64>,
    /// Tail calls taken.
    pub tail_calls: Option<u32>,
    /// The port that the frame was redirected to; 0 for none.
    pub redirect: Option<u32>,
    /// The trap in words, with the program's name; nothing said means none.
    pub trap: Option<String>,
    /// Memory, or metadata and frame, at the end.
    pub after: Option<Vec<u8>>,
    /// Elements at the end: place of the map, key, value.
    pub values: Vec<(usize, Vec<u8>, Vec<u8>)>,
    /// Identifier and pc a line; nothing said means none.
    pub findings: Option<String>,
    /// Lines of `bpf_trace_printk`.
    pub lines: Option<String>,
}

impl CaseMap {
    /// A map without elements.
    #[must_use]
    pub fn new(name: &str, kind: MapKind, key_len: u32, value_len: u32, max_entries: u32) -> Self {
        let def = MapDef { name: name.to_owned(), kind, key_len, value_len, max_entries, ..MapDef::default() };
        Self { def, elements: Vec::new() }
    }
}

impl Case {
    /// Leaves out the maps that no program and no slot names. Programs name maps by their place, so what is left moves up.
    pub fn keep_used_maps(&mut self) {
        let named = |insn: &Insn| matches!(insn.does, Does::LoadMapByIndex | Does::LoadMapValueByIndex);
        let place = |insn: &Insn| usize::try_from(insn.imm & 0xffff_ffff).expect("32 bits");
        let decoded: Vec<Vec<Insn>> =
            self.programs.iter().map(|program| isa::decode(&program.slots).unwrap_or_default()).collect();
        let insns = decoded.iter().flatten().filter(|insn| named(insn)).map(place);
        let slots = self.slots.iter().map(|slot| slot.map);
        let used: BTreeSet<usize> = insns.chain(slots).filter(|place| *place < self.maps.len()).collect();
        let new_place = |old: usize| used.iter().position(|place| *place == old);
        for (program, mut insns) in self.programs.iter_mut().zip(decoded) {
            for insn in insns.iter_mut().filter(|insn| named(insn)) {
                if let Some(new) = new_place(place(insn)) {
                    insn.imm = insn.imm & !0xffff_ffff | i64::try_from(new).expect("a case has few maps");
                }
            }
            if !insns.is_empty() {
                program.slots = isa::encode(&insns);
            }
        }
        for slot in &mut self.slots {
            slot.map = new_place(slot.map).expect("a slot's map is used");
        }
        let mut at = 0;
        self.maps.retain(|_| {
            at += 1;
            used.contains(&(at - 1))
        });
        let values = self.expected.values.drain(..).filter_map(|(map, key, value)| Some((new_place(map)?, key, value)));
        self.expected.values = values.collect();
    }
}
