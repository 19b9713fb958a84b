//! Make room in the packet of an sk_buff, or take some away. `net/core/filter.c`.
//!
//! Invariant: what the kernel would copy to a larger buffer and we have no chunk for is -ENOMEM.

use super::check::place;
use super::skb_frame::{Packet, Stop, answer, u16_of, u32_of};
use super::{Arg, Frame, Helper, Ret};
use crate::limits::SKB_LEN_MAX;
use crate::maps::Errno;
use crate::run::{Checksum, Context, Run};
use crate::trap::TrapKind;
use crate::verdict::ProgramKind;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
/// Bytes of an Ethernet header (`ETH_HLEN`).
const ETH_LEN: u32 = 14;
/// Bytes of `struct iphdr`.
const IPV4_LEN: u32 = 20;
/// Bytes of `struct ipv6hdr`.
const IPV6_LEN: u32 = 40;
/// Most bytes that `bpf_skb_adjust_room` moves.
const ROOM_MAX: u32 = 0xfff;

/// `BPF_ADJ_ROOM_NET`: room behind the network header.
const MODE_NETWORK: u32 = 0;
/// `BPF_ADJ_ROOM_MAC`: room behind the link header.
const MODE_LINK: u32 = 1;

const FIXED_GSO: u64 = 1 << 0;
const ENCAP_L3_IPV4: u64 = 1 << 1;
const ENCAP_L3_IPV6: u64 = 1 << 2;
const ENCAP_L4_GRE: u64 = 1 << 3;
const ENCAP_L4_UDP: u64 = 1 << 4;
const NO_CSUM_RESET: u64 = 1 << 5;
const ENCAP_L2_ETH: u64 = 1 << 6;
const DECAP_L3_IPV4: u64 = 1 << 7;
const DECAP_L3_IPV6: u64 = 1 << 8;
const ENCAP_L2_SHIFT: u32 = 56;
const ENCAP_L2_LEN: u64 = 0xff << ENCAP_L2_SHIFT;
const ENCAP_L3: u64 = ENCAP_L3_IPV4 | ENCAP_L3_IPV6;
const DECAP_L3: u64 = DECAP_L3_IPV4 | DECAP_L3_IPV6;
const GROW_FLAGS: u64 = FIXED_GSO | ENCAP_L3 | ENCAP_L4_GRE | ENCAP_L4_UDP | ENCAP_L2_ETH | ENCAP_L2_LEN;
const SHRINK_FLAGS: u64 = FIXED_GSO | DECAP_L3 | NO_CSUM_RESET;

/// Shortest network header of a protocol that room can be made in.
fn network_len(protocol: u16) -> Option<u32> {
    match protocol {
        ETH_P_IP => Some(IPV4_LEN),
        ETH_P_IPV6 => Some(IPV6_LEN),
        _ => None,
    }
}

impl Packet<'_, '_> {
    /// Zeroed room of `len` bytes at `offset`, or at the end where that is behind it; the headers move forward with the start
    /// (`bpf_skb_net_hdr_push`).
    fn push_room(&mut self, offset: u32, len: u32) -> Result<(), Stop> {
        let offset = offset.min(self.len());
        let follows = self.run.skb.transport == Some(self.run.skb.network);
        self.open(offset, len)?;
        let start = u64::from(self.run.window.data) + u64::from(offset);
        self.zero(start, len.into())?;
        let skb = &mut self.run.skb;
        skb.link = skb.link.wrapping_sub(len);
        skb.network = skb.network.wrapping_sub(len);
        if follows {
            skb.transport = Some(skb.network);
        }
        Ok(())
    }

    /// Takes `len` bytes at `offset` out; the headers move backward with the start (`bpf_skb_net_hdr_pop`).
    fn pop_room(&mut self, offset: u32, len: u32) -> Result<(), Stop> {
        let follows = self.run.skb.transport == Some(self.run.skb.network);
        self.at(offset, len).ok_or(Errno::ENOMEM)?;
        self.close(offset, len)?;
        let skb = &mut self.run.skb;
        skb.link = skb.link.wrapping_add(len);
        skb.network = skb.network.wrapping_add(len);
        if follows {
            skb.transport = Some(skb.network);
        }
        Ok(())
    }
}

fn skb_change_proto(run: &mut Run<'_>, [ctx, protocol, flags, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(31, 1).context(run, ctx)?;
    answer(change_protocol(&mut Packet::new(run, 31), u16_of(protocol).swap_bytes(), flags))
}

