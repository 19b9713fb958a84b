//! The keys of LPM tries: `struct bpf_lpm_trie_key`.
//!
//! Invariant: reads nothing outside of a key; bits behind its bytes are zero.

/// The bits of a prefix in words, the first bit highest; zero beyond its bytes.
pub(super) trait Bits: Copy {
    /// Word number `index`.
    fn word(self, index: usize) -> u64;

    /// Bit number `index`.
    #[inline]
    fn bit(self, index: u32) -> usize {
        usize::from(self.word(index as usize / 64) >> (63 - index % 64) & 1 != 0)
    }
}

impl<const COUNT: usize> Bits for [u64; COUNT] {
    #[inline]
    fn word(self, index: usize) -> u64 {
        self.get(index).copied().unwrap_or(0)
    }
}

impl Bits for &[u8] {
    #[inline]
    fn word(self, index: usize) -> u64 {
        let rest = self.get(index * 8..).unwrap_or(&[]);
        if let Some(whole) = rest.first_chunk::<8>() {
            return u64::from_be_bytes(*whole);
        }
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        u64::from_be_bytes(word)
    }
}

/// A prefix: as many of its bits count as it is long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix<B> {
    /// Bits that count.
    pub(super) len: u32,
    /// Its bits.
    pub(super) bits: B,
}

impl<'k> Prefix<&'k [u8]> {
    /// Takes a key apart: the length in host order, then the bytes. `None` where the length is over `len_max` bits.
    pub(super) fn parse(key: &'k [u8], len_max: u32) -> Option<Self> {
        let (len, bits) = key.split_first_chunk::<4>()?;
        let len = u32::from_ne_bytes(*len);
        (len <= len_max).then_some(Self { len, bits })
    }

    /// The prefix by its first words, all there are.
    pub(super) fn words<const COUNT: usize>(self) -> Prefix<[u64; COUNT]> {
        Prefix { len: self.len, bits: std::array::from_fn(|index| self.bits.word(index)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_its_length_and_its_bits_from_the_highest_on() {
        let key = [9u32.to_ne_bytes().as_slice(), &[0x80, 0x40, 0, 0]].concat();
        let prefix = Prefix::parse(&key, 32).expect("short enough");
        assert_eq!(prefix.len, 9);
        assert_eq!([0, 1, 8, 9, 31, 32, 500].map(|index| prefix.bits.bit(index)), [1, 0, 0, 1, 0, 0, 0]);
        assert_eq!(prefix.words::<2>().bits, [0x8040_0000_0000_0000, 0]);
        assert_eq!([0, 1, 8, 9, 31, 500].map(|index| prefix.words::<1>().bits.bit(index)), [1, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_prefix_longer_than_the_keys_is_none() {
        assert!(Prefix::parse(&33u32.to_ne_bytes(), 32).is_none());
        assert!(Prefix::parse(&[0; 3], 32).is_none());
    }
}
