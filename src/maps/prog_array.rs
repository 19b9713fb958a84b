//! `BPF_MAP_TYPE_PROG_ARRAY`: the map around a [`ProgramArray`].
//!
//! Source: `kernel/bpf/arraymap.c`.
//!
//! Invariant: bytes never become a program: only a host that has the program puts it into a slot.

use std::sync::Arc;

use crossbeam::epoch;

use super::array::{check_definition, index_of, next_index};
use super::budget::Share;
use super::check::{self, check_flags, check_len, refuse, require};
use super::{Errno, Map, MapDef, MapEnv, MapError, MapKind, MapType, ProgramArray, WorkerIndex};
use crate::limits::PROGRAM_ARRAY_SLOTS_MAX;

/// The type.
pub(super) static PROG_ARRAY: MapType = MapType { kind: MapKind::PROGRAM_ARRAY, create };

fn create(def: &MapDef, env: MapEnv<'_>) -> Result<Arc<dyn Map>, MapError> {
    require(def, def.value_len == 4, "values of a program array have 4 bytes")?;
    check_definition(def)?;
    check_flags(def, check::NUMA_NODE | check::RDONLY | check::WRONLY)?;
    if def.max_entries > PROGRAM_ARRAY_SLOTS_MAX {
        return refuse(def, "more than 1048576 programs", Errno::E2BIG);
    }
    let share = env.take(def, ProgramArray::bytes(def.max_entries))?;
    let Some(array) = ProgramArray::new(def.max_entries) else {
        return refuse(def, "no memory for its slots", Errno::ENOMEM);
    };
    Ok(Arc::new(ProgArray { def: def.clone(), array, _share: share }))
}

/// A program array.
#[derive(Debug)]
struct ProgArray {
    def: MapDef,
    array: ProgramArray,
    _share: Share,
}

impl Map for ProgArray {
    fn def(&self) -> &MapDef {
        &self.def
    }

    fn lookup(&self, _worker: WorkerIndex, _key: &[u8]) -> Result<Option<u32>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn update(&self, _worker: WorkerIndex, _key: &[u8], _value: &[u8], _flags: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.array.replace(index_of(key)?, None)
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        next_index(key, self.def.max_entries)
    }

    /// The number of the program.
    fn host_lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        let guard = epoch::pin();
        let slot = self.array.slot(index_of(key)?, &guard).ok_or(Errno::ENOENT)?;
        Ok(slot.program_id.to_ne_bytes().to_vec())
    }

    /// Refuses: bytes are no program. A host puts programs in by [`ProgramArray::replace`].
    fn host_update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        check_len(value, 4)?;
        if flags == 0 && index_of(key)? >= self.def.max_entries { Err(Errno::E2BIG) } else { Err(Errno::EINVAL) }
    }

    fn as_program_array(&self) -> Option<&ProgramArray> {
        Some(&self.array)
    }
}
