//! A bucket of a hash table, in one word: the first element of its chain, a lock for writers, and a count of the elements
//! that were ever unlinked from it.
//!
//! Readers take no lock: they note the count, look, and compare. What they looked at was part of the chain all the while
//! if the count is still the same.
//!
//! Invariant: readers write nothing; a chain changes only while its bucket is locked.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crossbeam::utils::Backoff;

/// A writer holds the bucket.
const LOCK: u64 = 1 << 32;
/// One element unlinked.
const UNLINKED: u64 = 1 << 33;
/// The count of unlinked elements.
pub(super) const COUNT_MASK: u64 = !(UNLINKED - 1);

/// A link of a chain, in the low half of a word: 0 ends it, else the place of the next element plus one.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
pub(super) fn follow(word: u64) -> Option<u32> {
    (word as u32).checked_sub(1)
}

/// The link to a place, or the end of a chain.
#[inline]
pub(super) fn link_to(place: Option<u32>) -> u64 {
    place.map_or(0, |place| u64::from(place) + 1)
}

/// A bucket; all bits zero is an empty one.
#[repr(transparent)]
#[derive(Debug)]
pub(super) struct Bucket(AtomicU64);

impl Bucket {
    /// What `look` makes of the first element; `None` where something was unlinked from the bucket meanwhile.
    #[inline]
    pub(super) fn try_observe<T>(&self, look: impl FnOnce(Option<u32>) -> T) -> Option<T> {
        let seen = self.0.load(Ordering::Acquire);
        let answer = look(follow(seen));
        fence(Ordering::Acquire);
        let same = (self.0.load(Ordering::Relaxed) ^ seen) & COUNT_MASK == 0;
        same.then_some(answer)
    }

    /// What `look` makes of the first element while nothing is unlinked from the bucket. Every further attempt means that
    /// a writer got on.
    #[inline]
    pub(super) fn observe<T>(&self, look: impl Fn(Option<u32>) -> T) -> T {
        loop {
            if let Some(answer) = self.try_observe(&look) {
                return answer;
            }
        }
    }

    /// Keeps other writers out.
    pub(super) fn lock(&self) -> Locked<'_> {
        let backoff = Backoff::new();
        loop {
            let word = self.0.load(Ordering::Relaxed);
            let free = word & LOCK == 0;
            if free && self.0.compare_exchange_weak(word, word | LOCK, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Locked { cell: &self.0, word };
            }
            // Yields after a few rounds: the holder may not be running.
            backoff.snooze();
        }
    }
}

/// A bucket that a writer holds; released when dropped.
#[derive(Debug)]
pub(super) struct Locked<'t> {
    cell: &'t AtomicU64,
    /// The bucket without the lock bit.
    word: u64,
}

impl Locked<'_> {
    /// The first element.
    pub(super) fn first(&self) -> Option<u32> {
        follow(self.word)
    }

    /// Makes another element the first, when the bucket is released or by [`Locked::publish_unlinked`].
    pub(super) fn set_first(&mut self, first: Option<u32>) {
        self.word = (self.word & COUNT_MASK) | link_to(first);
    }

    /// Counts an element that was unlinked. From here on every reader sees the bucket without it or notices.
    pub(super) fn publish_unlinked(&mut self) {
        self.word = self.word.wrapping_add(UNLINKED);
        self.cell.store(self.word | LOCK, Ordering::Release);
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.cell.store(self.word, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_notices_what_was_unlinked_and_not_what_was_added() {
        let bucket = Bucket(AtomicU64::new(0));
        let seen = bucket.try_observe(|first| {
            bucket.lock().set_first(Some(7));
            first
        });
        assert_eq!(seen, Some(None));
        let seen = bucket.try_observe(|_| {
            let mut locked = bucket.lock();
            locked.set_first(None);
            locked.publish_unlinked();
        });
        assert_eq!(seen, None);
        assert_eq!(bucket.observe(|first| first), None);
    }

    #[test]
    fn the_count_wraps_without_touching_the_chain() {
        let bucket = Bucket(AtomicU64::new(COUNT_MASK));
        let mut locked = bucket.lock();
        locked.set_first(Some(u32::MAX - 1));
        locked.publish_unlinked();
        drop(locked);
        assert_eq!(bucket.0.into_inner(), u64::from(u32::MAX));
    }
}
