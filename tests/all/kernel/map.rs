//! A map of the kernel.

use std::os::fd::{AsRawFd, OwnedFd};

use kumite::maps::Errno;

use super::{Command, bpf, owned_fd};

/// A map of the kernel; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct KernelMap {
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

impl KernelMap {
    /// `BPF_MAP_CREATE`, with the numbers as the kernel has them.
    pub(crate) fn create(kind: u32, key_len: u32, value_len: u32, max_entries: u32, flags: u32) -> Result<Self, Errno> {
        let mut attr = CreateAttr {
            map_type: kind,
            key_size: key_len,
            value_size: value_len,
            max_entries,
            map_flags: flags,
            ..CreateAttr::default()
        };
        let fd = owned_fd(bpf(Command::MapCreate, &mut attr)?);
        let per_cpu = matches!(kind, 5 | 6 | 10 | 21);
        let value_len = if per_cpu {
            value_len.next_multiple_of(8) as usize * Self::possible_processors()
        } else {
            value_len as usize
        };
        Ok(Self { fd, key_len: key_len as usize, value_len })
    }

    /// How many values a per-CPU element has.
    pub(crate) fn possible_processors() -> usize {
        let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").expect("sysfs is mounted");
        let last = text.trim().rsplit(['-', ',']).next().expect("rsplit gives at least one part");
        last.parse::<usize>().expect("a number") + 1
    }

    /// Its descriptor, for `lddw` and program arrays.
    pub(crate) fn fd(&self) -> i32 {
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
    pub(crate) fn lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        self.lookup_by(Command::MapLookup, key)
    }

    /// `BPF_MAP_LOOKUP_AND_DELETE_ELEM`. An empty key stands for none (queues).
    pub(crate) fn lookup_and_delete(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
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
    pub(crate) fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        assert_eq!(value.len(), self.value_len, "the kernel reads as many bytes");
        let mut attr = self.elem(Some(key).filter(|key| !key.is_empty()), flags);
        attr.value = value.as_ptr() as u64;
        bpf(Command::MapUpdate, &mut attr).map(drop)
    }

    /// `BPF_MAP_DELETE_ELEM`.
    pub(crate) fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        bpf(Command::MapDelete, &mut self.elem(Some(key), 0)).map(drop)
    }

    /// `BPF_MAP_GET_NEXT_KEY`.
    pub(crate) fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        let mut next = vec![0; self.key_len];
        let mut attr = self.elem(key, 0);
        attr.value = next.as_mut_ptr() as u64;
        bpf(Command::MapNextKey, &mut attr)?;
        Ok(next)
    }

    /// `BPF_MAP_FREEZE`.
    pub(crate) fn freeze(&self) -> Result<(), Errno> {
        let mut fd = self.fd().cast_unsigned();
        bpf(Command::MapFreeze, &mut fd).map(drop)
    }
}
