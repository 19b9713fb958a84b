//! `BPF_MAP_TYPE_LRU_HASH`: a hash map that gives up an old element when it is full.
//!
//! Source: `kernel/bpf/hashtab.c`.

use std::sync::Arc;

use super::hash::Hash;
use super::hash_table::WhenFull;
use super::values::Sharing;
use super::{Map, MapDef, MapEnv, MapError, MapKind, MapType};

/// The type.
pub(super) static LRU_HASH: MapType = MapType { kind: MapKind::LRU_HASH, create };

fn create(def: &MapDef, env: MapEnv<'_>) -> Result<Arc<dyn Map>, MapError> {
    Ok(Arc::new(Hash::new(def, env, Sharing::Shared, WhenFull::Evict)?))
}
