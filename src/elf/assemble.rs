//! Makes one program of a function and all that it calls.
//!
//! The program's own function comes first; each function that it calls, directly or not, follows once. References become
//! indices into the object's maps, and calls lead to the copies.
//!
//! Source: libbpf's `bpf_object__reloc_code`.
//!
//! Invariant: no recursion, and no more slots than the budget, whatever calls whatever.

use std::collections::HashMap;
use std::sync::Arc;

use super::Defect;
use super::btf::{Btf, Kind};
use super::btf_ext::{BtfExt, CoreRecord, LineRecord};
use super::core::{Relocator, TypeSources};
use super::file::{Binding, Symbol};
use super::map::ObjectMap;
use super::text::{Function, Reference, Text};
use crate::limits::{OBJECT_SLOTS_MAX, SOURCE_LINE_LEN_MAX};
use crate::program::{self, Kfunc, Line, Need, RawProgram, Unresolved};

/// `BPF_PSEUDO_KFUNC_CALL`: what src of a call of a kernel function says.
const SRC_KFUNC: u8 = 2;
/// `BPF_PSEUDO_BTF_ID`: what src of a load of something of the kernel's says.
const SRC_KERNEL_ADDRESS: u8 = 3;
/// `BPF_PSEUDO_FUNC`, `BPF_PSEUDO_MAP_IDX`, `BPF_PSEUDO_MAP_IDX_VALUE`: what src of a two-slot load says it loads.
const SRC_FUNCTION: u8 = 4;
const SRC_MAP_BY_INDEX: u8 = 5;
const SRC_VALUE_BY_INDEX: u8 = 6;

/// Longest name of a function, and longest tag, that is looked at: the kernel's `KSYM_NAME_LEN`.
const TAG_LEN_MAX: usize = 512;

/// Makes programs of an object's functions.
#[derive(Debug)]
pub(super) struct Assembler<'a> {
    text: &'a Text<'a>,
    btf: Option<&'a Btf>,
    ext: &'a BtfExt,
    core: Option<Relocator<'a>>,
    /// Maps of types that kumite does not have.
    refused_maps: &'a [ObjectMap],
    /// Functions for exceptions, by the program that has one.
    exception_callbacks: HashMap<&'a str, &'a str>,
    /// Texts of files and lines, each kept once.
    strings: HashMap<u32, Arc<str>>,
    /// Bytes that may still be kept: real texts do not overlap.
    strings_left: usize,
    slots_left: usize,
}

/// A program in the making.
#[derive(Default)]
struct Assembly {
    slots: Vec<[u8; 8]>,
    /// Where each function was placed, by its index in the text.
    starts: HashMap<usize, usize>,
    /// The same in the order of placing.
    order: Vec<(usize, usize)>,
    unresolved: Vec<Unresolved>,
    kfuncs: Vec<Kfunc>,
    /// Where each is in the list, by its symbol.
    kfunc_places: HashMap<usize, u32>,
}

impl<'a> Assembler<'a> {
    pub(super) fn new(
        text: &'a Text<'a>,
        btf: Option<&'a Btf>,
        ext: &'a BtfExt,
        types: &'a TypeSources,
        refused_maps: &'a [ObjectMap],
    ) -> Self {
        let core = btf.map(|btf| Relocator::new(btf, types));
        let strings_left = btf.map_or(0, Btf::strings_len);
        let callbacks = btf.into_iter().flat_map(|btf| {
            btf.types().filter_map(move |(_, tag)| {
                let Kind::DeclTag { target, .. } = tag.kind else { return None };
                let callback = btf.short_text(tag.name, TAG_LEN_MAX)?.strip_prefix("exception_callback:")?;
                Some((btf.short_text(btf.get(target)?.name, TAG_LEN_MAX)?, callback))
            })
        });
        let exception_callbacks = callbacks.collect();
        Self {
            text,
            btf,
            ext,
            core,
            refused_maps,
            exception_callbacks,
            strings: HashMap::new(),
            strings_left,
            slots_left: OBJECT_SLOTS_MAX,
        }
    }

