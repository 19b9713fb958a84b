//! An interface of the kernel by a packet socket (`AF_PACKET`): frames that arrive there, beside the machine's own stack.
//!
//! Frames come through a ring that the kernel fills block by block (`TPACKET_V3`) and are copied into chunks; they leave
//! through an io_uring ring or plain calls. The kernel says before each frame what it left to the network card: checksums
//! are completed, super-frames are cut, VLAN tags stand where they stood on the wire. What the machine itself sends through
//! the interface is not heard. Several workers share an interface by flow (`PACKET_FANOUT_HASH`).
//!
//! A block is handed over when it is full or a millisecond old: a frame that comes alone waits for that long.
//!
//! Source: packet(7), `Documentation/networking/packet_mmap.rst`, `net/packet/af_packet.c`.
//!
//! Invariant: allocates nothing after it is made. An interface that is deleted costs frames, never the port's worker.

mod blocks;
mod multishot;

use std::cell::Cell;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libc::{c_int, tpacket_req3};

use super::calls::{self, Mapping, raw};
use super::offload::Dealer;
use super::outlet::{Gather, Outlet};
use super::ring_setup::Refusal;
use super::udp::IoPath;
use super::{Burst, Frame, Interest, Pool, Port, PortCounts, PortError, Wake};
use crate::limits::SOCKET_BUFFER_LEN;
use blocks::Blocks;
use multishot::Multishot;

/// Bytes of a block: a super-frame fits.
const BLOCK_LEN: u32 = 128 * 1024;
/// Blocks: some ten thousand short frames.
const BLOCK_COUNT: u32 = 32;
/// Milliseconds after which a block that is not full is handed over: the least that the kernel knows.
const BLOCK_AGE_MS: u32 = 1;
/// How long frames that had arrived may still be on their way out of the kernel when receiving ends.
const BLOCK_GRACE: Duration = Duration::from_millis(5 * BLOCK_AGE_MS as u64);
/// Joins a new group, whose number the kernel chooses (`PACKET_FANOUT_FLAG_UNIQUEID`).
const FANOUT_FLAG_UNIQUE: c_int = 0x2000;
/// Hears nothing of what the interface sends.
const PACKET_IGNORE_OUTGOING: c_int = 23;

/// Whether sends pass the interface's queueing discipline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Queueing {
    /// As the machine's own frames do.
    #[default]
    Normal,
    /// Straight to the driver: faster, and nothing shapes or shows them (`PACKET_QDISC_BYPASS`).
    Bypass,
}

/// How frames are received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Receive {
    /// In blocks that the kernel fills (`TPACKET_V3`): the most frames a second, super-frames too, each a little late.
    #[default]
    Blocks,
    /// One by one through an io_uring ring, at once and in place. Super-frames do not fit and are refused.
    Ring,
}

/// An interface, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketConfig {
    /// Its name in the name space of the thread that opens it.
    pub interface: String,
    /// How frames are received.
    pub receive: Receive,
    /// A group of sockets that share the interface's frames, in other processes too.
    pub fanout: Option<u16>,
    /// Whether sends pass its queueing discipline.
    pub queueing: Queueing,
    /// How frames are sent.
    pub io: IoPath,
}

/// One worker's socket, with its ring.
#[derive(Debug)]
pub struct PacketSocket {
    name: String,
    config: PacketConfig,
    /// The blocks, where frames come in blocks.
    ring: Option<Mapping>,
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens the sockets of an interface, one a worker; they hear nothing until their ports are opened. `name` stands in
    /// errors and reports.
    ///
    /// # Errors
    /// [`PortError::NoInterface`], [`PortError::Open`].
    pub fn open(name: &str, config: &PacketConfig, worker_count: u32) -> Result<Vec<Self>, PortError> {
        let index = calls::interface_index(&config.interface)
            .ok_or_else(|| PortError::NoInterface { port: name.to_owned() })?;
        let sockets = (0..worker_count).map(|_| Self::bound(name, config, index));
        let sockets = sockets.collect::<Result<Vec<_>, _>>()?;
        let mut group = config.fanout;
        for socket in sockets.iter().filter(|_| worker_count > 1 || config.fanout.is_some()) {
            group = Some(socket.join(group)?);
        }
        Ok(sockets)
    }

