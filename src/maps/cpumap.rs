//! `BPF_MAP_TYPE_CPUMAP`: processors, which are workers here, by their number.
//!
//! A value is `struct bpf_cpumap_val`: the length of a queue, and a program to run there, which is refused.
//!
//! Source: `kernel/bpf/cpumap.c`.
//!
//! Invariant: no program runs for a target.

use super::check::{self, check_flags, refuse};
use super::targets::{Broadcast, Rules, Target, TargetArray, Value, check_definition};
use super::{Errno, MapDef, MapError, MapKind, MapType};

/// The type.
pub(super) static CPUMAP: MapType = MapType {
    kind: MapKind::CPUMAP,
    create: |def, env| {
        check(def)?;
        TargetArray::create(def, env, &RULES)
    },
};

/// Processors that a definition may count: `CONFIG_NR_CPUS` of the usual kernels.
const PROCESSORS_MAX: u32 = 8192;
/// Longest queue, in frames.
const QUEUE_LEN_MAX: u32 = 16384;

fn check(def: &MapDef) -> Result<(), MapError> {
    check_definition(def, &[4, 8])?;
    check_flags(def, check::NUMA_NODE)?;
    if def.max_entries > PROCESSORS_MAX {
        return refuse(def, "more than 8192 processors", Errno::E2BIG);
    }
    Ok(())
}

static RULES: Rules = Rules {
    update: |flags, _, _| if flags == 1 { Err(Errno::EEXIST) } else { Ok(()) },
    value: queue,
    target: |index, _| Target::Processor(index),
    broadcast: Broadcast::Refused,
    host_lookup: Ok(()),
};

fn queue(value: Value) -> Result<Option<u32>, Errno> {
    if value.word > QUEUE_LEN_MAX {
        return Err(Errno::EOVERFLOW);
    }
    if value.index >= value.worker_count {
        return Err(Errno::ENODEV);
    }
    if value.word == 0 {
        return Ok(None);
    }
    if value.program > 0 {
        return Err(Errno::ENOMEM);
    }
    Ok(Some(value.word))
}
