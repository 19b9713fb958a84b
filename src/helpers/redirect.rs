//! Send the frame to another port. `net/core/filter.c`.
//!
//! Invariant: a helper only notes the target; the flow sends.

use super::{Arg, Frame, Helper, Ret};
use crate::run::{Redirect, Run};
use crate::trap::TrapKind;
use crate::verdict::ProgramKind;

const XDP_ABORTED: u64 = 0;
const XDP_REDIRECT: u64 = 4;
const TC_ACT_SHOT: u64 = 2;
const TC_ACT_REDIRECT: u64 = 7;
/// To the ingress side of the target, tc only.
const BPF_F_INGRESS: u64 = 1;

fn redirect(run: &mut Run<'_>, [ifindex, flags, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    #[expect(clippy::cast_possible_truncation, reason = "the kernel's parameter is 32 bits of r1")]
    let ifindex = ifindex as u32;
    let (allowed, refused, accepted) = match run.kind {
        ProgramKind::Xdp | ProgramKind::Raw => (0, XDP_ABORTED, XDP_REDIRECT),
        ProgramKind::Tc | ProgramKind::SocketFilter | ProgramKind::FlowDissector => {
            (BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_REDIRECT)
        }
    };
    if flags & !allowed != 0 {
        return Ok(refused);
    }
    run.redirect = Some(Redirect::to_port(ifindex, flags));
    Ok(accepted)
}

/// `long bpf_redirect(ifindex, flags)`: the verdict to return. XDP takes no flags.
pub(super) static REDIRECT: Helper = Helper {
    id: 23,
    name: "redirect",
    args: &[Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 8,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Xdp, ProgramKind::Tc],
    body: redirect,
};
