//! The table behind all hash maps: from a key to the place of its element.
//!
//! A bucket is one word: the first element of its chain, a lock for writers, and a count of the elements that were ever
//! unlinked from it. An element is a run of words: its hash and the next element of the chain, then its key. Everything
//! lies outside the cage and elements are known by number, so that a reader that is led astray by a place used again
//! still reads words of this table; it notices by the bucket's count and starts again.
//!
//! A lookup takes no lock, allocates nothing and touches the bucket, then one run of words for each element of the chain.
//!
//! Source of the semantics: `kernel/bpf/hashtab.c`.
//!
//! Invariant: a place is rewritten only after the count of the bucket that it was in has grown.

#![expect(clippy::cast_possible_truncation, reason = "words are packed from 32-bit halves and taken apart again")]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crossbeam::utils::Backoff;

use super::Errno;
use super::check::Update;
use super::clock::Clock;
use super::pool::Pool;
use super::seed::{Seed, words};
use super::zeroed::zeroed;

/// In a bucket: a writer holds it.
const LOCK: u64 = 1 << 32;
/// In a bucket: one element unlinked.
const UNLINKED: u64 = 1 << 33;
/// In a bucket: the count of unlinked elements.
const COUNT_MASK: u64 = !(UNLINKED - 1);
/// Attempts to make room in an LRU map while other writers take it.
const EVICTIONS_MAX: u32 = 64;
/// Attempts to copy an element while writers replace it, before the copy is made under the lock.
const READS_MAX: u32 = 8;

/// What becomes of an element whose key is updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// A new element takes its place in the chain: readers see the old value or the new one.
    Replace,
    /// Its value is overwritten.
    Overwrite,
}

/// What a map that is full does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenFull {
    /// It refuses.
    Refuse,
    /// It gives up an element that was not used for long.
    Evict,
}

/// Where a writer puts a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A place that no reader sees yet.
    New(u32),
    /// The place of an element that readers see.
    Live(u32),
}

/// Sizes of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of a key.
    pub(super) key_len: u32,
    /// Elements at most.
    pub(super) max_entries: u32,
    /// Places beyond that: for elements that are being replaced, and for deleted ones that a run may still look at.
    pub(super) slack: u32,
    /// What becomes of an element whose key is updated.
    pub(super) renewal: Renewal,
    /// What a full map does.
    pub(super) when_full: WhenFull,
}

impl Shape {
    /// Places of the table.
    pub(super) fn place_count(self) -> u64 {
        u64::from(self.max_entries) + u64::from(self.slack)
    }

    fn bucket_count(self) -> u64 {
        u64::from(self.max_entries).next_power_of_two()
    }

    fn node_words(self) -> u64 {
        1 + u64::from(self.key_len).div_ceil(8)
    }

    /// Bytes that the table takes, outside the cage.
    pub(super) fn bytes(self) -> u64 {
        self.bucket_count() * 8 + self.place_count() * (self.node_words() * 8 + 5)
    }
}

/// From a key to a place.
#[derive(Debug)]
pub(super) struct HashTable {
    shape: Shape,
    seed: Seed,
    buckets: Box<[AtomicU64]>,
    nodes: Box<[AtomicU64]>,
    node_words: usize,
    pool: Pool,
    /// Elements, those included that are about to be linked.
    live: AtomicU32,
    clock: Option<Clock>,
}

/// A link of a chain: 0 ends it, else the place plus one.
fn follow(link: u64) -> Option<u32> {
    (link as u32).checked_sub(1)
}

fn link_to(place: u32) -> u64 {
    u64::from(place) + 1
}

/// A bucket that a writer holds; released when dropped.
struct Locked<'t> {
    cell: &'t AtomicU64,
    /// The bucket without the lock bit.
    word: u64,
}

