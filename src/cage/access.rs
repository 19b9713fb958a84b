//! The host's accesses to guest memory: checked against the page map, then raw.
//!
//! Another worker's program may write the same bytes at any time. So nothing here makes a reference into the cage;
//! single values are volatile, and a block is copied once.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "guest values are bit patterns: widening, narrowing and reinterpreting them is what this file is for"
)]

use std::sync::atomic::{AtomicU32, AtomicU64};

use super::Cage;
use crate::isa::Size;
use crate::limits::CAGE_LEN;
use crate::trap::{Access, Fault};

/// A range of guest memory that was found accessible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRange {
    addr: u32,
    len: u32,
}

impl GuestRange {
    /// Guest address of its first byte.
    #[must_use]
    pub fn addr(self) -> u32 {
        self.addr
    }

    /// Bytes.
    #[must_use]
    pub fn len(self) -> u32 {
        self.len
    }

    /// Whether it holds no byte.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// Unaligned value, so that a volatile access to it is one plain move.
#[repr(C, packed)]
struct Packed<T>(T);

/// Copies bytes. Those of keys and values that most programs have take an instruction or two, not a call.
///
/// # Safety
/// As [`std::ptr::copy_nonoverlapping`].
#[inline]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one reason holds for every arm")]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller vouches for `len` bytes at both places.
    unsafe {
        match len {
            4 => std::ptr::copy_nonoverlapping(from, to, 4),
            8 => std::ptr::copy_nonoverlapping(from, to, 8),
            16 => std::ptr::copy_nonoverlapping(from, to, 16),
            _ => std::ptr::copy_nonoverlapping(from, to, len),
        }
    }
}

impl Cage {
    /// The guest address that generated code forms: `zext32(register) + off`. May lie outside the cage by an offset.
    #[inline]
    #[must_use]
    pub fn effective(register: u64, off: i16) -> i64 {
        i64::from(register as u32) + i64::from(off)
    }

    /// Asks whether `len` bytes at `addr` may be accessed. `addr` is taken whole: anything outside 32 bits faults, and
    /// so does a range that wraps. An empty range is accessible anywhere inside the cage.
    ///
    /// # Errors
    /// The fault.
    #[inline]
    pub fn check(&self, addr: u64, len: u64, access: Access) -> Result<GuestRange, Fault> {
        let fault = Fault { addr: addr as i64, len, access };
        let end = addr.checked_add(len).filter(|end| *end <= CAGE_LEN).ok_or(fault)?;
        let (Ok(start), Ok(len32)) = (u32::try_from(addr), u32::try_from(len)) else { return Err(fault) };
        if len32 != 0 && !self.pages.allow(start, (end - 1) as u32, access) {
            return Err(fault);
        }
        Ok(GuestRange { addr: start, len: len32 })
    }

    #[inline]
    fn at(&self, range: GuestRange) -> *mut u8 {
        self.base.wrapping_add(range.addr as usize)
    }

    /// Reads one value, zero-extended, at an address as [`Cage::effective`] forms it.
    ///
    /// # Errors
    /// The fault.
    #[inline]
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one reason holds for every arm")]
    pub fn load(&self, addr: i64, size: Size) -> Result<u64, Fault> {
        let range = self.check(addr as u64, u64::from(size.len()), Access::Read)?;
        let at = self.at(range);
        // SAFETY: `check` found the bytes mapped for reading; the type is packed, so any alignment will do.
        Ok(unsafe {
            match size {
                Size::B => u64::from(at.read_volatile()),
                Size::H => u64::from(at.cast::<Packed<u16>>().read_volatile().0),
                Size::W => u64::from(at.cast::<Packed<u32>>().read_volatile().0),
                Size::D => at.cast::<Packed<u64>>().read_volatile().0,
            }
        })
    }

