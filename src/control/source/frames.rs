//! Frames of a flow's combination: Ethernet, IP, and UDP, TCP or ICMP with right checksums.
//!
//! The payload begins with the frame's number, 8 bytes big-endian, where it has room; the rest is zero.
//!
//! Invariant: the frame has the flow's length, and every checksum is right.
//!
//! Sources: RFC 791, 8200, 768, 9293, 792, 4443.

use crate::flow::checksum;
use std::net::IpAddr;

use super::flows::{Flow, Protocol, Tuple};

/// Ethernet addresses of the generated frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Of the sender.
    pub source: [u8; 6],
    /// Of the receiver.
    pub target: [u8; 6],
}

const ETHERNET_LEN: usize = 14;
const HOP_LIMIT: u8 = 64;
/// The SYN flag, and a data offset of five words.
const TCP_OFFSET_FLAGS: [u8; 2] = [0x50, 0x02];

/// Writes the frame of the flow's combination `combination` over `frame`, whose length becomes the flow's.
pub(super) fn write(flow: &Flow, combination: u64, number: u64, link: Link, frame: &mut Vec<u8>) {
    let Tuple { source, target } = flow.tuple(combination);
    frame.clear();
    frame.extend(link.target);
    frame.extend(link.source);
    let payload_len = usize::from(flow.frame_len - flow.headers_len());
    let segment_len = flow.protocol.header_len() + (flow.frame_len - flow.headers_len());
    let (protocol, mut pseudo) = network_header(flow, source.0, target.0, segment_len, frame);
    let start = frame.len();
    match flow.protocol {
        Protocol::Udp => {
            frame.extend(source.1.to_be_bytes());
            frame.extend(target.1.to_be_bytes());
            frame.extend(segment_len.to_be_bytes());
            frame.extend([0, 0]);
        }
        Protocol::Tcp => {
            frame.extend(source.1.to_be_bytes());
            frame.extend(target.1.to_be_bytes());
            // The low half of the number is the sequence number.
            frame.extend(&number.to_be_bytes()[4..]);
            frame.extend([0; 4]);
            frame.extend(TCP_OFFSET_FLAGS);
            frame.extend([0xff, 0xff, 0, 0, 0, 0]);
        }
        Protocol::Icmp => {
            frame.extend(if source.0.is_ipv4() { [8, 0, 0, 0] } else { [128, 0, 0, 0] });
            frame.extend(source.1.to_be_bytes());
            frame.extend(&number.to_be_bytes()[6..]);
        }
    }
    let payload = number.to_be_bytes();
    frame.extend(&payload[..payload_len.min(payload.len())]);
    frame.resize(usize::from(flow.frame_len), 0);
    let field = match flow.protocol {
        Protocol::Udp => 6,
        Protocol::Tcp => 16,
        Protocol::Icmp => 2,
    };
    if flow.protocol == Protocol::Icmp && source.0.is_ipv4() {
        pseudo = 0;
    } else {
        pseudo += u32::from(protocol) + u32::from(segment_len);
    }
    let sum = match checksum::of(pseudo, &frame[start..]) {
        // A UDP checksum of zero means that there is none.
        0 if flow.protocol == Protocol::Udp => 0xffff,
        sum => sum,
    };
    frame[start + field..start + field + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Appends EtherType and network header; the protocol number and the sum of both addresses for the pseudo header.
fn network_header(flow: &Flow, source: IpAddr, target: IpAddr, segment_len: u16, frame: &mut Vec<u8>) -> (u8, u32) {
    let protocol = match (flow.protocol, source.is_ipv4()) {
        (Protocol::Udp, _) => 17,
        (Protocol::Tcp, _) => 6,
        (Protocol::Icmp, true) => 1,
        (Protocol::Icmp, false) => 58,
    };
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((20 + segment_len).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, HOP_LIMIT, protocol, 0, 0]);
            frame.extend(source.octets());
            frame.extend(target.octets());
            let header = ETHERNET_LEN..ETHERNET_LEN + 20;
            let sum = checksum::of(0, &frame[header]);
            frame[ETHERNET_LEN + 10..ETHERNET_LEN + 12].copy_from_slice(&sum.to_be_bytes());
            (protocol, checksum::sum(&source.octets()) + checksum::sum(&target.octets()))
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(segment_len.to_be_bytes());
            frame.extend([protocol, HOP_LIMIT]);
            frame.extend(source.octets());
            frame.extend(target.octets());
            (protocol, checksum::sum(&source.octets()) + checksum::sum(&target.octets()))
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            unreachable!("a flow's source and target are of one family")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link = Link { source: [2, 0, 0, 0, 0, 1], target: [2, 0, 0, 0, 0, 2] };

    fn frame(text: &str, number: u64) -> Vec<u8> {
        let mut frame = Vec::new();
        write(&text.parse().expect("a flow"), number, number, LINK, &mut frame);
        frame
    }

    #[test]
    fn a_udp_frame_is_what_the_standards_say() {
        let frame = frame("udp 10.0.0.0/24:1024 -> 10.1.0.1:53 size 64", 3);
        assert_eq!(frame.len(), 64);
        assert_eq!(frame[..14], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
        assert_eq!(frame[14..34], [0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 17, 0x26, 0xb7, 10, 0, 0, 3, 10, 1, 0, 1]);
        assert_eq!(frame[34..40], [4, 0, 0, 53, 0, 30]);
        assert_eq!(frame[42..50], 3_u64.to_be_bytes());
        assert!(frame[50..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn every_checksum_sums_to_all_ones() {
        for text in [
            "udp 10.0.0.0/28:1-9 -> 10.1.0.1:53 size 77",
            "tcp 10.0.0.0/28:1-9 -> 10.1.0.1:80 size 60",
            "icmp 10.0.0.0/28:1-9 -> 10.1.0.1 size 98",
            "udp [fd00::/120]:1-9 -> [fd00::1]:53 size 62",
            "tcp [fd00::/120]:1-9 -> [fd00::1]:80 size 1792",
            "icmp [fd00::/120]:1-9 -> [fd00::1] size 71",
        ] {
            let flow: Flow = text.parse().expect("a flow");
            for number in [0, 1, 77, u64::MAX] {
                let frame = frame(text, number);
                assert_eq!(frame.len(), usize::from(flow.frame_len));
                let ipv4 = frame[12] == 8;
                let start = if ipv4 { 34 } else { 54 };
                if ipv4 {
                    assert_eq!(checksum::of(0, &frame[14..34]), 0, "{text}");
                }
                let addresses = checksum::sum(&frame[if ipv4 { 26..34 } else { 22..54 }]);
                let protocol = frame[if ipv4 { 23 } else { 20 }];
                let pseudo = match protocol {
                    1 => 0,
                    _ => addresses + u32::from(protocol) + u32::try_from(frame.len() - start).expect("short"),
                };
                assert_eq!(checksum::of(pseudo, &frame[start..]), 0, "{text}");
            }
        }
    }
}
