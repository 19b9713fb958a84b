//! Send the frame to a target that a map names. `net/core/filter.c`, `include/linux/filter.h`.
//!
//! Invariant: a helper only notes the target; the flow sends.

use crossbeam::epoch;

use super::check::place;
use super::{Arg, Frame, Helper, Ret};
use crate::maps::{Broadcast, Target};
use crate::run::{Redirect, Run};
use crate::trap::TrapKind;
use crate::verdict::ProgramKind;

const XDP_ABORTED: u64 = 0;
const XDP_REDIRECT: u64 = 4;
/// The verdict of a call that finds no target.
const VERDICT_MASK: u64 = 3;
/// To all targets of the map.
const BPF_F_BROADCAST: u64 = 1 << 3;
/// But not to the port that the frame came in by.
const BPF_F_EXCLUDE_INGRESS: u64 = 1 << 4;

fn redirect_map(run: &mut Run<'_>, [handle, index, flags, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let guard = epoch::pin();
    let map = place(51, 1).map(run, handle, &guard)?;
    let targets = map.as_redirect_map().ok_or_else(|| place(51, 1).not("a map of redirect targets"))?;
    #[expect(clippy::cast_possible_truncation, reason = "the kernel's key is the low half of the register")]
    let index = index as u32;
    let allowed = match targets.broadcast() {
        Broadcast::Taken => BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS,
        Broadcast::Refused => 0,
    };
    if flags & !(VERDICT_MASK | allowed) != 0 {
        return Ok(XDP_ABORTED);
    }
    run.redirect = if flags & BPF_F_BROADCAST != 0 {
        // The flow looks at every place.
        run.work(targets.place_count() / 8)?;
        Some(Redirect { target: Target::Ports { map: handle }, flags })
    } else {
        targets.target(index).map(|target| Redirect { target, flags: 0 })
    };
    Ok(if run.redirect.is_some() { XDP_REDIRECT } else { flags & VERDICT_MASK })
}

/// `long bpf_redirect_map(map, key, flags)`: the verdict to return; that of the flags where the map has no target.
pub(super) static REDIRECT_MAP: Helper = Helper {
    id: 51,
    name: "redirect_map",
    args: &[Arg::Map, Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Xdp],
    body: redirect_map,
};
