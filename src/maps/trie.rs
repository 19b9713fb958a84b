//! The tree behind LPM tries: from a prefix to the place of its element.
//!
//! A node is a run of words: its prefix length and whether it only branches, its two children, then the bytes of its
//! prefix. Nodes lie outside the cage and are known by number. One writer at a time changes the tree, each change visible
//! at once through one link; readers take no lock. A node that was taken out is used again after a grace period; where
//! none is left, it is used early and the tree counts that, so that readers notice and look again, and after some attempts
//! wait for the writer.
//!
//! The shape and the order of keys are those of `kernel/bpf/lpm_trie.c`: a node that only branches has two children, and
//! a walk visits both subtrees of a node before the node itself.
//!
//! Invariant: along every path prefix lengths grow, and no link leads to a place that is free.

#![expect(clippy::cast_possible_truncation, reason = "words are packed from 32-bit halves and taken apart again")]

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard};

use super::Errno;
use super::check::Update;
use super::pool::{Pool, Reuse};
use super::prefix::{Bits, Prefix};
use super::zeroed::zeroed;

/// In the first word of a node: it only branches, its prefix is nobody's key.
const BRANCHES: u64 = 1 << 32;
/// Words of a node before its prefix.
const HEAD_WORDS: usize = 2;
/// Attempts of a reader while places are used early, before it keeps writers out.
const READS_MAX: u32 = 8;

/// Where a link lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Root,
    Child { place: u32, side: usize },
}

/// The way to a node: the links followed, and the node at the end if there is one.
struct Path {
    /// The link to the node.
    at: At,
    /// The link to the node that holds `at`.
    above: At,
    node: Option<u32>,
    /// Bits that the prefix and the node have in common.
    matched: u32,
}

/// From a prefix to a place.
#[derive(Debug)]
pub(super) struct Trie {
    len_max: u32,
    max_entries: u32,
    nodes: Box<[AtomicU64]>,
    node_words: usize,
    root: AtomicU64,
    pool: Pool,
    /// Places used early.
    early: AtomicU64,
    /// Elements; writers hold it.
    count: Mutex<u32>,
}

impl Trie {
    /// Places of a tree: as many branching nodes as elements, and `slack` more.
    pub(super) fn place_count(max_entries: u32, slack: u32) -> u64 {
        u64::from(max_entries) * 2 + u64::from(slack)
    }

    /// Bytes that the tree takes, outside the cage, for prefixes of up to `byte_count` bytes.
    pub(super) fn bytes(max_entries: u32, slack: u32, byte_count: u32) -> u64 {
        Self::place_count(max_entries, slack) * (u64::from(byte_count).div_ceil(8) * 8 + HEAD_WORDS as u64 * 8 + 4)
    }

    /// An empty tree of fewer than 2^32 places; `None` where there is no memory. There must be slack.
    pub(super) fn new(max_entries: u32, slack: u32, byte_count: u32) -> Option<Self> {
        let place_count = Self::place_count(max_entries, slack);
        let node_words = HEAD_WORDS + byte_count.div_ceil(8) as usize;
        Some(Self {
            len_max: byte_count * 8,
            max_entries,
            nodes: zeroed(place_count * node_words as u64)?,
            node_words,
            root: AtomicU64::new(0),
            pool: Pool::new(u32::try_from(place_count).ok()?)?,
            early: AtomicU64::new(0),
            count: Mutex::new(0),
        })
    }

    /// Bits of a prefix at most.
    pub(super) fn len_max(&self) -> u32 {
        self.len_max
    }

    fn node(&self, place: u32) -> &[AtomicU64] {
        let start = place as usize * self.node_words;
        &self.nodes[start..start + self.node_words]
    }

    fn head(&self, place: u32) -> u64 {
        self.node(place)[0].load(Ordering::Acquire)
    }

    fn len(&self, place: u32) -> u32 {
        self.head(place) as u32
    }

    fn branches(&self, place: u32) -> bool {
        self.head(place) & BRANCHES != 0
    }

    /// Both links of a node: 0 for none, else the place plus one.
    fn links(&self, place: u32) -> [u32; 2] {
        let links = self.node(place)[1].load(Ordering::Acquire);
        [links as u32, (links >> 32) as u32]
    }

    fn child(&self, place: u32, side: usize) -> Option<u32> {
        self.links(place)[side].checked_sub(1)
    }

    fn follow(&self, at: At) -> Option<u32> {
        match at {
            At::Root => (self.root.load(Ordering::Acquire) as u32).checked_sub(1),
            At::Child { place, side } => self.child(place, side),
        }
    }

    /// Sets a link; for the writer.
    fn set(&self, at: At, target: Option<u32>) {
        let link = target.map_or(0, |place| place + 1);
        match at {
            At::Root => self.root.store(u64::from(link), Ordering::Release),
            At::Child { place, side } => {
                let mut links = self.links(place);
                links[side] = link;
                self.set_links(place, links);
            }
        }
    }

