//! What map types check alike: creation flags, update flags, sizes.
//!
//! Source: `kernel/bpf/syscall.c` (`map_create`), `include/linux/bpf.h` (`bpf_map_flags_access_ok`), and the
//! `map_alloc_check` of each type.
//!
//! Invariant: goes by definitions, flags and lengths alone; no check depends on what a map holds.

use super::spin_lock::LOCK_LEN;
use super::{Errno, MapDef, MapError, MapKind};
use crate::limits::MAP_BYTES_MAX;

/// `BPF_F_NO_PREALLOC`.
pub(super) const NO_PREALLOC: u32 = 1 << 0;
/// `BPF_F_NO_COMMON_LRU`.
pub(super) const NO_COMMON_LRU: u32 = 1 << 1;
/// `BPF_F_NUMA_NODE`; the definition names no node, so it means the first.
pub(super) const NUMA_NODE: u32 = 1 << 2;
/// `BPF_F_RDONLY`: for bpf(2).
pub(super) const RDONLY: u32 = 1 << 3;
/// `BPF_F_WRONLY`: for bpf(2).
pub(super) const WRONLY: u32 = 1 << 4;
/// `BPF_F_ZERO_SEED`.
pub(super) const ZERO_SEED: u32 = 1 << 6;
/// `BPF_F_RDONLY_PROG`.
pub(super) const RDONLY_PROG: u32 = 1 << 7;
/// `BPF_F_WRONLY_PROG`.
pub(super) const WRONLY_PROG: u32 = 1 << 8;
/// `BPF_F_MMAPABLE`.
pub(super) const MMAPABLE: u32 = 1 << 10;
/// `BPF_F_PRESERVE_ELEMS`.
pub(super) const PRESERVE_ELEMS: u32 = 1 << 11;
/// `BPF_F_INNER_MAP`.
pub(super) const INNER_MAP: u32 = 1 << 12;
/// `BPF_F_ACCESS_MASK`.
pub(super) const ACCESS: u32 = RDONLY | WRONLY | RDONLY_PROG | WRONLY_PROG;

/// Bytes of `struct bpf_timer`.
pub(super) const TIMER_LEN: u32 = 16;

/// The kernel's `PCPU_MIN_UNIT_SIZE`: bytes of one worker's value at most, rounded up to 8.
pub(super) const PERCPU_VALUE_LEN_MAX: u64 = 32 << 10;
/// The kernel's `KMALLOC_MAX_SIZE`: bytes of one element at most.
pub(super) const ELEMENT_LEN_MAX: u64 = 4 << 20;

/// The refusal of a definition.
pub(super) fn refuse<T>(def: &MapDef, what: &'static str, errno: Errno) -> Result<T, MapError> {
    Err(MapError::Definition { name: def.name.clone(), what, errno })
}

/// Refuses the definition unless `holds`.
pub(super) fn require(def: &MapDef, holds: bool, what: &'static str) -> Result<(), MapError> {
    if holds { Ok(()) } else { refuse(def, what, Errno::EINVAL) }
}

/// Refuses flags outside `allowed` and access flags that contradict each other.
pub(super) fn check_flags(def: &MapDef, allowed: u32) -> Result<(), MapError> {
    let both = |pair: u32| def.flags & pair == pair;
    require(def, def.flags & !allowed == 0, "a flag that this type does not know")?;
    require(def, !both(RDONLY | WRONLY), "read-only and write-only at once")?;
    require(def, !both(RDONLY_PROG | WRONLY_PROG), "read-only and write-only for programs at once")
}

/// Refuses locks and timers where the kernel knows none (`map_check_btf`), and those outside the value.
pub(super) fn check_fields(def: &MapDef) -> Result<(), MapError> {
    for (offset, len, kinds, align) in [
        (def.lock_offset, LOCK_LEN, &[MapKind::HASH, MapKind::ARRAY][..], 4),
        (def.timer_offset, TIMER_LEN, &[MapKind::HASH, MapKind::LRU_HASH, MapKind::ARRAY][..], 8),
    ] {
        let Some(offset) = offset else { continue };
        let fits = u64::from(offset) + u64::from(len) <= u64::from(def.value_len);
        require(def, fits && offset % align == 0, "a lock or timer that is not in its values")?;
        if let (Some(lock), Some(timer)) = (def.lock_offset, def.timer_offset) {
            let apart = lock + LOCK_LEN <= timer || timer + TIMER_LEN <= lock;
            require(def, apart, "a lock in a timer")?;
        }
        if def.flags & (RDONLY_PROG | WRONLY_PROG) != 0 {
            return refuse(def, "locks or timers in values that programs may not read and write", Errno::EACCES);
        }
        if !kinds.contains(&def.kind) {
            return refuse(def, "values of this type hold no locks or timers", Errno::EOPNOTSUPP);
        }
    }
    Ok(())
}

