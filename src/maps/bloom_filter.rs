//! `BPF_MAP_TYPE_BLOOM_FILTER`: values that were surely never put in, and values that probably were.
//!
//! Putting in and asking take the whole value; nothing can be taken out, listed or counted. The hash functions differ from
//! the kernel's, and with them the values that are mistaken for others.
//!
//! Source: `kernel/bpf/bloom_filter.c`.
//!
//! Invariant: a bit that was set stays set.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::budget::Share;
use super::check::{self, ELEMENT_LEN_MAX, check_flags, check_len, refuse, require};
use super::seed::{Seed, words};
use super::zeroed::zeroed;
use super::{Errno, Map, MapDef, MapEnv, MapError, MapKind, MapType, WorkerIndex};

/// The type.
pub(super) static BLOOM_FILTER: MapType = MapType { kind: MapKind::BLOOM_FILTER, create };

/// Hash functions where the definition names none.
const HASHES_DEFAULT: u64 = 5;
/// Hash functions at most: the bits of `map_extra` that say how many.
const HASHES_MAX: u64 = 0xf;
/// Bits at most.
const BITS_MAX: u64 = 1 << 32;

fn create(def: &MapDef, env: MapEnv<'_>) -> Result<Arc<dyn Map>, MapError> {
    let contradicts = def.flags & (check::RDONLY | check::WRONLY) == check::RDONLY | check::WRONLY;
    require(def, !contradicts, "read-only and write-only at once")?;
    if u64::from(def.value_len) > ELEMENT_LEN_MAX {
        return refuse(def, "values of more than 4 MiB", Errno::E2BIG);
    }
    require(def, def.key_len == 0, "bloom filters have no keys")?;
    require(def, def.value_len != 0, "values of no bytes")?;
    require(def, def.max_entries != 0, "no entries")?;
    check_flags(def, check::NUMA_NODE | check::ZERO_SEED | check::ACCESS)?;
    require(def, def.extra <= HASHES_MAX, "more than 15 hash functions")?;
    let hash_count = if def.extra == 0 { HASHES_DEFAULT } else { def.extra };
    let bit_count = bit_count(def.max_entries, hash_count);
    let share = env.take(def, bit_count / 8)?;
    let Some(bits) = zeroed(bit_count / 64) else {
        return refuse(def, "no memory for its bits", Errno::ENOMEM);
    };
    let seeds = [Seed::random(), Seed::random()];
    Ok(Arc::new(BloomFilter { def: def.clone(), hash_count, bits, seeds, _share: share }))
}

/// As many bits as the kernel takes: entries times hash functions over ln 2, up to a power of two.
fn bit_count(max_entries: u32, hash_count: u64) -> u64 {
    let product = u64::from(max_entries) * hash_count;
    let bits = product / 5 * 7;
    if product > u64::from(u32::MAX) || bits > BITS_MAX / 2 { BITS_MAX } else { bits.max(64).next_power_of_two() }
}

/// A bloom filter.
struct BloomFilter {
    def: MapDef,
    hash_count: u64,
    bits: Box<[AtomicU64]>,
    seeds: [Seed; 2],
    _share: Share,
}

impl fmt::Debug for BloomFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BloomFilter").field("def", &self.def).finish_non_exhaustive()
    }
}

impl BloomFilter {
    /// The words and bits of a value. Two hashes make as many as are wanted.
    fn places(&self, value: &[u8]) -> impl Iterator<Item = (&AtomicU64, u64)> {
        let [first, step] = self.seeds.each_ref().map(|seed| u64::from(seed.hash(words(value))));
        let mask = self.bits.len() * 64 - 1;
        (0..self.hash_count).map(move |number| {
            let hash = first + number * (step | 1);
            let bit = usize::try_from(hash).expect("usize has 64 bits") & mask;
            (&self.bits[bit / 64], 1 << (bit % 64))
        })
    }
}

impl Map for BloomFilter {
    fn def(&self) -> &MapDef {
        &self.def
    }

    fn lookup(&self, _worker: WorkerIndex, _key: &[u8]) -> Result<Option<u32>, Errno> {
        Err(Errno::EINVAL)
    }

    fn update(&self, _worker: WorkerIndex, _key: &[u8], _value: &[u8], _flags: u64) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn delete(&self, _key: &[u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Puts a value in.
    fn push(&self, value: &[u8], flags: u64) -> Result<(), Errno> {
        check_len(value, self.def.value_len.into())?;
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        for (word, bit) in self.places(value) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    fn pop(&self, _into: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Asks whether the value in `into` was put in; `ENOENT` where it surely was not.
    fn peek(&self, into: &mut [u8]) -> Result<(), Errno> {
        check_len(into, self.def.value_len.into())?;
        let there = self.places(into).all(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0);
        if there { Ok(()) } else { Err(Errno::ENOENT) }
    }

    fn next_key(&self, _key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn host_lookup(&self, _key: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    fn host_update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        check_len(key, 0)?;
        self.push(value, flags)
    }
}
