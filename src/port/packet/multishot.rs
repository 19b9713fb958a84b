//! Frames one by one through an io_uring ring: a multishot receive into chunks, where programs judge them.
//!
//! Before a frame stands what the ring, the socket and the kernel's offloads say of it, just before where the frame begins.
//!
//! Source: io_uring_prep_recvmsg_multishot(3); `struct tpacket_auxdata` in linux/if_packet.h.
//!
//! Invariant: a chunk that the kernel may still touch is neither in the pool nor unmapped.

use std::fmt;
use std::mem::zeroed;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use libc::msghdr;

use crate::cage::Region;
use crate::limits::{CHUNK_LEN, CLOSE_MS_MAX, FRAME_LEN_MAX, HEADROOM, RECEIVE_CHUNKS};
use crate::port::buffer_ring::BufferRing;
use crate::port::offload::{Dealer, HEADER_LEN, Offload};
use crate::port::ring_setup::{Refusal, know_multishot, refused, setup};
use crate::port::{Burst, Frame, Pool, PortCounts, Wake};

/// The only group of provided buffers.
const BUFFER_GROUP: u16 = 0;
/// Bytes of `struct io_uring_recvmsg_out`.
const MESSAGE_LEN: usize = 16;
/// Bytes for the control message with a VLAN tag.
const CONTROL_LEN: usize = 64;
/// Bytes before a frame in its chunk that the kernel writes.
const BEFORE_LEN: usize = MESSAGE_LEN + CONTROL_LEN + HEADER_LEN;
const _: () = assert!(BEFORE_LEN <= HEADROOM as usize);
/// Bytes offered of a chunk.
#[expect(clippy::cast_possible_truncation, reason = "90 bytes")]
const BUFFER_LEN: u32 = FRAME_LEN_MAX + BEFORE_LEN as u32;
/// Where in the control message are its level, its kind, the socket's status and the tag.
const LEVEL_AT: usize = 8;
const KIND_AT: usize = 12;
const STATUS_AT: usize = 16;
const TAG_AT: usize = 32;
const PROTOCOL_AT: usize = 34;
const VLAN_VALID: u32 = 1 << 4;
const VLAN_PROTOCOL_VALID: u32 = 1 << 6;

const RECEIVE: u64 = 1;
const CANCEL: u64 = 2;

/// State of the receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be armed as soon as there is a chunk.
    Idle,
    Armed,
    Ending,
    Ended,
}

/// The ring, and what it has of ours.
pub(super) struct Multishot {
    // Dropped first: the kernel lets go of the buffers below.
    ring: IoUring,
    buffers: BufferRing,
    asked: Box<msghdr>,
    fd: RawFd,
    offered: Box<[bool]>,
    offered_count: u16,
    state: State,
    /// Whether a receive failed since this was last asked.
    has_failed: bool,
    bell: Wake,
    bell_is_on: bool,
    region: Arc<Region>,
}

