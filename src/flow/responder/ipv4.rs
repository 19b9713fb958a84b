//! Echo requests over IPv4: ICMP (RFC 792) and UDP (RFC 862).
//!
//! Invariant: reads nothing behind `len`; what does not check out is left without an answer.

use std::net::Ipv4Addr;

use super::{ETHERNET_LEN, HOP_LIMIT, MacAddr, ZeroChecksum, echo, swap, turn_around};
use crate::flow::checksum;

const HEADER_LEN: usize = 20;

pub(super) fn answer(mac: MacAddr, ipv4: Ipv4Addr, frame: &mut [u8], len: usize) -> Option<usize> {
    let packet = &mut frame[ETHERNET_LEN..len];
    if packet.len() < HEADER_LEN || packet[0] >> 4 != 4 {
        return None;
    }
    let header_len = usize::from(packet[0] & 0xf) * 4;
    let total_len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    if header_len < HEADER_LEN || total_len < header_len || total_len > packet.len() {
        return None;
    }
    let (header, payload) = packet[..total_len].split_at_mut(header_len);
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    if fragment || checksum::of(0, header) != 0 || header[16..20] != ipv4.octets() || !may_be_answered(source) {
        return None;
    }
    match header[9] {
        1 => echo_reply(payload)?,
        17 => echo(payload, checksum::sum(&header[12..20]), ZeroChecksum::Absent)?,
        _ => return None,
    }
    swap(header, 12, 4);
    header[8] = HOP_LIMIT;
    header[10..12].fill(0);
    let sum = checksum::of(0, header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    turn_around(frame, mac);
    Some(ETHERNET_LEN + total_len)
}

fn may_be_answered(source: Ipv4Addr) -> bool {
    !(source.is_unspecified() || source.is_multicast() || source.is_broadcast())
}

fn echo_reply(message: &mut [u8]) -> Option<()> {
    if message.len() < 8 || message[..2] != [8, 0] || checksum::of(0, message) != 0 {
        return None;
    }
    message[0] = 0;
    message[2..4].fill(0);
    let sum = checksum::of(0, message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::Addresses;
    use crate::flow::checksum;

    /// An echo request of eight bytes with padding behind it; its checksums are still to be made.
    fn ping() -> Vec<u8> {
        [
            &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0][..],
            &[0x45, 0, 0, 36, 0x12, 0x34, 0x40, 0, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1],
            &[8, 0, 0, 0, 0x00, 0x07, 0x00, 0x01, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0xee; 10],
        ]
        .concat()
    }

    fn with_right_checksums(mut frame: Vec<u8>) -> Vec<u8> {
        for (range, at) in [(14..34, 24), (34..50, 36)] {
            frame[at..at + 2].fill(0);
            let sum = checksum::of(0, &frame[range]);
            frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        frame
    }

    #[test]
    fn a_ping_is_answered_with_its_own_words() {
        let mut frame = with_right_checksums(ping());
        assert_eq!(Addresses::numbered(1).answer(&mut frame, 60), Some(50), "the padding stays behind");
        assert_eq!(frame[..14], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
        assert_eq!(frame[26..34], [10, 0, 0, 1, 10, 0, 0, 2]);
        assert_eq!(frame[34..36], [0, 0]);
        assert_eq!(frame[38..50], [0, 7, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(frame, with_right_checksums(frame.clone()), "checksums are right");
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        assert_eq!(Addresses::numbered(1).answer(&mut frame, 50), None, "an answer is not answered");
    }

    #[test]
    fn damaged_or_foreign_pings_are_not_answered() {
        let right = with_right_checksums(ping());
        let refused = |change: fn(&mut Vec<u8>)| {
            let mut frame = right.clone();
            change(&mut frame);
            assert_eq!(Addresses::numbered(1).answer(&mut frame, 60), None);
        };
        refused(|frame| frame[25] ^= 1);
        refused(|frame| frame[45] ^= 1);
        refused(|frame| frame[17] = 255);
        for (at, value) in [(33, 9), (20, 0x20), (21, 1), (23, 6), (26, 224), (14, 0x44), (14, 0x65), (34, 13)] {
            let mut frame = right.clone();
            frame[at] = value;
            assert_eq!(Addresses::numbered(1).answer(&mut with_right_checksums(frame), 60), None, "byte {at}");
        }
    }

    fn datagram(ports: [[u8; 2]; 2]) -> Vec<u8> {
        let mut frame = ping();
        frame[23] = 17;
        frame[34..42].copy_from_slice(&[ports[0][0], ports[0][1], ports[1][0], ports[1][1], 0, 16, 0, 0]);
        frame[24..26].fill(0);
        let sum = checksum::of(0, &frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn the_echo_service_answers_with_or_without_a_checksum() {
        let mut frame = datagram([[0x10, 0], [0, 7]]);
        assert_eq!(Addresses::numbered(1).answer(&mut frame, 60), Some(50));
        assert_eq!(frame[34..40], [0, 7, 0x10, 0, 0, 16]);
        let pseudo = checksum::sum(&frame[26..34]) + 17 + 16;
        assert_eq!(checksum::of(pseudo, &frame[34..50]), 0, "the answer has a right checksum");
        // The answer turned around by hand is a request with a checksum.
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        super::swap(&mut frame, 26, 4);
        super::swap(&mut frame, 34, 2);
        assert_eq!(Addresses::numbered(1).answer(&mut frame.clone(), 50), Some(50));
        frame[45] ^= 1;
        assert_eq!(Addresses::numbered(1).answer(&mut frame, 50), None, "a wrong checksum");
    }

    #[test]
    fn two_echo_services_do_not_keep_each_other_busy() {
        assert_eq!(Addresses::numbered(1).answer(&mut datagram([[0, 7], [0, 7]]), 60), None);
        assert_eq!(Addresses::numbered(1).answer(&mut datagram([[0x10, 0], [0, 9]]), 60), None, "another port");
    }
}