/// Refuses a map whose values or bookkeeping take more than [`MAP_BYTES_MAX`].
pub(super) fn check_bytes(def: &MapDef, bytes: u64) -> Result<(), MapError> {
    if bytes <= MAP_BYTES_MAX { Ok(()) } else { refuse(def, "more than 1 GiB for its entries", Errno::E2BIG) }
}

/// `BPF_F_LOCK` of an update or lookup.
const F_LOCK: u64 = 4;

/// Whether a value is written under its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Locking {
    /// As it is.
    Without,
    /// Under its lock.
    Under,
}

/// When an update is to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// `BPF_ANY`.
    Any,
    /// `BPF_NOEXIST`.
    NoExist,
    /// `BPF_EXIST`.
    Exist,
}

impl Update {
    /// Refuses flags of a batch that are neither none nor `BPF_F_LOCK`, where values have a lock.
    pub(super) fn check_batch(flags: u64, def: &MapDef) -> Result<(), Errno> {
        if flags & !F_LOCK != 0 || flags != 0 && def.lock_offset.is_none() { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// Reads the flags of an update of a map whose values may hold a lock.
    #[inline]
    pub(super) fn parse_locking(flags: u64, def: &MapDef) -> Result<(Self, Locking), Errno> {
        if flags & F_LOCK == 0 {
            return Ok((Self::parse(flags)?, Locking::Without));
        }
        let update = Self::parse(flags & !F_LOCK)?;
        if def.lock_offset.is_some() { Ok((update, Locking::Under)) } else { Err(Errno::EINVAL) }
    }

    /// Reads the flags of an update. `BPF_F_LOCK` is among the refused.
    #[inline]
    pub(super) fn parse(flags: u64) -> Result<Self, Errno> {
        match flags {
            0 => Ok(Self::Any),
            1 => Ok(Self::NoExist),
            2 => Ok(Self::Exist),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Whether it may go on for a key that exists, as `exists` says, or does not.
    #[inline]
    pub(super) fn check(self, exists: bool) -> Result<(), Errno> {
        match self {
            Self::NoExist if exists => Err(Errno::EEXIST),
            Self::Exist if !exists => Err(Errno::ENOENT),
            Self::Any | Self::NoExist | Self::Exist => Ok(()),
        }
    }
}

/// Refuses a key or value of another length than the definition's: the kernel reads by the definition and cannot be
/// given any other, but our callers can.
#[inline]
pub(super) fn check_len(bytes: &[u8], len: u64) -> Result<(), Errno> {
    if bytes.len() as u64 == len { Ok(()) } else { Err(Errno::EINVAL) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_definition_says_what_and_with_which_errno() {
        let def = MapDef {
            name: "flows".to_owned(),
            kind: MapKind::HASH,
            key_len: 4,
            value_len: 4,
            max_entries: 1,
            flags: RDONLY_PROG | WRONLY_PROG,
            ..MapDef::default()
        };
        let text = |result: Result<(), MapError>| result.expect_err("refused").to_string();
        assert_eq!(
            text(check_flags(&def, ACCESS)),
            "map flows: read-only and write-only for programs at once (EINVAL); correct the definition, or its size with --map-size"
        );
        assert_eq!(
            text(check_flags(&def, 0)),
            "map flows: a flag that this type does not know (EINVAL); correct the definition, or its size with --map-size"
        );
        assert_eq!(
            text(check_bytes(&def, u64::MAX)),
            "map flows: more than 1 GiB for its entries (E2BIG); correct the definition, or its size with --map-size"
        );
    }
}
