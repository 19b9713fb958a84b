//! Send the frame, or a copy of it, to another port. `net/core/filter.c`.
//!
//! Invariant: a helper only notes the target; the flow sends.

use super::check::place;
use super::skb_frame::{Packet, Stop, answer, u32_of};
use super::{Arg, Frame, Helper, Ret};
use crate::limits::FRAME_COPY_LEN_MAX;
use crate::maps::Errno;
use crate::run::{Redirect, Run};
use crate::trap::{Access, TrapKind};
use crate::verdict::ProgramKind;

const XDP_ABORTED: u64 = 0;
const XDP_REDIRECT: u64 = 4;
const TC_ACT_SHOT: u64 = 2;
const TC_ACT_REDIRECT: u64 = 7;
/// To the ingress side of the target, tc only.
const BPF_F_INGRESS: u64 = 1;
/// Bytes of `struct bpf_redir_neigh`.
const NEIGHBOUR_LEN: u64 = 20;

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

/// Notes the target of a tc program.
fn note(run: &mut Run<'_>, ifindex: u64, flags: u64) -> u64 {
    run.redirect = Some(Redirect::to_port(u32_of(ifindex), flags));
    TC_ACT_REDIRECT
}

fn redirect_neigh(run: &mut Run<'_>, [ifindex, params, len, flags, _]: [u64; 5]) -> Result<u64, TrapKind> {
    place(152, 2).memory(run, params, len, Access::Read)?;
    if flags != 0 || (len != 0 && len < NEIGHBOUR_LEN) {
        return Ok(TC_ACT_SHOT);
    }
    let next_hop = if len == 0 { 0 } else { Redirect::NEXT_HOP };
    Ok(note(run, ifindex, Redirect::NEIGHBOUR | next_hop))
}

/// `long bpf_redirect_neigh(ifindex, params, plen, flags)`: the verdict to return; the target looks its neighbour up.
pub(super) static REDIRECT_NEIGH: Helper = Helper {
    id: 152,
    name: "redirect_neigh",
    args: &[Arg::Any, Arg::MemReadOrNull, Arg::LenOrZero, Arg::Any],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc],
    body: redirect_neigh,
};

fn redirect_peer(run: &mut Run<'_>, [ifindex, flags, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    if flags != 0 {
        return Ok(TC_ACT_SHOT);
    }
    Ok(note(run, ifindex, Redirect::PEER))
}

/// `long bpf_redirect_peer(ifindex, flags)`: the verdict to return; the target's other end receives.
pub(super) static REDIRECT_PEER: Helper = Helper {
    id: 155,
    name: "redirect_peer",
    args: &[Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 8,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc],
    body: redirect_peer,
};

fn clone_redirect(run: &mut Run<'_>, [ctx, ifindex, flags, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(13, 1).context(run, ctx)?;
    run.work(u64::from(run.window.frame_len()) / 8)?;
    answer(copy_to(&mut Packet::new(run, 13), u32_of(ifindex), flags))
}

fn copy_to(packet: &mut Packet<'_, '_>, ifindex: u32, flags: u64) -> Result<u64, Stop> {
    if flags & !BPF_F_INGRESS != 0 || (ifindex != packet.run.ifindex && !packet.run.world.ports.has(ifindex)) {
        return Err(Errno::EINVAL.into());
    }
    if packet.run.skb.link >= packet.run.skb.network {
        return Err(Errno::ERANGE.into());
    }
    let len = packet.len();
    if len > FRAME_COPY_LEN_MAX {
        return Err(Errno::ENOMEM.into());
    }
    let target = Redirect::to_port(ifindex, flags);
    let addr = u64::from(packet.run.window.data);
    let Some(bytes) = packet.run.copies.push(target, len) else { return Err(Errno::ENOMEM.into()) };
    let copied = packet.run.world.cage.read(addr, bytes);
    copied.map_err(|fault| Stop::Trap(place(13, 1).fault(fault)))?;
    Ok(0)
}

/// `long bpf_clone_redirect(skb, ifindex, flags)`: notes a copy of the packet as it is now, to be sent there.
pub(super) static CLONE_REDIRECT: Helper = Helper {
    id: 13,
    name: "clone_redirect",
    args: &[Arg::Ctx, Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 256,
    frame: Frame::Moves,
    kinds: &[ProgramKind::Tc],
    body: clone_redirect,
};
