//! `BPF_MAP_TYPE_LRU_PERCPU_HASH`: both of what its name says.
//!
//! Source: `kernel/bpf/hashtab.c`.

use std::sync::Arc;

use super::hash::Hash;
use super::hash_table::WhenFull;
use super::values::Sharing;
use super::{Map, MapDef, MapEnv, MapError, MapKind, MapType};

/// The type.
pub(super) static LRU_PERCPU_HASH: MapType = MapType { kind: MapKind::LRU_PERCPU_HASH, create };

fn create(def: &MapDef, env: MapEnv<'_>) -> Result<Arc<dyn Map>, MapError> {
    Ok(Arc::new(Hash::new(def, env, Sharing::PerWorker, WhenFull::Evict)?))
}
