//! The state behind `BPF_MAP_TYPE_PERF_EVENT_ARRAY`: records that programs send to whoever listens, in a buffer for each
//! worker.
//!
//! A slot stands for the worker of its number and is open from the start, as if a reader had opened an event on every
//! processor; emptying a slot closes it. A record is appended under a lock that the worker's own reader shares for the time
//! of one copy; what finds no room is counted.
//!
//! Source: `kernel/trace/bpf_trace.c`, `kernel/events/ring_buffer.c`.
//!
//! Invariant: the buffers lie outside the cage, so no program can forge a length.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::zeroed::zeroed;
use super::{Errno, WorkerIndex};
use crate::limits::PERF_BUFFER_LEN;
use crate::trap::Fault;

/// Bytes before each record: its length.
const HEADER_LEN: usize = 4;
/// `BPF_F_INDEX_MASK`; all of it is `BPF_F_CURRENT_CPU`.
const INDEX_MASK: u64 = 0xffff_ffff;

/// The state behind a perf event array.
pub struct PerfBuffer {
    slots: Box<[Slot]>,
    slot_count: u32,
    /// Where records are copied to before the reader sees them.
    copy: Mutex<Vec<u8>>,
}

/// One worker's records.
struct Slot {
    open: AtomicBool,
    ring: Mutex<Ring>,
}

struct Ring {
    bytes: Box<[u8]>,
    /// Bytes in use.
    len: usize,
    /// Records that found no room.
    lost: u64,
}

impl fmt::Debug for PerfBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerfBuffer").field("slot_count", &self.slot_count).finish_non_exhaustive()
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("nothing panics while it holds the lock")
    }
}

impl PerfBuffer {
    /// Bytes that the buffers of so many workers take.
    pub(super) fn bytes(slot_count: u32, worker_count: u32) -> u64 {
        u64::from(slot_count.min(worker_count)) * PERF_BUFFER_LEN
    }

    /// Open slots for as many workers as there are; `None` where there is no memory.
    pub(super) fn new(slot_count: u32, worker_count: u32) -> Option<Self> {
        let slot = |_| {
            let ring = Ring { bytes: zeroed(PERF_BUFFER_LEN)?, len: 0, lost: 0 };
            Some(Slot { open: AtomicBool::new(true), ring: Mutex::new(ring) })
        };
        let slots = (0..slot_count.min(worker_count)).map(slot).collect::<Option<_>>()?;
        Some(Self { slots, slot_count, copy: Mutex::new(Vec::new()) })
    }

    /// Closes a slot: nobody listens to that worker any more.
    ///
    /// # Errors
    /// `E2BIG` outside the array; `ENOENT` where it is closed.
    pub fn close(&self, index: u32) -> Result<(), Errno> {
        if index >= self.slot_count {
            return Err(Errno::E2BIG);
        }
        let slot = self.slots.get(index as usize).ok_or(Errno::ENOENT)?;
        if slot.open.swap(false, Ordering::AcqRel) { Ok(()) } else { Err(Errno::ENOENT) }
    }

    /// Opens a slot again.
    ///
    /// # Errors
    /// `E2BIG` outside the array; `ENODEV` where no worker has the number.
    pub fn open(&self, index: u32) -> Result<(), Errno> {
        if index >= self.slot_count {
            return Err(Errno::E2BIG);
        }
        self.slots.get(index as usize).ok_or(Errno::ENODEV)?.open.store(true, Ordering::Release);
        Ok(())
    }

    /// Sends a record of `len` bytes, which `fill` writes, from a worker to the slot that the low half of `flags` names.
    ///
    /// # Errors
    /// The fault of `fill`; nothing is sent then. Inside it the kernel's errno: `E2BIG` outside the array, `ENOENT` where
    /// nobody listens, `EOPNOTSUPP` for the slot of another worker, `ENOSPC` where there is no room.
    pub fn output(
        &self,
        worker: WorkerIndex,
        flags: u64,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), Fault>,
    ) -> Result<Result<(), Errno>, Fault> {
        let index = if flags & INDEX_MASK == INDEX_MASK { u64::from(worker.0) } else { flags & INDEX_MASK };
        if index >= u64::from(self.slot_count) {
            return Ok(Err(Errno::E2BIG));
        }
        let slot = usize::try_from(index).ok().and_then(|index| self.slots.get(index));
        let Some(slot) = slot.filter(|slot| slot.open.load(Ordering::Acquire)) else {
            return Ok(Err(Errno::ENOENT));
        };
        if index != u64::from(worker.0) {
            return Ok(Err(Errno::EOPNOTSUPP));
        }
        let mut ring = slot.lock();
        let start = ring.len + HEADER_LEN;
        let header = u32::try_from(len).ok().map(u32::to_ne_bytes);
        let room = start.checked_add(len).filter(|end| *end <= ring.bytes.len());
        let (Some(header), Some(end)) = (header, room) else {
            ring.lost += 1;
            return Ok(Err(Errno::ENOSPC));
        };
        fill(&mut ring.bytes[start..end])?;
        ring.bytes[start - HEADER_LEN..start].copy_from_slice(&header);
        ring.len = end;
        Ok(Ok(()))
    }

    /// Hands all records to `take`, worker by worker, and forgets them; how many those were. One caller at a time; others
    /// wait.
    pub fn read(&self, mut take: impl FnMut(WorkerIndex, &[u8])) -> usize {
        // A reader that panicked in `take` leaves nothing half done: its records are gone.
        let mut copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for (worker, slot) in (0..).map(WorkerIndex).zip(&self.slots) {
            copy.clear();
            {
                let mut ring = slot.lock();
                copy.extend_from_slice(&ring.bytes[..ring.len]);
                ring.len = 0;
            }
            let mut rest = &copy[..];
            while let Some((header, behind)) = rest.split_first_chunk() {
                let (record, others) = behind.split_at(u32::from_ne_bytes(*header) as usize);
                take(worker, record);
                count += 1;
                rest = others;
            }
        }
        count
    }

    /// Records that found no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.slots.iter().map(|slot| slot.lock().lost).sum()
    }
}
