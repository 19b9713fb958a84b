//! A map of the kernel.

use std::os::fd::{AsRawFd, OwnedFd};

use super::types::{TypeId, Types};
use super::{Command, KernelBtf, bpf, owned_fd, pinned};
use crate::maps::{Errno, MapDef, MapKind};

/// A map of the kernel; it goes when this is dropped.
#[derive(Debug)]
pub struct KernelMap {
    fd: OwnedFd,
    key_len: usize,
    value_len: usize,
}

#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
    map_ifindex: u32,
    btf_fd: u32,
    btf_key_type_id: u32,
    btf_value_type_id: u32,
    btf_vmlinux_value_type_id: u32,
    map_extra: u64,
}

#[repr(C)]
#[derive(Default)]
struct ElemAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// What a batch command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// `BPF_MAP_LOOKUP_BATCH`.
    Lookup,
    /// `BPF_MAP_LOOKUP_AND_DELETE_BATCH`.
    LookupAndDelete,
    /// `BPF_MAP_UPDATE_BATCH`.
    Update,
    /// `BPF_MAP_DELETE_BATCH`.
    Delete,
}

impl KernelMap {
    /// `BPF_MAP_CREATE`, with the numbers as the kernel has them.
    ///
    /// # Errors
    /// The answer of bpf(2).
    pub fn create(kind: u32, key_len: u32, value_len: u32, max_entries: u32, flags: u32) -> Result<Self, Errno> {
        let kind = MapKind(kind);
        Self::of(&MapDef { kind, key_len, value_len, max_entries, flags, ..MapDef::default() }, None)
    }

    /// `BPF_MAP_CREATE` of a definition; a map of maps is given a map that its inner maps are to be like.
    ///
    /// # Errors
    /// The answer of bpf(2).
    pub fn of(def: &MapDef, inner: Option<&Self>) -> Result<Self, Errno> {
        let mut attr = CreateAttr {
            map_type: def.kind.0,
            key_size: def.key_len,
            value_size: def.value_len,
            max_entries: def.max_entries,
            map_flags: def.flags,
            inner_map_fd: inner.map_or(0, |inner| inner.fd().cast_unsigned()),
            map_extra: def.extra,
            ..CreateAttr::default()
        };
        // A lock or a timer is found by its type alone.
        let typed = typed(def)?;
        if let Some((types, key, value)) = &typed {
            attr.btf_fd = types.fd();
            (attr.btf_key_type_id, attr.btf_value_type_id) = (key.0, value.0);
        }
        let fd = owned_fd(bpf(Command::MapCreate, &mut attr)?);
        let value_len = Self::whole_value_len(def.kind, def.value_len)?;
        Ok(Self { fd, key_len: def.key_len as usize, value_len })
    }

    /// A map that is pinned; the caller knows its type and lengths.
    ///
    /// # Errors
    /// The answer of bpf(2).
    pub fn open(path: &std::path::Path, kind: u32, key_len: u32, value_len: u32) -> Result<Self, Errno> {
        let value_len = Self::whole_value_len(MapKind(kind), value_len)?;
        Ok(Self { fd: pinned(path)?, key_len: key_len as usize, value_len })
    }

    /// Bytes of a value as bpf(2) gives and takes it.
    fn whole_value_len(kind: MapKind, value_len: u32) -> Result<usize, Errno> {
        Ok(if kind.is_per_worker() {
            value_len.next_multiple_of(8) as usize * Self::possible_processors()?
        } else {
            value_len as usize
        })
    }

