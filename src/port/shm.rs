//! A wire in memory between two processes of one machine: a ring of frames in each direction.
//!
//! The two meet at a Unix socket: who comes first listens, and hands the second a piece of memory whose length nobody can
//! change. The socket stays: a byte on it wakes a peer that sleeps, and its end tells that the peer has gone. Then the first
//! listens again, and the second looks for another first. Worker `n` meets worker `n` of the peer, at the path with `.n` for all
//! but worker 0.
//!
//! Invariant: allocates nothing while connected. The peer is not trusted: an index that cannot be ends the connection, a length
//! is read once and checked, and no call waits for it. What it writes into a frame, it writes into its own traffic.
//! Invariant: nobody but our user and root is a peer. A socket that a live end listens on is never replaced.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::calls::{self, Mapping};
use super::{Burst, Frame, Interest, Pool, Port, PortCounts, PortError, Wake};
use crate::limits::{FRAME_LEN_MAX, PAGE_LEN};

/// Frames of a ring.
const SLOTS: u32 = 256;
/// Bytes of a frame's slot: its length, and from the next cache line on the frame.
const SLOT_LEN: usize = 2048;
const FRAME_AT: usize = 64;
const _: () = assert!(FRAME_AT + FRAME_LEN_MAX as usize <= SLOT_LEN);
/// Where a ring's indices stand, on cache lines of their own, and whether its consumer sleeps.
const PRODUCER_AT: usize = 0;
const CONSUMER_AT: usize = 64;
const ASLEEP_AT: usize = 128;
/// Bytes of a ring, and of both.
const RING_LEN: usize = PAGE_LEN as usize + SLOTS as usize * SLOT_LEN;
const MEMORY_LEN: usize = 2 * RING_LEN;
/// Frames after which the peer is shown what was sent.
const SHOWN_AFTER: u32 = 32;
/// How often an end without a peer looks for one, and a busy one whether its peer is there.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where an end is.
enum State {
    /// The first of the two: a peer may come.
    Listening,
    /// The second: it has connected and waits for the memory.
    Greeting(UnixStream),
    /// Both are there.
    Connected(Box<Peer>),
    /// The second, whose first has gone.
    Alone,
}

/// A peer and the memory that we share with it.
struct Peer {
    socket: UnixStream,
    memory: Mapping,
    /// Where the rings begin in which we produce and consume.
    out_at: usize,
    in_at: usize,
    /// The indices that are ours.
    produced: u32,
    shown: u32,
    consumed: u32,
    /// What the peer was told of us.
    told: Rest,
    /// Whether its socket has ended: nothing new will come.
    has_gone: bool,
}

/// Which of the two an end is.
#[derive(Clone, Copy)]
enum Place {
    First,
    Second,
}

/// Whether an end must be woken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Awake,
    Asleep,
}

/// What an index of the peer's says of a ring.
enum Backlog {
    Count(u32),
    /// More than a ring holds.
    Impossible,
}

impl Peer {
    fn new(socket: UnixStream, memory: Mapping, place: Place) -> Self {
        let (out_at, in_at) = match place {
            Place::First => (0, RING_LEN),
            Place::Second => (RING_LEN, 0),
        };
        let (produced, shown, consumed) = (0, 0, 0);
        Self { socket, memory, out_at, in_at, produced, shown, consumed, told: Rest::Awake, has_gone: false }
    }

    fn slot(ring_at: usize, index: u32) -> usize {
        ring_at + PAGE_LEN as usize + (index % SLOTS) as usize * SLOT_LEN
    }

    /// Frames that the peer has not consumed yet.
    fn unconsumed(&self) -> Backlog {
        let consumed = self.memory.word(self.out_at + CONSUMER_AT).load(Ordering::Acquire);
        bounded(self.produced.wrapping_sub(consumed))
    }

    /// Frames of the peer's that wait.
    fn waiting(&self) -> Backlog {
        let produced = self.memory.word(self.in_at + PRODUCER_AT).load(Ordering::Acquire);
        bounded(produced.wrapping_sub(self.consumed))
    }

