//! `bpf_trace_printk`, `bpf_trace_vprintk`: a line for the person who watches. `kernel/trace/bpf_trace.c`.
//!
//! Invariant: a line is at most [`LINE_LEN_MAX`] bytes, whatever the program asks for.

use super::check::place;
use super::format::{self, Source};
use super::text::words;
use super::{Arg, Frame, Helper, Ret};
use crate::cage::Cage;
use crate::isa::Size;
use crate::maps::Errno;
use crate::run::Run;
use crate::trap::{Access, TrapKind};

/// Bytes of a line that are kept; the kernel's buffer without its NUL.
const LINE_LEN_MAX: usize = 1023;
/// That buffer.
const LINE_ROOM: u64 = 1024;

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
        format::format(&text[..end], &[first, second, third], LINE_ROOM, &*world.cage)
    })?;
    Ok(write(run, line))
}

/// Hands a line to whoever watches; gives its length, or why there is none.
fn write(run: &Run<'_>, line: Result<Vec<u8>, Errno>) -> u64 {
    match line {
        Err(errno) => errno.to_r0(),
        Ok(line) => {
            let shown = String::from_utf8_lossy(&line[..line.len().min(LINE_LEN_MAX)]);
            (run.world.trace)(shown.strip_suffix('\n').unwrap_or(&shown));
            line.len() as u64
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

fn trace_vprintk(run: &mut Run<'_>, [text, len, data, data_len, _]: [u64; 5]) -> Result<u64, TrapKind> {
    let range = place(177, 1).some_memory(run, text, len, Access::Read)?;
    let (args, count) = match words(run, place(177, 3), data, data_len)? {
        Ok(args) => args,
        Err(errno) => return Ok(errno.to_r0()),
    };
    let cage = &*run.world.cage;
    let line = place(177, 1).copied(run, text, range.len(), |text| {
        let end = text.iter().position(|byte| *byte == 0).ok_or(Errno::EINVAL)?;
        format::format(&text[..end], &args[..count], LINE_ROOM, cage)
    })?;
    Ok(write(run, line))
}

/// `long bpf_trace_vprintk(fmt, fmt_size, data, data_len)`: as `bpf_trace_printk` with up to twelve arguments in memory.
pub(super) static TRACE_VPRINTK: Helper = Helper {
    id: 177,
    name: "trace_vprintk",
    args: &[Arg::MemRead, Arg::Len, Arg::MemReadOrNull, Arg::LenOrZero],
    ret: Ret::Integer,
    cost: 4096,
    frame: Frame::Keeps,
    kinds: &[],
    body: trace_vprintk,
};
