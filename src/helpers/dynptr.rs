//! Dynamic pointers: memory with bounds that are checked when it is used. `kernel/bpf/helpers.c`, `kernel/bpf/ringbuf.c`.
//!
//! Invariant: what a slot means is the run's; the bytes in the slot are never read.

use crossbeam::epoch;

use super::check::{Place, place};
use super::{Arg, Frame, Helper, Ret};
use crate::limits::STACK_LEN;
use crate::maps::{Errno, Finish};
use crate::run::{Dynptr, Record, Run};
use crate::trap::{Access, TrapKind};

/// Bytes of `struct bpf_dynptr`.
const SLOT_LEN: u32 = 16;
/// Longest memory of one; the kernel's `DYNPTR_MAX_SIZE`.
const LEN_MAX: u32 = (1 << 24) - 1;

/// Whether all of a range lies outside the stack of the run, which no helper hands out again.
fn off_stack(run: &Run<'_>, addr: u32, len: u32) -> bool {
    let end = run.head.stack_top;
    addr >= end || u64::from(addr) + u64::from(len) <= u64::from(end - STACK_LEN)
}

/// The place of a slot: it is on the stack.
fn slot(run: &Run<'_>, at: Place, addr: u64) -> Result<u32, TrapKind> {
    let top = u64::from(run.head.stack_top);
    let on_stack = addr >= top - u64::from(STACK_LEN) && addr.saturating_add(SLOT_LEN.into()) <= top;
    match u32::try_from(addr) {
        Ok(slot) if on_stack && addr.is_multiple_of(8) => Ok(slot),
        Ok(_) | Err(_) => Err(at.not("a dynptr on the stack")),
    }
}

/// What an argument means.
fn dynptr(run: &Run<'_>, at: Place, addr: u64) -> Result<Dynptr, TrapKind> {
    let slot = slot(run, at, addr)?;
    run.dynptrs.find(slot).ok_or_else(|| at.not("a dynptr that was made"))
}

/// Puts a pointer into a slot; the answer is the errno that goes with it, or 0.
fn put(run: &mut Run<'_>, at: Place, addr: u64, made: Result<Dynptr, Errno>) -> Result<u64, TrapKind> {
    let slot = slot(run, at, addr)?;
    let dynptr = made.unwrap_or(Dynptr::Null);
    let (first, len) = match dynptr {
        Dynptr::Null => (0, 0),
        Dynptr::Memory { addr, len } | Dynptr::Record { addr, len } => (addr, len),
    };
    let shown = [u64::from(first), u64::from(len)].map(u64::to_ne_bytes);
    run.world.cage.write(addr, shown.as_flattened()).map_err(|fault| at.fault(fault))?;
    if !run.dynptrs.put(slot, dynptr) {
        return Err(at.not("one of 32 dynptrs at most"));
    }
    Ok(made.map_or_else(Errno::to_r0, |_| 0))
}

#[expect(clippy::cast_possible_truncation, reason = "the kernel's length is 32 bits of r2")]
fn dynptr_from_mem(run: &mut Run<'_>, [addr, len, flags, into, _]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = place(197, 1);
    let len = len as u32;
    let range = run.world.cage.check(addr, len.into(), Access::Write).map_err(|fault| at.fault(fault))?;
    if !off_stack(run, range.addr(), len) {
        return Err(at.not("memory outside the stack"));
    }
    let made = match (len, flags) {
        (len, _) if len > LEN_MAX => Err(Errno::E2BIG),
        (_, 0) => Ok(Dynptr::Memory { addr: range.addr(), len }),
        (_, _) => Err(Errno::EINVAL),
    };
    put(run, place(197, 4), into, made)
}

/// `long bpf_dynptr_from_mem(data, size, flags, ptr)`: of memory of a map.
pub(super) static DYNPTR_FROM_MEM: Helper = Helper {
    id: 197,
    name: "dynptr_from_mem",
    args: &[Arg::MemRead, Arg::LenOrZero, Arg::Any, Arg::BytesOut(SLOT_LEN)],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[],
    body: dynptr_from_mem,
};

#[expect(clippy::cast_possible_truncation, reason = "the kernel's length is 32 bits of r2")]
fn ringbuf_reserve_dynptr(run: &mut Run<'_>, [map, len, flags, into, _]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = place(198, 1);
    let guard = epoch::pin();
    let ring = at.map(run, map, &guard)?.as_ring_buffer().ok_or_else(|| at.not("a ring buffer"))?;
    slot(run, place(198, 4), into)?;
    let len = len as u32;
    let made = if flags != 0 {
        Err(Errno::EINVAL)
    } else if len > LEN_MAX {
        Err(Errno::E2BIG)
    } else if run.records.is_full() {
        Err(Errno::EINVAL)
    } else {
        ring.reserve(len.into(), 0).map(|addr| Dynptr::Record { addr, len }).ok_or(Errno::EINVAL)
    };
    if let Ok(Dynptr::Record { addr, len }) = made {
        run.records.push(Record { addr, len, map });
    }
    put(run, place(198, 4), into, made)
}

/// `long bpf_ringbuf_reserve_dynptr(ring, size, flags, ptr)`: room for a record; to be submitted or discarded in any case.
pub(super) static RINGBUF_RESERVE_DYNPTR: Helper = Helper {
    id: 198,
    name: "ringbuf_reserve_dynptr",
    args: &[Arg::Map, Arg::Any, Arg::Any, Arg::BytesOut(SLOT_LEN)],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: ringbuf_reserve_dynptr,
};

