//! Kernel functions for dynamic pointers: of frames, and parts and copies of all. `kernel/bpf/helpers.c`,
//! `net/core/filter.c`.
//!
//! Invariant: what a slot means is the run's; the bytes in the slot are never read.

use super::check::{Place, kfunc_place};
use super::dynptr::{SLOT_LEN, check, dynptr, piece, put, read, source, target, write};
use super::skb_frame::u32_of;
use super::{Arg, Frame, Helper, KFUNC, Ret};
use crate::maps::Errno;
use crate::run::{Dynptr, Run};
use crate::trap::{Access, TrapKind};
use crate::verdict::ProgramKind;

/// Bytes that a copy moves at a time where neither side lies in one piece; as in the kernel, for ranges that overlap.
const STEP_LEN: u32 = 256;

/// A dynamic pointer to the whole frame.
fn from_frame(
    run: &mut Run<'_>,
    kfunc: &'static str,
    [ctx, flags, into, ..]: [u64; 5],
    access: Access,
) -> Result<u64, TrapKind> {
    kfunc_place(kfunc, 1).context(run, ctx)?;
    let whole = Dynptr::Frame { offset: 0, len: run.window.frame_len(), access };
    put(run, kfunc_place(kfunc, 3), into, if flags == 0 { Ok(whole) } else { Err(Errno::EINVAL) })
}

fn dynptr_from_skb(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    // Whoever may not write to packets gets a pointer to read.
    let access = if run.kind == ProgramKind::SocketFilter { Access::Read } else { Access::Write };
    from_frame(run, DYNPTR_FROM_SKB.name, args, access)
}

/// `int bpf_dynptr_from_skb(skb, flags, ptr)`: of the packet.
pub(super) static DYNPTR_FROM_SKB: Helper = Helper {
    id: KFUNC,
    name: "dynptr_from_skb",
    args: &[Arg::Ctx, Arg::Any, Arg::BytesOut(SLOT_LEN)],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc, ProgramKind::SocketFilter],
    body: dynptr_from_skb,
};

fn dynptr_from_xdp(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    from_frame(run, DYNPTR_FROM_XDP.name, args, Access::Write)
}

/// `int bpf_dynptr_from_xdp(xdp, flags, ptr)`: of the frame, fragments included.
pub(super) static DYNPTR_FROM_XDP: Helper = Helper {
    id: KFUNC + 1,
    name: "dynptr_from_xdp",
    args: &[Arg::Ctx, Arg::Any, Arg::BytesOut(SLOT_LEN)],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Xdp],
    body: dynptr_from_xdp,
};

/// Guest address of a part; where that is in several pieces, of a copy in the buffer.
fn slice(
    run: &mut Run<'_>,
    kfunc: &'static str,
    [addr, offset, buffer, len, _]: [u64; 5],
    wanted: Access,
) -> Result<u64, TrapKind> {
    let dynptr = dynptr(run, kfunc_place(kfunc, 1), addr)?;
    let (offset, len) = (u32_of(offset), u32_of(len));
    let at = kfunc_place(kfunc, 3);
    if buffer != 0 {
        at.memory(run, buffer, len.into(), Access::Write)?;
    }
    if wanted == Access::Write && dynptr.is_read_only() {
        return Ok(0);
    }
    if let Some(addr) = piece(run, dynptr, offset, len) {
        return Ok(addr);
    }
    match dynptr {
        Dynptr::Frame { offset: start, .. }
            if buffer != 0 && run.kind == ProgramKind::Xdp && check(dynptr, offset, len).is_ok() =>
        {
            let offset = start + offset;
            // What the frame has lost since the pointer was made is left out.
            let count = run.window.frame_len().saturating_sub(offset).min(len);
            run.work(u64::from(count) / 8)?;
            let from = u64::from(run.window.data) + u64::from(offset);
            run.world.cage.copy(from, buffer, count.into()).map_err(|fault| at.fault(fault))?;
            Ok(buffer)
        }
        Dynptr::Null | Dynptr::Memory { .. } | Dynptr::Record { .. } | Dynptr::Frame { .. } => Ok(0),
    }
}

fn dynptr_slice(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    slice(run, DYNPTR_SLICE.name, args, Access::Read)
}

/// `void *bpf_dynptr_slice(ptr, offset, buffer, len)`: a part to be read, or NULL.
pub(super) static DYNPTR_SLICE: Helper = Helper {
    id: KFUNC + 2,
    name: "dynptr_slice",
    args: &[Arg::Bytes(SLOT_LEN), Arg::Any, Arg::SliceBuffer, Arg::LenOrZero],
    ret: Ret::SliceOrNull,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[],
    body: dynptr_slice,
};

