//! The io_uring path: one multishot receive into a ring of provided buffers, sends from the chunks.
//!
//! Without trains the buffer ring's entries point behind the headroom of chunks, so the kernel writes frames into the
//! cage where programs judge them; with trains they are buffers for landing. A multishot run yields at most 33 completions and then goes on by itself; it ends when no buffer
//! is left, on an error and on an empty datagram, and is armed again as soon as there is a buffer. Completions are never
//! lost: the completion queue has room for every request that can be under way.
//!
//! Invariant: a chunk that the kernel may still touch is neither in the pool nor unmapped.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::io;
use std::mem::zeroed;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use io_uring::types::{BufRingEntry, CancelBuilder, Fixed, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use libc::msghdr;

use super::super::{Burst, Frame, Pool, Port, PortCounts, Wake};
use super::departures::{Departures, Refused};
use super::landing::{self, CONTROL_LEN, LANDING_COUNT, LANDING_LEN, Landing};
use super::{Socket, Trains};
use crate::cage::Region;
use crate::limits::{CLOSE_MS_MAX, FRAME_LEN_MAX, HEADROOM, PAGE_LEN};

/// Requests that wait for submission at most.
const SQ_ENTRIES: u32 = 256;
/// Completions for each chunk: received, sent, and room to spare.
const CQ_ENTRIES_PER_CHUNK: u32 = 4;
/// The only group of provided buffers.
const BUFFER_GROUP: u16 = 0;
/// Registered descriptors.
const SOCKET: Fixed = Fixed(0);
const WAKE: Fixed = Fixed(1);

/// Where the datagram begins in what a receive of trains writes.
const MESSAGE_AT: usize = MESSAGE_HEADER_LEN + CONTROL_LEN;
/// Bytes of `struct io_uring_recvmsg_out`.
const MESSAGE_HEADER_LEN: usize = 16;
#[expect(clippy::cast_possible_truncation, reason = "66 KiB")]
const LANDING_LEN_U32: u32 = LANDING_LEN as u32;

/// What a completion belongs to: the upper half of its user data.
const TAG_SHIFT: u32 = 32;
const TAG_RECV: u64 = 1;
const TAG_SEND: u64 = 2;
const TAG_WAKE: u64 = 3;
const TAG_CANCEL: u64 = 4;

/// Why there is no ring.
#[derive(Debug)]
pub(super) struct Refusal {
    what: &'static str,
    errno: i32,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.errno {
            libc::EPERM => "EPERM",
            libc::ENOSYS => "ENOSYS",
            libc::EINVAL => "EINVAL",
            libc::ENOMEM => "ENOMEM",
            libc::EMFILE => "EMFILE",
            libc::EACCES => "EACCES",
            errno => return write!(f, "{} refused (errno {errno})", self.what),
        };
        write!(f, "{} refused ({name})", self.what)
    }
}

fn refused(what: &'static str) -> impl Fn(io::Error) -> Refusal {
    move |source| Refusal { what, errno: source.raw_os_error().unwrap_or(libc::EINVAL) }
}

/// The ring of provided buffers, in memory that the kernel reads.
#[derive(Debug)]
struct BufferRing {
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    mask: u16,
    tail: u16,
    /// Whether the kernel may still read it: then it stays for ever.
    abandoned: bool,
}

impl BufferRing {
    fn new(buffer_count: u16) -> Self {
        let count = buffer_count.next_power_of_two();
        let layout = Layout::array::<BufRingEntry>(usize::from(count)).expect("some pages");
        let layout = layout.align_to(PAGE_LEN as usize).expect("a page is a power of two");
        // SAFETY: the layout is not empty: 0 rounds up to one entry.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(entries) = NonNull::new(memory.cast()) else { handle_alloc_error(layout) };
        Self { entries, layout, mask: count - 1, tail: 0, abandoned: false }
    }

    fn addr(&self) -> u64 {
        self.entries.as_ptr().expose_provenance() as u64
    }

    fn count(&self) -> u16 {
        self.mask + 1
    }

