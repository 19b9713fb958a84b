//! Which runs of a space of numbered places are free: pages of the cage, bytes of a region of code.
//!
//! Invariant: bookkeeping only; two free runs never touch.

use std::collections::BTreeMap;

/// Runs of free places, first place to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeRuns(BTreeMap<usize, usize>);

impl FreeRuns {
    /// One free run.
    #[must_use]
    pub fn new(first: usize, count: usize) -> Self {
        Self(BTreeMap::from([(first, count)]))
    }

    /// Takes `count` places; first fit.
    pub fn take(&mut self, count: usize) -> Option<usize> {
        let (first, run) = self.0.iter().map(|(first, run)| (*first, *run)).find(|(_, run)| *run >= count)?;
        self.0.remove(&first);
        if run > count {
            self.0.insert(first + count, run - count);
        }
        Some(first)
    }

    /// Gives back what [`FreeRuns::take`] handed out, joined with its free neighbours. Returns the length of the run that
    /// it now belongs to.
    pub fn give_back(&mut self, first: usize, count: usize) -> usize {
        let (mut first, mut run) = (first, count);
        if let Some(after) = self.0.remove(&(first + run)) {
            run += after;
        }
        if let Some((before, before_run)) = self.0.range(..first).next_back().map(|(first, run)| (*first, *run))
            && before + before_run == first
        {
            first = before;
            run += before_run;
        }
        self.0.insert(first, run);
        run
    }

    /// Places that are free.
    #[must_use]
    pub fn free_count(&self) -> usize {
        self.0.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_in_any_order_joins_again() {
        let mut free = FreeRuns::new(10, 100);
        let whole = free.clone();
        let taken: Vec<_> = (1..=5).map(|count| (free.take(count).expect("room"), count)).collect();
        assert_eq!(free.free_count(), 85);
        for index in [1, 3, 0, 4] {
            let (first, count) = taken[index];
            assert!(free.give_back(first, count) < 100);
        }
        let (first, count) = taken[2];
        assert_eq!(free.give_back(first, count), 100);
        assert_eq!(free, whole);
    }

    #[test]
    fn no_run_that_is_too_short_is_given() {
        let mut free = FreeRuns::new(0, 8);
        assert_eq!(free.take(9), None);
        assert_eq!(free.take(8), Some(0));
        assert_eq!(free.take(1), None);
    }
}