fn change_protocol(packet: &mut Packet<'_, '_>, protocol: u16, flags: u64) -> Result<u64, Stop> {
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let offset = packet.run.skb.link_header_len();
    let difference = IPV6_LEN - IPV4_LEN;
    match (packet.run.skb.protocol, protocol) {
        (ETH_P_IP, ETH_P_IPV6) => {
            packet.make_head_room(difference)?;
            packet.push_room(offset, difference)?;
        }
        (ETH_P_IPV6, ETH_P_IP) => packet.pop_room(offset, difference)?,
        _ => return Err(Errno::ENOTSUPP.into()),
    }
    packet.run.skb.protocol = protocol;
    packet.run.skb.hash = None;
    packet.publish()?;
    Ok(0)
}

/// `long bpf_skb_change_proto(skb, proto, flags)`: room for an IPv6 header where an IPv4 header is, or the other way round.
pub(super) static SKB_CHANGE_PROTO: Helper = Helper {
    id: 31,
    name: "skb_change_proto",
    args: &[Arg::Ctx, Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Moves,
    kinds: &[ProgramKind::Tc],
    body: skb_change_proto,
};

fn skb_change_tail(run: &mut Run<'_>, [ctx, len, flags, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(38, 1).context(run, ctx)?;
    answer(change_tail(&mut Packet::new(run, 38), u32_of(len), flags))
}

fn change_tail(packet: &mut Packet<'_, '_>, len: u32, flags: u64) -> Result<u64, Stop> {
    let skb = packet.run.skb;
    // A header that the packet no longer holds does not count.
    let data = packet.run.window.data;
    let headers = [skb.transport, Some(skb.network)].into_iter().flatten();
    let len_min = headers.map(|header| header.saturating_sub(data)).find(|offset| *offset != 0).unwrap_or(0);
    if flags != 0 || len > SKB_LEN_MAX || len < len_min {
        return Err(Errno::EINVAL.into());
    }
    if skb.encapsulated {
        return Err(Errno::ENOTSUPP.into());
    }
    let len_before = packet.len();
    if let Some(grown) = len.checked_sub(len_before) {
        packet.make_tail_room(grown)?;
        packet.zero(packet.run.window.data_end.into(), grown.into())?;
    }
    let window = &mut packet.run.window;
    window.data_end = window.data + len;
    if skb.segment_len != 0 {
        packet.run.skb.segment_len = 0;
        packet.write(u64::from(packet.run.head.ctx + Context::SKB_GSO_SEGS), &[0; 4])?;
    }
    packet.publish()?;
    Ok(0)
}

/// `long bpf_skb_change_tail(skb, len, flags)`: cuts the packet off, or grows it by zeros.
pub(super) static SKB_CHANGE_TAIL: Helper = Helper {
    id: 38,
    name: "skb_change_tail",
    args: &[Arg::Ctx, Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 256,
    frame: Frame::Moves,
    kinds: &[ProgramKind::Tc],
    body: skb_change_tail,
};

fn skb_change_head(run: &mut Run<'_>, [ctx, len, flags, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(43, 1).context(run, ctx)?;
    answer(change_head(&mut Packet::new(run, 43), u32_of(len), flags))
}

fn change_head(packet: &mut Packet<'_, '_>, len: u32, flags: u64) -> Result<u64, Stop> {
    let whole_len = packet.len().checked_add(len).filter(|_| flags == 0).ok_or(Errno::EINVAL)?;
    if packet.run.skb.segment_len == 0 && whole_len > SKB_LEN_MAX {
        return Err(Errno::EINVAL.into());
    }
    packet.make_head_room(len)?;
    packet.open(0, len)?;
    packet.zero(packet.run.window.data.into(), len.into())?;
    let skb = &mut packet.run.skb;
    skb.link = packet.run.window.data;
    skb.link_len = skb.link_header_len();
    packet.publish()?;
    Ok(0)
}

/// `long bpf_skb_change_head(skb, len, flags)`: zeros before the packet; a link header begins there.
pub(super) static SKB_CHANGE_HEAD: Helper = Helper {
    id: 43,
    name: "skb_change_head",
    args: &[Arg::Ctx, Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 256,
    frame: Frame::Moves,
    kinds: &[ProgramKind::Tc],
    body: skb_change_head,
};

fn skb_adjust_room(run: &mut Run<'_>, [ctx, difference, mode, flags, _]: [u64; 5]) -> Result<u64, TrapKind> {
    place(50, 1).context(run, ctx)?;
    let difference = u32_of(difference).cast_signed();
    answer(adjust_room(&mut Packet::new(run, 50), difference, u32_of(mode), flags))
}

fn adjust_room(packet: &mut Packet<'_, '_>, difference: i32, mode: u32, flags: u64) -> Result<u64, Stop> {
    let skb = packet.run.skb;
    let len = difference.unsigned_abs();
    let shrinks = difference < 0;
    if flags & !(GROW_FLAGS | SHRINK_FLAGS) != 0 {
        return Err(Errno::EINVAL.into());
    }
    if len > ROOM_MAX {
        return Err(Errno::EFAULT.into());
    }
    let network_len = network_len(skb.protocol).ok_or(Errno::ENOTSUPP)?;
    let offset = match mode {
        MODE_NETWORK => skb.link_header_len().wrapping_add(network_len),
        MODE_LINK => skb.link_header_len(),
        _ => return Err(Errno::ENOTSUPP.into()),
    };
    let len_min = match flags & DECAP_L3 {
        0 => network_len,
        DECAP_L3_IPV4 if shrinks => IPV4_LEN,
        DECAP_L3_IPV6 if shrinks => IPV6_LEN,
        _ => return Err(Errno::EINVAL.into()),
    };
    let behind_link = packet.run.window.data_end.wrapping_sub(skb.network);
    let left = behind_link.checked_sub(len).filter(|left| *left != 0 && *left >= len_min);
    let too_long = packet.len() + len > SKB_LEN_MAX && skb.segment_len == 0;
    if (shrinks && left.is_none()) || (!shrinks && too_long) {
        return Err(Errno::ENOTSUPP.into());
    }
    if shrinks {
        shrink(packet, offset, len, flags)?
    } else {
        grow(packet, offset, len, flags)?
    }
    if flags & NO_CSUM_RESET == 0 {
        packet.run.skb.checksum = Checksum::None;
    }
    packet.publish()?;
    Ok(0)
}

/// `bpf_skb_net_shrink`.
fn shrink(packet: &mut Packet<'_, '_>, offset: u32, len: u32, flags: u64) -> Result<(), Stop> {
    if flags & !SHRINK_FLAGS != 0 {
        return Err(Errno::EINVAL.into());
    }
    if packet.run.skb.segment_len != 0 {
        return Err(Errno::ENOTSUPP.into());
    }
    packet.pop_room(offset, len)?;
    let protocol = &mut packet.run.skb.protocol;
    match (*protocol, flags & DECAP_L3) {
        (ETH_P_IP, DECAP_L3_IPV6) => *protocol = ETH_P_IPV6,
        (ETH_P_IPV6, DECAP_L3_IPV4) => *protocol = ETH_P_IP,
        _ => {}
    }
    Ok(())
}

/// `bpf_skb_net_grow`.
fn grow(packet: &mut Packet<'_, '_>, offset: u32, len: u32, flags: u64) -> Result<(), Stop> {
    if packet.run.skb.segment_len != 0 {
        return Err(Errno::ENOTSUPP.into());
    }
    let skb = packet.run.skb;
    let wraps = flags & ENCAP_L3 != 0;
    let both = |flags_of_two: u64| flags & flags_of_two == flags_of_two;
    if wraps {
        let inner_link_len = u32_of(flags >> ENCAP_L2_SHIFT);
        if both(ENCAP_L3) || both(ENCAP_L4_GRE | ENCAP_L4_UDP) {
            return Err(Errno::EINVAL.into());
        }
        if flags & ENCAP_L2_ETH != 0 && inner_link_len < ETH_LEN {
            return Err(Errno::EINVAL.into());
        }
        if skb.encapsulated {
            return Err(Errno::EALREADY.into());
        }
        if inner_link_len > len {
            return Err(Errno::EINVAL.into());
        }
    }
    packet.make_head_room(len)?;
    packet.push_room(offset, len)?;
    if wraps {
        let network = packet.run.window.data.wrapping_add(skb.link_header_len());
        let (outer_len, outer) = if flags & ENCAP_L3_IPV6 != 0 { (IPV6_LEN, ETH_P_IPV6) } else { (IPV4_LEN, ETH_P_IP) };
        let skb = &mut packet.run.skb;
        skb.encapsulated = true;
        skb.network = network;
        if flags & (ENCAP_L4_GRE | ENCAP_L4_UDP) != 0 {
            skb.transport = Some(network.wrapping_add(outer_len));
        }
        skb.protocol = outer;
    }
    Ok(())
}

/// `long bpf_skb_adjust_room(skb, len_diff, mode, flags)`: room behind the link or the network header, or less of it.
pub(super) static SKB_ADJUST_ROOM: Helper = Helper {
    id: 50,
    name: "skb_adjust_room",
    args: &[Arg::Ctx, Arg::Any, Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 128,
    frame: Frame::Moves,
    kinds: &[ProgramKind::Tc],
    body: skb_adjust_room,
};
