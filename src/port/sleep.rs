//! Sleeping on several ports at once.
//!
//! Invariant: blocks in [`Sleep::block`] alone. It allocates only while it learns how many descriptors there are.

use std::os::fd::RawFd;
use std::time::Duration;

use libc::pollfd;

use super::{Pool, Port, Wake};

/// What a descriptor is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Readable: something may have arrived.
    Readable,
    /// Writable: a send can go on.
    Writable,
}

/// What a worker sleeps on: filled anew with each of its ports, then blocked in.
///
/// ```text
/// sleep.begin();
/// for port in &mut ports { sleep.watch(&mut **port, &mut pool); }
/// sleep.block(&wake, timeout);
/// ```
#[derive(Debug, Default)]
pub struct Sleep {
    fds: Vec<pollfd>,
    /// Whether a port has something already.
    is_ready: bool,
    /// How long until a port is due.
    until_due: Option<Duration>,
}

impl Sleep {
    /// Nothing to sleep on but a wake.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what was watched.
    pub fn begin(&mut self) {
        self.fds.clear();
        self.is_ready = false;
        self.until_due = None;
    }

    /// Lets a port send what it queued and end the sleep.
    pub fn watch(&mut self, port: &mut dyn Port, pool: &mut Pool) {
        self.is_ready |= port.before_wait(pool);
        port.waits_on(&mut |fd, interest| self.add(fd, interest));
        let due = port.until_due();
        self.until_due = Some(self.until_due.map_or(due, |before| before.min(due)));
    }

    /// Lets a descriptor end the sleep.
    pub fn add(&mut self, fd: RawFd, interest: Interest) {
        let events = match interest {
            Interest::Readable => libc::POLLIN,
            Interest::Writable => libc::POLLOUT,
        };
        self.fds.push(pollfd { fd, events, revents: 0 });
    }

    /// Blocks until a descriptor is ready, a port is due, the worker is woken or `timeout` is over; not at all where a port
    /// had something already.
    pub fn block(&mut self, wake: &Wake, timeout: Duration) {
        if self.is_ready {
            return;
        }
        let timeout = timeout.min(self.until_due.unwrap_or(Duration::MAX));
        self.fds.push(pollfd { fd: wake.fd(), events: libc::POLLIN, revents: 0 });
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let count = self.fds.len() as libc::nfds_t;
        // SAFETY: both structures live through the call; a missing signal mask leaves the thread's as it is. An interruption
        // is an ordinary end of a sleep.
        unsafe { libc::ppoll(self.fds.as_mut_ptr(), count, &raw const timeout, std::ptr::null()) };
        if self.fds.pop().is_some_and(|own| own.revents != 0) {
            wake.clear();
        }
    }
}
