//! What all programs of a host share.

use std::fmt;
use std::sync::Arc;

use super::cookies::Cookies;
use super::ports::Ports;
use super::programs::Programs;
use super::routes::{RouteTable, Routes};
use super::sockets::SocketTable;
use super::timers::Timers;
use crate::cage::{Cage, CageError, Region};
use crate::limits::{CALL_FRAMES_MAX, MAP_KEY_LEN_MAX};
use crate::maps::{MapEnv, MapTable, WorkerIndex};

/// Where helpers get the time from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The machine's monotonic clock.
    Monotonic,
    /// Always this many nanoseconds: for tests and replay.
    Fixed(u64),
}

impl Clock {
    /// Nanoseconds since some fixed moment, as `bpf_ktime_get_ns` gives them.
    #[must_use]
    pub fn now_ns(self) -> u64 {
        self.read(libc::CLOCK_MONOTONIC)
    }

    /// The same, counting the time that the machine slept (`bpf_ktime_get_boot_ns`).
    #[must_use]
    pub fn boot_ns(self) -> u64 {
        self.read(libc::CLOCK_BOOTTIME)
    }

    /// The time of the last tick: cheaper, some milliseconds old (`bpf_ktime_get_coarse_ns`).
    #[must_use]
    pub fn coarse_ns(self) -> u64 {
        self.read(libc::CLOCK_MONOTONIC_COARSE)
    }

    /// Nanoseconds of the atomic clock since 1970 (`bpf_ktime_get_tai_ns`).
    #[must_use]
    pub fn tai_ns(self) -> u64 {
        self.read(libc::CLOCK_TAI)
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub fn real_ns(self) -> u64 {
        self.read(libc::CLOCK_REALTIME)
    }

    fn read(self, clock: libc::clockid_t) -> u64 {
        match self {
            Self::Fixed(now_ns) => now_ns,
            Self::Monotonic => {
                let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
                // SAFETY: the pointer is to a local of the right type; the call cannot fail for these clocks.
                unsafe { libc::clock_gettime(clock, &raw mut now) };
                now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
            }
        }
    }
}

/// Takes the lines of `bpf_trace_printk`.
pub type TraceSink = Box<dyn Fn(&str) + Send + Sync>;

/// What all programs of a host share.
pub struct World {
    /// The memory that programs can touch.
    pub cage: Arc<Cage>,
    /// All maps of the host.
    pub maps: Arc<MapTable>,
    /// Workers of the host.
    pub worker_count: u32,
    /// Where helpers get the time from.
    pub clock: Clock,
    /// Takes the lines of `bpf_trace_printk`.
    pub trace: TraceSink,
    /// Link address of the host; zeros as on the kernel's loopback interface, where `BPF_PROG_TEST_RUN` runs.
    pub link_address: [u8; 6],
    /// The host's routes, neighbours and interfaces; the loopback interface alone at first.
    pub routes: RouteTable,
    /// The interface indexes of the host's ports; none at first.
    pub ports: Ports,
    /// The host's sockets; none at first.
    pub sockets: SocketTable,
    /// Timers of the host's programs.
    pub timers: Timers,
    /// The host's programs by number.
    pub programs: Programs,
    /// The secret of the host's SYN cookies.
    pub cookies: Cookies,
    /// Keys that helpers show to functions that they call back: for each worker as many of the longest as calls can nest.
    keys: Region,
}

/// Bytes of [`World::keys`] for one worker.
const KEYS_LEN: u32 = CALL_FRAMES_MAX * MAP_KEY_LEN_MAX;

impl World {
    /// A world without maps, in a cage of its own.
    ///
    /// # Errors
    /// [`CageError`] where there is no address space.
    pub fn new(worker_count: u32, clock: Clock, trace: TraceSink) -> Result<Self, CageError> {
        let cage = Cage::new()?;
        let keys = cage.alloc(u64::from(KEYS_LEN) * u64::from(worker_count), "keys of called-back functions")?;
        let sockets = SocketTable::new(&cage);
        Ok(Self {
            cage,
            maps: Arc::new(MapTable::new()),
            worker_count,
            clock,
            trace,
            link_address: [0; 6],
            routes: RouteTable::new(Routes::of_loopback()),
            ports: Ports::default(),
            sockets,
            timers: Timers::default(),
            programs: Programs::default(),
            cookies: Cookies::random(),
            keys,
        })
    }

    /// Guest address where a worker's helper shows a key to the function that it calls back, `depth` such helpers nested.
    #[must_use]
    pub fn key_place(&self, worker: WorkerIndex, depth: u32) -> u32 {
        let worker = worker.0 % self.worker_count;
        self.keys.addr() + worker * KEYS_LEN + depth % CALL_FRAMES_MAX * MAP_KEY_LEN_MAX
    }

    /// What a map of this world is created in.
    #[must_use]
    pub fn map_env(&self) -> MapEnv<'_> {
        MapEnv { cage: &self.cage, worker_count: self.worker_count, budget: self.maps.budget() }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("worker_count", &self.worker_count)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
