//! Where trains come in: buffers outside the cage, each as long as any datagram, from which frames are dealt into chunks.
//!
//! A copy of a frame costs some nanoseconds where a train saves hundreds; and each frame has its own headroom, as if it
//! had come alone.
//!
//! Source: `UDP_GRO` in udp(7): the segment's length comes as a control message; without one the datagram is one frame.
//!
//! Invariant: allocates nothing after it is made. A landed buffer is dealt out whole before the kernel has it again.

use std::collections::VecDeque;
use std::mem::size_of;

use libc::cmsghdr;

use super::super::{Burst, Pool, PortCounts};

/// Buffers: as many datagrams can land at once.
pub(super) const LANDING_COUNT: u16 = 64;
/// Bytes of a control message with a segment's length.
pub(super) const CONTROL_LEN: usize = size_of::<cmsghdr>() + 8;
/// Bytes of a buffer: what a multishot receive writes before a datagram, and the longest datagram.
pub(super) const LANDING_LEN: usize = 66 * 1024;

/// A datagram that is being dealt out.
#[derive(Clone, Copy, Debug)]
struct Landed {
    buffer: u16,
    next: usize,
    end: usize,
    segment_len: usize,
}

/// The buffers.
#[derive(Debug)]
pub(super) struct Landing {
    memory: Vec<u8>,
    waiting: VecDeque<Landed>,
}

impl Landing {
    pub(super) fn new() -> Self {
        // Not zero, so that every page is there before the first frame.
        let memory = vec![0xff; LANDING_LEN * usize::from(LANDING_COUNT)];
        Self { memory, waiting: VecDeque::with_capacity(LANDING_COUNT.into()) }
    }

    /// Address of a buffer, for the kernel.
    pub(super) fn buffer_ptr(&mut self, buffer: u16) -> *mut u8 {
        self.bytes_mut(buffer).as_mut_ptr()
    }

    /// Bytes of a buffer that the kernel has filled.
    pub(super) fn bytes(&self, buffer: u16) -> &[u8] {
        let start = usize::from(buffer) * LANDING_LEN;
        &self.memory[start..start + LANDING_LEN]
    }

    fn bytes_mut(&mut self, buffer: u16) -> &mut [u8] {
        let start = usize::from(buffer) * LANDING_LEN;
        &mut self.memory[start..start + LANDING_LEN]
    }

    /// Takes note of a datagram of `len` bytes at `at` in a buffer, cut into segments if it is a train.
    pub(super) fn landed(
        &mut self,
        buffer: u16,
        at: usize,
        len: usize,
        segment_len: Option<usize>,
        counts: &mut PortCounts,
    ) {
        let segment_len = segment_len.filter(|segment_len| *segment_len < len);
        if let Some(segment_len) = segment_len {
            counts.rx_in_trains += len.div_ceil(segment_len) as u64;
        }
        let end = (at + len).min(LANDING_LEN);
        self.waiting.push_back(Landed { buffer, next: at, end, segment_len: segment_len.unwrap_or(len) });
    }

    /// Deals frames into the burst until it is full, chunks run out, or nothing is left; buffers that are empty go to
    /// `emptied`.
    pub(super) fn deal(&mut self, pool: &mut Pool, burst: &mut Burst, mut emptied: impl FnMut(u16)) {
        while let Some(landed) = self.waiting.front_mut() {
            let len = (landed.end - landed.next).min(landed.segment_len);
            let at = usize::from(landed.buffer) * LANDING_LEN + landed.next;
            if burst.room() == 0 || !burst.copied(pool, &self.memory[at..at + len]) {
                return;
            }
            landed.next += len;
            if landed.next >= landed.end {
                emptied(landed.buffer);
                self.waiting.pop_front();
            }
        }
    }

    /// Whether frames wait to be dealt.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// The segment's length that the kernel says in control messages, if it does.
pub(super) fn segment_len(control: &[u8]) -> Option<usize> {
    let field = |at: usize| control.get(at..at + 4)?.try_into().ok().map(i32::from_ne_bytes);
    let [level, kind] = [size_of::<usize>(), size_of::<usize>() + 4];
    if (field(level)?, field(kind)?) != (libc::SOL_UDP, libc::UDP_GRO) {
        return None;
    }
    usize::try_from(field(size_of::<cmsghdr>())?).ok().filter(|len| *len > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cage::Cage;

    fn control(len: i32) -> Vec<u8> {
        let mut bytes = 20usize.to_ne_bytes().to_vec();
        bytes.extend([libc::SOL_UDP, libc::UDP_GRO, len].map(i32::to_ne_bytes).as_flattened());
        bytes
    }

    #[test]
    fn a_train_is_dealt_out_frame_by_frame_as_chunks_come_free() {
        let mut pool = Pool::new(&Cage::new().expect("address space"), 3, 0).expect("room");
        let (mut burst, mut landing, mut counts) = (Burst::new(), Landing::new(), PortCounts::default());
        let bytes: Vec<u8> = (0..130u8).collect();
        landing.bytes_mut(5)[40..170].copy_from_slice(&bytes);
        landing.landed(5, 40, 130, Some(20), &mut counts);
        landing.landed(6, 0, 14, Some(14), &mut counts);
        landing.landed(7, 0, 0, None, &mut counts);
        assert_eq!(counts.rx_in_trains, 7);
        let mut emptied = Vec::new();
        let mut frames = Vec::new();
        for _ in 0..10 {
            landing.deal(&mut pool, &mut burst, |buffer| emptied.push(buffer));
            assert!(burst.count() <= 3, "three chunks only");
            while let Some(frame) = burst.take() {
                let mut room = [0; 64];
                let len = pool.read(&frame, &mut room);
                frames.push(room[..len].to_vec());
                pool.release(frame);
            }
        }
        assert_eq!(emptied, [5, 6, 7]);
        assert!(!landing.has_waiting());
        let mut expected: Vec<Vec<u8>> = bytes.chunks(20).map(<[u8]>::to_vec).collect();
        // Ten bytes are left for the last: a runt.
        expected.truncate(6);
        expected.push(vec![0xff; 14]);
        assert_eq!(frames, expected);
        assert_eq!(burst.take_refused().runt, 2);
    }

    #[test]
    fn other_control_messages_are_no_trains() {
        assert_eq!(segment_len(&control(1400)), Some(1400));
        assert_eq!(segment_len(&control(-1)), None);
        assert_eq!(segment_len(&control(9)[..19]), None);
        let mut other = control(9);
        other[12] += 1;
        assert_eq!(segment_len(&other), None);
        assert_eq!(segment_len(&[]), None);
    }
}
