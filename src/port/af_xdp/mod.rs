//! An interface of the kernel by AF_XDP: the kernel's driver, or its generic path, writes frames into our chunks.
//!
//! The memory that a socket shares with the kernel is that of the cage, so a program judges a frame where the kernel put it,
//! behind the headroom that both agree on, and it is sent from there. A program of a few instructions on the interface hands
//! over the frames; worker 0 takes those of queue 0, and so on. Frames of other queues go to the machine's own stack.
//!
//! The kernel says nothing here of what it left to the network card: frames that its own stack made arrive with checksums
//! undone and, in generic mode, as super-frames, which are dropped. `ethtool -K PEER tx off` on the other end of a veth
//! mends both.
//!
//! An interface that is down costs the socket: what the kernel has in its rings it would send when the interface is up again,
//! from chunks that others have by then. A new socket is bound in its place.
//!
//! Source: `Documentation/networking/af_xdp.rst`, `net/xdp/xsk.c`.
//!
//! Invariant: allocates nothing after it is made. A chunk that the kernel may touch is not in the pool.

mod redirect;
mod rings;

use std::fmt;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libc::c_int;

use super::calls::{self, raw};
use super::{Burst, Frame, Interest, Pool, Port, PortCounts, PortError, Sleep, Wake};
use crate::cage::Region;
use crate::limits::{CHUNK_LEN, CLOSE_MS_MAX, FRAME_LEN_MIN, HEADROOM, RECEIVE_CHUNKS};
use redirect::Redirect;
use rings::{Descriptor, Rings};

/// Bytes before a frame that the kernel leaves free by itself (`XDP_PACKET_HEADROOM`).
const KERNEL_HEADROOM: u32 = 256;
const _: () = assert!(KERNEL_HEADROOM == HEADROOM, "frames lie where the kernel puts them");
/// Calls that send what is queued, 32 frames each, before the rest is left to the next turn.
const KICKS_MAX: u32 = 64;
/// How long until a kernel that takes nothing is asked again.
const BUSY_RETRY: Duration = Duration::from_micros(200);
/// How long until chunks that are being sent are looked for.
const SENT_RETRY: Duration = Duration::from_millis(1);
/// How long until a new socket is tried where an interface was down.
const OPEN_RETRY: Duration = Duration::from_millis(50);

/// Where in the kernel frames are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the generic path, which every interface has.
    #[default]
    Generic,
    /// In the driver, copied into our chunks.
    Driver,
}

impl XdpMode {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Generic, Self::Driver];

    /// Its name in options and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Driver => "driver",
        }
    }

    /// `XDP_FLAGS_SKB_MODE`, `XDP_FLAGS_DRV_MODE`.
    fn flags(self) -> u32 {
        match self {
            Self::Generic => 1 << 1,
            Self::Driver => 1 << 2,
        }
    }
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no mode.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("mode {word:?}: no such mode of AF_XDP; use generic or driver")]
pub struct UnknownXdpMode {
    /// The word.
    pub word: String,
}

impl FromStr for XdpMode {
    type Err = UnknownXdpMode;

    fn from_str(word: &str) -> Result<Self, UnknownXdpMode> {
        Self::ALL.into_iter().find(|mode| mode.name() == word).ok_or_else(|| UnknownXdpMode { word: word.to_owned() })
    }
}

/// An interface, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpConfig {
    /// Its name in the name space of the thread that opens it.
    pub interface: String,
    /// Where frames are taken.
    pub mode: XdpMode,
}

/// One worker's queue of an interface.
#[derive(Debug)]
pub struct XdpQueue {
    name: String,
    mode: XdpMode,
    interface: u32,
    queue: u32,
    redirect: Arc<Redirect>,
}

impl XdpQueue {
    /// Attaches the program that hands frames over, and gives a queue to each worker; until their ports are opened, frames go
    /// to the machine's own stack. `name` stands in errors and reports.
    ///
    /// # Errors
    /// [`PortError::NoInterface`], [`PortError::Open`].
    pub fn open(name: &str, config: &XdpConfig, worker_count: u32) -> Result<Vec<Self>, PortError> {
        let interface = calls::interface_index(&config.interface)
            .ok_or_else(|| PortError::NoInterface { port: name.to_owned() })?;
        let redirect = Redirect::attach(interface, config.mode.flags(), worker_count)
            .map_err(|(step, source)| PortError::failed(name, step)(source))?;
        let redirect = Arc::new(redirect);
        let queue = |queue| Self {
            name: name.to_owned(),
            mode: config.mode,
            interface,
            queue,
            redirect: Arc::clone(&redirect),
        };
        Ok((0..worker_count).map(queue).collect())
    }
}

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Elsewhere,
    Receiving,
    Sending,
}

