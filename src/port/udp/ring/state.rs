//! What completions change: which buffers the kernel has, what arrived, what is to leave.
//!
//! Invariant: makes no system call.

use std::sync::Arc;

use io_uring::cqueue;
use io_uring::types::RecvMsgOut;
use libc::msghdr;

use crate::limits::{FRAME_LEN_MAX, HEADROOM, RECEIVE_CHUNKS};
use crate::port::buffer_ring::BufferRing;
use crate::port::udp::departures::{Departures, Refused};
use crate::port::udp::landing::{self, CONTROL_LEN, LANDING_LEN, Landing};
use crate::port::{Burst, Pool, PortCounts, Wake};

/// Where the datagram begins in what a receive of trains writes.
const MESSAGE_AT: usize = MESSAGE_HEADER_LEN + CONTROL_LEN;
/// Bytes of `struct io_uring_recvmsg_out`.
const MESSAGE_HEADER_LEN: usize = 16;
#[expect(clippy::cast_possible_truncation, reason = "66 KiB")]
const LANDING_LEN_U32: u32 = LANDING_LEN as u32;

/// What a completion belongs to: the upper half of its user data.
pub(super) const TAG_SHIFT: u32 = 32;
pub(super) const TAG_RECV: u64 = 1;
pub(super) const TAG_SEND: u64 = 2;
pub(super) const TAG_WAKE: u64 = 3;
pub(super) const TAG_CANCEL: u64 = 4;

/// Where datagrams are received.
#[derive(Debug)]
pub(super) enum Arrivals {
    /// In chunks; which of them the kernel has.
    InPlace { offered: Box<[bool]> },
    /// In buffers for trains; those that are to be offered again.
    Landing { landing: Landing, emptied: Vec<u16> },
}

/// State of the receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receive {
    /// To be armed as soon as there is a buffer.
    Idle,
    /// The kernel holds the request.
    Armed,
    /// The kernel was asked to end it.
    Ending,
    /// It is over.
    Ended,
}

/// What completions change.
#[derive(Debug)]
pub(super) struct State {
    pub(super) wake: Arc<Wake>,
    pub(super) buffers: BufferRing,
    pub(super) arrivals: Arrivals,
    /// Buffers that the kernel has.
    pub(super) offered_count: u16,
    pub(super) receive: Receive,
    pub(super) wake_armed: bool,
    pub(super) departures: Departures,
    /// Messages to submit: new ones, and those that met the error of an earlier one.
    pub(super) leaving: Vec<u16>,
    pub(super) counts: PortCounts,
}

impl State {
    pub(super) fn completed(&mut self, cqe: &cqueue::Entry, pool: &mut Pool, burst: &mut Burst, asked: &msghdr) {
        match cqe.user_data() >> TAG_SHIFT {
            TAG_RECV => self.received(cqe, pool, burst, asked),
            TAG_SEND => {
                let message = u16::try_from(cqe.user_data() & 0xffff).expect("masked");
                self.sent(message, cqe.result(), pool);
            }
            TAG_WAKE => {
                self.wake.clear();
                self.wake_armed = cqueue::more(cqe.flags());
            }
            _ => {}
        }
    }

    fn received(&mut self, cqe: &cqueue::Entry, pool: &mut Pool, burst: &mut Burst, asked: &msghdr) {
        if !cqueue::more(cqe.flags()) {
            self.receive = if self.receive == Receive::Ending { Receive::Ended } else { Receive::Idle };
        }
        let buffer = cqueue::buffer_select(cqe.flags());
        self.offered_count -= u16::from(buffer.is_some());
        match usize::try_from(cqe.result()) {
            Ok(len) => self.arrived(buffer, len, pool, burst, asked),
            Err(_) => {
                if let Some(buffer) = buffer {
                    self.unused(buffer, pool);
                }
                match -cqe.result() {
                    // No buffer was left: the frame stays in the socket until there is one.
                    libc::ENOBUFS | libc::ECANCELED => {}
                    libc::ECONNREFUSED => self.counts.unreachable += 1,
                    _ => self.counts.rx_errors += 1,
                }
            }
        }
    }

    fn arrived(&mut self, buffer: Option<u16>, len: usize, pool: &mut Pool, burst: &mut Burst, asked: &msghdr) {
        let Some(buffer) = buffer else { return burst.arrived_empty() };
        match &mut self.arrivals {
            Arrivals::InPlace { offered } => {
                offered[usize::from(buffer)] = false;
                burst.arrived(pool, buffer, len);
            }
            Arrivals::Landing { landing, emptied } => {
                let Ok(message) = RecvMsgOut::parse(landing.bytes(buffer), asked) else {
                    self.counts.rx_errors += 1;
                    return emptied.push(buffer);
                };
                let len = message.payload_data().len();
                let segment_len = landing::segment_len(message.control_data());
                landing.landed(buffer, MESSAGE_AT, len, segment_len, &mut self.counts);
            }
        }
    }

    /// A buffer came back without a datagram.
    fn unused(&mut self, buffer: u16, pool: &mut Pool) {
        match &mut self.arrivals {
            Arrivals::InPlace { offered } => {
                offered[usize::from(buffer)] = false;
                pool.give(buffer);
            }
            Arrivals::Landing { emptied, .. } => emptied.push(buffer),
        }
    }

    fn sent(&mut self, message: u16, result: i32, pool: &mut Pool) {
        if result >= 0 {
            self.departures.sent(message, pool, &mut self.counts);
        } else if self.departures.refused(message, -result, pool, &mut self.counts) == Refused::Again {
            self.leaving.push(message);
        }
    }

    /// Offers the kernel every free buffer, of chunks as many as a port may hold.
    pub(super) fn recycle(&mut self, pool: &mut Pool) {
        let before = self.buffers.tail;
        match &mut self.arrivals {
            Arrivals::InPlace { offered } => {
                while self.offered_count + self.buffers.tail.wrapping_sub(before) < RECEIVE_CHUNKS
                    && let Some(chunk) = pool.take()
                {
                    let at = pool.chunk_ptr(chunk).wrapping_add(HEADROOM as usize);
                    self.buffers.offer(chunk, at, FRAME_LEN_MAX);
                    offered[usize::from(chunk)] = true;
                }
            }
            Arrivals::Landing { landing, emptied } => {
                for buffer in emptied.drain(..) {
                    self.buffers.offer(buffer, landing.buffer_ptr(buffer), LANDING_LEN_U32);
                }
            }
        }
        if self.buffers.tail != before {
            self.offered_count += self.buffers.tail.wrapping_sub(before);
            self.buffers.publish();
        }
    }

    /// Deals what landed into the burst.
    pub(super) fn deal(&mut self, pool: &mut Pool, burst: &mut Burst) {
        if let Arrivals::Landing { landing, emptied } = &mut self.arrivals {
            landing.deal(pool, burst, |buffer| emptied.push(buffer));
        }
    }

    /// Takes chunks back that the kernel will not fill any more.
    pub(super) fn reclaim(&mut self, pool: &mut Pool) {
        if let Arrivals::InPlace { offered } = &mut self.arrivals {
            for (chunk, offered) in (0u16..).zip(offered) {
                if std::mem::take(offered) {
                    pool.give(chunk);
                }
            }
        }
        self.offered_count = 0;
    }

    pub(super) fn has_landed(&self) -> bool {
        matches!(&self.arrivals, Arrivals::Landing { landing, .. } if landing.has_waiting())
    }
}