    fn set_links(&self, place: u32, links: [u32; 2]) {
        self.node(place)[1].store(u64::from(links[0]) | u64::from(links[1]) << 32, Ordering::Release);
    }

    /// How many bits a node's prefix and `prefix` have in common, at most the shorter one's length.
    #[inline]
    fn matched<B: Bits>(node: &[AtomicU64], prefix: Prefix<B>) -> u32 {
        let limit = (node[0].load(Ordering::Acquire) as u32).min(prefix.len);
        let mut bits = 0;
        for (index, cell) in node[HEAD_WORDS..].iter().enumerate() {
            let differ = (cell.load(Ordering::Relaxed) ^ prefix.bits.word(index)).leading_zeros();
            bits += differ;
            if differ < 64 || bits >= limit {
                break;
            }
        }
        bits.min(limit)
    }

    /// What `copy` makes of the place of the longest prefix of `prefix`, while it is in the tree. The caller holds an
    /// epoch guard.
    pub(super) fn longest<T>(&self, prefix: Prefix<&[u8]>, copy: impl Fn(u32) -> T) -> Option<T> {
        // Addresses of IP are short, and a loop whose length is known costs half.
        match self.node_words - HEAD_WORDS {
            1 => self.longest_words(prefix.words::<1>(), copy),
            2 => self.longest_words(prefix.words::<2>(), copy),
            _ => self.longest_words(prefix, copy),
        }
    }

    #[inline]
    fn longest_words<B: Bits, T>(&self, prefix: Prefix<B>, copy: impl Fn(u32) -> T) -> Option<T> {
        for _ in 0..READS_MAX {
            let early = self.early.load(Ordering::Acquire);
            let answer = self.search(prefix).map(&copy);
            fence(Ordering::Acquire);
            if self.early.load(Ordering::Relaxed) == early {
                return answer;
            }
        }
        let _writers_wait = self.lock();
        self.search(prefix).map(copy)
    }