/// What came of a call that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kicked {
    /// All that can be done now.
    Done,
    /// The interface takes nothing.
    Down,
}

/// How the interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Up,
    /// It took nothing: the socket goes, and from this time on another is tried.
    Down(Instant),
    /// It was deleted.
    Gone,
}

/// What the kernel knows us by; both are gone when it may touch no chunk any more.
#[derive(Debug)]
struct Open {
    // Dropped first: a mapping holds the socket.
    rings: Rings,
    fd: OwnedFd,
}

impl Open {
    /// A socket that shares the pool's chunks; its rings are empty.
    fn new(pool: &Pool) -> Result<Self, (&'static str, io::Error)> {
        let failed = |step| move |error| (step, error);
        let fd = calls::socket(libc::AF_XDP, libc::SOCK_RAW, 0).map_err(failed("socket"))?;
        let memory = libc::xdp_umem_reg {
            addr: pool.region().host_ptr().expose_provenance() as u64,
            len: u64::from(pool.count()) * u64::from(CHUNK_LEN),
            chunk_size: CHUNK_LEN,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        calls::set_option(raw(&fd), libc::SOL_XDP, libc::XDP_UMEM_REG, &memory).map_err(failed("XDP_UMEM_REG"))?;
        let count = u32::from(RECEIVE_CHUNKS).next_power_of_two();
        let send_count = u32::from(pool.count()).next_power_of_two();
        let rings = Rings::open(&fd, count, send_count)?;
        Ok(Self { rings, fd })
    }

    fn bind(&self, queue: &XdpQueue) -> io::Result<()> {
        let addr = libc::sockaddr_xdp {
            sxdp_family: u16::try_from(libc::AF_XDP).expect("address families are small"),
            sxdp_flags: libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP,
            sxdp_ifindex: queue.interface,
            sxdp_queue_id: queue.queue,
            sxdp_shared_umem_fd: 0,
        };
        calls::bind_xdp(raw(&self.fd), &addr)
    }
}

/// A worker's share of an interface.
#[derive(Debug)]
pub struct XdpPort {
    open: Option<Open>,
    queue: XdpQueue,
    held: Box<[Held]>,
    /// Bytes of the frame that each chunk sends.
    lens: Box<[u16]>,
    receiving_count: u16,
    sending_count: u16,
    /// Frames for which the ring had no room, in order.
    queued: std::collections::VecDeque<Frame>,
    is_busy: bool,
    is_receiving: bool,
    has_room: bool,
    line: Line,
    wake: Arc<Wake>,
    counts: PortCounts,
    /// What the kernel dropped of the sockets before this one, and of all.
    dropped_before: u64,
    dropped: std::cell::Cell<u64>,
    report: String,
    _region: Arc<Region>,
}

impl XdpPort {
    /// Opens a worker's share, in the thread that will drive it.
    ///
    /// # Errors
    /// [`PortError::Open`].
    pub fn open(queue: XdpQueue, wake: Arc<Wake>, pool: &mut Pool) -> Result<Self, PortError> {
        let failed = |call| PortError::failed(&queue.name, call);
        let open = Open::new(pool).map_err(|(step, error)| failed(step)(error))?;
        calls::until_free(|| open.bind(&queue)).map_err(failed("bind"))?;
        let report = format!("{}: AF_XDP, {} mode, queue {}, in place", queue.name, queue.mode, queue.queue);
        let mut port = Self {
            open: Some(open),
            queue,
            lens: vec![0; pool.count().into()].into(),
            held: vec![Held::Elsewhere; pool.count().into()].into(),
            receiving_count: 0,
            sending_count: 0,
            queued: std::collections::VecDeque::with_capacity(pool.count().into()),
            is_busy: false,
            is_receiving: true,
            has_room: true,
            line: Line::Up,
            wake,
            counts: PortCounts::default(),
            dropped_before: 0,
            dropped: std::cell::Cell::new(0),
            report,
            _region: Arc::clone(pool.region()),
        };
        port.offer(pool);
        port.hear().map_err(PortError::failed(&port.queue.name, "BPF_MAP_UPDATE_ELEM"))?;
        Ok(port)
    }

