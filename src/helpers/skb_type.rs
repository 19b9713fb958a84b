//! What an sk_buff says of its packet as a whole: for whom it is, congestion, time. `net/core/filter.c`.
//!
//! Invariant: the bounds of the frame stay as they are.

use super::check::place;
use super::skb_checksum::added16;
use super::skb_frame::{Packet, Stop, answer, u32_of};
use super::skb_vlan::is_tag;
use super::{Arg, Frame, Helper, Ret};
use crate::maps::Errno;
use crate::run::{Context, PacketType, Run};
use crate::trap::TrapKind;
use crate::verdict::ProgramKind;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
/// `VLAN_MAX_DEPTH`: so many tags are too many to look through.
const TAGS_MAX: u32 = 8;

/// The packet types that programs may change, and change to.
fn changeable(packet_type: u32) -> Option<PacketType> {
    let types = [PacketType::Host, PacketType::Broadcast, PacketType::Multicast, PacketType::OtherHost];
    types.into_iter().find(|known| *known as u32 == packet_type)
}

fn skb_change_type(run: &mut Run<'_>, [ctx, packet_type, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(32, 1).context(run, ctx)?;
    let (Some(_), Some(packet_type)) = (changeable(run.skb.packet_type as u32), changeable(u32_of(packet_type))) else {
        return Ok(Errno::EINVAL.to_r0());
    };
    run.skb.packet_type = packet_type;
    answer(Packet::new(run, 32).publish().map(|()| 0))
}

/// `long bpf_skb_change_type(skb, type)`: says for whom the packet is.
pub(super) static SKB_CHANGE_TYPE: Helper = Helper {
    id: 32,
    name: "skb_change_type",
    args: &[Arg::Ctx, Arg::Any],
    ret: Ret::Integer,
    cost: 8,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc],
    body: skb_change_type,
};

fn skb_ecn_set_ce(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(97, 1).context(run, ctx)?;
    answer(set_congested(&Packet::new(run, 97)))
}

/// The protocol behind VLAN tags that the packet holds (`vlan_get_protocol`).
fn inner_protocol(packet: &Packet<'_, '_>) -> Result<Option<u16>, Stop> {
    let skb = packet.run.skb;
    let mut protocol = skb.protocol;
    let mut offset = match skb.link_len {
        0 => 14,
        link_len => link_len.wrapping_sub(4),
    };
    for _ in 1..TAGS_MAX {
        if !is_tag(protocol) {
            return Ok(Some(protocol));
        }
        let Some(tag) = packet.at(offset, 4) else { return Ok(None) };
        protocol = u16::from_be_bytes(packet.read(tag + 2)?);
        offset += 4;
    }
    Ok(Some(protocol).filter(|protocol| !is_tag(*protocol)))
}

/// `INET_ECN_set_ce` of `include/net/inet_ecn.h`.
fn set_congested(packet: &Packet<'_, '_>) -> Result<u64, Stop> {
    let network = u64::from(packet.run.skb.network);
    let header_len = match inner_protocol(packet)? {
        Some(ETH_P_IP) => 20,
        Some(ETH_P_IPV6) => 40,
        _ => return Ok(0),
    };
    if packet.len() < header_len || network + u64::from(header_len) > packet.run.window.data_end.into() {
        return Ok(0);
    }
    if header_len == 40 {
        let [first, second]: [u8; 2] = packet.read(network)?;
        if second >> 4 & 3 == 0 {
            return Ok(0);
        }
        packet.write(network, &[first, second | 0x30])?;
        return Ok(1);
    }
    let [_, tos]: [u8; 2] = packet.read(network)?;
    // Not capable, ECT(1), ECT(0), congested are 1, 2, 3, 0 afterwards.
    let ecn = tos.wrapping_add(1) & 3;
    if ecn & 2 == 0 {
        return Ok(u64::from(ecn == 0));
    }
    let check = u16::from_be_bytes(packet.read(network + 10)?);
    let check = added16(check, 0xfffb + u16::from(ecn));
    packet.write(network + 10, &check.to_be_bytes())?;
    packet.write(network + 1, &[tos | 3])?;
    Ok(1)
}

/// `long bpf_skb_ecn_set_ce(skb)`: marks the packet as one that met congestion; 1 if it is marked now.
pub(super) static SKB_ECN_SET_CE: Helper = Helper {
    id: 97,
    name: "skb_ecn_set_ce",
    args: &[Arg::Ctx],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc],
    body: skb_ecn_set_ce,
};

fn skb_set_tstamp(run: &mut Run<'_>, [ctx, time_ns, clock, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(192, 1).context(run, ctx)?;
    if !matches!(run.skb.protocol, ETH_P_IP | ETH_P_IPV6) {
        return Ok(Errno::EOPNOTSUPP.to_r0());
    }
    let clock = match (u32_of(clock), time_ns) {
        (0, _) => 0,
        (1 | 2, 0) | (3.., _) => return Ok(Errno::EINVAL.to_r0()),
        (1, _) => 1,
        (2, _) => 2,
    };
    let packet = Packet::new(run, 192);
    let at = u64::from(packet.run.head.ctx);
    let written = packet.write(at + u64::from(Context::SKB_TSTAMP), &time_ns.to_le_bytes());
    answer(written.and_then(|()| packet.write(at + u64::from(Context::SKB_TSTAMP_TYPE), &[clock])).map(|()| 0))
}

/// `long bpf_skb_set_tstamp(skb, tstamp, tstamp_type)`: the time to send the packet at, and by which clock.
pub(super) static SKB_SET_TSTAMP: Helper = Helper {
    id: 192,
    name: "skb_set_tstamp",
    args: &[Arg::Ctx, Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 8,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc],
    body: skb_set_tstamp,
};
