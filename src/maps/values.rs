//! The values of a map: a region of the cage, in places of equal length.
//!
//! The place of an element is a number that the map's bookkeeping gives out; where a type is per CPU every worker has a
//! run of places of its own, so that workers do not share cache lines.
//!
//! Invariant: gives out guest addresses and copies, never a reference into the cage.

use std::ops::Range;

use super::check::{TIMER_LEN, check_bytes, check_len};
use super::spin_lock::{Attempt, LOCK_LEN, release_lock, take_lock};
use super::{Errno, MapDef, MapEnv, MapError, WorkerIndex};
use crate::cage::{Protect, Region};

/// Whether an element has one value or one for each worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// One value for all.
    Shared,
    /// `BPF_MAP_TYPE_*PERCPU*`.
    PerWorker,
}

/// Bytes between the runs of two workers are a multiple of this: a cache line and its neighbour.
const WORKER_ALIGN: u64 = 128;

/// Where a value's locks and timers lie, which were checked to lie in it.
fn kept(def: &MapDef) -> Box<[Range<usize>]> {
    let fields = [(def.lock_offset, LOCK_LEN), (def.timer_offset, TIMER_LEN)];
    let fields = fields.into_iter().filter_map(|(offset, len)| offset.map(|offset| offset..offset + len));
    let mut kept: Vec<_> = fields.map(|range| range.start as usize..range.end as usize).collect();
    kept.sort_by_key(|range| range.start);
    kept.into()
}

/// The values of a map.
#[derive(Debug)]
pub(super) struct Values {
    region: Region,
    value_len: u32,
    /// Bytes from one value to the next.
    stride: u32,
    /// Bytes from one worker's run to the next's; 0 where there is one run.
    worker_stride: u32,
    /// Runs.
    run_count: u32,
    /// Offset of the lock in a value.
    lock_offset: Option<u32>,
    /// Offset of the timer in a value.
    timer_offset: Option<u32>,
    /// Where bytes lie in a value that no copy touches: locks and timers, in order.
    kept: Box<[Range<usize>]>,
}

impl Values {
    /// Bytes that `count` values take of the cage; more than any limit where the numbers overflow.
    pub(super) fn bytes(def: &MapDef, env: MapEnv<'_>, count: u64, sharing: Sharing) -> u64 {
        let run = def.value_stride().saturating_mul(count);
        match sharing {
            Sharing::Shared => run,
            Sharing::PerWorker => run.saturating_add(WORKER_ALIGN).saturating_mul(u64::from(env.worker_count)),
        }
    }

    /// Room for `count` values, zeroed.
    pub(super) fn new(def: &MapDef, env: MapEnv<'_>, count: u64, sharing: Sharing) -> Result<Self, MapError> {
        let bytes = Self::bytes(def, env, count, sharing);
        check_bytes(def, bytes)?;
        let in_range = |bytes: u64| u32::try_from(bytes).expect("the whole fits into a gigabyte");
        let stride = in_range(def.value_stride());
        let (worker_stride, run_count) = match sharing {
            Sharing::Shared => (0, 1),
            Sharing::PerWorker => {
                (in_range((def.value_stride() * count).next_multiple_of(WORKER_ALIGN)), env.worker_count)
            }
        };
        let region = env.cage.alloc(bytes, "map values");
        let region = region.map_err(|source| MapError::Cage { name: def.name.clone(), source })?;
        Ok(Self {
            region,
            value_len: def.value_len,
            stride,
            worker_stride,
            run_count,
            lock_offset: def.lock_offset,
            timer_offset: def.timer_offset,
            kept: kept(def),
        })
    }

    /// Bytes from one value to the next.
    pub(super) fn stride(&self) -> u32 {
        self.stride
    }

    /// Bytes from one worker's values to the next's; 0 where workers share them.
    pub(super) fn worker_stride(&self) -> u32 {
        self.worker_stride
    }

    /// Bytes of a value as bpf(2) gives and takes it.
    pub(super) fn host_len(&self) -> u64 {
        if self.worker_stride == 0 {
            u64::from(self.value_len)
        } else {
            u64::from(self.stride) * u64::from(self.run_count)
        }
    }

    /// Whether values are copied whole: they hold no lock and no timer.
    pub(super) fn is_plain(&self) -> bool {
        self.kept.is_empty()
    }

    /// Guest address of this worker's value in a place; `None` for a worker that the host does not have.
    #[inline]
    pub(super) fn addr(&self, place: u32, worker: WorkerIndex) -> Option<u32> {
        let run = if self.worker_stride == 0 { 0 } else { worker.0 };
        (run < self.run_count).then(|| self.region.addr() + run * self.worker_stride + place * self.stride)
    }

    /// The place whose value an address lies in, where there is one value for all workers.
    pub(super) fn place_at(&self, addr: u32) -> Option<u32> {
        let offset = addr.checked_sub(self.region.addr()).filter(|_| self.worker_stride == 0)?;
        (u64::from(offset) < self.region.len()).then(|| offset / self.stride)
    }

