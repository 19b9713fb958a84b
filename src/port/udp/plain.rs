//! The plain calls: recvmmsg, sendmmsg and ppoll, for where rings are disabled.
//!
//! Invariant: allocates nothing after it is made.

use std::collections::VecDeque;
use std::io;
use std::mem::zeroed;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libc::{c_int, iovec, mmsghdr, pollfd};

use super::super::{Burst, Frame, Pool, Port, PortCounts, Wake};
use super::Socket;
use crate::limits::{BURST_MAX, CLOSE_MS_MAX, FRAME_LEN_MAX, HEADROOM};

/// Messages of one call, with the memory that they point at.
struct Messages {
    headers: Box<[mmsghdr]>,
    parts: Box<[iovec]>,
}

impl Messages {
    fn new() -> Self {
        // SAFETY: a message header of zeroes has no name, no parts and no control bytes.
        let header: mmsghdr = unsafe { zeroed() };
        let part = iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut messages = Self { headers: vec![header; BURST_MAX].into(), parts: vec![part; BURST_MAX].into() };
        for (header, part) in messages.headers.iter_mut().zip(&mut messages.parts) {
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        messages
    }

    /// Lets a message be these bytes.
    fn set(&mut self, index: usize, at: *mut u8, len: usize) {
        self.parts[index] = iovec { iov_base: at.cast(), iov_len: len };
    }
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
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
    /// Chunks to receive into, as the receive messages say; those before `next` are used up.
    held: Vec<u16>,
    next: usize,
    arriving: Messages,
    queue: VecDeque<Frame>,
    leaving: Messages,
    /// Whether the queue's first frame met the error of an earlier one.
    retried: bool,
    /// Whether the socket takes no more for now.
    blocked: bool,
    counts: PortCounts,
}

impl PlainPort {
    pub(super) fn new(socket: Arc<Socket>, wake: Arc<Wake>) -> Self {
        let mut leaving = Messages::new();
        let (name, name_len) = socket.to();
        for header in &mut leaving.headers {
            header.msg_hdr.msg_name = name.cast_mut().cast();
            header.msg_hdr.msg_namelen = name_len;
        }
        Self {
            socket,
            wake,
            receiving: Receiving::On,
            held: Vec::with_capacity(BURST_MAX),
            next: 0,
            arriving: Messages::new(),
            queue: VecDeque::with_capacity(BURST_MAX),
            leaving,
            retried: false,
            blocked: false,
            counts: PortCounts::default(),
        }
    }

    /// Takes chunks for a whole burst when those before are used up.
    fn hold(&mut self, pool: &mut Pool) {
        if self.next < self.held.len() {
            return;
        }
        self.held.clear();
        self.next = 0;
        while self.held.len() < BURST_MAX
            && let Some(chunk) = pool.take()
        {
            let at = pool.chunk_ptr(chunk).wrapping_add(HEADROOM as usize);
            self.arriving.set(self.held.len(), at, FRAME_LEN_MAX as usize);
            self.held.push(chunk);
        }
    }

    /// Sends what is queued, as far as the socket takes it.
    fn flush(&mut self, pool: &mut Pool) {
        self.blocked = false;
        while !self.queue.is_empty() && !self.blocked {
            let count = self.queue.len().min(BURST_MAX);
            for (index, frame) in self.queue.iter().take(count).enumerate() {
                self.leaving.set(index, pool.frame_ptr(frame), usize::from(frame.len));
            }
            match self.send_messages(count) {
                Ok(sent) => {
                    for frame in self.queue.drain(..sent) {
                        self.counts.tx_frames += 1;
                        self.counts.tx_bytes += u64::from(frame.len);
                        pool.release(frame);
                    }
                    self.retried = false;
                }
                Err(error) => self.refused(error, pool),
            }
        }
    }

    fn refused(&mut self, error: c_int, pool: &mut Pool) {
        match error {
            libc::EAGAIN => self.blocked = true,
            libc::EINTR => {}
            // The answer to an earlier frame: this one was not even tried.
            libc::ECONNREFUSED if !self.retried => {
                self.counts.unreachable += 1;
                self.retried = true;
            }
            _ => {
                self.counts.unreachable += u64::from(error == libc::ECONNREFUSED);
                self.counts.tx_errors += 1;
                self.retried = false;
                if let Some(frame) = self.queue.pop_front() {
                    pool.release(frame);
                }
            }
        }
    }

