//! The definition of a map.
//!
//! Invariant: words and numbers only; what a type makes of them is in its file.

use std::fmt;
use std::sync::Arc;

/// Type of a map, `enum bpf_map_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MapKind(pub u32);

impl MapKind {
    /// `BPF_MAP_TYPE_HASH`.
    pub const HASH: Self = Self(1);
    /// `BPF_MAP_TYPE_ARRAY`.
    pub const ARRAY: Self = Self(2);
    /// `BPF_MAP_TYPE_PROG_ARRAY`.
    pub const PROGRAM_ARRAY: Self = Self(3);
    /// `BPF_MAP_TYPE_PERF_EVENT_ARRAY`.
    pub const PERF_EVENT_ARRAY: Self = Self(4);
    /// `BPF_MAP_TYPE_PERCPU_HASH`.
    pub const PERCPU_HASH: Self = Self(5);
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    pub const PERCPU_ARRAY: Self = Self(6);
    /// `BPF_MAP_TYPE_LRU_HASH`.
    pub const LRU_HASH: Self = Self(9);
    /// `BPF_MAP_TYPE_LRU_PERCPU_HASH`.
    pub const LRU_PERCPU_HASH: Self = Self(10);
    /// `BPF_MAP_TYPE_LPM_TRIE`.
    pub const LPM_TRIE: Self = Self(11);
    /// `BPF_MAP_TYPE_ARRAY_OF_MAPS`.
    pub const ARRAY_OF_MAPS: Self = Self(12);
    /// `BPF_MAP_TYPE_HASH_OF_MAPS`.
    pub const HASH_OF_MAPS: Self = Self(13);
    /// `BPF_MAP_TYPE_DEVMAP`.
    pub const DEVMAP: Self = Self(14);
    /// `BPF_MAP_TYPE_CPUMAP`.
    pub const CPUMAP: Self = Self(16);
    /// `BPF_MAP_TYPE_XSKMAP`.
    pub const XSKMAP: Self = Self(17);
    /// `BPF_MAP_TYPE_QUEUE`.
    pub const QUEUE: Self = Self(22);
    /// `BPF_MAP_TYPE_STACK`.
    pub const STACK: Self = Self(23);
    /// `BPF_MAP_TYPE_DEVMAP_HASH`.
    pub const DEVMAP_HASH: Self = Self(25);
    /// `BPF_MAP_TYPE_RINGBUF`.
    pub const RING_BUFFER: Self = Self(27);
    /// `BPF_MAP_TYPE_BLOOM_FILTER`.
    pub const BLOOM_FILTER: Self = Self(30);
}

/// Names by number, as bpftool spells them; the index is the number.
const NAMES: [&str; 34] = [
    "unspec",
    "hash",
    "array",
    "prog_array",
    "perf_event_array",
    "percpu_hash",
    "percpu_array",
    "stack_trace",
    "cgroup_array",
    "lru_hash",
    "lru_percpu_hash",
    "lpm_trie",
    "array_of_maps",
    "hash_of_maps",
    "devmap",
    "sockmap",
    "cpumap",
    "xskmap",
    "sockhash",
    "cgroup_storage",
    "reuseport_sockarray",
    "percpu_cgroup_storage",
    "queue",
    "stack",
    "sk_storage",
    "devmap_hash",
    "struct_ops",
    "ringbuf",
    "inode_storage",
    "task_storage",
    "bloom_filter",
    "user_ringbuf",
    "cgrp_storage",
    "arena",
];

impl MapKind {
    /// Whether an element has a value for each worker (`BPF_MAP_TYPE_*PERCPU*` of arrays and hashes).
    #[must_use]
    pub fn is_per_worker(self) -> bool {
        matches!(self, Self::PERCPU_HASH | Self::PERCPU_ARRAY | Self::LRU_PERCPU_HASH)
    }
}

impl fmt::Display for MapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Number of a map on its host; never used again while a program that knows it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MapId(pub u32);

/// What a map is to be: `union bpf_attr` of `BPF_MAP_CREATE`, with a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapDef {
    /// Its name in the object.
    pub name: String,
    /// Its type.
    pub kind: MapKind,
    /// Bytes of a key.
    pub key_len: u32,
    /// Bytes of a value.
    pub value_len: u32,
    /// Elements at most; bytes of a ring buffer.
    pub max_entries: u32,
    /// `BPF_F_*` map flags.
    pub flags: u32,
    /// What only some types read (`map_extra`): how many hash functions a bloom filter has.
    pub extra: u64,
    /// For a map of maps: what the maps that it holds are like.
    pub inner: Option<Arc<MapDef>>,
    /// Offset of the `struct bpf_spin_lock` in a value, where there is one.
    pub lock_offset: Option<u32>,
    /// Offset of the `struct bpf_timer` in a value, where there is one.
    pub timer_offset: Option<u32>,
}

impl MapDef {
    /// The definition with the sizes that loaders decide: a perf event array has a slot for each worker where it says
    /// nothing (libbpf), and keys and values of four bytes whatever it says (cilium/ebpf).
    #[must_use]
    pub fn sized(&self, worker_count: u32) -> Self {
        let mut def = self.clone();
        if def.kind == MapKind::PERF_EVENT_ARRAY {
            (def.key_len, def.value_len) = (4, 4);
            if def.max_entries == 0 {
                def.max_entries = worker_count;
            }
        }
        def
    }

    /// Bytes from one value to the next: the length rounded up to 8, as everywhere in the kernel.
    #[must_use]
    pub fn value_stride(&self) -> u64 {
        u64::from(self.value_len).next_multiple_of(8)
    }
}