    /// Shows the peer what was sent, and wakes it if it sleeps.
    fn show(&mut self) {
        if self.shown == self.produced {
            return;
        }
        self.shown = self.produced;
        self.memory.word(self.out_at + PRODUCER_AT).store(self.produced, Ordering::Release);
        fence(Ordering::SeqCst);
        let asleep = self.memory.word(self.out_at + ASLEEP_AT);
        if asleep.load(Ordering::Relaxed) != 0 {
            asleep.store(0, Ordering::Relaxed);
            // A full socket wakes it as well; one that has ended is noticed when it is read.
            let _ = self.socket.write(&[1]);
        }
    }

    /// Tells the peer whether we sleep.
    fn tell(&mut self, rest: Rest) {
        if std::mem::replace(&mut self.told, rest) != rest {
            self.memory.word(self.in_at + ASLEEP_AT).store((rest == Rest::Asleep).into(), Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
    }

    /// Reads away what woke us and notices when the peer has gone.
    fn look(&mut self) {
        let mut bytes = [0; 64];
        match self.socket.read(&mut bytes) {
            Ok(0) => self.has_gone = true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.has_gone = true,
        }
    }
}

fn bounded(count: u32) -> Backlog {
    if count <= SLOTS { Backlog::Count(count) } else { Backlog::Impossible }
}

/// One worker's end of a wire in memory.
pub struct ShmShare {
    name: String,
    path: String,
    listener: Option<UnixListener>,
    /// The file that it listens at: another's is never removed.
    file: Option<SocketFile>,
    state: State,
}

/// What tells a socket file from all others.
#[derive(Clone, Copy, PartialEq, Eq)]
struct SocketFile {
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn at(path: &str) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|found| Self { device: found.dev(), inode: found.ino() })
    }
}