    /// Offers a buffer; the kernel sees it after [`Self::publish`].
    fn offer(&mut self, buffer: u16, at: *mut u8, len: u32) {
        let index = usize::from(self.tail & self.mask);
        let entry = self.entries.as_ptr().wrapping_add(index);
        // SAFETY: the index is below the number of entries, and the kernel does not write to them.
        let entry = unsafe { &mut *entry };
        entry.set_addr(at.expose_provenance() as u64);
        entry.set_len(len);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the pointer is that of the first of the entries.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail lies in our memory, aligned, and only the kernel reads it besides us.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        if self.abandoned {
            return;
        }
        // SAFETY: allocated with this layout in `new`, and no receive is left that would read addresses from it.
        unsafe { dealloc(self.entries.as_ptr().cast(), self.layout) };
    }
}

/// Where datagrams are received.
#[derive(Debug)]
enum Arrivals {
    /// In chunks; which of them the kernel has.
    InPlace { offered: Box<[bool]> },
    /// In buffers for trains; those that are to be offered again.
    Landing { landing: Landing, emptied: Vec<u16> },
}

/// State of the receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    /// To be armed as soon as there is a buffer.
    Idle,
    /// The kernel holds the request.
    Armed,
    /// The kernel was asked to end it.
    Ending,
    /// It is over.
    Ended,
}

/// What completions change.
#[derive(Debug)]
struct State {
    wake: Arc<Wake>,
    buffers: BufferRing,
    arrivals: Arrivals,
    /// Buffers that the kernel has.
    offered_count: u16,
    receive: Receive,
    wake_armed: bool,
    departures: Departures,
    /// Messages to submit: new ones, and those that met the error of an earlier one.
    leaving: Vec<u16>,
    counts: PortCounts,
}

impl State {
    fn completed(&mut self, cqe: &cqueue::Entry, pool: &mut Pool, burst: &mut Burst, asked: &msghdr) {
        match cqe.user_data() >> TAG_SHIFT {
            TAG_RECV => self.received(cqe, pool, burst, asked),
            TAG_SEND => {
                let message = u16::try_from(cqe.user_data() & 0xffff).expect("masked");
                self.sent(message, cqe.result(), pool);
            }
            TAG_WAKE => {
                self.wake.clear();
                self.wake_armed = cqueue::more(cqe.flags());
            }
            _ => {}
        }
    }

    fn received(&mut self, cqe: &cqueue::Entry, pool: &mut Pool, burst: &mut Burst, asked: &msghdr) {
        if !cqueue::more(cqe.flags()) {
            self.receive = if self.receive == Receive::Ending { Receive::Ended } else { Receive::Idle };
        }
        let buffer = cqueue::buffer_select(cqe.flags());
        self.offered_count -= u16::from(buffer.is_some());
        match usize::try_from(cqe.result()) {
            Ok(len) => self.arrived(buffer, len, pool, burst, asked),
            Err(_) => {
                if let Some(buffer) = buffer {
                    self.unused(buffer, pool);
                }
                match -cqe.result() {
                    // No buffer was left: the frame stays in the socket until there is one.
                    libc::ENOBUFS | libc::ECANCELED => {}
                    libc::ECONNREFUSED => self.counts.unreachable += 1,
                    _ => self.counts.rx_errors += 1,
                }
            }
        }
    }

    fn arrived(&mut self, buffer: Option<u16>, len: usize, pool: &mut Pool, burst: &mut Burst, asked: &msghdr) {
        let Some(buffer) = buffer else { return burst.arrived_empty() };
        match &mut self.arrivals {
            Arrivals::InPlace { offered } => {
                offered[usize::from(buffer)] = false;
                burst.arrived(pool, buffer, len);
            }
            Arrivals::Landing { landing, emptied } => {
                let Ok(message) = RecvMsgOut::parse(landing.bytes(buffer), asked) else {
                    self.counts.rx_errors += 1;
                    return emptied.push(buffer);
                };
                let len = message.payload_data().len();
                let segment_len = landing::segment_len(message.control_data());
                landing.landed(buffer, MESSAGE_AT, len, segment_len, &mut self.counts);
            }
        }
    }

    /// A buffer came back without a datagram.
    fn unused(&mut self, buffer: u16, pool: &mut Pool) {
        match &mut self.arrivals {
            Arrivals::InPlace { offered } => {
                offered[usize::from(buffer)] = false;
                pool.give(buffer);
            }
            Arrivals::Landing { emptied, .. } => emptied.push(buffer),
        }
    }

    fn sent(&mut self, message: u16, result: i32, pool: &mut Pool) {
        if result >= 0 {
            self.departures.sent(message, pool, &mut self.counts);
        } else if self.departures.refused(message, -result, pool, &mut self.counts) == Refused::Again {
            self.leaving.push(message);
        }
    }