    fn offset(&self, place: u32, run: u32) -> u64 {
        u64::from(run) * u64::from(self.worker_stride) + u64::from(place) * u64::from(self.stride)
    }

    /// Writes this worker's value.
    pub(super) fn write(&self, place: u32, worker: WorkerIndex, value: &[u8]) -> Result<(), Errno> {
        check_len(value, u64::from(self.value_len))?;
        let addr = self.addr(place, worker).ok_or(Errno::EINVAL)?;
        let mut start = 0;
        for kept in &self.kept {
            self.write_bytes(addr, start, &value[start..kept.start])?;
            start = kept.end;
        }
        self.write_bytes(addr, start, &value[start..])
    }

    fn write_bytes(&self, addr: u32, offset: usize, bytes: &[u8]) -> Result<(), Errno> {
        self.region.cage().write(u64::from(addr) + offset as u64, bytes).map_err(|_| Errno::EPERM)
    }

    /// Writes a value that all workers share, under its lock.
    pub(super) fn write_locked(&self, place: u32, value: &[u8]) -> Result<(), Errno> {
        self.locked(place, || self.write(place, WorkerIndex(0), value))?
    }

    /// Does something under the lock of a value that all workers share.
    fn locked<T>(&self, place: u32, act: impl FnOnce() -> T) -> Result<T, Errno> {
        let lock = self.addr(place, WorkerIndex(0)).zip(self.lock_offset).map(|(addr, offset)| addr + offset);
        let lock = lock.ok_or(Errno::EINVAL)?;
        match take_lock(self.region.cage(), lock).map_err(|_| Errno::EPERM)? {
            Attempt::Busy => Err(Errno::EBUSY),
            Attempt::Taken => {
                let done = act();
                release_lock(self.region.cage(), lock);
                Ok(done)
            }
        }
    }

    /// Writes this worker's value and zeroes the other workers' ones: a new element.
    pub(super) fn write_new(&self, place: u32, worker: WorkerIndex, value: &[u8]) -> Result<(), Errno> {
        for other in (0..self.run_count).filter(|run| *run != worker.0 && self.worker_stride != 0) {
            let addr = u64::from(self.region.addr()) + self.offset(place, other);
            self.region.cage().fill(addr, u64::from(self.stride), 0).map_err(|_| Errno::EPERM)?;
        }
        self.zero_kept(place)?;
        self.write(place, worker, value)
    }

    /// Writes all workers' values from what bpf(2) gives: a new element.
    pub(super) fn write_new_host(&self, place: u32, value: &[u8]) -> Result<(), Errno> {
        self.zero_kept(place)?;
        self.write_host(place, value)
    }

    /// Makes the lock of a value that all workers share free, and its timer none.
    fn zero_kept(&self, place: u32) -> Result<(), Errno> {
        self.kept.iter().try_for_each(|kept| self.zero(place, kept.start as u64, kept.len() as u64))
    }

    /// Ends the timer of a value that all workers share and that was written in place: no timer has the number 0.
    pub(super) fn end_timer(&self, place: u32) -> Result<(), Errno> {
        self.timer_offset.map_or(Ok(()), |offset| self.zero(place, offset.into(), TIMER_LEN.into()))
    }

    fn zero(&self, place: u32, offset: u64, len: u64) -> Result<(), Errno> {
        let addr = u64::from(self.region.addr()) + self.offset(place, 0) + offset;
        self.region.cage().fill(addr, len, 0).map_err(|_| Errno::EPERM)
    }

    /// Writes all workers' values from what bpf(2) gives. Padding is kept, as in the kernel.
    pub(super) fn write_host(&self, place: u32, value: &[u8]) -> Result<(), Errno> {
        check_len(value, self.host_len())?;
        if self.worker_stride == 0 {
            return self.write(place, WorkerIndex(0), value);
        }
        for (run, value) in (0..self.run_count).zip(value.chunks(self.stride as usize)) {
            let addr = u64::from(self.region.addr()) + self.offset(place, run);
            self.region.cage().write(addr, value).map_err(|_| Errno::EPERM)?;
        }
        Ok(())
    }

    /// All workers' values, as bpf(2) gives them.
    pub(super) fn read_host(&self, place: u32) -> Vec<u8> {
        let len = usize::try_from(self.host_len()).expect("usize has 64 bits");
        let mut value = vec![0; len];
        if self.worker_stride == 0 {
            self.region.read(self.offset(place, 0), &mut value);
            for kept in &self.kept {
                value[kept.clone()].fill(0);
            }
            return value;
        }
        for (run, value) in (0..self.run_count).zip(value.chunks_mut(self.stride as usize)) {
            self.region.read(self.offset(place, run), value);
        }
        value
    }

    /// The value that all workers share, read under its lock.
    pub(super) fn read_host_locked(&self, place: u32) -> Result<Vec<u8>, Errno> {
        self.locked(place, || self.read_host(place))
    }

    /// Makes the values read-only for programs and host.
    pub(super) fn freeze(&self) -> Result<(), Errno> {
        self.region.protect(Protect::ReadOnly).map_err(|_| Errno::ENOMEM)
    }
}
