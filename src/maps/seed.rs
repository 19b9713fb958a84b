//! The hash function of hash maps: keyed with a random seed for each map, so that nobody can choose keys that collide.
//!
//! Keys are hashed eight bytes at a time by multiplying and folding (the construction of wyhash and its kin).
//!
//! Invariant: a hash depends on the seed and the words of the key alone.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A map's secret.
#[derive(Debug)]
pub(super) struct Seed([u64; 4]);

impl Seed {
    /// A fresh secret.
    pub(super) fn random() -> Self {
        let state = RandomState::new();
        Self([0u64, 1, 2, 3].map(|number| {
            let mut hasher = state.build_hasher();
            hasher.write_u64(number);
            hasher.finish()
        }))
    }

    /// The secret itself.
    pub(super) fn secret(&self) -> [u64; 4] {
        self.0
    }

    /// The hash of a key of a map, whose keys are of one length, by its [`words`].
    #[inline]
    pub(super) fn hash(&self, mut words: impl Iterator<Item = u64>) -> u32 {
        let [first, even, odd, last] = self.0;
        let mut hash = first;
        while let Some(word) = words.next() {
            hash = fold(word ^ even, words.next().unwrap_or(0) ^ odd ^ hash);
        }
        let [a, b, c, d, e, f, g, h] = fold(hash ^ last, odd).to_le_bytes();
        u32::from_le_bytes([a, b, c, d]) ^ u32::from_le_bytes([e, f, g, h])
    }
}

/// The halves of the product, joined.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    let low = product as u64;
    let high = u64::try_from(product >> 64).expect("a shifted product has 64 bits");
    low ^ high
}

/// A key in words of eight bytes, the last one filled up with zeros.
#[inline]
pub(super) fn words(key: &[u8]) -> impl Iterator<Item = u64> + Clone {
    let mut rest = key;
    std::iter::from_fn(move || {
        let (head, tail) = rest.split_at(rest.len().min(8));
        rest = tail;
        (!head.is_empty()).then(|| word(head))
    })
}

/// The words of a key of at most eight bytes.
#[inline]
pub(super) fn one_word(key: &[u8]) -> [u64; 1] {
    [word(key)]
}

/// The words of a key of nine to sixteen bytes.
#[inline]
pub(super) fn two_words(key: &[u8]) -> [u64; 2] {
    let (first, second) = key.split_at(8);
    [word(first), word(second)]
}

/// Up to eight bytes as a word.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    if let Some(whole) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(*whole);
    }
    let (mut word, rest, mut shift) = match bytes.split_first_chunk::<4>() {
        Some((half, rest)) => (u64::from(u32::from_le_bytes(*half)), rest, 32),
        None => (0, bytes, 0),
    };
    for byte in rest {
        word |= u64::from(*byte) << shift;
        shift += 8;
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_every_byte_of_a_key_of_any_length() {
        let key: Vec<u8> = (1..=40).collect();
        for len in 0..=key.len() {
            let bytes: Vec<u8> = words(&key[..len]).flat_map(u64::to_le_bytes).collect();
            assert_eq!(bytes[..len], key[..len]);
            assert_eq!(bytes.len(), len.next_multiple_of(8));
            assert!(bytes[len..].iter().all(|byte| *byte == 0));
            let short = match len {
                1..=8 => one_word(&key[..len]).to_vec(),
                9..=16 => two_words(&key[..len]).to_vec(),
                _ => continue,
            };
            assert!(words(&key[..len]).eq(short));
        }
    }

    #[test]
    fn two_seeds_hash_alike_by_chance_only() {
        let (one, other) = (Seed::random(), Seed::random());
        let alike = (0..1000u32)
            .filter(|key| one.hash(words(&key.to_le_bytes())) == other.hash(words(&key.to_le_bytes())))
            .count();
        assert!(alike < 3, "{alike} of 1000 keys have one hash under two seeds");
    }

    #[test]
    fn keys_that_differ_in_few_bits_spread_over_all_buckets() {
        let seed = Seed::random();
        for shift in [0, 8, 16, 24, 40, 56] {
            let mut counts = [0u32; 256];
            for key in 0..65_536u64 {
                counts[(seed.hash(words(&(key << shift).to_le_bytes())) % 256) as usize] += 1;
            }
            let most = counts.iter().max().expect("not empty");
            assert!(shift > 48 || *most < 400, "shift {shift}: {most} keys in one of 256 buckets, 256 expected");
        }
    }
}