impl fmt::Debug for ShmShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmShare").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ShmShare {
    /// Takes one end at a path for each worker.
    ///
    /// # Errors
    /// [`PortError::Open`].
    pub fn open(path: &str, worker_count: u32) -> Result<Vec<Self>, PortError> {
        let share = |index| {
            let path = if index == 0 { path.to_owned() } else { format!("{path}.{index}") };
            let name = format!("shm:{path}");
            let mut share = Self { name, path, listener: None, file: None, state: State::Alone };
            share.meet().map_err(PortError::failed(&share.name, "meeting at the path"))?;
            Ok(share)
        };
        (0..worker_count).map(share).collect()
    }

    /// Connects to who is there, or listens; where others are about to do either, it is tried again later.
    fn meet(&mut self) -> io::Result<()> {
        if self.is_met()? {
            return Ok(());
        }
        // Ends that start together: one at a time looks again and listens, so that none takes another's for a dead one's.
        let folder = match Path::new(&self.path).parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let folder = File::open(folder)?;
        match folder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if self.is_met()? {
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = calls::listen_unix(&self.path)?;
        self.file = Some(SocketFile::at(&self.path)?);
        self.listener = Some(listener);
        self.state = State::Listening;
        Ok(())
    }

    /// Connects to who listens: false where nobody does, though a socket may have been left behind.
    fn is_met(&mut self) -> io::Result<bool> {
        match calls::connect_unix(&self.path) {
            Ok(socket) if calls::is_our_user(&socket) => {
                self.state = State::Greeting(socket);
                Ok(true)
            }
            Ok(_) => Err(io::Error::from_raw_os_error(libc::EACCES)),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => Ok(false),
                Some(libc::ECONNREFUSED) => match fs::symlink_metadata(&self.path) {
                    Ok(found) if found.file_type().is_socket() => Ok(false),
                    Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(false),
                    Ok(_) => Err(error),
                    Err(error) => Err(error),
                },
                // It listens, and many wait for it.
                Some(libc::EAGAIN) => Ok(true),
                _ => Err(error),
            },
        }
    }

    /// Goes on towards a peer, without waiting.
    fn go_on(&mut self) {
        match std::mem::replace(&mut self.state, State::Alone) {
            State::Listening => {
                let greeted = self.listener.as_ref().and_then(|listener| {
                    let (socket, _) = listener.accept().ok().filter(|(socket, _)| calls::is_our_user(socket))?;
                    socket.set_nonblocking(true).ok()?;
                    let fd = calls::sealed_memory(MEMORY_LEN).ok()?;
                    let memory = Mapping::new(fd.as_raw_fd(), 0, MEMORY_LEN).ok()?;
                    calls::send_descriptor(&socket, &fd).ok()?;
                    Some(Peer::new(socket, memory, Place::First))
                });
                self.state = greeted.map_or(State::Listening, |peer| State::Connected(Box::new(peer)));
            }
            State::Greeting(socket) => match calls::receive_descriptor(&socket) {
                Ok(Some(fd)) if calls::is_sealed_memory(&fd, MEMORY_LEN) => {
                    if let Ok(memory) = Mapping::new(fd.as_raw_fd(), 0, MEMORY_LEN) {
                        self.state = State::Connected(Box::new(Peer::new(socket, memory, Place::Second)));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.state = State::Greeting(socket),
                Ok(_) | Err(_) => {}
            },
            State::Alone => {
                // Where neither works now, it may the next time.
                let _ = self.meet();
            }
            connected @ State::Connected(_) => self.state = connected,
        }
    }
}

impl Drop for ShmShare {
    fn drop(&mut self) {
        // While it listens nobody replaces its file.
        if self.file.is_some() && self.file == SocketFile::at(&self.path).ok() {
            // Where it has gone already, nothing is left to do.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A worker's share of a wire in memory.
#[derive(Debug)]
pub struct ShmPort {
    share: ShmShare,
    wake: Arc<Wake>,
    is_receiving: bool,
    is_closed: bool,
    has_room: bool,
    next_look: Instant,
    counts: PortCounts,
    report: String,
}

impl ShmPort {
    /// Opens a worker's share.
    #[must_use]
    pub fn open(share: ShmShare, wake: Arc<Wake>) -> Self {
        let report = format!("{}: shared memory", share.name);
        Self {
            share,
            wake,
            is_receiving: true,
            is_closed: false,
            has_room: true,
            next_look: Instant::now(),
            counts: PortCounts::default(),
            report,
        }
    }

    /// Whether the peer is there.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.share.state, State::Connected(_))
    }

    fn peer(&mut self) -> Option<&mut Peer> {
        match &mut self.share.state {
            State::Connected(peer) => Some(peer),
            State::Listening | State::Greeting(_) | State::Alone => None,
        }
    }

    /// Looks for a peer, or whether it is still there.
    fn look(&mut self) {
        if self.is_closed {
            return;
        }
        match self.peer() {
            Some(peer) => peer.look(),
            None => self.share.go_on(),
        }
    }

    fn look_sometimes(&mut self) {
        let now = Instant::now();
        if now >= self.next_look {
            self.next_look = now + LOOK_EVERY;
            self.look();
        }
    }

    /// The peer has gone, or is let go of.
    fn part(&mut self) {
        let Some(peer) = self.peer() else { return };
        let unconsumed = match peer.unconsumed() {
            Backlog::Count(count) => u64::from(count),
            Backlog::Impossible => u64::from(SLOTS),
        };
        // What it did not take did not arrive.
        let unconsumed = unconsumed.min(self.counts.tx_frames);
        self.counts.tx_frames -= unconsumed;
        self.counts.tx_errors += unconsumed;
        self.counts.unreachable += u64::from(!self.is_closed);
        self.share.state = if self.share.listener.is_some() { State::Listening } else { State::Alone };
    }

    fn take(&mut self, pool: &mut Pool, burst: &mut Burst) {
        let State::Connected(peer) = &mut self.share.state else { return };
        let count = match peer.waiting() {
            Backlog::Count(count) => count,
            Backlog::Impossible => {
                self.counts.rx_errors += 1;
                return self.part();
            }
        };
        let before = peer.consumed;
        while peer.consumed.wrapping_sub(before) < count
            && burst.room() > 0
            && let Some(chunk) = pool.take()
        {
            let slot = Peer::slot(peer.in_at, peer.consumed);
            // Once: the peer may change it.
            let len = peer.memory.word(slot).load(Ordering::Relaxed) as usize;
            if len <= FRAME_LEN_MAX as usize {
                peer.memory.read_to_chunk(slot + FRAME_AT, len, pool, chunk);
            }
            burst.arrived(pool, chunk, len);
            peer.consumed = peer.consumed.wrapping_add(1);
        }
        if peer.consumed != before {
            peer.memory.word(peer.in_at + CONSUMER_AT).store(peer.consumed, Ordering::Release);
        } else if peer.has_gone && count == 0 {
            self.part();
        }
    }
}

impl Port for ShmPort {
    fn recv(&mut self, pool: &mut Pool, burst: &mut Burst) {
        let is_connected = if let Some(peer) = self.peer() {
            peer.show();
            if peer.told == Rest::Asleep {
                peer.tell(Rest::Awake);
                peer.look();
            }
            true
        } else {
            false
        };
        let before = burst.count();
        if is_connected {
            self.take(pool, burst);
        }
        if burst.count() == before {
            self.look_sometimes();
        }
    }

    fn send(&mut self, pool: &mut Pool, frame: Frame) {
        let mut is_taken = false;
        let mut is_impossible = false;
        if let Some(peer) = self.peer().filter(|peer| !peer.has_gone) {
            match peer.unconsumed() {
                Backlog::Count(count) if count < SLOTS => {
                    let slot = Peer::slot(peer.out_at, peer.produced);
                    peer.memory.write_frame(slot + FRAME_AT, pool, &frame);
                    peer.memory.word(slot).store(frame.len(), Ordering::Relaxed);
                    peer.produced = peer.produced.wrapping_add(1);
                    is_taken = true;
                    if peer.produced.wrapping_sub(peer.shown) >= SHOWN_AFTER {
                        peer.show();
                    }
                }
                Backlog::Count(_) => peer.show(),
                Backlog::Impossible => is_impossible = true,
            }
        }
        if is_impossible {
            self.counts.rx_errors += 1;
            self.part();
        }
        if is_taken {
            self.counts.tx_frames += 1;
            self.counts.tx_bytes += u64::from(frame.len);
        } else {
            self.counts.tx_errors += 1;
        }
        pool.release(frame);
    }

    fn before_wait(&mut self, pool: &mut Pool) -> bool {
        self.has_room = pool.free_count() > 0;
        self.look();
        let has_room = self.has_room;
        let Some(peer) = self.peer() else { return false };
        peer.show();
        peer.tell(Rest::Asleep);
        let is_there = match peer.waiting() {
            Backlog::Count(count) => count > 0 && has_room,
            Backlog::Impossible => true,
        };
        is_there || peer.has_gone && has_room
    }

    fn waits_on(&self, each: &mut dyn FnMut(RawFd, Interest)) {
        match &self.share.state {
            State::Listening => {
                if let Some(listener) = &self.share.listener {
                    each(listener.as_raw_fd(), Interest::Readable);
                }
            }
            State::Greeting(socket) => each(socket.as_raw_fd(), Interest::Readable),
            State::Connected(peer) if !peer.has_gone => each(peer.socket.as_raw_fd(), Interest::Readable),
            State::Connected(_) | State::Alone => {}
        }
    }

    fn until_due(&self) -> Duration {
        match &self.share.state {
            State::Alone if !self.is_closed => LOOK_EVERY,
            State::Alone | State::Listening | State::Greeting(_) | State::Connected(_) => Duration::MAX,
        }
    }

    fn wake(&self) -> &Wake {
        &self.wake
    }

    fn end_receiving(&mut self) {
        self.is_receiving = false;
    }

    fn is_receiving(&mut self) -> bool {
        let is_receiving = self.is_receiving;
        let waiting = self.peer().map(|peer| matches!(peer.waiting(), Backlog::Count(1..)));
        is_receiving || waiting.unwrap_or(false)
    }

    fn close(&mut self, _: &mut Pool) {
        if let Some(peer) = self.peer() {
            peer.show();
        }
        self.is_closed = true;
        // What it has not consumed yet it may still take: it holds the memory too. What it sent and we did not take, it counts.
        self.share.state = State::Alone;
    }

    fn counts(&self) -> PortCounts {
        self.counts
    }

    fn report(&self) -> &str {
        &self.report
    }
}
