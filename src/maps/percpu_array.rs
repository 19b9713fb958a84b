//! `BPF_MAP_TYPE_PERCPU_ARRAY`: an array whose elements have a value for each worker.
//!
//! Source: `kernel/bpf/arraymap.c`.

use std::sync::Arc;

use super::array::{Array, check_definition};
use super::check::{self, PERCPU_VALUE_LEN_MAX, check_flags, refuse};
use super::values::Sharing;
use super::{Errno, Map, MapDef, MapEnv, MapError, MapKind, MapType};

/// The type.
pub(super) static PERCPU_ARRAY: MapType = MapType { kind: MapKind::PERCPU_ARRAY, create };

fn create(def: &MapDef, env: MapEnv<'_>) -> Result<Arc<dyn Map>, MapError> {
    check_definition(def)?;
    check_flags(def, check::ACCESS)?;
    if def.value_stride() > PERCPU_VALUE_LEN_MAX {
        return refuse(def, "per-CPU values of more than 32 KiB", Errno::E2BIG);
    }
    Ok(Arc::new(Array::new(def, env, Sharing::PerWorker)?))
}
