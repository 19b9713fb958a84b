//! Maps: what programs remember, one file a type.
//!
//! A map type is one [`MapType`] value in its file plus one line in [`MAP_TYPES`]. Values lie in the cage, where programs
//! reach them by guest address; keys, chains, free lists and program arrays lie outside. Lookups take no lock; a deleted
//! element's place is used again after every worker has passed a quiet point (the end of a burst: workers keep a
//! `crossbeam::epoch` guard for that long).
//!
//! Semantics and errno are the kernel's (`kernel/bpf/{arraymap,hashtab,lpm_trie,ringbuf}.c`).
//!
//! Invariant: the host never reads a key, a length or a link from the cage after a program could have changed it.

mod absent;
mod array;
mod array_of_maps;
mod batch;
mod bloom_filter;
mod bucket;
mod budget;
mod check;
mod clock;
mod cpumap;
mod def;
mod deque;
mod devmap;
mod devmap_hash;
mod entry;
mod errno;
mod hash;
mod hash_of_maps;
mod hash_table;
mod inner;
mod layout;
mod lpm_trie;
mod lru_hash;
mod lru_percpu_hash;
mod nodes;
mod percpu_array;
mod percpu_hash;
mod perf_buffer;
mod perf_event_array;
mod pins;
mod pool;
mod prefix;
mod prog_array;
mod program_array;
mod queue;
mod ring_buffer;
mod ringbuf;
mod seed;
mod spin_lock;
mod stack;
mod table;
mod targets;
mod trie;
mod values;
mod xskmap;
mod zeroed;

pub use batch::{Batch, Element, Progress};
pub use budget::Budget;
pub use def::{MapDef, MapId, MapKind};
pub use entry::Entry;
pub use errno::Errno;
pub use inner::MapOfMaps;
pub use layout::{ArrayLayout, HashLayout};
pub use perf_buffer::PerfBuffer;
pub use pins::{Found, Pins, Use};
pub use program_array::{CODE_TABLES, ProgramArray, Slot};
pub use ring_buffer::{Finish, RingBuffer};
pub use spin_lock::{Attempt, release_lock, take_lock};
pub use table::MapTable;
pub use targets::{Broadcast, RedirectMap, Target};

use std::sync::Arc;

use batch::Doing;

use crate::cage::{Cage, CageError};

/// Number of a worker, from 0; the processor that per-CPU maps and `bpf_get_smp_processor_id` mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerIndex(pub u32);

/// What a map is created in.
#[derive(Clone, Copy, Debug)]
pub struct MapEnv<'a> {
    /// Where its values lie.
    pub cage: &'a Arc<Cage>,
    /// Workers of the host: how many values a per-CPU element has.
    pub worker_count: u32,
    /// What the maps of the host take outside the cage.
    pub budget: &'a Arc<Budget>,
}

