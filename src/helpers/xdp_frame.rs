//! Change an XDP frame's bounds, and read and write it by offset. `net/core/filter.c`.
//!
//! Invariant: the run's window says where the frame is; what the program made of the context is never read.

use super::check::place;
use super::{Arg, Frame, Helper, Ret, xdp_fragments};
use crate::limits::{FRAME_LEN_MIN, HEAD_RESERVE, META_LEN_MAX, TAIL_RESERVE};
use crate::maps::Errno;
use crate::run::{Context, Run, Window};
use crate::trap::{Access, TrapKind};
use crate::verdict::ProgramKind;

/// Longest offset and length that the kernel takes of a frame.
const OFFSET_MAX: u64 = 0xffff;
const XDP: &[ProgramKind] = &[ProgramKind::Xdp];

/// The C `int` in a register.
#[expect(clippy::cast_possible_truncation, reason = "the kernel's parameter is the low half of the register")]
fn int(register: u64) -> i64 {
    i64::from(register as i32)
}

/// A guest address that was checked to lie in the chunk.
fn address(addr: i64) -> u32 {
    u32::try_from(addr).expect("inside the chunk")
}

/// Writes the new bounds where the program finds them.
pub(super) fn publish(run: &mut Run<'_>, helper: u32, window: Window) -> Result<u64, TrapKind> {
    run.window = window;
    Context::write_bounds(run).map_err(|fault| place(helper, 1).fault(fault))?;
    Ok(0)
}

fn xdp_adjust_head(run: &mut Run<'_>, [ctx, offset, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(44, 1).context(run, ctx)?;
    let window = run.window;
    let meta_len = window.data.saturating_sub(window.meta);
    let data = i64::from(window.data) + int(offset);
    let data_min = i64::from(window.chunk) + i64::from(HEAD_RESERVE) + i64::from(meta_len);
    if data < data_min || data > i64::from(window.data_end) - i64::from(FRAME_LEN_MIN) {
        return Ok(Errno::EINVAL.to_r0());
    }
    let meta = address(i64::from(window.meta) + int(offset));
    let moved = run.world.cage.copy(u64::from(window.meta), u64::from(meta), u64::from(meta_len));
    moved.map_err(|fault| place(44, 1).fault(fault))?;
    publish(run, 44, Window { data: address(data), meta, ..window })
}

/// `long bpf_xdp_adjust_head(ctx, delta)`: moves the frame's start, the metadata with it.
pub(super) static XDP_ADJUST_HEAD: Helper = Helper {
    id: 44,
    name: "xdp_adjust_head",
    args: &[Arg::Ctx, Arg::Any],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Moves,
    kinds: XDP,
    body: xdp_adjust_head,
};

fn xdp_adjust_meta(run: &mut Run<'_>, [ctx, offset, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(54, 1).context(run, ctx)?;
    let window = run.window;
    if window.meta > window.data {
        return Ok(Errno::ENOTSUPP.to_r0());
    }
    let meta = i64::from(window.meta) + int(offset);
    if meta < i64::from(window.chunk) + i64::from(HEAD_RESERVE) || meta > i64::from(window.data) {
        return Ok(Errno::EINVAL.to_r0());
    }
    let meta_len = i64::from(window.data) - meta;
    if meta_len % 4 != 0 || meta_len > i64::from(META_LEN_MAX) {
        return Ok(Errno::EACCES.to_r0());
    }
    publish(run, 54, Window { meta: address(meta), ..window })
}

/// `long bpf_xdp_adjust_meta(ctx, delta)`: moves the start of the metadata before the frame.
pub(super) static XDP_ADJUST_META: Helper = Helper {
    id: 54,
    name: "xdp_adjust_meta",
    args: &[Arg::Ctx, Arg::Any],
    ret: Ret::Integer,
    cost: 8,
    frame: Frame::Moves,
    kinds: XDP,
    body: xdp_adjust_meta,
};

