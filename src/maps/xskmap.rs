//! `BPF_MAP_TYPE_XSKMAP`: sockets that take frames, by index.
//!
//! A value is a number by which the host knows a socket, where the kernel has a descriptor.
//!
//! Source: `net/xdp/xskmap.c`.
//!
//! Invariant: a value means nothing here; who has the sockets knows.

use super::check::{self, check_flags};
use super::targets::{Broadcast, Rules, Target, TargetArray, check_definition};
use super::{Errno, MapKind, MapType};

/// The type.
pub(super) static XSKMAP: MapType = MapType {
    kind: MapKind::XSKMAP,
    create: |def, env| {
        check_definition(def, &[4])?;
        check_flags(def, check::NUMA_NODE | check::RDONLY | check::WRONLY)?;
        TargetArray::create(def, env, &RULES)
    },
};

static RULES: Rules = Rules {
    update: |flags, old, new| match (flags, old) {
        (1, Some(old)) if old != new => Err(Errno::EEXIST),
        (2, None) => Err(Errno::ENOENT),
        _ => Ok(()),
    },
    value: |value| Ok(Some(value.word)),
    target: |_, number| Target::Socket(number),
    broadcast: Broadcast::Refused,
    host_lookup: Err(Errno::EOPNOTSUPP),
};