    /// Offers the kernel every free buffer.
    fn recycle(&mut self, pool: &mut Pool) {
        let before = self.buffers.tail;
        match &mut self.arrivals {
            Arrivals::InPlace { offered } => {
                while let Some(chunk) = pool.take() {
                    let at = pool.chunk_ptr(chunk).wrapping_add(HEADROOM as usize);
                    self.buffers.offer(chunk, at, FRAME_LEN_MAX);
                    offered[usize::from(chunk)] = true;
                }
            }
            Arrivals::Landing { landing, emptied } => {
                for buffer in emptied.drain(..) {
                    self.buffers.offer(buffer, landing.buffer_ptr(buffer), LANDING_LEN_U32);
                }
            }
        }
        if self.buffers.tail != before {
            self.offered_count += self.buffers.tail.wrapping_sub(before);
            self.buffers.publish();
        }
    }

    /// Deals what landed into the burst.
    fn deal(&mut self, pool: &mut Pool, burst: &mut Burst) {
        if let Arrivals::Landing { landing, emptied } = &mut self.arrivals {
            landing.deal(pool, burst, |buffer| emptied.push(buffer));
        }
    }

    /// Takes chunks back that the kernel will not fill any more.
    fn reclaim(&mut self, pool: &mut Pool) {
        if let Arrivals::InPlace { offered } = &mut self.arrivals {
            for (chunk, offered) in (0u16..).zip(offered) {
                if std::mem::take(offered) {
                    pool.give(chunk);
                }
            }
        }
        self.offered_count = 0;
    }

    fn has_landed(&self) -> bool {
        matches!(&self.arrivals, Arrivals::Landing { landing, .. } if landing.has_waiting())
    }
}

/// Whether the kernel has multishot receives. They cannot be asked for, but came with zero-copy sends in Linux 6.0; to try one
/// out on the wire would take frames from it.
fn know_multishot(ring: &IoUring) -> Result<(), Refusal> {
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(refused("a probe"))?;
    if probe.is_supported(opcode::SendZc::CODE) {
        return Ok(());
    }
    Err(Refusal { what: "a multishot receive", errno: libc::EINVAL })
}

/// A worker's share of a wire, by an io_uring ring.
pub(super) struct RingPort {
    // Dropped first: the kernel lets go of the descriptors and buffers below.
    ring: IoUring,
    state: State,
    /// What a receive of trains asks for.
    asked: Box<msghdr>,
    socket: Arc<Socket>,
    region: Arc<Region>,
    features: &'static str,
}

