//! The table behind all hash maps: from a key to the place of its element.
//!
//! Buckets and elements lie outside the cage and elements are known by number, so that a reader that is led astray by a
//! place used again still reads words of this table; it notices by its bucket's count and starts again. A lookup takes no
//! lock, allocates nothing and touches the bucket, then one run of words for each element of the chain.
//!
//! Source of the semantics: `kernel/bpf/hashtab.c`.
//!
//! Invariant: a place is rewritten only after the count of the bucket that it was in has grown.

use std::sync::atomic::{AtomicU32, Ordering};

use super::bucket::{Bucket, COUNT_MASK, Locked};
use super::check::Update;
use super::clock::{Clock, USED};
use super::nodes::{Found, Nodes};
use super::pool::Pool;
use super::seed::{Seed, one_word, two_words, words};
use super::values::Values;
use super::zeroed::zeroed;
use super::{Errno, HashLayout, WorkerIndex};

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
    /// Elements that there is memory for, `max_entries` or fewer.
    pub(super) room: u32,
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
        u64::from(self.room) + u64::from(self.slack)
    }

    fn bucket_count(self) -> u64 {
        u64::from(self.room).next_power_of_two()
    }

    /// Bytes that the table takes, outside the cage.
    pub(super) fn bytes(self) -> u64 {
        self.bucket_count() * 8 + self.place_count() * Self::element_bytes(self.key_len)
    }

    /// Those of one element, without its bucket: its node, its link among free places, its mark in an LRU map.
    pub(super) fn element_bytes(key_len: u32) -> u64 {
        Nodes::node_len(key_len) + 5
    }
}

