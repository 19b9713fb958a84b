//! The elements of a hash table: for each place a run of words, its hash and the next element of its chain, then its key.
//!
//! Invariant: a walk along chains reads words of the table and ends, whatever writers do meanwhile.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::bucket::{follow, link_to};
use super::seed::words;
use super::zeroed::zeroed;

/// The next element, in the first word; the hash is above it.
const NEXT_MASK: u64 = u32::MAX as u64;

/// The elements of a hash table.
#[derive(Debug)]
pub(super) struct Nodes {
    words: Box<[AtomicU64]>,
    node_words: usize,
    key_len: usize,
    place_count: u64,
}

/// Where a chain holds an element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Its place.
    pub(super) place: u32,
    /// The element before it; `None` for the first.
    pub(super) before: Option<u32>,
}

impl Nodes {
    /// Bytes of one element.
    pub(super) fn node_len(key_len: u32) -> u64 {
        8 + u64::from(key_len).next_multiple_of(8)
    }

    /// Elements at `place_count` places; `None` where there is no memory.
    pub(super) fn new(place_count: u64, key_len: u32) -> Option<Self> {
        let node_words = Self::node_len(key_len) / 8;
        Some(Self {
            words: zeroed(place_count * node_words)?,
            node_words: usize::try_from(node_words).ok()?,
            key_len: key_len as usize,
            place_count,
        })
    }

    #[inline]
    fn node(&self, place: u32) -> &[AtomicU64] {
        let start = place as usize * self.node_words;
        &self.words[start..start + self.node_words]
    }

    #[inline]
    fn head(&self, place: u32) -> &AtomicU64 {
        &self.words[place as usize * self.node_words]
    }

    /// Host address of the first word.
    pub(super) fn words(&self) -> *const AtomicU64 {
        self.words.as_ptr()
    }

    /// The element behind this one in its chain.
    #[inline]
    pub(super) fn next(&self, place: u32) -> Option<u32> {
        follow(self.head(place).load(Ordering::Acquire))
    }

    /// Sets the element behind this one; for the writer that holds the bucket.
    pub(super) fn set_next(&self, place: u32, next: Option<u32>) {
        let head = self.head(place);
        head.store(head.load(Ordering::Relaxed) & !NEXT_MASK | link_to(next), Ordering::Release);
    }

    /// The hash of an element's key.
    pub(super) fn hash(&self, place: u32) -> u32 {
        u32::try_from(self.head(place).load(Ordering::Acquire) >> 32).expect("half a word")
    }

    #[inline]
    fn holds(&self, place: u32, key: impl Iterator<Item = u64>) -> bool {
        self.node(place)[1..].iter().zip(key).all(|(cell, word)| cell.load(Ordering::Relaxed) == word)
    }

    /// An element's key.
    pub(super) fn key(&self, place: u32) -> Vec<u8> {
        let words = self.node(place)[1..].iter();
        let mut key: Vec<u8> = words.flat_map(|cell| cell.load(Ordering::Relaxed).to_le_bytes()).collect();
        key.truncate(self.key_len);
        key
    }

    /// Writes an element that no reader is meant to see yet. One that looks at what was here before must notice that the
    /// count of its bucket has grown.
    pub(super) fn write(&self, place: u32, hash: u32, key: &[u8], next: Option<u32>) {
        fence(Ordering::Release);
        let node = self.node(place);
        for (cell, word) in node[1..].iter().zip(words(key)) {
            cell.store(word, Ordering::Relaxed);
        }
        node[0].store((u64::from(hash) << 32) | link_to(next), Ordering::Release);
    }

    /// The element of a key, given by its [`words`], in the chain that begins with `first`.
    #[inline]
    pub(super) fn search(
        &self,
        first: Option<u32>,
        hash: u32,
        key: impl Iterator<Item = u64> + Clone,
    ) -> Option<Found> {
        let mut before = None;
        let mut next = first;
        // No chain is longer than the table; a reader that was led astray could go on for longer.
        for _ in 0..self.place_count {
            let place = next?;
            let head = self.head(place).load(Ordering::Acquire);
            if head >> 32 == u64::from(hash) && self.holds(place, key.clone()) {
                return Some(Found { place, before });
            }
            before = next;
            next = follow(head);
        }
        None
    }

    /// Where the chain that begins with `first` holds the element at a place.
    pub(super) fn position(&self, first: Option<u32>, place: u32) -> Option<Found> {
        let mut before = None;
        let mut next = first;
        while next != Some(place) {
            before = Some(next?);
            next = self.next(next?);
        }
        Some(Found { place, before })
    }
}
