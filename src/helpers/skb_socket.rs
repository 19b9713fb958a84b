//! What an sk_buff says of the socket, control group and route that it belongs to. `net/core/filter.c`.
//!
//! Invariant: frames come from a wire, so they have none of these, and every answer says so.

use super::check::place;
use super::{Arg, Frame, Helper, Ret};
use crate::run::Run;
use crate::trap::TrapKind;
use crate::verdict::ProgramKind;

/// What the kernel answers for a user that nobody knows (`DEFAULT_OVERFLOWUID`).
const OVERFLOW_UID: u64 = 65534;

const TC: &[ProgramKind] = &[ProgramKind::Tc];
const TC_AND_SOCKET_FILTER: &[ProgramKind] = &[ProgramKind::Tc, ProgramKind::SocketFilter];

const fn helper(
    id: u32,
    name: &'static str,
    args: &'static [Arg],
    kinds: &'static [ProgramKind],
    body: super::Body,
) -> Helper {
    Helper { id, name, args, ret: Ret::Integer, cost: 4, frame: Frame::Keeps, kinds, body }
}

fn get_cgroup_classid(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(17, 1).context(run, ctx)?;
    Ok(0)
}

/// `u32 bpf_get_cgroup_classid(skb)`: no class.
pub(super) static GET_CGROUP_CLASSID: Helper = helper(17, "get_cgroup_classid", &[Arg::Ctx], TC, get_cgroup_classid);

fn get_route_realm(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(24, 1).context(run, ctx)?;
    Ok(0)
}

/// `u32 bpf_get_route_realm(skb)`: no route was looked up.
pub(super) static GET_ROUTE_REALM: Helper = helper(24, "get_route_realm", &[Arg::Ctx], TC, get_route_realm);

fn get_socket_cookie(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(46, 1).context(run, ctx)?;
    Ok(0)
}

/// `u64 bpf_get_socket_cookie(skb)`: no socket.
pub(super) static GET_SOCKET_COOKIE: Helper =
    helper(46, "get_socket_cookie", &[Arg::Ctx], TC_AND_SOCKET_FILTER, get_socket_cookie);

fn get_socket_uid(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(47, 1).context(run, ctx)?;
    Ok(OVERFLOW_UID)
}

/// `u32 bpf_get_socket_uid(skb)`: nobody's.
pub(super) static GET_SOCKET_UID: Helper =
    helper(47, "get_socket_uid", &[Arg::Ctx], TC_AND_SOCKET_FILTER, get_socket_uid);

fn skb_cgroup_id(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(79, 1).context(run, ctx)?;
    Ok(0)
}

/// `u64 bpf_skb_cgroup_id(skb)`: no control group.
pub(super) static SKB_CGROUP_ID: Helper = helper(79, "skb_cgroup_id", &[Arg::Ctx], TC, skb_cgroup_id);

fn skb_ancestor_cgroup_id(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(83, 1).context(run, ctx)?;
    Ok(0)
}

/// `u64 bpf_skb_ancestor_cgroup_id(skb, ancestor_level)`: no control group.
pub(super) static SKB_ANCESTOR_CGROUP_ID: Helper =
    helper(83, "skb_ancestor_cgroup_id", &[Arg::Ctx, Arg::Any], TC, skb_ancestor_cgroup_id);

fn skb_cgroup_classid(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(151, 1).context(run, ctx)?;
    Ok(0)
}

/// `u64 bpf_skb_cgroup_classid(skb)`: no class.
pub(super) static SKB_CGROUP_CLASSID: Helper = helper(151, "skb_cgroup_classid", &[Arg::Ctx], TC, skb_cgroup_classid);
