//! The cage: a 4 GiB reservation that holds every byte a program can touch.
//!
//! A guest address is a 32-bit offset into it. An access is `base + zext32(register) + off16`; the guard zones on both
//! sides and the unmapped pages inside make every address that the formula can form either guest memory or a fault.
//! Regions are handed out in whole pages with an unmapped page between neighbours, so that running off the end of a
//! region faults instead of reaching the next.
//!
//! Bookkeeping lives outside the cage: the page map here, free lists and tables in their owners. The host never trusts
//! a value it reads from the cage, and reads one at most once.
//!
//! Invariant: a page is accessible to the guest exactly as the page map says, from before its region is handed out
//! until after the region is dropped.

mod access;
mod free_runs;
mod pages;
mod region;

pub use access::GuestRange;
pub use free_runs::FreeRuns;
pub use region::Region;

use std::sync::{Arc, Mutex};

use crossbeam::epoch;

use crate::limits::{CAGE_GUARD_LEN, CAGE_LEN, MARGIN_LEN, PAGE_LEN};
use pages::{FreePages, PageMap};

#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits on every host that kumite builds for")]
const GUARD: usize = CAGE_GUARD_LEN as usize;
#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits on every host that kumite builds for")]
const RESERVED: usize = (CAGE_LEN + 2 * CAGE_GUARD_LEN) as usize;

/// Times that a full cage looks for pages whose grace period has ended meanwhile.
const RECLAIM_TRIES: u32 = 1000;

/// What the guest may do with a page. The host may always read and write while it fills a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protect {
    /// Loads only.
    ReadOnly,
    /// Loads and stores.
    ReadWrite,
}

/// The world did not give us a cage or a part of it.
#[derive(Debug, thiserror::Error)]
pub enum CageError {
    /// The reservation failed.
    #[error("cage: cannot reserve 4 GiB of address space: {source}; raise `ulimit -v` or vm.max_map_count")]
    Reserve {
        /// From mmap.
        source: std::io::Error,
    },
    /// No run of free pages is long enough.
    #[error("cage: no room for {len} bytes of {what}; make maps smaller or unload programs")]
    Full {
        /// Bytes asked for.
        len: u64,
        /// What they were for.
        what: &'static str,
    },
    /// The kernel refused to change the protection of pages.
    #[error("cage: cannot map {len} bytes of {what}: {source}; free memory or raise vm.max_map_count")]
    Map {
        /// Bytes asked for.
        len: u64,
        /// What they were for.
        what: &'static str,
        /// From mprotect.
        source: std::io::Error,
    },
}

/// The reservation, its page map and its free pages. Shared by everything on one host.
#[derive(Debug)]
pub struct Cage {
    /// Address of guest address 0; the reservation begins `CAGE_GUARD_LEN` before it.
    base: *mut u8,
    pages: PageMap,
    free: Mutex<FreePages>,
}

// SAFETY: `base` is only an address; every access through it is a raw access to memory that no Rust reference covers,
// and the page map and free list synchronise themselves.
unsafe impl Send for Cage {}
// SAFETY: as above.
unsafe impl Sync for Cage {}

