//! The plain calls: recvmmsg, sendmmsg and ppoll, for where rings are disabled.
//!
//! Invariant: allocates nothing after it is made.

use std::collections::VecDeque;
use std::io;
use std::mem::zeroed;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libc::{c_int, iovec, mmsghdr};

use super::super::{Burst, Frame, Interest, Pool, Port, PortCounts, Sleep, Wake};
use super::departures::{Departures, Refused};
use super::landing::{self, CONTROL_LEN, LANDING_COUNT, LANDING_LEN, Landing};
use super::{Socket, Trains};
use crate::limits::{BURST_MAX, CLOSE_MS_MAX, FRAME_LEN_MAX, HEADROOM};

/// Messages of one call, with the memory that they point at.
struct Messages {
    headers: Box<[mmsghdr]>,
    parts: Box<[iovec]>,
    control: Box<[[u8; CONTROL_LEN]]>,
}

impl Messages {
    fn new() -> Self {
        // SAFETY: a message header of zeroes has no name, no parts and no control bytes.
        let header: mmsghdr = unsafe { zeroed() };
        let part = iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut messages = Self {
            headers: vec![header; BURST_MAX].into(),
            parts: vec![part; BURST_MAX].into(),
            control: vec![[0; CONTROL_LEN]; BURST_MAX].into(),
        };
        for (header, part) in messages.headers.iter_mut().zip(&mut messages.parts) {
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        messages
    }

    /// Lets a message be received into these bytes.
    fn set(&mut self, index: usize, at: *mut u8, len: usize) {
        self.parts[index] = iovec { iov_base: at.cast(), iov_len: len };
    }

    /// Lets a message tell the length of its segments.
    fn set_control(&mut self, index: usize) {
        self.control[index] = [0; CONTROL_LEN];
        self.headers[index].msg_hdr.msg_control = self.control[index].as_mut_ptr().cast();
        self.headers[index].msg_hdr.msg_controllen = CONTROL_LEN;
    }
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}

/// Where datagrams are received.
#[derive(Debug)]
enum Arrivals {
    /// In chunks, as the receive messages say; those before `next` are used up.
    InPlace { held: Vec<u16>, next: usize },
    /// In buffers for trains.
    Landing(Landing),
}

/// Whether frames are still taken from the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    On,
    Ended,
}

/// A worker's share of a wire, by plain calls.
#[derive(Debug)]
pub(super) struct PlainPort {
    socket: Arc<Socket>,
    wake: Arc<Wake>,
    receiving: Receiving,
    /// Whether there is room for what arrives.
    has_room: bool,
    arrivals: Arrivals,
    arriving: Messages,
    departures: Departures,
    /// Messages that wait for the socket, in order.
    leaving: VecDeque<u16>,
    headers: Box<[mmsghdr]>,
    /// Whether the socket takes no more for now.
    blocked: bool,
    counts: PortCounts,
}

impl PlainPort {
    pub(super) fn new(socket: Arc<Socket>, wake: Arc<Wake>, pool: &Pool, trains: Trains) -> Self {
        let departures = Departures::new(&socket, pool.count(), trains);
        // SAFETY: a message header of zeroes has no name, no parts and no control bytes.
        let header: mmsghdr = unsafe { zeroed() };
        Self {
            socket,
            wake,
            receiving: Receiving::On,
            has_room: true,
            arrivals: match trains {
                Trains::Off => Arrivals::InPlace { held: Vec::with_capacity(BURST_MAX), next: 0 },
                Trains::On => Arrivals::Landing(Landing::new()),
            },
            arriving: Messages::new(),
            departures,
            leaving: VecDeque::with_capacity(BURST_MAX),
            headers: vec![header; BURST_MAX].into(),
            blocked: false,
            counts: PortCounts::default(),
        }
    }

    /// Sends what is queued, as far as the socket takes it.
    fn flush(&mut self, pool: &mut Pool) {
        self.blocked = false;
        while !self.blocked {
            while self.leaving.len() < BURST_MAX
                && let Some(message) = self.departures.next(pool)
            {
                self.leaving.push_back(message);
            }
            if self.leaving.is_empty() {
                return;
            }
            for (header, message) in self.headers.iter_mut().zip(&self.leaving) {
                header.msg_hdr = *self.departures.header(*message);
            }
            match self.send_messages(self.leaving.len()) {
                Ok(sent) => {
                    for message in self.leaving.drain(..sent) {
                        self.departures.sent(message, pool, &mut self.counts);
                    }
                }
                Err(libc::EAGAIN) => self.blocked = true,
                Err(libc::EINTR) => {}
                Err(errno) => {
                    let first = self.leaving[0];
                    if self.departures.refused(first, errno, pool, &mut self.counts) == Refused::Gone {
                        self.leaving.pop_front();
                    }
                }
            }
        }
    }

    fn send_messages(&mut self, count: usize) -> Result<usize, c_int> {
        let headers = self.headers.as_mut_ptr();
        // SAFETY: `count` headers point at their parts, and these at frames that the messages hold.
        let sent = unsafe { libc::sendmmsg(self.socket.fd(), headers, vlen(count), libc::MSG_DONTWAIT) };
        usize::try_from(sent).map_err(|_| last_error())
    }

