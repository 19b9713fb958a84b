//! `BPF_MAP_TYPE_DEVMAP`: ports by index.
//!
//! A value is `struct bpf_devmap_val`: the port's interface index, and a program to run there, which is refused.
//!
//! Source: `kernel/bpf/devmap.c`.
//!
//! Invariant: no program runs for a target.

use super::check::{self, check_flags};
use super::targets::{Broadcast, Rules, Target, TargetArray, Value, check_definition};
use super::{Errno, MapDef, MapError, MapKind, MapType};

/// The type.
pub(super) static DEVMAP: MapType = MapType {
    kind: MapKind::DEVMAP,
    create: |def, env| {
        check(def)?;
        TargetArray::create(def, env, &RULES)
    },
};

/// What both types of device map ask of a definition.
pub(super) fn check(def: &MapDef) -> Result<(), MapError> {
    check_definition(def, &[4, 8])?;
    check_flags(def, check::NUMA_NODE | check::RDONLY | check::WRONLY)
}

static RULES: Rules = Rules {
    update: |flags, _, _| if flags == 1 { Err(Errno::EEXIST) } else { Ok(()) },
    value: port,
    target: |_, ifindex| Target::Port(ifindex),
    broadcast: Broadcast::Taken,
    host_lookup: Ok(()),
};

/// The port that a value names; none empties the slot.
pub(super) fn port(value: Value) -> Result<Option<u32>, Errno> {
    if value.program > 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Some(value.word).filter(|ifindex| *ifindex != 0))
}