    /// Makes a program of the function with index `main`.
    pub(super) fn assemble(&mut self, main: usize, section: &str) -> Result<RawProgram, Defect> {
        let text = self.text;
        self.check_exceptions(text.functions()[main].name)?;
        let mut assembly = Assembly::default();
        self.place(&mut assembly, main)?;
        let mut next = 0;
        while let Some((index, base)) = assembly.order.get(next).copied() {
            let function = &text.functions()[index];
            self.relocate_types(&mut assembly, function, base)?;
            let mut references = Vec::new();
            text.each_reference(function, |pc, reference| references.push((base + pc, reference)))?;
            self.check_maps(function, base, &references)?;
            for (pc, reference) in references {
                self.bind(&mut assembly, pc, reference)?;
            }
            next += 1;
        }
        let mut raw = RawProgram {
            name: text.functions()[main].name.to_owned(),
            section: section.to_owned(),
            ..RawProgram::default()
        };
        for (index, start) in &assembly.order {
            let function = &text.functions()[*index];
            let end = start + function.slots.len();
            raw.functions.push(program::Function { name: function.name.to_owned(), start: *start, end });
            self.add_lines(function, *start, &mut raw.lines);
        }
        raw.slots = assembly.slots;
        raw.unresolved = assembly.unresolved;
        raw.kfuncs = assembly.kfuncs;
        Ok(raw)
    }

    /// Places a function behind the others, unless it is there; its start.
    fn place(&mut self, assembly: &mut Assembly, index: usize) -> Result<usize, Defect> {
        if let Some(start) = assembly.starts.get(&index) {
            return Ok(*start);
        }
        let Function { name, slots, .. } = &self.text.functions()[index];
        let cost = slots.len() + name.len() / 8;
        let Some(left) = self.slots_left.checked_sub(cost) else {
            let count = OBJECT_SLOTS_MAX - self.slots_left + cost;
            return Err(Defect::TooMany { what: "slots of all programs", count, max: OBJECT_SLOTS_MAX });
        };
        self.slots_left = left;
        let start = assembly.slots.len();
        assembly.slots.extend_from_slice(slots);
        assembly.starts.insert(index, start);
        assembly.order.push((index, start));
        Ok(start)
    }

    fn bind(&mut self, assembly: &mut Assembly, pc: usize, reference: Reference) -> Result<(), Defect> {
        match reference {
            Reference::RefusedMap(_) => unreachable!("a function that names one was refused"),
            Reference::Map(map) => put_wide(&mut assembly.slots, pc, SRC_MAP_BY_INDEX, [map, 0]),
            Reference::Value(map, offset) => put_wide(&mut assembly.slots, pc, SRC_VALUE_BY_INDEX, [map, offset]),
            Reference::Kfunc(symbol) => {
                let index = self.kfunc(assembly, symbol);
                assembly.slots[pc][1] = SRC_KFUNC << 4;
                assembly.slots[pc][2..4].fill(0);
                assembly.slots[pc][4..].copy_from_slice(&index.to_le_bytes());
            }
            Reference::KfuncAddress(symbol) => {
                let index = self.kfunc(assembly, symbol);
                put_wide(&mut assembly.slots, pc, SRC_KERNEL_ADDRESS, [index, 0]);
            }
            Reference::Null => put_wide(&mut assembly.slots, pc, 0, [0, 0]),
            Reference::Address(callee) => {
                let distance = distance(pc, self.place(assembly, callee)?);
                put_wide(&mut assembly.slots, pc, SRC_FUNCTION, [distance, 0]);
            }
            Reference::Call(callee) => {
                let distance = distance(pc, self.place(assembly, callee)?);
                assembly.slots[pc][4..].copy_from_slice(&distance.to_le_bytes());
            }
        }
        Ok(())
    }

    /// A function that names a map that kumite does not have is refused by name.
    fn check_maps(
        &self,
        function: &Function<'_>,
        base: usize,
        references: &[(usize, Reference)],
    ) -> Result<(), Defect> {
        for (pc, reference) in references {
            let Reference::RefusedMap(index) = reference else { continue };
            let map = &self.refused_maps[*index];
            let (function, map, kind) = (function.name.to_owned(), map.def.name.clone(), map.def.kind);
            return Err(Defect::MapType { function, pc: pc - base, map, kind });
        }
        Ok(())
    }

