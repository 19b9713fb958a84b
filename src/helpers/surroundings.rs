//! Where and by chance: processor, node, random numbers. `kernel/bpf/helpers.c`.
//!
//! Invariant: answers depend on the run alone.

use super::{Frame, Helper, Ret};
use crate::run::Run;
use crate::trap::TrapKind;

/// One step of xorshift64*: `state` must not be zero and stays so. Its upper half is the answer.
fn get_prandom_u32(run: &mut Run<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    let mut state = run.random.max(1);
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    run.random = state;
    Ok(state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32)
}

/// `u32 bpf_get_prandom_u32()`.
pub(super) static GET_PRANDOM_U32: Helper = Helper {
    id: 7,
    name: "get_prandom_u32",
    args: &[],
    ret: Ret::Integer,
    cost: 8,
    frame: Frame::Keeps,
    kinds: &[],
    body: get_prandom_u32,
};

fn get_smp_processor_id(run: &mut Run<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(u64::from(run.head.worker))
}

/// `u32 bpf_get_smp_processor_id()`: the worker's number.
pub(super) static GET_SMP_PROCESSOR_ID: Helper = Helper {
    id: 8,
    name: "get_smp_processor_id",
    args: &[],
    ret: Ret::Integer,
    cost: 4,
    frame: Frame::Keeps,
    kinds: &[],
    body: get_smp_processor_id,
};

fn get_numa_node_id(_: &mut Run<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(0)
}

/// `long bpf_get_numa_node_id()`: a host is one node, number 0.
pub(super) static GET_NUMA_NODE_ID: Helper = Helper {
    id: 42,
    name: "get_numa_node_id",
    args: &[],
    ret: Ret::Integer,
    cost: 4,
    frame: Frame::Keeps,
    kinds: &[],
    body: get_numa_node_id,
};