impl Cage {
    /// Reserves the address space; no page is accessible yet.
    ///
    /// # Errors
    /// [`CageError::Reserve`] when the kernel refuses the reservation.
    pub fn new() -> Result<Arc<Self>, CageError> {
        let len = RESERVED;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice; touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(CageError::Reserve { source: std::io::Error::last_os_error() });
        }
        let base = start.cast::<u8>().wrapping_add(GUARD);
        Ok(Arc::new(Self { base, pages: PageMap::new(), free: Mutex::new(FreePages::new()) }))
    }

    /// Host address of guest address 0, for generated code, the fault handler and io_uring.
    #[must_use]
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// Hands out `len` bytes (rounded up to pages), zeroed and writable by the guest; [`Region::protect`] changes that.
    ///
    /// # Errors
    /// [`CageError::Full`] or [`CageError::Map`].
    pub fn alloc(self: &Arc<Self>, len: u64, what: &'static str) -> Result<Region, CageError> {
        self.alloc_between(0, len, what)
    }

    /// The same with [`MARGIN_LEN`] bytes on either side that are never accessible: nothing but a computed address leads
    /// there from elsewhere. For stacks, parts of which generated code keeps in registers, where no other pointer sees them.
    ///
    /// # Errors
    /// As [`Cage::alloc`].
    pub fn alloc_apart(self: &Arc<Self>, len: u64, what: &'static str) -> Result<Region, CageError> {
        self.alloc_between(MARGIN_LEN / PAGE_LEN, len, what)
    }

    fn alloc_between(self: &Arc<Self>, margin: u32, len: u64, what: &'static str) -> Result<Region, CageError> {
        let full = || CageError::Full { len, what };
        let page_count = u32::try_from(len.max(1).div_ceil(u64::from(PAGE_LEN))).map_err(|_| full())?;
        let first = page_count.checked_add(2 * margin).and_then(|count| self.take(count)).ok_or_else(full)?;
        let region = Region::new(Arc::clone(self), first + margin, page_count, margin, len);
        region.protect(Protect::ReadWrite).map_err(|source| CageError::Map { len, what, source })?;
        Ok(region)
    }

    /// Takes free pages; where there are none, helps those of dropped regions past their grace period first.
    fn take(&self, page_count: u32) -> Option<u32> {
        (0..RECLAIM_TRIES).find_map(|_| {
            let first = self.lock_free().take(page_count);
            if first.is_none() {
                epoch::pin().flush();
                std::thread::yield_now();
            }
            first
        })
    }

    /// Unmaps pages that a region had, and makes them free.
    fn release(&self, first_page: u32, page_count: u32) {
        let start = self.base.wrapping_add(first_page as usize * PAGE_LEN as usize);
        // SAFETY: replaces pages of the reservation that no region holds by inaccessible ones; no reference into the cage
        // exists, and accesses that were checked while the region lived have ended with their epoch guards.
        let mapped = unsafe {
            libc::mmap(
                start.cast(),
                page_count as usize * PAGE_LEN as usize,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        // Where the kernel refuses (mapping count), the pages stay unused for ever rather than be handed out dirty.
        if mapped != libc::MAP_FAILED {
            self.lock_free().give_back(first_page, page_count);
        }
    }

    fn lock_free(&self) -> std::sync::MutexGuard<'_, FreePages> {
        self.free.lock().expect("the free list is never left half changed: its methods do not panic")
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        let start = self.base.wrapping_sub(GUARD);
        let len = RESERVED;
        // SAFETY: this is the mapping that `new` made; regions hold an Arc of the cage, so none is left.
        unsafe { libc::munmap(start.cast(), len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trap::Access;

    #[test]
    fn a_region_is_accessible_and_its_neighbourhood_is_not() {
        let cage = Cage::new().expect("address space");
        let region = cage.alloc(5000, "test").expect("room");
        let addr = region.addr();
        assert!(cage.check(u64::from(addr), 8192, Access::Write).is_ok(), "whole pages are mapped");
        assert!(cage.check(u64::from(addr), 8193, Access::Read).is_err());
        assert!(cage.check(u64::from(addr) - 1, 1, Access::Read).is_err());
        assert!(cage.check(0, 1, Access::Read).is_err(), "NULL is never mapped");
        assert!(cage.check(u64::MAX, 2, Access::Read).is_err(), "a range that wraps is refused");
    }

    #[test]
    fn a_region_apart_is_out_of_an_offsets_reach_and_its_margins_come_back() {
        let cage = Cage::new().expect("address space");
        let before = cage.alloc(4096, "test").expect("room");
        let stack = cage.alloc_apart(4096, "test").expect("room");
        let behind = cage.alloc(4096, "test").expect("room");
        let margin = u64::from(MARGIN_LEN);
        let [before_at, at, behind_at] = [&before, &stack, &behind].map(|region| u64::from(region.addr()));
        assert!(at - before_at > margin && behind_at - at > margin);
        assert!(cage.check(at, 4096, Access::Write).is_ok());
        for page in (at - margin..at + margin).step_by(PAGE_LEN as usize).filter(|page| *page != at) {
            assert!(cage.check(page, 1, Access::Read).is_err(), "{page:#x}");
        }
        // The whole run is free again, so the next one may lie there.
        drop(stack);
        let again = (0..64).find_map(|_| {
            epoch::pin().flush();
            let region = cage.alloc_apart(4096, "test").expect("room");
            (u64::from(region.addr()) == at).then_some(region)
        });
        assert!(again.is_some(), "no run was given back");
    }

    #[test]
    fn a_read_only_region_refuses_writes_and_a_dropped_one_all() {
        let cage = Cage::new().expect("address space");
        let region = cage.alloc(16, "test").expect("room");
        let addr = u64::from(region.addr());
        region.write(0, b"abc");
        region.protect(Protect::ReadOnly).expect("protection");
        assert!(cage.check(addr, 3, Access::Read).is_ok());
        assert!(cage.check(addr, 3, Access::Write).is_err());
        let mut bytes = [0; 3];
        cage.read(addr, &mut bytes).expect("readable");
        assert_eq!(&bytes, b"abc");
        drop(region);
        assert!(cage.read(addr, &mut bytes).is_err());
    }

    #[test]
    fn dropped_pages_are_handed_out_again_and_zeroed() {
        let cage = Cage::new().expect("address space");
        let first = cage.alloc(4096, "test").expect("room");
        let addr = first.addr();
        first.write(0, b"secret");
        drop(first);
        let again = (0..10_000).find_map(|_| {
            epoch::pin().flush();
            let second = cage.alloc(4096, "test").expect("room");
            (second.addr() == addr).then_some(second)
        });
        let mut bytes = [1; 6];
        again.expect("the grace period ends").read(0, &mut bytes);
        assert_eq!(bytes, [0; 6]);
    }

    #[test]
    fn a_cage_that_is_full_says_so() {
        let cage = Cage::new().expect("address space");
        let error = cage.alloc(5 << 30, "a map").expect_err("larger than the cage");
        assert_eq!(
            error.to_string(),
            "cage: no room for 5368709120 bytes of a map; make maps smaller or unload programs"
        );
    }
}
