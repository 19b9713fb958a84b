//! How much memory outside the cage the maps of a host may take together.
//!
//! The cage bounds their values; this bounds their keys, chains, free lists, tables and queued values. What a map may come
//! to take is counted when it is made, as places are there for the asking from then on.
//!
//! Invariant: what a map took is given back when its last owner drops it, and once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::check::check_bytes;
use super::{MapDef, MapEnv, MapError};
use crate::limits::HOST_MAP_BYTES_MAX;

/// What the maps of a host take together, outside the cage.
#[derive(Debug, Default)]
pub struct Budget {
    used: AtomicU64,
}

/// What one map takes of it, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    /// Bytes that its maps may come to take.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(self: &Arc<Self>, def: &MapDef, bytes: u64) -> Result<Share, MapError> {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= HOST_MAP_BYTES_MAX);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(Share { budget: Arc::clone(self), bytes }),
            Err(used) => Err(MapError::Budget { name: def.name.clone(), bytes, left: HOST_MAP_BYTES_MAX - used }),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl MapEnv<'_> {
    /// Takes `bytes` for a map's memory outside the cage.
    pub(super) fn take(self, def: &MapDef, bytes: u64) -> Result<Share, MapError> {
        check_bytes(def, bytes)?;
        self.budget.take(def, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cage::Cage;
    use crate::limits::MAP_BYTES_MAX;
    use crate::maps::{self, MapKind};

    fn def(kind: MapKind, key_len: u32, value_len: u32, max_entries: u32) -> MapDef {
        MapDef { name: "flows".to_owned(), kind, key_len, value_len, max_entries, ..MapDef::default() }
    }

    #[test]
    fn maps_take_and_give_back_and_together_no_more_than_the_host_has() {
        let cage = Cage::new().expect("address space");
        let budget = Arc::default();
        let env = MapEnv { cage: &cage, worker_count: 1, budget: &budget };
        let queue = def(MapKind::QUEUE, 0, 1 << 20, 1 << 10);
        let count = HOST_MAP_BYTES_MAX / MAP_BYTES_MAX;
        let mut queues: Vec<_> = (0..count).map(|_| maps::create(&queue, env).expect("a gigabyte each")).collect();
        assert_eq!(budget.used(), HOST_MAP_BYTES_MAX);
        let small = def(MapKind::QUEUE, 0, 100, 10);
        assert_eq!(
            maps::create(&small, env).expect_err("nothing is left").to_string(),
            "map flows: it takes 1000 bytes of memory beside its values, and the maps of the host leave 0; unload \
             programs or lower `max_entries`"
        );
        drop(queues.pop());
        let kinds = [
            (def(MapKind::HASH, 4, 8, 1000), 1000),
            (def(MapKind::PROGRAM_ARRAY, 4, 4, 1 << 20), 24 << 20),
            (def(MapKind::RING_BUFFER, 0, 0, 4096), 2048),
            (MapDef { flags: 1, ..def(MapKind::LPM_TRIE, 8, 8, 1000) }, 1000),
        ];
        let before = budget.used();
        for (def, least) in kinds {
            let map = maps::create(&def, env).expect("room");
            assert!(budget.used() - before >= least, "{} takes {}", def.kind, budget.used() - before);
            drop(map);
            assert_eq!(budget.used(), before, "{}", def.kind);
        }
        let array = maps::create(&def(MapKind::ARRAY, 4, 8, 1000), env).expect("room");
        assert_eq!(budget.used(), before, "an array is in the cage alone");
        drop((array, queues));
        assert_eq!(budget.used(), 0);
    }
}