impl Locked<'_> {
    fn first(&self) -> Option<u32> {
        follow(self.word)
    }

    fn set_first(&mut self, link: u64) {
        self.word = (self.word & COUNT_MASK) | link;
    }

    fn count_unlinked(&mut self) {
        self.word = self.word.wrapping_add(UNLINKED);
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.cell.store(self.word, Ordering::Release);
    }
}

/// Where a chain holds an element.
struct Found {
    place: u32,
    /// The element before it; `None` for the first.
    before: Option<u32>,
}

impl HashTable {
    /// An empty table of at most 2^32 - 1 places; `None` where there is no memory.
    pub(super) fn new(shape: Shape) -> Option<Self> {
        let place_count = u32::try_from(shape.place_count()).ok()?;
        let clock = match shape.when_full {
            WhenFull::Refuse => None,
            WhenFull::Evict => Some(Clock::new(place_count)?),
        };
        Some(Self {
            shape,
            seed: Seed::random(),
            buckets: zeroed(shape.bucket_count())?,
            nodes: zeroed(shape.place_count() * shape.node_words())?,
            node_words: usize::try_from(shape.node_words()).ok()?,
            pool: Pool::new(place_count)?,
            live: AtomicU32::new(0),
            clock,
        })
    }

    #[inline]
    fn bucket(&self, hash: u32) -> &AtomicU64 {
        &self.buckets[hash as usize & (self.buckets.len() - 1)]
    }

    #[inline]
    fn node(&self, place: u32) -> &[AtomicU64] {
        let start = place as usize * self.node_words;
        &self.nodes[start..start + self.node_words]
    }

    /// The link word of an element: its hash and what follows it.
    #[inline]
    fn link(&self, place: u32) -> &AtomicU64 {
        &self.nodes[place as usize * self.node_words]
    }

    #[inline]
    fn holds(&self, place: u32, key: &[u8]) -> bool {
        self.node(place)[1..].iter().zip(words(key)).all(|(cell, word)| cell.load(Ordering::Relaxed) == word)
    }

    fn key(&self, place: u32) -> Vec<u8> {
        let words = self.node(place)[1..].iter();
        let mut key: Vec<u8> = words.flat_map(|cell| cell.load(Ordering::Relaxed).to_le_bytes()).collect();
        key.truncate(self.shape.key_len as usize);
        key
    }

    /// The element of `key` in the chain that begins with `first`. Without the bucket's lock the answer counts only if
    /// the bucket's count is still the same afterwards.
    #[inline]
    fn search(&self, first: Option<u32>, hash: u32, key: &[u8]) -> Option<Found> {
        let mut before = None;
        let mut next = first;
        // A reader that was led astray could go round in a circle; no chain is longer than the table.
        for _ in 0..=self.shape.place_count() {
            let place = next?;
            let link = self.link(place).load(Ordering::Acquire);
            if (link >> 32) as u32 == hash && self.holds(place, key) {
                return Some(Found { place, before });
            }
            before = next;
            next = follow(link);
        }
        None
    }

    /// What `look` makes of a bucket's first element; `None` where something was unlinked from the bucket meanwhile.
    #[inline]
    fn try_observe<T>(bucket: &AtomicU64, look: impl FnOnce(Option<u32>) -> T) -> Option<T> {
        let seen = bucket.load(Ordering::Acquire);
        let answer = look(follow(seen));
        fence(Ordering::Acquire);
        let same = (bucket.load(Ordering::Relaxed) ^ seen) & COUNT_MASK == 0;
        same.then_some(answer)
    }

    /// What `look` makes of a bucket's first element while nothing is unlinked from the bucket. Every further attempt
    /// means that a writer got on.
    #[inline]
    fn observe<T>(bucket: &AtomicU64, look: impl Fn(Option<u32>) -> T) -> T {
        loop {
            if let Some(answer) = Self::try_observe(bucket, &look) {
                return answer;
            }
        }
    }

