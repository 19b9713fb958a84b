//! A perf event of the kernel, with its reader.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use super::owned_fd;

const PAGE_LEN: usize = 4096;
const PAGES: usize = 64;
const SAMPLE: u32 = 9;
/// Offsets in `struct perf_event_mmap_page`.
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

/// An event of type `PERF_COUNT_SW_BPF_OUTPUT` on one processor, and its buffer.
#[derive(Debug)]
pub(crate) struct KernelPerf {
    fd: OwnedFd,
    pages: *mut u8,
}

impl KernelPerf {
    /// Opens an event on a processor.
    pub(crate) fn open(processor: i32) -> Self {
        // struct perf_event_attr of 64 bytes: type, size, config, period, sample type, read format, flags, wakeup.
        let software: u32 = 1;
        let bpf_output: u64 = 10;
        let sample_raw: u64 = 1 << 10;
        let mut attr = [0u64; 8];
        attr[0] = u64::from(software) | 64 << 32;
        attr[1] = bpf_output;
        attr[2] = 1;
        attr[3] = sample_raw;
        attr[6] = 1;
        // SAFETY: the attribute is a live local of the size that it says.
        let answer = unsafe { libc::syscall(libc::SYS_perf_event_open, attr.as_mut_ptr(), -1, processor, -1, 0) };
        assert!(answer >= 0, "the kernel opens events for root: {}", std::io::Error::last_os_error());
        let fd = owned_fd(answer);
        // SAFETY: a fresh mapping at an address of the kernel's choice; touches no memory of ours.
        let pages = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                (PAGES + 1) * PAGE_LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        assert_ne!(pages, libc::MAP_FAILED, "the kernel maps an event's pages");
        Self { fd, pages: pages.cast() }
    }

    /// Its descriptor, for perf event arrays.
    pub(crate) fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the first page begins with aligned 64-bit positions, and stays mapped for as long as `self` lives.
        unsafe { AtomicU64::from_ptr(self.pages.wrapping_add(offset).cast()) }
    }

    fn bytes(&self, position: u64, len: usize) -> Vec<u8> {
        let ring = PAGES * PAGE_LEN;
        let byte = |index: usize| {
            let offset = (usize::try_from(position).expect("64 bits") + index) % ring;
            // SAFETY: inside the mapped ring.
            unsafe { self.pages.wrapping_add(PAGE_LEN + offset).read_volatile() }
        };
        (0..len).map(byte).collect()
    }

    /// Takes the records out, padded as the kernel pads them.
    pub(crate) fn read(&self) -> Vec<Vec<u8>> {
        let head = self.position(DATA_HEAD).load(Ordering::Acquire);
        let mut position = self.position(DATA_TAIL).load(Ordering::Relaxed);
        let mut records = Vec::new();
        while position < head {
            let header = self.bytes(position, 12);
            let number = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().expect("four"));
            if number(0) == SAMPLE {
                records.push(self.bytes(position + 12, number(8) as usize));
            }
            position += u64::from(number(4) >> 16);
        }
        self.position(DATA_TAIL).store(position, Ordering::Release);
        records
    }
}

impl Drop for KernelPerf {
    fn drop(&mut self) {
        // SAFETY: the mapping that `open` made; nothing refers to it any more.
        unsafe { libc::munmap(self.pages.cast(), (PAGES + 1) * PAGE_LEN) };
    }
}
