//! A wire over UDP: a datagram carries one Ethernet frame, without any header of ours.
//!
//! Two ways move the datagrams: an io_uring ring (`ring`) and the plain calls (`plain`) for where rings are disabled.
//! They stand beside each other and answer to the same tests.
//!
//! Invariant: frames come from the peer's address only; a peer that is away, not yet or no longer, costs frames but
//! never the port.

mod departures;
mod filter;
mod landing;
mod plain;
mod ring;
mod socket;

pub use socket::Socket;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use plain::PlainPort;
use ring::RingPort;

use super::{Burst, Frame, Interest, Pool, Port, PortCounts, PortError, Wake};

/// Ends of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireConfig {
    /// Where we receive.
    pub local: SocketAddr,
    /// Whom we receive from and send to.
    pub peer: SocketAddr,
}

/// How datagrams are moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoPath {
    /// By an io_uring ring, or not at all.
    Ring,
    /// By recvmmsg and sendmmsg.
    Plain,
    /// By a ring where the kernel lets us, else by the plain calls.
    #[default]
    Auto,
}

impl IoPath {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Ring, Self::Plain];

    /// Its name in options and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Plain => "plain",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for IoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether frames travel in trains: several of one length in one message, which both ends' kernels carry as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trains {
    /// Neighbours of one length leave together, and what came together is dealt out frame by frame. A peer that knows no
    /// trains notices nothing.
    #[default]
    On,
    /// Each frame travels alone and is received where programs judge it.
    Off,
}

impl Trains {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::On, Self::Off];

    /// Its name in options and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for Trains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that is neither.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("trains {word:?}: neither on nor off; use one of them")]
pub struct UnknownTrains {
    /// The word.
    pub word: String,
}

impl FromStr for Trains {
    type Err = UnknownTrains;

    fn from_str(word: &str) -> Result<Self, UnknownTrains> {
        let found = Self::ALL.into_iter().find(|trains| trains.name() == word);
        found.ok_or_else(|| UnknownTrains { word: word.to_owned() })
    }
}

/// A word that names no path.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("io {word:?}: no such way to move packets; use auto, ring or plain")]
pub struct UnknownIoPath {
    /// The word.
    pub word: String,
}

impl FromStr for IoPath {
    type Err = UnknownIoPath;

    fn from_str(word: &str) -> Result<Self, UnknownIoPath> {
        Self::ALL.into_iter().find(|path| path.name() == word).ok_or_else(|| UnknownIoPath { word: word.to_owned() })
    }
}

/// The worker to which the kernel gives a frame of this flow, when `worker_count` workers share a wire.
#[must_use]
pub fn worker_of(frame: &[u8], worker_count: u32) -> u32 {
    filter::worker_of(frame, worker_count)
}

/// One worker's share of a wire.
#[derive(Debug)]
pub struct UdpPort {
    path: Path,
    report: String,
}

#[derive(Debug)]
enum Path {
    Ring(Box<RingPort>),
    Plain(Box<PlainPort>),
}

impl UdpPort {
    /// Opens a worker's share, in the thread that will drive it: a ring belongs to one thread.
    ///
    /// # Errors
    /// [`PortError::Ring`] when a ring is demanded and refused.
    pub fn open(
        socket: Arc<Socket>,
        wake: Arc<Wake>,
        pool: &mut Pool,
        io: IoPath,
        trains: Trains,
    ) -> Result<Self, PortError> {
        let wire = socket.to_string();
        let trains = if trains == Trains::On && socket.takes_trains() { Trains::On } else { Trains::Off };
        let with_trains = match trains {
            Trains::On => ", trains",
            Trains::Off => "",
        };
        let why = match io {
            IoPath::Plain => "as configured".to_owned(),
            IoPath::Ring | IoPath::Auto => match RingPort::open(&socket, &wake, pool, trains) {
                Ok(ring) => {
                    let report = format!("{wire}: io_uring ({}{with_trains})", ring.features());
                    return Ok(Self { path: Path::Ring(Box::new(ring)), report });
                }
                Err(refusal) if io == IoPath::Ring => {
                    return Err(PortError::Ring { local: socket.local(), why: refusal.to_string() });
                }
                Err(refusal) => refusal.to_string(),
            },
        };
        let report = format!("{wire}: plain calls{with_trains}: {why}");
        Ok(Self { path: Path::Plain(Box::new(PlainPort::new(socket, wake, pool, trains))), report })
    }
}

impl Port for UdpPort {
    #[inline]
    fn recv(&mut self, pool: &mut Pool, burst: &mut Burst) {
        match &mut self.path {
            Path::Ring(port) => port.recv(pool, burst),
            Path::Plain(port) => port.recv(pool, burst),
        }
    }

    #[inline]
    fn send(&mut self, pool: &mut Pool, frame: Frame) {
        match &mut self.path {
            Path::Ring(port) => port.send(pool, frame),
            Path::Plain(port) => port.send(pool, frame),
        }
    }

    fn before_wait(&mut self, pool: &mut Pool) -> bool {
        match &mut self.path {
            Path::Ring(port) => port.before_wait(pool),
            Path::Plain(port) => port.before_wait(pool),
        }
    }

    fn waits_on(&self, each: &mut dyn FnMut(RawFd, Interest)) {
        match &self.path {
            Path::Ring(port) => port.waits_on(each),
            Path::Plain(port) => port.waits_on(each),
        }
    }

    fn wake(&self) -> &Wake {
        match &self.path {
            Path::Ring(port) => port.wake(),
            Path::Plain(port) => port.wake(),
        }
    }

    fn wait(&mut self, pool: &mut Pool, timeout: Duration) {
        match &mut self.path {
            Path::Ring(port) => port.wait(pool, timeout),
            Path::Plain(port) => port.wait(pool, timeout),
        }
    }

    fn end_receiving(&mut self) {
        match &mut self.path {
            Path::Ring(port) => port.end_receiving(),
            Path::Plain(port) => port.end_receiving(),
        }
    }

    fn is_receiving(&mut self) -> bool {
        match &mut self.path {
            Path::Ring(port) => port.is_receiving(),
            Path::Plain(port) => port.is_receiving(),
        }
    }

    fn close(&mut self, pool: &mut Pool) {
        match &mut self.path {
            Path::Ring(port) => port.close(pool),
            Path::Plain(port) => port.close(pool),
        }
    }

    fn counts(&self) -> PortCounts {
        match &self.path {
            Path::Ring(port) => port.counts(),
            Path::Plain(port) => port.counts(),
        }
    }

    fn dropped(&self) -> u64 {
        match &self.path {
            Path::Ring(port) => port.dropped(),
            Path::Plain(port) => port.dropped(),
        }
    }

    fn report(&self) -> &str {
        &self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_read_by_its_own_name_and_others_are_refused() {
        for path in IoPath::ALL {
            assert_eq!(path.to_string().parse(), Ok(path));
        }
        for trains in Trains::ALL {
            assert_eq!(trains.to_string().parse(), Ok(trains));
        }
        let error = "maybe".parse::<Trains>().expect_err("neither");
        assert_eq!(error.to_string(), "trains \"maybe\": neither on nor off; use one of them");
        let error = "dpdk".parse::<IoPath>().expect_err("no such path");
        assert_eq!(error.to_string(), "io \"dpdk\": no such way to move packets; use auto, ring or plain");
    }
}