    /// Has the interface's frames handed to the socket.
    fn hear(&self) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), |open| self.queue.redirect.set(self.queue.queue, &open.fd))
    }

    /// Binds a new socket where an interface was down, without waiting.
    fn open_again(&mut self, pool: &mut Pool) {
        let Line::Down(after) = self.line else { return };
        if self.open.is_some() || !self.is_receiving || Instant::now() < after {
            return;
        }
        self.line = Line::Down(Instant::now() + OPEN_RETRY);
        // What the kernel refuses now, it may take the next time.
        let Ok(open) = Open::new(pool) else { return };
        match open.bind(&self.queue) {
            Ok(()) => {
                self.open = Some(open);
                self.offer(pool);
                if self.hear().is_ok() {
                    self.line = Line::Up;
                } else {
                    self.let_go(pool);
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => self.gone(),
            Err(_) => {}
        }
    }

    fn gone(&mut self) {
        self.counts.rx_errors += 1;
        self.line = Line::Gone;
    }

    /// Offers the kernel free chunks, half of those that a port may hold.
    fn offer(&mut self, pool: &mut Pool) {
        let Some(open) = &mut self.open else { return };
        while self.is_receiving
            && self.receiving_count < RECEIVE_CHUNKS / 2
            && let Some(chunk) = pool.take()
        {
            if !open.rings.offer(u64::from(chunk) * u64::from(CHUNK_LEN)) {
                pool.give(chunk);
                return;
            }
            self.held[usize::from(chunk)] = Held::Receiving;
            self.receiving_count += 1;
        }
    }

    /// The chunk of an address, if the kernel has it for this.
    fn taken_back(&mut self, addr: u64, was: Held) -> Option<u16> {
        let chunk = u16::try_from(addr / u64::from(CHUNK_LEN)).ok()?;
        let held = self.held.get_mut(usize::from(chunk)).filter(|held| **held == was)?;
        *held = Held::Elsewhere;
        Some(chunk)
    }

    /// Takes back what was sent, queues what waits and lets the kernel send it.
    fn flush(&mut self, pool: &mut Pool) {
        self.is_busy = false;
        self.reap(pool);
        self.queue_up();
        if self.kick() == Kicked::Down && self.line == Line::Up {
            self.line = Line::Down(Instant::now() + OPEN_RETRY);
        }
        self.reap(pool);
    }

    /// Moves what waits to the ring.
    fn queue_up(&mut self) {
        while let (Some(open), Some(frame)) = (&mut self.open, self.queued.front()) {
            let addr = u64::from(frame.chunk) * u64::from(CHUNK_LEN) + u64::from(frame.offset);
            if !open.rings.send(Descriptor { addr, len: frame.len() }) {
                break;
            }
            let frame = self.queued.pop_front().expect("seen above");
            self.lens[usize::from(frame.chunk)] = frame.len;
            self.held[usize::from(frame.chunk)] = Held::Sending;
            self.sending_count += 1;
        }
    }

    /// Lets the kernel send what is queued.
    fn kick(&mut self) -> Kicked {
        let Some(open) = &self.open else { return Kicked::Done };
        if self.line != Line::Up || !open.rings.asks_to_send() {
            return Kicked::Done;
        }
        for _ in 0..KICKS_MAX {
            let unsent = open.rings.unsent();
            if unsent == 0 {
                return Kicked::Done;
            }
            match calls::kick(raw(&open.fd)) {
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    // It sends so many at a time; where it sent none, its buffer is full.
                    Some(libc::EAGAIN) if open.rings.unsent() < unsent => {}
                    Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::ENOMEM | libc::EINTR) => break,
                    // The interface is down or gone.
                    _ => {
                        self.look_for_errors();
                        return Kicked::Down;
                    }
                },
            }
        }
        self.is_busy = open.rings.unsent() > 0;
        Kicked::Done
    }

    fn reap(&mut self, pool: &mut Pool) {
        while let Some(addr) = self.open.as_mut().and_then(|open| open.rings.take_sent()) {
            match self.taken_back(addr, Held::Sending) {
                Some(chunk) => {
                    pool.give(chunk);
                    self.sending_count -= 1;
                    self.counts.tx_frames += 1;
                    self.counts.tx_bytes += u64::from(self.lens[usize::from(chunk)]);
                }
                None => self.counts.rx_errors += 1,
            }
        }
    }

    fn look_for_errors(&mut self) {
        let Some(open) = &self.open else { return };
        let mut errno: c_int = 0;
        let asked = calls::option(raw(&open.fd), libc::SOL_SOCKET, libc::SO_ERROR, &mut errno);
        if asked.is_ok() && errno != 0 && self.line != Line::Gone {
            // The kernel says it once, when it has let go of the interface.
            self.gone();
        }
    }

    /// Counts what the kernel lost, and then what is asked for.
    fn read_dropped(&self) -> u64 {
        let mut fields = [0u64; 6];
        let Some(open) = &self.open else { return self.dropped.get() };
        if calls::option(raw(&open.fd), libc::SOL_XDP, libc::XDP_STATISTICS, &mut fields).is_ok() {
            // Dropped for want of a chunk or because too long; dropped because our ring was full.
            self.dropped.set(self.dropped_before + fields[0] + fields[3]);
        }
        self.dropped.get()
    }

    /// Gives back what the kernel cannot touch any more.
    fn reclaim(&mut self, pool: &mut Pool) {
        for (chunk, held) in (0u16..).zip(&mut self.held) {
            match std::mem::replace(held, Held::Elsewhere) {
                Held::Elsewhere => continue,
                Held::Receiving => {}
                Held::Sending => self.counts.tx_errors += 1,
            }
            pool.give(chunk);
        }
        (self.receiving_count, self.sending_count) = (0, 0);
        for frame in self.queued.drain(..) {
            self.counts.tx_errors += 1;
            pool.release(frame);
        }
    }

    /// Lets go of the socket.
    fn let_go(&mut self, pool: &mut Pool) {
        self.dropped_before = self.read_dropped();
        self.open = None;
        self.reclaim(pool);
    }
}

