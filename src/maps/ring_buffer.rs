//! `BPF_MAP_TYPE_RINGBUF`: records that a program sends to whoever listens.

use super::Errno;

/// The state behind a ring buffer. Positions and record headers lie outside the cage, so no program can forge them.
#[derive(Debug)]
pub struct RingBuffer {}

impl RingBuffer {
    /// Reserves a record of `len` bytes; its guest address, or `None` where there is no room.
    #[must_use]
    pub fn reserve(&self, len: u64, flags: u64) -> Option<u32> {
        let _ = (len, flags);
        None
    }

    /// Submits or discards a reserved record by its guest address.
    ///
    /// # Errors
    /// `EINVAL` when no record is reserved there: the helper makes a trap of it.
    pub fn finish(&self, addr: u64, finish: Finish) -> Result<(), Errno> {
        let _ = (addr, finish);
        Err(Errno::EINVAL)
    }

    /// Answers `bpf_ringbuf_query`: 0 unread bytes, 1 size, 2 consumer's position, 3 producer's; 0 to all else.
    #[must_use]
    pub fn query(&self, what: u64) -> u64 {
        let _ = what;
        0
    }
}

/// How a record ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It is handed to the reader.
    Submit,
    /// It is skipped.
    Discard,
}