fn xdp_adjust_tail(run: &mut Run<'_>, [ctx, offset, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(65, 1).context(run, ctx)?;
    let window = run.window;
    if window.fragments_len > 0 {
        return xdp_fragments::adjust_tail(run, int(offset));
    }
    let data_end = i64::from(window.data_end) + int(offset);
    let data_end_max = i64::from(window.chunk) + i64::from(window.chunk_len) - i64::from(TAIL_RESERVE);
    if data_end > data_end_max || data_end < i64::from(window.data) + i64::from(FRAME_LEN_MIN) {
        return Ok(Errno::EINVAL.to_r0());
    }
    if let Ok(grown) = u64::try_from(int(offset)) {
        let zeroed = run.world.cage.fill(u64::from(window.data_end), grown, 0);
        zeroed.map_err(|fault| place(65, 1).fault(fault))?;
    }
    publish(run, 65, Window { data_end: address(data_end), ..window })
}

/// `long bpf_xdp_adjust_tail(ctx, delta)`: moves the frame's end; grown bytes are zero.
pub(super) static XDP_ADJUST_TAIL: Helper = Helper {
    id: 65,
    name: "xdp_adjust_tail",
    args: &[Arg::Ctx, Arg::Any],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Moves,
    kinds: XDP,
    body: xdp_adjust_tail,
};

fn xdp_get_buff_len(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(188, 1).context(run, ctx)?;
    Ok(u64::from(run.window.frame_len()))
}

/// `u64 bpf_xdp_get_buff_len(ctx)`: bytes of the frame.
pub(super) static XDP_GET_BUFF_LEN: Helper = Helper {
    id: 188,
    name: "xdp_get_buff_len",
    args: &[Arg::Ctx],
    ret: Ret::Integer,
    cost: 4,
    frame: Frame::Keeps,
    kinds: XDP,
    body: xdp_get_buff_len,
};

/// Guest address of `len` bytes at `offset` of the frame, or the errno of the kernel's `bpf_xdp_pointer`.
pub(super) fn in_frame(window: Window, offset: u64, len: u64) -> Result<u64, Errno> {
    let offset = offset & 0xffff_ffff;
    if offset > OFFSET_MAX || len > OFFSET_MAX {
        return Err(Errno::EFAULT);
    }
    if offset + len > u64::from(window.frame_len()) {
        return Err(Errno::EINVAL);
    }
    Ok(u64::from(window.data) + offset)
}

fn xdp_load_bytes(run: &mut Run<'_>, [ctx, offset, to, len, _]: [u64; 5]) -> Result<u64, TrapKind> {
    place(189, 1).context(run, ctx)?;
    place(189, 3).some_memory(run, to, len, Access::Write)?;
    match in_frame(run.window, offset, len) {
        Err(errno) => Ok(errno.to_r0()),
        Ok(from) => {
            run.world.cage.copy(from, to, len).map_err(|fault| place(189, 3).fault(fault))?;
            Ok(0)
        }
    }
}

/// `long bpf_xdp_load_bytes(ctx, offset, buf, len)`: copies out of the frame.
pub(super) static XDP_LOAD_BYTES: Helper = Helper {
    id: 189,
    name: "xdp_load_bytes",
    args: &[Arg::Ctx, Arg::Any, Arg::MemWrite, Arg::Len],
    ret: Ret::Integer,
    cost: 256,
    frame: Frame::Keeps,
    kinds: XDP,
    body: xdp_load_bytes,
};

fn xdp_store_bytes(run: &mut Run<'_>, [ctx, offset, from, len, _]: [u64; 5]) -> Result<u64, TrapKind> {
    place(190, 1).context(run, ctx)?;
    place(190, 3).some_memory(run, from, len, Access::Read)?;
    match in_frame(run.window, offset, len) {
        Err(errno) => Ok(errno.to_r0()),
        Ok(to) => {
            run.world.cage.copy(from, to, len).map_err(|fault| place(190, 3).fault(fault))?;
            Ok(0)
        }
    }
}

/// `long bpf_xdp_store_bytes(ctx, offset, buf, len)`: copies into the frame.
pub(super) static XDP_STORE_BYTES: Helper = Helper {
    id: 190,
    name: "xdp_store_bytes",
    args: &[Arg::Ctx, Arg::Any, Arg::MemRead, Arg::Len],
    ret: Ret::Integer,
    cost: 256,
    frame: Frame::Keeps,
    kinds: XDP,
    body: xdp_store_bytes,
};