    /// Writes the low bytes of one value at an address as [`Cage::effective`] forms it.
    ///
    /// # Errors
    /// The fault; nothing was written.
    #[inline]
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one reason holds for every arm")]
    pub fn store(&self, addr: i64, size: Size, value: u64) -> Result<(), Fault> {
        let range = self.check(addr as u64, u64::from(size.len()), Access::Write)?;
        let at = self.at(range);
        // SAFETY: `check` found the bytes mapped for writing; the type is packed, so any alignment will do.
        unsafe {
            match size {
                Size::B => at.write_volatile(value as u8),
                Size::H => at.cast::<Packed<u16>>().write_volatile(Packed(value as u16)),
                Size::W => at.cast::<Packed<u32>>().write_volatile(Packed(value as u32)),
                Size::D => at.cast::<Packed<u64>>().write_volatile(Packed(value)),
            }
        }
        Ok(())
    }

    /// Copies guest memory out.
    ///
    /// # Errors
    /// The fault; `into` is unchanged.
    #[inline]
    pub fn read(&self, addr: u64, into: &mut [u8]) -> Result<(), Fault> {
        let range = self.check(addr, into.len() as u64, Access::Read)?;
        // SAFETY: `check` found the bytes mapped for reading, and `into` is host memory outside the cage.
        unsafe { copy(self.at(range), into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// Copies bytes into guest memory.
    ///
    /// # Errors
    /// The fault; nothing was written.
    #[inline]
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Fault> {
        let range = self.check(addr, bytes.len() as u64, Access::Write)?;
        // SAFETY: `check` found the bytes mapped for writing, and `bytes` is host memory outside the cage.
        unsafe { copy(bytes.as_ptr(), self.at(range), bytes.len()) };
        Ok(())
    }

    /// Moves bytes within guest memory; the ranges may overlap.
    ///
    /// # Errors
    /// The fault; nothing was written.
    pub fn copy(&self, from: u64, to: u64, len: u64) -> Result<(), Fault> {
        let source = self.check(from, len, Access::Read)?;
        let target = self.check(to, len, Access::Write)?;
        // SAFETY: both ranges were found mapped; `copy` allows overlap.
        unsafe { std::ptr::copy(self.at(source), self.at(target), source.len as usize) };
        Ok(())
    }

    /// Fills guest memory with one byte.
    ///
    /// # Errors
    /// The fault; nothing was written.
    pub fn fill(&self, addr: u64, len: u64, byte: u8) -> Result<(), Fault> {
        let range = self.check(addr, len, Access::Write)?;
        // SAFETY: `check` found the bytes mapped for writing.
        unsafe { std::ptr::write_bytes(self.at(range), byte, range.len as usize) };
        Ok(())
    }

    /// The 32-bit cell at `addr` for an atomic operation. The address must be a multiple of four.
    ///
    /// # Errors
    /// The fault.
    ///
    /// # Panics
    /// If the address is misaligned: the caller makes a trap of that first.
    pub fn atomic_u32(&self, addr: i64) -> Result<&AtomicU32, Fault> {
        let range = self.check(addr as u64, 4, Access::Write)?;
        let at = self.at(range).cast::<u32>();
        assert!(at.is_aligned(), "the caller checks alignment");
        // SAFETY: aligned and mapped; pages are unmapped only after the runs that may hold their addresses have ended.
        Ok(unsafe { AtomicU32::from_ptr(at) })
    }

    /// The 64-bit cell at `addr` for an atomic operation. The address must be a multiple of eight.
    ///
    /// # Errors
    /// The fault.
    ///
    /// # Panics
    /// If the address is misaligned: the caller makes a trap of that first.
    pub fn atomic_u64(&self, addr: i64) -> Result<&AtomicU64, Fault> {
        let range = self.check(addr as u64, 8, Access::Write)?;
        let at = self.at(range).cast::<u64>();
        assert!(at.is_aligned(), "the caller checks alignment");
        // SAFETY: aligned and mapped; pages are unmapped only after the runs that may hold their addresses have ended.
        Ok(unsafe { AtomicU64::from_ptr(at) })
    }
}
