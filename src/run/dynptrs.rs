//! Dynamic pointers that a run has made.
//!
//! Programs keep a `struct bpf_dynptr` of 16 bytes on their stack. What it means is kept here, by the address of those bytes;
//! the bytes themselves are written for the program to see and never read.
//!
//! A pointer to a frame is an offset and a length: where the frame's bytes lie is asked when it is used.
//!
//! Source: `kernel/bpf/helpers.c`. Invariant: at most [`RUN_DYNPTRS_MAX`] a run; nothing that a program writes becomes a bound.

use crate::limits::RUN_DYNPTRS_MAX;
use crate::trap::Access;

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
        /// Guest address of the record's first byte.
        record: u32,
        /// Where in the record it begins.
        offset: u32,
        /// Bytes.
        len: u32,
    },
    /// The frame under judgement.
    Frame {
        /// Where in the frame it begins.
        offset: u32,
        /// Bytes, as the frame had them when it was made.
        len: u32,
        /// What the program may do to them.
        access: Access,
    },
}

impl Dynptr {
    /// Bytes.
    #[must_use]
    pub fn byte_count(self) -> u32 {
        match self {
            Self::Null => 0,
            Self::Memory { len, .. } | Self::Record { len, .. } | Self::Frame { len, .. } => len,
        }
    }

    /// Whether the program may only read.
    #[must_use]
    pub fn is_read_only(self) -> bool {
        matches!(self, Self::Frame { access: Access::Read, .. })
    }

    /// Its bytes from `start` up to `end`, neither of which lies behind its end.
    #[must_use]
    pub fn part(self, start: u32, end: u32) -> Self {
        let len = end - start;
        match self {
            Self::Null => Self::Null,
            Self::Memory { addr, .. } => Self::Memory { addr: addr + start, len },
            Self::Record { record, offset, .. } => Self::Record { record, offset: offset + start, len },
            Self::Frame { offset, access, .. } => Self::Frame { offset: offset + start, len, access },
        }
    }
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
    fn a_part_of_a_part_is_a_part_of_the_whole() {
        let whole = Dynptr::Frame { offset: 0, len: 60, access: Access::Read };
        let part = whole.part(10, 50).part(4, 8);
        assert_eq!(part, Dynptr::Frame { offset: 14, len: 4, access: Access::Read });
        assert_eq!((part.byte_count(), part.is_read_only()), (4, true));
        let record = Dynptr::Record { record: 0x1000, offset: 0, len: 16 };
        assert_eq!(record.part(16, 16), Dynptr::Record { record: 0x1000, offset: 16, len: 0 });
        assert_eq!(Dynptr::Null.part(0, 0), Dynptr::Null);
    }

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
