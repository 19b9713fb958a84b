//! A ring buffer of the kernel, with its reader.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kumite::maps::Errno;

use super::KernelMap;

const PAGE_LEN: usize = 4096;
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;

/// A ring buffer of the kernel; its pages are mapped as the kernel lays them out: the reader's position (writable), the
/// producer's, then the ring twice.
#[derive(Debug)]
pub(crate) struct KernelRing {
    map: KernelMap,
    size: usize,
    reader: *mut u8,
    producer: *mut u8,
}

impl KernelRing {
    /// `BPF_MAP_TYPE_RINGBUF` of `size` bytes.
    pub(crate) fn create(size: u32) -> Result<Self, Errno> {
        let map = KernelMap::create(27, 0, 0, size, 0)?;
        let size = size as usize;
        let reader = Self::map_pages(&map, PAGE_LEN, libc::PROT_READ | libc::PROT_WRITE, 0);
        let producer = Self::map_pages(&map, PAGE_LEN + 2 * size, libc::PROT_READ, PAGE_LEN);
        Ok(Self { map, size, reader, producer })
    }

    fn map_pages(map: &KernelMap, len: usize, protection: i32, offset: usize) -> *mut u8 {
        let offset = i64::try_from(offset).expect("a page");
        // SAFETY: a fresh mapping at an address of the kernel's choice; touches no memory of ours.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, map.fd(), offset) };
        assert_ne!(start, libc::MAP_FAILED, "the kernel maps a ring buffer's pages");
        start.cast()
    }

    /// Its descriptor, for `lddw`.
    pub(crate) fn fd(&self) -> i32 {
        self.map.fd()
    }

    fn position(page: *mut u8) -> &'static AtomicU64 {
        // SAFETY: both pages begin with an aligned 64-bit position, and stay mapped for as long as `read` uses this.
        unsafe { AtomicU64::from_ptr(page.cast()) }
    }

    /// Hands the records that are finished to `take`, in order, up to the first that is not.
    pub(crate) fn read(&self, mut take: impl FnMut(&[u8])) {
        let produced = Self::position(self.producer).load(Ordering::Acquire);
        let mut position = Self::position(self.reader).load(Ordering::Acquire);
        while position < produced {
            let offset = usize::try_from(position).expect("64 bits") & (self.size - 1);
            let header = self.producer.wrapping_add(PAGE_LEN + offset);
            // SAFETY: a header is aligned to eight bytes and lies in the mapped ring.
            let state = unsafe { AtomicU32::from_ptr(header.cast()) }.load(Ordering::Acquire);
            if state & BUSY != 0 {
                return;
            }
            let len = (state & !DISCARDED) as usize;
            if state & DISCARDED == 0 {
                // SAFETY: a finished record is no longer written; the ring is mapped twice, so it lies in one piece.
                take(unsafe { std::slice::from_raw_parts(header.wrapping_add(8), len) });
            }
            position += (len as u64 + 8).next_multiple_of(8);
            Self::position(self.reader).store(position, Ordering::Release);
        }
    }
}

impl Drop for KernelRing {
    fn drop(&mut self) {
        // SAFETY: the mapping that `create` made; nothing refers to it any more.
        unsafe { libc::munmap(self.reader.cast(), PAGE_LEN) };
        // SAFETY: as above.
        unsafe { libc::munmap(self.producer.cast(), PAGE_LEN + 2 * self.size) };
    }
}