fn end(run: &mut Run<'_>, helper: u32, addr: u64, finish: Finish) -> Result<u64, TrapKind> {
    let at = place(helper, 1);
    match dynptr(run, at, addr)? {
        Dynptr::Null => return Ok(0),
        Dynptr::Memory { .. } => return Err(at.not("a dynptr of a ring buffer")),
        Dynptr::Record { addr, .. } => {
            let record = run.records.take(addr.into()).ok_or_else(|| at.not("a reserved record"))?;
            let guard = epoch::pin();
            let ring = at.map(run, record.map, &guard)?.as_ring_buffer().ok_or_else(|| at.not("of a ring buffer"))?;
            ring.finish(addr.into(), finish).expect("this run reserved it and ends it once");
        }
    }
    put(run, at, addr, Ok(Dynptr::Null))
}

fn ringbuf_submit_dynptr(run: &mut Run<'_>, [addr, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    end(run, 199, addr, Finish::Submit)
}

/// `void bpf_ringbuf_submit_dynptr(ptr, flags)`: hands the record to the reader.
pub(super) static RINGBUF_SUBMIT_DYNPTR: Helper = Helper {
    id: 199,
    name: "ringbuf_submit_dynptr",
    args: &[Arg::Bytes(SLOT_LEN), Arg::Any],
    ret: Ret::Void,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[],
    body: ringbuf_submit_dynptr,
};

fn ringbuf_discard_dynptr(run: &mut Run<'_>, [addr, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    end(run, 200, addr, Finish::Discard)
}

/// `void bpf_ringbuf_discard_dynptr(ptr, flags)`: the reader skips the record.
pub(super) static RINGBUF_DISCARD_DYNPTR: Helper = Helper {
    id: 200,
    name: "ringbuf_discard_dynptr",
    args: &[Arg::Bytes(SLOT_LEN), Arg::Any],
    ret: Ret::Void,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[],
    body: ringbuf_discard_dynptr,
};

/// Guest address of `len` bytes at an offset of what a pointer means.
#[expect(clippy::cast_possible_truncation, reason = "the kernel's offsets and lengths are 32 bits of their registers")]
fn within(dynptr: Dynptr, offset: u64, len: u64) -> Result<u64, Errno> {
    let (offset, wanted) = (offset as u32, len as u32);
    match dynptr {
        Dynptr::Null => Err(Errno::EINVAL),
        Dynptr::Memory { addr, len } | Dynptr::Record { addr, len } => {
            let end = u64::from(offset) + u64::from(wanted);
            if end <= len.into() { Ok(u64::from(addr) + u64::from(offset)) } else { Err(Errno::E2BIG) }
        }
    }
}

/// What a pointer means now: memory of a record that the program ended by other means is over.
fn alive(run: &Run<'_>, dynptr: Dynptr) -> Dynptr {
    match dynptr {
        Dynptr::Record { addr, .. } if !run.records.held().iter().any(|record| record.addr == addr) => Dynptr::Null,
        Dynptr::Null | Dynptr::Memory { .. } | Dynptr::Record { .. } => dynptr,
    }
}

fn dynptr_read(run: &mut Run<'_>, [into, len, source, offset, flags]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = place(201, 1);
    at.memory(run, into, len, Access::Write)?;
    let source = dynptr(run, place(201, 3), source)?;
    let source = alive(run, source);
    run.work(len / 8)?;
    if flags != 0 {
        return Ok(Errno::EINVAL.to_r0());
    }
    Ok(match within(source, offset, len) {
        Err(errno) => errno.to_r0(),
        Ok(from) => run.world.cage.copy(from, into, len).map(|()| 0).map_err(|fault| at.fault(fault))?,
    })
}

/// `long bpf_dynptr_read(dst, len, src, offset, flags)`: copies out.
pub(super) static DYNPTR_READ: Helper = Helper {
    id: 201,
    name: "dynptr_read",
    args: &[Arg::MemWrite, Arg::LenOrZero, Arg::Bytes(SLOT_LEN), Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: dynptr_read,
};

fn dynptr_write(run: &mut Run<'_>, [target, offset, from, len, flags]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = place(202, 3);
    at.memory(run, from, len, Access::Read)?;
    let target = dynptr(run, place(202, 1), target)?;
    let target = alive(run, target);
    run.work(len / 8)?;
    Ok(match within(target, offset, len) {
        Err(errno) => errno.to_r0(),
        Ok(_) if flags != 0 => Errno::EINVAL.to_r0(),
        Ok(to) => run.world.cage.copy(from, to, len).map(|()| 0).map_err(|fault| at.fault(fault))?,
    })
}

/// `long bpf_dynptr_write(dst, offset, src, len, flags)`: copies in.
pub(super) static DYNPTR_WRITE: Helper = Helper {
    id: 202,
    name: "dynptr_write",
    args: &[Arg::Bytes(SLOT_LEN), Arg::Any, Arg::MemRead, Arg::LenOrZero, Arg::Any],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: dynptr_write,
};

fn dynptr_data(run: &mut Run<'_>, [source, offset, len, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let source = dynptr(run, place(203, 1), source)?;
    let source = alive(run, source);
    Ok(within(source, offset, len).unwrap_or(0))
}

/// `void *bpf_dynptr_data(ptr, offset, len)`: the memory itself, or NULL.
pub(super) static DYNPTR_DATA: Helper = Helper {
    id: 203,
    name: "dynptr_data",
    args: &[Arg::Bytes(SLOT_LEN), Arg::Any, Arg::Any],
    ret: Ret::SliceOrNull,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[],
    body: dynptr_data,
};
