//! `BPF_MAP_TYPE_ARRAY`: values by index, all there from the start.
//!
//! Source: `kernel/bpf/arraymap.c`.
//!
//! Invariant: an element is where its index says for as long as the map lives; nothing here is searched or locked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::check::{self, Locking, Update, check_flags, require};
use super::values::{Sharing, Values};
use super::{ArrayLayout, Errno, Map, MapDef, MapEnv, MapError, MapKind, MapType, WorkerIndex};

/// Elements that a walk over the whole array takes at a time.
const PART_LEN: u32 = 64;

/// The type.
pub(super) static ARRAY: MapType = MapType { kind: MapKind::ARRAY, create };

fn create(def: &MapDef, env: MapEnv<'_>) -> Result<Arc<dyn Map>, MapError> {
    check_definition(def)?;
    check_flags(def, check::NUMA_NODE | check::ACCESS | check::MMAPABLE | check::INNER_MAP)?;
    Ok(Arc::new(Array::new(def, env, Sharing::Shared)?))
}

/// What all arrays ask of a definition, flags aside.
pub(super) fn check_definition(def: &MapDef) -> Result<(), MapError> {
    require(def, def.max_entries != 0, "no entries")?;
    require(def, def.key_len == 4, "keys of an array have 4 bytes")?;
    require(def, def.value_len != 0, "values of no bytes")
}

/// The index that a key is.
#[inline]
pub(super) fn index_of(key: &[u8]) -> Result<u32, Errno> {
    Ok(u32::from_ne_bytes(key.try_into().map_err(|_| Errno::EINVAL)?))
}

/// The index after `key`; an index outside restarts.
pub(super) fn next_index(key: Option<&[u8]>, count: u32) -> Result<Vec<u8>, Errno> {
    let next = match key.map(index_of).transpose()? {
        Some(index) if index < count => index + 1,
        Some(_) | None => 0,
    };
    if next == count { Err(Errno::ENOENT) } else { Ok(next.to_ne_bytes().to_vec()) }
}

/// An array, shared or per CPU.
#[derive(Debug)]
pub(super) struct Array {
    def: MapDef,
    values: Values,
    frozen: AtomicBool,
}

impl Array {
    pub(super) fn new(def: &MapDef, env: MapEnv<'_>, sharing: Sharing) -> Result<Self, MapError> {
        let values = Values::new(def, env, u64::from(def.max_entries), sharing)?;
        Ok(Self { def: def.clone(), values, frozen: AtomicBool::new(false) })
    }

    fn check_update(&self, key: &[u8], flags: u64) -> Result<(u32, Locking), Errno> {
        let (update, locking) = Update::parse_locking(flags, &self.def)?;
        let index = index_of(key)?;
        if index >= self.def.max_entries {
            return Err(Errno::E2BIG);
        }
        update.check(true)?;
        if self.frozen.load(Ordering::Acquire) {
            return Err(Errno::EPERM);
        }
        Ok((index, locking))
    }
}

impl Map for Array {
    fn def(&self) -> &MapDef {
        &self.def
    }

    #[inline]
    fn lookup(&self, worker: WorkerIndex, key: &[u8]) -> Result<Option<u32>, Errno> {
        let index = index_of(key)?;
        Ok(if index < self.def.max_entries { self.values.addr(index, worker) } else { None })
    }

    fn update(&self, worker: WorkerIndex, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        let (index, locking) = self.check_update(key, flags)?;
        match locking {
            Locking::Without => self.values.write(index, worker, value),
            Locking::Under => self.values.write_locked(index, value),
        }?;
        self.values.end_timer(index)
    }

    fn delete(&self, _key: &[u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        next_index(key, self.def.max_entries)
    }

    fn host_lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        let index = index_of(key)?;
        if index < self.def.max_entries { Ok(self.values.read_host(index)) } else { Err(Errno::ENOENT) }
    }

    fn host_lookup_locked(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        let index = index_of(key)?;
        if index < self.def.max_entries { self.values.read_host_locked(index) } else { Err(Errno::ENOENT) }
    }

    fn host_update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        let (index, locking) = self.check_update(key, flags)?;
        match locking {
            Locking::Without => self.values.write_host(index, value),
            Locking::Under => self.values.write_locked(index, value),
        }?;
        self.values.end_timer(index)
    }

    fn freeze(&self) -> Result<(), Errno> {
        self.frozen.store(true, Ordering::Release);
        self.values.freeze()
    }

    fn value_addr(&self, offset: u32) -> Option<u32> {
        // As in the kernel (`array_map_direct_value_addr`): not for several entries, nor for a value a worker.
        if self.def.max_entries != 1 || self.values.worker_stride() != 0 || offset >= self.def.value_len {
            return None;
        }
        self.values.addr(0, WorkerIndex(0)).map(|addr| addr + offset)
    }

    fn part_count(&self) -> Option<u32> {
        Some(self.def.max_entries.div_ceil(PART_LEN))
    }

    fn part(&self, worker: WorkerIndex, part: u32) -> Vec<(Vec<u8>, u32)> {
        let first = part.saturating_mul(PART_LEN);
        let indices = first..self.def.max_entries.min(first.saturating_add(PART_LEN));
        let element = |index: u32| Some((index.to_ne_bytes().to_vec(), self.values.addr(index, worker)?));
        indices.filter_map(element).collect()
    }

    fn array_layout(&self) -> Option<ArrayLayout> {
        Some(ArrayLayout {
            addr: self.values.addr(0, WorkerIndex(0))?,
            stride: self.values.stride(),
            count: self.def.max_entries,
            worker_stride: self.values.worker_stride(),
            frozen: self.values.is_plain().then_some(self.frozen.as_ptr().addr() as u64),
        })
    }
}
