//! `bpf_trace_printk`: a line for the person who watches. `kernel/trace/bpf_trace.c`.
//!
//! Invariant: a line is at most [`LINE_LEN_MAX`] bytes, whatever the program asks for.

use super::check::place;
use super::format::{self, Source};
use super::{Arg, Frame, Helper, Ret};
use crate::cage::Cage;
use crate::isa::Size;
use crate::maps::Errno;
use crate::run::Run;
use crate::trap::{Access, TrapKind};

/// Bytes of a line that are kept; the kernel's buffer without its NUL.
const LINE_LEN_MAX: usize = 1023;

impl Source for Cage {
    fn string(&self, addr: u64, len_max: usize) -> Option<Vec<u8>> {
        let start = i64::try_from(addr).ok()?;
        let mut text = Vec::new();
        while text.len() < len_max {
            let byte = self.load(start.checked_add(i64::try_from(text.len()).ok()?)?, Size::B).ok()?;
            match byte.to_le_bytes()[0] {
                0 => break,
                byte => text.push(byte),
            }
        }
        Some(text)
    }

    fn bytes(&self, addr: u64, into: &mut [u8]) {
        if self.read(addr, into).is_err() {
            into.fill(0);
        }
    }
}

fn trace_printk(run: &mut Run<'_>, [text, len, first, second, third]: [u64; 5]) -> Result<u64, TrapKind> {
    let range = place(6, 1).some_memory(run, text, len, Access::Read)?;
    let world = run.world;
    let line = place(6, 1).copied(run, text, range.len(), |text| {
        let end = text.iter().position(|byte| *byte == 0).ok_or(Errno::EINVAL)?;
        format::format(&text[..end], [first, second, third], &*world.cage)
    })?;
    match line {
        Err(errno) => Ok(errno.to_r0()),
        Ok(line) => {
            let shown = String::from_utf8_lossy(&line[..line.len().min(LINE_LEN_MAX)]);
            (world.trace)(shown.strip_suffix('\n').unwrap_or(&shown));
            Ok(line.len() as u64)
        }
    }
}

/// `long bpf_trace_printk(fmt, fmt_size, ...)`: the length of the line, or why the format was refused.
pub(super) static TRACE_PRINTK: Helper = Helper {
    id: 6,
    name: "trace_printk",
    args: &[Arg::MemRead, Arg::Len, Arg::Optional, Arg::Optional, Arg::Optional],
    ret: Ret::Integer,
    cost: 4096,
    frame: Frame::Keeps,
    kinds: &[],
    body: trace_printk,
};