impl Port for XdpPort {
    fn recv(&mut self, pool: &mut Pool, burst: &mut Burst) {
        self.open_again(pool);
        self.flush(pool);
        while burst.room() > 0
            && let Some(frame) = self.open.as_mut().and_then(|open| open.rings.take_received())
        {
            let offset = frame.addr % u64::from(CHUNK_LEN);
            match self.taken_back(frame.addr, Held::Receiving) {
                Some(chunk) => {
                    self.receiving_count -= 1;
                    if offset == u64::from(HEADROOM) {
                        burst.arrived(pool, chunk, frame.len as usize);
                    } else {
                        self.counts.rx_errors += 1;
                        pool.give(chunk);
                    }
                }
                None => self.counts.rx_errors += 1,
            }
        }
        self.offer(pool);
        if self.line != Line::Up && self.open.as_ref().is_some_and(|open| !open.rings.has_received()) {
            self.let_go(pool);
        }
    }

    fn send(&mut self, pool: &mut Pool, frame: Frame) {
        if self.open.is_none() || frame.len() < FRAME_LEN_MIN {
            self.counts.tx_errors += 1;
            pool.release(frame);
        } else {
            self.queued.push_back(frame);
        }
    }

    fn before_wait(&mut self, pool: &mut Pool) -> bool {
        self.flush(pool);
        self.offer(pool);
        self.look_for_errors();
        self.has_room = pool.free_count() > 0 || self.receiving_count > 0;
        self.open.as_ref().is_some_and(|open| self.line != Line::Up || open.rings.has_received())
    }

    fn waits_on(&self, each: &mut dyn FnMut(RawFd, Interest)) {
        if let Some(open) = self.open.as_ref().filter(|_| self.has_room && self.is_receiving) {
            each(raw(&open.fd), Interest::Readable);
        }
    }

    fn until_due(&self) -> Duration {
        match (self.line, self.is_busy, self.sending_count) {
            (Line::Down(after), ..) if self.is_receiving => after.saturating_duration_since(Instant::now()),
            (_, true, _) => BUSY_RETRY,
            (_, false, 0) => Duration::MAX,
            (_, false, _) => SENT_RETRY,
        }
    }

    fn wake(&self) -> &Wake {
        &self.wake
    }

    fn end_receiving(&mut self) {
        if std::mem::take(&mut self.is_receiving) {
            // Where it fails, the interface has gone.
            let _ = self.queue.redirect.clear(self.queue.queue);
        }
    }

    fn is_receiving(&mut self) -> bool {
        self.is_receiving && self.line != Line::Gone || self.open.as_ref().is_some_and(|open| open.rings.has_received())
    }

    fn close(&mut self, pool: &mut Pool) {
        self.end_receiving();
        let deadline = Instant::now() + Duration::from_millis(CLOSE_MS_MAX);
        self.flush(pool);
        while (self.sending_count > 0 || !self.queued.is_empty()) && self.line == Line::Up && Instant::now() < deadline
        {
            Sleep::new().block(&self.wake, BUSY_RETRY);
            self.flush(pool);
        }
        self.let_go(pool);
    }

    fn counts(&self) -> PortCounts {
        self.counts
    }

    fn dropped(&self) -> u64 {
        self.read_dropped()
    }

    fn is_gone(&self) -> bool {
        self.line == Line::Gone
    }

