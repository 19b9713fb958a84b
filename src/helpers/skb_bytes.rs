//! Read and write the packet of an sk_buff by offset. `net/core/filter.c`.
//!
//! Invariant: every packet lies in one piece, so nothing is ever pulled.

use super::check::place;
use super::skb_frame::{Packet, Stop, answer, u32_of};
use super::{Arg, Frame, Helper, Ret};
use crate::maps::Errno;
use crate::run::Run;
use crate::trap::{Access, TrapKind};
use crate::verdict::ProgramKind;

/// Largest C `int`: offsets above are negative ones.
const INT_MAX: u32 = i32::MAX.cast_unsigned();
/// `BPF_F_RECOMPUTE_CSUM`: nothing to do, as no frame comes with a sum of all its bytes.
const BPF_F_RECOMPUTE_CSUM: u64 = 1 << 0;
/// `BPF_F_INVALIDATE_HASH`.
const BPF_F_INVALIDATE_HASH: u64 = 1 << 1;
/// `BPF_HDR_START_MAC`.
const START_LINK: u32 = 0;
/// `BPF_HDR_START_NET`.
const START_NETWORK: u32 = 1;

fn skb_store_bytes(run: &mut Run<'_>, [ctx, offset, from, len, flags]: [u64; 5]) -> Result<u64, TrapKind> {
    place(9, 1).context(run, ctx)?;
    let range = place(9, 3).some_memory(run, from, len, Access::Read)?;
    run.work(len / 8)?;
    answer(store(&mut Packet::new(run, 9), u32_of(offset), from, range.len(), flags))
}

/// What `bpf_dynptr_write` does to an sk_buff: the same.
pub(super) fn store_at(run: &mut Run<'_>, offset: u32, (from, len): (u64, u32), flags: u64) -> Result<u64, TrapKind> {
    answer(store(&mut Packet::new(run, 202), offset, from, len, flags))
}

fn store(packet: &mut Packet<'_, '_>, offset: u32, from: u64, len: u32, flags: u64) -> Result<u64, Stop> {
    if flags & !(BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let to = packet.at(offset, len).filter(|_| offset <= INT_MAX).ok_or(Errno::EFAULT)?;
    packet.copy(from, to, len.into())?;
    if flags & BPF_F_INVALIDATE_HASH != 0 {
        packet.run.skb.hash = None;
        packet.publish()?;
    }
    Ok(0)
}

/// `long bpf_skb_store_bytes(skb, offset, from, len, flags)`: copies into the packet.
pub(super) static SKB_STORE_BYTES: Helper = Helper {
    id: 9,
    name: "skb_store_bytes",
    args: &[Arg::Ctx, Arg::Any, Arg::MemRead, Arg::Len, Arg::Any],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Moves,
    kinds: &[ProgramKind::Tc],
    body: skb_store_bytes,
};

/// Copies `len` bytes of the packet to `to`, or zeroes these where `from` names none.
fn load(packet: &Packet<'_, '_>, from: Option<u64>, to: u64, len: u32) -> Result<u64, Stop> {
    let Some(from) = from else {
        packet.zero(to, len.into())?;
        return Err(Errno::EFAULT.into());
    };
    packet.copy(from, to, len.into())?;
    Ok(0)
}

fn skb_load_bytes(run: &mut Run<'_>, [ctx, offset, to, len, _]: [u64; 5]) -> Result<u64, TrapKind> {
    place(26, 1).context(run, ctx)?;
    let range = place(26, 3).some_memory(run, to, len, Access::Write)?;
    run.work(len / 8)?;
    let offset = u32_of(offset);
    // A flow dissector that is tried on a bare frame has no sk_buff.
    let has_packet = run.kind != ProgramKind::FlowDissector;
    let packet = Packet::new(run, 26);
    let from = packet.at(offset, range.len()).filter(|_| has_packet && offset <= INT_MAX);
    answer(load(&packet, from, to, range.len()))
}

/// `long bpf_skb_load_bytes(skb, offset, to, len)`: copies out of the packet.
pub(super) static SKB_LOAD_BYTES: Helper = Helper {
    id: 26,
    name: "skb_load_bytes",
    args: &[Arg::Ctx, Arg::Any, Arg::MemWrite, Arg::Len],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc, ProgramKind::SocketFilter, ProgramKind::FlowDissector],
    body: skb_load_bytes,
};

fn skb_pull_data(run: &mut Run<'_>, [ctx, len, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(39, 1).context(run, ctx)?;
    if u32_of(len) > run.window.frame_len() { Ok(Errno::ENOMEM.to_r0()) } else { Ok(0) }
}

/// `long bpf_skb_pull_data(skb, len)`: makes so many bytes reachable by `data`; all of them are.
pub(super) static SKB_PULL_DATA: Helper = Helper {
    id: 39,
    name: "skb_pull_data",
    args: &[Arg::Ctx, Arg::Any],
    ret: Ret::Integer,
    cost: 4,
    frame: Frame::Moves,
    kinds: &[ProgramKind::Tc],
    body: skb_pull_data,
};

fn skb_load_bytes_relative(run: &mut Run<'_>, [ctx, offset, to, len, start]: [u64; 5]) -> Result<u64, TrapKind> {
    place(68, 1).context(run, ctx)?;
    let range = place(68, 3).some_memory(run, to, len, Access::Write)?;
    run.work(len / 8)?;
    let start = match u32_of(start) {
        START_LINK => Some(run.skb.link),
        START_NETWORK => Some(run.skb.network),
        _ => None,
    };
    let offset = u32_of(offset);
    let from = start.filter(|_| offset <= 0xffff).map(|start| u64::from(start) + u64::from(offset));
    let window = run.window;
    let from = from.filter(|from| *from >= window.chunk.into() && from + len <= window.data_end.into());
    answer(load(&Packet::new(run, 68), from, to, range.len()))
}

/// `long bpf_skb_load_bytes_relative(skb, offset, to, len, start_header)`: copies from the link or the network header on.
pub(super) static SKB_LOAD_BYTES_RELATIVE: Helper = Helper {
    id: 68,
    name: "skb_load_bytes_relative",
    args: &[Arg::Ctx, Arg::Any, Arg::MemWrite, Arg::Len, Arg::Any],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc, ProgramKind::SocketFilter],
    body: skb_load_bytes_relative,
};
