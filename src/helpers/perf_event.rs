//! Records for whoever listens, in a buffer for each worker. `kernel/trace/bpf_trace.c`, `net/core/filter.c`.
//!
//! Invariant: bytes of the packet are those of the run's window.

use crossbeam::epoch;

use super::check::place;
use super::{Arg, Frame, Helper, Ret};
use crate::maps::Errno;
use crate::run::Run;
use crate::trap::{Access, TrapKind};
use crate::verdict::ProgramKind;

/// `BPF_F_INDEX_MASK`: which slot.
const INDEX_MASK: u64 = 0xffff_ffff;
/// `BPF_F_CTXLEN_MASK`: so many bytes of the packet follow the record.
const PACKET_LEN_MASK: u64 = 0x000f_ffff << 32;

fn perf_event_output(run: &mut Run<'_>, [ctx, handle, flags, from, len]: [u64; 5]) -> Result<u64, TrapKind> {
    place(25, 1).context(run, ctx)?;
    let guard = epoch::pin();
    let map = place(25, 2).map(run, handle, &guard)?;
    let buffer = map.as_perf_buffer().ok_or_else(|| place(25, 2).not("a perf event array"))?;
    let record = place(25, 4).memory(run, from, len, Access::Read)?;
    if flags & !(PACKET_LEN_MASK | INDEX_MASK) != 0 {
        return Ok(Errno::EINVAL.to_r0());
    }
    let packet_len = (flags & PACKET_LEN_MASK) >> 32;
    if packet_len > u64::from(run.window.frame_len()) {
        return Ok(Errno::EFAULT.to_r0());
    }
    run.work((len + packet_len) / 8)?;
    let split = record.len() as usize;
    let total = split + usize::try_from(packet_len).expect("20 bits");
    let (cage, window) = (&run.world.cage, run.window);
    let sent = buffer.output(run.worker(), flags, total, |bytes| {
        let (sent, packet) = bytes.split_at_mut(split);
        cage.read(u64::from(record.addr()), sent)?;
        cage.read(u64::from(window.data), packet)
    });
    let sent = sent.map_err(|fault| place(25, 4).fault(fault))?;
    Ok(sent.map_or_else(Errno::to_r0, |()| 0))
}

/// `long bpf_perf_event_output(ctx, map, flags, data, size)`: a record of a copy, and of the packet's first bytes.
pub(super) static PERF_EVENT_OUTPUT: Helper = Helper {
    id: 25,
    name: "perf_event_output",
    args: &[Arg::Ctx, Arg::Map, Arg::Any, Arg::MemRead, Arg::LenOrZero],
    ret: Ret::Integer,
    cost: 256,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Xdp, ProgramKind::Tc, ProgramKind::SocketFilter],
    body: perf_event_output,
};
