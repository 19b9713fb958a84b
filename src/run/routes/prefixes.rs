//! Longest-prefix search for addresses of one family.
//!
//! Each length that occurs has a hash table of its own, searched from the longest: a search costs as many probes as there
//! are different lengths, at most one more than an address has bits.
//!
//! Invariant: knows nothing of routes but the order in which those of one prefix were put in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// Values by prefix of one family.
#[derive(Clone, Debug)]
pub(super) struct Prefixes<T> {
    by_len: BTreeMap<Reverse<u8>, HashMap<u128, Vec<T>>>,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self { by_len: BTreeMap::new() }
    }
}

/// Bits of the addresses of this address's family.
pub(super) fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The first `len` bits as a number; all of them where it has fewer.
pub(super) fn leading(address: IpAddr, len: u8) -> u128 {
    let (number, bits) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    number.checked_shr(u32::from(bits - bits.min(len))).unwrap_or(0)
}

impl<T> Prefixes<T> {
    /// Adds a value behind those that the prefix has.
    pub(super) fn push(&mut self, address: IpAddr, len: u8, value: T) {
        let same_len = self.by_len.entry(Reverse(len)).or_default();
        same_len.entry(leading(address, len)).or_default().push(value);
    }

    /// All lists, each of one prefix.
    pub(super) fn lists(&mut self) -> impl Iterator<Item = &mut Vec<T>> {
        self.by_len.values_mut().flat_map(HashMap::values_mut)
    }

    /// Values whose prefix covers the address: longest prefix first, in their order.
    pub(super) fn covering(&self, address: IpAddr) -> impl Iterator<Item = &T> {
        let lists = self.by_len.iter().filter_map(move |(len, same)| same.get(&leading(address, len.0)));
        lists.flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(prefixes: &Prefixes<&'static str>, address: &str) -> Vec<&'static str> {
        prefixes.covering(address.parse().expect("an address")).copied().collect()
    }

    #[test]
    fn the_longest_prefix_comes_first_in_both_families() {
        let mut four = Prefixes::default();
        let mut six = Prefixes::default();
        for (prefix, len, name) in
            [("0.0.0.0", 0, "all"), ("10.0.0.0", 8, "ten"), ("10.1.2.3", 32, "one"), ("10.0.0.0", 8, "ten again")]
        {
            four.push(prefix.parse().expect("an address"), len, name);
        }
        for (prefix, len, name) in [("::", 0, "all"), ("fd00::", 8, "unique"), ("fd00::1", 128, "one")] {
            six.push(prefix.parse().expect("an address"), len, name);
        }
        assert_eq!(found(&four, "10.1.2.3"), ["one", "ten", "ten again", "all"]);
        assert_eq!(found(&four, "11.1.2.3"), ["all"]);
        assert_eq!(found(&six, "fd00::1"), ["one", "unique", "all"]);
        assert_eq!(found(&six, "fe00::1"), ["all"]);
    }
}
