//! SYN cookies: the state of a half-open connection in its sequence number.
//!
//! Structure and tables are those of `net/ipv4/syncookies.c` and `net/ipv6/syncookies.c`; the secret is the host's own, made
//! when the world is, so cookies of the kernel and of other hosts do not check here.
//!
//! Invariant: total functions of secret, time and headers.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;

use super::siphash::{SipKey, siphash};

/// Low bits of a cookie that hold the index of the segment size; the minute is above.
const DATA_BITS: u32 = 24;
const DATA_MASK: u32 = (1 << DATA_BITS) - 1;
/// Minutes after which a cookie is too old; the kernel's `MAX_SYNCOOKIE_AGE`.
const AGE_MAX: u32 = 2;
const NS_A_MINUTE: u64 = 60_000_000_000;

const SIZES_4: [u16; 4] = [536, 1300, 1440, 1460];
const SIZES_6: [u16; 4] = [1280 - 60, 1480 - 60, 1500 - 60, 9000 - 60];

/// The two ends of a connection: addresses of one family, ports as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Who opens it.
    pub source: IpAddr,
    /// Who is asked.
    pub destination: IpAddr,
    /// Port of the source.
    pub source_port: u16,
    /// Port of the destination.
    pub destination_port: u16,
}

/// A host's secret.
#[derive(Debug)]
pub struct Cookies {
    keys: [SipKey; 2],
}

impl Cookies {
    /// A fresh secret.
    #[must_use]
    pub fn random() -> Self {
        let state = RandomState::new();
        let word = |number: u64| {
            let mut hasher = state.build_hasher();
            hasher.write_u64(number);
            hasher.finish()
        };
        Self { keys: [[word(0), word(1)], [word(2), word(3)]] }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the kernel takes the low half of the hash")]
    fn hash(&self, ends: &Ends, count: u32, which: usize) -> u32 {
        let mut message = Vec::with_capacity(40);
        for address in [ends.source, ends.destination] {
            match address {
                IpAddr::V4(address) => message.extend(address.octets()),
                IpAddr::V6(address) => message.extend(address.octets()),
            }
        }
        message.extend(ends.source_port.to_be_bytes());
        message.extend(ends.destination_port.to_be_bytes());
        message.extend(count.to_le_bytes());
        siphash(self.keys[which], &message) as u32
    }

    /// A cookie for a SYN with this sequence number and segment size, and the size that it stands for.
    #[must_use]
    pub fn make(&self, ends: &Ends, sequence: u32, size: u16, now_ns: u64) -> (u32, u16) {
        let sizes = sizes(ends);
        let index = sizes.iter().rposition(|known| size >= *known).unwrap_or(0);
        let minute = minute(now_ns);
        let data = u32::try_from(index).expect("an index of four");
        let hidden = self.hash(ends, minute, 1).wrapping_add(data) & DATA_MASK;
        let cookie =
            self.hash(ends, 0, 0).wrapping_add(sequence).wrapping_add(minute << DATA_BITS).wrapping_add(hidden);
        (cookie, sizes[index])
    }

    /// The segment size that a cookie stands for; `None` for one that is not ours or too old. `sequence` is that of the SYN.
    #[must_use]
    pub fn check(&self, ends: &Ends, sequence: u32, cookie: u32, now_ns: u64) -> Option<u16> {
        let minute = minute(now_ns);
        let cookie = cookie.wrapping_sub(self.hash(ends, 0, 0).wrapping_add(sequence));
        let age = minute.wrapping_sub(cookie >> DATA_BITS) & (u32::MAX >> DATA_BITS);
        if age >= AGE_MAX {
            return None;
        }
        let index = cookie.wrapping_sub(self.hash(ends, minute.wrapping_sub(age), 1)) & DATA_MASK;
        sizes(ends).get(usize::try_from(index).ok()?).copied()
    }
}

fn minute(now_ns: u64) -> u32 {
    u32::try_from(now_ns / NS_A_MINUTE).expect("64 bits of nanoseconds are fewer minutes")
}

fn sizes(ends: &Ends) -> [u16; 4] {
    if ends.source.is_ipv4() { SIZES_4 } else { SIZES_6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(text: &str) -> Ends {
        let address = text.parse().expect("an address");
        Ends { source: address, destination: address, source_port: 1234, destination_port: 80 }
    }

    #[test]
    fn a_cookie_is_good_for_two_minutes_and_for_its_connection_alone() {
        let cookies = Cookies::random();
        for (text, size, kept) in [("10.0.0.1", 1459, 1440), ("10.0.0.1", 1, 536), ("fd00::1", 9000, 8940)] {
            let ends = ends(text);
            let now = 7 * NS_A_MINUTE;
            let (cookie, known) = cookies.make(&ends, 99, size, now);
            assert_eq!(known, kept);
            assert_eq!(cookies.check(&ends, 99, cookie, now), Some(kept));
            assert_eq!(cookies.check(&ends, 99, cookie, now + NS_A_MINUTE), Some(kept));
            assert_eq!(cookies.check(&ends, 99, cookie, now + 2 * NS_A_MINUTE), None);
            assert_eq!(cookies.check(&ends, 99, cookie, now - NS_A_MINUTE), None);
            let others = [ends, Ends { source_port: 1235, ..ends }];
            let wrong =
                others.iter().zip([1099, 99]).filter(|(ends, at)| cookies.check(ends, *at, cookie, now).is_some());
            // One in four million by chance.
            assert_eq!(wrong.count(), 0);
            assert_eq!(Cookies::random().check(&ends, 99, cookie, now), None);
        }
    }
}
