//! `BPF_MAP_TYPE_LPM_TRIE`: values by prefix; a lookup finds the longest prefix of its key.
//!
//! Source: `kernel/bpf/lpm_trie.c`.
//!
//! Invariant: a lookup takes no lock, unless it was led astray so often that it waits for the writer once.

use std::fmt;
use std::sync::Arc;

use crossbeam::epoch;

use super::budget::Share;
use super::check::{self, ELEMENT_LEN_MAX, Update, check_flags, check_len, refuse, require};
use super::prefix::Prefix;
use super::trie::Trie;
use super::values::{Sharing, Values};
use super::{Errno, Map, MapDef, MapEnv, MapError, MapKind, MapType, WorkerIndex};
use crate::limits::BURST_MAX;

/// The type.
pub(super) static LPM_TRIE: MapType = MapType { kind: MapKind::LPM_TRIE, create };

/// Bytes of a key before its prefix: the prefix length.
const KEY_HEAD_LEN: u32 = 4;
/// Bytes of a prefix at most.
const PREFIX_LEN_MAX: u32 = 256;
/// Bytes of the kernel's `struct lpm_trie_node`, which count to the element.
const NODE_LEN: u64 = 40;
/// Bytes of values that slack may take.
const SLACK_BYTES_MAX: u64 = 1 << 20;

fn create(def: &MapDef, env: MapEnv<'_>) -> Result<Arc<dyn Map>, MapError> {
    check_definition(def)?;
    // Two for the update under way; where values are small, as many as some bursts replace.
    let bursts = u64::from(env.worker_count) * BURST_MAX as u64 * 4;
    let slack = 2 + bursts.min(SLACK_BYTES_MAX / def.value_stride());
    let slack = u32::try_from(slack).expect("some thousands");
    let prefix_len = def.key_len - KEY_HEAD_LEN;
    let share = env.take(def, Trie::bytes(def.max_entries, slack, prefix_len))?;
    let values = Values::new(def, env, Trie::place_count(def.max_entries, slack), Sharing::Shared)?;
    let Some(trie) = Trie::new(def.max_entries, slack, prefix_len) else {
        return refuse(def, "no memory for its keys", Errno::ENOMEM);
    };
    Ok(Arc::new(LpmTrie { def: def.clone(), trie, values, _share: share }))
}

fn check_definition(def: &MapDef) -> Result<(), MapError> {
    require(def, def.max_entries != 0, "no entries")?;
    require(def, def.flags & check::NO_PREALLOC != 0, "an LPM trie needs BPF_F_NO_PREALLOC")?;
    check_flags(def, check::NO_PREALLOC | check::NUMA_NODE | check::ACCESS)?;
    let key_lens = KEY_HEAD_LEN + 1..=KEY_HEAD_LEN + PREFIX_LEN_MAX;
    require(def, key_lens.contains(&def.key_len), "keys of an LPM trie have 5 to 260 bytes")?;
    let value_len_max = ELEMENT_LEN_MAX - u64::from(PREFIX_LEN_MAX) - NODE_LEN;
    let fits = (1..=value_len_max).contains(&u64::from(def.value_len));
    require(def, fits, "values of an LPM trie have from 1 byte to 4 MiB less 296 bytes")
}

/// An LPM trie.
struct LpmTrie {
    def: MapDef,
    trie: Trie,
    values: Values,
    _share: Share,
}

impl fmt::Debug for LpmTrie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LpmTrie").field("def", &self.def).finish_non_exhaustive()
    }
}

impl LpmTrie {
    /// The prefix of a key; `None` where it is longer than the map's keys.
    fn prefix<'k>(&self, key: &'k [u8]) -> Result<Option<Prefix<&'k [u8]>>, Errno> {
        check_len(key, u64::from(self.def.key_len))?;
        Ok(Prefix::parse(key, self.trie.len_max()))
    }
}

impl Map for LpmTrie {
    fn def(&self) -> &MapDef {
        &self.def
    }

    /// A walk may meet a node a bit, and compares up to the whole key at each.
    fn lookup_work(&self) -> u64 {
        let key_len = u64::from(self.def.key_len);
        key_len * 8 * (1 + key_len / 16)
    }

    fn lookup(&self, worker: WorkerIndex, key: &[u8]) -> Result<Option<u32>, Errno> {
        let Some(prefix) = self.prefix(key)? else { return Ok(None) };
        let _guard = epoch::pin();
        Ok(self.trie.longest(prefix, |place| place).and_then(|place| self.values.addr(place, worker)))
    }

    fn update(&self, worker: WorkerIndex, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        let prefix = self.prefix(key)?;
        check_len(value, u64::from(self.def.value_len))?;
        let update = Update::parse(flags)?;
        self.trie.update(prefix.ok_or(Errno::EINVAL)?, update, |place| self.values.write(place, worker, value))
    }

    fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.trie.delete(self.prefix(key)?.ok_or(Errno::EINVAL)?)
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        let prefix = key.map(|key| self.prefix(key)).transpose()?.flatten();
        self.trie.next_key(prefix).ok_or(Errno::ENOENT)
    }

    fn host_lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        let prefix = self.prefix(key)?.ok_or(Errno::ENOENT)?;
        let _guard = epoch::pin();
        self.trie.longest(prefix, |place| self.values.read_host(place)).ok_or(Errno::ENOENT)
    }

    fn host_update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        self.update(WorkerIndex(0), key, value, flags)
    }
}
