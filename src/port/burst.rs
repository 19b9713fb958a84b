//! Frames that move together, and what a port refused while it took them.

use std::collections::VecDeque;

use serde::Serialize;

use super::{Frame, Pool};
use crate::limits::{BURST_MAX, FRAME_LEN_MAX, FRAME_LEN_MIN};

/// Frames that a port received and no program sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Shorter than an Ethernet header.
    pub runt: u64,
    /// Longer than a chunk takes, or than what of it came: a capture may cut frames.
    pub oversize: u64,
}

impl Refused {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.runt + self.oversize
    }
}

/// Up to [`BURST_MAX`] frames in the order of their arrival.
#[derive(Debug)]
pub struct Burst {
    frames: VecDeque<Frame>,
    refused: Refused,
}

impl Default for Burst {
    fn default() -> Self {
        Self::new()
    }
}

impl Burst {
    /// An empty burst.
    #[must_use]
    pub fn new() -> Self {
        Self { frames: VecDeque::with_capacity(BURST_MAX), refused: Refused::default() }
    }

    /// Frames in it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.frames.len()
    }

    /// Frames that it still takes.
    #[must_use]
    pub fn room(&self) -> usize {
        BURST_MAX - self.frames.len()
    }

    /// The frame that came first.
    pub fn take(&mut self) -> Option<Frame> {
        self.frames.pop_front()
    }

    /// What was refused since this was last asked.
    pub fn take_refused(&mut self) -> Refused {
        std::mem::take(&mut self.refused)
    }

    /// Takes over a chunk that the port received `len` bytes for, be they more than it holds.
    pub(super) fn arrived(&mut self, pool: &mut Pool, chunk: u16, len: usize) {
        match u16::try_from(len) {
            Ok(len) if u32::from(len) < FRAME_LEN_MIN => {
                self.refused.runt += 1;
                pool.give(chunk);
            }
            Ok(len) if u32::from(len) <= FRAME_LEN_MAX => {
                assert!(self.room() > 0, "ports stop when the burst is full");
                self.frames.push_back(Frame::behind_headroom(chunk, len));
            }
            Ok(_) | Err(_) => {
                self.refused.oversize += 1;
                pool.give(chunk);
            }
        }
    }

    /// Copies a frame that the port received elsewhere into a chunk; says no, and does nothing, when none is free.
    pub(crate) fn copied(&mut self, pool: &mut Pool, bytes: &[u8]) -> bool {
        match u32::try_from(bytes.len()) {
            Ok(len) if len < FRAME_LEN_MIN => self.refused.runt += 1,
            Ok(len) if len <= FRAME_LEN_MAX => {
                assert!(self.room() > 0, "ports stop when the burst is full");
                let Some(chunk) = pool.take() else { return false };
                let mut frame = Frame::behind_headroom(chunk, 0);
                pool.rewrite(&mut frame, bytes);
                self.frames.push_back(frame);
            }
            Ok(_) | Err(_) => self.refused.oversize += 1,
        }
        true
    }

    /// Takes a frame that waited elsewhere.
    pub(super) fn push(&mut self, frame: Frame) {
        assert!(self.room() > 0, "ports stop when the burst is full");
        self.frames.push_back(frame);
    }

    /// Takes over what another burst refused.
    pub(super) fn refuse(&mut self, refused: Refused) {
        self.refused.runt += refused.runt;
        self.refused.oversize += refused.oversize;
    }

    /// The frames in it, in the order of their arrival.
    pub(super) fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter()
    }

    /// Counts a frame of which not all came.
    pub(super) fn arrived_cut(&mut self) {
        self.refused.oversize += 1;
    }

    /// Counts an empty frame for which the kernel used no chunk.
    pub(super) fn arrived_empty(&mut self) {
        self.refused.runt += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cage::Cage;

    #[test]
    fn runts_and_giants_are_refused_and_their_chunks_return() {
        let mut pool = Pool::new(&Cage::new().expect("address space"), 8, 0).expect("room");
        let mut burst = Burst::new();
        for len in [0, 13, 14, 1792, 1793, 65_535, 1 << 20] {
            let chunk = pool.take().expect("eight are free");
            burst.arrived(&mut pool, chunk, len);
        }
        burst.arrived_empty();
        assert_eq!(burst.take_refused(), Refused { runt: 3, oversize: 3 });
        assert_eq!(burst.take_refused(), Refused::default());
        assert_eq!((burst.count(), pool.free_count()), (2, 6));
        let lens: Vec<u32> = std::iter::from_fn(|| burst.take()).map(|frame| frame.len()).collect();
        assert_eq!(lens, [14, 1792]);
    }
}
