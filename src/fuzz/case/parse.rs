//! Case files read.

use super::{Case, CaseMap, CaseProgram, CaseSlot, Expected, Input};
use crate::isa::{self, AsmError};
use crate::limits::{FUEL_MAX, RUN_CHUNK_LEN};
use crate::maps::{MapDef, MapKind};
use crate::report::from_hex;
use crate::verdict::ProgramKind;

/// Most bytes that a repetition in a case makes: far more than any input or value that a case has use for.
const BYTES_MAX: usize = 1 << 20;

/// A text is no case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// A section has a name that none has.
    #[error("line {line}: no section is called {name:?}; the manual lists them under cases")]
    Section {
        /// Line of its heading, from 1.
        line: usize,
        /// The name.
        name: String,
    },
    /// A word of a heading or body is not what it should be.
    #[error("line {line}: {word:?} is not {expected}; correct the section")]
    Word {
        /// Line of the section's heading, from 1.
        line: usize,
        /// The word; empty where it is missing.
        word: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// The text of a program cannot be assembled.
    #[error("line {line}: {source}")]
    Asm {
        /// Line of the section's heading, from 1; the error counts from there.
        line: usize,
        /// Why.
        source: AsmError,
    },
    /// It has no program.
    #[error("the case has no program; write one below `-- asm NAME`")]
    NoProgram,
}

/// One section.
struct Section<'text> {
    line: usize,
    name: &'text str,
    args: Vec<&'text str>,
    body: String,
}

impl Case {
    /// Reads a case file.
    ///
    /// # Errors
    /// [`CaseError`] for the first section that is at fault.
    pub fn parse(text: &str) -> Result<Self, CaseError> {
        let sections = sections(text);
        let mut case = Self {
            about: String::new(),
            kind: ProgramKind::Raw,
            fuel: None,
            maps: Vec::new(),
            sockets: None,
            programs: Vec::new(),
            slots: Vec::new(),
            input: Input::Memory { offset: 0, bytes: Vec::new() },
            expected: Expected::default(),
        };
        // Sections may stand in any order, and some name what others make.
        for section in sections.iter().filter(|section| ["map", "asm"].contains(&section.name)) {
            case.define(section)?;
        }
        for section in &sections {
            case.take(section)?;
        }
        if case.programs.is_empty() { Err(CaseError::NoProgram) } else { Ok(case) }
    }

    /// Makes what other sections name.
    fn define(&mut self, section: &Section<'_>) -> Result<(), CaseError> {
        if section.name == "asm" {
            let name = section.arg(0, "a name")?.to_owned();
            let slots = isa::assemble(&section.body);
            let slots = slots.map_err(|source| CaseError::Asm { line: section.line, source })?;
            self.programs.push(CaseProgram { name, slots });
            return Ok(());
        }
        let kind = section.arg(1, "a type of map")?;
        let kind = (0..64).map(MapKind).find(|known| known.to_string() == kind);
        let def = MapDef {
            name: section.arg(0, "a name")?.to_owned(),
            kind: kind.ok_or_else(|| section.wrong(section.args[1], "a type of map"))?,
            key_len: section.word(2)?,
            value_len: section.word(3)?,
            max_entries: section.word(4)?,
            flags: if section.args.len() > 5 { section.word(5)? } else { 0 },
            ..MapDef::default()
        };
        self.maps.push(CaseMap { def, elements: Vec::new() });
        Ok(())
    }

    /// Takes a section that makes nothing.
    fn take(&mut self, section: &Section<'_>) -> Result<(), CaseError> {
        let text = || section.body.trim().to_owned();
        let expected = &mut self.expected;
        match section.name {
            "map" | "asm" => {}
            "about" => self.about = text(),
            "kind" => {
                let word = section.arg(0, "a kind of program")?;
                self.kind = ProgramKind::by_name(word).ok_or_else(|| section.wrong(word, "a kind of program"))?;
            }
            "fuel" => {
                let fuel = section.number(0)?;
                if fuel > FUEL_MAX {
                    return Err(section.wrong(section.args[0], "fuel that a run may have"));
                }
                self.fuel = Some(fuel);
            }
            "element" => {
                let map = self.map(section)?;
                let element = (section.key()?, section.bytes()?);
                self.maps[map].elements.push(element);
            }
            "sockets" => self.sockets = Some(section.body.clone()),
            "slot" => {
                let map = self.map(section)?;
                let name = section.arg(2, "a program of the case")?;
                let program = self.programs.iter().position(|program| program.name == name);
                let program = program.ok_or_else(|| section.wrong(name, "a program of the case"))?;
                self.slots.push(CaseSlot { map, index: section.word(1)?, program });
            }
            "memory" => {
                let offset = if section.args.is_empty() { 0 } else { section.word(0)? };
                if offset >= RUN_CHUNK_LEN {
                    return Err(section.wrong(section.args[0], "an offset in a page"));
                }
                self.input = Input::Memory { offset, bytes: section.bytes()? };
            }
            "frame" => self.input = Input::Frame(section.bytes()?),
            "r0" => expected.r0 = Some(section.number(0)?),
            "fuel_left" => expected.fuel_left = Some(section.number(0)?),
            "tail_calls" => expected.tail_calls = Some(section.word(0)?),
            "redirect" => expected.redirect = Some(section.word(0)?),
            "trap" => expected.trap = Some(text()),
            "after" => expected.after = Some(section.bytes()?),
            "value" => {
                let map = self.map(section)?;
                self.expected.values.push((map, section.key()?, section.bytes()?));
            }
            "findings" => expected.findings = Some(text()),
            "line" => expected.lines = Some(section.body.trim_end().to_owned()),
            other => return Err(CaseError::Section { line: section.line, name: other.to_owned() }),
        }
        Ok(())
    }

