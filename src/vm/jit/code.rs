//! Memory for generated code.
//!
//! Programs are packed into regions of address space, so that those which jump to each other lie near. A region is a
//! file in memory, mapped to be executed; code is written through the file, so no page is ever writable and executable,
//! and what runs beside it is not disturbed. A region without programs is given back.
//!
//! Finding the program of an address takes no lock, so that a signal handler can do it.
//!
//! Invariant: a program's code is mapped from before it is handed out until its [`Code`] is dropped.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::callbacks::Callbacks;
use super::operand;
use super::stop::Site;
use crate::cage::FreeRuns;
use crate::limits::{CODE_REGION_LEN, CODE_REGIONS_MAX};
use crate::vm::Linked;

/// Code begins at multiples of this: a cache line, and the granularity of finding it.
const GRAIN: usize = 64;
/// Grains of a region.
const GRAINS: usize = CODE_REGION_LEN / GRAIN;
/// What free memory holds: an instruction that stops.
const BREAKPOINT: u8 = 0xcc;

/// What is known of a program's code.
#[derive(Debug)]
pub(super) struct Table {
    /// Address of its first byte.
    pub(super) start: usize,
    /// Bytes.
    pub(super) len: usize,
    /// Where it may trap, by ascending offset.
    pub(super) sites: Box<[Site]>,
    /// The program.
    pub(super) linked: Arc<Linked>,
}

impl Table {
    /// The place that may trap at this address.
    pub(super) fn site(&self, address: usize) -> Option<Site> {
        let offset = address.checked_sub(self.start)?;
        let index = self.sites.binary_search_by_key(&offset, |site| site.offset as usize).ok()?;
        Some(self.sites[index])
    }

    /// The machine code from this address on, as far as an instruction may reach.
    pub(super) fn bytes_at(&self, address: usize) -> &[u8] {
        let left = self.len.saturating_sub(address.wrapping_sub(self.start));
        // SAFETY: the bytes lie in the program's code, which is mapped, readable and immutable while the table lives.
        unsafe { std::slice::from_raw_parts(address as *const u8, left.min(operand::INSN_LEN_MAX)) }
    }
}

/// A region, as the signal handler finds it.
struct Entry {
    /// Address of its first byte, or 0.
    start: AtomicUsize,
    /// The tables of its grains.
    tables: AtomicPtr<AtomicPtr<Table>>,
}

static ENTRIES: [Entry; CODE_REGIONS_MAX] =
    [const { Entry { start: AtomicUsize::new(0), tables: AtomicPtr::new(ptr::null_mut()) } }; CODE_REGIONS_MAX];

static REGIONS: Mutex<Vec<Arc<Region>>> = Mutex::new(Vec::new());

fn regions() -> MutexGuard<'static, Vec<Arc<Region>>> {
    REGIONS.lock().expect("nothing panics while it holds the lock")
}

/// The table of the program whose code holds this address. Takes no lock and allocates nothing.
///
/// # Safety
/// The address is in code that a thread is executing, or in none: what holds it is not dropped meanwhile.
pub(super) unsafe fn table_at<'t>(address: usize) -> Option<&'t Table> {
    // One load of `start`: this runs in a signal handler, where another region may be coming or going.
    let (entry, offset) = ENTRIES.iter().find_map(|entry| {
        let start = entry.start.load(Ordering::Acquire);
        let offset = address.wrapping_sub(start);
        (start != 0 && offset < CODE_REGION_LEN).then_some((entry, offset))
    })?;
    let grain = offset / GRAIN;
    let tables = entry.tables.load(Ordering::Acquire);
    if tables.is_null() {
        return None;
    }
    // SAFETY: the region is in use, so it has its whole list of tables, and the grain lies in it.
    let tables = unsafe { std::slice::from_raw_parts(tables, GRAINS) };
    // SAFETY: null or the table of code that is in use.
    unsafe { tables[grain].load(Ordering::Acquire).as_ref() }
}

/// There is no memory for code.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CodeError {
    /// The system gives none.
    #[error("no executable memory: {source}; allow memory files (vm.memfd_noexec) or raise vm.max_map_count")]
    System {
        /// What it says.
        source: Arc<io::Error>,
    },
    /// All regions are full.
    #[error("no room for {len} bytes among {max} of code; unload programs")]
    Full {
        /// Bytes asked for.
        len: usize,
        /// Bytes that all programs can have.
        max: usize,
    },
}

impl From<io::Error> for CodeError {
    fn from(source: io::Error) -> Self {
        Self::System { source: Arc::new(source) }
    }
}

/// A program's code. Dropped, its memory is free.
#[derive(Debug)]
pub(super) struct Code {
    region: Arc<Region>,
    offset: usize,
    table: Box<Table>,
    /// Boxed, as the code holds its address.
    callbacks: Box<Callbacks>,
}

impl Code {
    /// Makes code executable. It must not depend on where it lies. What it calls back is kept with it.
    ///
    /// # Errors
    /// [`CodeError`].
    pub(super) fn publish(
        bytes: &[u8],
        sites: Box<[Site]>,
        linked: Arc<Linked>,
        callbacks: Box<Callbacks>,
    ) -> Result<Self, CodeError> {
        let len = bytes.len().next_multiple_of(GRAIN);
        let (region, offset) = reserve(len)?;
        let table = Box::new(Table { start: region.start.addr() + offset, len: bytes.len(), sites, linked });
        let code = Self { region, offset, table, callbacks };
        code.region.file.write_all_at(bytes, offset as u64)?;
        code.set_tables(ptr::from_ref(&*code.table).cast_mut());
        Ok(code)
    }

