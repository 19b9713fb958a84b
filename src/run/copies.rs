//! Copies of the frame that a program sends beside it (`bpf_clone_redirect`).
//!
//! Invariant: outside the cage, so what was copied stays as it was; buffers are used again frame after frame.

use super::Redirect;
use crate::limits::FRAME_COPIES_MAX;

/// A copy of the frame as it was when the program asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameCopy {
    /// Where it goes.
    pub target: Redirect,
    /// The frame, link header first.
    pub bytes: Vec<u8>,
}

/// The copies of one run, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Copies {
    /// Those of earlier frames are kept for their buffers.
    buffers: Vec<FrameCopy>,
    count: usize,
}

impl Copies {
    /// The copies.
    #[must_use]
    pub fn held(&self) -> &[FrameCopy] {
        &self.buffers[..self.count]
    }

    /// A further copy of `len` bytes, which the caller fills; `None` where there are [`FRAME_COPIES_MAX`].
    pub fn push(&mut self, target: Redirect, len: u32) -> Option<&mut [u8]> {
        if self.count == FRAME_COPIES_MAX {
            return None;
        }
        if self.count == self.buffers.len() {
            self.buffers.push(FrameCopy { target, bytes: Vec::new() });
        }
        let copy = &mut self.buffers[self.count];
        self.count += 1;
        copy.target = target;
        copy.bytes.clear();
        copy.bytes.resize(len as usize, 0);
        Some(&mut copy.bytes)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_bounded_and_keep_their_order() {
        let target = |ifindex| Redirect::to_port(ifindex, 0);
        let mut copies = Copies::default();
        for round in 0..2 {
            for number in 0..FRAME_COPIES_MAX {
                let ifindex = u32::try_from(number).expect("few");
                copies.push(target(ifindex), 20 - ifindex).expect("room").fill(round);
            }
            assert!(copies.push(target(99), 1).is_none());
            let expected = FrameCopy { target: target(1), bytes: vec![round; 19] };
            assert_eq!((copies.held().len(), &copies.held()[1]), (FRAME_COPIES_MAX, &expected));
            copies.clear();
            assert!(copies.held().is_empty());
        }
    }
}
