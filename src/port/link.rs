//! A cable in memory between two hosts of one process.
//!
//! Each direction has a lane for each worker that receives, and a frame goes to the worker of its flow. A lane that is full
//! costs the sender frames, as errors; so does an end that nobody holds.
//!
//! Invariant: allocates nothing after it is made, and makes no system call but to wake a worker that sleeps.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use super::udp::worker_of;
use super::{Burst, Frame, Interest, Pool, Port, PortCounts, PortError, Wake};
use crate::limits::FRAME_LEN_MAX;

/// Frames of one lane.
const LANE_FRAMES: usize = 512;

/// Memory for a frame.
type Slot = Box<[u8; FRAME_LEN_MAX as usize]>;

/// Frames on their way to one worker.
#[derive(Debug)]
struct Lane {
    empty: ArrayQueue<Slot>,
    ready: ArrayQueue<(Slot, u16)>,
    wake: OnceLock<Arc<Wake>>,
}

/// Frames on their way to one end.
#[derive(Debug)]
struct Lanes {
    lanes: Box<[Lane]>,
    is_closed: AtomicBool,
}

impl Lanes {
    fn new(worker_count: u32) -> Self {
        let lane = |_| {
            let empty = ArrayQueue::new(LANE_FRAMES);
            while empty.push(Box::new([0; FRAME_LEN_MAX as usize])).is_ok() {}
            Lane { empty, ready: ArrayQueue::new(LANE_FRAMES), wake: OnceLock::new() }
        };
        Self { lanes: (0..worker_count.max(1)).map(lane).collect(), is_closed: AtomicBool::new(false) }
    }
}

/// One of the two sides.
#[derive(Debug, Default)]
struct Side {
    lanes: Mutex<Option<Arc<Lanes>>>,
    /// Counts how often another holder came or went.
    generation: AtomicU64,
}

impl Side {
    fn lanes(&self) -> Option<Arc<Lanes>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, lanes: Option<Arc<Lanes>>) {
        *self.lanes.lock().unwrap_or_else(PoisonError::into_inner) = lanes;
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// A cable with two ends.
#[derive(Debug, Default)]
pub struct Link {
    sides: [Side; 2],
}

/// Links of this process that have names.
static NAMED: LazyLock<Mutex<HashMap<String, Weak<Link>>>> = LazyLock::new(Mutex::default);

impl Link {
    /// Both ends of a new cable, held by hosts with so many workers.
    #[must_use]
    pub fn pair(worker_counts: [u32; 2]) -> [Arc<LinkEnd>; 2] {
        let link = Arc::new(Self::default());
        let [first, second] = worker_counts;
        [(0, first), (1, second)].map(|(side, count)| link.hold(side, count))
    }

    /// An end of the cable with this name: the first who asks has one, the second the other.
    ///
    /// # Errors
    /// [`PortError::LinkTaken`] when both are held.
    pub fn named(name: &str, worker_count: u32) -> Result<Arc<LinkEnd>, PortError> {
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        named.retain(|_, link| link.strong_count() > 0);
        let link = named.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let link = Arc::new(Self::default());
            named.insert(name.to_owned(), Arc::downgrade(&link));
            link
        });
        let side = (0..2).find(|side| link.sides[*side].lanes().is_none());
        let side = side.ok_or_else(|| PortError::LinkTaken { port: format!("link:{name}") })?;
        Ok(link.hold(side, worker_count))
    }

    fn hold(self: &Arc<Self>, side: usize, worker_count: u32) -> Arc<LinkEnd> {
        let lanes = Arc::new(Lanes::new(worker_count));
        self.sides[side].set(Some(Arc::clone(&lanes)));
        Arc::new(LinkEnd { link: Arc::clone(self), side, lanes })
    }
}

/// One host's end of a cable; free again when it and its ports are dropped.
#[derive(Debug)]
pub struct LinkEnd {
    link: Arc<Link>,
    side: usize,
    lanes: Arc<Lanes>,
}

impl Drop for LinkEnd {
    fn drop(&mut self) {
        self.lanes.is_closed.store(true, Ordering::Release);
        self.link.sides[self.side].set(None);
    }
}

