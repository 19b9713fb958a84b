//! The functions of an object: where they lie, and what their instructions refer to.
//!
//! Source: `Documentation/bpf/llvm_reloc.rst` of Linux.
//!
//! Invariant: functions do not overlap, so all of them together are no longer than the file.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Defect;
use super::externs::{Extern, Externs, NO_SECTION};
use super::file::{Binding, ElfFile, Home, Relocation, Symbol, SymbolKind};

/// Section of functions that programs share.
pub(super) const SHARED_SECTION: &str = ".text";
/// `R_BPF_64_64`: the 64-bit immediate of a two-slot load.
const R_BPF_64_64: u32 = 1;
/// `R_BPF_64_32`: the target of a call.
const R_BPF_64_32: u32 = 10;

/// Bytes of a slot.
const SLOT_LEN: usize = 8;
/// Opcode of a two-slot load.
pub(super) const LOAD_WIDE: u8 = 0x18;
/// Opcode of a call.
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_CALL`: what src is in the call of a subprogram.
const LOCAL: u8 = 1;

/// A function.
#[derive(Debug)]
pub(super) struct Function<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Index of its section.
    pub(super) section: usize,
    /// Its first slot in the section.
    pub(super) start: usize,
    /// Its slots.
    pub(super) slots: &'a [[u8; SLOT_LEN]],
    /// Whether others see it.
    pub(super) binding: Binding,
}

/// What an instruction refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// The map with this index.
    Map(u32),
    /// The map with this index of those that kumite does not have.
    RefusedMap(usize),
    /// A byte of the only value of the map with this index.
    Value(u32, u32),
    /// The function with this index, whose address is taken.
    Address(usize),
    /// The function with this index, which is called.
    Call(usize),
    /// A weak symbol that is defined nowhere: its address is NULL.
    Null,
    /// The kernel function that the symbol with this index names, which is called.
    Kfunc(usize),
    /// The same, whose address is taken: programs test whether it is there.
    KfuncAddress(usize),
}

/// Where maps lie in the object.
#[derive(Debug, Default)]
pub(super) struct MapPlaces {
    /// Index by section and offset of the definition.
    pub(super) defined: BTreeMap<(usize, u64), u32>,
    /// The same, of definitions whose type kumite does not have, by their index among the refused.
    pub(super) refused: BTreeMap<(usize, u64), usize>,
    /// Index by the number that the dialect gives it.
    pub(super) by_id: HashMap<u32, u32>,
    /// Index by section, for variables.
    pub(super) variables: HashMap<usize, u32>,
}

/// All functions of an object.
#[derive(Debug)]
pub(super) struct Text<'a> {
    file: &'a ElfFile<'a>,
    externs: Externs<'a>,
    maps: &'a MapPlaces,
    /// By section and start.
    functions: Vec<Function<'a>>,
    relocations: HashMap<usize, Vec<Relocation>>,
}

impl<'a> Text<'a> {
    /// Finds the functions of a file.
    pub(super) fn read(file: &'a ElfFile<'a>, externs: Externs<'a>, maps: &'a MapPlaces) -> Result<Self, Defect> {
        let mut symbols: Vec<(usize, &Symbol<'a>)> = Vec::new();
        let mut relocations = HashMap::new();
        let mut typed = HashSet::new();
        for symbol in &file.symbols {
            let Home::Section(section) = symbol.home else { continue };
            let may_be = symbol.kind == SymbolKind::Function || is_old_function(symbol);
            if may_be && file.sections[section].is_text() {
                symbols.push((section, symbol));
                if symbol.kind == SymbolKind::Function {
                    typed.insert(section);
                }
            }
        }
        // Where the compiler says what is a function, other symbols are labels.
        symbols.retain(|(section, symbol)| symbol.kind == SymbolKind::Function || !typed.contains(section));
        // Of several names for one place the visible one comes first and is kept.
        symbols.sort_by_key(|(section, symbol)| (*section, symbol.value, symbol.binding == Binding::Local));
        symbols.dedup_by_key(|(section, symbol)| (*section, symbol.value));
        let mut functions: Vec<Function<'_>> = Vec::with_capacity(symbols.len());
        for (index, (section, symbol)) in symbols.iter().enumerate() {
            let next = symbols.get(index + 1).filter(|(next, _)| next == section).map(|(_, symbol)| symbol.value);
            let function = read_function(file, *section, symbol, next)?;
            let before = functions.last().filter(|before| before.section == *section);
            if before.is_some_and(|before| before.start + before.slots.len() > function.start) {
                let (function, section) = (symbol.name.to_owned(), file.section_name(*section));
                return Err(Defect::Function { function, section, what: "it overlaps the function before it" });
            }
            if before.is_none() {
                relocations.insert(*section, file.relocations(*section)?);
            }
            functions.push(function);
        }
        Ok(Self { file, externs, maps, functions, relocations })
    }

    /// All functions; the index is how others refer to them.
    pub(super) fn functions(&self) -> &[Function<'a>] {
        &self.functions
    }

    /// The symbol with this index, which a reference named.
    pub(super) fn symbol(&self, index: usize) -> &Symbol<'a> {
        &self.file.symbols[index]
    }

    /// Functions that are called, or whose address is taken.
    pub(super) fn referred(&self) -> HashSet<usize> {
        let mut referred = HashSet::new();
        for function in &self.functions {
            // What is wrong with a reference is reported when its program is assembled.
            let _ = self.each_reference(function, |_, reference| {
                if let Reference::Address(index) | Reference::Call(index) = reference {
                    referred.insert(index);
                }
            });
        }
        referred
    }

    /// Calls `take` with each slot of a function that refers to something, and what it refers to.
    pub(super) fn each_reference(
        &self,
        function: &Function<'_>,
        mut take: impl FnMut(usize, Reference),
    ) -> Result<(), Defect> {
        let start = (function.start * SLOT_LEN) as u64;
        let end = start + (function.slots.len() * SLOT_LEN) as u64;
        let relocations = self.relocations.get(&function.section).map_or(&[][..], Vec::as_slice);
        let first = relocations.partition_point(|relocation| relocation.offset < start);
        let mut relocations = relocations[first..].iter().take_while(|relocation| relocation.offset < end).peekable();
        let mut pc = 0;
        while let Some(slot) = function.slots.get(pc) {
            let here = start + (pc * SLOT_LEN) as u64;
            let relocation = relocations.next_if(|relocation| relocation.offset == here);
            if let Some(relocation) = relocation {
                take(pc, self.relocated(function, pc, *slot, relocation)?);
            } else if slot[0] == CALL && slot[1] >> 4 == LOCAL {
                take(pc, Reference::Call(self.callee(function, pc, function.section, function.start + pc, *slot)?));
            }
            pc += if slot[0] == LOAD_WIDE { 2 } else { 1 };
            let passed = start + (pc * SLOT_LEN) as u64;
            if let Some(stray) = relocations.next_if(|relocation| relocation.offset < passed) {
                return Err(self.wrong(function, pc - 1, stray, "it is not at the start of an instruction"));
            }
        }
        Ok(())
    }

    fn wrong(&self, function: &Function<'_>, pc: usize, relocation: &Relocation, what: &'static str) -> Defect {
        let symbol = self.file.symbols.get(relocation.symbol).map(|symbol| self.file.symbol_name(symbol));
        Defect::Relocation {
            function: function.name.to_owned(),
            pc,
            kind: relocation.kind,
            symbol: symbol.unwrap_or_else(|| format!("#{}", relocation.symbol)),
            what,
        }
    }

    fn relocated(
        &self,
        function: &Function<'_>,
        pc: usize,
        slot: [u8; SLOT_LEN],
        relocation: &Relocation,
    ) -> Result<Reference, Defect> {
        let wrong = |what| self.wrong(function, pc, relocation, what);
        let symbol = self.file.symbols.get(relocation.symbol).ok_or_else(|| wrong("the symbol does not exist"))?;
        match (relocation.kind, slot[0]) {
            (R_BPF_64_64, LOAD_WIDE) => {}
            (R_BPF_64_32, CALL) => {}
            (R_BPF_64_64 | R_BPF_64_32, _) => return Err(wrong("the instruction is of another kind")),
            _ => return Err(wrong("kumite knows no such relocation of instructions")),
        }
        let section = match symbol.home {
            Home::Section(section) => section,
            Home::Undefined => return self.undefined(function, pc, relocation.symbol, symbol, relocation.kind),
            Home::Other => return Err(wrong("the symbol is in no section")),
        };
        if relocation.kind == R_BPF_64_32 {
            let slot_of_symbol = usize::try_from(symbol.value).ok().filter(|value| value % SLOT_LEN == 0);
            let slot_of_symbol = slot_of_symbol.ok_or_else(|| wrong("the symbol is at no instruction"))?;
            return Ok(Reference::Call(self.callee(function, pc, section, slot_of_symbol / SLOT_LEN, slot)?));
        }
        let place = symbol.value.wrapping_add_signed(immediate(slot).into());
        if let Some(map) = self.maps.variables.get(&section) {
            let offset = u32::try_from(place).map_err(|_| wrong("it leads out of the variables"))?;
            return Ok(Reference::Value(*map, offset));
        }
        if let Some(map) = self.maps.defined.get(&(section, place)) {
            return Ok(Reference::Map(*map));
        }
        if let Some(refused) = self.maps.refused.get(&(section, place)) {
            return Ok(Reference::RefusedMap(*refused));
        }
        if self.file.sections[section].is_text() {
            let found = usize::try_from(place).ok().and_then(|place| self.function_at(section, place));
            return found.map(Reference::Address).ok_or_else(|| wrong("no function begins there"));
        }
        Err(wrong("neither a map nor a variable is there"))
    }

    /// A symbol that is defined nowhere, as what the types say of it.
    fn undefined(
        &self,
        function: &Function<'_>,
        pc: usize,
        index: usize,
        symbol: &Symbol<'_>,
        kind: u32,
    ) -> Result<Reference, Defect> {
        let is_weak = symbol.binding == Binding::Weak;
        let mend = match self.externs.find(symbol.name) {
            Some(Extern::Function) if kind == R_BPF_64_32 => return Ok(Reference::Kfunc(index)),
            Some(Extern::Function) => return Ok(Reference::KfuncAddress(index)),
            _ if kind == R_BPF_64_32 => "link the object that defines it",
            Some(Extern::Configuration { offset, is_said }) if is_said || is_weak => {
                let map = self.maps.variables.get(&NO_SECTION).expect("the configuration's map was numbered");
                return Ok(Reference::Value(*map, offset));
            }
            Some(Extern::Configuration { .. }) => "say its value with `--kconfig`, or declare it weak",
            Some(Extern::Variable) if is_weak => return Ok(Reference::Null),
            Some(Extern::Variable) => "the kernel's variables are not supported: declare it weak and test it",
            None => "link the object that defines it",
        };
        Err(Defect::Extern { function: function.name.to_owned(), pc, symbol: symbol.name.to_owned(), mend })
    }

    /// The function that a call reaches: its immediate counts from behind `from`.
    fn callee(
        &self,
        function: &Function<'_>,
        pc: usize,
        section: usize,
        from: usize,
        slot: [u8; SLOT_LEN],
    ) -> Result<usize, Defect> {
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let target = from.saturating_add(1).saturating_add(immediate(slot).into());
        let place = usize::try_from(target).ok().and_then(|target| target.checked_mul(SLOT_LEN));
        place.and_then(|place| self.function_at(section, place)).ok_or_else(|| Defect::CallTarget {
            function: function.name.to_owned(),
            pc,
            section: self.file.section_name(section),
            target,
        })
    }

    /// The function that begins at this byte of a section.
    fn function_at(&self, section: usize, place: usize) -> Option<usize> {
        if !place.is_multiple_of(SLOT_LEN) {
            return None;
        }
        let place = (section, place / SLOT_LEN);
        self.functions.binary_search_by_key(&place, |function| (function.section, function.start)).ok()
    }
}

/// Whether a symbol may name a function though it says no type, as all do of compilers before LLVM 8.
fn is_old_function(symbol: &Symbol<'_>) -> bool {
    symbol.kind == SymbolKind::Untyped && symbol.binding != Binding::Local && !symbol.name.is_empty()
}

fn immediate(slot: [u8; SLOT_LEN]) -> i32 {
    i32::from_le_bytes([slot[4], slot[5], slot[6], slot[7]])
}

/// `next`: where the section's next function begins.
fn read_function<'a>(
    file: &ElfFile<'a>,
    section: usize,
    symbol: &Symbol<'a>,
    next: Option<u64>,
) -> Result<Function<'a>, Defect> {
    let bytes = file.sections[section].bytes;
    let wrong = |what| {
        let (function, section) = (file.symbol_name(symbol), file.section_name(section));
        Defect::Function { function, section, what }
    };
    let rest =
        if symbol.len == 0 { next.unwrap_or(bytes.len() as u64).saturating_sub(symbol.value) } else { symbol.len };
    let start = usize::try_from(symbol.value).map_err(|_| wrong("it begins outside its section"))?;
    let len = usize::try_from(rest).map_err(|_| wrong("it reaches past the end of its section"))?;
    if !start.is_multiple_of(SLOT_LEN) || !len.is_multiple_of(SLOT_LEN) {
        return Err(wrong("it is no whole number of 8-byte slots"));
    }
    if symbol.name.is_empty() {
        return Err(wrong("it has no name that can be read"));
    }
    let end = start.checked_add(len).filter(|end| *end <= bytes.len());
    let end = end.ok_or_else(|| wrong("it reaches past the end of its section"))?;
    let slots = bytes[start..end].as_chunks::<SLOT_LEN>().0;
    Ok(Function { name: symbol.name, section, start: start / SLOT_LEN, slots, binding: symbol.binding })
}
