//! Which pages of the cage the guest may touch, and which are free.
//!
//! Invariant: bookkeeping only; touches no guest memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use super::Protect;
use crate::limits::{CAGE_FIRST_ADDR, CAGE_LEN, PAGE_LEN};
use crate::trap::Access;

#[expect(clippy::cast_possible_truncation, reason = "2^20 pages")]
const PAGES: usize = (CAGE_LEN / PAGE_LEN as u64) as usize;
const READ: u8 = 1;
const WRITE: u8 = 2;

/// One byte a page: what the guest may do with it.
pub(super) struct PageMap(Box<[AtomicU8]>);

impl fmt::Debug for PageMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not a million pages.
        f.debug_struct("PageMap").finish_non_exhaustive()
    }
}

impl PageMap {
    pub(super) fn new() -> Self {
        Self((0..PAGES).map(|_| AtomicU8::new(0)).collect())
    }

    pub(super) fn set(&self, first: u32, count: u32, protect: Option<Protect>) {
        let bits = match protect {
            None => 0,
            Some(Protect::ReadOnly) => READ,
            Some(Protect::ReadWrite) => READ | WRITE,
        };
        for page in &self.0[first as usize..(first + count) as usize] {
            page.store(bits, Ordering::Release);
        }
    }

    /// Whether all pages from the one of `start` to the one of `last` (inclusive, both inside the cage) allow `access`.
    #[inline]
    pub(super) fn allow(&self, start: u32, last: u32, access: Access) -> bool {
        let bit = match access {
            Access::Read => READ,
            Access::Write => WRITE,
        };
        let first = (start / PAGE_LEN) as usize;
        let end = (last / PAGE_LEN) as usize;
        self.0[first..=end].iter().all(|page| page.load(Ordering::Acquire) & bit != 0)
    }
}

/// Runs of free pages, first page to count.
#[derive(Debug)]
pub(super) struct FreePages(BTreeMap<u32, u32>);

impl FreePages {
    pub(super) fn new() -> Self {
        let first = CAGE_FIRST_ADDR / PAGE_LEN;
        let count = u32::try_from(PAGES).expect("2^20 pages") - first;
        Self(BTreeMap::from([(first, count)]))
    }

    /// Takes `count` pages plus one that stays unmapped behind them; first fit.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let need = count.checked_add(1)?;
        let (first, run) = self.0.iter().map(|(first, run)| (*first, *run)).find(|(_, run)| *run >= need)?;
        self.0.remove(&first);
        if run > need {
            self.0.insert(first + need, run - need);
        }
        Some(first)
    }

    /// Gives back what `take` handed out, joined with its free neighbours.
    pub(super) fn give_back(&mut self, first: u32, count: u32) {
        let mut first = first;
        let mut run = count + 1;
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_in_any_order_joins_again() {
        let mut free = FreePages::new();
        let whole = free.0.clone();
        let taken: Vec<_> = (1..=5).map(|count| (free.take(count).expect("room"), count)).collect();
        for index in [1, 3, 0, 4, 2] {
            let (first, count) = taken[index];
            free.give_back(first, count);
        }
        assert_eq!(free.0, whole);
    }
}