fn dynptr_slice_rdwr(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    slice(run, DYNPTR_SLICE_RDWR.name, args, Access::Write)
}

/// `void *bpf_dynptr_slice_rdwr(ptr, offset, buffer, len)`: a part to be read and written, or NULL.
pub(super) static DYNPTR_SLICE_RDWR: Helper = Helper {
    id: KFUNC + 3,
    name: "dynptr_slice_rdwr",
    args: &[Arg::Bytes(SLOT_LEN), Arg::Any, Arg::SliceBuffer, Arg::LenOrZero],
    ret: Ret::SliceOrNull,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[],
    body: dynptr_slice_rdwr,
};

fn dynptr_adjust(run: &mut Run<'_>, [addr, start, end, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = kfunc_place(DYNPTR_ADJUST.name, 1);
    let whole = dynptr(run, at, addr)?;
    let (start, end) = (u32_of(start), u32_of(end));
    if whole == Dynptr::Null || start > end {
        return Ok(Errno::EINVAL.to_r0());
    }
    if end > whole.byte_count() {
        return Ok(Errno::ERANGE.to_r0());
    }
    put(run, at, addr, Ok(whole.part(start, end)))
}

/// `int bpf_dynptr_adjust(ptr, start, end)`: to this part of it.
pub(super) static DYNPTR_ADJUST: Helper = Helper {
    id: KFUNC + 4,
    name: "dynptr_adjust",
    args: &[Arg::BytesInOut(SLOT_LEN), Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Keeps,
    kinds: &[],
    body: dynptr_adjust,
};

fn dynptr_is_null(run: &mut Run<'_>, [addr, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let dynptr = dynptr(run, kfunc_place(DYNPTR_IS_NULL.name, 1), addr)?;
    Ok((dynptr == Dynptr::Null).into())
}

/// `bool bpf_dynptr_is_null(ptr)`: whether it means nothing.
pub(super) static DYNPTR_IS_NULL: Helper = Helper {
    id: KFUNC + 5,
    name: "dynptr_is_null",
    args: &[Arg::Bytes(SLOT_LEN)],
    ret: Ret::Integer,
    cost: 8,
    frame: Frame::Keeps,
    kinds: &[],
    body: dynptr_is_null,
};

fn dynptr_is_rdonly(run: &mut Run<'_>, [addr, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(dynptr(run, kfunc_place(DYNPTR_IS_RDONLY.name, 1), addr)?.is_read_only().into())
}

/// `bool bpf_dynptr_is_rdonly(ptr)`: whether it is only to be read.
pub(super) static DYNPTR_IS_RDONLY: Helper = Helper {
    id: KFUNC + 6,
    name: "dynptr_is_rdonly",
    args: &[Arg::Bytes(SLOT_LEN)],
    ret: Ret::Integer,
    cost: 8,
    frame: Frame::Keeps,
    kinds: &[],
    body: dynptr_is_rdonly,
};

fn dynptr_size(run: &mut Run<'_>, [addr, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(match dynptr(run, kfunc_place(DYNPTR_SIZE.name, 1), addr)? {
        // The kernel's return type has 32 bits.
        Dynptr::Null => u32_of(Errno::EINVAL.to_r0()).into(),
        dynptr @ (Dynptr::Memory { .. } | Dynptr::Record { .. } | Dynptr::Frame { .. }) => dynptr.byte_count().into(),
    })
}

/// `u32 bpf_dynptr_size(ptr)`: bytes.
pub(super) static DYNPTR_SIZE: Helper = Helper {
    id: KFUNC + 7,
    name: "dynptr_size",
    args: &[Arg::Bytes(SLOT_LEN)],
    ret: Ret::Integer,
    cost: 8,
    frame: Frame::Keeps,
    kinds: &[],
    body: dynptr_size,
};

fn dynptr_clone(run: &mut Run<'_>, [addr, into, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let made = match dynptr(run, kfunc_place(DYNPTR_CLONE.name, 1), addr)? {
        Dynptr::Null => Err(Errno::EINVAL),
        dynptr @ (Dynptr::Memory { .. } | Dynptr::Record { .. } | Dynptr::Frame { .. }) => Ok(dynptr),
    };
    put(run, kfunc_place(DYNPTR_CLONE.name, 2), into, made)
}

