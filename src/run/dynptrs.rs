//! Dynamic pointers that a run has made.
//!
//! Programs keep a `struct bpf_dynptr` of 16 bytes on their stack. What it means is kept here, by the address of those bytes;
//! the bytes themselves are written for the program to see and never read.
//!
//! Source: `kernel/bpf/helpers.c`. Invariant: at most [`RUN_DYNPTRS_MAX`] a run; nothing that a program writes becomes a bound.

use crate::limits::RUN_DYNPTRS_MAX;

/// What a dynamic pointer points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dynptr {
    /// Nothing: it was not made, or is over.
    Null,
    /// Memory of the cage.
    Memory {
        /// Guest address of its first byte.
        addr: u32,
        /// Bytes.
        len: u32,
    },
    /// A reserved record of a ring buffer, to be submitted or discarded.
    Record {
        /// Guest address of its first byte.
        addr: u32,
        /// Bytes.
        len: u32,
    },
}

/// The dynamic pointers of a run, by the guest address of their slot.
#[derive(Debug, Default)]
pub struct Dynptrs {
    slots: Vec<(u32, Dynptr)>,
}

impl Dynptrs {
    /// What the slot at an address means; `None` where nothing was put there.
    #[must_use]
    pub fn find(&self, slot: u32) -> Option<Dynptr> {
        self.slots.iter().find(|(at, _)| *at == slot).map(|(_, dynptr)| *dynptr)
    }

    /// Puts a pointer into a slot; `false` where no more fits.
    pub(crate) fn put(&mut self, slot: u32, dynptr: Dynptr) -> bool {
        if let Some((_, held)) = self.slots.iter_mut().find(|(at, _)| *at == slot) {
            *held = dynptr;
            return true;
        }
        // Null pointers are remembered for what programs may still ask of them, and given up first.
        if self.slots.len() == RUN_DYNPTRS_MAX {
            let Some(index) = self.slots.iter().position(|(_, held)| *held == Dynptr::Null) else { return false };
            self.slots.swap_remove(index);
        }
        self.slots.push((slot, dynptr));
        true
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_means_what_was_put_there_last() {
        let mut dynptrs = Dynptrs::default();
        let memory = Dynptr::Memory { addr: 0x1000, len: 8 };
        assert!(dynptrs.put(0x40, memory));
        assert_eq!((dynptrs.find(0x40), dynptrs.find(0x48)), (Some(memory), None));
        assert!(dynptrs.put(0x40, Dynptr::Null));
        assert_eq!(dynptrs.find(0x40), Some(Dynptr::Null));
        for slot in 1..u32::try_from(RUN_DYNPTRS_MAX).expect("few") {
            assert!(dynptrs.put(0x1000 + slot * 16, memory));
        }
        assert!(dynptrs.put(0x9000, memory), "the null one gives way");
        assert!(!dynptrs.put(0x9010, memory));
        assert!(dynptrs.put(0x9000, Dynptr::Null), "a slot that is known can always be put anew");
    }
}
