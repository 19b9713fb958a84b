//! `BPF_MAP_TYPE_DEVMAP_HASH`: ports by any number.
//!
//! Source: `kernel/bpf/devmap.c`.
//!
//! Invariant: a frame never goes by what lies in the cage.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::array::index_of;
use super::budget::Share;
use super::check::{Update, check_len, refuse, require};
use super::hash_table::{HashTable, Renewal, Shape, Target as Place, WhenFull};
use super::targets::{Broadcast, RedirectMap, Target, Value};
use super::values::{Sharing, Values};
use super::zeroed::zeroed;
use super::{Errno, Map, MapDef, MapEnv, MapError, MapKind, MapType, WorkerIndex, devmap};

/// The type.
pub(super) static DEVMAP_HASH: MapType = MapType { kind: MapKind::DEVMAP_HASH, create };

/// Places beyond `max_entries`, so that one that a reader may look at is not used again at once.
const SLACK: u32 = 16;

fn create(def: &MapDef, env: MapEnv<'_>) -> Result<Arc<dyn Map>, MapError> {
    devmap::check(def)?;
    require(def, def.max_entries <= 1 << 31, "more than 2147483648 entries")?;
    let shape = Shape {
        key_len: 4,
        max_entries: def.max_entries,
        room: def.max_entries,
        slack: SLACK,
        renewal: Renewal::Overwrite,
        when_full: WhenFull::Refuse,
    };
    let share = env.take(def, shape.bytes() + shape.place_count() * 4)?;
    let values = Values::new(def, env, shape.place_count(), Sharing::Shared)?;
    let Some((table, ports)) = HashTable::new(shape).zip(zeroed(shape.place_count())) else {
        return refuse(def, "no memory for its entries", Errno::ENOMEM);
    };
    Ok(Arc::new(DevmapHash { def: def.clone(), table, ports, values, _share: share }))
}

/// A hash of ports.
struct DevmapHash {
    def: MapDef,
    table: HashTable,
    /// For each place of the table the port's interface index; 0 where no element is.
    ports: Box<[AtomicU32]>,
    values: Values,
    _share: Share,
}

impl fmt::Debug for DevmapHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevmapHash").field("def", &self.def).finish_non_exhaustive()
    }
}

impl DevmapHash {
    fn port(&self, key: &[u8]) -> Option<u32> {
        self.table.copy(key, |place| self.ports[place as usize].load(Ordering::Acquire))
    }
}

impl Map for DevmapHash {
    fn def(&self) -> &MapDef {
        &self.def
    }

    fn lookup(&self, worker: WorkerIndex, key: &[u8]) -> Result<Option<u32>, Errno> {
        index_of(key)?;
        Ok(self.table.find(key).and_then(|place| self.values.addr(place, worker)))
    }

    fn update(&self, _worker: WorkerIndex, _key: &[u8], _value: &[u8], _flags: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        index_of(key)?;
        self.table.take(key, |place| self.ports[place as usize].store(0, Ordering::Release))
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        key.map_or(Ok(0), index_of)?;
        self.table.next_key(key).ok_or(Errno::ENOENT)
    }

    fn host_lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        index_of(key)?;
        Ok(Value::bytes(self.port(key).ok_or(Errno::ENOENT)?, self.def.value_len))
    }

    /// `BPF_EXIST` does not ask for an element, as in the kernel.
    fn host_update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        check_len(value, self.def.value_len.into())?;
        let value = Value::parse(value, index_of(key)?, 0)?;
        if flags > 2 || value.word == 0 {
            return Err(Errno::EINVAL);
        }
        let update = if flags == 1 { Update::NoExist } else { Update::Any };
        // The kernel looks at the program after the flags; both refusals are of one kind where the element exists.
        if value.program > 0 {
            return Err(if flags == 1 && self.port(key).is_some() { Errno::EEXIST } else { Errno::EINVAL });
        }
        let bytes = Value::bytes(value.word, self.def.value_len);
        self.table.update(key, update, |target| {
            let (Place::New(place) | Place::Live(place)) = target;
            self.values.write(place, WorkerIndex(0), &bytes)?;
            self.ports[place as usize].store(value.word, Ordering::Release);
            Ok(())
        })
    }

    fn as_redirect_map(&self) -> Option<&dyn RedirectMap> {
        Some(self)
    }
}

impl RedirectMap for DevmapHash {
    fn target(&self, index: u32) -> Option<Target> {
        self.port(&index.to_ne_bytes()).map(Target::Port)
    }

    fn broadcast(&self) -> Broadcast {
        Broadcast::Taken
    }

    fn holds_port(&self, ifindex: u32) -> bool {
        ifindex != 0 && self.ports.iter().any(|port| port.load(Ordering::Acquire) == ifindex)
    }

    fn place_count(&self) -> u64 {
        self.ports.len() as u64
    }
}
