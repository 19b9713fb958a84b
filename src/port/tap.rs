//! A tap: an interface of the kernel whose other side is this port, so that the machine's own network stack talks with us.
//!
//! The kernel hands over super-frames (up to 64 KiB of a TCP stream or UDP flow behind one header) and frames whose checksums
//! are left to do; both are finished here. Segments that belong together go back as one. A frame that needs nothing is received
//! where programs judge it. Several workers share a tap by flow (`IFF_MULTI_QUEUE`).
//!
//! Source: tuntap.rst, `drivers/net/tun.c`.
//!
//! Invariant: allocates nothing after it is made. The interface goes with its last port, or stays where it was made to last
//! (`ip tuntap add`).

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use libc::{c_int, c_ulong, iovec};

use super::calls::{self, raw};
use super::offload::{Dealer, HEADER_LEN, Offload};
use super::outlet::{Gather, Outlet};
use super::udp::IoPath;
use super::{Burst, Frame, Interest, Pool, Port, PortCounts, PortError, Wake};
use crate::limits::{FRAME_LEN_MAX, HEADROOM};

const TUNSETIFF: c_ulong = 0x4004_54ca;
const TUNSETOFFLOAD: c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: c_ulong = 0x4004_54d8;
/// `IFF_TAP`, `IFF_NO_PI`, `IFF_VNET_HDR`, `IFF_MULTI_QUEUE`.
const FLAGS: u16 = 0x0002 | 0x1000 | 0x4000;
const MULTI_QUEUE: u16 = 0x0100;
/// Checksums, TCP over both, TCP with ECN; then UDP over both, which are newer.
const OFFLOADS: c_ulong = 0x01 | 0x02 | 0x04 | 0x08;
const UDP_OFFLOADS: c_ulong = 0x20 | 0x40;

/// A tap, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapConfig {
    /// Name of the interface; it is made where there is none.
    pub interface: String,
    /// How frames are sent.
    pub io: IoPath,
    /// Whether super-frames come and go.
    pub super_frames: SuperFrames,
}

/// Whether a tap's super-frames come and go whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SuperFrames {
    /// Yes: the kernel's stack goes through its work once for many frames.
    #[default]
    On,
    /// The kernel cuts them itself and completes checksums.
    Off,
}

/// One worker's queue of a tap.
#[derive(Debug)]
pub struct TapQueue {
    name: String,
    config: TapConfig,
    with_udp: bool,
    fd: OwnedFd,
}

impl TapQueue {
    /// Opens the queues of a tap, one a worker. `name` stands in errors and reports.
    ///
    /// # Errors
    /// [`PortError::Open`].
    pub fn open(name: &str, config: &TapConfig, worker_count: u32) -> Result<Vec<Self>, PortError> {
        let flags = if worker_count > 1 { FLAGS | MULTI_QUEUE } else { FLAGS };
        (0..worker_count).map(|_| Self::attached(name, config, flags)).collect()
    }

    fn attached(name: &str, config: &TapConfig, flags: u16) -> Result<Self, PortError> {
        let failed = |call| PortError::failed(name, call);
        let fd = calls::open_device("/dev/net/tun").map_err(failed("open /dev/net/tun"))?;
        calls::until_free(|| calls::interface_request(raw(&fd), TUNSETIFF, &config.interface, flags))
            .map_err(failed("TUNSETIFF"))?;
        let header_len = c_int::try_from(HEADER_LEN).expect("10");
        calls::integer_at_request(raw(&fd), TUNSETVNETHDRSZ, header_len).map_err(failed("TUNSETVNETHDRSZ"))?;
        let offload = |offloads| calls::integer_request(raw(&fd), TUNSETOFFLOAD, offloads);
        let with_udp = match config.super_frames {
            SuperFrames::On => {
                let with_udp = offload(OFFLOADS | UDP_OFFLOADS).is_ok();
                if !with_udp {
                    offload(OFFLOADS).map_err(failed("TUNSETOFFLOAD"))?;
                }
                with_udp
            }
            SuperFrames::Off => {
                offload(0).map_err(failed("TUNSETOFFLOAD"))?;
                false
            }
        };
        Ok(Self { name: name.to_owned(), config: config.clone(), with_udp, fd })
    }
}

/// What a read found.
enum Found {
    Frame(usize),
    Nothing,
    Error,
}

/// A worker's share of a tap.
#[derive(Debug)]
pub struct TapPort {
    outlet: Outlet,
    dealer: Dealer,
    queue: TapQueue,
    wake: Arc<Wake>,
    is_receiving: bool,
    has_room: bool,
    is_gone: bool,
    counts: PortCounts,
    report: String,
}

