//! Ports: where frames come from and go to.
//!
//! A [`Port`] moves frames between a wire and the chunks of a [`Pool`], which lie in the cage, so that programs judge a
//! frame where the kernel put it. A driver is one file or folder here; it knows its wire and nothing of programs or verdicts.
//! Ports are boxed, so that one turn goes over several of different kinds, which share the worker's pool.
//!
//! Invariant: a chunk has one owner at any time: the pool, a [`Frame`], the outbox, or the port (receiving into it or
//! sending from it). No call here blocks but [`Port::wait`], [`Sleep::block`] and [`Port::close`], and those only for a bounded
//! time. A port holds at most `RECEIVE_CHUNKS` chunks to receive into: a worker's pool has so many for each of its ports.

pub mod af_xdp;
mod buffer_ring;
mod burst;
mod calls;
mod capture;
pub mod checksum;
mod error;
mod fault;
mod link;
mod offload;
mod outbox;
mod outlet;
pub mod packet;
mod paper;
mod pcap;
mod pool;
mod record;
mod ring_setup;
mod shm;
mod sleep;
mod spec;
pub mod tap;
mod trace;
pub mod udp;
mod wake;

pub use burst::{Burst, Refused};
pub use capture::{Capture, CaptureError, CapturedFrame};
pub use error::PortError;
pub use fault::{BadChance, BadSpan, Chance, FaultConfig, FaultCounts, FaultPort, Span};
pub use link::{Link, LinkEnd, LinkPort};
pub use outbox::Outbox;
pub use pcap::{PcapConfig, PcapPort, PcapShare, Timing};
pub use pool::{Frame, Pool};
pub use record::RecordPort;
pub use shm::{ShmPort, ShmShare};
pub use sleep::{Interest, Sleep};
pub use spec::{DriverSpec, PortShare, PortSpec, SpecError, open};
pub use trace::TracePort;
pub use wake::Wake;

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::time::Duration;

use serde::Serialize;

/// What a port did so far. Every frame given to [`Port::send`] ends in `tx_frames` or in `tx_errors`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortCounts {
    /// Frames that the kernel took for sending.
    pub tx_frames: u64,
    /// Bytes of them.
    pub tx_bytes: u64,
    /// Of the sent: in trains, several in one message.
    pub tx_in_trains: u64,
    /// Frames that the kernel would not send.
    pub tx_errors: u64,
    /// Frames that arrived in trains.
    pub rx_in_trains: u64,
    /// Receives that failed, other than because the peer was away.
    pub rx_errors: u64,
    /// Frames that passed and are missing in the port's record or trace: a disk is full or slow.
    pub unrecorded: u64,
    /// Times the peer's machine said that nobody listens there.
    pub unreachable: u64,
}

/// A way in and out, driven by one worker.
///
/// A *train* (several frames in one system call's message) is the driver's own affair: it deals each frame a chunk, so
/// that a frame has its headroom whichever way it came.
pub trait Port {
    /// Moves frames that have arrived into the burst until it is full, sends what was queued, and gives chunks of sent
    /// frames back to the pool. Does not block; without anything to do it is cheap enough to be called in a loop.
    fn recv(&mut self, pool: &mut Pool, burst: &mut Burst);

    /// Queues a frame; it leaves with the next [`Self::recv`] or [`Self::wait`] at the latest.
    fn send(&mut self, pool: &mut Pool, frame: Frame);

    /// Queues frames, the first one first: one call of a boxed port for all of them.
    fn send_all(&mut self, pool: &mut Pool, frames: &mut VecDeque<Frame>) {
        while let Some(frame) = frames.pop_front() {
            self.send(pool, frame);
        }
    }

    /// Sends what is queued and makes ready to receive, before the worker sleeps on [`Self::waits_on`]. Says whether
    /// something is there already: then there is no sleeping.
    fn before_wait(&mut self, pool: &mut Pool) -> bool;

    /// Names the descriptors whose readiness means that something may have arrived or that a send can go on. What it names
    /// is right from [`Self::before_wait`] to the next [`Self::recv`].
    fn waits_on(&self, each: &mut dyn FnMut(RawFd, Interest));

    /// How long until it has something to do though no descriptor of it becomes ready; [`Duration::MAX`] for never.
    fn until_due(&self) -> Duration {
        Duration::MAX
    }

    /// What ends its [`Self::wait`] from other threads.
    fn wake(&self) -> &Wake;

    /// Blocks until something may have arrived, a send can go on, the port's [`Wake`] was notified, or `timeout` is over.
    /// Sends what was queued first. A worker with several ports blocks in [`Sleep::block`] instead.
    fn wait(&mut self, pool: &mut Pool, timeout: Duration) {
        if !self.before_wait(pool) {
            let mut sleep = Sleep::new();
            self.waits_on(&mut |fd, interest| sleep.add(fd, interest));
            sleep.block(self.wake(), timeout.min(self.until_due()));
        }
    }

    /// Takes nothing from the wire any more; what had been taken still comes out of [`Self::recv`].
    fn end_receiving(&mut self);

    /// Whether frames may still come out of [`Self::recv`].
    fn is_receiving(&mut self) -> bool;

    /// Waits a bounded time until queued frames are sent, and gives every chunk back to the pool.
    fn close(&mut self, pool: &mut Pool);

    /// What it did so far.
    fn counts(&self) -> PortCounts;

    /// Frames that came and were lost before [`Self::recv`] could take them, as far as the kernel or the peer says. It costs
    /// a system call, so it is none for each turn.
    fn dropped(&self) -> u64 {
        0
    }

    /// Whether its wire has gone for good, as an interface that was deleted: nothing will arrive, and what is sent is
    /// counted among the errors.
    fn is_gone(&self) -> bool {
        false
    }

    /// Which path moves its frames and why, in one line.
    fn report(&self) -> &str;
}