    /// A program whose exceptions are to go to a function of its own is refused by name.
    fn check_exceptions(&self, function: &str) -> Result<(), Defect> {
        let Some(callback) = self.exception_callbacks.get(function) else { return Ok(()) };
        Err(Defect::ExceptionCallback { function: function.to_owned(), callback: (*callback).to_owned() })
    }

    /// Index of a kernel function in the program's list of them.
    fn kfunc(&self, assembly: &mut Assembly, symbol: usize) -> u32 {
        let next = u32::try_from(assembly.kfuncs.len()).expect("a program has fewer slots than that");
        let index = *assembly.kfunc_places.entry(symbol).or_insert(next);
        if index == next {
            let Symbol { name, binding, .. } = self.text.symbol(symbol);
            let need = if *binding == Binding::Weak { Need::Optional } else { Need::Required };
            assembly.kfuncs.push(Kfunc { name: (*name).to_owned(), need });
        }
        index
    }

    /// Rewrites a function's instructions that depend on the kernel's types.
    fn relocate_types(&mut self, assembly: &mut Assembly, function: &Function<'_>, base: usize) -> Result<(), Defect> {
        let Some(core) = &mut self.core else { return Ok(()) };
        let records = self.ext.core.get(&function.section).map_or(&[][..], Vec::as_slice);
        let first = records.partition_point(|record| record.slot < function.start);
        let inside = |record: &&CoreRecord| record.slot < function.start + function.slots.len();
        let slots = &mut assembly.slots[base..base + function.slots.len()];
        for record in records[first..].iter().take_while(inside) {
            let pc = record.slot - function.start;
            let missing = core.apply(slots, pc, record).map_err(|wrong| Defect::CoRe {
                function: function.name.to_owned(),
                pc,
                question: wrong.words,
                what: wrong.what,
            })?;
            if let Some(what) = missing {
                assembly.unresolved.push(Unresolved { pc: base + pc, what });
            }
        }
        Ok(())
    }

    fn add_lines(&mut self, function: &Function<'_>, base: usize, lines: &mut Vec<Line>) {
        let ext = self.ext;
        let records = ext.lines.get(&function.section).map_or(&[][..], Vec::as_slice);
        let first = records.partition_point(|record| record.slot < function.start);
        let inside = |record: &&LineRecord| record.slot < function.start + function.slots.len();
        let inside = records[first..].iter().take_while(inside);
        for record in inside {
            lines.push(Line {
                pc: base + record.slot - function.start,
                file: self.string(record.file),
                line: record.line_column >> 10,
                column: record.line_column & 0x3ff,
                text: self.string(record.text),
            });
        }
    }

    fn string(&mut self, offset: u32) -> Arc<str> {
        if let Some(known) = self.strings.get(&offset) {
            return Arc::clone(known);
        }
        let whole = self.btf.map_or("", |btf| btf.text(offset));
        let mut end = whole.len().min(SOURCE_LINE_LEN_MAX);
        while !whole.is_char_boundary(end) {
            end -= 1;
        }
        let kept = if end <= self.strings_left { &whole[..end] } else { "" };
        self.strings_left -= kept.len();
        let kept: Arc<str> = kept.into();
        self.strings.insert(offset, Arc::clone(&kept));
        kept
    }
}

/// Slots from behind `pc` to `target`, as the immediate of a call says it.
fn distance(pc: usize, target: usize) -> u32 {
    let (Ok(pc), Ok(target)) = (i32::try_from(pc), i32::try_from(target)) else {
        unreachable!("a program has fewer slots than the object's budget");
    };
    (target - pc - 1).cast_unsigned()
}

/// Rewrites the two-slot load at `pc`. Where the second slot is missing only the first is written: the check of the
/// program refuses it.
fn put_wide(slots: &mut [[u8; 8]], pc: usize, src: u8, [low, high]: [u32; 2]) {
    slots[pc][1] = (slots[pc][1] & 0xf) | src << 4;
    slots[pc][4..].copy_from_slice(&low.to_le_bytes());
    if let Some(second) = slots.get_mut(pc + 1) {
        second[4..].copy_from_slice(&high.to_le_bytes());
    }
}