impl TapPort {
    /// Opens a worker's share, in the thread that will drive it.
    ///
    /// # Errors
    /// [`PortError::NoRing`] when a ring is demanded and refused.
    pub fn open(queue: TapQueue, wake: Arc<Wake>, pool: &mut Pool) -> Result<Self, PortError> {
        let gather = match queue.config.super_frames {
            SuperFrames::On => Gather::On,
            SuperFrames::Off => Gather::Off,
        };
        let (outlet, way) = Outlet::open(raw(&queue.fd), pool, queue.config.io, gather)
            .map_err(|refusal| PortError::NoRing { port: queue.name.clone(), why: refusal.to_string() })?;
        let super_frames = match (queue.config.super_frames, queue.with_udp) {
            (SuperFrames::On, true) => "super-frames of TCP and UDP",
            (SuperFrames::On, false) => "super-frames of TCP",
            (SuperFrames::Off, _) => "no super-frames",
        };
        let report = format!("{}: plain reads, {way}, {super_frames}", queue.name);
        Ok(Self {
            outlet,
            dealer: Dealer::new(),
            queue,
            wake,
            is_receiving: true,
            has_room: true,
            is_gone: false,
            counts: PortCounts::default(),
            report,
        })
    }

    /// Reads the next frame: its header, its first bytes into a chunk, and the rest to where super-frames are dealt from.
    fn read(&mut self, pool: &Pool, chunk: u16, header: &mut [u8; HEADER_LEN]) -> Found {
        let first = pool.chunk_ptr(chunk).wrapping_add(HEADROOM as usize);
        let rest = &mut self.dealer.room()[FRAME_LEN_MAX as usize..];
        let parts = [
            iovec { iov_base: header.as_mut_ptr().cast(), iov_len: HEADER_LEN },
            iovec { iov_base: first.cast(), iov_len: FRAME_LEN_MAX as usize },
            iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() },
        ];
        // SAFETY: the parts are exclusively borrowed, or a chunk that we hold, to which no reference exists.
        let answer = unsafe { libc::readv(raw(&self.queue.fd), parts.as_ptr(), 3) };
        match usize::try_from(answer) {
            Ok(len) if len >= HEADER_LEN => Found::Frame(len - HEADER_LEN),
            Ok(_) => Found::Error,
            Err(_) => match io::Error::last_os_error().raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => Found::Nothing,
                Some(libc::EBADFD) => {
                    self.is_gone = true;
                    Found::Error
                }
                _ => Found::Error,
            },
        }
    }

    /// Takes the next frame; says whether there may be another.
    fn fetch(&mut self, pool: &mut Pool, burst: &mut Burst) -> bool {
        let Some(chunk) = pool.take() else { return false };
        let mut header = [0; HEADER_LEN];
        let len = match self.read(pool, chunk, &mut header) {
            Found::Frame(len) => len,
            found @ (Found::Nothing | Found::Error) => {
                self.counts.rx_errors += u64::from(matches!(found, Found::Error));
                pool.give(chunk);
                return false;
            }
        };
        let offload = Offload::parse(&header);
        if offload.is_done() {
            burst.arrived(pool, chunk, len);
            return true;
        }
        let in_chunk = len.min(FRAME_LEN_MAX as usize);
        let frame = Frame::behind_headroom(chunk, u16::try_from(in_chunk).expect("within a chunk"));
        pool.read(&frame, &mut self.dealer.room()[..in_chunk]);
        pool.release(frame);
        self.dealer.took(len, offload, &mut self.counts);
        true
    }
}

impl Port for TapPort {
    fn recv(&mut self, pool: &mut Pool, burst: &mut Burst) {
        self.outlet.flush(pool, &mut self.counts);
        while self.dealer.deal(pool, burst, &mut self.counts)
            && burst.room() > 0
            && self.is_receiving
            && !self.is_gone
            && self.fetch(pool, burst)
        {}
    }

    fn send(&mut self, pool: &mut Pool, frame: Frame) {
        self.outlet.push(pool, frame, &mut self.counts);
    }

    fn before_wait(&mut self, pool: &mut Pool) -> bool {
        self.outlet.flush(pool, &mut self.counts);
        self.has_room = pool.free_count() > 0 && !self.is_gone();
        self.has_room && self.dealer.has_waiting()
    }

    fn waits_on(&self, each: &mut dyn FnMut(RawFd, Interest)) {
        if self.has_room && self.is_receiving {
            each(raw(&self.queue.fd), Interest::Readable);
        }
        self.outlet.waits_on(each);
    }

    fn until_due(&self) -> Duration {
        self.outlet.until_due()
    }

    fn wake(&self) -> &Wake {
        &self.wake
    }

    fn end_receiving(&mut self) {
        self.is_receiving = false;
    }

    fn is_receiving(&mut self) -> bool {
        self.is_receiving && !self.is_gone || self.dealer.has_waiting()
    }

    fn close(&mut self, pool: &mut Pool) {
        self.is_receiving = false;
        self.outlet.close(pool, &self.wake, &mut self.counts);
    }

    fn counts(&self) -> PortCounts {
        self.counts
    }

    fn is_gone(&self) -> bool {
        self.is_gone || self.outlet.is_gone()
    }

    fn report(&self) -> &str {
        &self.report
    }
}