    /// The map that the first word names.
    fn map(&self, section: &Section<'_>) -> Result<usize, CaseError> {
        let name = section.arg(0, "a map of the case")?;
        let found = self.maps.iter().position(|map| map.def.name == name);
        found.ok_or_else(|| section.wrong(name, "a map of the case"))
    }
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        if let Some(heading) = text.strip_prefix("-- ") {
            let mut words = heading.split_whitespace();
            let name = words.next().unwrap_or("");
            sections.push(Section { line, name, args: words.collect(), body: String::new() });
        } else if let Some(section) = sections.last_mut() {
            section.body.push_str(text);
            section.body.push('\n');
        }
    }
    sections
}

impl<'text> Section<'text> {
    fn wrong(&self, word: &str, expected: &'static str) -> CaseError {
        CaseError::Word { line: self.line, word: word.to_owned(), expected }
    }

    fn arg(&self, index: usize, expected: &'static str) -> Result<&'text str, CaseError> {
        self.args.get(index).copied().ok_or_else(|| self.wrong("", expected))
    }

    fn number(&self, index: usize) -> Result<u64, CaseError> {
        let word = self.arg(index, "a number")?;
        let parsed = match (word.strip_prefix("0x"), word.strip_prefix('-')) {
            (Some(hex), _) => u64::from_str_radix(hex, 16),
            (None, Some(below_zero)) => below_zero.parse().map(u64::wrapping_neg),
            (None, None) => word.parse(),
        };
        parsed.map_err(|_| self.wrong(word, "a number of 64 bits"))
    }

    fn word(&self, index: usize) -> Result<u32, CaseError> {
        u32::try_from(self.number(index)?).map_err(|_| self.wrong(self.args[index], "a number of 32 bits"))
    }

    /// The key that the second word is; none where there is no second word.
    fn key(&self) -> Result<Vec<u8>, CaseError> {
        let word = self.args.get(1).copied().unwrap_or("");
        from_hex(word).ok_or_else(|| self.wrong(word, "two hexadecimal digits a byte"))
    }

    fn bytes(&self) -> Result<Vec<u8>, CaseError> {
        let mut bytes = Vec::new();
        for word in self.body.split_whitespace() {
            let (hex, count) = word.split_once('*').unwrap_or((word, "1"));
            let piece = from_hex(hex).ok_or_else(|| self.wrong(word, "two hexadecimal digits a byte"))?;
            let count: usize = count.parse().map_err(|_| self.wrong(word, "bytes and how often"))?;
            if piece.len().saturating_mul(count) > BYTES_MAX - bytes.len() {
                return Err(self.wrong(word, "within the bytes that a section may have"));
            }
            bytes.extend(piece.repeat(count));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Case::parse(text).expect_err("no case").to_string()
    }

    #[test]
    fn what_is_no_case_is_refused_with_the_line() {
        assert_eq!(refused(""), "the case has no program; write one below `-- asm NAME`");
        assert_eq!(
            refused("-- hook xdp\n"),
            "line 1: no section is called \"hook\"; the manual lists them under cases"
        );
        assert_eq!(
            refused("-- about\n\n-- kind xdb\n"),
            "line 3: \"xdb\" is not a kind of program; correct the section"
        );
        assert_eq!(refused("-- r0\n"), "line 1: \"\" is not a number; correct the section");
        assert_eq!(refused("-- r0 x\n"), "line 1: \"x\" is not a number of 64 bits; correct the section");
        assert_eq!(refused("-- frame\n0\n"), "line 1: \"0\" is not two hexadecimal digits a byte; correct the section");
        assert_eq!(
            refused("-- frame\n00*99999999\n"),
            "line 1: \"00*99999999\" is not within the bytes that a section may have; correct the section"
        );
        assert_eq!(refused("-- memory 4096\n"), "line 1: \"4096\" is not an offset in a page; correct the section");
        assert_eq!(refused("-- slot m 0 a\n"), "line 1: \"m\" is not a map of the case; correct the section");
        assert_eq!(
            refused("-- asm a\nr0 = what\n"),
            "line 1: line 1: `r0 = what` is no instruction; see the manual's table of instructions"
        );
    }
}