impl fmt::Debug for Multishot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multishot").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Multishot {
    /// Makes the ring of the calling thread; `fd` must live as long as it.
    pub(super) fn open(fd: RawFd, pool: &Pool) -> Result<Self, Refusal> {
        let (ring, _) = setup(4 * u32::from(RECEIVE_CHUNKS))?;
        know_multishot(&ring)?;
        let buffers = BufferRing::new(RECEIVE_CHUNKS);
        // SAFETY: the memory is that many entries long, and the kernel pins its pages.
        unsafe { ring.submitter().register_buf_ring_with_flags(buffers.addr(), buffers.count(), BUFFER_GROUP, 0) }
            .map_err(refused("a ring of provided buffers"))?;
        let bell = Wake::new().map_err(|_| Refusal::no_bell())?;
        ring.submitter().register_eventfd(bell.fd()).map_err(refused("an eventfd"))?;
        // SAFETY: a message header of zeroes has no name, no parts and no control bytes.
        let mut asked: Box<msghdr> = Box::new(unsafe { zeroed() });
        asked.msg_controllen = CONTROL_LEN;
        let offered = vec![false; pool.count().into()].into();
        let region = Arc::clone(pool.region());
        let (offered_count, state, has_failed, bell_is_on) = (0, State::Idle, false, true);
        Ok(Self { ring, buffers, asked, fd, offered, offered_count, state, has_failed, bell, bell_is_on, region })
    }

    /// Offers chunks, arms the receive, and lets the kernel do what it put off.
    fn enter(&mut self, pool: &mut Pool) {
        let before = self.buffers.tail;
        // Half of what a port may hold: some are on their way through programs.
        while self.offered_count < RECEIVE_CHUNKS / 2
            && self.state != State::Ended
            && let Some(chunk) = pool.take()
        {
            let at = pool.chunk_ptr(chunk).wrapping_add(HEADROOM as usize - BEFORE_LEN);
            self.buffers.offer(chunk, at, BUFFER_LEN);
            self.offered[usize::from(chunk)] = true;
            self.offered_count += 1;
        }
        if self.buffers.tail != before {
            self.buffers.publish();
        }
        if self.state == State::Idle && self.offered_count > 0 {
            let receive = opcode::RecvMsgMulti::new(Fd(self.fd), &raw const *self.asked, BUFFER_GROUP).build();
            // SAFETY: what it points at lives until it has completed.
            if unsafe { self.ring.submission().push(&receive.user_data(RECEIVE)) }.is_ok() {
                self.state = State::Armed;
            }
        }
        let queue = self.ring.submission();
        let needed = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if needed {
            // What is not taken stays queued for the next call.
            let _ = self.ring.submit();
        }
    }

    /// Takes the next frame, into the burst or, where something is left to do with it, to the dealer. Says no when there is
    /// none or no room for it, and after a receive that failed: one that fails again and again shall not hold the worker.
    pub(super) fn next(
        &mut self,
        pool: &mut Pool,
        burst: &mut Burst,
        dealer: &mut Dealer,
        counts: &mut PortCounts,
    ) -> bool {
        if std::mem::take(&mut self.bell_is_on) {
            self.ring.completion().disable_eventfd();
            self.bell.clear();
        }
        if burst.room() == 0 {
            return false;
        }
        let mut completion = self.ring.completion().next();
        if completion.is_none() {
            self.enter(pool);
            completion = self.ring.completion().next();
        }
        let Some(completion) = completion else { return false };
        let failed_before = std::mem::take(&mut self.has_failed);
        if completion.user_data() == RECEIVE {
            self.received(&completion, pool, burst, dealer, counts);
        }
        let goes_on = !self.has_failed;
        self.has_failed |= failed_before;
        goes_on
    }

    fn received(
        &mut self,
        completion: &cqueue::Entry,
        pool: &mut Pool,
        burst: &mut Burst,
        dealer: &mut Dealer,
        counts: &mut PortCounts,
    ) {
        if !cqueue::more(completion.flags()) {
            self.state = if self.state == State::Ending { State::Ended } else { State::Idle };
        }
        let chunk = cqueue::buffer_select(completion.flags());
        if let Some(chunk) = chunk {
            self.offered[usize::from(chunk)] = false;
            self.offered_count -= 1;
        }
        let errno = -completion.result();
        match chunk {
            Some(chunk) if errno <= 0 => self.arrived(chunk, pool, burst, dealer, counts),
            // No chunk was left: the frame stays in the socket until there is one.
            None if matches!(errno, libc::ENOBUFS | libc::ECANCELED) => {}
            chunk => {
                counts.rx_errors += 1;
                self.has_failed = true;
                if let Some(chunk) = chunk {
                    pool.give(chunk);
                }
            }
        }
    }

    fn arrived(&self, chunk: u16, pool: &mut Pool, burst: &mut Burst, dealer: &mut Dealer, counts: &mut PortCounts) {
        let mut before = [0; BEFORE_LEN];
        let at = u64::from(chunk) * u64::from(CHUNK_LEN) + u64::from(HEADROOM) - BEFORE_LEN as u64;
        self.region.read(at, &mut before);
        let word = |at: usize| u32::from_ne_bytes([before[at], before[at + 1], before[at + 2], before[at + 3]]);
        let (control_len, payload_len, flags) = (word(4) as usize, word(8) as usize, word(12));
        let Some(len) = payload_len.checked_sub(HEADER_LEN) else {
            counts.rx_errors += 1;
            return pool.give(chunk);
        };
        if flags & libc::MSG_TRUNC.cast_unsigned() != 0 || len > FRAME_LEN_MAX as usize {
            burst.arrived_cut();
            return pool.give(chunk);
        }
        let control = &before[MESSAGE_LEN..MESSAGE_LEN + CONTROL_LEN];
        let tag = tag(&control[..control_len.min(CONTROL_LEN)]);
        let offload = Offload::parse(before.last_chunk().expect("it is longer"));
        if offload.is_done() && tag.is_none() {
            return burst.arrived(pool, chunk, len);
        }
        let frame = Frame::behind_headroom(chunk, u16::try_from(len).expect("within a chunk"));
        let room = dealer.room();
        pool.read(&frame, &mut room[..len]);
        pool.release(frame);
        match tag.filter(|_| len >= 12) {
            Some(tag) => {
                room.copy_within(12..len, 16);
                room[12..16].copy_from_slice(tag.as_flattened());
                dealer.took(len + 4, offload.behind_tag(), counts);
            }
            None => dealer.took(len, offload, counts),
        }
    }

    /// Whether a receive failed since this was last asked.
    pub(super) fn take_failed(&mut self) -> bool {
        std::mem::take(&mut self.has_failed)
    }

    /// Makes ready for a sleep; whether something is there.
    pub(super) fn before_wait(&mut self, pool: &mut Pool) -> bool {
        self.enter(pool);
        if !std::mem::replace(&mut self.bell_is_on, true) {
            self.ring.completion().enable_eventfd();
        }
        // What came before the bell was on has not rung it.
        fence(Ordering::SeqCst);
        !self.ring.completion().is_empty() || self.ring.submission().taskrun()
    }

    /// What becomes readable when something came.
    pub(super) fn bell(&self) -> RawFd {
        self.bell.fd()
    }

    /// Receives no more; what had been received still comes.
    pub(super) fn end(&mut self) {
        match self.state {
            State::Idle => self.state = State::Ended,
            State::Armed => {
                let cancel = opcode::AsyncCancel::new(RECEIVE).build().user_data(CANCEL);
                // SAFETY: it points at nothing.
                if unsafe { self.ring.submission().push(&cancel) }.is_ok() {
                    self.state = State::Ending;
                }
            }
            State::Ending | State::Ended => {}
        }
    }

    /// Whether frames may still come.
    pub(super) fn is_receiving(&mut self) -> bool {
        self.state != State::Ended || !self.ring.completion().is_empty()
    }

    /// Ends it and gives every chunk back; how many frames had come that nobody took.
    pub(super) fn close(&mut self, pool: &mut Pool) -> u64 {
        let mut untaken = 0;
        let deadline = Instant::now() + Duration::from_millis(CLOSE_MS_MAX);
        while self.is_receiving() && Instant::now() < deadline {
            self.end();
            let timeout = Timespec::from(Duration::from_millis(10));
            let _ = self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout));
            let completions: Vec<cqueue::Entry> = self.ring.completion().collect();
            for completion in completions.iter().filter(|completion| completion.user_data() == RECEIVE) {
                let has_frame = completion.result() >= 0 && cqueue::buffer_select(completion.flags()).is_some();
                untaken += u64::from(has_frame);
                if !cqueue::more(completion.flags()) {
                    self.state = State::Ended;
                }
            }
        }
        if self.state == State::Ended {
            for (chunk, offered) in (0u16..).zip(&mut self.offered) {
                if std::mem::take(offered) {
                    pool.give(chunk);
                }
            }
            self.offered_count = 0;
        }
        untaken
    }
}

