//! `BPF_MAP_TYPE_HASH`, and what all hash maps share.
//!
//! Source: `kernel/bpf/hashtab.c`.
//!
//! Invariant: a key of another length than the definition's is refused before it is looked for.

use std::fmt;
use std::sync::Arc;

use super::budget::Share;
use super::check::{self, ELEMENT_LEN_MAX, Locking, PERCPU_VALUE_LEN_MAX, Update, check_flags, check_len};
use super::check::{refuse, require};
use super::hash_table::{HashTable, Renewal, Shape, Target, WhenFull};
use super::values::{Sharing, Values};
use super::{Errno, HashLayout, Map, MapDef, MapEnv, MapError, MapKind, MapType, WorkerIndex};
use crate::limits::{BURST_MAX, GROWING_MAP_BYTES_MAX, MAP_KEY_LEN_MAX};

/// The type.
pub(super) static HASH: MapType = MapType { kind: MapKind::HASH, create };

fn create(def: &MapDef, env: MapEnv<'_>) -> Result<Arc<dyn Map>, MapError> {
    Ok(Arc::new(Hash::new(def, env, Sharing::Shared, WhenFull::Refuse)?))
}

/// Places for elements that are being replaced by threads that are no workers.
const SLACK_OTHERS: u64 = 16;
/// Bytes of values that slack beyond the necessary may take.
const SLACK_BYTES_MAX: u64 = 1 << 20;

/// A hash map of any of the four types.
pub(super) struct Hash {
    def: MapDef,
    table: HashTable,
    values: Values,
    /// An element's bytes of value for all workers, by eights: see [`Map::update_work`].
    update_work: u64,
    _share: Share,
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hash").field("def", &self.def).finish_non_exhaustive()
    }
}

impl Hash {
    pub(super) fn new(def: &MapDef, env: MapEnv<'_>, sharing: Sharing, when_full: WhenFull) -> Result<Self, MapError> {
        check_definition(def, sharing, when_full)?;
        let shape = Shape {
            key_len: def.key_len,
            max_entries: def.max_entries,
            room: room(def, env, sharing),
            slack: slack(def, env, sharing),
            renewal: match sharing {
                Sharing::Shared => Renewal::Replace,
                Sharing::PerWorker => Renewal::Overwrite,
            },
            when_full,
        };
        let share = env.take(def, shape.bytes())?;
        let values = Values::new(def, env, shape.place_count(), sharing)?;
        let Some(table) = HashTable::new(shape) else {
            return refuse(def, "no memory for its keys", Errno::ENOMEM);
        };
        let update_work = Values::bytes(def, env, 1, sharing) / 8;
        Ok(Self { def: def.clone(), table, values, update_work, _share: share })
    }

