//! The network stack behind PASS: enough of one that a peer can ask whether we are there.
//!
//! It answers ARP requests and IPv6 neighbour solicitations for its addresses, echo requests of ICMP and ICMPv6, and the
//! UDP echo service (RFC 862, port 7). Everything else is taken without an answer. Deliberately absent: fragments,
//! options and extension headers in answers, VLAN tags, broadcast pings, TCP, state of any kind.
//!
//! Invariant: a pure function of the frame and the addresses; what does not check out is not answered, so that two
//! responders never keep each other busy.

mod arp;
mod ipv4;
mod ipv6;

use crate::flow::checksum;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Text that is no Ethernet address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {text:?}: no Ethernet address; write it as 02:00:00:00:00:01")]
pub struct BadMacAddr {
    /// The text.
    pub text: String,
}

impl FromStr for MacAddr {
    type Err = BadMacAddr;

    fn from_str(text: &str) -> Result<Self, BadMacAddr> {
        let bad = || BadMacAddr { text: text.to_owned() };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && all_hexadecimal(part)).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(bytes)) }
    }
}

/// Whether nothing else is in it: the standard parser takes a sign too.
fn all_hexadecimal(digits: &str) -> bool {
    digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// What a responder is called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its IPv4 address, if it speaks that.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address, if it speaks that.
    pub ipv6: Option<Ipv6Addr>,
}

impl Addresses {
    /// Addresses of a host with this number on a wire of its own: 02:00:00:00:00:NN, 10.0.0.N, fd00::N.
    #[must_use]
    pub fn numbered(number: u8) -> Self {
        Self {
            mac: MacAddr([2, 0, 0, 0, 0, number]),
            ipv4: Some(Ipv4Addr::new(10, 0, 0, number)),
            ipv6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into())),
        }
    }
}

/// Bytes of an Ethernet header.
const ETHERNET_LEN: usize = 14;
/// Hops that answers may take.
const HOP_LIMIT: u8 = 64;
/// The echo service, RFC 862.
const ECHO_PORT: [u8; 2] = [0, 7];

impl Addresses {
    /// Turns the frame in the first `len` bytes of `frame` into its answer, and says how long that is; `None` where there is
    /// none, with `frame` changed or not.
    #[must_use]
    pub fn answer(&self, frame: &mut [u8], len: usize) -> Option<usize> {
        if len < ETHERNET_LEN || len > frame.len() {
            return None;
        }
        match [frame[12], frame[13]] {
            [0x08, 0x06] => arp::answer(self.mac, self.ipv4?, frame, len),
            [0x08, 0x00] if frame[..6] == self.mac.0 => ipv4::answer(self.mac, self.ipv4?, frame, len),
            [0x86, 0xdd] => ipv6::answer(self.mac, self.ipv6?, frame, len),
            _ => None,
        }
    }
}

/// Sends a frame back to where it came from.
fn turn_around(frame: &mut [u8], mac: MacAddr) {
    frame.copy_within(6..12, 0);
    frame[6..12].copy_from_slice(&mac.0);
}

/// Swaps two neighbouring fields of `len` bytes.
fn swap(bytes: &mut [u8], at: usize, len: usize) {
    let (first, second) = bytes[at..at + 2 * len].split_at_mut(len);
    first.swap_with_slice(second);
}

/// Turns a UDP datagram for the echo service around, with a right checksum; `pseudo` is the sum of the pseudo-header's
/// addresses. `None` where it is no such datagram.
fn echo(datagram: &mut [u8], pseudo: u32, zero: ZeroChecksum) -> Option<()> {
    if datagram.len() < 8 || usize::from(u16::from_be_bytes([datagram[4], datagram[5]])) != datagram.len() {
        return None;
    }
    // A datagram from an echo service would go back and forth for ever.
    if datagram[2..4] != ECHO_PORT || datagram[..2] == ECHO_PORT {
        return None;
    }
    let pseudo = pseudo + 17 + u32::try_from(datagram.len()).ok()?;
    let absent = datagram[6..8] == [0, 0];
    if absent && zero == ZeroChecksum::Refused || !absent && checksum::of(pseudo, datagram) != 0 {
        return None;
    }
    swap(datagram, 0, 2);
    datagram[6..8].fill(0);
    let sum = match checksum::of(pseudo, datagram) {
        0 => u16::MAX,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// What a UDP checksum of zero means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ZeroChecksum {
    /// The sender made none: IPv4.
    Absent,
    /// A mistake: IPv6.
    Refused,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_addresses_are_read_as_they_are_written() {
        let mac = MacAddr([2, 0, 0xab, 0, 0, 9]);
        assert_eq!(mac.to_string(), "02:00:ab:00:00:09");
        assert_eq!("02:00:AB:00:00:09".parse(), Ok(mac));
        for text in ["", "02:00:ab:00:00", "02:00:ab:00:00:09:01", "2:0:ab:0:0:9", "02:00:ab:00:00:zz"] {
            let error = text.parse::<MacAddr>().expect_err("no address");
            assert_eq!(
                error.to_string(),
                format!("address {text:?}: no Ethernet address; write it as 02:00:00:00:00:01")
            );
        }
    }

    #[test]
    fn no_frame_whatever_makes_it_panic_or_answer_at_length() {
        let addresses = Addresses::numbered(1);
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        let starts: [&[u8]; 5] = [
            &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1],
            &[0x08, 0x00, 0x45],
            &[0x08, 0x00, 0x4f],
            &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, 58, 255],
            &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 17, 255],
        ];
        for round in 0..20_000usize {
            let mut frame = [0u8; 1792];
            frame.fill_with(&mut random);
            frame[..6].copy_from_slice(&addresses.mac.0);
            let start = starts[round % starts.len()];
            frame[12..12 + start.len()].copy_from_slice(start);
            let len = round % 200;
            if let Some(answer) = addresses.answer(&mut frame, len) {
                assert!(answer <= len.max(86), "answer of {answer} bytes to {len}");
            }
        }
    }

    #[test]
    fn frames_for_others_are_not_answered() {
        let addresses = Addresses::numbered(1);
        let mut frame = [0u8; 64];
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
        frame[12] = 8;
        assert_eq!(addresses.answer(&mut frame, 64), None);
        assert_eq!(addresses.answer(&mut frame, 10), None);
    }
}
