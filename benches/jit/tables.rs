//! The plain C tables that stand for maps in native code; engines that are given helpers use them too.

use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::build::Library;
use crate::engine::Absent;
use crate::rows::Row;

type Update = unsafe extern "C" fn(*const c_void, *const u8, *const u8) -> i64;
type Lookup = unsafe extern "C" fn(*const c_void, *const u8) -> u64;

/// `struct table` of `native_side.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    is_hash: u32,
    key_len: u32,
    value_len: u32,
    count: u32,
    stride: u32,
    places: *mut u8,
}

impl Table {
    /// Addresses of its places.
    pub(crate) fn range(&self) -> std::ops::Range<u64> {
        let start = self.places.addr() as u64;
        start..start + u64::from(self.count) * u64::from(self.stride)
    }
}

/// The table of a library that has this name.
pub(crate) fn table(library: Library, name: &str) -> Result<(*const c_void, Table), Absent> {
    let symbol = library.symbol(name).ok_or_else(|| Absent::because(format!("no table is called {name}")))?;
    // SAFETY: symbols of that name are such structures; they are constant.
    let table = unsafe { *symbol.cast::<Table>() };
    Ok((symbol, table))
}

/// Puts into a library's tables what the row's maps hold before.
pub(crate) fn fill(library: Library, row: &Row) -> Result<(), Absent> {
    for element in (row.elements)() {
        let update = library.symbol("table_update").ok_or_else(|| Absent::because("it has no table_update"))?;
        // SAFETY: it is that function of `native_side.h`.
        let update = unsafe { std::mem::transmute::<*mut c_void, Update>(update) };
        let (at, table) = table(library, element.map)?;
        assert_eq!((table.key_len as usize, table.value_len as usize), (element.key.len(), element.value.len()));
        // SAFETY: key and value are as long as the table's.
        let answer = unsafe { update(at, element.key.as_ptr(), element.value.as_ptr()) };
        assert_eq!(answer, 0, "{}: the element fits", element.map);
    }
    Ok(())
}

static LOOKUP: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
static UPDATE: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Finds the functions behind [`lookup`] and [`update`]: every library has the same, and any serves all tables.
pub(crate) fn prepare_helpers(library: Library) -> Result<(), Absent> {
    for (name, place) in [("table_lookup", &LOOKUP), ("table_update", &UPDATE)] {
        let function = library.symbol(name).ok_or_else(|| Absent::because(format!("it has no {name}")))?;
        place.store(function, Ordering::Relaxed);
    }
    Ok(())
}

/// Helper 1, `bpf_map_lookup_elem`.
pub(crate) fn lookup(map: u64, key: u64, _: u64, _: u64, _: u64) -> u64 {
    // SAFETY: `prepare_helpers` found it.
    let function = unsafe { std::mem::transmute::<*mut c_void, Lookup>(LOOKUP.load(Ordering::Relaxed)) };
    // SAFETY: the programs of the bench pass a table and a key.
    unsafe { function(map as *const c_void, key as *const u8) }
}

/// Helper 2, `bpf_map_update_elem`.
pub(crate) fn update(map: u64, key: u64, value: u64, _: u64, _: u64) -> u64 {
    // SAFETY: `prepare_helpers` found it.
    let function = unsafe { std::mem::transmute::<*mut c_void, Update>(UPDATE.load(Ordering::Relaxed)) };
    // SAFETY: the programs of the bench pass a table, a key and a value.
    unsafe { function(map as *const c_void, key as *const u8, value as *const u8) }.cast_unsigned()
}
