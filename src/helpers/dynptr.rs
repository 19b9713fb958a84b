//! Dynamic pointers: memory with bounds that are checked when it is used. `kernel/bpf/helpers.c`, `kernel/bpf/ringbuf.c`.
//!
//! Invariant: what a slot means is the run's; the bytes in the slot are never read.

use crossbeam::epoch;

use super::check::{Place, place};
use super::skb_frame::u32_of;
use super::{Arg, Frame, Helper, Ret, skb_bytes, xdp_frame};
use crate::limits::STACK_LEN;
use crate::maps::{Errno, Finish};
use crate::run::{Dynptr, Record, Run};
use crate::trap::{Access, TrapKind};
use crate::verdict::ProgramKind;

/// Bytes of `struct bpf_dynptr`.
pub(super) const SLOT_LEN: u32 = 16;
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
pub(super) fn dynptr(run: &Run<'_>, at: Place, addr: u64) -> Result<Dynptr, TrapKind> {
    let slot = slot(run, at, addr)?;
    let found = run.dynptrs.find(slot).ok_or_else(|| at.not("a dynptr that was made"))?;
    Ok(match found {
        // The program ended the record, by this pointer or by other means.
        Dynptr::Record { record, .. } if !run.records.held().iter().any(|held| held.addr == record) => Dynptr::Null,
        Dynptr::Null | Dynptr::Memory { .. } | Dynptr::Record { .. } | Dynptr::Frame { .. } => found,
    })
}

