//! Places for the elements of a map: which are free, and which of those a reader may still look at.
//!
//! A place that was given back is used again after a grace period (every worker has dropped the epoch guard that it held
//! then), the oldest first. Where all free places are younger than that, the oldest is given out early and says so: its
//! taker lets readers notice. So an element that was deleted always makes room for another at once, as in the kernel.
//!
//! Grace periods are watched one at a time: a single deferred function carries the count of places that were given back
//! before it, whatever their number.
//!
//! Invariant: a place is given out once until it is given back.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam::epoch;

use super::zeroed::zeroed;

/// Whether a reader may still look at what was in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    /// Nobody can.
    Quiet,
    /// A run that is under way may.
    Early,
}

/// How often, in places given back, an unfinished grace period is pushed on.
const PUSH_INTERVAL: u64 = 32;

/// Free places of a map, by number.
#[derive(Debug)]
pub(super) struct Pool {
    list: Mutex<List>,
    grace: Arc<Grace>,
}

/// A queue of places that were given back, and the places never used behind them.
#[derive(Debug)]
struct List {
    /// For a place in the queue: the place behind it.
    links: Box<[AtomicU32]>,
    oldest: u32,
    newest: u32,
    /// First place that was never used.
    fresh: u32,
    /// Places given back so far.
    retired: u64,
    /// Places taken from the queue so far.
    taken: u64,
}

#[derive(Debug, Default)]
struct Grace {
    /// As many of the places given back, in order, nobody can look at any more.
    passed: AtomicU64,
    /// Whether a grace period is under way.
    pending: AtomicBool,
}

impl Pool {
    /// `count` places, all free; `None` where there is no memory.
    pub(super) fn new(count: u32) -> Option<Self> {
        let list = List { links: zeroed(u64::from(count))?, oldest: 0, newest: 0, fresh: 0, retired: 0, taken: 0 };
        Some(Self { list: Mutex::new(list), grace: Arc::default() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, List> {
        self.list.lock().expect("nothing panics while it holds the lock")
    }

    /// A free place, if there is one.
    pub(super) fn take(&self) -> Option<(u32, Reuse)> {
        let mut list = self.lock();
        if list.taken < self.grace.passed.load(Ordering::Acquire) {
            return Some((list.pop(), Reuse::Quiet));
        }
        if (list.fresh as usize) < list.links.len() {
            list.fresh += 1;
            return Some((list.fresh - 1, Reuse::Quiet));
        }
        (list.taken < list.retired).then(|| (list.pop(), Reuse::Early))
    }

    /// Gives back a place that readers cannot reach any more from now on.
    pub(super) fn retire(&self, place: u32) {
        let retired = {
            let mut list = self.lock();
            list.push(place);
            list.retired
        };
        let begins = !self.grace.pending.swap(true, Ordering::AcqRel);
        if !begins && !retired.is_multiple_of(PUSH_INTERVAL) {
            return;
        }
        let guard = epoch::pin();
        if begins {
            let grace = Arc::clone(&self.grace);
            guard.defer(move || {
                grace.passed.store(retired, Ordering::Release);
                grace.pending.store(false, Ordering::Release);
            });
        }
        guard.flush();
    }

    /// Places that were ever used are those below this.
    pub(super) fn used(&self) -> u32 {
        self.lock().fresh
    }
}

impl List {
    fn push(&mut self, place: u32) {
        if self.taken == self.retired {
            self.oldest = place;
        } else {
            self.links[self.newest as usize].store(place, Ordering::Relaxed);
        }
        self.newest = place;
        self.retired += 1;
    }

    fn pop(&mut self) -> u32 {
        assert!(self.taken < self.retired, "only a queue that holds a place is popped");
        let place = self.oldest;
        self.oldest = self.links[place as usize].load(Ordering::Relaxed);
        self.taken += 1;
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_waits_for_the_grace_period_while_others_are_free() {
        let pool = Pool::new(3).expect("memory");
        let guard = epoch::pin();
        assert_eq!(pool.take(), Some((0, Reuse::Quiet)));
        pool.retire(0);
        assert_eq!(pool.take(), Some((1, Reuse::Quiet)), "never used");
        assert_eq!(pool.take(), Some((2, Reuse::Quiet)), "never used");
        assert_eq!(pool.take(), Some((0, Reuse::Early)), "nothing else is left");
        assert_eq!(pool.take(), None);
        drop(guard);
    }

    #[test]
    fn after_the_grace_period_the_oldest_place_is_used_before_a_fresh_one() {
        let pool = Pool::new(8).expect("memory");
        for place in 0..4 {
            assert_eq!(pool.take(), Some((place, Reuse::Quiet)));
        }
        pool.retire(2);
        pool.retire(1);
        for _ in 0..100_000 {
            if pool.grace.passed.load(Ordering::Acquire) > 0 {
                break;
            }
            epoch::pin().flush();
            std::thread::yield_now();
        }
        assert_eq!(pool.take(), Some((2, Reuse::Quiet)));
        assert_eq!(pool.used(), 4);
    }

    #[test]
    fn places_are_never_given_out_twice() {
        let pool = Pool::new(64).expect("memory");
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let pool = &pool;
                scope.spawn(move || {
                    let mut mine = Vec::new();
                    for step in 0..20_000u32 {
                        if (step ^ worker) % 3 != 0 && mine.len() < 16 {
                            mine.push(pool.take().expect("4 * 16 places").0);
                        } else if let Some(place) = mine.pop() {
                            pool.retire(place);
                        }
                    }
                    for place in mine {
                        pool.retire(place);
                    }
                });
            }
        });
        let mut places: Vec<u32> = std::iter::from_fn(|| pool.take()).map(|(place, _)| place).collect();
        places.sort_unstable();
        assert_eq!(places, (0..64).collect::<Vec<_>>());
    }
}
