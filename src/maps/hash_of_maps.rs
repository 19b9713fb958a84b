//! `BPF_MAP_TYPE_HASH_OF_MAPS`: maps by key.
//!
//! Source: `kernel/bpf/hashtab.c`.
//!
//! Invariant: a key of the table has its inner map among those that are held.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::budget::Share;
use super::check::{Update, check_len, refuse, require};
use super::hash::check_definition;
use super::hash_table::{HashTable, Renewal, Shape, Target, WhenFull};
use super::inner::{self, MapOfMaps};
use super::values::Sharing;
use super::zeroed::zeroed;
use super::{Entry, Errno, Map, MapDef, MapEnv, MapError, MapKind, MapType, WorkerIndex};

/// The type.
pub(super) static HASH_OF_MAPS: MapType = MapType { kind: MapKind::HASH_OF_MAPS, create };

/// Places beyond `max_entries`, so that one that a reader may look at is not used again at once.
const SLACK: u32 = 16;

fn create(def: &MapDef, env: MapEnv<'_>) -> Result<Arc<dyn Map>, MapError> {
    require(def, def.value_len == 4, "values of a map of maps have 4 bytes")?;
    check_definition(def, Sharing::Shared, WhenFull::Refuse)?;
    let template = inner::template(def)?;
    let shape = Shape {
        key_len: def.key_len,
        max_entries: def.max_entries,
        room: def.max_entries,
        slack: SLACK,
        renewal: Renewal::Overwrite,
        when_full: WhenFull::Refuse,
    };
    let share = env.take(def, shape.bytes() + shape.place_count() * 4)?;
    let Some((table, handles)) = HashTable::new(shape).zip(zeroed(shape.place_count())) else {
        return refuse(def, "no memory for its entries", Errno::ENOMEM);
    };
    Ok(Arc::new(HashOfMaps { def: def.clone(), template, table, handles, held: Mutex::default(), _share: share }))
}

/// A hash of maps.
struct HashOfMaps {
    def: MapDef,
    template: Arc<MapDef>,
    table: HashTable,
    /// For each place of the table the inner map's handle.
    handles: Box<[AtomicU32]>,
    /// The inner maps by key. Held by whoever changes the table.
    held: Mutex<HashMap<Vec<u8>, Arc<Entry>>>,
    _share: Share,
}

impl fmt::Debug for HashOfMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashOfMaps").field("def", &self.def).finish_non_exhaustive()
    }
}

impl HashOfMaps {
    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Arc<Entry>>> {
        self.held.lock().expect("nothing panics while it holds the lock")
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Errno> {
        check_len(key, self.def.key_len.into())
    }
}

impl Map for HashOfMaps {
    fn def(&self) -> &MapDef {
        &self.def
    }

    fn lookup(&self, _worker: WorkerIndex, key: &[u8]) -> Result<Option<u32>, Errno> {
        self.check_key(key)?;
        Ok(self.table.copy(key, |place| self.handles[place as usize].load(Ordering::Acquire)))
    }

    fn update(&self, _worker: WorkerIndex, _key: &[u8], _value: &[u8], _flags: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.check_key(key)?;
        let mut held = self.lock();
        self.table.delete(key)?;
        inner::retire(held.remove(key));
        Ok(())
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        key.map_or(Ok(()), |key| self.check_key(key))?;
        self.table.next_key(key).ok_or(Errno::ENOENT)
    }

    /// The number of the inner map.
    fn host_lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        Ok(inner::number(&*self.inner(key)?))
    }

    /// Refuses: bytes are no map. A host puts maps in by [`MapOfMaps::put`].
    fn host_update(&self, key: &[u8], value: &[u8], _flags: u64) -> Result<(), Errno> {
        self.check_key(key)?;
        check_len(value, 4)?;
        Err(Errno::EBADF)
    }

    fn as_map_of_maps(&self) -> Option<&dyn MapOfMaps> {
        Some(self)
    }
}

impl MapOfMaps for HashOfMaps {
    fn put(&self, key: &[u8], inner: &Arc<Entry>, flags: u64) -> Result<(), Errno> {
        self.check_key(key)?;
        if !inner::equal(&self.template, inner.map().def()) {
            return Err(Errno::EINVAL);
        }
        let update = Update::parse(flags)?;
        let handle = inner::handle(inner);
        let mut held = self.lock();
        self.table.update(key, update, |target| {
            let (Target::New(place) | Target::Live(place)) = target;
            self.handles[place as usize].store(handle, Ordering::Release);
            Ok(())
        })?;
        inner::retire(held.insert(key.to_vec(), Arc::clone(inner)));
        Ok(())
    }

    fn inner(&self, key: &[u8]) -> Result<Arc<Entry>, Errno> {
        self.check_key(key)?;
        self.lock().get(key).cloned().ok_or(Errno::ENOENT)
    }
}
