//! The shadow of a run's stack: which bits were written, and which pointers were spilled.
//!
//! Invariant: as long as the stack; knows addresses, not values. A thread asks for its memory once.

use std::cell::Cell;

use super::value::{Origin, Value};
use crate::limits::{FRAME_STACK_LEN, STACK_LEN};

const LEN: usize = STACK_LEN as usize;

/// The shadow of a run's stack.
pub(super) struct Stack {
    /// Guest address of the stack.
    base: u32,
    /// For each byte the bits that were never written.
    unset: Vec<u8>,
    /// For each aligned double word the origin of the value that was stored there whole.
    origins: Vec<Origin>,
    /// What lies before this is as new.
    deepest: usize,
}

/// The memory of a shadow, as new.
type Memory = (Vec<u8>, Vec<Origin>);

thread_local! {
    /// That of the thread's last shadow.
    static SPARE: Cell<Memory> = const { Cell::new((Vec::new(), Vec::new())) };
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.forget(self.deepest, LEN);
        let memory = (std::mem::take(&mut self.unset), std::mem::take(&mut self.origins));
        // A thread that ends keeps nothing.
        let _ = SPARE.try_with(|spare| spare.set(memory));
    }
}

impl Stack {
    pub(super) fn new(stack_top: u32) -> Self {
        let (mut unset, mut origins) = SPARE.try_with(Cell::take).unwrap_or_default();
        unset.resize(LEN, 0xff);
        origins.resize(LEN / 8, Origin::Unknown);
        Self { base: stack_top - STACK_LEN, unset, origins, deepest: LEN }
    }

    /// Place of `len` bytes at `addr` in the stack, if all of them lie in it.
    pub(super) fn place(&self, addr: i64, len: u64) -> Option<usize> {
        let offset = usize::try_from(addr - i64::from(self.base)).ok()?;
        let end = offset.checked_add(usize::try_from(len).ok()?)?;
        (end <= LEN).then_some(offset)
    }

    /// A function was entered: its frame, which ends at `frame_top`, is unwritten.
    pub(super) fn enter(&mut self, frame_top: u32) {
        let frame_len = u64::from(FRAME_STACK_LEN);
        if let Some(start) = self.place(i64::from(frame_top) - i64::from(FRAME_STACK_LEN), frame_len) {
            self.forget(start, start + FRAME_STACK_LEN as usize);
            self.deepest = self.deepest.min(start);
        }
    }

    /// Makes a part, of whole double words, as new.
    fn forget(&mut self, start: usize, end: usize) {
        self.unset[start..end].fill(0xff);
        self.origins[start / 8..end / 8].fill(Origin::Unknown);
    }

    /// A value of `len` bytes, at most 8, was stored at `place`.
    pub(super) fn store(&mut self, place: usize, len: usize, value: Value) {
        self.touch(place, len);
        if len == 8 && place.is_multiple_of(8) {
            self.origins[place / 8] = value.origin;
        }
        self.unset[place..place + len].copy_from_slice(&value.unset.to_le_bytes()[..len]);
    }

    /// What is known of `len` bytes, at most 8, at `place`.
    pub(super) fn load(&self, place: usize, len: usize) -> Value {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&self.unset[place..place + len]);
        let whole = len == 8 && place.is_multiple_of(8);
        let origin = if whole { self.origins[place / 8] } else { Origin::Unknown };
        Value { origin, unset: u64::from_le_bytes(bytes) }
    }

    /// A helper wrote `len` bytes at `place`.
    pub(super) fn written(&mut self, place: usize, len: usize) {
        self.touch(place, len);
        self.unset[place..place + len].fill(0);
    }

    /// Offset, from `place`, of the first byte of `len` that was never written whole.
    pub(super) fn first_unset(&self, place: usize, len: usize) -> Option<usize> {
        self.unset[place..place + len].iter().position(|bits| *bits != 0)
    }

    /// Forgets the origins of what is being overwritten.
    fn touch(&mut self, place: usize, len: usize) {
        self.origins[place / 8..(place + len).div_ceil(8)].fill(Origin::Unknown);
        // An address that the program made up can lie below every frame.
        self.deepest = self.deepest.min(place / 8 * 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: u32 = 0x20_0000;

    fn packet() -> Value {
        Value { origin: Origin::Packet { moves: 0 }, unset: 0 }
    }

    #[test]
    fn a_spilled_pointer_comes_back_until_a_byte_of_it_is_overwritten() {
        let mut stack = Stack::new(TOP);
        let place = stack.place(i64::from(TOP) - 16, 8).expect("in the stack");
        stack.store(place, 8, packet());
        assert_eq!(stack.load(place, 8), packet());
        stack.store(place + 7, 1, Value::NUMBER);
        assert_eq!(stack.load(place, 8), Value::NUMBER);
    }

    #[test]
    fn a_frame_is_unwritten_again_when_it_is_entered_again() {
        let mut stack = Stack::new(TOP);
        let place = stack.place(i64::from(TOP) - 8, 4).expect("in the stack");
        stack.written(place, 4);
        assert_eq!(stack.first_unset(place, 8), Some(4));
        assert_eq!(stack.load(place, 8).unset, 0xffff_ffff_0000_0000);
        stack.enter(TOP);
        assert_eq!(stack.first_unset(place, 8), Some(0));
    }

    #[test]
    fn the_next_shadow_of_a_thread_has_the_memory_of_the_last_and_nothing_of_its_contents() {
        let mut stack = Stack::new(TOP);
        let place = stack.place(i64::from(TOP) - 8, 8).expect("in the stack");
        stack.store(place, 8, packet());
        let memory = stack.unset.as_ptr();
        drop(stack);
        let stack = Stack::new(TOP);
        assert_eq!(stack.unset.as_ptr(), memory);
        assert_eq!(stack.load(place, 8), Value { origin: Origin::Unknown, unset: u64::MAX });
        let other = Stack::new(TOP);
        assert_ne!(other.unset.as_ptr(), memory, "one run within another has its own");
    }

    #[test]
    fn what_is_not_wholly_in_the_stack_has_no_place() {
        let stack = Stack::new(TOP);
        assert_eq!(stack.place(i64::from(TOP) - 4, 8), None);
        assert_eq!(stack.place(-1, 1), None);
        assert_eq!(stack.place(i64::from(TOP - STACK_LEN), u64::from(STACK_LEN)), Some(0));
    }
}
