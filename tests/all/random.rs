//! Seeded random numbers, so that a failing sequence runs again the same way.

use kumite::isa::random::Dice;

/// A sequence of numbers that its seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Random(Dice);

impl Random {
    /// The sequence of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Dice::new(seed))
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0.bits()
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.0.below(bound as usize)).expect("below a u32")
    }

    /// One of the items.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        self.0.pick(items)
    }

    /// Random bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}
