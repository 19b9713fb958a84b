//! The ELF file: sections, symbols and relocations, each checked against the file's length once.
//!
//! Program headers, dynamic sections and whatever else a BPF object does not have are not looked at.
//!
//! Source: the System V ABI, chapter 4; LLVM's `BPFELFObjectWriter.cpp`.
//!
//! Invariant: memory and time are bounded by a multiple of the file's length.

use std::collections::BTreeMap;
use std::ops::Range;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_BPF, ET_REL, SELFMAG};
use goblin::elf::section_header::{SHF_ALLOC, SHF_EXECINSTR, SHN_XINDEX, SHT_NOBITS, SHT_PROGBITS, SHT_REL, SHT_RELA};
use goblin::elf::{RelocSection, SectionHeader, Symtab, header, section_header, sym};

use super::Defect;
use crate::limits::OBJECT_LEN_MAX;

/// Longest name of a section, symbol or type that is read.
const NAME_LEN_MAX: usize = 1024;

const CTX: Ctx = Ctx { container: Container::Big, le: Endian::Little };

/// An ELF file that a BPF compiler wrote.
#[derive(Debug)]
pub(super) struct ElfFile<'a> {
    /// By index; the first is the null section.
    pub(super) sections: Vec<Section<'a>>,
    /// By index; the first is the null symbol.
    pub(super) symbols: Vec<Symbol<'a>>,
    /// Relocation sections by the section that they change.
    relocation_sections: BTreeMap<usize, Vec<usize>>,
}

/// A section.
#[derive(Debug)]
pub(super) struct Section<'a> {
    /// Its name; empty where the file has none that can be read.
    pub(super) name: &'a str,
    /// Bytes that it takes in memory.
    pub(super) len: u64,
    /// What the file holds of it: nothing for `.bss`, else `len` bytes.
    pub(super) bytes: &'a [u8],
    kind: u32,
    flags: u64,
}

impl Section<'_> {
    /// Whether it holds instructions.
    pub(super) fn is_text(&self) -> bool {
        self.kind == SHT_PROGBITS && self.flags & u64::from(SHF_EXECINSTR) != 0
    }

    /// Whether it holds variables.
    pub(super) fn is_variables(&self) -> bool {
        matches!(self.kind, SHT_PROGBITS | SHT_NOBITS)
            && self.flags & u64::from(SHF_ALLOC) != 0
            && self.flags & u64::from(SHF_EXECINSTR) == 0
    }

    /// Whether it is all zero and not in the file.
    pub(super) fn is_zero(&self) -> bool {
        self.kind == SHT_NOBITS
    }
}

/// What a symbol names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SymbolKind {
    /// A function.
    Function,
    /// A variable or a map.
    Variable,
    /// A section.
    Section,
    /// What its definition says: compilers before LLVM 8 write so of functions too.
    Untyped,
    /// Anything else.
    Other,
}

/// How far a symbol is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// In its object (`static`).
    Local,
    /// Everywhere.
    Global,
    /// Everywhere, and may be missing.
    Weak,
}

/// Where a symbol is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// Nowhere: an extern.
    Undefined,
    /// In the section with this index.
    Section(usize),
    /// In no section: absolute, common, or an index out of range.
    Other,
}

/// A symbol.
#[derive(Debug)]
pub(super) struct Symbol<'a> {
    /// Its name; empty where it has none that can be read.
    pub(super) name: &'a str,
    /// What it names.
    pub(super) kind: SymbolKind,
    /// How far it is seen.
    pub(super) binding: Binding,
    /// Where it is defined.
    pub(super) home: Home,
    /// Offset into its section.
    pub(super) value: u64,
    /// Bytes that it takes there; 0 where unknown.
    pub(super) len: u64,
}

/// A relocation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relocation {
    /// Offset into the section that it changes.
    pub(super) offset: u64,
    /// `R_BPF_*`.
    pub(super) kind: u32,
    /// Index of its symbol, which may be out of range.
    pub(super) symbol: usize,
}

