//! The ring of provided buffers.
//!
//! Invariant: only its owner writes to it; the kernel reads.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::limits::PAGE_LEN;

/// The ring of provided buffers, in memory that the kernel reads.
#[derive(Debug)]
pub(super) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    mask: u16,
    /// Entries written so far, wrapping.
    pub(super) tail: u16,
    /// Whether the kernel may still read it: then it stays for ever.
    pub(super) abandoned: bool,
}

impl BufferRing {
    /// A ring with room for so many buffers.
    pub(super) fn new(buffer_count: u16) -> Self {
        let count = buffer_count.next_power_of_two();
        let layout = Layout::array::<BufRingEntry>(usize::from(count)).expect("some pages");
        let layout = layout.align_to(PAGE_LEN as usize).expect("a page is a power of two");
        // SAFETY: the layout is not empty: 0 rounds up to one entry.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(entries) = NonNull::new(memory.cast()) else { handle_alloc_error(layout) };
        Self { entries, layout, mask: count - 1, tail: 0, abandoned: false }
    }

    /// Its address, for the kernel.
    pub(super) fn addr(&self) -> u64 {
        self.entries.as_ptr().expose_provenance() as u64
    }

    /// Its entries.
    pub(super) fn count(&self) -> u16 {
        self.mask + 1
    }

    /// Offers a buffer; the kernel sees it after [`Self::publish`].
    pub(super) fn offer(&mut self, buffer: u16, at: *mut u8, len: u32) {
        let index = usize::from(self.tail & self.mask);
        let entry = self.entries.as_ptr().wrapping_add(index);
        // SAFETY: the index is below the number of entries, and the kernel does not write to them.
        let entry = unsafe { &mut *entry };
        entry.set_addr(at.expose_provenance() as u64);
        entry.set_len(len);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was offered.
    pub(super) fn publish(&self) {
        // SAFETY: the pointer is that of the first of the entries.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail lies in our memory, aligned, and only the kernel reads it besides us.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        if self.abandoned {
            return;
        }
        // SAFETY: allocated with this layout in `new`, and no receive is left that would read addresses from it.
        unsafe { dealloc(self.entries.as_ptr().cast(), self.layout) };
    }
}