    fn send_messages(&mut self, count: usize) -> Result<usize, c_int> {
        let headers = self.leaving.headers.as_mut_ptr();
        // SAFETY: `count` headers point at their parts, and these at frames that the queue holds.
        let sent = unsafe { libc::sendmmsg(self.socket.fd(), headers, vlen(count), libc::MSG_DONTWAIT) };
        usize::try_from(sent).map_err(|_| last_error())
    }

    fn recv_messages(&mut self, count: usize) -> Result<usize, c_int> {
        let headers = self.arriving.headers[self.next..].as_mut_ptr();
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: `count` headers point at their parts, and these at chunks that we hold; the kernel writes into the
        // cage, to which no reference exists.
        let count = unsafe { libc::recvmmsg(self.socket.fd(), headers, vlen(count), flags, std::ptr::null_mut()) };
        usize::try_from(count).map_err(|_| last_error())
    }

    fn poll(&self, for_socket: i16, timeout: Duration) {
        let mut fds = [
            pollfd { fd: self.socket.fd(), events: for_socket, revents: 0 },
            pollfd { fd: self.wake.fd(), events: libc::POLLIN, revents: 0 },
        ];
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: both structures are locals; a missing signal mask leaves the thread's as it is.
        unsafe { libc::ppoll(fds.as_mut_ptr(), 2, &raw const timeout, std::ptr::null()) };
        if fds[1].revents != 0 {
            self.wake.clear();
        }
    }
}

impl Port for PlainPort {
    fn recv(&mut self, pool: &mut Pool, burst: &mut Burst) {
        self.flush(pool);
        if self.receiving == Receiving::Ended {
            return;
        }
        self.hold(pool);
        let count = (self.held.len() - self.next).min(burst.room());
        if count == 0 {
            return;
        }
        match self.recv_messages(count) {
            Ok(count) => {
                for index in self.next..self.next + count {
                    let len = self.arriving.headers[index].msg_len;
                    burst.arrived(pool, self.held[index], len as usize);
                }
                self.next += count;
            }
            Err(libc::EAGAIN | libc::EINTR) => {}
            Err(libc::ECONNREFUSED) => self.counts.unreachable += 1,
            Err(_) => self.counts.rx_errors += 1,
        }
    }

    fn send(&mut self, pool: &mut Pool, frame: Frame) {
        self.queue.push_back(frame);
        if self.queue.len() >= BURST_MAX && !self.blocked {
            self.flush(pool);
        }
    }

    fn wait(&mut self, pool: &mut Pool, timeout: Duration) {
        self.flush(pool);
        self.hold(pool);
        let mut events = 0;
        if self.receiving == Receiving::On && self.next < self.held.len() {
            events |= libc::POLLIN;
        }
        if self.blocked {
            events |= libc::POLLOUT;
        }
        self.poll(events, timeout);
    }

    fn end_receiving(&mut self) {
        self.receiving = Receiving::Ended;
    }

    fn is_receiving(&mut self) -> bool {
        self.receiving == Receiving::On
    }

    fn close(&mut self, pool: &mut Pool) {
        self.receiving = Receiving::Ended;
        let deadline = Instant::now() + Duration::from_millis(CLOSE_MS_MAX);
        self.flush(pool);
        while self.blocked && Instant::now() < deadline {
            self.poll(libc::POLLOUT, Duration::from_millis(10));
            self.flush(pool);
        }
        for frame in self.queue.drain(..) {
            self.counts.tx_errors += 1;
            pool.release(frame);
        }
        for chunk in self.held.drain(..).skip(self.next) {
            pool.give(chunk);
        }
        self.next = 0;
    }

    fn counts(&self) -> PortCounts {
        self.counts
    }
}

fn vlen(count: usize) -> libc::c_uint {
    libc::c_uint::try_from(count).expect("at most a burst")
}

fn last_error() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
