//! Wakes a worker that blocks in its port.
//!
//! Invariant: a notification is never lost. A worker says that it goes to sleep, then looks for work once more, then
//! blocks; a notifier publishes its work, then looks whether the worker sleeps. One of the two sees the other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use super::PortError;

/// A descriptor that ends a worker's [`Port::wait`](super::Port::wait), written only while the worker sleeps.
#[derive(Debug)]
pub struct Wake {
    event: File,
    asleep: AtomicBool,
}

impl Wake {
    /// Opens the descriptor.
    ///
    /// # Errors
    /// [`PortError::Wake`] when the process has no descriptor left.
    pub fn new() -> Result<Self, PortError> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(PortError::Wake { source: io::Error::last_os_error() });
        }
        // SAFETY: the kernel just gave us the descriptor, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { event: File::from(fd), asleep: AtomicBool::new(false) })
    }

    /// Wakes the worker if it sleeps or is about to. The work must have been published before.
    pub fn notify(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::SeqCst) {
            // The counter cannot overflow: it is written once for each sleep.
            let _ = (&self.event).write(&1u64.to_ne_bytes());
        }
    }

    /// The worker says that it goes to sleep. It looks for work after this and before it blocks.
    pub fn begin_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The worker is awake.
    pub fn end_sleep(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Empties the descriptor, so that it can wake again.
    pub(super) fn clear(&self) {
        let mut count = [0; 8];
        // Nothing to read is as good as something: the descriptor does not block.
        let _ = (&self.event).read(&mut count);
    }

    pub(super) fn fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeper_costs_a_write() {
        let wake = Wake::new().expect("a descriptor");
        let mut count = [0; 8];
        wake.notify();
        assert!((&wake.event).read(&mut count).is_err(), "nobody sleeps");
        wake.begin_sleep();
        wake.notify();
        wake.notify();
        wake.end_sleep();
        assert_eq!((&wake.event).read(&mut count).expect("notified"), 8);
        assert_eq!(u64::from_ne_bytes(count), 1, "the second saw nobody asleep");
    }
}
