//! The state behind `BPF_MAP_TYPE_RINGBUF`: records that programs send to whoever listens.
//!
//! Records follow each other in a ring of bytes, each behind a header of 8 bytes, its length rounded up to 8; positions
//! count all bytes ever written and read. The cage holds the records only (the 8 bytes before each stay unused), in twice
//! the ring's size, so that a record that begins before the ring's end lies in one piece. Programs of several workers
//! reserve records under a lock and finish them without; the reader gets them in the order of reservation and waits for
//! the first that is not finished.
//!
//! Accounting as in `kernel/bpf/ringbuf.c`: what is free is less than the ring's size by one byte, and a record that
//! stays unfinished holds up the whole ring. Whoever ends a run discards the records that it left unfinished.
//!
//! Invariant: positions, lengths and states lie outside the cage, so no program can forge them.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Errno;
use super::zeroed::zeroed;
use crate::cage::{GuestRange, Region};

/// In a header: the record is reserved and not finished.
const BUSY: u32 = 1 << 31;
/// In a header: the record was discarded.
const DISCARDED: u32 = 1 << 30;
/// Bytes of a header.
const HEADER_LEN: u64 = 8;
/// Bytes of a record at most: the kernel's `RINGBUF_MAX_RECORD_SZ`.
const RECORD_LEN_MAX: u64 = u32::MAX as u64 / 4;
/// `BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP`.
const WAKEUP_FLAGS: u64 = 3;

/// The state behind a ring buffer.
pub struct RingBuffer {
    region: Region,
    size: u32,
    /// Header of the record that begins at each multiple of eight: its length and state.
    headers: Box<[AtomicU32]>,
    producer: Mutex<Producer>,
    /// The producer's position, for the reader.
    produced: AtomicU64,
    /// The reader's position.
    consumed: AtomicU64,
    /// Where a record is copied to before the reader sees it.
    copy: Mutex<Vec<u8>>,
    lost: AtomicU64,
}

impl fmt::Debug for RingBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingBuffer").field("size", &self.size).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Producer {
    /// Where the next record begins.
    position: u64,
    /// No record before this is unfinished.
    pending: u64,
}

/// How a record ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It is handed to the reader.
    Submit,
    /// It is skipped.
    Discard,
}

/// Bytes that a record takes of the ring.
fn footprint(len: u64) -> u64 {
    (len + HEADER_LEN).next_multiple_of(8)
}

impl RingBuffer {
    /// Bytes that a ring of `size` bytes takes of the cage.
    pub(super) fn bytes(size: u32) -> u64 {
        u64::from(size) * 2
    }

    /// Bytes that it takes outside: its headers, and the copy of its longest record.
    pub(super) fn host_bytes(size: u32) -> u64 {
        u64::from(size) / 8 * 4 + u64::from(size)
    }

    /// A ring of `size` bytes, a power of two, in a region of [`RingBuffer::bytes`]; `None` where there is no memory.
    pub(super) fn new(region: Region, size: u32) -> Option<Self> {
        Some(Self {
            region,
            size,
            headers: zeroed(u64::from(size) / 8)?,
            producer: Mutex::new(Producer { position: 0, pending: 0 }),
            produced: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            copy: Mutex::new(Vec::new()),
            lost: AtomicU64::new(0),
        })
    }

    /// Offset in the ring of a position.
    fn offset(&self, position: u64) -> u32 {
        u32::try_from(position & u64::from(self.size - 1)).expect("less than the size")
    }

    fn header(&self, position: u64) -> &AtomicU32 {
        &self.headers[self.offset(position) as usize / 8]
    }

