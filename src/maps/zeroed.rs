//! Large arrays that cost nothing until they are used: the operating system gives zeroed pages on first touch.
//!
//! Invariant: a lack of memory is an answer, never an abort.

use std::alloc::{Layout, alloc_zeroed};
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64};

/// Types for which all bits zero is a value.
///
/// # Safety
/// All bits zero is a valid value of the type, and the type has no drop glue.
pub(super) unsafe trait Zero {}

// SAFETY: zero is a number.
unsafe impl Zero for u8 {}
// SAFETY: an atomic integer has the representation of its integer.
unsafe impl Zero for AtomicU8 {}
// SAFETY: as above.
unsafe impl Zero for AtomicU32 {}
// SAFETY: as above.
unsafe impl Zero for AtomicU64 {}
// SAFETY: an atomic pointer has the representation of its pointer, and null is zero on x86-64.
unsafe impl<T> Zero for AtomicPtr<T> {}
// SAFETY: a bucket has the representation of an `AtomicU64`.
unsafe impl Zero for super::bucket::Bucket {}

/// `count` zeros, or `None` where there is no memory.
pub(super) fn zeroed<T: Zero>(count: u64) -> Option<Box<[T]>> {
    let count = usize::try_from(count).ok()?;
    let layout = Layout::array::<T>(count).ok()?;
    if layout.size() == 0 {
        return Some(Box::new([]));
    }
    // SAFETY: the layout is not empty.
    let start = unsafe { alloc_zeroed(layout) }.cast::<T>();
    if start.is_null() {
        return None;
    }
    let slice = std::ptr::slice_from_raw_parts_mut(start, count);
    // SAFETY: fresh from the global allocator with the layout of `[T; count]`, and zeros are values of `T`.
    Some(unsafe { Box::from_raw(slice) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn zeros_are_zero_and_absurd_counts_are_none() {
        let zeros = zeroed::<AtomicU32>(1000).expect("memory");
        assert_eq!(zeros.len(), 1000);
        assert!(zeros.iter().all(|cell| cell.load(Ordering::Relaxed) == 0));
        assert!(zeroed::<AtomicU64>(0).expect("nothing").is_empty());
        assert!(zeroed::<AtomicU64>(u64::MAX).is_none());
        assert!(zeroed::<AtomicU8>(1 << 62).is_none());
    }
}