impl<'a> ElfFile<'a> {
    /// Reads the section table and the symbol table.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Defect> {
        if bytes.len() as u64 > OBJECT_LEN_MAX {
            return Err(Defect::TooLong { len: bytes.len() as u64, max: OBJECT_LEN_MAX });
        }
        let headers = section_headers(bytes)?;
        let names_index = usize::from(read_header(bytes)?.e_shstrndx);
        let names = headers.get(names_index).map_or(&[][..], |header| contents(bytes, header).unwrap_or(&[]));
        let mut sections = Vec::with_capacity(headers.len());
        let mut relocation_sections = BTreeMap::<usize, Vec<usize>>::new();
        let mut held = 0;
        for (index, header) in headers.iter().enumerate() {
            let name = text(names, header.sh_name).unwrap_or("");
            let outside =
                || Defect::Section { section: section_name(name, index), what: "it reaches past the end of the file" };
            let held_here = contents(bytes, header).ok_or_else(outside)?;
            held += held_here.len();
            if held > bytes.len() {
                return Err(Defect::Section {
                    section: section_name(name, index),
                    what: "it overlaps another section",
                });
            }
            if matches!(header.sh_type, SHT_REL | SHT_RELA) {
                relocation_sections.entry(header.sh_info as usize).or_default().push(index);
            }
            let (len, kind, flags) = (header.sh_size, header.sh_type, header.sh_flags);
            sections.push(Section { name, len, bytes: held_here, kind, flags });
        }
        let mut symbols = Vec::new();
        if let Some(table) = headers.iter().find(|header| header.sh_type == section_header::SHT_SYMTAB) {
            let names = sections.get(table.sh_link as usize).map_or(&[][..], |section| section.bytes);
            symbols = read_symbols(contents(bytes, table).unwrap_or(&[]), names, sections.len())?;
        }
        Ok(Self { sections, symbols, relocation_sections })
    }

    /// The section with this name, and its index.
    pub(super) fn section(&self, name: &str) -> Option<(usize, &Section<'a>)> {
        self.sections.iter().enumerate().find(|(_, section)| section.name == name)
    }

    /// The relocations of the section with this index, by ascending offset.
    pub(super) fn relocations(&self, target: usize) -> Result<Vec<Relocation>, Defect> {
        let mut found = Vec::new();
        for index in self.relocation_sections.get(&target).into_iter().flatten() {
            let section = &self.sections[*index];
            let wrong = |what| Defect::Section { section: section_name(section.name, *index), what };
            if section.kind == SHT_RELA {
                return Err(wrong("relocations with addends are not supported"));
            }
            if !section.bytes.len().is_multiple_of(16) {
                return Err(wrong("its length is no multiple of an entry's"));
            }
            let table = RelocSection::parse(section.bytes, 0, section.bytes.len(), false, CTX);
            let table = table.map_err(|_| wrong("its relocations cannot be read"))?;
            found.extend(table.iter().map(|entry| Relocation {
                offset: entry.r_offset,
                kind: entry.r_type,
                symbol: entry.r_sym,
            }));
        }
        found.sort_by_key(|relocation| relocation.offset);
        Ok(found)
    }

    /// A name for messages of the section with this index.
    pub(super) fn section_name(&self, index: usize) -> String {
        section_name(self.sections.get(index).map_or("", |section| section.name), index)
    }

    /// A name for messages of a symbol: its own, or its section's.
    pub(super) fn symbol_name(&self, symbol: &Symbol<'_>) -> String {
        match symbol.home {
            Home::Section(index) if symbol.name.is_empty() => self.section_name(index),
            Home::Section(_) | Home::Undefined | Home::Other => symbol.name.to_owned(),
        }
    }
}

fn section_name(name: &str, index: usize) -> String {
    if name.is_empty() { format!("#{index}") } else { name.to_owned() }
}