    /// How an update is to go on; `None` where the value was written under its lock, which is the one way to write it that
    /// leaves its timer, in the kernel too.
    fn check_update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<Option<Update>, Errno> {
        let (update, locking) = Update::parse_locking(flags, &self.def)?;
        if locking == Locking::Under
            && let Some(place) = self.table.find(key)
        {
            update.check(true)?;
            self.values.write_locked(place, value)?;
            return Ok(None);
        }
        Ok(Some(update))
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Errno> {
        check_len(key, u64::from(self.def.key_len))
    }
}

/// Elements that a map has memory for: all, unless it allocates them one by one and asks for more than anybody has.
fn room(def: &MapDef, env: MapEnv<'_>, sharing: Sharing) -> u32 {
    if def.flags & check::NO_PREALLOC == 0 {
        return def.max_entries;
    }
    let bytes = Values::bytes(def, env, 1, sharing).max(Shape::element_bytes(def.key_len));
    u32::try_from(GROWING_MAP_BYTES_MAX / bytes).map_or(def.max_entries, |count| count.clamp(1, def.max_entries))
}

/// Places beyond those: one for each writer at least; where values are small, as many as a burst deletes.
fn slack(def: &MapDef, env: MapEnv<'_>, sharing: Sharing) -> u32 {
    let element = Values::bytes(def, env, 1, sharing);
    let workers = u64::from(env.worker_count);
    let slack = workers + SLACK_OTHERS + (workers * BURST_MAX as u64).min(SLACK_BYTES_MAX / element);
    u32::try_from(slack).expect("some thousands")
}

/// What all hash maps ask of a definition.
pub(super) fn check_definition(def: &MapDef, sharing: Sharing, when_full: WhenFull) -> Result<(), MapError> {
    let lists = if when_full == WhenFull::Evict { check::NO_COMMON_LRU } else { 0 };
    check_flags(def, check::NO_PREALLOC | check::ACCESS | check::ZERO_SEED | check::NUMA_NODE | lists)?;
    if when_full == WhenFull::Evict && def.flags & check::NO_PREALLOC != 0 {
        return refuse(def, "an LRU map cannot do without preallocation", Errno::ENOTSUPP);
    }
    let of_one_node = def.flags & check::NUMA_NODE != 0;
    let of_every_processor = sharing == Sharing::PerWorker || def.flags & lists != 0;
    require(def, !(of_one_node && of_every_processor), "per-CPU values or lists on one node")?;
    require(def, def.max_entries != 0, "no entries")?;
    require(def, def.key_len != 0, "keys of no bytes")?;
    require(def, def.value_len != 0, "values of no bytes")?;
    if def.key_len > MAP_KEY_LEN_MAX {
        return refuse(def, "keys of more than 512 bytes", Errno::E2BIG);
    }
    if u64::from(def.key_len) + u64::from(def.value_len) >= ELEMENT_LEN_MAX - ELEMENT_HEAD_LEN {
        return refuse(def, "elements of more than 4 MiB", Errno::E2BIG);
    }
    if sharing == Sharing::PerWorker && def.value_stride() > PERCPU_VALUE_LEN_MAX {
        return refuse(def, "per-CPU values of more than 32 KiB", Errno::E2BIG);
    }
    Ok(())
}

/// Bytes of the kernel's `struct htab_elem`, which count to the element.
const ELEMENT_HEAD_LEN: u64 = 48;

impl Map for Hash {
    fn def(&self) -> &MapDef {
        &self.def
    }

    fn update_work(&self) -> u64 {
        self.update_work
    }

    #[inline]
    fn lookup(&self, worker: WorkerIndex, key: &[u8]) -> Result<Option<u32>, Errno> {
        self.check_key(key)?;
        Ok(self.table.find_used(key).and_then(|place| self.values.addr(place, worker)))
    }

    fn update(&self, worker: WorkerIndex, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        self.check_key(key)?;
        check_len(value, u64::from(self.def.value_len))?;
        let Some(update) = self.check_update(key, value, flags)? else { return Ok(()) };
        self.table.update(key, update, |target| match target {
            Target::New(place) => self.values.write_new(place, worker, value),
            Target::Live(place) => self.values.write(place, worker, value),
        })
    }

    fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.check_key(key)?;
        self.table.delete(key)
    }

    fn hash_layout(&self) -> Option<HashLayout> {
        self.table.layout(&self.values)
    }

    fn element_at(&self, addr: u32) -> Option<(Vec<u8>, u32)> {
        let place = self.values.place_at(addr)?;
        let key = self.table.key_at(place)?;
        Some((key, self.values.addr(place, WorkerIndex(0))?))
    }

    fn part_count(&self) -> Option<u32> {
        Some(self.table.chain_count())
    }

    fn part(&self, worker: WorkerIndex, part: u32) -> Vec<(Vec<u8>, u32)> {
        let chain = self.table.chain(part).into_iter();
        chain.filter_map(|(key, place)| Some((key, self.values.addr(place, worker)?))).collect()
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        key.map_or(Ok(()), |key| self.check_key(key))?;
        self.table.next_key(key).ok_or(Errno::ENOENT)
    }

    fn host_lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        self.check_key(key)?;
        self.table.copy(key, |place| self.values.read_host(place)).ok_or(Errno::ENOENT)
    }

    fn host_lookup_and_delete(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        self.check_key(key)?;
        self.table.take(key, |place| self.values.read_host(place))
    }

    fn host_lookup_locked(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        self.check_key(key)?;
        self.values.read_host_locked(self.table.find(key).ok_or(Errno::ENOENT)?)
    }

    fn host_update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        self.check_key(key)?;
        check_len(value, self.values.host_len())?;
        let Some(update) = self.check_update(key, value, flags)? else { return Ok(()) };
        self.table.update(key, update, |target| match target {
            Target::New(place) => self.values.write_new_host(place, value),
            Target::Live(place) => self.values.write_host(place, value),
        })
    }
}
