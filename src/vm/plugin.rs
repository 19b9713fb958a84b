//! One program over one piece of memory: what the bpf_conformance suite asks of a virtual machine.
//!
//! Source: the plugin protocol of `bpf_conformance`: program and memory in hexadecimal, r0 back.
//!
//! Invariant: knows nothing of hooks, maps or ports; a program sees its memory and nothing else.

use std::sync::Arc;

use super::jit::TranslateError;
use super::{LinkError, Linked, Loaded, Mode, TrapAt};
use crate::cage::{CageError, Region};
use crate::limits::{FUEL_DEFAULT, STACK_LEN};
use crate::maps::WorkerIndex;
use crate::program::{Program, RawProgram, Rejection};
use crate::run::{Clock, Run, World};
use crate::verdict::ProgramKind;

/// Bytes of memory that a program can be given.
const MEMORY_LEN_MAX: usize = 1 << 20;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The text is not bytes in hexadecimal.
    #[error("{what}: character {at} begins no byte in hexadecimal; write two digits for each byte")]
    Hex {
        /// What was read.
        what: &'static str,
        /// Place of the first wrong character, from 0, white space not counted.
        at: usize,
    },
    /// The program's bytes are no whole slots.
    #[error("program: {len} bytes are no whole slots; an instruction has 8")]
    Slots {
        /// Bytes.
        len: usize,
    },
    /// There is too much memory.
    #[error("memory: {len} bytes are more than {max}; give less")]
    MemoryLen {
        /// Bytes.
        len: usize,
        /// Most that are taken.
        max: usize,
    },
    /// The program is not well-formed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The program calls what does not exist.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The mode has no code for it; verify mode has.
    #[error(transparent)]
    Translate(#[from] TranslateError),
    /// The program stopped early.
    #[error("{0}; mend the program")]
    Trapped(TrapAt),
    /// The world gave no memory.
    #[error(transparent)]
    Cage(#[from] CageError),
}

/// Runs a program with r1 = its memory and r2 = the memory's length, both 0 without memory, and returns r0.
///
/// White space between the digits is passed over.
///
/// # Errors
/// [`PluginError`].
pub fn vm_plugin(memory_hex: Option<&str>, program_hex: &str, mode: Mode) -> Result<u64, PluginError> {
    let memory = bytes("memory", memory_hex.unwrap_or_default())?;
    if memory.len() > MEMORY_LEN_MAX {
        return Err(PluginError::MemoryLen { len: memory.len(), max: MEMORY_LEN_MAX });
    }
    let text = bytes("program", program_hex)?;
    let (slots, rest) = text.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(PluginError::Slots { len: text.len() });
    }
    let raw = RawProgram {
        name: "program".to_owned(),
        section: "hexadecimal".to_owned(),
        slots: slots.to_vec(),
        ..RawProgram::default()
    };
    let program = Program::check(raw, ProgramKind::Raw)?;

    let world = Arc::new(World::new(1, Clock::Monotonic, Box::new(|_| {}))?);
    let stack = world.cage.alloc_apart(u64::from(STACK_LEN), "a stack")?;
    let place = if memory.is_empty() { None } else { Some(world.cage.alloc(memory.len() as u64, "memory")?) };
    if let Some(place) = &place {
        place.write(0, &memory);
    }
    let linked = Linked::link(Arc::new(program), Arc::clone(&world), Box::default())?;
    let loaded = Loaded::new(Arc::new(linked));
    loaded.translated(mode).map_err(Clone::clone)?;
    let mut run = Run::new(&world, WorkerIndex(0), ProgramKind::Raw, stack.addr() + STACK_LEN);
    run.reset(FUEL_DEFAULT);
    run.head.ctx = place.as_ref().map_or(0, Region::addr);
    run.head.arg2 = memory.len() as u64;
    let outcome = loaded.run(mode, &mut run);
    outcome.trap.map_or(Ok(outcome.r0), |trap| Err(PluginError::Trapped(trap)))
}

fn bytes(what: &'static str, hex: &str) -> Result<Vec<u8>, PluginError> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |(index, pair): (usize, &[u8])| {
        match pair {
            [high, low] => digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        }
        .ok_or(PluginError::Hex { what, at: 2 * index })
    };
    digits.chunks(2).enumerate().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: &str = "9500000000000000";

    fn refusal(memory: Option<&str>, program: &str) -> String {
        vm_plugin(memory, program, Mode::Verify).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_program_gets_its_memory_and_its_length() {
        // r0 = *(u8 *)(r1 + 1); r0 += r2; exit
        let program = format!("7110010000000000 0f20000000000000 {EXIT}\n");
        assert_eq!(vm_plugin(Some("aa bb"), &program, Mode::Verify).expect("runs"), 0xbb + 2);
    }

    #[test]
    fn without_memory_both_arguments_are_zero() {
        // r0 = r1; r0 |= r2; exit
        let program = format!("bf10000000000000 4f20000000000000 {EXIT}");
        for none in [None, Some(""), Some("\n")] {
            assert_eq!(vm_plugin(none, &program, Mode::Verify).expect("runs"), 0);
        }
    }

    #[test]
    fn what_is_no_program_is_refused_in_words() {
        assert_eq!(
            refusal(None, "95000z"),
            "program: character 4 begins no byte in hexadecimal; write two digits for each byte"
        );
        assert_eq!(
            refusal(Some("abc"), EXIT),
            "memory: character 2 begins no byte in hexadecimal; write two digits for each byte"
        );
        assert_eq!(refusal(None, "9500"), "program: 2 bytes are no whole slots; an instruction has 8");
        assert_eq!(refusal(None, ""), "program: it has no instruction; end it with `exit` at least");
        assert_eq!(
            refusal(Some(&"00".repeat(MEMORY_LEN_MAX + 1)), EXIT),
            "memory: 1048577 bytes are more than 1048576; give less"
        );
        let call_999 = format!("85000000e7030000 {EXIT}");
        assert_eq!(
            refusal(None, &call_999),
            "program insn 0: helper 999 is not supported; see `kumite helpers` for those that are"
        );
    }

    #[test]
    fn a_trap_is_no_result() {
        // r0 = *(u8 *)(r1 + 0); exit
        let program = format!("7110000000000000 {EXIT}");
        assert_eq!(
            refusal(None, &program),
            "program insn 0: read at guest address 0x0: not mapped for this; mend the program"
        );
    }
}
