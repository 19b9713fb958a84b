//! The io_uring path: one multishot receive into a ring of provided buffers, sends from the chunks.
//!
//! Without trains the buffer ring's entries point behind the headroom of chunks, so the kernel writes frames into the
//! cage where programs judge them; with trains they are buffers for landing. A multishot run yields at most 33 completions and
//! then goes on by itself; it ends when no buffer is left, on an error and on an empty datagram, and is armed again as soon as there is a buffer. Completions are never
//! lost: the completion queue has room for every request that can be under way.
//!
//! Invariant: a chunk that the kernel may still touch is neither in the pool nor unmapped.

mod state;

use std::fmt;
use std::mem::zeroed;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use libc::msghdr;

use super::super::buffer_ring::BufferRing;
use super::super::ring_setup::{Refusal, know_multishot, refused, setup};
use super::super::{Burst, Frame, Interest, Pool, Port, PortCounts, Wake};
use super::departures::Departures;
use super::landing::{CONTROL_LEN, LANDING_COUNT, Landing};
use super::{Socket, Trains};
use crate::cage::Region;
use crate::limits::CLOSE_MS_MAX;
use state::{Arrivals, Receive, State, TAG_CANCEL, TAG_RECV, TAG_SEND, TAG_SHIFT, TAG_WAKE};

/// Completions for each chunk: received, sent, and room to spare.
const CQ_ENTRIES_PER_CHUNK: u32 = 4;
/// The only group of provided buffers.
const BUFFER_GROUP: u16 = 0;
/// Registered descriptors.
const SOCKET: Fixed = Fixed(0);
const WAKE: Fixed = Fixed(1);

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
    /// Becomes readable when the kernel has something to tell. The ring's own descriptor does not, where the kernel puts its
    /// work off until this thread asks.
    bell: Wake,
    /// Whether the kernel rings it.
    bell_is_on: bool,
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
        let bell = Wake::new().map_err(|_| Refusal::no_bell())?;
        ring.submitter().register_eventfd(bell.fd()).map_err(refused("an eventfd"))?;
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
        let mut port =
            Self { ring, state, asked, socket: Arc::clone(socket), region, features, bell, bell_is_on: true };
        port.silence();
        Ok(port)
    }

    /// What the kernel has, for the report.
    pub(super) fn features(&self) -> &'static str {
        self.features
    }

    /// Lets the kernel ring the bell no more.
    fn silence(&mut self) {
        if std::mem::take(&mut self.bell_is_on) {
            self.ring.completion().disable_eventfd();
            self.bell.clear();
        }
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
        self.silence();
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

    fn before_wait(&mut self, pool: &mut Pool) -> bool {
        self.arm(pool);
        self.enter(pool);
        if !std::mem::replace(&mut self.bell_is_on, true) {
            self.ring.completion().enable_eventfd();
        }
        // What came before the bell was on has not rung it.
        fence(Ordering::SeqCst);
        !self.ring.completion().is_empty() || self.ring.submission().taskrun()
    }

    fn waits_on(&self, each: &mut dyn FnMut(RawFd, Interest)) {
        each(self.bell.fd(), Interest::Readable);
    }

    fn wake(&self) -> &Wake {
        &self.state.wake
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

    fn dropped(&self) -> u64 {
        self.socket.dropped()
    }

    fn report(&self) -> &str {
        self.features
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