impl fmt::Debug for RingPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingPort").field("state", &self.state).field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl RingPort {
    /// Makes the ring of the calling thread. The first [`Port::recv`] arms the receive.
    pub(super) fn open(
        socket: &Arc<Socket>,
        wake: &Arc<Wake>,
        pool: &mut Pool,
        trains: Trains,
    ) -> Result<Self, Refusal> {
        let (ring, features) = setup(u32::from(pool.count()) * CQ_ENTRIES_PER_CHUNK)?;
        know_multishot(&ring)?;
        let fds = [socket.fd(), wake.fd()];
        ring.submitter().register_files(&fds).map_err(refused("registering descriptors"))?;
        let (arrivals, buffer_count) = match trains {
            Trains::Off => {
                let offered = vec![false; pool.own_count().into()].into();
                (Arrivals::InPlace { offered }, pool.own_count())
            }
            Trains::On => {
                let emptied = (0..LANDING_COUNT).collect();
                (Arrivals::Landing { landing: Landing::new(), emptied }, LANDING_COUNT)
            }
        };
        let buffers = BufferRing::new(buffer_count);
        let (addr, count) = (buffers.addr(), buffers.count());
        // SAFETY: the memory is `count` entries long, and the kernel pins its pages.
        unsafe { ring.submitter().register_buf_ring_with_flags(addr, count, BUFFER_GROUP, 0) }
            .map_err(refused("a ring of provided buffers"))?;
        // A saving of some nanoseconds a call; where it is refused, nothing else changes.
        let _ = ring.submitter().register_ring_fd();
        let state = State {
            wake: Arc::clone(wake),
            buffers,
            arrivals,
            offered_count: 0,
            receive: Receive::Idle,
            wake_armed: false,
            departures: Departures::new(socket, pool.count(), trains),
            leaving: Vec::with_capacity(pool.count().into()),
            counts: PortCounts::default(),
        };
        // SAFETY: a message header of zeroes has no name, no parts and no control bytes.
        let mut asked: Box<msghdr> = Box::new(unsafe { zeroed() });
        asked.msg_controllen = CONTROL_LEN;
        let region = Arc::clone(pool.region());
        Ok(Self { ring, state, asked, socket: Arc::clone(socket), region, features })
    }

    /// What the kernel has, for the report.
    pub(super) fn features(&self) -> &'static str {
        self.features
    }

    /// Queues a request. The queue is emptied when it is full; if that fails, the request is refused.
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        for _ in 0..2 {
            // SAFETY: what the requests point at (chunks, the peer's address) lives until they have completed.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return true;
            }
            self.submit();
        }
        false
    }

    fn submit(&self) {
        // EINTR, EBUSY and EAGAIN leave the requests queued for the next call; others cannot come from these requests.
        let _ = self.ring.submit();
    }

    /// Offers free chunks and makes sure that the receive and the wake-up are armed.
    fn arm(&mut self, pool: &mut Pool) {
        self.state.recycle(pool);
        if self.state.receive == Receive::Idle && self.state.offered_count > 0 {
            let recv = match self.state.arrivals {
                Arrivals::InPlace { .. } => opcode::RecvMulti::new(SOCKET, BUFFER_GROUP).flags(libc::MSG_TRUNC).build(),
                Arrivals::Landing { .. } => {
                    opcode::RecvMsgMulti::new(SOCKET, &raw const *self.asked, BUFFER_GROUP).build()
                }
            };
            if self.push(&recv.user_data(TAG_RECV << TAG_SHIFT)) {
                self.state.receive = Receive::Armed;
            }
        }
        if !self.state.wake_armed {
            let events = u32::from(libc::POLLIN.cast_unsigned());
            let poll = opcode::PollAdd::new(WAKE, events).multi(true).build();
            self.state.wake_armed = self.push(&poll.user_data(TAG_WAKE << TAG_SHIFT));
        }
    }

    /// Hands the kernel everything that waits to leave, as far as there is room.
    fn depart(&mut self, pool: &Pool) {
        while let Some(message) = self.state.departures.next(pool) {
            self.state.leaving.push(message);
        }
        for index in 0..self.state.leaving.len() {
            let message = self.state.leaving[index];
            let send = match self.state.departures.single(message) {
                Some((at, len)) => {
                    let (to, to_len) = self.socket.to();
                    opcode::Send::new(SOCKET, at, len).dest_addr(to).dest_addr_len(to_len).build()
                }
                None => opcode::SendMsg::new(SOCKET, self.state.departures.header(message)).build(),
            };
            if !self.push(&send.user_data(TAG_SEND << TAG_SHIFT | u64::from(message))) {
                // The kernel takes nothing for now; the rest leaves with a later turn.
                self.state.leaving.drain(..index);
                return;
            }
        }
        self.state.leaving.clear();
    }

    /// Handles completions until the burst is full; whether there were any.
    fn reap(&mut self, pool: &mut Pool, burst: &mut Burst) -> bool {
        let mut any = false;
        let mut completions = self.ring.completion();
        while burst.room() > 0
            && let Some(cqe) = completions.next()
        {
            any = true;
            self.state.completed(&cqe, pool, burst, &self.asked);
        }
        drop(completions);
        self.state.deal(pool, burst);
        any
    }

    /// Submits what is queued and lets the kernel do what it deferred, if there is either.
    fn enter(&mut self, pool: &Pool) {
        self.depart(pool);
        let queue = self.ring.submission();
        let needed = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if needed {
            self.submit();
        }
    }

    fn wait_for_completion(&mut self, timeout: Duration) {
        let timeout = Timespec::from(timeout);
        let arguments = SubmitArgs::new().timespec(&timeout);
        // Time over and interruptions are ordinary ends of a wait.
        let _ = self.ring.submitter().submit_with_args(1, &arguments);
    }

    fn is_sending(&self) -> bool {
        self.state.departures.is_under_way() || self.state.departures.queued() > 0
    }

    /// Whether the kernel may touch a chunk.
    fn is_busy(&self) -> bool {
        matches!(self.state.receive, Receive::Armed | Receive::Ending) || self.is_sending()
    }
}

