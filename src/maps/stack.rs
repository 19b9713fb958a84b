//! `BPF_MAP_TYPE_STACK`: the value that went in last comes out first.
//!
//! Source: `kernel/bpf/queue_stack_maps.c`.

use super::deque::{self, Next};
use super::{MapKind, MapType};

/// The type.
pub(super) static STACK: MapType =
    MapType { kind: MapKind::STACK, create: |def, env| deque::create(def, env, Next::Newest) };