/// `int bpf_dynptr_clone(ptr, clone)`: a second one of the same memory, with bounds of its own.
pub(super) static DYNPTR_CLONE: Helper = Helper {
    id: KFUNC + 8,
    name: "dynptr_clone",
    args: &[Arg::Bytes(SLOT_LEN), Arg::BytesOut(SLOT_LEN)],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Keeps,
    kinds: &[],
    body: dynptr_clone,
};

/// Where a part lies in one piece that may be written.
fn writable_piece(run: &Run<'_>, target: Dynptr, offset: u32, len: u32) -> Option<u64> {
    piece(run, target, offset, len).filter(|_| !target.is_read_only())
}

fn dynptr_copy(run: &mut Run<'_>, [to_ptr, to, from_ptr, from, len]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = |arg| kfunc_place(DYNPTR_COPY.name, arg);
    let to_ptr = dynptr(run, at(1), to_ptr)?;
    let from_ptr = dynptr(run, at(3), from_ptr)?;
    let (to, from, len) = (u32_of(to), u32_of(from), u32_of(len));
    match (piece(run, from_ptr, from, len), writable_piece(run, to_ptr, to, len)) {
        (Some(from), Some(to)) => {
            run.work(u64::from(len) / 8)?;
            run.world.cage.copy(from, to, len.into()).map(|()| 0).map_err(|fault| at(1).fault(fault))
        }
        (Some(from), None) => write(run, at(1), to_ptr, to, (from, len), 0),
        (None, Some(to)) => read(run, at(3), from_ptr, from, (to, len)),
        (None, None) if check(to_ptr, to, len).is_err() || check(from_ptr, from, len).is_err() => {
            Ok(Errno::E2BIG.to_r0())
        }
        (None, None) => copy_in_steps(run, at(1), (to_ptr, to), (from_ptr, from), len),
    }
}

/// Copies a part at a time.
fn copy_in_steps(
    run: &mut Run<'_>,
    at: Place,
    (to_ptr, to): (Dynptr, u32),
    (from_ptr, from): (Dynptr, u32),
    len: u32,
) -> Result<u64, TrapKind> {
    let mut done = 0;
    while done < len {
        let step = STEP_LEN.min(len - done);
        run.work(u64::from(step) / 8)?;
        let from = source(run, from_ptr, from + done, step);
        match from.and_then(|from| Ok((from, target(run, to_ptr, to + done, step)?))) {
            Ok((from, to)) => run.world.cage.copy(from, to, step.into()).map_err(|fault| at.fault(fault))?,
            Err(errno) => return Ok(errno.to_r0()),
        }
        done += step;
    }
    Ok(0)
}

/// `int bpf_dynptr_copy(to, to_offset, from, from_offset, len)`: copies from one into another.
pub(super) static DYNPTR_COPY: Helper = Helper {
    id: KFUNC + 9,
    name: "dynptr_copy",
    args: &[Arg::Bytes(SLOT_LEN), Arg::Any, Arg::Bytes(SLOT_LEN), Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: dynptr_copy,
};

fn dynptr_memset(run: &mut Run<'_>, [addr, offset, len, value, _]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = kfunc_place(DYNPTR_MEMSET.name, 1);
    let dynptr = dynptr(run, at, addr)?;
    let (offset, len, [value, ..]) = (u32_of(offset), u32_of(len), value.to_le_bytes());
    if dynptr.is_read_only() {
        return Ok(Errno::EINVAL.to_r0());
    }
    if let Err(errno) = check(dynptr, offset, len) {
        return Ok(errno.to_r0());
    }
    let step_max = if piece(run, dynptr, offset, len).is_some() { len } else { STEP_LEN };
    let mut done = 0;
    while done < len {
        let step = step_max.min(len - done);
        run.work(u64::from(step) / 8)?;
        match target(run, dynptr, offset + done, step) {
            Ok(addr) => run.world.cage.fill(addr, step.into(), value).map_err(|fault| at.fault(fault))?,
            Err(errno) => return Ok(errno.to_r0()),
        }
        done += step;
    }
    Ok(0)
}

/// `int bpf_dynptr_memset(ptr, offset, len, value)`: fills a part with one byte.
pub(super) static DYNPTR_MEMSET: Helper = Helper {
    id: KFUNC + 10,
    name: "dynptr_memset",
    args: &[Arg::Bytes(SLOT_LEN), Arg::Any, Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: dynptr_memset,
};
