//! `BPF_MAP_TYPE_ARRAY_OF_MAPS`: maps by index.
//!
//! Source: `kernel/bpf/arraymap.c`.
//!
//! Invariant: a handle in a slot is that of a map that is held.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::array::{check_definition, index_of, next_index};
use super::budget::Share;
use super::check::{self, check_flags, check_len, refuse, require};
use super::inner::{self, MapOfMaps};
use super::zeroed::zeroed;
use super::{Entry, Errno, Map, MapDef, MapEnv, MapError, MapKind, MapType, WorkerIndex};

/// The type.
pub(super) static ARRAY_OF_MAPS: MapType = MapType { kind: MapKind::ARRAY_OF_MAPS, create };

fn create(def: &MapDef, env: MapEnv<'_>) -> Result<Arc<dyn Map>, MapError> {
    require(def, def.value_len == 4, "values of a map of maps have 4 bytes")?;
    check_definition(def)?;
    check_flags(def, check::NUMA_NODE | check::RDONLY | check::WRONLY)?;
    let template = inner::template(def)?;
    let share = env.take(def, u64::from(def.max_entries) * 4)?;
    let Some(handles) = zeroed(def.max_entries.into()) else {
        return refuse(def, "no memory for its entries", Errno::ENOMEM);
    };
    Ok(Arc::new(ArrayOfMaps { def: def.clone(), template, handles, held: Mutex::default(), _share: share }))
}

/// An array of maps.
#[derive(Debug)]
struct ArrayOfMaps {
    def: MapDef,
    template: Arc<MapDef>,
    /// For each index the inner map's handle; 0 for none.
    handles: Box<[AtomicU32]>,
    /// The inner maps. Held while a handle is written, so that both are of one map.
    held: Mutex<HashMap<u32, Arc<Entry>>>,
    _share: Share,
}

impl ArrayOfMaps {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<Entry>>> {
        self.held.lock().expect("nothing panics while it holds the lock")
    }

    /// The place of an index.
    fn place(&self, key: &[u8]) -> Result<(u32, &AtomicU32), Errno> {
        let index = index_of(key)?;
        Ok((index, self.handles.get(index as usize).ok_or(Errno::E2BIG)?))
    }
}

impl Map for ArrayOfMaps {
    fn def(&self) -> &MapDef {
        &self.def
    }

    fn lookup(&self, _worker: WorkerIndex, key: &[u8]) -> Result<Option<u32>, Errno> {
        let handle = self.handles.get(index_of(key)? as usize).map(|place| place.load(Ordering::Acquire));
        Ok(handle.filter(|handle| *handle != 0))
    }

    fn update(&self, _worker: WorkerIndex, _key: &[u8], _value: &[u8], _flags: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        let (index, place) = self.place(key)?;
        let mut held = self.lock();
        place.store(0, Ordering::Release);
        let old = held.remove(&index).ok_or(Errno::ENOENT)?;
        inner::retire(Some(old));
        Ok(())
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        next_index(key, self.def.max_entries)
    }

    /// The number of the inner map.
    fn host_lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        Ok(inner::number(&*self.inner(key)?))
    }

    /// Refuses: bytes are no map. A host puts maps in by [`MapOfMaps::put`].
    fn host_update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        check_len(value, 4)?;
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        self.place(key)?;
        Err(Errno::EBADF)
    }

    fn as_map_of_maps(&self) -> Option<&dyn MapOfMaps> {
        Some(self)
    }
}

impl MapOfMaps for ArrayOfMaps {
    fn put(&self, key: &[u8], inner: &Arc<Entry>, flags: u64) -> Result<(), Errno> {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        let (index, place) = self.place(key)?;
        if !inner::equal(&self.template, inner.map().def()) {
            return Err(Errno::EINVAL);
        }
        let mut held = self.lock();
        place.store(inner::handle(inner), Ordering::Release);
        inner::retire(held.insert(index, Arc::clone(inner)));
        Ok(())
    }

    fn inner(&self, key: &[u8]) -> Result<Arc<Entry>, Errno> {
        self.lock().get(&index_of(key)?).cloned().ok_or(Errno::ENOENT)
    }
}