impl Port for RingPort {
    fn recv(&mut self, pool: &mut Pool, burst: &mut Burst) {
        self.state.deal(pool, burst);
        loop {
            self.arm(pool);
            self.enter(pool);
            let any = self.reap(pool, burst);
            let deferred = self.ring.submission().taskrun();
            if burst.room() == 0 || !(any && deferred) {
                return;
            }
        }
    }

    fn send(&mut self, _pool: &mut Pool, frame: Frame) {
        self.state.departures.push(frame);
    }

    fn wait(&mut self, pool: &mut Pool, timeout: Duration) {
        self.arm(pool);
        self.enter(pool);
        if self.ring.completion().is_empty() {
            self.wait_for_completion(timeout);
        }
    }

    fn end_receiving(&mut self) {
        match self.state.receive {
            Receive::Idle => self.state.receive = Receive::Ended,
            Receive::Armed => {
                let cancel = opcode::AsyncCancel::new(TAG_RECV << TAG_SHIFT).build();
                if self.push(&cancel.user_data(TAG_CANCEL << TAG_SHIFT)) {
                    self.state.receive = Receive::Ending;
                }
            }
            Receive::Ending | Receive::Ended => {}
        }
    }

    fn is_receiving(&mut self) -> bool {
        self.state.receive != Receive::Ended || !self.ring.completion().is_empty() || self.state.has_landed()
    }

    fn close(&mut self, pool: &mut Pool) {
        let mut late = Burst::new();
        let deadline = Instant::now() + Duration::from_millis(CLOSE_MS_MAX);
        let mut cancelled = false;
        while self.is_busy() {
            self.end_receiving();
            self.enter(pool);
            self.reap(pool, &mut late);
            while let Some(frame) = late.take() {
                pool.release(frame);
            }
            if self.is_busy() && Instant::now() > deadline {
                if std::mem::replace(&mut cancelled, true) {
                    break;
                }
                self.cancel_all();
            }
            if self.is_busy() && self.ring.completion().is_empty() {
                self.wait_for_completion(Duration::from_millis(10));
            }
        }
        if !self.is_busy() {
            self.state.reclaim(pool);
        }
        self.state.departures.give_up(pool, &mut self.state.counts);
        // Not left to the ring's end, which the kernel delays: the address would stay in use.
        let _ = self.ring.submitter().unregister_files();
    }

    fn counts(&self) -> PortCounts {
        self.state.counts
    }
}

impl RingPort {
    fn cancel_all(&mut self) {
        let timeout = Timespec::from(Duration::from_millis(100));
        // What is not found has completed, and what cannot be cancelled keeps its memory: see `drop`.
        let _ = self.ring.submitter().register_sync_cancel(Some(timeout), CancelBuilder::any());
    }
}

impl Drop for RingPort {
    fn drop(&mut self) {
        if self.is_busy() {
            self.cancel_all();
            // A worker that failed leaves requests behind. Its memory stays for ever rather than be handed out while
            // the kernel may write to it.
            std::mem::forget(Arc::clone(&self.region));
            self.state.buffers.abandoned = true;
            let none = Arrivals::InPlace { offered: Box::default() };
            std::mem::forget(std::mem::replace(&mut self.state.arrivals, none));
        }
    }
}

/// When the kernel does what it put off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TaskWork {
    /// When the thread that owns the ring asks.
    Deferred,
    /// When the thread enters the kernel anyhow; before 6.1.
    Cooperative,
}

/// A ring with what the kernel has of: one thread issues, task work waits for it, a bad request does not stop others.
fn setup(cq_entries: u32) -> Result<(IoUring, &'static str), Refusal> {
    match build(cq_entries, TaskWork::Deferred) {
        Ok(ring) => Ok((ring, "multishot receive")),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build(cq_entries, TaskWork::Cooperative)
            .map(|ring| (ring, "multishot receive, without deferred task work"))
            .map_err(refused("io_uring_setup")),
        Err(error) => Err(refused("io_uring_setup")(error)),
    }
}

fn build(cq_entries: u32, task_work: TaskWork) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_clamp().setup_cqsize(cq_entries.next_power_of_two());
    builder.setup_submit_all().setup_taskrun_flag();
    match task_work {
        TaskWork::Deferred => builder.setup_single_issuer().setup_defer_taskrun(),
        TaskWork::Cooperative => builder.setup_coop_taskrun(),
    };
    builder.build(SQ_ENTRIES)
}
