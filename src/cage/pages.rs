//! Which pages of the cage the guest may touch, and which are free.
//!
//! Invariant: bookkeeping only; touches no guest memory.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{FreeRuns, Protect};
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
        let allows = |page: &AtomicU8| page.load(Ordering::Acquire) & bit != 0;
        if first == end { allows(&self.0[first]) } else { self.0[first..=end].iter().all(allows) }
    }
}

/// The free pages of the cage.
#[derive(Debug)]
pub(super) struct FreePages(FreeRuns);

impl FreePages {
    pub(super) fn new() -> Self {
        let first = (CAGE_FIRST_ADDR / PAGE_LEN) as usize;
        Self(FreeRuns::new(first, PAGES - first))
    }

    /// Takes `count` pages plus one that stays unmapped behind them; first fit.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let first = self.0.take(count as usize + 1)?;
        Some(u32::try_from(first).expect("2^20 pages"))
    }

    /// Gives back what `take` handed out.
    pub(super) fn give_back(&mut self, first: u32, count: u32) {
        self.0.give_back(first as usize, count as usize + 1);
    }
}
