//! What a network card tells of a frame beside its bytes. `net/core/xdp.c`.
//!
//! Ports of kumite know nothing of it, so these answer as the kernel does for a device without support: -EOPNOTSUPP, and
//! nothing is written.

use super::check::{Place, kfunc_place};
use super::{Arg, Frame, Helper, KFUNC, Ret};
use crate::maps::Errno;
use crate::run::Run;
use crate::trap::TrapKind;
use crate::verdict::ProgramKind;

fn unknown(run: &Run<'_>, at: Place, ctx: u64) -> Result<u64, TrapKind> {
    at.context(run, ctx)?;
    Ok(Errno::EOPNOTSUPP.to_r0())
}

fn xdp_metadata_rx_timestamp(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    unknown(run, kfunc_place(XDP_METADATA_RX_TIMESTAMP.name, 1), ctx)
}

/// `int bpf_xdp_metadata_rx_timestamp(ctx, timestamp)`: when the card received it, in nanoseconds.
pub(super) static XDP_METADATA_RX_TIMESTAMP: Helper = Helper {
    id: KFUNC + 20,
    name: "xdp_metadata_rx_timestamp",
    args: &[Arg::Ctx, Arg::BytesPerhapsOut(8)],
    ret: Ret::Integer,
    cost: 4,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Xdp],
    body: xdp_metadata_rx_timestamp,
};

fn xdp_metadata_rx_hash(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    unknown(run, kfunc_place(XDP_METADATA_RX_HASH.name, 1), ctx)
}

/// `int bpf_xdp_metadata_rx_hash(ctx, hash, rss_type)`: the hash of its flow, and over what.
pub(super) static XDP_METADATA_RX_HASH: Helper = Helper {
    id: KFUNC + 21,
    name: "xdp_metadata_rx_hash",
    args: &[Arg::Ctx, Arg::BytesPerhapsOut(4), Arg::BytesPerhapsOut(4)],
    ret: Ret::Integer,
    cost: 4,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Xdp],
    body: xdp_metadata_rx_hash,
};

fn xdp_metadata_rx_vlan_tag(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    unknown(run, kfunc_place(XDP_METADATA_RX_VLAN_TAG.name, 1), ctx)
}

/// `int bpf_xdp_metadata_rx_vlan_tag(ctx, vlan_proto, vlan_tci)`: the tag that the card took off.
pub(super) static XDP_METADATA_RX_VLAN_TAG: Helper = Helper {
    id: KFUNC + 22,
    name: "xdp_metadata_rx_vlan_tag",
    args: &[Arg::Ctx, Arg::BytesPerhapsOut(2), Arg::BytesPerhapsOut(2)],
    ret: Ret::Integer,
    cost: 4,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Xdp],
    body: xdp_metadata_rx_vlan_tag,
};
