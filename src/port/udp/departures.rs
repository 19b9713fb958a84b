//! Frames on their way out, several of one length in one system call's message: a train (`UDP_SEGMENT`).
//!
//! The kernel carries a train through its stack once and cuts it up at the end, or hands it over whole to a receiver that
//! takes trains. A receiver that does not sees datagrams as ever. Frames keep their order; a train is made of neighbours.
//!
//! Source: `net/ipv4/udp.c` (`udp_send_skb`): all segments but the last have the given length, at most 64 in older
//! kernels; a segment must fit the route's MTU, else EINVAL.
//!
//! Invariant: allocates nothing after it is made. A frame that leaves a train unsent is sent alone or counted.

use std::collections::VecDeque;
use std::mem::{size_of, zeroed};

use libc::{c_int, cmsghdr, iovec, msghdr};

use super::super::{Frame, Pool, PortCounts};
use super::{Socket, Trains};

/// Frames of one train.
const TRAIN_FRAMES_MAX: usize = 64;
/// Bytes of one train: what a UDP datagram over IPv4 holds, with room to spare.
const TRAIN_LEN_MAX: usize = 65_000;
/// Messages under way.
const SLOTS: u16 = 128;

/// The control message that makes a train of a message.
#[repr(C)]
struct SegmentLen {
    header: cmsghdr,
    len: u16,
}

/// A message: one frame or a train.
struct Message {
    frames: Vec<Frame>,
    bytes: usize,
    /// Whether it met the error of an earlier one.
    retried: bool,
    parts: [iovec; TRAIN_FRAMES_MAX],
    segment_len: SegmentLen,
    header: msghdr,
}

/// What becomes of a message that the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is to be tried again.
    Again,
    /// It is gone: counted, or its frames wait to be sent one by one.
    Gone,
}

/// Frames on their way out.
pub(super) struct Departures {
    queue: VecDeque<Frame>,
    messages: Box<[Message]>,
    free: Vec<u16>,
    /// Longest frame of which trains are made; 0 for none.
    train_frame_len_max: u16,
}

impl std::fmt::Debug for Departures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Departures").field("queue", &self.queue).field("free", &self.free.len()).finish_non_exhaustive()
    }
}

impl Departures {
    /// Room for all frames of a pool.
    pub(super) fn new(socket: &Socket, frame_count: u16, trains: Trains) -> Self {
        let (name, name_len) = socket.to();
        let control_len = size_of::<cmsghdr>() + size_of::<u16>();
        let messages = (0..SLOTS).map(|_| {
            // SAFETY: a message header of zeroes has no name, no parts and no control bytes.
            let mut header: msghdr = unsafe { zeroed() };
            header.msg_name = name.cast_mut().cast();
            header.msg_namelen = name_len;
            Message {
                frames: Vec::with_capacity(TRAIN_FRAMES_MAX),
                bytes: 0,
                retried: false,
                parts: [iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; TRAIN_FRAMES_MAX],
                segment_len: SegmentLen {
                    header: cmsghdr { cmsg_len: control_len, cmsg_level: libc::SOL_UDP, cmsg_type: libc::UDP_SEGMENT },
                    len: 0,
                },
                header,
            }
        });
        Self {
            queue: VecDeque::with_capacity(frame_count.into()),
            messages: messages.collect(),
            free: (0..SLOTS).rev().collect(),
            train_frame_len_max: match trains {
                Trains::On => u16::MAX,
                Trains::Off => 0,
            },
        }
    }

    /// Queues a frame.
    pub(super) fn push(&mut self, frame: Frame) {
        self.queue.push_back(frame);
    }

