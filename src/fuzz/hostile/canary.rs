//! Memory of the host that no program may change, with known contents: pages beside the cage, on the heap, in a thread's stack.
//!
//! Invariant: who dropped it has nothing mapped any more.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cage::Cage;
use crate::limits::{CAGE_GUARD_LEN, CAGE_LEN, PAGE_LEN};

/// Words of a canary on the heap that is a mapping of its own.
const LARGE_COUNT: usize = 64 << 10;
/// Words of a canary on the heap among the host's other small things.
const SMALL_COUNT: usize = 16;

/// What the word at an address holds.
fn pattern(word: &AtomicU64) -> u64 {
    std::ptr::from_ref(word).addr() as u64 ^ 0x5ca1_ab1e_c0ff_ee11
}

/// Fills words with their patterns.
pub(super) fn fill(words: &[AtomicU64]) {
    words.iter().for_each(|word| word.store(pattern(word), Ordering::Relaxed));
}

/// Address of the first word that no longer holds its pattern.
pub(super) fn changed(words: &[AtomicU64]) -> Option<usize> {
    let word = words.iter().find(|word| word.load(Ordering::Relaxed) != pattern(word))?;
    Some(std::ptr::from_ref(word).addr())
}

/// A page at an address that was asked for.
struct Page(&'static [AtomicU64]);

impl Page {
    /// `None` where something is there already.
    fn at(addr: usize) -> Option<Self> {
        // SAFETY: a fresh anonymous mapping that replaces none (`MAP_FIXED_NOREPLACE`).
        let start = unsafe {
            libc::mmap(
                std::ptr::with_exposed_provenance_mut(addr),
                PAGE_LEN as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the page is mapped, zeroed, aligned, and goes with this value alone.
        let words = unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>(), PAGE_LEN as usize / 8) };
        fill(words);
        Some(Self(words))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let start = self.0.as_ptr().cast_mut();
        // SAFETY: the mapping that `at` made; nobody has a reference to it any more.
        unsafe { libc::munmap(start.cast(), PAGE_LEN as usize) };
    }
}

/// All canaries but those in stacks, which their threads hold.
pub(super) struct Canaries {
    /// Right below and right above the cage's reservation, where those pages were free.
    beside: Vec<Page>,
    heap: Vec<Box<[AtomicU64]>>,
}

impl Canaries {
    /// Around a cage.
    pub(super) fn around(cage: &Cage) -> Self {
        let reserved = usize::try_from(CAGE_LEN + CAGE_GUARD_LEN).expect("addresses have 64 bits");
        let guard = usize::try_from(CAGE_GUARD_LEN).expect("small");
        let base = cage.base().addr();
        let places = [base - guard - PAGE_LEN as usize, base + reserved];
        let words = |count| (0..count).map(|_| AtomicU64::new(0)).collect::<Box<[_]>>();
        let heap = vec![words(SMALL_COUNT), words(LARGE_COUNT), words(SMALL_COUNT)];
        heap.iter().for_each(|words| fill(words));
        Self { beside: places.into_iter().filter_map(Page::at).collect(), heap }
    }

    fn all(&self) -> impl Iterator<Item = &[AtomicU64]> {
        self.beside.iter().map(|page| page.0).chain(self.heap.iter().map(AsRef::as_ref))
    }

    /// Where each begins.
    pub(super) fn addresses(&self) -> impl Iterator<Item = u64> {
        self.all().map(|words| words.as_ptr().addr() as u64)
    }

    /// Address of the first word that was changed.
    pub(super) fn changed(&self) -> Option<usize> {
        self.all().find_map(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_changed_is_told() {
        let cage = Cage::new().expect("address space");
        let canaries = Canaries::around(&cage);
        assert_eq!(canaries.changed(), None);
        for words in canaries.all() {
            let word = &words[words.len() - 1];
            word.fetch_xor(1 << 63, Ordering::Relaxed);
            assert_eq!(canaries.changed(), Some(std::ptr::from_ref(word).addr()));
            word.fetch_xor(1 << 63, Ordering::Relaxed);
        }
        assert_eq!(canaries.changed(), None);
        assert!(canaries.addresses().count() >= 3);
    }
}
