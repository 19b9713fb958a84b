//! What maps of redirect targets share.
//!
//! A program reads such a map's values through pointers, so a copy of each lies in the cage; where a frame goes is decided
//! by what lies outside.
//!
//! Invariant: no target is ever read from the cage.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::array::{index_of, next_index};
use super::budget::Share;
use super::check::{check_len, refuse, require};
use super::values::{Sharing, Values};
use super::zeroed::zeroed;
use super::{Errno, Map, MapDef, MapEnv, MapError, WorkerIndex};

/// Where a frame is redirected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A port, by its interface index.
    Port(u32),
    /// A processor: the worker of this number.
    Processor(u32),
    /// A socket that takes frames, as the host numbers them.
    Socket(u32),
    /// Every port in the map with this handle.
    Ports {
        /// Handle of the map.
        map: u64,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(ifindex) => write!(f, "port {ifindex}"),
            Self::Processor(index) => write!(f, "processor {index}"),
            Self::Socket(number) => write!(f, "socket {number}"),
            Self::Ports { .. } => f.write_str("every port of a map"),
        }
    }
}

/// Whether a map's targets can all be meant at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// They can (`BPF_F_BROADCAST`).
    Taken,
    /// They cannot.
    Refused,
}

/// A map of redirect targets.
pub trait RedirectMap: Send + Sync {
    /// The target with this index.
    fn target(&self, index: u32) -> Option<Target>;

    /// Whether its targets can all be meant at once.
    fn broadcast(&self) -> Broadcast;

    /// Whether one of its targets is this port, which is a look at each place for one.
    fn holds_port(&self, ifindex: u32) -> bool;

    /// How many places for targets it has.
    fn place_count(&self) -> u64;
}

/// What a type of array of targets makes of its values.
#[derive(Debug)]
pub(super) struct Rules {
    /// Whether an update of an element that exists, or does not, may go on.
    pub(super) update: fn(flags: u64, old: Option<u32>, new: u32) -> Result<(), Errno>,
    /// Whether a value with this index, first word and program is good; `None` empties the slot.
    pub(super) value: fn(Value) -> Result<Option<u32>, Errno>,
    /// The target with this index and first word.
    pub(super) target: fn(u32, u32) -> Target,
    /// Whether they can all be meant at once.
    pub(super) broadcast: Broadcast,
    /// What `BPF_MAP_LOOKUP_ELEM` answers where the type has none.
    pub(super) host_lookup: Result<(), Errno>,
}

/// A value that is put in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    /// Under which index.
    pub(super) index: u32,
    /// Its first word.
    pub(super) word: u32,
    /// The program's descriptor; 0 and below for none.
    pub(super) program: i32,
    /// Workers of the host.
    pub(super) worker_count: u32,
}

impl Value {
    /// Takes the bytes of a value apart: one word or two.
    pub(super) fn parse(bytes: &[u8], index: u32, worker_count: u32) -> Result<Self, Errno> {
        let (word, program) = bytes.split_first_chunk().ok_or(Errno::EINVAL)?;
        let program = program.first_chunk().map_or(0, |program| i32::from_ne_bytes(*program));
        Ok(Self { index, word: u32::from_ne_bytes(*word), program, worker_count })
    }

    /// The bytes of a value without a program.
    pub(super) fn bytes(word: u32, len: u32) -> Vec<u8> {
        let mut bytes = word.to_ne_bytes().to_vec();
        bytes.resize(len as usize, 0);
        bytes
    }
}

/// What all maps of targets ask of a definition, flags aside.
pub(super) fn check_definition(def: &MapDef, value_lens: &[u32]) -> Result<(), MapError> {
    require(def, def.max_entries != 0, "no entries")?;
    require(def, def.key_len == 4, "keys of a map of redirect targets have 4 bytes")?;
    require(def, value_lens.contains(&def.value_len), "values of a map of redirect targets have 4 bytes, or 8")
}

/// Marks a slot that holds something.
const TAKEN: u64 = 1 << 32;

/// An array of targets.
#[derive(Debug)]
pub(super) struct TargetArray {
    def: MapDef,
    rules: &'static Rules,
    worker_count: u32,
    /// The first word of each value, with [`TAKEN`]; 0 for none.
    slots: Box<[AtomicU64]>,
    values: Values,
    _share: Share,
}

impl TargetArray {
    /// An array without targets, of a definition that was checked.
    pub(super) fn create(def: &MapDef, env: MapEnv<'_>, rules: &'static Rules) -> Result<Arc<dyn Map>, MapError> {
        let count = u64::from(def.max_entries);
        let share = env.take(def, count * 8)?;
        let values = Values::new(def, env, count, Sharing::Shared)?;
        let Some(slots) = zeroed(count) else { return refuse(def, "no memory for its entries", Errno::ENOMEM) };
        Ok(Arc::new(Self { def: def.clone(), rules, worker_count: env.worker_count, slots, values, _share: share }))
    }

    fn word(&self, index: u32) -> Option<u32> {
        let slot = self.slots.get(index as usize)?.load(Ordering::Acquire);
        u32::try_from(slot & !TAKEN).ok().filter(|_| slot & TAKEN != 0)
    }
}

impl Map for TargetArray {
    fn def(&self) -> &MapDef {
        &self.def
    }

    fn lookup(&self, worker: WorkerIndex, key: &[u8]) -> Result<Option<u32>, Errno> {
        let index = index_of(key)?;
        Ok(self.word(index).and_then(|_| self.values.addr(index, worker)))
    }

    fn update(&self, _worker: WorkerIndex, _key: &[u8], _value: &[u8], _flags: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.slots.get(index_of(key)? as usize).ok_or(Errno::EINVAL)?.store(0, Ordering::Release);
        Ok(())
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        next_index(key, self.def.max_entries)
    }

    fn host_lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        let word = self.word(index_of(key)?);
        self.rules.host_lookup?;
        Ok(Value::bytes(word.ok_or(Errno::ENOENT)?, self.def.value_len))
    }

    fn host_update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        check_len(value, self.def.value_len.into())?;
        let index = index_of(key)?;
        if flags > 2 {
            return Err(Errno::EINVAL);
        }
        let slot = self.slots.get(index as usize).ok_or(Errno::E2BIG)?;
        let value = Value::parse(value, index, self.worker_count)?;
        (self.rules.update)(flags, self.word(index), value.word)?;
        let word = (self.rules.value)(value)?;
        if let Some(word) = word {
            self.values.write(index, WorkerIndex(0), &Value::bytes(word, self.def.value_len))?;
        }
        slot.store(word.map_or(0, |word| TAKEN | u64::from(word)), Ordering::Release);
        Ok(())
    }

    fn as_redirect_map(&self) -> Option<&dyn RedirectMap> {
        Some(self)
    }
}

impl RedirectMap for TargetArray {
    fn target(&self, index: u32) -> Option<Target> {
        self.word(index).map(|word| (self.rules.target)(index, word))
    }

    fn broadcast(&self) -> Broadcast {
        self.rules.broadcast
    }

    fn holds_port(&self, ifindex: u32) -> bool {
        (0..self.def.max_entries).any(|index| self.target(index) == Some(Target::Port(ifindex)))
    }

    fn place_count(&self) -> u64 {
        self.def.max_entries.into()
    }
}
