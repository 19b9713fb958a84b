//! Ring-buffer records that a run has reserved and not yet submitted or discarded.
//!
//! A program ends a record by its address alone, so the run remembers which ring buffer it came from; what a trap leaves
//! behind is discarded here, so that no reader waits for it.
//!
//! Invariant: holds only addresses that a ring buffer gave this run.

use super::World;
use crate::limits::RUN_RECORDS_MAX;
use crate::maps::Finish;

/// A reserved record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Guest address of its first byte.
    pub addr: u32,
    /// Bytes.
    pub len: u32,
    /// Handle of its ring buffer.
    pub map: u64,
}

/// The records of a run. No allocation.
#[derive(Debug, Default)]
pub struct Records {
    held: [Record; RUN_RECORDS_MAX],
    count: usize,
}

impl Records {
    /// The records, in no particular order.
    #[must_use]
    pub fn held(&self) -> &[Record] {
        &self.held[..self.count]
    }

    /// Whether no more fits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.count == RUN_RECORDS_MAX
    }

    /// Remembers a record.
    ///
    /// # Panics
    /// If they are full: the caller asks first.
    pub fn push(&mut self, record: Record) {
        assert!(!self.is_full(), "the caller asks whether there is room");
        self.held[self.count] = record;
        self.count += 1;
    }

    /// Forgets the record that begins at `addr` and says what it was.
    pub fn take(&mut self, addr: u64) -> Option<Record> {
        let index = self.held().iter().position(|record| u64::from(record.addr) == addr)?;
        self.count -= 1;
        self.held.swap(index, self.count);
        Some(self.held[self.count])
    }

    /// Discards what is left.
    #[inline]
    pub(super) fn discard(&mut self, world: &World) {
        if self.count != 0 {
            self.discard_held(world);
        }
    }

    #[cold]
    fn discard_held(&mut self, world: &World) {
        let guard = crossbeam::epoch::pin();
        for record in &self.held[..self.count] {
            let map = world.maps.map_by_handle(record.map, &guard).and_then(|map| map.as_ring_buffer());
            if let Some(ring) = map {
                // An error means that the map was unloaded meanwhile, and the record with it.
                let _ = ring.finish(u64::from(record.addr), Finish::Discard);
            }
        }
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_taken_once_and_by_its_first_byte_only() {
        let mut records = Records::default();
        for addr in [0x1000, 0x2000, 0x3000] {
            records.push(Record { addr, len: 8, map: 7 });
        }
        assert_eq!(records.take(0x1000), Some(Record { addr: 0x1000, len: 8, map: 7 }));
        assert_eq!(records.take(0x1000), None);
        assert_eq!(records.take(0x2001), None);
        assert_eq!(records.held().len(), 2);
    }
}
