//! The one random-number generator of kumite: SplitMix64.
//!
//! Invariant: the same seed gives the same numbers on every machine and in every version; never for secrets.

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// A generator that this seed determines.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// 64 random bits.
    #[must_use]
    pub const fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`, all about equally likely.
    ///
    /// # Panics
    /// If `bound` is 0.
    #[must_use]
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "there is a number below the bound");
        let scaled = u128::from(self.bits()) * u128::try_from(bound).expect("a usize fits 128 bits");
        usize::try_from(scaled >> 64).expect("below the bound")
    }

    /// Whether an event that happens once in `count` times happens now.
    ///
    /// # Panics
    /// If `count` is 0.
    #[must_use]
    pub fn once_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// One of these.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
