//! `.BTF.ext`: which source line each instruction came from, and which instructions depend on the kernel's types.
//!
//! Source: `Documentation/bpf/btf.rst` of Linux. Invariant: memory is bounded by a multiple of the section's length.

use std::collections::HashMap;

use super::Defect;
use super::btf::{Btf, MAGIC, TypeId, Words};

/// Where an instruction came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineRecord {
    /// Slot of the section.
    pub(super) slot: usize,
    /// The file's name among the strings of BTF.
    pub(super) file: u32,
    /// The line's text among the strings of BTF.
    pub(super) text: u32,
    /// Line in the upper 22 bits, column in the lower 10.
    pub(super) line_column: u32,
}

/// An instruction that depends on the kernel's types.
#[derive(Clone, Copy, Debug)]
pub(super) struct CoreRecord {
    /// Slot of the section.
    pub(super) slot: usize,
    /// The type as the object knows it.
    pub(super) local_type: TypeId,
    /// Where the way to the field begins among the strings of BTF: numbers with colons between them.
    pub(super) access: u32,
    /// `enum bpf_core_relo_kind`.
    pub(super) kind: u32,
}

/// What `.BTF.ext` says of each section of instructions, by the section's index and by ascending slot: one record a
/// slot, the first one, so that a function has no more of them than slots.
#[derive(Debug, Default)]
pub(super) struct BtfExt {
    pub(super) lines: HashMap<usize, Vec<LineRecord>>,
    pub(super) core: HashMap<usize, Vec<CoreRecord>>,
}

impl BtfExt {
    /// `sections`: those that it may speak of, by name; others are skipped.
    pub(super) fn read(bytes: &[u8], btf: &Btf, sections: &HashMap<&str, usize>) -> Result<Self, Defect> {
        let magic = bytes.first_chunk::<2>().map(|magic| u16::from_le_bytes(*magic));
        if magic != Some(MAGIC) {
            return Err(wrong(0, "it does not begin as BTF does"));
        }
        let mut words = Words { bytes, at: 4 };
        let header: Option<[u32; 5]> =
            (|| Some([words.u32()?, words.u32()?, words.u32()?, words.u32()?, words.u32()?]))();
        let [header_len, _, _, line_offset, line_len] = header.ok_or_else(|| wrong(0, "the header is cut off"))?;
        let mut ext = Self::default();
        let line_words = part(bytes, header_len, line_offset, line_len)?;
        each_record(line_words, btf, sections, |section, [insn_offset, file, text, line_column]| {
            let slot = insn_offset as usize / 8;
            ext.lines.entry(section).or_default().push(LineRecord { slot, file, text, line_column });
        })?;
        // The header of the first compilers ended before the part for CO-RE.
        if header_len >= 32 {
            let (Some(core_offset), Some(core_len)) = (words.u32(), words.u32()) else {
                return Err(wrong(0, "the header is cut off"));
            };
            let core_words = part(bytes, header_len, core_offset, core_len)?;
            each_record(core_words, btf, sections, |section, [insn_offset, local_type, access, kind]| {
                let (slot, local_type) = (insn_offset as usize / 8, TypeId(local_type));
                let record = CoreRecord { slot, local_type, access, kind };
                ext.core.entry(section).or_default().push(record);
            })?;
        }
        for records in ext.lines.values_mut() {
            records.sort_by_key(|record| record.slot);
            records.dedup_by_key(|record| record.slot);
        }
        for records in ext.core.values_mut() {
            records.sort_by_key(|record| record.slot);
            records.dedup_by_key(|record| record.slot);
        }
        Ok(ext)
    }
}

fn wrong(at: usize, what: &'static str) -> Defect {
    Defect::Btf { section: ".BTF.ext", at, what }
}

fn part(bytes: &[u8], header_len: u32, offset: u32, len: u32) -> Result<Words<'_>, Defect> {
    let outside = || wrong(0, "a part lies outside the section");
    let start = (header_len as usize).checked_add(offset as usize).ok_or_else(outside)?;
    let end = start.checked_add(len as usize).ok_or_else(outside)?;
    let bytes = bytes.get(..end).filter(|_| start <= end).ok_or_else(outside)?;
    Ok(Words { bytes, at: start })
}

/// Calls `take` with the section's index and the first four words of each record.
fn each_record(
    mut words: Words<'_>,
    btf: &Btf,
    sections: &HashMap<&str, usize>,
    mut take: impl FnMut(usize, [u32; 4]),
) -> Result<(), Defect> {
    let end = words.bytes.len();
    if words.at >= end {
        return Ok(());
    }
    let cut_off = |at| wrong(at, "a record is cut off");
    let record_len = words.u32().ok_or_else(|| cut_off(words.at))? as usize;
    if record_len < 16 || !record_len.is_multiple_of(4) {
        return Err(wrong(words.at - 4, "its records have a wrong length"));
    }
    while words.at < end {
        let (Some(section), Some(count)) = (words.u32(), words.u32()) else { return Err(cut_off(words.at)) };
        if count == 0 {
            return Err(wrong(words.at - 4, "a section has no record"));
        }
        let section = sections.get(btf.text(section)).copied();
        for _ in 0..count {
            let start = words.at;
            let record = (|| Some([words.u32()?, words.u32()?, words.u32()?, words.u32()?]))();
            let record = record.ok_or_else(|| cut_off(start))?;
            if let Some(section) = section {
                take(section, record);
            }
            words.at = start.checked_add(record_len).filter(|at| *at <= end).ok_or_else(|| cut_off(start))?;
        }
    }
    Ok(())
}
