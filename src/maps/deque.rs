//! What queues and stacks share: values in the order in which they came.
//!
//! No program ever points at such a value, so the values lie outside the cage.
//!
//! Source: `kernel/bpf/queue_stack_maps.c`.
//!
//! Invariant: at most `max_entries` values, and none of them in the cage.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use super::budget::Share;
use super::check::{self, ELEMENT_LEN_MAX, check_flags, check_len, refuse, require};
use super::zeroed::zeroed;
use super::{Errno, Map, MapDef, MapEnv, MapError, WorkerIndex};

/// Which value comes out first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The one that has waited longest.
    Oldest,
    /// The one that came last.
    Newest,
}

/// A queue or a stack.
pub(super) struct Deque {
    def: MapDef,
    next: Next,
    ring: Mutex<Ring>,
    _share: Share,
}

impl fmt::Debug for Deque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deque").field("def", &self.def).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Ring {
    bytes: Box<[u8]>,
    /// Place of the oldest value.
    oldest: u64,
    /// Values.
    count: u64,
}

/// Makes a queue or a stack.
pub(super) fn create(def: &MapDef, env: MapEnv<'_>, next: Next) -> Result<Arc<dyn Map>, MapError> {
    require(def, def.max_entries != 0, "no entries")?;
    require(def, def.key_len == 0, "queues and stacks have no keys")?;
    require(def, def.value_len != 0, "values of no bytes")?;
    check_flags(def, check::NUMA_NODE | check::ACCESS)?;
    if u64::from(def.value_len) > ELEMENT_LEN_MAX {
        return refuse(def, "values of more than 4 MiB", Errno::E2BIG);
    }
    let bytes = u64::from(def.max_entries) * u64::from(def.value_len);
    let share = env.take(def, bytes)?;
    let Some(bytes) = zeroed(bytes) else {
        return refuse(def, "no memory for its values", Errno::ENOMEM);
    };
    let ring = Mutex::new(Ring { bytes, oldest: 0, count: 0 });
    Ok(Arc::new(Deque { def: def.clone(), next, ring, _share: share }))
}

impl Deque {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("nothing panics while it holds the lock")
    }

    /// Where the value lies that came as number `index` of those that are there.
    fn range(&self, ring: &Ring, index: u64) -> Range<usize> {
        let place = (ring.oldest + index) % u64::from(self.def.max_entries);
        let len = self.def.value_len as usize;
        let start = usize::try_from(place).expect("less than a u32") * len;
        start..start + len
    }

    fn copy_next(&self, ring: &Ring, into: &mut [u8]) -> Result<(), Errno> {
        check_len(into, u64::from(self.def.value_len))?;
        let Some(last) = ring.count.checked_sub(1) else {
            into.fill(0);
            return Err(Errno::ENOENT);
        };
        let index = match self.next {
            Next::Oldest => 0,
            Next::Newest => last,
        };
        into.copy_from_slice(&ring.bytes[self.range(ring, index)]);
        Ok(())
    }
}

impl Map for Deque {
    fn def(&self) -> &MapDef {
        &self.def
    }

    fn lookup(&self, _worker: WorkerIndex, _key: &[u8]) -> Result<Option<u32>, Errno> {
        Ok(None)
    }

    fn update(&self, _worker: WorkerIndex, _key: &[u8], _value: &[u8], _flags: u64) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn delete(&self, _key: &[u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn push(&self, value: &[u8], flags: u64) -> Result<(), Errno> {
        check_len(value, u64::from(self.def.value_len))?;
        let drops_oldest = match flags {
            0 => false,
            2 => true,
            _ => return Err(Errno::EINVAL),
        };
        let max = u64::from(self.def.max_entries);
        let mut ring = self.lock();
        if ring.count == max {
            if !drops_oldest {
                return Err(Errno::E2BIG);
            }
            ring.oldest = (ring.oldest + 1) % max;
            ring.count -= 1;
        }
        let range = self.range(&ring, ring.count);
        ring.bytes[range].copy_from_slice(value);
        ring.count += 1;
        Ok(())
    }

    fn pop(&self, into: &mut [u8]) -> Result<(), Errno> {
        let mut ring = self.lock();
        self.copy_next(&ring, into)?;
        if self.next == Next::Oldest {
            ring.oldest = (ring.oldest + 1) % u64::from(self.def.max_entries);
        }
        ring.count -= 1;
        Ok(())
    }

    fn peek(&self, into: &mut [u8]) -> Result<(), Errno> {
        self.copy_next(&self.lock(), into)
    }

    fn next_key(&self, _key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    /// The next value, which stays.
    fn host_lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        check_len(key, 0)?;
        let mut value = vec![0; self.def.value_len as usize];
        self.peek(&mut value)?;
        Ok(value)
    }

    fn host_lookup_and_delete(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        check_len(key, 0)?;
        let mut value = vec![0; self.def.value_len as usize];
        self.pop(&mut value)?;
        Ok(value)
    }

    fn host_update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        check_len(key, 0)?;
        self.push(value, flags)
    }
}
