//! `BPF_MAP_TYPE_PERCPU_HASH`: a hash map whose elements have a value for each worker.
//!
//! Source: `kernel/bpf/hashtab.c`.

use std::sync::Arc;

use super::hash::Hash;
use super::hash_table::WhenFull;
use super::values::Sharing;
use super::{Map, MapDef, MapEnv, MapError, MapKind, MapType};

/// The type.
pub(super) static PERCPU_HASH: MapType = MapType { kind: MapKind::PERCPU_HASH, create };

fn create(def: &MapDef, env: MapEnv<'_>) -> Result<Arc<dyn Map>, MapError> {
    Ok(Arc::new(Hash::new(def, env, Sharing::PerWorker, WhenFull::Refuse)?))
}
