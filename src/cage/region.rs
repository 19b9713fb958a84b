//! A run of pages of the cage with one owner.
//!
//! Invariant: pages are unmapped and handed out again only after a grace period of `crossbeam::epoch`.

use std::sync::Arc;

use crossbeam::epoch;

use super::{Cage, Protect};
use crate::limits::PAGE_LEN;

/// A run of pages of the cage; dropped, it becomes inaccessible to new accesses at once and free after a grace period.
/// A run under way that still holds an address of it may trap.
#[derive(Debug)]
pub struct Region {
    cage: Arc<Cage>,
    first_page: u32,
    page_count: u32,
    /// Pages on either side that stay inaccessible, besides the one behind every region.
    margin: u32,
    len: u64,
}

impl Region {
    pub(super) fn new(cage: Arc<Cage>, first_page: u32, page_count: u32, margin: u32, len: u64) -> Self {
        Self { cage, first_page, page_count, margin, len }
    }

    /// Guest address of its first byte.
    #[must_use]
    pub fn addr(&self) -> u32 {
        self.first_page * PAGE_LEN
    }

    /// Bytes that were asked for; the pages behind them are mapped to their end.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The cage that it lies in.
    #[must_use]
    pub fn cage(&self) -> &Arc<Cage> {
        &self.cage
    }

    /// Host address of its first byte, for io_uring and raw sockets.
    #[must_use]
    pub fn host_ptr(&self) -> *mut u8 {
        self.cage.base().wrapping_add(self.addr() as usize)
    }

    /// Changes what the guest, and with it the host, may do with its pages.
    ///
    /// # Errors
    /// What mprotect answers.
    pub fn protect(&self, protect: Protect) -> Result<(), std::io::Error> {
        let flags = match protect {
            Protect::ReadOnly => libc::PROT_READ,
            Protect::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        };
        if protect == Protect::ReadOnly {
            self.cage.pages.set(self.first_page, self.page_count, Some(protect));
        }
        // SAFETY: the pages are ours alone and lie inside the reservation.
        if unsafe { libc::mprotect(self.host_ptr().cast(), self.mapped_len(), flags) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        self.cage.pages.set(self.first_page, self.page_count, Some(protect));
        Ok(())
    }

    /// Copies bytes out. The guest may be writing them: what is read is some mixture, never trusted.
    ///
    /// # Panics
    /// If the range leaves the region: our mistake.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        self.assert_inside(offset, into.len());
        self.cage.read(u64::from(self.addr()) + offset, into).expect("a region is mapped while it lives");
    }

    /// Copies bytes in. The region must not be read-only.
    ///
    /// # Panics
    /// If the range leaves the region or the region is read-only: our mistake.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        self.assert_inside(offset, bytes.len());
        self.cage.write(u64::from(self.addr()) + offset, bytes).expect("a writable region is mapped while it lives");
    }

    fn assert_inside(&self, offset: u64, len: usize) {
        let end = offset.checked_add(len as u64);
        assert!(end.is_some_and(|end| end <= self.mapped_len() as u64), "host access outside its region");
    }

    fn mapped_len(&self) -> usize {
        self.page_count as usize * PAGE_LEN as usize
    }
}

impl Drop for Region {
    /// The guest loses its pages at once, the host only after every worker's quiet point: whoever was told by
    /// [`Cage::check`] that they are mapped holds an epoch guard until it has used them.
    fn drop(&mut self) {
        self.cage.pages.set(self.first_page, self.page_count, None);
        let cage = Arc::clone(&self.cage);
        let (first_page, page_count) = (self.first_page - self.margin, self.page_count + 2 * self.margin);
        epoch::pin().defer(move || cage.release(first_page, page_count));
    }
}
