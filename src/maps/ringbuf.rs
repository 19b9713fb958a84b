//! `BPF_MAP_TYPE_RINGBUF`: the map around a [`RingBuffer`].
//!
//! Source: `kernel/bpf/ringbuf.c`.

use std::sync::Arc;

use super::budget::Share;
use super::check::{self, check_bytes, check_flags, refuse, require};
use super::{Errno, Map, MapDef, MapEnv, MapError, MapKind, MapType, RingBuffer, WorkerIndex};
use crate::limits::PAGE_LEN;

/// The type.
pub(super) static RINGBUF: MapType = MapType { kind: MapKind::RING_BUFFER, create };

fn create(def: &MapDef, env: MapEnv<'_>) -> Result<Arc<dyn Map>, MapError> {
    check_flags(def, check::NUMA_NODE)?;
    require(def, def.key_len == 0 && def.value_len == 0, "a ring buffer has neither keys nor values")?;
    let size = def.max_entries;
    let fits = size.is_power_of_two() && size.is_multiple_of(PAGE_LEN);
    require(def, fits, "the size of a ring buffer is a power of two and a multiple of 4096")?;
    check_bytes(def, RingBuffer::bytes(size))?;
    let share = env.take(def, RingBuffer::host_bytes(size))?;
    let region = env.cage.alloc(RingBuffer::bytes(size), "ring buffer records");
    let region = region.map_err(|source| MapError::Cage { name: def.name.clone(), source })?;
    let Some(ring) = RingBuffer::new(region, size) else {
        return refuse(def, "no memory for its headers", Errno::ENOMEM);
    };
    Ok(Arc::new(Ringbuf { def: def.clone(), ring, _share: share }))
}

/// A ring buffer.
#[derive(Debug)]
struct Ringbuf {
    def: MapDef,
    ring: RingBuffer,
    _share: Share,
}

impl Map for Ringbuf {
    fn def(&self) -> &MapDef {
        &self.def
    }

    fn lookup(&self, _worker: WorkerIndex, _key: &[u8]) -> Result<Option<u32>, Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn update(&self, _worker: WorkerIndex, _key: &[u8], _value: &[u8], _flags: u64) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn delete(&self, _key: &[u8]) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn next_key(&self, _key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn host_lookup(&self, _key: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn host_update(&self, _key: &[u8], _value: &[u8], _flags: u64) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn as_ring_buffer(&self) -> Option<&RingBuffer> {
        Some(&self.ring)
    }
}
