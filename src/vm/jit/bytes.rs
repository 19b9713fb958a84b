//! A set of the 512 bytes of a stack frame.
//!
//! Invariant: byte 0 is the lowest, `r10 - 512`.

use crate::limits::FRAME_STACK_LEN;

const WORDS: usize = FRAME_STACK_LEN as usize / 64;

/// A set of stack bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes([u64; WORDS]);

impl Bytes {
    /// No byte.
    pub(super) const NONE: Self = Self([0; WORDS]);
    /// All 512.
    pub(super) const ALL: Self = Self([u64::MAX; WORDS]);

    /// The bytes from `r10 + offset` on; `None` where they leave the frame.
    pub(super) fn range(offset: i64, len: u64) -> Option<Self> {
        let start = u64::try_from(offset + i64::from(FRAME_STACK_LEN)).ok()?;
        let end = start.checked_add(len).filter(|end| *end <= u64::from(FRAME_STACK_LEN))?;
        let mut bytes = Self::NONE;
        for (index, word) in bytes.0.iter_mut().enumerate() {
            let base = index as u64 * 64;
            let low = start.clamp(base, base + 64) - base;
            let high = end.clamp(base, base + 64) - base;
            if low < high {
                *word = (u64::MAX >> (64 - (high - low))) << low;
            }
        }
        Some(bytes)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
    }

    pub(super) fn keep(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
    }

    pub(super) fn both(&self, other: &Self) -> Self {
        let mut bytes = *self;
        bytes.keep(other);
        bytes
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        self.both(other) != Self::NONE
    }

    pub(super) fn without(&self, other: &Self) -> Self {
        let mut bytes = *self;
        bytes.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= !other);
        bytes
    }

    /// Offsets from r10 of the 8-byte words that hold a byte of the set, ascending.
    pub(super) fn words(&self) -> impl Iterator<Item = i32> + '_ {
        (0..FRAME_STACK_LEN / 8)
            .filter(|word| self.0[*word as usize / 8] >> (word % 8 * 8) & 0xff != 0)
            .map(|word| word.cast_signed() * 8 - FRAME_STACK_LEN.cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_its_bytes_and_no_other() {
        let bytes = Bytes::range(-20, 8).expect("inside the frame");
        assert_eq!(bytes.words().collect::<Vec<_>>(), [-24, -16]);
        assert_eq!(Bytes::range(-512, 512), Some(Bytes::ALL));
        assert_eq!(Bytes::range(-513, 1), None);
        assert_eq!(Bytes::range(-4, 8), None);
        assert_eq!(Bytes::range(0, 0), Some(Bytes::NONE));
        let mut most = Bytes::ALL;
        most = most.without(&Bytes::range(-504, 504).expect("inside"));
        assert_eq!(most.words().collect::<Vec<_>>(), [-512]);
    }
}
