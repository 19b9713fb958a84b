//! `BPF_MAP_TYPE_PERF_EVENT_ARRAY`: the map around a [`PerfBuffer`].
//!
//! Source: `kernel/bpf/arraymap.c`.
//!
//! Invariant: bytes never open a slot.

use std::sync::Arc;

use super::array::{check_definition, index_of, next_index};
use super::budget::Share;
use super::check::{self, check_flags, check_len, refuse, require};
use super::{Errno, Map, MapDef, MapEnv, MapError, MapKind, MapType, PerfBuffer, WorkerIndex};

/// The type.
pub(super) static PERF_EVENT_ARRAY: MapType = MapType { kind: MapKind::PERF_EVENT_ARRAY, create };

fn create(def: &MapDef, env: MapEnv<'_>) -> Result<Arc<dyn Map>, MapError> {
    require(def, def.value_len == 4, "values of a perf event array have 4 bytes")?;
    check_definition(def)?;
    check_flags(def, check::NUMA_NODE | check::RDONLY | check::WRONLY | check::PRESERVE_ELEMS)?;
    // A pointer a slot, as in the kernel, though closed slots beyond the workers take nothing here.
    let share = env.take(def, u64::from(def.max_entries) * 8 + PerfBuffer::bytes(def.max_entries, env.worker_count))?;
    let Some(buffer) = PerfBuffer::new(def.max_entries, env.worker_count) else {
        return refuse(def, "no memory for its records", Errno::ENOMEM);
    };
    Ok(Arc::new(PerfEventArray { def: def.clone(), buffer, _share: share }))
}

/// A perf event array.
#[derive(Debug)]
struct PerfEventArray {
    def: MapDef,
    buffer: PerfBuffer,
    _share: Share,
}

impl Map for PerfEventArray {
    fn def(&self) -> &MapDef {
        &self.def
    }

    fn lookup(&self, _worker: WorkerIndex, _key: &[u8]) -> Result<Option<u32>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn update(&self, _worker: WorkerIndex, _key: &[u8], _value: &[u8], _flags: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Closes a slot.
    fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.buffer.close(index_of(key)?)
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        next_index(key, self.def.max_entries)
    }

    fn host_lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        index_of(key)?;
        Err(Errno::ENOTSUPP)
    }

    /// Refuses: bytes are no event. A host opens slots by [`PerfBuffer::open`].
    fn host_update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        check_len(value, 4)?;
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        if index_of(key)? < self.def.max_entries { Err(Errno::EBADF) } else { Err(Errno::E2BIG) }
    }

    fn as_perf_buffer(&self) -> Option<&PerfBuffer> {
        Some(&self.buffer)
    }
}