/// Puts a pointer into a slot; the answer is the errno that goes with it, or 0.
pub(super) fn put(run: &mut Run<'_>, at: Place, addr: u64, made: Result<Dynptr, Errno>) -> Result<u64, TrapKind> {
    let slot = slot(run, at, addr)?;
    let dynptr = made.unwrap_or(Dynptr::Null);
    let first = match dynptr {
        Dynptr::Null => 0,
        Dynptr::Memory { addr, .. } => addr,
        Dynptr::Record { record, offset, .. } => record + offset,
        Dynptr::Frame { offset, .. } => offset,
    };
    let shown = [first, dynptr.byte_count()].map(|word| u64::from(word).to_ne_bytes());
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
        let reserved = ring.reserve(len.into(), 0);
        reserved.map(|record| Dynptr::Record { record, offset: 0, len }).ok_or(Errno::EINVAL)
    };
    if let Ok(Dynptr::Record { record, len, .. }) = made {
        run.records.push(Record { addr: record, len, map });
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
        Dynptr::Memory { .. } | Dynptr::Frame { .. } => return Err(at.not("a dynptr of a ring buffer")),
        Dynptr::Record { record, .. } => {
            let held = run.records.take(record.into()).ok_or_else(|| at.not("a reserved record"))?;
            let guard = epoch::pin();
            let ring = at.map(run, held.map, &guard)?.as_ring_buffer().ok_or_else(|| at.not("of a ring buffer"))?;
            ring.finish(record.into(), finish).expect("this run reserved it and ends it once");
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

/// Whether a pointer has `len` bytes at an offset: `bpf_dynptr_check_off_len`.
pub(super) fn check(dynptr: Dynptr, offset: u32, len: u32) -> Result<(), Errno> {
    let end = u64::from(offset) + u64::from(len);
    if end <= dynptr.byte_count().into() { Ok(()) } else { Err(Errno::E2BIG) }
}

/// Guest address of `len` bytes at an offset of a pointer, where they lie in one piece for as long as the pointer is good.
pub(super) fn piece(run: &Run<'_>, dynptr: Dynptr, offset: u32, len: u32) -> Option<u64> {
    check(dynptr, offset, len).ok()?;
    match dynptr {
        Dynptr::Null => None,
        Dynptr::Memory { addr, .. } => Some(u64::from(addr) + u64::from(offset)),
        Dynptr::Record { record, offset: start, .. } => Some(u64::from(record) + u64::from(start) + u64::from(offset)),
        Dynptr::Frame { offset: start, .. } => frame_piece(run, start + offset, len),
    }
}

/// Guest address of `len` bytes at an offset of the frame, if they lie in one piece.
fn frame_piece(run: &Run<'_>, offset: u32, len: u32) -> Option<u64> {
    if run.kind == ProgramKind::Xdp {
        let found = xdp_frame::in_frame(run.window, offset.into(), len.into()).ok();
        return found.filter(|_| run.window.is_one_piece(offset, len));
    }
    let end = u64::from(offset) + u64::from(len);
    (end <= run.window.frame_len().into()).then(|| u64::from(run.window.data) + u64::from(offset))
}

/// Where `len` bytes at an offset of a pointer are read from, or the errno of `__bpf_dynptr_read`.
pub(super) fn source(run: &Run<'_>, dynptr: Dynptr, offset: u32, len: u32) -> Result<u64, Errno> {
    if dynptr == Dynptr::Null {
        return Err(Errno::EINVAL);
    }
    check(dynptr, offset, len)?;
    match dynptr {
        Dynptr::Frame { offset: start, .. } if run.kind == ProgramKind::Xdp => {
            xdp_frame::in_frame(run.window, (start + offset).into(), len.into())
        }
        // A packet may have shrunk since.
        Dynptr::Null | Dynptr::Memory { .. } | Dynptr::Record { .. } | Dynptr::Frame { .. } => {
            piece(run, dynptr, offset, len).ok_or(Errno::EFAULT)
        }
    }
}

/// Where `len` bytes at an offset of a pointer are written to, or the errno of `__bpf_dynptr_write`.
pub(super) fn target(run: &Run<'_>, dynptr: Dynptr, offset: u32, len: u32) -> Result<u64, Errno> {
    if dynptr.is_read_only() { Err(Errno::EINVAL) } else { source(run, dynptr, offset, len) }
}

/// Copies out of what a pointer means: `__bpf_dynptr_read`.
pub(super) fn read(
    run: &mut Run<'_>,
    at: Place,
    dynptr: Dynptr,
    offset: u32,
    (into, len): (u64, u32),
) -> Result<u64, TrapKind> {
    run.work(u64::from(len) / 8)?;
    let cage = &run.world.cage;
    match source(run, dynptr, offset, len) {
        Ok(from) => cage.copy(from, into, len.into()).map(|()| 0).map_err(|fault| at.fault(fault)),
        Err(errno) => {
            if errno == Errno::EFAULT && run.kind != ProgramKind::Xdp {
                cage.fill(into, len.into(), 0).map_err(|fault| at.fault(fault))?;
            }
            Ok(errno.to_r0())
        }
    }
}

/// Copies into what a pointer means: `__bpf_dynptr_write`.
pub(super) fn write(
    run: &mut Run<'_>,
    at: Place,
    dynptr: Dynptr,
    offset: u32,
    (from, len): (u64, u32),
    flags: u64,
) -> Result<u64, TrapKind> {
    run.work(u64::from(len) / 8)?;
    match (target(run, dynptr, offset, len), dynptr) {
        (Ok(_), Dynptr::Frame { offset: start, .. }) if run.kind != ProgramKind::Xdp => {
            skb_bytes::store_at(run, start + offset, (from, len), flags)
        }
        (Ok(_), _) if flags != 0 => Ok(Errno::EINVAL.to_r0()),
        (Ok(to), _) => run.world.cage.copy(from, to, len.into()).map(|()| 0).map_err(|fault| at.fault(fault)),
        (Err(errno), _) => Ok(errno.to_r0()),
    }
}

fn dynptr_read(run: &mut Run<'_>, [into, len, source, offset, flags]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = place(201, 1);
    let into = at.memory(run, into, len, Access::Write)?;
    let source = dynptr(run, place(201, 3), source)?;
    let source = if flags == 0 { source } else { Dynptr::Null };
    read(run, at, source, u32_of(offset), (into.addr().into(), into.len()))
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
    let from = at.memory(run, from, len, Access::Read)?;
    let target = dynptr(run, place(202, 1), target)?;
    write(run, at, target, u32_of(offset), (from.addr().into(), from.len()), flags)
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
    match dynptr(run, place(203, 1), source)? {
        // Packets are reached by `bpf_dynptr_slice`.
        Dynptr::Frame { .. } => Ok(0),
        source @ (Dynptr::Null | Dynptr::Memory { .. } | Dynptr::Record { .. }) => {
            Ok(piece(run, source, u32_of(offset), u32_of(len)).unwrap_or(0))
        }
    }
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
