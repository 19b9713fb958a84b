//! What a `struct sk_buff` knows of its packet beyond the bytes, for tc and socket filter programs.
//!
//! Programs see it through `__sk_buff` in the cage, which the host writes and never reads for a bound; helpers go by what
//! is here. Fields that programs may write (`mark`, `priority`, `cb` and others) live in the context alone.
//!
//! Invariant: set anew for each frame by [`super::Context::write`].

use super::Run;
use crate::limits::FRAME_LEN_MIN;
use crate::verdict::ProgramKind;

/// What a `struct sk_buff` knows of its packet beyond the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skb {
    /// Ethernet type of what follows the link header (`skb->protocol`).
    pub protocol: u16,
    /// Guest address of the link header (`skb_mac_header`).
    pub link: u32,
    /// Bytes of the link header as they were last noted (`skb->mac_len`).
    pub link_len: u32,
    /// Guest address of the network header (`skb_network_header`).
    pub network: u32,
    /// Guest address of the transport header, once a helper has said it (`skb_transport_header`).
    pub transport: Option<u32>,
    /// Whether the packet was wrapped into another (`skb->encapsulation`).
    pub encapsulated: bool,
    /// What is known of the packet's checksums.
    pub checksum: Checksum,
    /// Bytes of each segment that the packet stands for, or 0 (`skb_shinfo(skb)->gso_size`).
    pub segment_len: u32,
    /// The VLAN tag that is kept beside the packet instead of in it.
    pub vlan: Option<Vlan>,
    /// Whom the link address means (`PACKET_*`).
    pub packet_type: PacketType,
    /// Hash of the flow, once it is known.
    pub hash: Option<u32>,
    /// The tunnel that the packet is to go into.
    pub tunnel: Option<TunnelKey>,
}

impl Skb {
    /// Protocol of a frame by the number in its link header and the first bytes behind: below 1536 the number is a length,
    /// and IPX or LLC follows (`eth_type_trans` of `net/ethernet/eth.c`).
    #[must_use]
    pub fn protocol_of(number: u16, payload: [u8; 2]) -> u16 {
        const ETH_P_802_3: u16 = 1;
        const ETH_P_802_2: u16 = 4;
        match (number, payload) {
            (0x600.., _) => number,
            (_, [0xff, 0xff]) => ETH_P_802_3,
            _ => ETH_P_802_2,
        }
    }

    /// Bytes from the link header to the network header (`skb_mac_header_len`).
    #[must_use]
    pub fn link_header_len(&self) -> u32 {
        self.network.wrapping_sub(self.link)
    }

    /// The frame's bytes have moved by so many, `2^32 - n` for `n` downwards: the headers with them.
    pub fn moved(&mut self, by: u32) {
        self.link = self.link.wrapping_add(by);
        self.network = self.network.wrapping_add(by);
        self.transport = self.transport.map(|transport| transport.wrapping_add(by));
    }
}

/// What is known of a packet's checksums (`skb->ip_summed`), as far as received frames have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing.
    #[default]
    None,
    /// So many checksums beyond the first were found good, 3 at most.
    Unnecessary(u8),
}

impl Run<'_> {
    /// Guest address of `len` bytes that a legacy packet load means by `offset`, if they lie in the packet: from its first
    /// byte, or below zero from the network or the link header (`bpf_internal_load_pointer_neg_helper` of
    /// `kernel/bpf/core.c`).
    #[must_use]
    pub fn packet_place(&self, offset: i64, len: u32) -> Option<u32> {
        let window = &self.window;
        let start = match offset {
            0.. => i64::from(window.data) + offset,
            _ if self.kind == ProgramKind::Raw => return None,
            NETWORK_OFFSET..0 => i64::from(self.skb.network) + offset - NETWORK_OFFSET,
            LINK_OFFSET..NETWORK_OFFSET => {
                i64::from(self.skb.network) - i64::from(FRAME_LEN_MIN) + offset - LINK_OFFSET
            }
            _ => return None,
        };
        let inside = start >= window.chunk.into() && start + i64::from(len) <= window.data_end.into();
        if inside { u32::try_from(start).ok() } else { None }
    }
}

/// `SKF_NET_OFF` of `include/uapi/linux/filter.h`: offsets from here on count from the network header.
const NETWORK_OFFSET: i64 = -0x10_0000;
/// `SKF_LL_OFF`: offsets from here on count from the link header.
const LINK_OFFSET: i64 = -0x20_0000;

/// A VLAN tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vlan {
    /// `ETH_P_8021Q` or `ETH_P_8021AD`.
    pub protocol: u16,
    /// Priority and number.
    pub tci: u16,
}

/// Whom a link address means, `PACKET_*` of `include/uapi/linux/if_packet.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum PacketType {
    /// To us.
    #[default]
    Host = 0,
    /// To all.
    Broadcast = 1,
    /// To a group.
    Multicast = 2,
    /// To someone else.
    OtherHost = 3,
    /// From us.
    Outgoing = 4,
    /// Looped back to us.
    Loopback = 5,
}

impl PacketType {
    /// As `eth_type_trans` sees it on an interface with this address. One without is the loopback, as in the kernel's test
    /// runs: its broadcast address is zeros too, so that a frame to all is one to a group.
    #[must_use]
    pub fn of(destination: [u8; 6], own: [u8; 6]) -> Self {
        match destination {
            _ if destination == own => Self::Host,
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] if own != [0; 6] => Self::Broadcast,
            [first, ..] if first & 1 != 0 => Self::Multicast,
            _ => Self::OtherHost,
        }
    }
}

/// A tunnel that a packet is to go into (`struct ip_tunnel_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelKey {
    /// Number of the tunnel.
    pub id: u32,
    /// Address that the outer packet comes from; IPv4 in the first four bytes, as the program gave them.
    pub source: [u8; 16],
    /// Address that the outer packet goes to.
    pub destination: [u8; 16],
    /// Whether the addresses are IPv6.
    pub is_ipv6: bool,
    /// Type of service.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Flow label, 20 bits.
    pub label: u32,
    /// `IP_TUNNEL_*_BIT` of `include/net/ip_tunnels.h`.
    pub flags: u16,
    /// How many bytes of [`Run::tunnel_options`] go with it.
    pub options_len: Option<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_below_1536_is_a_length() {
        assert_eq!(Skb::protocol_of(0x600, [0xff, 0xff]), 0x600);
        assert_eq!(Skb::protocol_of(0x5ff, [0xff, 0xff]), 1);
        assert_eq!(Skb::protocol_of(46, [0xff, 0]), 4);
    }

    #[test]
    fn a_link_address_means_us_all_a_group_or_someone_else() {
        let own = [2, 0, 0, 0, 0, 1];
        assert_eq!(PacketType::of(own, own), PacketType::Host);
        assert_eq!(PacketType::of([0xff; 6], own), PacketType::Broadcast);
        assert_eq!(PacketType::of([0xff; 6], [0; 6]), PacketType::Multicast);
        assert_eq!(PacketType::of([0x33, 0x33, 0, 0, 0, 1], own), PacketType::Multicast);
        assert_eq!(PacketType::of([2, 0, 0, 0, 0, 2], own), PacketType::OtherHost);
    }
}
