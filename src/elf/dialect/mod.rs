//! Dialects: what objects written for a particular loader mean by sections and maps, one file a dialect.
//!
//! A dialect is one [`Dialect`] value in its file plus one line in [`DIALECTS`]. The first that knows an object as its
//! own reads it.
//!
//! Invariant: a dialect knows names and definitions, nothing of instructions.

mod libbpf;

use super::Defect;
use super::btf::Btf;
use super::file::ElfFile;
use super::map::PlacedMap;
use crate::verdict::ProgramKind;

/// How one loader reads objects.
#[derive(Debug)]
pub(super) struct Dialect {
    /// Whether an object was written for it.
    pub(super) knows: fn(&ElfFile<'_>) -> bool,
    /// The hook that a section's name means.
    pub(super) kind_of: fn(&str) -> Option<ProgramKind>,
    /// The maps that are defined in the object, without those behind variables.
    pub(super) maps: fn(&ElfFile<'_>, Option<&Btf>) -> Result<Vec<PlacedMap>, Defect>,
}

/// All dialects; the last knows every object.
static DIALECTS: &[&Dialect] = &[&libbpf::LIBBPF];

impl Dialect {
    /// The dialect in which an object is written.
    pub(super) fn of(file: &ElfFile<'_>) -> &'static Self {
        DIALECTS.iter().find(|dialect| (dialect.knows)(file)).expect("the last knows every object")
    }
}
