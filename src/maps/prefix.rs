//! The keys of LPM tries: `struct bpf_lpm_trie_key`.

/// A prefix as programs write it: its length in bits, in host order, then its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix<'k> {
    len: u32,
    bytes: &'k [u8],
}

impl<'k> Prefix<'k> {
    /// Takes a key apart; `None` where its length is over `len_max` bits.
    pub(super) fn parse(key: &'k [u8], len_max: u32) -> Option<Self> {
        let (len, bytes) = key.split_first_chunk::<4>()?;
        let len = u32::from_ne_bytes(*len);
        (len <= len_max).then_some(Self { len, bytes })
    }

    /// Bits that count.
    pub(super) fn bit_count(self) -> u32 {
        self.len
    }

    /// The words of its bytes, first bit highest.
    pub(super) fn words(self) -> impl Iterator<Item = u64> {
        self.bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_be_bytes(word)
        })
    }

    /// Bit number `index`, 0 beyond its bytes.
    pub(super) fn bit(self, index: u32) -> usize {
        let byte = self.bytes.get(index as usize / 8).copied().unwrap_or(0);
        usize::from(byte >> (7 - index % 8) & 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_its_length_and_its_bits_from_the_highest_on() {
        let key = [9u32.to_ne_bytes().as_slice(), &[0x80, 0x40, 0, 0]].concat();
        let prefix = Prefix::parse(&key, 32).expect("short enough");
        assert_eq!(prefix.bit_count(), 9);
        assert_eq!([0, 1, 8, 9, 31, 32, 500].map(|index| prefix.bit(index)), [1, 0, 0, 1, 0, 0, 0]);
        assert_eq!(prefix.words().collect::<Vec<_>>(), [0x8040_0000_0000_0000]);
    }

    #[test]
    fn a_prefix_longer_than_the_keys_is_none() {
        assert!(Prefix::parse(&33u32.to_ne_bytes(), 32).is_none());
        assert!(Prefix::parse(&[0; 3], 32).is_none());
    }
}