    /// The records of a ring buffer of `len` bytes that nobody has read: those submitted, in order.
    ///
    /// # Errors
    /// What mmap answers.
    pub fn records(&self, len: u32) -> Result<Vec<Vec<u8>>, Errno> {
        const PAGE_LEN: usize = 4096;
        const BUSY: u32 = 1 << 31;
        const DISCARDED: u32 = 1 << 30;
        let len = len as usize;
        let mapped_len = PAGE_LEN + len;
        // The page of the producer's position, then the data.
        // SAFETY: a fresh mapping at an address of the kernel's choice; touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped_len,
                libc::PROT_READ,
                libc::MAP_SHARED,
                self.fd(),
                i64::try_from(PAGE_LEN).expect("small"),
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)));
        }
        let mut bytes = vec![0u8; mapped_len];
        // SAFETY: the mapping is as long as the vector, and nothing runs that could write to the ring.
        unsafe { std::ptr::copy_nonoverlapping(start.cast::<u8>(), bytes.as_mut_ptr(), mapped_len) };
        // SAFETY: the mapping was made above and is not used again.
        unsafe { libc::munmap(start, mapped_len) };
        let produced = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().expect("8"))).expect("64 bits");
        // Nobody reads, so the producer never gets round.
        let data = &bytes[PAGE_LEN..PAGE_LEN + produced.min(len)];
        let mut records = Vec::new();
        let mut at = 0;
        while let Some(header) = data.get(at..).and_then(<[u8]>::first_chunk) {
            let header = u32::from_le_bytes(*header);
            let record_len = (header & !DISCARDED) as usize;
            // A record that is not finished ends what can be read.
            let Some(record) = data.get(at + 8..at + 8 + record_len).filter(|_| header & BUSY == 0) else { break };
            if header & DISCARDED == 0 {
                records.push(record.to_vec());
            }
            at += (8 + record_len).next_multiple_of(8);
        }
        Ok(records)
    }

    /// How many values a per-CPU element has.
    ///
    /// # Errors
    /// `ENOENT` where sysfs does not say it: a guess would let the kernel write behind our buffers.
    pub fn possible_processors() -> Result<usize, Errno> {
        let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").map_err(|_| Errno::ENOENT)?;
        let last = text.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<usize>().ok());
        last.map(|last| last + 1).ok_or(Errno::ENOENT)
    }

    /// Bytes of a value as bpf(2) gives and takes it.
    #[must_use]
    pub fn value_len(&self) -> usize {
        self.value_len
    }

    /// Its descriptor, for `lddw` and program arrays.
    #[must_use]
    pub fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    fn elem(&self, key: Option<&[u8]>, flags: u64) -> ElemAttr {
        if let Some(key) = key {
            assert_eq!(key.len(), self.key_len, "the kernel reads as many bytes");
        }
        ElemAttr {
            map_fd: self.fd().cast_unsigned(),
            key: key.map_or(0, |key| key.as_ptr() as u64),
            flags,
            ..ElemAttr::default()
        }
    }

    /// `BPF_MAP_LOOKUP_ELEM`. An empty key stands for none (queues).
    ///
    /// # Errors
    /// The answer of bpf(2).
    pub fn lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        self.lookup_by(Command::MapLookup, key)
    }

    /// `BPF_MAP_LOOKUP_ELEM` with flags.
    ///
    /// # Errors
    /// The answer of bpf(2).
    pub fn lookup_with(&self, key: &[u8], flags: u64) -> Result<Vec<u8>, Errno> {
        let mut value = vec![0; self.value_len];
        let mut attr = self.elem(Some(key), flags);
        attr.value = value.as_mut_ptr() as u64;
        bpf(Command::MapLookup, &mut attr)?;
        Ok(value)
    }

    /// One of the batch commands on keys and values that lie one behind the other, as many as the keys make or `count` says.
    /// How many were done, and the answer; `place` is where a walk goes on.
    pub fn batch(
        &self,
        what: Batch,
        place: Option<&mut Vec<u8>>,
        (keys, values): (&mut [u8], &mut [u8]),
        flags: u64,
    ) -> (usize, Result<(), Errno>) {
        let count = keys.len() / self.key_len;
        assert_eq!(values.len(), count * self.value_len, "as many values");
        let mut out = vec![0; self.key_len.max(4)];
        let start = place.as_ref().filter(|place| !place.is_empty());
        let mut attr = BatchAttr {
            in_batch: start.map_or(0, |start| start.as_ptr() as u64),
            out_batch: out.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(count).expect("a test's batch"),
            map_fd: self.fd().cast_unsigned(),
            elem_flags: flags,
            flags: 0,
        };
        let command = match what {
            Batch::Lookup => Command::MapLookupBatch,
            Batch::LookupAndDelete => Command::MapLookupAndDeleteBatch,
            Batch::Update => Command::MapUpdateBatch,
            Batch::Delete => Command::MapDeleteBatch,
        };
        let answer = bpf(command, &mut attr).map(drop);
        if let Some(place) = place {
            *place = out;
        }
        (attr.count as usize, answer)
    }

    /// `BPF_MAP_LOOKUP_AND_DELETE_ELEM`. An empty key stands for none (queues).
    ///
    /// # Errors
    /// The answer of bpf(2).
    pub fn lookup_and_delete(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        self.lookup_by(Command::MapLookupAndDelete, key)
    }

    fn lookup_by(&self, command: Command, key: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut value = vec![0; self.value_len];
        let mut attr = self.elem(Some(key).filter(|key| !key.is_empty()), 0);
        attr.value = value.as_mut_ptr() as u64;
        bpf(command, &mut attr)?;
        Ok(value)
    }

    /// `BPF_MAP_UPDATE_ELEM`. An empty key stands for none (queues).
    ///
    /// # Errors
    /// The answer of bpf(2).
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        assert_eq!(value.len(), self.value_len, "the kernel reads as many bytes");
        let mut attr = self.elem(Some(key).filter(|key| !key.is_empty()), flags);
        attr.value = value.as_ptr() as u64;
        bpf(Command::MapUpdate, &mut attr).map(drop)
    }

    /// `BPF_MAP_LOOKUP_ELEM` of a bloom filter: whether it holds the value.
    ///
    /// # Errors
    /// The answer of bpf(2).
    pub fn holds(&self, value: &[u8]) -> Result<(), Errno> {
        assert_eq!(value.len(), self.value_len, "the kernel reads as many bytes");
        let mut value = value.to_vec();
        let mut attr = self.elem(None, 0);
        attr.value = value.as_mut_ptr() as u64;
        bpf(Command::MapLookup, &mut attr).map(drop)
    }

    /// `BPF_MAP_DELETE_ELEM`.
    ///
    /// # Errors
    /// The answer of bpf(2).
    pub fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        bpf(Command::MapDelete, &mut self.elem(Some(key), 0)).map(drop)
    }

    /// `BPF_MAP_GET_NEXT_KEY`.
    ///
    /// # Errors
    /// The answer of bpf(2).
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        let mut next = vec![0; self.key_len];
        let mut attr = self.elem(key, 0);
        attr.value = next.as_mut_ptr() as u64;
        bpf(Command::MapNextKey, &mut attr)?;
        Ok(next)
    }

    /// `BPF_MAP_FREEZE`.
    ///
    /// # Errors
    /// The answer of bpf(2).
    pub fn freeze(&self) -> Result<(), Errno> {
        let mut fd = self.fd().cast_unsigned();
        bpf(Command::MapFreeze, &mut fd).map(drop)
    }
}

/// Types of key and value, where the value holds what the kernel finds by its type.
fn typed(def: &MapDef) -> Result<Option<(KernelBtf, TypeId, TypeId)>, Errno> {
    let mut types = Types::new();
    let mut fields = Vec::new();
    if let Some(offset) = def.lock_offset {
        fields.push(("lock", types.lock(), offset));
    }
    if let Some(offset) = def.timer_offset {
        fields.push(("timer", types.timer(), offset));
    }
    if fields.is_empty() {
        return Ok(None);
    }
    let key = types.key(def.key_len);
    let value = types.structure("value", def.value_len, &fields);
    Ok(Some((KernelBtf::load(&types)?, key, value)))
}