    /// The place of the element of `key`.
    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = self.seed.hash(key);
        Self::observe(self.bucket(hash), |first| self.search(first, hash, key).map(|found| found.place))
    }

    /// As [`HashTable::find`], for programs: an LRU map keeps what they look up.
    #[inline]
    pub(super) fn find_used(&self, key: &[u8]) -> Option<u32> {
        let place = self.find(key)?;
        self.mark(place);
        Some(place)
    }

    /// What `copy` makes of the place of `key`'s element while the element is there.
    pub(super) fn copy<T>(&self, key: &[u8], copy: impl Fn(u32) -> T) -> Option<T> {
        let hash = self.seed.hash(key);
        let bucket = self.bucket(hash);
        let look = |first| self.search(first, hash, key).map(|found| copy(found.place));
        for _ in 0..READS_MAX {
            if let Some(answer) = Self::try_observe(bucket, look) {
                return answer;
            }
        }
        let locked = Self::lock(bucket);
        look(locked.first())
    }

    fn lock(cell: &AtomicU64) -> Locked<'_> {
        let backoff = Backoff::new();
        loop {
            let word = cell.load(Ordering::Relaxed);
            let free = word & LOCK == 0;
            if free && cell.compare_exchange_weak(word, word | LOCK, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Locked { cell, word };
            }
            // Yields after a few rounds: the holder may not be running.
            backoff.snooze();
        }
    }

    /// Inserts or renews the element of `key`; `fill` writes its value.
    pub(super) fn update(
        &self,
        key: &[u8],
        update: Update,
        mut fill: impl FnMut(Target) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let hash = self.seed.hash(key);
        let bucket = self.bucket(hash);
        let mut counted = false;
        loop {
            let mut locked = Self::lock(bucket);
            let found = self.search(locked.first(), hash, key);
            let done = match (update.check(found.is_some()), found) {
                (Err(errno), _) => Err(errno),
                (Ok(()), Some(found)) => self.renew(&mut locked, hash, key, &found, &mut fill),
                (Ok(()), None) => {
                    if !counted && !self.count_one() {
                        drop(locked);
                        self.make_room()?;
                        counted = true;
                        continue;
                    }
                    counted = false;
                    let done = self.insert(&mut locked, hash, key, &mut fill);
                    if done.is_err() {
                        self.live.fetch_sub(1, Ordering::Relaxed);
                    }
                    done
                }
            };
            if counted {
                self.live.fetch_sub(1, Ordering::Relaxed);
            }
            return done;
        }
    }

    fn insert(
        &self,
        locked: &mut Locked<'_>,
        hash: u32,
        key: &[u8],
        fill: &mut impl FnMut(Target) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let place = self.place_for(fill)?;
        self.write_node(place, hash, key, locked.word & u64::from(u32::MAX));
        locked.set_first(link_to(place));
        Ok(())
    }

    fn renew(
        &self,
        locked: &mut Locked<'_>,
        hash: u32,
        key: &[u8],
        found: &Found,
        fill: &mut impl FnMut(Target) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if self.shape.renewal == Renewal::Overwrite {
            self.mark(found.place);
            return fill(Target::Live(found.place));
        }
        let place = self.place_for(fill)?;
        // In the same position of the chain, so that no reader passes between the old element and the new one.
        self.write_node(place, hash, key, self.link(found.place).load(Ordering::Relaxed) & u64::from(u32::MAX));
        self.mark(place);
        self.unlink(locked, found, link_to(place));
        Ok(())
    }

    /// Notes that an element was used.
    #[inline]
    fn mark(&self, place: u32) {
        if let Some(clock) = &self.clock {
            clock.mark(place);
        }
    }

    /// A place with the value already in it.
    fn place_for(&self, fill: &mut impl FnMut(Target) -> Result<(), Errno>) -> Result<u32, Errno> {
        // There is slack for as many writers as a host has; the kernel's answer to a bucket under contention.
        let (place, _) = self.pool.take().ok_or(Errno::EBUSY)?;
        if let Err(errno) = fill(Target::New(place)) {
            self.pool.retire(place);
            return Err(errno);
        }
        Ok(place)
    }

    fn write_node(&self, place: u32, hash: u32, key: &[u8], next: u64) {
        // Readers that look at what was here before must see that the count of its bucket has grown.
        fence(Ordering::Release);
        let node = self.node(place);
        for (cell, word) in node[1..].iter().zip(words(key)) {
            cell.store(word, Ordering::Relaxed);
        }
        node[0].store((u64::from(hash) << 32) | next, Ordering::Release);
        if let Some(clock) = &self.clock {
            clock.enter(place);
        }
    }

    /// Takes an element out of its chain, with `instead` in its position, and gives its place back.
    fn unlink(&self, locked: &mut Locked<'_>, found: &Found, instead: u64) {
        if let Some(clock) = &self.clock {
            clock.leave(found.place);
        }
        match found.before {
            None => locked.set_first(instead),
            Some(before) => {
                let link = self.link(before);
                let hash = link.load(Ordering::Relaxed) & !u64::from(u32::MAX);
                link.store(hash | instead, Ordering::Release);
            }
        }
        locked.count_unlinked();
        // Readers see the bucket without the element before the place can be used again.
        locked.cell.store(locked.word | LOCK, Ordering::Release);
        self.pool.retire(found.place);
    }

    fn next_link(&self, place: u32) -> u64 {
        self.link(place).load(Ordering::Relaxed) & u64::from(u32::MAX)
    }

    /// Removes the element of `key`.
    pub(super) fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        let hash = self.seed.hash(key);
        let mut locked = Self::lock(self.bucket(hash));
        let found = self.search(locked.first(), hash, key).ok_or(Errno::ENOENT)?;
        self.unlink(&mut locked, &found, self.next_link(found.place));
        self.live.fetch_sub(1, Ordering::Release);
        Ok(())
    }

    /// Counts one element more, unless the map is full.
    fn count_one(&self) -> bool {
        let one_more = |live| (live < self.shape.max_entries).then_some(live + 1);
        self.live.fetch_update(Ordering::Acquire, Ordering::Relaxed, one_more).is_ok()
    }

    /// Makes room for an element in a full map and counts it. The caller holds no bucket.
    fn make_room(&self) -> Result<(), Errno> {
        let Some(clock) = &self.clock else { return Err(Errno::E2BIG) };
        for _ in 0..EVICTIONS_MAX {
            if let Some(place) = clock.candidate(self.pool.used()) {
                self.evict(clock, place);
            }
            if self.count_one() {
                return Ok(());
            }
        }
        Err(Errno::ENOMEM)
    }

    fn evict(&self, clock: &Clock, place: u32) {
        let hash = (self.link(place).load(Ordering::Acquire) >> 32) as u32;
        let mut locked = Self::lock(self.bucket(hash));
        if !clock.is_live(place) {
            return;
        }
        let mut before = None;
        let mut next = locked.first();
        while next != Some(place) {
            let Some(other) = next else { return };
            before = next;
            next = follow(self.next_link(other));
        }
        let found = Found { place, before };
        self.unlink(&mut locked, &found, self.next_link(place));
        self.live.fetch_sub(1, Ordering::Release);
    }

    /// The key after `key`; the first for `None` and for a key that is not there.
    pub(super) fn next_key(&self, key: Option<&[u8]>) -> Option<Vec<u8>> {
        let mut start = 0;
        if let Some(key) = key {
            let hash = self.seed.hash(key);
            let after = Self::observe(self.bucket(hash), |first| {
                let found = self.search(first, hash, key)?;
                Some(follow(self.next_link(found.place)).map(|next| self.key(next)))
            });
            match after {
                Some(Some(next)) => return Some(next),
                Some(None) => start = (hash as usize & (self.buckets.len() - 1)) + 1,
                None => {}
            }
        }
        self.buckets[start..].iter().find_map(|bucket| Self::observe(bucket, |first| Some(self.key(first?))))
    }
}
