//! Open-coded iterators: loops that a program writes out, with the state of the loop on its stack. `kernel/bpf/bpf_iter.c`.
//!
//! Invariant: the state is two numbers of the program's; nothing of the host depends on them.

use super::check::{Place, kfunc_place};
use super::skb_frame::u32_of;
use super::{Arg, Frame, Helper, KFUNC, Ret};
use crate::limits::LOOPS_MAX;
use crate::maps::Errno;
use crate::run::Run;
use crate::trap::TrapKind;

/// Bytes of `struct bpf_iter_num`: the number that was handed out last, and the one behind the last.
const NUM_LEN: u32 = 8;

/// Leaves the state of an iterator on the stack.
fn put(run: &Run<'_>, at: Place, iterator: u64, [current, end]: [i32; 2]) -> Result<(), TrapKind> {
    let bytes = [current, end].map(i32::to_le_bytes);
    run.world.cage.write(iterator, bytes.as_flattened()).map_err(|fault| at.fault(fault))
}

fn iter_num_new(run: &mut Run<'_>, [iterator, start, end, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = kfunc_place(ITER_NUM_NEW.name, 1);
    let [start, end] = [start, end].map(|number| u32_of(number).cast_signed());
    let (state, answer) = if start > end {
        ([0, 0], Errno::EINVAL.to_r0())
    } else if i64::from(end) - i64::from(start) > i64::from(LOOPS_MAX) {
        ([0, 0], Errno::E2BIG.to_r0())
    } else {
        ([start.wrapping_sub(1), end], 0)
    };
    put(run, at, iterator, state)?;
    Ok(answer)
}

/// `int bpf_iter_num_new(it, start, end)`: over the numbers from `start` up to `end`.
pub(super) static ITER_NUM_NEW: Helper = Helper {
    id: KFUNC + 11,
    name: "iter_num_new",
    args: &[Arg::BytesOut(NUM_LEN), Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 8,
    frame: Frame::Keeps,
    kinds: &[],
    body: iter_num_new,
};

fn iter_num_next(run: &mut Run<'_>, [iterator, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let at = kfunc_place(ITER_NUM_NEXT.name, 1);
    let mut state = [[0; 4]; 2];
    run.world.cage.read(iterator, state.as_flattened_mut()).map_err(|fault| at.fault(fault))?;
    let [current, end] = state.map(i32::from_le_bytes);
    let next = current.wrapping_add(1);
    if next >= end {
        put(run, at, iterator, [0, 0])?;
        return Ok(0);
    }
    put(run, at, iterator, [next, end])?;
    Ok(iterator)
}

/// `int *bpf_iter_num_next(it)`: where the next number is, or NULL behind the last.
pub(super) static ITER_NUM_NEXT: Helper = Helper {
    id: KFUNC + 12,
    name: "iter_num_next",
    args: &[Arg::Iterator(NUM_LEN)],
    ret: Ret::SliceOrNull,
    cost: 8,
    frame: Frame::Keeps,
    kinds: &[],
    body: iter_num_next,
};

fn iter_num_destroy(run: &mut Run<'_>, [iterator, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    put(run, kfunc_place(ITER_NUM_DESTROY.name, 1), iterator, [0, 0])?;
    Ok(0)
}

/// `void bpf_iter_num_destroy(it)`: ends it.
pub(super) static ITER_NUM_DESTROY: Helper = Helper {
    id: KFUNC + 13,
    name: "iter_num_destroy",
    args: &[Arg::BytesOut(NUM_LEN)],
    ret: Ret::Void,
    cost: 4,
    frame: Frame::Keeps,
    kinds: &[],
    body: iter_num_destroy,
};
