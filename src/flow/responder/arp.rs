//! ARP requests for our IPv4 address. Source: RFC 826.
//!
//! Invariant: reads nothing behind `len`; a request that is not for us is left as it is.

use std::net::Ipv4Addr;

use super::{ETHERNET_LEN, MacAddr, turn_around};

/// Ethernet and IPv4 addresses, and the operation "request".
const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
const FRAME_LEN: usize = ETHERNET_LEN + 28;

pub(super) fn answer(mac: MacAddr, ipv4: Ipv4Addr, frame: &mut [u8], len: usize) -> Option<usize> {
    if len < FRAME_LEN || (frame[..6] != mac.0 && frame[..6] != [0xff; 6]) {
        return None;
    }
    let packet = &mut frame[ETHERNET_LEN..FRAME_LEN];
    if packet[..8] != REQUEST || packet[24..28] != ipv4.octets() {
        return None;
    }
    packet[7] = 2;
    packet.copy_within(8..18, 18);
    packet[8..14].copy_from_slice(&mac.0);
    packet[14..18].copy_from_slice(&ipv4.octets());
    turn_around(frame, mac);
    Some(FRAME_LEN)
}

#[cfg(test)]
mod tests {
    use super::super::Addresses;

    #[test]
    fn a_request_for_us_is_answered_and_others_are_not() {
        let request: Vec<u8> = [
            &[0xff; 6][..],
            &[2, 0, 0, 0, 0, 2, 8, 6],
            &[0, 1, 8, 0, 6, 4, 0, 1],
            &[2, 0, 0, 0, 0, 2, 10, 0, 0, 2],
            &[0, 0, 0, 0, 0, 0, 10, 0, 0, 1],
            &[0; 18],
        ]
        .concat();
        let mut frame = request.clone();
        assert_eq!(Addresses::numbered(1).answer(&mut frame, 60), Some(42));
        let expected: Vec<u8> = [
            &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 6][..],
            &[0, 1, 8, 0, 6, 4, 0, 2],
            &[2, 0, 0, 0, 0, 1, 10, 0, 0, 1],
            &[2, 0, 0, 0, 0, 2, 10, 0, 0, 2],
        ]
        .concat();
        assert_eq!(frame[..42], expected);
        assert_eq!(Addresses::numbered(3).answer(&mut request.clone(), 60), None, "another's address");
        let mut reply = frame.clone();
        reply[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        assert_eq!(Addresses::numbered(1).answer(&mut reply, 42), None, "a reply is not answered");
        assert_eq!(Addresses::numbered(1).answer(&mut request.clone(), 41), None, "cut off");
    }
}
