//! Cases as text.

use std::fmt;

use super::{Case, CaseMap, Expected, Input};
use crate::isa::{self, Does};
use crate::report::to_hex;

/// Bytes of a line of bytes.
const LINE_LEN: usize = 32;

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "-- about\n{}", self.about)?;
        writeln!(f, "-- kind {}", self.kind.name())?;
        if let Some(fuel) = self.fuel {
            writeln!(f, "-- fuel {fuel}")?;
        }
        for CaseMap { def, elements } in &self.maps {
            write!(f, "-- map {} {} {} {} {}", def.name, def.kind, def.key_len, def.value_len, def.max_entries)?;
            if def.flags != 0 {
                write!(f, " {:#x}", def.flags)?;
            }
            writeln!(f)?;
            for (key, value) in elements {
                writeln!(f, "-- element {} {}", def.name, to_hex(key))?;
                write_bytes(f, value)?;
            }
        }
        for slot in &self.slots {
            let (map, program) = (&self.maps[slot.map].def.name, &self.programs[slot.program].name);
            writeln!(f, "-- slot {map} {} {program}", slot.index)?;
        }
        if let Some(sockets) = &self.sockets {
            write!(f, "-- sockets\n{sockets}")?;
        }
        match &self.input {
            Input::Memory { offset: 0, bytes } if bytes.is_empty() => {}
            Input::Memory { offset: 0, bytes } => {
                writeln!(f, "-- memory")?;
                write_bytes(f, bytes)?;
            }
            Input::Memory { offset, bytes } => {
                writeln!(f, "-- memory {offset}")?;
                write_bytes(f, bytes)?;
            }
            Input::Frame(bytes) => {
                writeln!(f, "-- frame")?;
                write_bytes(f, bytes)?;
            }
        }
        for program in &self.programs {
            writeln!(f, "-- asm {}", program.name)?;
            let insns = isa::decode(&program.slots).map_err(|_| fmt::Error)?;
            for (pc, insn) in insns.iter().enumerate().filter(|(_, insn)| insn.does != Does::SecondSlot) {
                writeln!(f, "{}", isa::print(insn, pc))?;
            }
        }
        self.fmt_expected(f)
    }
}

impl Case {
    fn fmt_expected(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Expected { r0, fuel_left, tail_calls, redirect, trap, after, values, findings, lines } = &self.expected;
        if let Some(r0) = r0 {
            writeln!(f, "-- r0 {r0:#x}")?;
        }
        if let Some(fuel_left) = fuel_left {
            writeln!(f, "-- fuel_left {fuel_left}")?;
        }
        if let Some(tail_calls) = tail_calls {
            writeln!(f, "-- tail_calls {tail_calls}")?;
        }
        if let Some(redirect) = redirect {
            writeln!(f, "-- redirect {redirect}")?;
        }
        if let Some(trap) = trap {
            writeln!(f, "-- trap\n{trap}")?;
        }
        if let Some(after) = after {
            writeln!(f, "-- after")?;
            write_bytes(f, after)?;
        }
        for (map, key, value) in values {
            writeln!(f, "-- value {} {}", self.maps[*map].def.name, to_hex(key))?;
            write_bytes(f, value)?;
        }
        if let Some(findings) = findings {
            writeln!(f, "-- findings\n{findings}")?;
        }
        if let Some(lines) = lines {
            writeln!(f, "-- line\n{lines}")?;
        }
        Ok(())
    }
}

fn write_bytes(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    if let [first, rest @ ..] = bytes
        && rest.iter().all(|byte| byte == first)
    {
        return writeln!(f, "{first:02x}*{}", bytes.len());
    }
    bytes.chunks(LINE_LEN).try_for_each(|line| writeln!(f, "{}", to_hex(line)))
}
