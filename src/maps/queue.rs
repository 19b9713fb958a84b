//! `BPF_MAP_TYPE_QUEUE`: values come out in the order in which they went in.
//!
//! Source: `kernel/bpf/queue_stack_maps.c`.

use super::deque::{self, Next};
use super::{MapKind, MapType};

/// The type.
pub(super) static QUEUE: MapType =
    MapType { kind: MapKind::QUEUE, create: |def, env| deque::create(def, env, Next::Oldest) };