    /// Reserves a record of `len` bytes; its guest address, or `None` where there is no room or `flags` is not 0.
    #[must_use]
    pub fn reserve(&self, len: u64, flags: u64) -> Option<u32> {
        if flags != 0 || len > RECORD_LEN_MAX || footprint(len) > u64::from(self.size) {
            return None;
        }
        let mut producer = self.producer.lock().expect("nothing panics while it holds the lock");
        let begin = producer.position;
        let end = begin + footprint(len);
        while producer.pending < begin {
            let header = self.header(producer.pending).load(Ordering::Acquire);
            if header & BUSY != 0 {
                break;
            }
            producer.pending += footprint(u64::from(header & !DISCARDED));
        }
        let room = u64::from(self.size) - 1;
        let oldest = self.consumed.load(Ordering::Acquire);
        if end - oldest > room || end - producer.pending > room {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let len = u32::try_from(len).expect("less than the size");
        self.header(begin).store(len | BUSY, Ordering::Relaxed);
        producer.position = end;
        self.produced.store(end, Ordering::Release);
        Some(self.region.addr() + self.offset(begin) + 8)
    }

    /// Submits or discards a reserved record by its guest address.
    ///
    /// # Errors
    /// `EINVAL` when no record is reserved there: the helper makes a trap of it.
    pub fn finish(&self, addr: u64, finish: Finish) -> Result<(), Errno> {
        let first = u64::from(self.region.addr()) + HEADER_LEN;
        let offset = addr.checked_sub(first).filter(|offset| *offset < u64::from(self.size) && offset % 8 == 0);
        let header = self.header(offset.ok_or(Errno::EINVAL)?);
        let discarded = match finish {
            Finish::Submit => 0,
            Finish::Discard => DISCARDED,
        };
        let end = |header: u32| (header & BUSY != 0).then_some(header & !BUSY | discarded);
        let ended = header.fetch_update(Ordering::AcqRel, Ordering::Relaxed, end);
        ended.map(drop).map_err(|_| Errno::EINVAL)
    }

    /// Sends a record with a copy of guest memory that was found readable.
    ///
    /// # Errors
    /// `EINVAL` for unknown flags; `EAGAIN` when there is no room; `EFAULT` when the memory is gone.
    pub fn output(&self, data: GuestRange, flags: u64) -> Result<(), Errno> {
        if flags & !WAKEUP_FLAGS != 0 {
            return Err(Errno::EINVAL);
        }
        let record = u64::from(self.reserve(u64::from(data.len()), 0).ok_or(Errno::EAGAIN)?);
        let copied = self.region.cage().copy(u64::from(data.addr()), record, u64::from(data.len()));
        let finish = if copied.is_ok() { Finish::Submit } else { Finish::Discard };
        self.finish(record, finish).expect("nobody else knows the record");
        copied.map_err(|_| Errno::EFAULT)
    }

    /// What `bpf_ringbuf_query` answers: 0 bytes not yet read, 1 the ring's size, 2 the reader's position, 3 the
    /// producer's position; else 0.
    #[must_use]
    pub fn query(&self, what: u64) -> u64 {
        let consumed = self.consumed.load(Ordering::Acquire);
        match what {
            0 => self.produced.load(Ordering::Acquire) - consumed,
            1 => u64::from(self.size),
            2 => consumed,
            3 => self.produced.load(Ordering::Acquire),
            _ => 0,
        }
    }

    /// Hands the records that are finished to `take`, in order, up to the first that is not; how many those were. Records
    /// that come meanwhile wait for the next call. One caller at a time; others wait.
    pub fn read(&self, mut take: impl FnMut(&[u8])) -> usize {
        // A reader that panicked in `take` leaves nothing half done: its record is handed out again.
        let mut copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner);
        let produced = self.produced.load(Ordering::Acquire);
        let mut position = self.consumed.load(Ordering::Relaxed);
        let mut count = 0;
        while position < produced {
            let header = self.header(position).load(Ordering::Acquire);
            if header & BUSY != 0 {
                break;
            }
            let len = header & !DISCARDED;
            if header & DISCARDED == 0 {
                copy.resize(len as usize, 0);
                self.region.read(u64::from(self.offset(position)) + HEADER_LEN, &mut copy);
                take(&copy);
                count += 1;
            }
            position += footprint(u64::from(len));
            self.consumed.store(position, Ordering::Release);
        }
        count
    }

    /// Records that found no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