    fn bound(name: &str, config: &PacketConfig, index: u32) -> Result<Self, PortError> {
        let failed = |call| PortError::failed(name, call);
        // Without a protocol it hears nothing before it is bound.
        let fd = calls::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).map_err(failed("socket"))?;
        let set = |option, value: c_int, call| {
            calls::set_option(raw(&fd), libc::SOL_PACKET, option, &value).map_err(failed(call))
        };
        set(libc::PACKET_VNET_HDR, 1, "PACKET_VNET_HDR")?;
        set(PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING")?;
        if config.queueing == Queueing::Bypass {
            set(libc::PACKET_QDISC_BYPASS, 1, "PACKET_QDISC_BYPASS")?;
        }
        let ring = match config.receive {
            Receive::Blocks => {
                set(libc::PACKET_VERSION, libc::tpacket_versions::TPACKET_V3 as c_int, "PACKET_VERSION")?;
                let request = tpacket_req3 {
                    tp_block_size: BLOCK_LEN,
                    tp_block_nr: BLOCK_COUNT,
                    // Blocks hold frames of any length; the kernel wants this to divide them.
                    tp_frame_size: BLOCK_LEN,
                    tp_frame_nr: BLOCK_COUNT,
                    tp_retire_blk_tov: BLOCK_AGE_MS,
                    tp_sizeof_priv: 0,
                    tp_feature_req_word: 0,
                };
                calls::set_option(raw(&fd), libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
                    .map_err(failed("PACKET_RX_RING"))?;
                let ring = Mapping::new(raw(&fd), 0, (BLOCK_LEN * BLOCK_COUNT) as usize).map_err(failed("mmap"))?;
                Some(ring)
            }
            Receive::Ring => {
                set(libc::PACKET_AUXDATA, 1, "PACKET_AUXDATA")?;
                calls::set_option(raw(&fd), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &SOCKET_BUFFER_LEN)
                    .map_err(failed("SO_RCVBUFFORCE"))?;
                None
            }
        };
        // It hears nothing until all sockets have joined their group: each frame goes to one.
        let nothing = libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 };
        calls::attach_filter(raw(&fd), &[nothing]).map_err(failed("SO_ATTACH_FILTER"))?;
        let addr = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).expect("address families are small"),
            sll_protocol: u16::try_from(libc::ETH_P_ALL).expect("protocols have 16 bits").to_be(),
            sll_ifindex: index.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        calls::bind_packet(raw(&fd), &addr).map_err(failed("bind"))?;
        let promiscuous = [index, u32::try_from(libc::PACKET_MR_PROMISC).expect("small"), 0, 0];
        calls::set_option(raw(&fd), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &promiscuous)
            .map_err(failed("PACKET_ADD_MEMBERSHIP"))?;
        Ok(Self { name: name.to_owned(), config: config.clone(), ring, fd })
    }

    /// Joins a group, or a new one; its number.
    fn join(&self, group: Option<u16>) -> Result<u16, PortError> {
        let failed = PortError::failed(&self.name, "PACKET_FANOUT");
        let mode = c_int::try_from(libc::PACKET_FANOUT_HASH).expect("small");
        let wanted = match group {
            Some(group) => c_int::from(group) | mode << 16,
            None => (mode | FANOUT_FLAG_UNIQUE) << 16,
        };
        calls::set_option(raw(&self.fd), libc::SOL_PACKET, libc::PACKET_FANOUT, &wanted).map_err(&failed)?;
        let mut joined: c_int = 0;
        calls::option(raw(&self.fd), libc::SOL_PACKET, libc::PACKET_FANOUT, &mut joined).map_err(&failed)?;
        Ok(u16::try_from(joined & 0xffff).expect("masked"))
    }
}

/// Whether frames are still taken from the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    On,
    /// What had arrived may still come out.
    Ending(Instant),
}

/// Where frames come in.
#[derive(Debug)]
enum Arrivals {
    Blocks(Blocks, Mapping),
    Ring(Box<Multishot>),
}

/// A worker's share of an interface.
#[derive(Debug)]
pub struct PacketPort {
    outlet: Outlet,
    arrivals: Arrivals,
    dealer: Dealer,
    socket: PacketSocket,
    wake: Arc<Wake>,
    receiving: Receiving,
    has_room: bool,
    is_gone: bool,
    counts: PortCounts,
    dropped: Cell<u64>,
    report: String,
}

impl PacketPort {
    /// Opens a worker's share, in the thread that will drive it.
    ///
    /// # Errors
    /// [`PortError::NoRing`] when a ring is demanded and refused; [`PortError::Open`].
    pub fn open(mut socket: PacketSocket, wake: Arc<Wake>, pool: &mut Pool) -> Result<Self, PortError> {
        let (outlet, way) = Outlet::open(raw(&socket.fd), pool, socket.config.io, Gather::On)
            .map_err(|refusal| PortError::NoRing { port: socket.name.clone(), why: refusal.to_string() })?;
        let no_ring = |refusal: Refusal| PortError::NoRing { port: socket.name.clone(), why: refusal.to_string() };
        let (arrivals, receive) = match socket.ring.take() {
            Some(ring) => {
                (Arrivals::Blocks(Blocks::new(BLOCK_LEN as usize, BLOCK_COUNT as usize), ring), "TPACKET_V3 receive")
            }
            None => {
                let ring = Multishot::open(raw(&socket.fd), pool).map_err(no_ring)?;
                (Arrivals::Ring(Box::new(ring)), "io_uring receive in place")
            }
        };
        calls::set_option(raw(&socket.fd), libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0)
            .map_err(PortError::failed(&socket.name, "SO_DETACH_FILTER"))?;
        let report = format!("{}: {receive}, {way}", socket.name);
        Ok(Self {
            outlet,
            arrivals,
            dealer: Dealer::new(),
            socket,
            wake,
            receiving: Receiving::On,
            has_room: true,
            is_gone: false,
            counts: PortCounts::default(),
            dropped: Cell::new(0),
            report,
        })
    }

