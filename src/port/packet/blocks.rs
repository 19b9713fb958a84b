//! The ring that the kernel fills: blocks of frames, each block the kernel's or ours.
//!
//! Source: `struct tpacket_block_desc` and `struct tpacket3_hdr` of linux/if_packet.h.
//!
//! Invariant: reads a block only while it is ours, and nothing outside of it, whatever stands there.

use std::sync::atomic::Ordering;

use crate::limits::{FRAME_LEN_MAX, FRAME_LEN_MIN};
use crate::port::calls::Mapping;
use crate::port::offload::{Dealer, HEADER_LEN, Offload, SUPER_LEN_MAX};
use crate::port::{Burst, Pool, PortCounts};

/// Where a block says whose it is, how many frames it has and where the first begins.
const STATUS_AT: usize = 8;
const FRAME_COUNT_AT: usize = 12;
const FIRST_AT: usize = 16;
/// Bytes of a frame's header that we read.
const FRAME_HEADER_LEN: usize = 40;

const STATUS_KERNEL: u32 = 0;
const STATUS_USER: u32 = 1;
const VLAN_VALID: u32 = 1 << 4;
const VLAN_PROTOCOL_VALID: u32 = 1 << 6;
/// Where a VLAN tag stands in a frame.
const TAG_AT: usize = 12;

/// Where we are in the ring.
#[derive(Debug)]
pub(super) struct Blocks {
    block_len: usize,
    block_count: usize,
    /// The block that comes next or is under way.
    block: usize,
    /// Of the block under way: frames that are left, and where the next begins.
    left: u32,
    next: usize,
    is_open: bool,
}

impl Blocks {
    pub(super) fn new(block_len: usize, block_count: usize) -> Self {
        Self { block_len, block_count, block: 0, left: 0, next: 0, is_open: false }
    }

    fn start(&self) -> usize {
        self.block * self.block_len
    }

    fn is_ours(&self, ring: &Mapping) -> bool {
        ring.word(self.start() + STATUS_AT).load(Ordering::Acquire) & STATUS_USER != 0
    }

    /// Whether frames are there.
    pub(super) fn has_waiting(&self, ring: &Mapping) -> bool {
        self.is_open || self.is_ours(ring)
    }

    /// Takes the next frame, into a chunk or, where something is left to do with it, to the dealer. Says no when there is
    /// none or no room for it.
    pub(super) fn next(
        &mut self,
        ring: &Mapping,
        pool: &mut Pool,
        burst: &mut Burst,
        dealer: &mut Dealer,
        counts: &mut PortCounts,
    ) -> bool {
        loop {
            if !self.is_open {
                if !self.is_ours(ring) {
                    return false;
                }
                self.left = ring.word(self.start() + FRAME_COUNT_AT).load(Ordering::Relaxed);
                self.next = ring.word(self.start() + FIRST_AT).load(Ordering::Relaxed) as usize;
                self.is_open = true;
            }
            if self.left > 0 {
                break;
            }
            self.close(ring);
        }
        if burst.room() == 0 {
            return false;
        }
        let mut header = [0; FRAME_HEADER_LEN];
        let Some(mut within) = self.block_len.checked_sub(self.next).filter(|len| *len >= FRAME_HEADER_LEN) else {
            self.left = 0;
            counts.rx_errors += 1;
            return true;
        };
        ring.read(self.start() + self.next, &mut header);
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let (step, came, len, status) = (word(0) as usize, word(12) as usize, word(16) as usize, word(20));
        let frame_at = usize::from(half(24));
        within = within.saturating_sub(frame_at);
        if frame_at < HEADER_LEN || came > within {
            counts.rx_errors += 1;
        } else if came < len {
            burst.arrived_cut();
        } else {
            let at = self.start() + self.next + frame_at;
            let mut left_undone = [0; HEADER_LEN];
            ring.read(at - HEADER_LEN, &mut left_undone);
            let offload = Offload::parse(&left_undone);
            let tag = (status & VLAN_VALID != 0).then(|| {
                let protocol = if status & VLAN_PROTOCOL_VALID == 0 { 0x8100 } else { half(36) };
                [protocol, half(32)].map(u16::to_be_bytes)
            });
            let is_plain = offload.is_done() && tag.is_none();
            if is_plain && (FRAME_LEN_MIN as usize..=FRAME_LEN_MAX as usize).contains(&came) {
                let Some(chunk) = pool.take() else { return false };
                ring.read_to_chunk(at, came, pool, chunk);
                burst.arrived(pool, chunk, came);
            } else if came + 4 > SUPER_LEN_MAX || is_plain && came > FRAME_LEN_MAX as usize {
                burst.arrived_cut();
            } else {
                deal(ring, at, came, offload, tag, dealer, counts);
            }
        }
        self.left -= 1;
        // The kernel says 0 behind the last.
        self.next = if step == 0 { self.block_len } else { self.next.saturating_add(step) };
        true
    }

    /// Gives the block back.
    fn close(&mut self, ring: &Mapping) {
        ring.word(self.start() + STATUS_AT).store(STATUS_KERNEL, Ordering::Release);
        self.block = (self.block + 1) % self.block_count;
        self.is_open = false;
    }
}

/// Hands a frame to the dealer, with the tag that the kernel took out of it.
fn deal(
    ring: &Mapping,
    at: usize,
    came: usize,
    offload: Offload,
    tag: Option<[[u8; 2]; 2]>,
    dealer: &mut Dealer,
    counts: &mut PortCounts,
) {
    let room = dealer.room();
    let Some(tag) = tag.filter(|_| came >= TAG_AT) else {
        ring.read(at, &mut room[..came]);
        dealer.took(came, offload, counts);
        return;
    };
    ring.read(at, &mut room[..TAG_AT]);
    room[TAG_AT..TAG_AT + 4].copy_from_slice(tag.as_flattened());
    ring.read(at + TAG_AT, &mut room[TAG_AT + 4..came + 4]);
    dealer.took(came + 4, offload.behind_tag(), counts);
}