/// Makes a map of one type.
pub type Create = fn(&MapDef, MapEnv<'_>) -> Result<Arc<dyn Map>, MapError>;

/// A map type.
#[derive(Debug)]
pub struct MapType {
    /// Which type.
    pub kind: MapKind,
    /// Checks the definition as the kernel's `map_alloc_check` does, and makes the map.
    pub create: Create,
}

/// The map types that kumite has, by ascending number.
pub static MAP_TYPES: &[&MapType] = &[
    &hash::HASH,
    &array::ARRAY,
    &prog_array::PROG_ARRAY,
    &perf_event_array::PERF_EVENT_ARRAY,
    &percpu_hash::PERCPU_HASH,
    &percpu_array::PERCPU_ARRAY,
    &lru_hash::LRU_HASH,
    &lru_percpu_hash::LRU_PERCPU_HASH,
    &lpm_trie::LPM_TRIE,
    &array_of_maps::ARRAY_OF_MAPS,
    &hash_of_maps::HASH_OF_MAPS,
    &devmap::DEVMAP,
    &cpumap::CPUMAP,
    &xskmap::XSKMAP,
    &queue::QUEUE,
    &stack::STACK,
    &devmap_hash::DEVMAP_HASH,
    &ringbuf::RINGBUF,
    &bloom_filter::BLOOM_FILTER,
];

/// A map was refused.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// No file implements the type.
    #[error("map {name}: type {kind} is not supported: {reason}; use another map type")]
    Unsupported {
        /// Name of the map.
        name: String,
        /// Its type.
        kind: MapKind,
        /// Why there is none.
        reason: &'static str,
    },
    /// The definition is against the type's rules, as the kernel would say with this errno.
    #[error("map {name}: {what} ({errno}); correct the definition, or its size with --map-size")]
    Definition {
        /// Name of the map.
        name: String,
        /// What is wrong.
        what: &'static str,
        /// What bpf(2) would answer.
        errno: Errno,
    },
    /// The values do not fit.
    #[error("map {name}: {source}")]
    Cage {
        /// Name of the map.
        name: String,
        /// Why.
        source: CageError,
    },
    /// The maps of the host would take too much memory outside the cage.
    #[error(
        "map {name}: it takes {bytes} bytes of memory beside its values, and the maps of the host leave {left}; unload programs or lower `max_entries`"
    )]
    Budget {
        /// Name of the map.
        name: String,
        /// Bytes that it would take.
        bytes: u64,
        /// Bytes that are left of [`crate::limits::HOST_MAP_BYTES_MAX`].
        left: u64,
    },
    /// The host holds as many maps as it can.
    #[error("map {name}: the host holds {max} maps already; unload programs")]
    Count {
        /// Name of the map.
        name: String,
        /// [`crate::limits::MAPS_MAX`].
        max: u32,
    },
}

/// Whether kumite has maps of this type.
#[must_use]
pub fn is_supported(kind: MapKind) -> bool {
    MAP_TYPES.iter().any(|map_type| map_type.kind == kind)
}

/// Creates a map of any supported type.
///
/// # Errors
/// [`MapError`].
pub fn create(def: &MapDef, env: MapEnv<'_>) -> Result<Arc<dyn Map>, MapError> {
    let found = MAP_TYPES.iter().find(|map_type| map_type.kind == def.kind);
    let map_type = found.ok_or_else(|| absent::unsupported(def))?;
    check::check_fields(def)?;
    (map_type.create)(def, env)
}

/// Bytes of a key up to which the cost of the helper pays for finding it.
const SHORT_KEY_LEN: u64 = 64;
/// Bytes of a value that is written within the cost of the helper.
const SHORT_VALUE_LEN: u64 = 64;

/// A map. Keys and values are byte strings of exactly the lengths of the definition; callers see to that.
///
/// The methods without `host_` are what a program's helpers do; those with it are what `bpf(2)` does from outside, where
/// a per-CPU value is all workers' values, each rounded up to 8 bytes, in order.
pub trait Map: Send + Sync + std::fmt::Debug {
    /// Its definition.
    fn def(&self) -> &MapDef;

    /// What finding a key is worth at most, in slots beyond the helper's own cost; 0 for all short keys but prefixes.
    fn lookup_work(&self) -> u64 {
        let key_len = u64::from(self.def().key_len);
        if key_len <= SHORT_KEY_LEN { 0 } else { key_len / 8 }
    }

    /// What changing an element is worth at most, beyond finding it: bytes copied and zeroed, by eights; 0 for short values.
    fn update_work(&self) -> u64 {
        let stride = self.def().value_stride();
        if stride <= SHORT_VALUE_LEN { 0 } else { stride / 8 }
    }

    /// Guest address of the value of `key` for this worker; in a map of maps, the handle of the inner map.
    ///
    /// # Errors
    /// The kernel's errno where the type has no lookup; the helper makes NULL of it.
    fn lookup(&self, worker: WorkerIndex, key: &[u8]) -> Result<Option<u32>, Errno>;