    #[inline]
    fn search<B: Bits>(&self, prefix: Prefix<B>) -> Option<u32> {
        let mut found = None;
        let mut next = self.follow(At::Root);
        // Prefix lengths grow; counting down ends the walk of a reader that was led astray, too.
        for _ in 0..=self.len_max {
            let Some(place) = next else { break };
            let node = self.node(place);
            let head = node[0].load(Ordering::Acquire);
            let len = head as u32;
            let matched = Self::matched(node, prefix);
            if matched == self.len_max {
                return Some(place);
            }
            if matched < len {
                break;
            }
            if head & BRANCHES == 0 {
                found = Some(place);
            }
            let links = node[1].load(Ordering::Acquire);
            next = ((links >> (32 * prefix.bits.bit(len))) as u32).checked_sub(1);
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, u32> {
        self.count.lock().expect("nothing panics while it holds the lock")
    }

    /// The way towards `prefix`: to the node that holds it, to the first that is no prefix of it, or to an empty link.
    fn path(&self, prefix: Prefix<&[u8]>) -> Path {
        let mut path = Path { at: At::Root, above: At::Root, node: None, matched: 0 };
        loop {
            path.node = self.follow(path.at);
            let Some(place) = path.node else { return path };
            path.matched = Self::matched(self.node(place), prefix);
            let len = self.len(place);
            if path.matched != len || len == prefix.len {
                return path;
            }
            path.above = path.at;
            path.at = At::Child { place, side: prefix.bits.bit(len) };
        }
    }

    /// Inserts or replaces the element of `prefix`; `fill` writes its value into a place that no reader sees.
    ///
    /// # Errors
    /// `EEXIST`, `ENOENT` by `update`, `ENOSPC` when the tree is full, or what `fill` answers.
    pub(super) fn update(
        &self,
        prefix: Prefix<&[u8]>,
        update: Update,
        fill: impl FnOnce(u32) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut count = self.lock();
        let path = self.path(prefix);
        let exact = path.node.filter(|place| path.matched == self.len(*place));
        let exists = exact.is_some_and(|place| !self.branches(place));
        update.check(exists)?;
        if !exists && *count == self.max_entries {
            return Err(Errno::ENOSPC);
        }
        let place = self.take();
        if let Err(errno) = fill(place) {
            self.pool.retire(place);
            return Err(errno);
        }
        *count += u32::from(!exists);
        match (path.node, exact) {
            (None, _) => {
                self.write(place, prefix.len, prefix, [0; 2]);
                self.set(path.at, Some(place));
            }
            (Some(_), Some(old)) => {
                self.write(place, prefix.len, prefix, self.links(old));
                self.set(path.at, Some(place));
                self.pool.retire(old);
            }
            (Some(below), None) => self.insert_above(place, prefix, &path, below),
        }
        Ok(())
    }

    /// Puts a new node over `below`, whose prefix differs from the new one or is longer.
    fn insert_above(&self, place: u32, prefix: Prefix<&[u8]>, path: &Path, below: u32) {
        let below_side = self.bit(below, path.matched);
        let mut links = [0; 2];
        links[below_side] = below + 1;
        if path.matched == prefix.len {
            self.write(place, prefix.len, prefix, links);
            self.set(path.at, Some(place));
            return;
        }
        self.write(place, prefix.len, prefix, [0; 2]);
        links[1 - below_side] = place + 1;
        let branch = self.take();
        self.write(branch, path.matched, prefix, links);
        let head = &self.node(branch)[0];
        head.store(head.load(Ordering::Relaxed) | BRANCHES, Ordering::Release);
        self.set(path.at, Some(branch));
    }

    fn bit(&self, place: u32, index: u32) -> usize {
        let word = self.node(place)[HEAD_WORDS + index as usize / 64].load(Ordering::Relaxed);
        usize::from(word >> (63 - index % 64) & 1 != 0)
    }

    /// A free place; for the writer.
    fn take(&self) -> u32 {
        // Elements and branches are fewer than places, and only the writer, of which there is one, holds others.
        let (place, reuse) = self.pool.take().expect("there are more places than nodes");
        if reuse == Reuse::Early {
            self.early.fetch_add(1, Ordering::Relaxed);
            // Readers that see what is written from here on must see the count, too.
            fence(Ordering::Release);
        }
        place
    }

    fn write(&self, place: u32, len: u32, prefix: Prefix<&[u8]>, links: [u32; 2]) {
        let node = self.node(place);
        for (index, cell) in node[HEAD_WORDS..].iter().enumerate() {
            cell.store(prefix.bits.word(index), Ordering::Relaxed);
        }
        node[0].store(u64::from(len), Ordering::Relaxed);
        self.set_links(place, links);
    }

    /// Removes the element of `prefix`.
    ///
    /// # Errors
    /// `ENOENT`.
    pub(super) fn delete(&self, prefix: Prefix<&[u8]>) -> Result<(), Errno> {
        let mut count = self.lock();
        let path = self.path(prefix);
        let exact = path.node.filter(|place| path.matched == self.len(*place) && !self.branches(*place));
        let place = exact.ok_or(Errno::ENOENT)?;
        *count -= 1;
        let [left, right] = [0, 1].map(|side| self.child(place, side));
        match (left, right, path.at) {
            (Some(_), Some(_), _) => {
                self.node(place)[0].fetch_or(BRANCHES, Ordering::Release);
                return Ok(());
            }
            (None, None, At::Child { place: parent, side }) if self.branches(parent) => {
                // A branch with one child is none: the sibling takes its position.
                self.set(path.above, self.child(parent, 1 - side));
                self.pool.retire(parent);
            }
            (only, None, _) | (None, only, _) => self.set(path.at, only),
        }
        self.pool.retire(place);
        Ok(())
    }

    /// The key after `prefix`, children before parents; the first for `None` and for a prefix that is not there.
    pub(super) fn next_key(&self, prefix: Option<Prefix<&[u8]>>) -> Option<Vec<u8>> {
        let _writers_wait = self.lock();
        let mut ways = Vec::new();
        let mut next = self.follow(At::Root);
        let Some(prefix) = prefix else { return self.first_below(next) };
        while let Some(place) = next {
            let matched = Self::matched(self.node(place), prefix);
            let len = self.len(place);
            if matched != len {
                return self.first_below(self.follow(At::Root));
            }
            if len == prefix.len {
                if self.branches(place) {
                    return self.first_below(self.follow(At::Root));
                }
                return self.first_after(&ways);
            }
            let side = prefix.bits.bit(len);
            ways.push((place, side));
            next = self.child(place, side);
        }
        self.first_below(self.follow(At::Root))
    }

    /// The key that follows the subtree at the end of these ways (a node and the side that was taken, from the root on).
    fn first_after(&self, ways: &[(u32, usize)]) -> Option<Vec<u8>> {
        for (place, side) in ways.iter().rev() {
            if *side == 0
                && let Some(sibling) = self.child(*place, 1)
            {
                return self.first_below(Some(sibling));
            }
            if !self.branches(*place) {
                return Some(self.key(*place));
            }
        }
        None
    }

    /// The first key of a subtree: leftmost and deepest.
    fn first_below(&self, top: Option<u32>) -> Option<Vec<u8>> {
        let mut place = top?;
        while let Some(below) = self.child(place, 0).or_else(|| self.child(place, 1)) {
            place = below;
        }
        Some(self.key(place))
    }

    fn key(&self, place: u32) -> Vec<u8> {
        let words = self.node(place)[HEAD_WORDS..].iter();
        let mut key = self.len(place).to_ne_bytes().to_vec();
        key.extend(words.flat_map(|cell| cell.load(Ordering::Relaxed).to_be_bytes()));
        key.truncate(4 + self.len_max as usize / 8);
        key
    }
}
