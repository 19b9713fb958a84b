//! Elements by the handful: what `BPF_MAP_*_BATCH` do.
//!
//! Source: `kernel/bpf/syscall.c` (`generic_map_*_batch`); hashes of the kernel go by bucket instead of by key.
//!
//! Invariant: a batch does what its elements would do one by one.

use super::{Errno, MapKind};

/// A key with its value.
pub type Element = (Vec<u8>, Vec<u8>);

/// Elements of a map, in the order of a walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The elements.
    pub elements: Vec<Element>,
    /// The key behind which the walk goes on; `None` at its end.
    pub next: Option<Vec<u8>>,
}

/// How far a batch of changes came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Elements that were changed.
    pub count: usize,
    /// What the next one was answered.
    pub end: Result<(), Errno>,
}

impl Progress {
    /// Makes changes until one is refused.
    pub(super) fn of<T>(elements: &[T], mut change: impl FnMut(&T) -> Result<(), Errno>) -> Self {
        for (count, element) in elements.iter().enumerate() {
            if let Err(errno) = change(element) {
                return Self { count, end: Err(errno) };
            }
        }
        Self { count: elements.len(), end: Ok(()) }
    }
}

/// Types of hash maps.
pub(super) const HASHES: &[MapKind] =
    &[MapKind::HASH, MapKind::PERCPU_HASH, MapKind::LRU_HASH, MapKind::LRU_PERCPU_HASH];

/// Types without deletion that have batches.
const ARRAYS: &[MapKind] = &[MapKind::ARRAY, MapKind::PERCPU_ARRAY];

/// Types that are read by batches only: their values are no bytes to write.
const OUTER: &[MapKind] = &[MapKind::ARRAY_OF_MAPS, MapKind::HASH_OF_MAPS];

/// What is done by the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Lookup,
    Update,
    Delete,
    LookupAndDelete,
}

/// Whether a type does this by the batch.
pub(super) fn check(kind: MapKind, doing: Doing) -> Result<(), Errno> {
    let is_hash = HASHES.contains(&kind);
    let does = match doing {
        Doing::Lookup => is_hash || kind == MapKind::LPM_TRIE || ARRAYS.contains(&kind) || OUTER.contains(&kind),
        Doing::Update => is_hash || kind == MapKind::LPM_TRIE || ARRAYS.contains(&kind),
        Doing::Delete => is_hash || kind == MapKind::LPM_TRIE,
        Doing::LookupAndDelete => is_hash,
    };
    if does { Ok(()) } else { Err(Errno::ENOTSUPP) }
}