    /// Inserts or replaces. `flags`: `BPF_ANY` 0, `BPF_NOEXIST` 1, `BPF_EXIST` 2; with `BPF_F_LOCK` 4, the value is written
    /// under its lock, and `EBUSY` says that the lock was not to be had.
    ///
    /// # Errors
    /// The kernel's errno.
    fn update(&self, worker: WorkerIndex, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno>;

    /// Removes.
    ///
    /// # Errors
    /// The kernel's errno.
    fn delete(&self, key: &[u8]) -> Result<(), Errno>;

    /// Puts a value into a queue or onto a stack. `flags`: `BPF_EXIST` drops the oldest value of a full one.
    ///
    /// # Errors
    /// `E2BIG` when it is full, or the kernel's errno; `ENOTSUPP` where the type is no queue.
    fn push(&self, value: &[u8], flags: u64) -> Result<(), Errno> {
        let _ = (value, flags);
        Err(Errno::ENOTSUPP)
    }

    /// Takes the next value out of a queue or off a stack.
    ///
    /// # Errors
    /// `ENOENT` when it is empty, and zeros are written; `ENOTSUPP` where the type is no queue.
    fn pop(&self, into: &mut [u8]) -> Result<(), Errno> {
        let _ = into;
        Err(Errno::ENOTSUPP)
    }

    /// Copies the next value of a queue or stack and leaves it there; asks a bloom filter whether it holds this value.
    ///
    /// # Errors
    /// As [`Map::pop`].
    fn peek(&self, into: &mut [u8]) -> Result<(), Errno> {
        let _ = into;
        Err(Errno::ENOTSUPP)
    }

    /// The key after `key` in the type's order, the first for `None`; an unknown key restarts as in the kernel.
    ///
    /// # Errors
    /// `ENOENT` at the end, or the kernel's errno where the type cannot be walked.
    fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno>;

    /// The value of `key` as `BPF_MAP_LOOKUP_ELEM` gives it.
    ///
    /// # Errors
    /// The kernel's errno; `ENOENT` where there is none.
    fn host_lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno>;

    /// The same under the value's lock (`BPF_F_LOCK`).
    ///
    /// # Errors
    /// As [`Map::host_lookup`]; `EINVAL` where values have no lock, `EBUSY` where it was not to be had.
    fn host_lookup_locked(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        let _ = key;
        Err(Errno::EINVAL)
    }

    /// Inserts or replaces as `BPF_MAP_UPDATE_ELEM` does.
    ///
    /// # Errors
    /// The kernel's errno.
    fn host_update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno>;

    /// Takes an element out and gives its value, as `BPF_MAP_LOOKUP_AND_DELETE_ELEM` does.
    ///
    /// # Errors
    /// `ENOENT` where there is none; `ENOTSUPP` where the type cannot.
    fn host_lookup_and_delete(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        let _ = key;
        Err(Errno::ENOTSUPP)
    }

    /// At most `count` elements behind the key `after`, from the first on for `None`.
    ///
    /// # Errors
    /// `ENOTSUPP` where the type has no batches; else the kernel's errno.
    fn host_lookup_batch(&self, after: Option<&[u8]>, count: usize) -> Result<Batch, Errno> {
        batch::check(self.def().kind, Doing::Lookup)?;
        let mut batch = Batch::default();
        let mut last = after.map(<[u8]>::to_vec);
        // A map that others change meanwhile may begin anew for ever.
        for _ in 0..=self.def().max_entries {
            if batch.elements.len() == count {
                batch.next = last;
                break;
            }
            match self.next_key(last.as_deref()) {
                Err(Errno::ENOENT) => break,
                Err(errno) => return Err(errno),
                Ok(next) => {
                    match self.host_lookup(&next) {
                        Ok(value) => batch.elements.push((next.clone(), value)),
                        // Taken out meanwhile, or a slot that is empty.
                        Err(Errno::ENOENT) => {}
                        Err(errno) => return Err(errno),
                    }
                    last = Some(next);
                }
            }
        }
        Ok(batch)
    }

    /// Takes out at most `count` elements. [`Batch::next`] is `None`.
    ///
    /// # Errors
    /// `ENOTSUPP` where the type cannot.
    fn host_lookup_and_delete_batch(&self, count: usize) -> Result<Batch, Errno> {
        batch::check(self.def().kind, Doing::LookupAndDelete)?;
        let mut batch = Batch::default();
        let mut next = self.next_key(None);
        while batch.elements.len() < count
            && let Ok(key) = next
        {
            // Behind this one, as long as it is there: the buckets before it need not be searched again.
            next = self.next_key(Some(&key));
            // Where a program was faster, there is one less.
            if let Ok(value) = self.host_lookup_and_delete(&key) {
                batch.elements.push((key, value));
            }
        }
        Ok(batch)
    }

    /// Inserts or replaces elements in order, until one is refused. `flags`: none, or `BPF_F_LOCK` 4.
    ///
    /// # Errors
    /// `ENOTSUPP` where the type cannot; `EINVAL` for other flags.
    fn host_update_batch(&self, elements: &[Element], flags: u64) -> Result<Progress, Errno> {
        batch::check(self.def().kind, Doing::Update)?;
        check::Update::check_batch(flags, self.def())?;
        Ok(Progress::of(elements, |(key, value)| self.host_update(key, value, flags)))
    }

    /// Removes elements in order, until one is not there.
    ///
    /// # Errors
    /// `ENOTSUPP` where the type cannot.
    fn host_delete_batch(&self, keys: &[Vec<u8>]) -> Result<Progress, Errno> {
        batch::check(self.def().kind, Doing::Delete)?;
        Ok(Progress::of(keys, |key| self.delete(key)))
    }

    /// Makes the map's values read-only for programs and host (`.rodata` after it is filled). No program that could
    /// write them is running yet.
    ///
    /// # Errors
    /// `EPERM` where the type cannot be frozen.
    fn freeze(&self) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Guest address of byte `offset` of the value, for `lddw` with a map value; only arrays of one entry have one, as in
    /// the kernel.
    fn value_addr(&self, offset: u32) -> Option<u32> {
        let _ = offset;
        None
    }

    /// How to find an element without a call; only arrays have one.
    fn array_layout(&self) -> Option<ArrayLayout> {
        None
    }

    /// How to find an element without a call; only hashes have one.
    fn hash_layout(&self) -> Option<HashLayout> {
        None
    }

    /// Key and guest address of the element whose value an address lies in; `None` where there is none, or where workers have
    /// values of their own.
    fn element_at(&self, addr: u32) -> Option<(Vec<u8>, u32)> {
        let layout = self.array_layout().filter(|layout| layout.worker_stride == 0)?;
        let index = addr.checked_sub(layout.addr)?.checked_div(layout.stride)?;
        (index < layout.count).then(|| (index.to_ne_bytes().to_vec(), layout.addr + index * layout.stride))
    }

    /// In how many parts the map is walked whole by `bpf_for_each_map_elem`; `None` where it is not.
    fn part_count(&self) -> Option<u32> {
        None
    }

    /// The elements of a part: key and guest address of this worker's value. An element that is there all the time is in
    /// one part, once.
    fn part(&self, worker: WorkerIndex, part: u32) -> Vec<(Vec<u8>, u32)> {
        let _ = (worker, part);
        Vec::new()
    }

    /// The program array behind this map, if it is one.
    fn as_program_array(&self) -> Option<&ProgramArray> {
        None
    }

    /// This map as one that holds maps, if it is one.
    fn as_map_of_maps(&self) -> Option<&dyn MapOfMaps> {
        None
    }

    /// This map as one of redirect targets, if it is one.
    fn as_redirect_map(&self) -> Option<&dyn RedirectMap> {
        None
    }

    /// The buffers behind this perf event array, if it is one.
    fn as_perf_buffer(&self) -> Option<&PerfBuffer> {
        None
    }

    /// Records that found no room, if it is a map that programs send records to.
    fn records_lost(&self) -> Option<u64> {
        let ring = self.as_ring_buffer().map(RingBuffer::lost);
        ring.or_else(|| self.as_perf_buffer().map(PerfBuffer::lost))
    }

    /// The ring buffer behind this map, if it is one.
    fn as_ring_buffer(&self) -> Option<&RingBuffer> {
        None
    }
}