    /// Frames that are in no message yet.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether a message is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.free.len() < usize::from(SLOTS)
    }

    /// Makes a message of the frames that wait longest, as many as go together; gives its number, which is the caller's
    /// until [`Self::sent`] or [`Self::refused`].
    pub(super) fn next(&mut self, pool: &Pool) -> Option<u16> {
        let first_len = self.queue.front()?.len;
        let number = self.free.pop()?;
        let message = &mut self.messages[usize::from(number)];
        message.bytes = 0;
        message.retried = false;
        let trains = first_len <= self.train_frame_len_max && first_len > 0;
        while let Some(frame) = self.queue.front() {
            let count = message.frames.len();
            let fits = count == 0
                || trains
                    && frame.len <= first_len
                    && frame.len > 0
                    && count < TRAIN_FRAMES_MAX
                    && message.bytes + usize::from(frame.len) <= TRAIN_LEN_MAX;
            if !fits {
                break;
            }
            let len = frame.len;
            message.parts[count] = iovec { iov_base: pool.frame_ptr(frame).cast(), iov_len: len.into() };
            message.bytes += usize::from(len);
            message.frames.extend(self.queue.pop_front());
            // A shorter frame can only be the last.
            if len < first_len {
                break;
            }
        }
        let count = message.frames.len();
        message.header.msg_iov = message.parts.as_mut_ptr();
        message.header.msg_iovlen = count;
        if count > 1 {
            message.segment_len.len = first_len;
            message.header.msg_control = (&raw mut message.segment_len).cast();
            message.header.msg_controllen = size_of::<SegmentLen>();
        } else {
            message.header.msg_control = std::ptr::null_mut();
            message.header.msg_controllen = 0;
        }
        Some(number)
    }

    /// The message as system calls take it.
    pub(super) fn header(&self, number: u16) -> &msghdr {
        &self.messages[usize::from(number)].header
    }

    /// The bytes of a message that is one frame.
    pub(super) fn single(&self, number: u16) -> Option<(*const u8, u32)> {
        let message = &self.messages[usize::from(number)];
        match message.frames.as_slice() {
            [frame] => Some((message.parts[0].iov_base.cast_const().cast(), frame.len())),
            _ => None,
        }
    }

    /// The kernel took a message: counts its frames and gives their chunks back.
    pub(super) fn sent(&mut self, number: u16, pool: &mut Pool, counts: &mut PortCounts) {
        let message = &mut self.messages[usize::from(number)];
        let count = message.frames.len() as u64;
        counts.tx_frames += count;
        counts.tx_bytes += message.bytes as u64;
        counts.tx_in_trains += if count > 1 { count } else { 0 };
        message.frames.drain(..).for_each(|frame| pool.release(frame));
        self.free.push(number);
    }

    /// The kernel refused a message.
    pub(super) fn refused(&mut self, number: u16, errno: c_int, pool: &mut Pool, counts: &mut PortCounts) -> Refused {
        let message = &mut self.messages[usize::from(number)];
        if errno == libc::ECONNREFUSED {
            counts.unreachable += 1;
            // The answer to an earlier frame: this one was not even tried.
            if !std::mem::replace(&mut message.retried, true) {
                return Refused::Again;
            }
        }
        let cannot_be_cut = matches!(errno, libc::EINVAL | libc::EMSGSIZE | libc::EIO | libc::EOPNOTSUPP);
        if cannot_be_cut && message.frames.len() > 1 {
            // Longer than the route takes in one piece, or on a device that cannot cut trains up.
            self.train_frame_len_max = match errno {
                libc::EIO | libc::EOPNOTSUPP => 0,
                _ => self.train_frame_len_max.min(message.segment_len.len - 1),
            };
            while let Some(frame) = message.frames.pop() {
                self.queue.push_front(frame);
            }
            self.free.push(number);
        } else {
            self.give_up_message(number, pool, counts);
        }
        Refused::Gone
    }

    /// Counts a message's frames as not sent and gives their chunks back.
    pub(super) fn give_up_message(&mut self, number: u16, pool: &mut Pool, counts: &mut PortCounts) {
        let message = &mut self.messages[usize::from(number)];
        counts.tx_errors += message.frames.len() as u64;
        message.frames.drain(..).for_each(|frame| pool.release(frame));
        self.free.push(number);
    }

    /// Counts all queued frames as not sent and gives their chunks back.
    pub(super) fn give_up(&mut self, pool: &mut Pool, counts: &mut PortCounts) {
        for frame in self.queue.drain(..) {
            counts.tx_errors += 1;
            pool.release(frame);
        }
    }
}
