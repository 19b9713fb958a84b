//! Records for whoever listens. `kernel/bpf/ringbuf.c`.
//!
//! Invariant: a record is ended by the run that reserved it, once.

use crossbeam::epoch::{self, Guard};

use super::check::{Place, place};
use super::{Arg, Frame, Helper, Ret};
use crate::maps::{Errno, Finish, RingBuffer};
use crate::run::{Record, Run};
use crate::trap::{Access, TrapKind};

fn ring<'g>(run: &Run<'g>, at: Place, handle: u64, guard: &'g Guard) -> Result<&'g RingBuffer, TrapKind> {
    at.map(run, handle, guard)?.as_ring_buffer().ok_or_else(|| at.not("a ring buffer"))
}

fn ringbuf_output(run: &mut Run<'_>, [handle, from, len, flags, _]: [u64; 5]) -> Result<u64, TrapKind> {
    let guard = epoch::pin();
    let ring = ring(run, place(130, 1), handle, &guard)?;
    let record = place(130, 2).memory(run, from, len, Access::Read)?;
    run.work(len / 8)?;
    Ok(ring.output(record, flags).map_or_else(Errno::to_r0, |()| 0))
}

/// `long bpf_ringbuf_output(ring, data, size, flags)`: a record of a copy.
pub(super) static RINGBUF_OUTPUT: Helper = Helper {
    id: 130,
    name: "ringbuf_output",
    args: &[Arg::Map, Arg::MemRead, Arg::LenOrZero, Arg::Any],
    ret: Ret::Integer,
    cost: 256,
    frame: Frame::Keeps,
    kinds: &[],
    body: ringbuf_output,
};

fn ringbuf_reserve(run: &mut Run<'_>, [handle, len, flags, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let guard = epoch::pin();
    let ring = ring(run, place(131, 1), handle, &guard)?;
    let Ok(len) = u32::try_from(len) else { return Ok(0) };
    if flags != 0 || run.records.is_full() {
        return Ok(0);
    }
    let Some(addr) = ring.reserve(u64::from(len), flags) else { return Ok(0) };
    run.records.push(Record { addr, len, map: handle });
    Ok(u64::from(addr))
}

/// `void *bpf_ringbuf_reserve(ring, size, flags)`: room for a record, or NULL.
pub(super) static RINGBUF_RESERVE: Helper = Helper {
    id: 131,
    name: "ringbuf_reserve",
    args: &[Arg::Map, Arg::Any, Arg::Any],
    ret: Ret::MemOrNull,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: ringbuf_reserve,
};

/// Ends a record of this run.
fn end(run: &mut Run<'_>, at: Place, addr: u64, finish: Finish) -> Result<u64, TrapKind> {
    let record = run.records.take(addr).ok_or_else(|| at.not("a reserved record"))?;
    let guard = epoch::pin();
    let ring = ring(run, at, record.map, &guard)?;
    ring.finish(addr, finish).expect("this run reserved it and ends it once");
    Ok(0)
}

fn ringbuf_submit(run: &mut Run<'_>, [addr, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    end(run, place(132, 1), addr, Finish::Submit)
}

/// `void bpf_ringbuf_submit(data, flags)`: hands the record to the reader.
pub(super) static RINGBUF_SUBMIT: Helper = Helper {
    id: 132,
    name: "ringbuf_submit",
    args: &[Arg::RingRecord, Arg::Any],
    ret: Ret::Void,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[],
    body: ringbuf_submit,
};

fn ringbuf_discard(run: &mut Run<'_>, [addr, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    end(run, place(133, 1), addr, Finish::Discard)
}

/// `void bpf_ringbuf_discard(data, flags)`: the reader skips the record.
pub(super) static RINGBUF_DISCARD: Helper = Helper {
    id: 133,
    name: "ringbuf_discard",
    args: &[Arg::RingRecord, Arg::Any],
    ret: Ret::Void,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[],
    body: ringbuf_discard,
};

fn ringbuf_query(run: &mut Run<'_>, [handle, what, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let guard = epoch::pin();
    let ring = ring(run, place(134, 1), handle, &guard)?;
    Ok(ring.query(what))
}

/// `u64 bpf_ringbuf_query(ring, what)`: unread bytes, size, or a position.
pub(super) static RINGBUF_QUERY: Helper = Helper {
    id: 134,
    name: "ringbuf_query",
    args: &[Arg::Map, Arg::Any],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Keeps,
    kinds: &[],
    body: ringbuf_query,
};