fn read_header(bytes: &[u8]) -> Result<header::header64::Header, Defect> {
    let not_bpf = |what| Err(Defect::NotBpf { what });
    if bytes.len() < SELFMAG || bytes[..SELFMAG] != ELFMAG[..] {
        return not_bpf("it does not begin as an ELF file does");
    }
    let Ok(header) = header::header64::Header::parse(bytes) else {
        return Err(Defect::Damaged { what: "the ELF header is cut off" });
    };
    if header.e_ident[header::EI_CLASS] != ELFCLASS64 || header.e_ident[header::EI_DATA] != ELFDATA2LSB {
        return not_bpf("it is not a 64-bit little-endian ELF file");
    }
    if header.e_machine != EM_BPF {
        return not_bpf("it was built for another machine");
    }
    if header.e_type != ET_REL {
        return not_bpf("it is linked, not relocatable");
    }
    Ok(header)
}

fn section_headers(bytes: &[u8]) -> Result<Vec<SectionHeader>, Defect> {
    let header = read_header(bytes)?;
    let damaged = |what| Defect::Damaged { what };
    if header.e_shnum == 0 {
        return Err(damaged("it has no section"));
    }
    if usize::from(header.e_shentsize) != section_header::section_header64::SIZEOF_SHDR {
        return Err(damaged("the section table's entries have a wrong length"));
    }
    let offset = usize::try_from(header.e_shoff).map_err(|_| damaged("the section table lies outside the file"))?;
    SectionHeader::parse(bytes, offset, usize::from(header.e_shnum), CTX)
        .ok()
        .filter(|headers| !headers.is_empty())
        .ok_or_else(|| damaged("the section table lies outside the file"))
}

/// What the file holds of a section; `None` where that is not in the file.
fn contents<'a>(bytes: &'a [u8], header: &SectionHeader) -> Option<&'a [u8]> {
    if matches!(header.sh_type, SHT_NOBITS | section_header::SHT_NULL) {
        return Some(&[]);
    }
    let start = usize::try_from(header.sh_offset).ok()?;
    let end = start.checked_add(usize::try_from(header.sh_size).ok()?)?;
    bytes.get(Range { start, end })
}

fn read_symbols<'a>(bytes: &'a [u8], names: &'a [u8], section_count: usize) -> Result<Vec<Symbol<'a>>, Defect> {
    let damaged = |what| Defect::Damaged { what };
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let table = Symtab::parse(bytes, 0, bytes.len() / sym::sym64::SIZEOF_SYM, CTX);
    let table = table.map_err(|_| damaged("the symbol table cannot be read"))?;
    let mut symbols = Vec::with_capacity(table.len());
    for entry in table.iter() {
        if entry.st_shndx == SHN_XINDEX as usize {
            return Err(damaged("it has more sections than a BPF object needs"));
        }
        let kind = match entry.st_type() {
            sym::STT_FUNC => SymbolKind::Function,
            sym::STT_OBJECT => SymbolKind::Variable,
            sym::STT_SECTION => SymbolKind::Section,
            sym::STT_NOTYPE => SymbolKind::Untyped,
            _ => SymbolKind::Other,
        };
        let binding = match entry.st_bind() {
            sym::STB_LOCAL => Binding::Local,
            sym::STB_WEAK => Binding::Weak,
            _ => Binding::Global,
        };
        let home = match entry.st_shndx {
            0 => Home::Undefined,
            index if index < section_count => Home::Section(index),
            _ => Home::Other,
        };
        let name = u32::try_from(entry.st_name).ok().and_then(|offset| text(names, offset as usize)).unwrap_or("");
        symbols.push(Symbol { name, kind, binding, home, value: entry.st_value, len: entry.st_size });
    }
    Ok(symbols)
}

/// The NUL-terminated text at `offset` of a table of strings; `None` where there is none or it is too long.
pub(super) fn text(table: &[u8], offset: usize) -> Option<&str> {
    let rest = table.get(offset..)?;
    let window = &rest[..rest.len().min(NAME_LEN_MAX)];
    let len = window.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&window[..len]).ok()
}
