//! The tables behind `BPF_MAP_TYPE_PROG_ARRAY`: programs that tail calls jump to.
//!
//! For each translated mode there is a table of code pointers beside the table of slots, so that generated code finds
//! its target with one load; null means that the tail call falls through. All workers share the tables, and updating a
//! slot is an atomic store for each mode, seen by the next packet.
//!
//! Invariant: a slot and its code pointers are of one program, or the slot is empty and they are null. Memory is taken for the
//! slots that are used.

use std::any::Any;
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crossbeam::epoch::{self, Guard};

use super::Errno;
use super::zeroed::zeroed;
use crate::verdict::ProgramKind;

/// Modes whose code is generated, and their place in [`Slot::code`].
pub const CODE_TABLES: usize = 2;

/// What a slot of a program array holds.
#[derive(Clone)]
pub struct Slot {
    /// Name of the program, for reports.
    pub name: String,
    /// Number of the program on its host, as `BPF_MAP_LOOKUP_ELEM` shows it.
    pub program_id: u32,
    /// Kind of the program: all programs of one array are of one kind.
    pub kind: ProgramKind,
    /// Entry address of the generated code, fast then instrumented; null where the program is not translated.
    pub code: [*const u8; CODE_TABLES],
    /// The program itself (`vm` knows its type); keeps the code alive.
    pub program: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("name", &self.name).field("program_id", &self.program_id).finish_non_exhaustive()
    }
}

// SAFETY: the code pointers point at immutable code that `program` keeps alive.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

/// The tables behind a program array.
pub struct ProgramArray {
    /// Null, or a box of the slot.
    slots: Box<[AtomicPtr<Slot>]>,
    code: [Box<[AtomicPtr<u8>]>; CODE_TABLES],
    /// The kind of its programs, once there is one. Held while a slot and its code pointers are written, so that both
    /// are of one origin when two controllers write at once.
    kind: Mutex<Option<ProgramKind>>,
}

impl fmt::Debug for ProgramArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramArray").field("slot_count", &self.slot_count()).finish_non_exhaustive()
    }
}

impl ProgramArray {
    /// Bytes of the tables.
    pub(super) fn bytes(slot_count: u32) -> u64 {
        (1 + CODE_TABLES as u64) * u64::from(slot_count) * size_of::<AtomicPtr<u8>>() as u64
    }

    /// An array of empty slots; `None` where there is no memory.
    #[must_use]
    pub fn new(slot_count: u32) -> Option<Self> {
        let count = u64::from(slot_count);
        Some(Self { slots: zeroed(count)?, code: [zeroed(count)?, zeroed(count)?], kind: Mutex::new(None) })
    }

    /// Number of slots.
    #[must_use]
    pub fn slot_count(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("made from a u32")
    }

    /// The code table of a mode, which generated code indexes: `slot_count` pointers. It lives as long as the map.
    #[must_use]
    pub fn code_table(&self, mode: usize) -> *const AtomicPtr<u8> {
        self.code[mode].as_ptr()
    }

    /// The same as a slice.
    #[must_use]
    pub fn code(&self, mode: usize) -> &[AtomicPtr<u8>] {
        &self.code[mode]
    }

    /// The program in a slot.
    #[must_use]
    pub fn slot<'g>(&self, index: u32, guard: &'g Guard) -> Option<&'g Slot> {
        debug_assert!(guard.collector() == Some(epoch::default_collector()), "a guard of `crossbeam::epoch::pin`");
        let slot = self.slots.get(index as usize)?.load(Ordering::Acquire);
        // SAFETY: a slot is null or holds a box that is freed only after a grace period, which `guard` delays.
        unsafe { slot.as_ref() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<ProgramKind>> {
        self.kind.lock().expect("nothing panics while it holds the lock")
    }

    /// Puts a program into a slot, or empties it. What was there is freed after every worker's quiet point.
    ///
    /// # Errors
    /// `E2BIG` outside the array; `EINVAL` for a program of another kind; `ENOENT` when an empty slot is emptied, as in the kernel.
    pub fn replace(&self, index: u32, slot: Option<Slot>) -> Result<(), Errno> {
        let place = self.slots.get(index as usize).ok_or(Errno::E2BIG)?;
        let mut kind = self.lock();
        // The first program that goes in decides for ever, as in the kernel.
        if slot.as_ref().is_some_and(|slot| *kind.get_or_insert(slot.kind) != slot.kind) {
            return Err(Errno::EINVAL);
        }
        let code = slot.as_ref().map_or([ptr::null(); CODE_TABLES], |slot| slot.code);
        let emptied = slot.is_none();
        let new = slot.map_or(ptr::null_mut(), |slot| Box::into_raw(Box::new(slot)));
        let old = place.swap(new, Ordering::AcqRel);
        if emptied && old.is_null() {
            return Err(Errno::ENOENT);
        }
        for (table, code) in self.code.iter().zip(code) {
            table[index as usize].store(code.cast_mut(), Ordering::Release);
        }
        drop(kind);
        if !old.is_null() {
            // SAFETY: it came from `Box::into_raw` above, and the swap made us its only owner.
            let old = unsafe { Box::from_raw(old) };
            // Readers that still see it hold a guard: it and its code are freed later.
            epoch::pin().defer(move || drop(old));
        }
        Ok(())
    }

    /// Empties all slots.
    pub fn clear(&self) {
        for (index, slot) in (0..).zip(&self.slots) {
            if !slot.load(Ordering::Relaxed).is_null() {
                // Another who emptied it meanwhile did the same.
                let _ = self.replace(index, None);
            }
        }
    }
}

impl Drop for ProgramArray {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            let slot = std::mem::take(slot.get_mut());
            if !slot.is_null() {
                // SAFETY: it came from `Box::into_raw` in `replace`; `&mut self` says that nobody reads.
                drop(unsafe { Box::from_raw(slot) });
            }
        }
    }
}