/// From a key to a place.
#[derive(Debug)]
pub(super) struct HashTable {
    shape: Shape,
    seed: Seed,
    buckets: Box<[Bucket]>,
    nodes: Nodes,
    pool: Pool,
    /// Elements, those included that are about to be linked.
    live: AtomicU32,
    clock: Option<Clock>,
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
            nodes: Nodes::new(shape.place_count(), shape.key_len)?,
            pool: Pool::new(place_count)?,
            live: AtomicU32::new(0),
            clock,
        })
    }

    #[inline]
    fn bucket_index(&self, hash: u32) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    #[inline]
    fn bucket(&self, hash: u32) -> &Bucket {
        &self.buckets[self.bucket_index(hash)]
    }

    /// The place of the element of `key`.
    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        // Most keys are short, and a loop whose length is known costs a third.
        match key.len() {
            0..=8 => self.find_words(one_word(key).into_iter()),
            9..=16 => self.find_words(two_words(key).into_iter()),
            _ => self.find_words(words(key)),
        }
    }

    #[inline]
    fn find_words(&self, key: impl Iterator<Item = u64> + Clone) -> Option<u32> {
        let hash = self.seed.hash(key.clone());
        let look = |first| self.nodes.search(first, hash, key.clone()).map(|found| found.place);
        self.bucket(hash).observe(look)
    }

    /// Key of the element in a place, if one is there.
    pub(super) fn key_at(&self, place: u32) -> Option<Vec<u8>> {
        if u64::from(place) >= self.shape.place_count() {
            return None;
        }
        let key = self.nodes.key(place);
        (self.find(&key) == Some(place)).then_some(key)
    }

    /// The layout of a map with this table and these values.
    pub(super) fn layout(&self, values: &Values) -> Option<HashLayout> {
        let node_len = u32::try_from(Nodes::node_len(self.shape.key_len)).ok()?;
        // A link is a place plus one.
        let before = |start: u64, len: u32| start.wrapping_sub(len.into());
        Some(HashLayout {
            key_len: self.shape.key_len,
            seed: self.seed.secret(),
            buckets: self.buckets.as_ptr().addr() as u64,
            bucket_mask: u32::try_from(self.buckets.len() - 1).ok()?,
            count_mask: COUNT_MASK,
            nodes: before(self.nodes.words().addr() as u64, node_len),
            node_len,
            marks: self.clock.as_ref().map(|clock| before(clock.marks().addr() as u64, 1)),
            used: USED,
            addr: values.addr(0, WorkerIndex(0))?.checked_sub(values.stride())?,
            stride: values.stride(),
            worker_stride: values.worker_stride(),
        })
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
        let hash = self.seed.hash(words(key));
        let bucket = self.bucket(hash);
        let look = |first| self.nodes.search(first, hash, words(key)).map(|found| copy(found.place));
        for _ in 0..READS_MAX {
            if let Some(answer) = bucket.try_observe(look) {
                return answer;
            }
        }
        let locked = bucket.lock();
        look(locked.first())
    }

    /// Inserts or renews the element of `key`; `fill` writes its value.
    pub(super) fn update(
        &self,
        key: &[u8],
        update: Update,
        mut fill: impl FnMut(Target) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let hash = self.seed.hash(words(key));
        let bucket = self.bucket(hash);
        let mut counted = false;
        loop {
            let mut locked = bucket.lock();
            let found = self.nodes.search(locked.first(), hash, words(key));
            let done = match (update.check(found.is_some()), found) {
                (Err(errno), _) => Err(errno),
                (Ok(()), Some(found)) => self.renew(&mut locked, hash, key, found, &mut fill),
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
        self.write_node(place, hash, key, locked.first());
        locked.set_first(Some(place));
        Ok(())
    }

    fn renew(
        &self,
        locked: &mut Locked<'_>,
        hash: u32,
        key: &[u8],
        found: Found,
        fill: &mut impl FnMut(Target) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if self.shape.renewal == Renewal::Overwrite {
            self.mark(found.place);
            return fill(Target::Live(found.place));
        }
        let place = self.place_for(fill)?;
        // In the same position of the chain, so that no reader passes between the old element and the new one.
        self.write_node(place, hash, key, self.nodes.next(found.place));
        self.mark(place);
        self.unlink(locked, found, Some(place));
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

    fn write_node(&self, place: u32, hash: u32, key: &[u8], next: Option<u32>) {
        self.nodes.write(place, hash, key, next);
        if let Some(clock) = &self.clock {
            clock.enter(place);
        }
    }

    /// Takes an element out of its chain, with `instead` in its position, and gives its place back.
    fn unlink(&self, locked: &mut Locked<'_>, found: Found, instead: Option<u32>) {
        if let Some(clock) = &self.clock {
            clock.leave(found.place);
        }
        match found.before {
            None => locked.set_first(instead),
            Some(before) => self.nodes.set_next(before, instead),
        }
        locked.publish_unlinked();
        self.pool.retire(found.place);
    }

    /// Removes the element of `key`.
    pub(super) fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.take(key, |_| ())
    }

    /// Removes the element of `key` and gives what `copy` made of its place before.
    pub(super) fn take<T>(&self, key: &[u8], copy: impl FnOnce(u32) -> T) -> Result<T, Errno> {
        let hash = self.seed.hash(words(key));
        let mut locked = self.bucket(hash).lock();
        let found = self.nodes.search(locked.first(), hash, words(key)).ok_or(Errno::ENOENT)?;
        let copied = copy(found.place);
        self.unlink(&mut locked, found, self.nodes.next(found.place));
        self.live.fetch_sub(1, Ordering::Release);
        Ok(copied)
    }

    /// Counts one element more, unless the map is full.
    fn count_one(&self) -> bool {
        let one_more = |live| (live < self.shape.room).then_some(live + 1);
        self.live.fetch_update(Ordering::Acquire, Ordering::Relaxed, one_more).is_ok()
    }

    /// Makes room for an element in a full map and counts it. The caller holds no bucket.
    fn make_room(&self) -> Result<(), Errno> {
        let Some(clock) = &self.clock else {
            let is_full = self.shape.room == self.shape.max_entries;
            return Err(if is_full { Errno::E2BIG } else { Errno::ENOMEM });
        };
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
        let mut locked = self.bucket(self.nodes.hash(place)).lock();
        // It may have gone meanwhile, and the place may hold an element of another bucket.
        let found = self.nodes.position(locked.first(), place).filter(|_| clock.is_live(place));
        if let Some(found) = found {
            self.unlink(&mut locked, found, self.nodes.next(place));
            self.live.fetch_sub(1, Ordering::Release);
        }
    }

    /// Chains of elements, one a bucket.
    pub(super) fn chain_count(&self) -> u32 {
        u32::try_from(self.buckets.len()).expect("at most 2^31 buckets fit into the bound of a map")
    }

    /// The elements of a chain: keys and places.
    pub(super) fn chain(&self, index: u32) -> Vec<(Vec<u8>, u32)> {
        let Some(bucket) = self.buckets.get(index as usize) else { return Vec::new() };
        let list = |first: Option<u32>| {
            let places = std::iter::successors(first, |place| self.nodes.next(*place));
            // A reader that is led astray sees no more than there is.
            let places = places.take(self.shape.room as usize);
            places.map(|place| (self.nodes.key(place), place)).collect()
        };
        for _ in 0..READS_MAX {
            if let Some(elements) = bucket.try_observe(list) {
                return elements;
            }
        }
        list(bucket.lock().first())
    }

    /// The key after `key`; the first for `None` and for a key that is not there.
    pub(super) fn next_key(&self, key: Option<&[u8]>) -> Option<Vec<u8>> {
        let mut start = 0;
        if let Some(key) = key {
            let hash = self.seed.hash(words(key));
            let after = self.bucket(hash).observe(|first| {
                let found = self.nodes.search(first, hash, words(key))?;
                Some(self.nodes.next(found.place).map(|next| self.nodes.key(next)))
            });
            match after {
                Some(Some(next)) => return Some(next),
                Some(None) => start = self.bucket_index(hash) + 1,
                None => {}
            }
        }
        self.buckets[start..].iter().find_map(|bucket| bucket.observe(|first| Some(self.nodes.key(first?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(max_entries: u32) -> HashTable {
        table_with_room(max_entries, max_entries)
    }

    fn table_with_room(max_entries: u32, room: u32) -> HashTable {
        let (renewal, when_full) = (Renewal::Replace, WhenFull::Refuse);
        HashTable::new(Shape { key_len: 4, max_entries, room, slack: 8, renewal, when_full }).expect("memory")
    }

    fn longest_chain(table: &HashTable) -> usize {
        let lens = table.buckets.iter().map(|bucket| {
            let first = bucket.observe(|first| first);
            std::iter::successors(first, |place| table.nodes.next(*place)).count()
        });
        lens.max().unwrap_or(0)
    }

    /// Linux c0203475765f: whoever knew the hash function filled one bucket.
    #[test]
    fn regression_55_keys_that_collide_in_one_map_do_not_in_another() {
        let (attacked, other) = (table(1024), table(1024));
        let colliding = (0..u32::MAX).map(u32::to_ne_bytes).filter(|key| attacked.seed.hash(words(key)) % 1024 == 0);
        for key in colliding.take(300) {
            attacked.update(&key, Update::Any, |_| Ok(())).expect("room");
            other.update(&key, Update::Any, |_| Ok(())).expect("room");
        }
        assert_eq!(longest_chain(&attacked), 300);
        assert!(longest_chain(&other) < 10, "as many as chance puts together");
    }

    #[test]
    fn a_table_that_is_full_and_one_that_has_no_memory_say_which() {
        for (max_entries, errno) in [(3, Errno::E2BIG), (1 << 30, Errno::ENOMEM)] {
            let table = table_with_room(max_entries, 3);
            for key in 0..3u32 {
                assert_eq!(table.update(&key.to_ne_bytes(), Update::Any, |_| Ok(())), Ok(()));
            }
            assert_eq!(table.update(&[9; 4], Update::Any, |_| Ok(())), Err(errno));
            assert_eq!(table.update(&[0; 4], Update::Any, |_| Ok(())), Ok(()), "an element that is there is renewed");
            assert_eq!(table.delete(&[0; 4]), Ok(()));
            assert_eq!(table.update(&[9; 4], Update::Any, |_| Ok(())), Ok(()));
        }
    }

    #[test]
    fn an_element_that_cannot_be_filled_leaves_nothing_behind() {
        let table = table(1);
        for _ in 0..100 {
            assert_eq!(table.update(&[1; 4], Update::Any, |_| Err(Errno::EPERM)), Err(Errno::EPERM));
        }
        assert_eq!(table.find(&[1; 4]), None);
        assert_eq!(table.update(&[1; 4], Update::Any, |_| Ok(())), Ok(()));
        for _ in 0..100 {
            assert_eq!(table.update(&[1; 4], Update::Any, |_| Err(Errno::EPERM)), Err(Errno::EPERM));
        }
        assert_eq!(table.update(&[1; 4], Update::Any, |_| Ok(())), Ok(()));
        assert_eq!(table.update(&[2; 4], Update::Any, |_| Ok(())), Err(Errno::E2BIG));
    }
}