    fn report(&self) -> &str {
        &self.report
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::cage::Cage;
    use crate::limits::OUTBOX_CHUNKS;
    use crate::port::packet::{PacketConfig, PacketPort, PacketSocket, Queueing, Receive};
    use crate::port::udp::IoPath;

    fn ip(arguments: &str) {
        let answer = Command::new("ip").args(arguments.split(' ')).output().expect("ip of iproute2");
        assert!(answer.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&answer.stderr));
    }

    fn skipped(why: &str) {
        assert!(std::env::var_os("REQUIRE_ALL").is_none_or(|value| value != "1"), "REQUIRE_ALL=1, but {why}");
        println!("skipped: {why}");
    }

    fn send(port: &mut XdpPort, pool: &mut Pool, number: u8) {
        assert!(pool.outbox().put(&[number; 60]), "a free chunk");
        let frame = pool.outbox().take().expect("just put");
        port.send(pool, frame);
    }

    fn heard(port: &mut PacketPort, pool: &mut Pool, numbers: &mut Vec<u8>) {
        let mut burst = Burst::new();
        port.recv(pool, &mut burst);
        while let Some(frame) = burst.take() {
            let mut bytes = [0; 60];
            pool.read(&frame, &mut bytes);
            // The stack says things of its own when an interface comes up.
            numbers.extend(Some(bytes[20]).filter(|number| bytes == [*number; 60]));
            pool.release(frame);
        }
    }

    #[test]
    fn what_an_interface_took_half_of_when_it_went_down_is_not_sent_when_it_is_up_again() {
        let test = || {
            if let Err(error) = calls::leave_network_namespace() {
                return skipped(&format!("no network namespace: {error}"));
            }
            ip("link add dev left type veth peer name right");
            for end in ["left", "right"] {
                ip(&format!("link set dev {end} addrgenmode none"));
                ip(&format!("link set dev {end} arp off multicast off up"));
            }
            let cage = Cage::new().expect("address space");
            let mut pool = Pool::new(&cage, 2 * RECEIVE_CHUNKS, OUTBOX_CHUNKS).expect("room");
            let wake = Arc::new(Wake::new().expect("a descriptor"));
            let (receive, queueing, io) = (Receive::Blocks, Queueing::Normal, IoPath::Plain);
            let config = PacketConfig { interface: "left".to_owned(), receive, fanout: None, queueing, io };
            let socket = PacketSocket::open("packet:left", &config, 1).expect("a socket").remove(0);
            let mut left = PacketPort::open(socket, Arc::clone(&wake), &mut pool).expect("a port");
            let config = XdpConfig { interface: "right".to_owned(), mode: XdpMode::Generic };
            let queue = match XdpQueue::open("af_xdp:right", &config, 1) {
                Ok(mut queues) => queues.remove(0),
                Err(error) => return skipped(&error.to_string()),
            };
            let mut right = XdpPort::open(queue, Arc::clone(&wake), &mut pool).expect("a port");
            for _ in 0..100 {
                send(&mut right, &mut pool, 1);
            }
            right.queue_up();
            let fd = raw(&right.open.as_ref().expect("open").fd);
            assert_eq!(calls::kick(fd).expect_err("more is queued").raw_os_error(), Some(libc::EAGAIN));
            let unsent = right.open.as_ref().expect("open").rings.unsent();
            assert!(0 < unsent && unsent < 100, "{unsent}");
            ip("link set dev right down");
            let mut burst = Burst::new();
            right.recv(&mut pool, &mut burst);
            assert_eq!(right.counts().tx_frames + right.counts().tx_errors, 100);
            assert_eq!(right.counts().tx_errors, u64::from(unsent));
            assert!(pool.outbox().is_idle() && !right.is_gone(), "an interface that is down keeps no chunks");
            ip("link set dev right up");
            let (mut numbers, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(20));
            while !numbers.contains(&2) {
                send(&mut right, &mut pool, 2);
                right.recv(&mut pool, &mut burst);
                heard(&mut left, &mut pool, &mut numbers);
                Sleep::new().block(&wake, BUSY_RETRY);
                assert!(Instant::now() < deadline, "never up again: {:?}", right.counts());
            }
            let stale = numbers.iter().filter(|number| **number == 1).count();
            assert_eq!(stale, 100 - usize::try_from(unsent).expect("few"), "{numbers:?}");
            right.close(&mut pool);
            left.close(&mut pool);
            assert_eq!(pool.free_count(), usize::from(pool.own_count()), "chunks of the worker");
        };
        std::thread::spawn(test).join().expect("the test");
    }
}
