//! Change the bounds of an XDP frame that has fragments. `net/core/filter.c`.
//!
//! The linear part keeps its end in memory for as long as there are fragments, so nothing moves but what is pulled.
//!
//! Invariant: a frame has never more fragments than it came with.

use super::check::kfunc_place;
use super::skb_frame::u32_of;
use super::xdp_frame::publish;
use super::{Arg, Frame, Helper, KFUNC, Ret};
use crate::limits::{FRAGMENT_LEN_MAX, FRAME_LEN_MIN, HEAD_RESERVE, TAIL_RESERVE};
use crate::maps::Errno;
use crate::run::{Run, Window};
use crate::trap::TrapKind;
use crate::verdict::ProgramKind;

/// Number of `bpf_xdp_adjust_tail`.
const ADJUST_TAIL: u32 = 65;

/// What `bpf_xdp_adjust_tail` does to such a frame: the last fragment grows in its page; what is taken off is first that of
/// the last fragments, then of the linear part.
pub(super) fn adjust_tail(run: &mut Run<'_>, by: i64) -> Result<u64, TrapKind> {
    let window = run.window;
    let Ok(grown) = u32::try_from(by) else {
        let lost = by.unsigned_abs();
        if lost + u64::from(FRAME_LEN_MIN) > window.frame_len().into() {
            return Ok(Errno::EINVAL.to_r0());
        }
        let lost = u32::try_from(lost).expect("less than the frame has");
        let of_fragments = lost.min(window.fragments_len);
        let fragments_len = window.fragments_len - of_fragments;
        let data_end = window.data_end - (lost - of_fragments);
        let pulled = if fragments_len == 0 { 0 } else { window.pulled };
        return publish(run, ADJUST_TAIL, Window { data_end, fragments_len, pulled, ..window });
    };
    if grown > window.fragment_room() {
        return Ok(Errno::EINVAL.to_r0());
    }
    let zeroed = run.world.cage.fill(window.frame_end().into(), grown.into(), 0);
    zeroed.map_err(Run::helper_fault(ADJUST_TAIL))?;
    publish(run, ADJUST_TAIL, Window { fragments_len: window.fragments_len + grown, ..window })
}

fn xdp_pull_data(run: &mut Run<'_>, [ctx, len, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = kfunc_place(XDP_PULL_DATA.name, 1);
    at.context(run, ctx)?;
    let window = run.window;
    let len = u32_of(len);
    let Some(missing) = len.checked_sub(window.linear_len()).filter(|missing| *missing > 0) else { return Ok(0) };
    let start = window.meta.min(window.data);
    let head_room = (start - window.chunk).saturating_sub(HEAD_RESERVE);
    // The frames of a host fill their chunks.
    let tail_room = (window.chunk + window.chunk_len).saturating_sub(TAIL_RESERVE + window.data_end);
    if len > window.frame_len() || missing > head_room + tail_room {
        return Ok(Errno::EINVAL.to_r0());
    }
    let shift = missing.saturating_sub(tail_room);
    let moved_len = window.frame_end() - start;
    run.work(u64::from(moved_len) / 8)?;
    if shift > 0 {
        let moved = run.world.cage.copy(start.into(), (start - shift).into(), moved_len.into());
        moved.map_err(|fault| at.fault(fault))?;
    }
    let fragments_len = window.fragments_len - missing;
    let pulled = if fragments_len == 0 { 0 } else { (window.pulled + missing) % FRAGMENT_LEN_MAX };
    let [meta, data] = [window.meta, window.data].map(|bound| bound - shift);
    publish(
        run,
        ADJUST_TAIL,
        Window { meta, data, data_end: window.data_end - shift + missing, fragments_len, pulled, ..window },
    )
}

/// `int bpf_xdp_pull_data(xdp, len)`: makes so many bytes reachable by `data`.
pub(super) static XDP_PULL_DATA: Helper = Helper {
    id: KFUNC + 23,
    name: "xdp_pull_data",
    args: &[Arg::Ctx, Arg::Any],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Moves,
    kinds: &[ProgramKind::Xdp],
    body: xdp_pull_data,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CHUNK_LEN, FRAME_LEN_MAX, HEADROOM, STACK_LEN};
    use crate::maps::WorkerIndex;
    use crate::run::{Clock, Context, World};

    #[test]
    fn a_frame_that_fills_its_chunk_is_pulled_into_the_headroom_alone() {
        let world = World::new(1, Clock::Fixed(0), Box::new(|_| {})).expect("address space");
        let alloc = |len: u32| world.cage.alloc(len.into(), "a test").expect("room");
        let (chunk, ctx) = (alloc(2 * CHUNK_LEN), alloc(Context::LEN));
        let mut run = Run::new(&world, WorkerIndex(0), ProgramKind::Xdp, STACK_LEN);
        run.head.ctx = ctx.addr();
        run.window = Window::new(chunk.addr(), CHUNK_LEN, HEADROOM, FRAME_LEN_MAX);
        let pull = |run: &mut Run<'_>, len: u32| xdp_pull_data(run, [ctx.addr().into(), len.into(), 0, 0, 0]);
        let whole = run.window;
        assert_eq!(pull(&mut run, FRAME_LEN_MAX), Ok(0));
        assert_eq!(pull(&mut run, FRAME_LEN_MAX + 1), Ok(Errno::EINVAL.to_r0()));
        assert_eq!(run.window, whole);
        run.window.fragments_len = 300;
        let most = HEADROOM - HEAD_RESERVE;
        assert_eq!(pull(&mut run, FRAME_LEN_MAX + most + 1), Ok(Errno::EINVAL.to_r0()));
        assert_eq!(pull(&mut run, FRAME_LEN_MAX + most), Ok(0));
        let data = whole.data - most;
        let pulled = Window { data, meta: data, fragments_len: 300 - most, pulled: most, ..whole };
        assert_eq!(run.window, pulled);
    }
}
