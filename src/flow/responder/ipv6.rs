//! Echo requests over IPv6: ICMPv6 (RFC 4443) and UDP (RFC 862), and neighbour solicitations (RFC 4861).
//!
//! Invariant: reads nothing behind `len`; what does not check out is left without an answer.

use std::net::Ipv6Addr;

use super::{ETHERNET_LEN, HOP_LIMIT, MacAddr, ZeroChecksum, echo, swap, turn_around};
use crate::flow::checksum;

const HEADER_LEN: usize = 40;
const ICMPV6: u8 = 58;
const UDP: u8 = 17;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Bytes of an advertisement: header, target, one option with our Ethernet address.
const ADVERTISEMENT_LEN: u8 = 32;
/// Flags of an advertisement.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

pub(super) fn answer(mac: MacAddr, ipv6: Ipv6Addr, frame: &mut [u8], len: usize) -> Option<usize> {
    let to_us = frame[..6] == mac.0;
    let packet = &mut frame[ETHERNET_LEN..len];
    if packet.len() < HEADER_LEN || packet[0] >> 4 != 6 {
        return None;
    }
    let payload_len = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let total_len = HEADER_LEN + payload_len;
    if total_len > packet.len() {
        return None;
    }
    let (header, payload) = packet[..total_len].split_at_mut(HEADER_LEN);
    let source = address(header, 8);
    let target = address(header, 24);
    if source.is_multicast() {
        return None;
    }
    let addresses = checksum::sum(&header[8..40]);
    let protocol = header[6];
    if protocol == ICMPV6 && payload.first() == Some(&NEIGHBOUR_SOLICITATION) {
        let ours = target == ipv6 || target == solicited_node(ipv6);
        let whole = checksum::of(addresses + pseudo(payload_len)?, payload) == 0;
        if !ours || !whole || header[7] != 255 || payload.len() < 24 || payload[1] != 0 || address(payload, 8) != ipv6 {
            return None;
        }
        return advertise(mac, ipv6, source, frame);
    }
    if !to_us || target != ipv6 || source.is_unspecified() {
        return None;
    }
    match protocol {
        ICMPV6 => echo_reply(payload, addresses + pseudo(payload_len)?)?,
        UDP => echo(payload, addresses, ZeroChecksum::Refused)?,
        _ => return None,
    }
    swap(header, 8, 16);
    header[7] = HOP_LIMIT;
    turn_around(frame, mac);
    Some(ETHERNET_LEN + total_len)
}

fn address(bytes: &[u8], at: usize) -> Ipv6Addr {
    let octets: [u8; 16] = bytes[at..at + 16].try_into().expect("sixteen bytes");
    Ipv6Addr::from(octets)
}

/// Sum of the pseudo-header's length and protocol.
fn pseudo(payload_len: usize) -> Option<u32> {
    Some(u32::try_from(payload_len).ok()? + u32::from(ICMPV6))
}