    /// Makes messages ready to be received, and says which: from the first number for as many.
    fn make_ready(&mut self, pool: &mut Pool) -> (usize, usize) {
        match &mut self.arrivals {
            Arrivals::InPlace { held, next } => {
                if *next == held.len() {
                    held.clear();
                    *next = 0;
                    while held.len() < BURST_MAX
                        && let Some(chunk) = pool.take()
                    {
                        let at = pool.chunk_ptr(chunk).wrapping_add(HEADROOM as usize);
                        self.arriving.set(held.len(), at, FRAME_LEN_MAX as usize);
                        held.push(chunk);
                    }
                }
                (*next, held.len() - *next)
            }
            Arrivals::Landing(landing) => {
                // What landed is dealt out before more is fetched, so all buffers are free.
                if landing.has_waiting() {
                    return (0, 0);
                }
                let count = usize::from(LANDING_COUNT).min(BURST_MAX);
                for (index, buffer) in (0..count).zip(0u16..) {
                    self.arriving.set(index, landing.buffer_ptr(buffer), LANDING_LEN);
                    self.arriving.set_control(index);
                }
                (0, count)
            }
        }
    }

    fn fetch(&mut self, pool: &mut Pool, burst: &mut Burst) {
        let (first, count) = self.make_ready(pool);
        let count = match &self.arrivals {
            Arrivals::InPlace { .. } => count.min(burst.room()),
            Arrivals::Landing(_) => count,
        };
        if count == 0 {
            return;
        }
        match self.recv_messages(first, count) {
            Ok(count) => self.arrived(first, count, pool, burst),
            Err(libc::EAGAIN | libc::EINTR) => {}
            Err(libc::ECONNREFUSED) => self.counts.unreachable += 1,
            Err(_) => self.counts.rx_errors += 1,
        }
    }

    fn arrived(&mut self, first: usize, count: usize, pool: &mut Pool, burst: &mut Burst) {
        for index in first..first + count {
            let header = &self.arriving.headers[index];
            let len = header.msg_len as usize;
            match &mut self.arrivals {
                Arrivals::InPlace { held, next } => {
                    burst.arrived(pool, held[index], len);
                    *next += 1;
                }
                Arrivals::Landing(landing) => {
                    let control = &self.arriving.control[index][..header.msg_hdr.msg_controllen.min(CONTROL_LEN)];
                    let buffer = u16::try_from(index).expect("at most a burst");
                    landing.landed(buffer, 0, len, landing::segment_len(control), &mut self.counts);
                }
            }
        }
    }

    fn deal(&mut self, pool: &mut Pool, burst: &mut Burst) {
        if let Arrivals::Landing(landing) = &mut self.arrivals {
            landing.deal(pool, burst, |_| {});
        }
    }

    fn recv_messages(&mut self, first: usize, count: usize) -> Result<usize, c_int> {
        let headers = self.arriving.headers[first..first + count].as_mut_ptr();
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: `count` headers point at their parts, and these at chunks that we hold, in the cage, to which no
        // reference exists, or at buffers that nothing waits in.
        let count = unsafe { libc::recvmmsg(self.socket.fd(), headers, vlen(count), flags, std::ptr::null_mut()) };
        usize::try_from(count).map_err(|_| last_error())
    }
}

impl Port for PlainPort {
    fn recv(&mut self, pool: &mut Pool, burst: &mut Burst) {
        self.flush(pool);
        self.deal(pool, burst);
        if self.receiving == Receiving::On && burst.room() > 0 {
            self.fetch(pool, burst);
            self.deal(pool, burst);
        }
    }

    fn send(&mut self, pool: &mut Pool, frame: Frame) {
        self.departures.push(frame);
        if self.departures.queued() >= BURST_MAX && !self.blocked {
            self.flush(pool);
        }
    }

    fn before_wait(&mut self, pool: &mut Pool) -> bool {
        self.flush(pool);
        self.has_room = self.receiving == Receiving::On && self.make_ready(pool).1 > 0;
        false
    }

    fn waits_on(&self, each: &mut dyn FnMut(RawFd, Interest)) {
        if self.has_room {
            each(self.socket.fd(), Interest::Readable);
        }
        if self.blocked {
            each(self.socket.fd(), Interest::Writable);
        }
    }

    fn wake(&self) -> &Wake {
        &self.wake
    }

    fn end_receiving(&mut self) {
        self.receiving = Receiving::Ended;
    }

    fn is_receiving(&mut self) -> bool {
        let dealing = matches!(&self.arrivals, Arrivals::Landing(landing) if landing.has_waiting());
        self.receiving == Receiving::On || dealing
    }

    fn close(&mut self, pool: &mut Pool) {
        self.receiving = Receiving::Ended;
        let deadline = Instant::now() + Duration::from_millis(CLOSE_MS_MAX);
        self.flush(pool);
        while self.blocked && Instant::now() < deadline {
            let mut sleep = Sleep::new();
            sleep.add(self.socket.fd(), Interest::Writable);
            sleep.block(&self.wake, Duration::from_millis(10));
            self.flush(pool);
        }
        for message in self.leaving.drain(..) {
            self.departures.give_up_message(message, pool, &mut self.counts);
        }
        self.departures.give_up(pool, &mut self.counts);
        if let Arrivals::InPlace { held, next } = &mut self.arrivals {
            held.drain(..).skip(*next).for_each(|chunk| pool.give(chunk));
            *next = 0;
        }
    }

    fn counts(&self) -> PortCounts {
        self.counts
    }

    fn dropped(&self) -> u64 {
        self.socket.dropped()
    }

    fn report(&self) -> &'static str {
        "plain calls"
    }
}

fn vlen(count: usize) -> libc::c_uint {
    libc::c_uint::try_from(count).expect("at most a burst")
}

fn last_error() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
