//! Which element an LRU map gives up: the hand of a clock goes round the places; an element that was used since the hand
//! last came by stays and loses its mark, the next one without a mark goes.
//!
//! The kernel keeps lists for each processor and is approximate too (`kernel/bpf/bpf_lru_list.c`); the order in which
//! elements go is no promise of either.
//!
//! Invariant: takes no lock, and looks at each place twice at most before it gives up.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::zeroed::zeroed;

/// The place holds an element.
const LIVE: u8 = 1;
/// It was used since the hand last came by.
pub(super) const USED: u8 = 2;
/// Marks that the hand takes before it stops sparing: bounds the time of one eviction.
const SPARED_MAX: u32 = 128;

/// The marks of all places and the hand.
#[derive(Debug)]
pub(super) struct Clock {
    marks: Box<[AtomicU8]>,
    hand: AtomicU32,
}

impl Clock {
    /// No place holds an element; `None` where there is no memory.
    pub(super) fn new(place_count: u32) -> Option<Self> {
        Some(Self { marks: zeroed(u64::from(place_count))?, hand: AtomicU32::new(0) })
    }

    /// A new element was put into a place, without a mark: what is never used again goes first.
    pub(super) fn enter(&self, place: u32) {
        self.marks[place as usize].store(LIVE, Ordering::Release);
    }

    /// The element in a place was unlinked.
    pub(super) fn leave(&self, place: u32) {
        self.marks[place as usize].fetch_and(!LIVE, Ordering::AcqRel);
    }

    /// Host address of the mark of the first place.
    pub(super) fn marks(&self) -> *const AtomicU8 {
        self.marks.as_ptr()
    }

    /// The element in a place was used.
    #[inline]
    pub(super) fn mark(&self, place: u32) {
        let mark = &self.marks[place as usize];
        if mark.load(Ordering::Relaxed) & USED == 0 {
            mark.fetch_or(USED, Ordering::Relaxed);
        }
    }

    /// Whether a place holds an element.
    pub(super) fn is_live(&self, place: u32) -> bool {
        self.marks[place as usize].load(Ordering::Acquire) & LIVE != 0
    }

    /// The place of an element that may go, among the first `used` places; `None` when none holds one.
    pub(super) fn candidate(&self, used: u32) -> Option<u32> {
        let mut spared = 0;
        for _ in 0..used.saturating_mul(2) {
            let place = self.hand.fetch_add(1, Ordering::Relaxed) % used;
            let mark = &self.marks[place as usize];
            let seen = mark.load(Ordering::Acquire);
            if seen & LIVE == 0 {
                continue;
            }
            if seen & USED == 0 || spared == SPARED_MAX {
                return Some(place);
            }
            mark.fetch_and(!USED, Ordering::Relaxed);
            spared += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_in_use_outlives_one_that_is_not() {
        let clock = Clock::new(3).expect("memory");
        assert_eq!(clock.candidate(3), None);
        for place in 0..3 {
            clock.enter(place);
            clock.mark(place);
        }
        assert_eq!(clock.candidate(3), Some(0), "all were marked: the hand went round once");
        clock.mark(1);
        assert_eq!(clock.candidate(3), Some(2));
        clock.leave(2);
        assert!(!clock.is_live(2));
        assert_eq!(clock.candidate(3), Some(0));
    }

    #[test]
    fn the_hand_stops_sparing_after_a_while() {
        let clock = Clock::new(1000).expect("memory");
        for place in 0..1000 {
            clock.enter(place);
            clock.mark(place);
        }
        assert_eq!(clock.candidate(1000), Some(SPARED_MAX));
    }
}