    /// Asks the kernel what went wrong with the socket since it was last asked.
    fn look_for_errors(&mut self) {
        let mut errno: c_int = 0;
        let asked = calls::option(raw(&self.socket.fd), libc::SOL_SOCKET, libc::SO_ERROR, &mut errno);
        let failed_before = match &mut self.arrivals {
            Arrivals::Blocks(..) => false,
            Arrivals::Ring(ring) => ring.take_failed(),
        };
        if failed_before || asked.is_ok() && errno != 0 {
            self.counts.rx_errors += u64::from(!failed_before);
            self.is_gone = calls::bound_interface(raw(&self.socket.fd)).is_none();
        }
    }
}

impl Port for PacketPort {
    fn recv(&mut self, pool: &mut Pool, burst: &mut Burst) {
        self.outlet.flush(pool, &mut self.counts);
        let counts = &mut self.counts;
        match &mut self.arrivals {
            Arrivals::Blocks(blocks, ring) => {
                while self.dealer.deal(pool, burst, counts) && blocks.next(ring, pool, burst, &mut self.dealer, counts)
                {
                }
            }
            Arrivals::Ring(ring) => {
                while self.dealer.deal(pool, burst, counts) && ring.next(pool, burst, &mut self.dealer, counts) {}
            }
        }
    }

    fn send(&mut self, pool: &mut Pool, frame: Frame) {
        self.outlet.push(pool, frame, &mut self.counts);
    }

    fn before_wait(&mut self, pool: &mut Pool) -> bool {
        self.outlet.flush(pool, &mut self.counts);
        self.has_room = pool.free_count() > 0 && !self.is_gone();
        if !self.is_gone {
            self.look_for_errors();
        }
        let is_there = match &mut self.arrivals {
            Arrivals::Blocks(blocks, ring) => blocks.has_waiting(ring),
            // Chunks that it was offered it fills though none is free.
            Arrivals::Ring(ring) => {
                return !self.is_gone && ring.before_wait(pool) || self.dealer.has_waiting() && self.has_room;
            }
        };
        self.has_room && (self.dealer.has_waiting() || is_there)
    }

    fn waits_on(&self, each: &mut dyn FnMut(RawFd, Interest)) {
        match &self.arrivals {
            Arrivals::Blocks(..) if self.has_room && self.receiving == Receiving::On => {
                each(raw(&self.socket.fd), Interest::Readable);
            }
            Arrivals::Ring(ring) if !self.is_gone => each(ring.bell(), Interest::Readable),
            Arrivals::Blocks(..) | Arrivals::Ring(_) => {}
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
        if self.receiving == Receiving::On {
            let nothing = libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 };
            // Where the kernel refuses it, frames come for as long as the worker takes them.
            let _ = calls::attach_filter(raw(&self.socket.fd), &[nothing]);
            self.receiving = Receiving::Ending(Instant::now() + BLOCK_GRACE);
            if let Arrivals::Ring(ring) = &mut self.arrivals {
                ring.end();
            }
        }
    }

    fn is_receiving(&mut self) -> bool {
        let in_kernel = match self.receiving {
            Receiving::On => !self.is_gone,
            Receiving::Ending(until) => Instant::now() < until,
        };
        let is_there = match &mut self.arrivals {
            Arrivals::Blocks(blocks, ring) => blocks.has_waiting(ring),
            Arrivals::Ring(ring) => !self.is_gone && ring.is_receiving(),
        };
        in_kernel || self.dealer.has_waiting() || is_there
    }

    fn close(&mut self, pool: &mut Pool) {
        self.end_receiving();
        if let Arrivals::Ring(ring) = &mut self.arrivals {
            self.dropped.set(self.dropped.get() + ring.close(pool));
        }
        self.outlet.close(pool, &self.wake, &mut self.counts);
    }

    fn counts(&self) -> PortCounts {
        self.counts
    }

    fn dropped(&self) -> u64 {
        // Packets, drops, times that the ring was full; the kernel begins anew whenever it is asked.
        let mut fields = [0u32; 3];
        if calls::option(raw(&self.socket.fd), libc::SOL_PACKET, libc::PACKET_STATISTICS, &mut fields).is_ok() {
            self.dropped.set(self.dropped.get() + u64::from(fields[1]));
        }
        self.dropped.get()
    }

    fn is_gone(&self) -> bool {
        self.is_gone || self.outlet.is_gone()
    }

    fn report(&self) -> &str {
        &self.report
    }
}