    /// Its first byte.
    pub(super) fn start(&self) -> *const u8 {
        self.region.start.wrapping_add(self.offset)
    }

    /// Bytes.
    pub(super) fn len(&self) -> usize {
        self.table.len
    }

    /// The instructions.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the bytes are the program's code, which is mapped, readable and immutable while this lives.
        unsafe { std::slice::from_raw_parts(self.start(), self.len()) }
    }

    /// Its functions that helpers call back.
    pub(super) fn callbacks(&self) -> &Callbacks {
        &self.callbacks
    }

    fn reserved(&self) -> usize {
        self.table.len.next_multiple_of(GRAIN)
    }

    fn set_tables(&self, table: *mut Table) {
        let first = self.offset / GRAIN;
        for place in &self.region.tables[first..first + self.reserved() / GRAIN] {
            place.store(table, Ordering::Release);
        }
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        self.set_tables(ptr::null_mut());
        // A failure leaves stale code, which nothing jumps to.
        let _ = self.region.file.write_all_at(&vec![BREAKPOINT; self.reserved()], self.offset as u64);
        let mut regions = regions();
        if self.region.give_back(self.offset, self.reserved()) {
            regions.retain(|region| !Arc::ptr_eq(region, &self.region));
            self.region.forget();
        }
    }
}

/// Finds room in a region, making one where none has it.
fn reserve(len: usize) -> Result<(Arc<Region>, usize), CodeError> {
    let mut regions = regions();
    for region in regions.iter() {
        if let Some(offset) = region.take(len) {
            return Ok((Arc::clone(region), offset));
        }
    }
    let full = CodeError::Full { len, max: CODE_REGION_LEN * CODE_REGIONS_MAX };
    let entry = ENTRIES.iter().position(|entry| entry.start.load(Ordering::Relaxed) == 0);
    let (Some(entry), true) = (entry, len <= CODE_REGION_LEN) else { return Err(full) };
    let region = Arc::new(Region::new(entry)?);
    let offset = region.take(len).expect("an empty region has room");
    regions.push(Arc::clone(&region));
    Ok((region, offset))
}

/// A run of address space for code.
#[derive(Debug)]
struct Region {
    start: *const u8,
    file: File,
    /// Its index in [`ENTRIES`].
    entry: usize,
    tables: Box<[AtomicPtr<Table>]>,
    /// Free bytes, by offset.
    free: Mutex<FreeRuns>,
}

// SAFETY: `start` is only an address; what lies there is written through the file alone.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    fn new(entry: usize) -> Result<Self, io::Error> {
        let file = memory_file()?;
        file.set_len(CODE_REGION_LEN as u64)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice; touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                CODE_REGION_LEN,
                libc::PROT_READ | libc::PROT_EXEC,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a null pointer is a valid `AtomicPtr`. The system's zeroed pages stay untouched until they are used.
        let tables = unsafe { Box::new_zeroed_slice(GRAINS).assume_init() };
        let region = Self {
            start: start.cast_const().cast(),
            file,
            entry,
            tables,
            free: Mutex::new(FreeRuns::new(0, CODE_REGION_LEN)),
        };
        ENTRIES[entry].tables.store(region.tables.as_ptr().cast_mut(), Ordering::Release);
        ENTRIES[entry].start.store(region.start.addr(), Ordering::Release);
        Ok(region)
    }

    fn free(&self) -> MutexGuard<'_, FreeRuns> {
        self.free.lock().expect("nothing panics while it holds the lock")
    }

    /// Takes the first run that is long enough.
    fn take(&self, len: usize) -> Option<usize> {
        self.free().take(len)
    }

    /// Gives a run back. Returns whether nothing is taken any more.
    fn give_back(&self, offset: usize, len: usize) -> bool {
        self.free().give_back(offset, len) == CODE_REGION_LEN
    }

    /// Takes it out of the signal handler's sight.
    fn forget(&self) {
        ENTRIES[self.entry].start.store(0, Ordering::Release);
        ENTRIES[self.entry].tables.store(ptr::null_mut(), Ordering::Release);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; no code in it is in use any more.
        unsafe { libc::munmap(self.start.cast_mut().cast(), CODE_REGION_LEN) };
    }
}

/// A file in memory that may be executed.
fn memory_file() -> Result<File, io::Error> {
    let open = |flags| {
        // SAFETY: the name is a string of ours.
        let fd = unsafe { libc::memfd_create(c"kumite-code".as_ptr(), flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(unsafe { File::from_raw_fd(fd) })
    };
    // Kernels before 6.3 do not know the second flag.
    open(libc::MFD_CLOEXEC | libc::MFD_EXEC).or_else(|_| open(libc::MFD_CLOEXEC))
}

/// Bytes of code in use and regions that hold them.
#[cfg(test)]
pub(super) fn usage() -> (usize, usize) {
    let regions = regions();
    let free: usize = regions.iter().map(|region| region.free().free_count()).sum();
    (regions.len() * CODE_REGION_LEN - free, regions.len())
}