impl Drop for Multishot {
    fn drop(&mut self) {
        if matches!(self.state, State::Armed | State::Ending) {
            let timeout = Timespec::from(Duration::from_millis(100));
            // What cannot be cancelled keeps its memory for ever, rather than be written to when others have it.
            let _ = self.ring.submitter().register_sync_cancel(Some(timeout), CancelBuilder::any());
            std::mem::forget(Arc::clone(&self.region));
            self.buffers.abandoned = true;
            // SAFETY: a message header of zeroes has no name, no parts and no control bytes.
            std::mem::forget(std::mem::replace(&mut self.asked, Box::new(unsafe { zeroed() })));
        }
    }
}

/// The VLAN tag that the kernel took out of a frame.
fn tag(control: &[u8]) -> Option<[[u8; 2]; 2]> {
    let word = |at: usize| control.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let half = |at: usize| control.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes);
    let (level, kind) = (libc::SOL_PACKET.cast_unsigned(), libc::PACKET_AUXDATA.cast_unsigned());
    if (word(LEVEL_AT)?, word(KIND_AT)?) != (level, kind) || word(STATUS_AT)? & VLAN_VALID == 0 {
        return None;
    }
    let protocol = if word(STATUS_AT)? & VLAN_PROTOCOL_VALID == 0 { 0x8100 } else { half(PROTOCOL_AT)? };
    Some([protocol, half(TAG_AT)?].map(u16::to_be_bytes))
}