/// The multicast address on which an address is asked for, RFC 4291 section 2.7.1.
fn solicited_node(ipv6: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ipv6.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

fn echo_reply(message: &mut [u8], pseudo: u32) -> Option<()> {
    if message.len() < 8 || message[..2] != [ECHO_REQUEST, 0] || checksum::of(pseudo, message) != 0 {
        return None;
    }
    message[0] = ECHO_REPLY;
    message[2..4].fill(0);
    let sum = checksum::of(pseudo, message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Writes an advertisement over the solicitation. Who asks without an address of its own (to find out whether ours is
/// taken) is answered for all to hear, RFC 4861 section 7.2.4.
fn advertise(mac: MacAddr, ipv6: Ipv6Addr, source: Ipv6Addr, frame: &mut [u8]) -> Option<usize> {
    let total_len = HEADER_LEN + usize::from(ADVERTISEMENT_LEN);
    if frame.len() < ETHERNET_LEN + total_len {
        return None;
    }
    turn_around(frame, mac);
    let (to, flags) = if source.is_unspecified() {
        frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
        (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), OVERRIDE)
    } else {
        (source, SOLICITED | OVERRIDE)
    };
    let packet = &mut frame[ETHERNET_LEN..ETHERNET_LEN + total_len];
    packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, ADVERTISEMENT_LEN, ICMPV6, 255]);
    packet[8..24].copy_from_slice(&ipv6.octets());
    packet[24..40].copy_from_slice(&to.octets());
    packet[40..48].copy_from_slice(&[NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0]);
    packet[48..64].copy_from_slice(&ipv6.octets());
    packet[64..66].copy_from_slice(&[2, 1]);
    packet[66..72].copy_from_slice(&mac.0);
    let pseudo = checksum::sum(&packet[8..40]) + pseudo(ADVERTISEMENT_LEN.into())?;
    let sum = checksum::of(pseudo, &packet[40..]);
    packet[42..44].copy_from_slice(&sum.to_be_bytes());
    Some(ETHERNET_LEN + total_len)
}

#[cfg(test)]
mod tests {
    use super::super::Addresses;
    use super::*;

    const ASKER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    const US: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

    fn frame(to_mac: [u8; 6], to: Ipv6Addr, from: Ipv6Addr, protocol: u8, payload: &[u8], sum_at: usize) -> Vec<u8> {
        let len = u16::try_from(payload.len()).expect("short");
        let mut frame = [&to_mac[..], &[2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0]].concat();
        frame.extend(len.to_be_bytes());
        frame.extend([protocol, 255]);
        frame.extend(from.octets());
        frame.extend(to.octets());
        let pseudo = checksum::sum(&frame[22..54]) + u32::from(len) + u32::from(protocol);
        frame.extend(payload);
        let sum = checksum::of(pseudo, payload);
        frame[54 + sum_at..56 + sum_at].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    fn is_whole(frame: &[u8]) -> bool {
        let len = frame.len() - 54;
        let pseudo = checksum::sum(&frame[22..54]) + u32::try_from(len).expect("short") + u32::from(frame[20]);
        checksum::of(pseudo, &frame[54..]) == 0
    }

    fn answer(frame: &[u8]) -> Option<Vec<u8>> {
        let mut room = vec![0; 1792];
        room[..frame.len()].copy_from_slice(frame);
        let len = Addresses::numbered(1).answer(&mut room, frame.len())?;
        room.truncate(len);
        Some(room)
    }

    #[test]
    fn a_ping_is_answered_with_its_own_words() {
        let ping = frame([2, 0, 0, 0, 0, 1], US, ASKER, ICMPV6, &[128, 0, 0, 0, 0, 7, 0, 1, 5, 6, 7], 2);
        let reply = answer(&ping).expect("an answer");
        assert_eq!(reply.len(), ping.len());
        assert_eq!(reply[..14], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd]);
        assert_eq!((address(&reply, 22), address(&reply, 38)), (US, ASKER));
        assert_eq!(reply[54], ECHO_REPLY);
        assert_eq!(reply[58..], [0, 7, 0, 1, 5, 6, 7]);
        assert!(is_whole(&reply));
        let mut damaged = ping.clone();
        damaged[60] ^= 1;
        assert_eq!(answer(&damaged), None);
        let other = frame([2, 0, 0, 0, 0, 1], ASKER, ASKER, ICMPV6, &[128, 0, 0, 0, 0, 7, 0, 1], 2);
        assert_eq!(answer(&other), None, "another's address");
        assert_eq!(answer(&ping[..60]), None, "cut off");
    }

    fn solicitation(to_mac: [u8; 6], to: Ipv6Addr, from: Ipv6Addr) -> Vec<u8> {
        let payload = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &US.octets()].concat();
        frame(to_mac, to, from, ICMPV6, &payload, 2)
    }

    #[test]
    fn a_solicitation_is_answered_with_our_address() {
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
        assert_eq!(solicited_node(US), group);
        let asked = solicitation([0x33, 0x33, 0xff, 0, 0, 1], group, ASKER);
        let reply = answer(&asked).expect("an answer");
        assert_eq!(reply.len(), 86);
        assert_eq!(reply[..12], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        assert_eq!((address(&reply, 22), address(&reply, 38)), (US, ASKER));
        assert_eq!((reply[21], reply[54], reply[58]), (255, NEIGHBOUR_ADVERTISEMENT, SOLICITED | OVERRIDE));
        assert_eq!(address(&reply, 62), US);
        assert_eq!(reply[78..], [2, 1, 2, 0, 0, 0, 0, 1]);
        assert!(is_whole(&reply));
        let mut routed = asked;
        routed[21] = 254;
        assert_eq!(answer(&routed), None, "it came from beyond the link");
    }

    #[test]
    fn who_asks_without_an_address_is_answered_for_all_to_hear() {
        let group = solicited_node(US);
        let asked = solicitation([0x33, 0x33, 0xff, 0, 0, 1], group, Ipv6Addr::UNSPECIFIED);
        let reply = answer(&asked).expect("an answer");
        assert_eq!(reply[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(address(&reply, 38), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
        assert_eq!(reply[58], OVERRIDE);
        assert!(is_whole(&reply));
    }

    #[test]
    fn the_echo_service_demands_a_checksum() {
        let echo = frame([2, 0, 0, 0, 0, 1], US, ASKER, UDP, &[0x10, 0, 0, 7, 0, 10, 0, 0, 1, 2], 6);
        let reply = answer(&echo).expect("an answer");
        assert_eq!(reply[54..60], [0, 7, 0x10, 0, 0, 10]);
        assert!(is_whole(&reply));
        let mut without = echo;
        without[60..62].fill(0);
        assert_eq!(answer(&without), None);
    }
}
