//! Put values into queues, stacks and bloom filters, and take them out or ask for them. `kernel/bpf/helpers.c`.
//!
//! Invariant: a map sees copies of values, never guest memory.

use crossbeam::epoch::{self, Guard};

use super::check::{Place, place};
use super::{Arg, Frame, Helper, Ret};
use crate::limits::HELPER_MEMORY_LEN_MAX;
use crate::maps::{Errno, Map, MapKind};
use crate::run::Run;
use crate::trap::{Access, TrapKind};

/// The types that have these operations.
const KINDS: [MapKind; 3] = [MapKind::QUEUE, MapKind::STACK, MapKind::BLOOM_FILTER];

/// The map of a call.
fn map<'g>(run: &Run<'g>, at: Place, handle: u64, guard: &'g Guard) -> Result<&'g dyn Map, TrapKind> {
    let map = at.map(run, handle, guard)?;
    if !KINDS.contains(&map.def().kind) {
        return Err(at.not("a queue, a stack or a bloom filter"));
    }
    if u64::from(map.def().value_len) > HELPER_MEMORY_LEN_MAX {
        return Err(at.not("a map with values of at most 64 KiB"));
    }
    Ok(map)
}

fn map_push_elem(run: &mut Run<'_>, [handle, value, flags, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let guard = epoch::pin();
    let map = map(run, place(87, 1), handle, &guard)?;
    run.work(map.update_work())?;
    let pushed = place(87, 2).copied(run, value, map.def().value_len, |value| map.push(value, flags))?;
    Ok(pushed.map_or_else(Errno::to_r0, |()| 0))
}

/// `long bpf_map_push_elem(map, value, flags)`.
pub(super) static MAP_PUSH_ELEM: Helper = Helper {
    id: 87,
    name: "map_push_elem",
    args: &[Arg::Map, Arg::MapValue, Arg::Any],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: map_push_elem,
};

fn map_pop_elem(run: &mut Run<'_>, [handle, value, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let guard = epoch::pin();
    let map = map(run, place(88, 1), handle, &guard)?;
    run.work(map.update_work())?;
    place(88, 2).exchanged(run, value, map.def().value_len, |value| map.pop(value))
}

/// `long bpf_map_pop_elem(map, value)`: takes the next value out; zeros where there is none.
pub(super) static MAP_POP_ELEM: Helper = Helper {
    id: 88,
    name: "map_pop_elem",
    args: &[Arg::Map, Arg::MapValueOut],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: map_pop_elem,
};

fn map_peek_elem(run: &mut Run<'_>, [handle, value, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let guard = epoch::pin();
    let map = map(run, place(89, 1), handle, &guard)?;
    run.work(map.update_work())?;
    if map.def().kind == MapKind::BLOOM_FILTER {
        let at = place(89, 2);
        let asked = at.copied(run, value, map.def().value_len, |value| map.peek(&mut value.to_vec()))?;
        return Ok(asked.map_or_else(Errno::to_r0, |()| 0));
    }
    place(89, 2).exchanged(run, value, map.def().value_len, |value| map.peek(value))
}

/// `long bpf_map_peek_elem(map, value)`: copies the next value; asks a bloom filter whether it holds this one.
pub(super) static MAP_PEEK_ELEM: Helper = Helper {
    id: 89,
    name: "map_peek_elem",
    args: &[Arg::Map, Arg::MapValueOut],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: map_peek_elem,
};

impl Place {
    /// Lets `take` fill guest memory that was found writable; what it answers is r0.
    fn exchanged(
        self,
        run: &Run<'_>,
        addr: u64,
        len: u32,
        take: impl FnOnce(&mut [u8]) -> Result<(), Errno>,
    ) -> Result<u64, TrapKind> {
        let cage = &run.world.cage;
        cage.check(addr, len.into(), Access::Write).map_err(|fault| self.fault(fault))?;
        let mut value = vec![0; len as usize];
        let taken = take(&mut value);
        cage.write(addr, &value).map_err(|fault| self.fault(fault))?;
        Ok(taken.map_or_else(Errno::to_r0, |()| 0))
    }
}
