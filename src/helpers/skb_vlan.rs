//! VLAN tags: one beside the packet of an sk_buff, further ones in it. `skb_vlan_push` and `skb_vlan_pop` of
//! `net/core/skbuff.c`.
//!
//! Invariant: the tag beside the packet is the outermost.

use super::check::place;
use super::skb_frame::{Packet, Stop, answer, u16_of};
use super::{Arg, Frame, Helper, Ret};
use crate::maps::Errno;
use crate::run::{Run, Skb, Vlan};
use crate::trap::TrapKind;
use crate::verdict::ProgramKind;

const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;
/// Bytes of an Ethernet header.
const ETH_LEN: u32 = 14;
/// Bytes of both link addresses: the tag stands behind them.
const ADDRESSES_LEN: u32 = 12;
/// Bytes of a tag.
const TAG_LEN: u32 = 4;

/// `eth_type_vlan`.
pub(super) fn is_tag(protocol: u16) -> bool {
    matches!(protocol, ETH_P_8021Q | ETH_P_8021AD)
}

fn skb_vlan_push(run: &mut Run<'_>, [ctx, protocol, tci, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(18, 1).context(run, ctx)?;
    let protocol = Some(u16_of(protocol).swap_bytes()).filter(|protocol| is_tag(*protocol)).unwrap_or(ETH_P_8021Q);
    answer(push(&mut Packet::new(run, 18), Vlan { protocol, tci: u16_of(tci) }))
}

fn push(packet: &mut Packet<'_, '_>, tag: Vlan) -> Result<u64, Stop> {
    if let Some(inner) = packet.run.skb.vlan {
        packet.at(0, ADDRESSES_LEN).ok_or(Errno::ENOMEM)?;
        packet.make_head_room(TAG_LEN)?;
        packet.open(ADDRESSES_LEN, TAG_LEN)?;
        let at = u64::from(packet.run.window.data + ADDRESSES_LEN);
        packet.write(at, [inner.protocol.to_be_bytes(), inner.tci.to_be_bytes()].as_flattened())?;
        let skb = &mut packet.run.skb;
        skb.link = skb.link.wrapping_sub(TAG_LEN);
        skb.protocol = inner.protocol;
        skb.network = skb.network.wrapping_sub(TAG_LEN);
    }
    packet.run.skb.vlan = Some(tag);
    packet.publish()?;
    Ok(0)
}

/// `long bpf_skb_vlan_push(skb, vlan_proto, vlan_tci)`: a tag beside the packet; the one that was there goes into it.
pub(super) static SKB_VLAN_PUSH: Helper = Helper {
    id: 18,
    name: "skb_vlan_push",
    args: &[Arg::Ctx, Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Moves,
    kinds: &[ProgramKind::Tc],
    body: skb_vlan_push,
};

fn skb_vlan_pop(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(19, 1).context(run, ctx)?;
    let mut packet = Packet::new(run, 19);
    let popped = pop(&mut packet);
    answer(packet.publish().and(popped))
}

fn pop(packet: &mut Packet<'_, '_>) -> Result<u64, Stop> {
    if packet.run.skb.vlan.take().is_none() {
        if !is_tag(packet.run.skb.protocol) {
            return Ok(0);
        }
        take_out(packet)?;
    }
    let protocol = packet.run.skb.protocol;
    if is_tag(protocol) {
        let tci = take_out(packet)?;
        packet.run.skb.vlan = Some(Vlan { protocol, tci });
    }
    Ok(0)
}

/// Takes the outermost tag out of the packet and says its priority and number (`__skb_vlan_pop`).
fn take_out(packet: &mut Packet<'_, '_>) -> Result<u16, Stop> {
    let tag = packet.at(0, ETH_LEN + TAG_LEN).ok_or(Errno::ENOMEM)? + u64::from(ETH_LEN);
    let [high, low, inner @ ..]: [u8; 4] = packet.read(tag)?;
    // What the kernel reads behind a packet that ends here is whatever lies there; we read zeros.
    let payload = if packet.len() >= ETH_LEN + TAG_LEN + 2 { packet.read(tag + u64::from(TAG_LEN))? } else { [0; 2] };
    packet.close(ADDRESSES_LEN, TAG_LEN)?;
    let data = packet.run.window.data;
    let skb = &mut packet.run.skb;
    skb.protocol = Skb::protocol_of(u16::from_be_bytes(inner), payload);
    skb.link = skb.link.wrapping_add(TAG_LEN);
    if skb.network.wrapping_sub(data).cast_signed() < ETH_LEN.cast_signed() {
        skb.network = data + ETH_LEN;
    }
    skb.link_len = skb.link_header_len();
    Ok(u16::from_be_bytes([high, low]))
}

/// `long bpf_skb_vlan_pop(skb)`: takes the outermost tag away; the next one in the packet, if any, goes beside it.
pub(super) static SKB_VLAN_POP: Helper = Helper {
    id: 19,
    name: "skb_vlan_pop",
    args: &[Arg::Ctx],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Moves,
    kinds: &[ProgramKind::Tc],
    body: skb_vlan_pop,
};
