//! Look up, update and delete map elements. `kernel/bpf/helpers.c`.
//!
//! Invariant: a map sees copies of keys and values, never guest memory.

use crossbeam::epoch;

use super::check::place;
use super::{Arg, Frame, Helper, Ret};
use crate::limits::{HELPER_MEMORY_LEN_MAX, LOCK_WORK};
use crate::maps::{Errno, WorkerIndex};
use crate::run::Run;
use crate::trap::TrapKind;

fn map_lookup_elem(run: &mut Run<'_>, [handle, key, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let guard = epoch::pin();
    let map = place(1, 1).map(run, handle, &guard)?;
    run.work(map.lookup_work())?;
    let worker = run.worker();
    let found = place(1, 2).copied(run, key, map.def().key_len, |key| map.lookup(worker, key))?;
    Ok(found.ok().flatten().map_or(0, u64::from))
}

/// `void *bpf_map_lookup_elem(map, key)`: the value's address or NULL.
pub(super) static MAP_LOOKUP_ELEM: Helper = Helper {
    id: 1,
    name: "map_lookup_elem",
    args: &[Arg::Map, Arg::MapKey],
    ret: Ret::MapValueOrNull,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[],
    body: map_lookup_elem,
};

/// `BPF_F_LOCK`.
const F_LOCK: u64 = 4;

fn map_update_elem(run: &mut Run<'_>, [handle, key, value, flags, _]: [u64; 5]) -> Result<u64, TrapKind> {
    let guard = epoch::pin();
    let map = place(2, 1).map(run, handle, &guard)?;
    let def = map.def();
    if u64::from(def.value_len) > HELPER_MEMORY_LEN_MAX {
        return Err(place(2, 1).not("a map with values of at most 64 KiB"));
    }
    run.work(map.lookup_work() + map.update_work())?;
    let worker = run.worker();
    let updated = place(2, 2).copied(run, key, def.key_len, |key| {
        place(2, 3).copied(run, value, def.value_len, |value| map.update(worker, key, value, flags))
    })??;
    if flags & F_LOCK != 0 && updated == Err(Errno::EBUSY) {
        run.work(LOCK_WORK)?;
    }
    Ok(updated.map_or_else(Errno::to_r0, |()| 0))
}

/// `long bpf_map_update_elem(map, key, value, flags)`.
pub(super) static MAP_UPDATE_ELEM: Helper = Helper {
    id: 2,
    name: "map_update_elem",
    args: &[Arg::Map, Arg::MapKey, Arg::MapValue, Arg::Any],
    ret: Ret::Integer,
    cost: 256,
    frame: Frame::Keeps,
    kinds: &[],
    body: map_update_elem,
};

fn map_delete_elem(run: &mut Run<'_>, [handle, key, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let guard = epoch::pin();
    let map = place(3, 1).map(run, handle, &guard)?;
    run.work(map.lookup_work())?;
    let deleted = place(3, 2).copied(run, key, map.def().key_len, |key| map.delete(key))?;
    Ok(deleted.map_or_else(Errno::to_r0, |()| 0))
}

/// `long bpf_map_delete_elem(map, key)`.
pub(super) static MAP_DELETE_ELEM: Helper = Helper {
    id: 3,
    name: "map_delete_elem",
    args: &[Arg::Map, Arg::MapKey],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: map_delete_elem,
};

fn map_lookup_percpu_elem(run: &mut Run<'_>, [handle, key, processor, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let guard = epoch::pin();
    let map = place(195, 1).map(run, handle, &guard)?;
    let def = map.def();
    if !def.kind.is_per_worker() {
        return Err(place(195, 1).not("a per-CPU map"));
    }
    run.work(map.lookup_work())?;
    #[expect(clippy::cast_possible_truncation, reason = "the kernel's parameter is 32 bits of r3")]
    let worker = WorkerIndex(processor as u32);
    let exists = worker.0 < run.world.worker_count;
    let lookup = |key: &[u8]| if exists { map.lookup(worker, key).ok().flatten() } else { None };
    let found = place(195, 2).copied(run, key, def.key_len, lookup)?;
    Ok(found.map_or(0, u64::from))
}

/// `void *bpf_map_lookup_percpu_elem(map, key, cpu)`: that processor's value or NULL.
pub(super) static MAP_LOOKUP_PERCPU_ELEM: Helper = Helper {
    id: 195,
    name: "map_lookup_percpu_elem",
    args: &[Arg::Map, Arg::MapKey, Arg::Any],
    ret: Ret::MapValueOrNull,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[],
    body: map_lookup_percpu_elem,
};