/// A worker's share of an end.
#[derive(Debug)]
pub struct LinkPort {
    end: Arc<LinkEnd>,
    index: usize,
    /// Where the peer receives, as of that generation.
    peer: Option<Arc<Lanes>>,
    generation: Option<u64>,
    wake: Arc<Wake>,
    is_receiving: bool,
    scratch: Slot,
    counts: PortCounts,
    report: String,
}

impl LinkPort {
    /// The share of worker `index`. `name` stands in its report.
    #[must_use]
    pub fn open(end: Arc<LinkEnd>, name: &str, index: u32, wake: Arc<Wake>) -> Self {
        let index = index as usize;
        // Another worker's wake stays where it is: an index is opened once.
        let _ = end.lanes.lanes[index].wake.set(Arc::clone(&wake));
        Self {
            end,
            index,
            peer: None,
            generation: None,
            wake,
            is_receiving: true,
            scratch: Box::new([0; FRAME_LEN_MAX as usize]),
            counts: PortCounts::default(),
            report: format!("{name}: in memory"),
        }
    }

    fn lane(&self) -> &Lane {
        &self.end.lanes.lanes[self.index]
    }

    fn look_for_peer(&mut self) {
        let side = &self.end.link.sides[1 - self.end.side];
        let generation = Some(side.generation.load(Ordering::Acquire));
        if self.generation != generation {
            self.generation = generation;
            self.peer = side.lanes();
        }
    }
}

impl Port for LinkPort {
    fn recv(&mut self, pool: &mut Pool, burst: &mut Burst) {
        while self.is_receiving && burst.room() > 0 && pool.free_count() > 0 {
            let Some((slot, len)) = self.lane().ready.pop() else { return };
            let taken = burst.copied(pool, &slot[..usize::from(len)]);
            assert!(taken, "a chunk was free");
            self.lane().empty.push(slot).expect("there is a place for each slot");
        }
    }

    fn send(&mut self, pool: &mut Pool, frame: Frame) {
        self.look_for_peer();
        let Some(peer) = self.peer.as_ref().filter(|peer| !peer.is_closed.load(Ordering::Acquire)) else {
            self.counts.unreachable += 1;
            self.counts.tx_errors += 1;
            return pool.release(frame);
        };
        let worker_count = u32::try_from(peer.lanes.len()).expect("workers are few");
        let worker = if worker_count == 1 {
            0
        } else {
            let len = pool.read(&frame, &mut self.scratch[..]);
            worker_of(&self.scratch[..len], worker_count)
        };
        let lane = &peer.lanes[worker as usize];
        let Some(mut slot) = lane.empty.pop() else {
            self.counts.tx_errors += 1;
            return pool.release(frame);
        };
        let len = pool.read(&frame, &mut slot[..]);
        pool.release(frame);
        lane.ready.push((slot, u16::try_from(len).expect("a frame's length"))).expect("there is a place for each slot");
        if let Some(wake) = lane.wake.get() {
            wake.notify();
        }
        self.counts.tx_frames += 1;
        self.counts.tx_bytes += len as u64;
    }

    fn before_wait(&mut self, pool: &mut Pool) -> bool {
        self.is_receiving && pool.free_count() > 0 && !self.lane().ready.is_empty()
    }

    fn waits_on(&self, _: &mut dyn FnMut(RawFd, Interest)) {
        // Whoever sends notifies the worker's wake.
    }

    fn wake(&self) -> &Wake {
        &self.wake
    }

    fn wait(&mut self, pool: &mut Pool, timeout: Duration) {
        if !self.before_wait(pool) {
            super::Sleep::new().block(&self.wake, timeout);
        }
    }

    fn end_receiving(&mut self) {
        // What others sent is taken: it lies in our lane.
        self.end.lanes.is_closed.store(true, Ordering::Release);
    }

    fn is_receiving(&mut self) -> bool {
        !self.lane().ready.is_empty()
    }

    fn close(&mut self, _: &mut Pool) {
        self.is_receiving = false;
        self.end.lanes.is_closed.store(true, Ordering::Release);
    }

    fn counts(&self) -> PortCounts {
        self.counts
    }

    fn dropped(&self) -> u64 {
        // What lay in the lane when the port was closed.
        if self.is_receiving { 0 } else { self.lane().ready.len() as u64 }
    }

    fn report(&self) -> &str {
        &self.report
    }
}
