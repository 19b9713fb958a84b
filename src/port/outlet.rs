//! Frames on their way out through a descriptor that takes one a call, a packet socket or a tap.
//!
//! Before each frame stands a header of the kernel's (see [`super::offload`]); TCP segments in a row that belong together
//! leave as one super-frame. An io_uring ring sends a turn's frames in one call, and plain calls do it one by one where rings
//! are disabled.
//!
//! A descriptor that is full makes its frames wait. Where the kernel takes some of a turn's frames and then has no room, those
//! that it did not take leave later, in their order.
//!
//! Invariant: allocates nothing after it is made. A chunk that the kernel may still read is not in the pool.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, Timespec};
use io_uring::{IoUring, opcode};
use libc::{c_int, iovec};

use super::offload::{Gathering, HEADER_LEN};
use super::ring_setup::{Refusal, setup};
use super::udp::IoPath;
use super::{Frame, Interest, Pool, PortCounts, Sleep, Wake};
use crate::cage::Region;
use crate::limits::{BURST_MAX, CLOSE_MS_MAX, FRAME_LEN_MAX};

/// Messages under way.
#[expect(clippy::cast_possible_truncation, reason = "64")]
const SLOTS: u16 = BURST_MAX as u16;
/// Completions: more than requests can be under way, and no fewer than the submission queue has entries.
const CQ_ENTRIES: u32 = 512;
/// Frames of one super-frame.
const GATHERED_MAX: usize = 45;
/// Bytes of the longest header, the kernel's and the frame's.
const HEAD_LEN_MAX: usize = 256;
/// How long until a descriptor that ran out of memory is tried again: it does not say when there is some.
const BUSY_RETRY: Duration = Duration::from_micros(200);

/// Whether segments are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gather {
    /// Those that belong together leave as one.
    On,
    /// Each frame leaves alone.
    Off,
}

/// A frame or several, and what stands before them.
struct Message {
    frames: Vec<Frame>,
    bytes: usize,
    head: Vec<u8>,
    parts: [iovec; GATHERED_MAX + 1],
    part_count: u32,
}

/// Why nothing is taken at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blocked {
    /// The descriptor becomes writable.
    Full,
    /// The kernel is short of memory, or the interface's ring is full.
    Busy,
}

/// Frames on their way out.
pub(super) struct Outlet {
    // Dropped first: the kernel lets go of the buffers below.
    ring: Option<IoUring>,
    fd: RawFd,
    queue: VecDeque<Frame>,
    messages: Box<[Message]>,
    free: Vec<u16>,
    /// Messages that wait for the kernel, in order.
    leaving: VecDeque<u16>,
    /// Messages that the kernel has.
    under_way: u16,
    gathering: Option<Gathering>,
    blocked: Option<Blocked>,
    is_gone: bool,
    scratch: Box<[u8; FRAME_LEN_MAX as usize]>,
    region: Arc<Region>,
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("fd", &self.fd).field("queue", &self.queue.len()).finish_non_exhaustive()
    }
}

impl Outlet {
    /// An outlet through `fd`, which must live as long as it, and in words which way it takes.
    ///
    /// # Errors
    /// Why there is no ring, where one is demanded.
    pub(super) fn open(fd: RawFd, pool: &Pool, io: IoPath, gather: Gather) -> Result<(Self, String), Refusal> {
        let (ring, way) = match io {
            IoPath::Plain => (None, "plain sends".to_owned()),
            IoPath::Ring | IoPath::Auto => match setup(CQ_ENTRIES) {
                Ok((ring, _)) => (Some(ring), "io_uring sends".to_owned()),
                Err(refusal) if io == IoPath::Ring => return Err(refusal),
                Err(refusal) => (None, format!("plain sends: {refusal}")),
            },
        };
        let nothing = iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let messages = (0..SLOTS).map(|_| Message {
            frames: Vec::with_capacity(GATHERED_MAX),
            bytes: 0,
            head: Vec::with_capacity(HEAD_LEN_MAX),
            parts: [nothing; GATHERED_MAX + 1],
            part_count: 0,
        });
        let outlet = Self {
            ring,
            fd,
            queue: VecDeque::with_capacity(pool.count().into()),
            messages: messages.collect(),
            free: (0..SLOTS).rev().collect(),
            leaving: VecDeque::with_capacity(SLOTS.into()),
            under_way: 0,
            gathering: (gather == Gather::On).then(Gathering::new),
            blocked: None,
            is_gone: false,
            scratch: Box::new([0; FRAME_LEN_MAX as usize]),
            region: Arc::clone(pool.region()),
        };
        Ok((outlet, way))
    }

    /// Queues a frame.
    pub(super) fn push(&mut self, pool: &mut Pool, frame: Frame, counts: &mut PortCounts) {
        self.queue.push_back(frame);
        if self.queue.len() >= BURST_MAX && self.blocked.is_none() {
            self.flush(pool, counts);
        }
    }

    /// Sends what is queued, as far as the kernel takes it.
    pub(super) fn flush(&mut self, pool: &mut Pool, counts: &mut PortCounts) {
        self.blocked = None;
        self.reap(pool, counts);
        while self.blocked.is_none() && !(self.queue.is_empty() && self.leaving.is_empty()) {
            while let Some(number) = self.next(pool) {
                self.leaving.push_back(number);
            }
            if self.leaving.is_empty() {
                // All messages are under way.
                return;
            }
            if self.ring.is_some() {
                self.submit();
                self.reap(pool, counts);
            } else {
                self.write(pool, counts);
            }
        }
    }

    /// Makes a message of the frames that wait longest, as many as go together.
    fn next(&mut self, pool: &Pool) -> Option<u16> {
        self.queue.front()?;
        let number = self.free.pop()?;
        let message = &mut self.messages[usize::from(number)];
        let mut frame = self.queue.pop_front().expect("seen above");
        message.bytes = usize::from(frame.len);
        message.head.clear();
        message.head.resize(HEADER_LEN, 0);
        message.parts[1] = part(pool, &frame, 0);
        if let Some(gathering) = &mut self.gathering
            && !self.queue.is_empty()
        {
            let len = pool.read(&frame, &mut self.scratch[..]);
            gathering.begin(&self.scratch[..len]);
            while message.frames.len() + 1 < GATHERED_MAX
                && let Some(next) = self.queue.front()
            {
                let len = pool.read(next, &mut self.scratch[..]);
                let Some(payload_at) = gathering.add(&self.scratch[..len]) else { break };
                message.frames.push(frame);
                frame = self.queue.pop_front().expect("seen above");
                message.bytes += usize::from(frame.len);
                message.parts[message.frames.len() + 1] = part(pool, &frame, payload_at);
            }
            if let Some(first) = message.frames.first() {
                let payload_at = gathering.head(&mut message.head);
                message.parts[1] = part(pool, first, payload_at);
            }
        }
        message.frames.push(frame);
        message.parts[0] = iovec { iov_base: message.head.as_mut_ptr().cast(), iov_len: message.head.len() };
        message.part_count = u32::try_from(message.frames.len() + 1).expect("few");
        Some(number)
    }

    /// Hands waiting messages to the ring.
    fn submit(&mut self) {
        let Some(ring) = &mut self.ring else { return };
        while let Some(number) = self.leaving.front().copied() {
            let message = &self.messages[usize::from(number)];
            let write = opcode::Writev::new(Fd(self.fd), message.parts.as_ptr(), message.part_count).build();
            // SAFETY: the message and the chunks that it points at stay until the request has completed.
            if unsafe { ring.submission().push(&write.user_data(number.into())) }.is_err() {
                break;
            }
            self.leaving.pop_front();
            self.under_way += 1;
        }
        // What the kernel does not take now it takes in a later call.
        let _ = ring.submit();
    }

    /// Takes note of what the ring has sent.
    fn reap(&mut self, pool: &mut Pool, counts: &mut PortCounts) {
        let Some(mut ring) = self.ring.take() else { return };
        let queue = ring.submission();
        let is_asked = queue.taskrun() || !queue.is_empty();
        drop(queue);
        if self.under_way > 0 && is_asked {
            let _ = ring.submit();
        }
        let mut refused = [0u16; SLOTS as usize];
        let mut refused_count = 0;
        for completion in ring.completion() {
            let number = u16::try_from(completion.user_data()).expect("our own number");
            self.under_way -= 1;
            if self.ended(number, completion.result(), pool, counts) == Ended::Refused {
                refused[refused_count] = number;
                refused_count += 1;
            }
        }
        for number in refused[..refused_count].iter().rev() {
            self.leaving.push_front(*number);
        }
        self.ring = Some(ring);
    }

    /// Sends waiting messages by plain calls.
    fn write(&mut self, pool: &mut Pool, counts: &mut PortCounts) {
        while let Some(number) = self.leaving.front().copied() {
            let message = &self.messages[usize::from(number)];
            let count = c_int::try_from(message.part_count).expect("few");
            // SAFETY: the parts point at the message's head and at chunks that we hold, to which no reference exists.
            let answer = unsafe { libc::writev(self.fd, message.parts.as_ptr(), count) };
            let result = if answer < 0 { -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) } else { 0 };
            if self.ended(number, result, pool, counts) == Ended::Refused {
                return;
            }
            self.leaving.pop_front();
        }
    }

    /// What becomes of a message that the kernel answered.
    fn ended(&mut self, number: u16, result: i32, pool: &mut Pool, counts: &mut PortCounts) -> Ended {
        match -result {
            libc::EAGAIN => {
                self.blocked = Some(Blocked::Full);
                return Ended::Refused;
            }
            libc::ENOBUFS | libc::ENOMEM | libc::EINTR => {
                self.blocked = Some(Blocked::Busy);
                return Ended::Refused;
            }
            _ => {}
        }
        let message = &mut self.messages[usize::from(number)];
        let count = message.frames.len() as u64;
        if result < 0 {
            counts.tx_errors += count;
            self.is_gone |= matches!(-result, libc::ENXIO | libc::ENODEV | libc::EBADFD);
        } else {
            counts.tx_frames += count;
            counts.tx_bytes += message.bytes as u64;
            counts.tx_in_trains += if count > 1 { count } else { 0 };
        }
        message.frames.drain(..).for_each(|frame| pool.release(frame));
        self.free.push(number);
        Ended::Gone
    }

    /// Whether the interface behind it has gone.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// What ends a sleep.
    pub(super) fn waits_on(&self, each: &mut dyn FnMut(RawFd, Interest)) {
        if self.blocked == Some(Blocked::Full) {
            each(self.fd, Interest::Writable);
        }
    }

    /// When it is to be flushed again, though no descriptor becomes ready.
    pub(super) fn until_due(&self) -> Duration {
        if self.blocked == Some(Blocked::Busy) || self.under_way > 0 { BUSY_RETRY } else { Duration::MAX }
    }

    /// Waits a bounded time until all is sent, counts what is not, and gives every chunk back.
    pub(super) fn close(&mut self, pool: &mut Pool, wake: &Wake, counts: &mut PortCounts) {
        let deadline = Instant::now() + Duration::from_millis(CLOSE_MS_MAX);
        self.flush(pool, counts);
        while self.has_waiting() && Instant::now() < deadline && !self.is_gone {
            let mut sleep = Sleep::new();
            self.waits_on(&mut |fd, interest| sleep.add(fd, interest));
            sleep.block(wake, self.until_due().min(Duration::from_millis(10)));
            self.flush(pool, counts);
        }
        if self.under_way > 0 {
            self.cancel();
            self.reap(pool, counts);
        }
        while let Some(number) = self.leaving.pop_front() {
            let message = &mut self.messages[usize::from(number)];
            counts.tx_errors += message.frames.len() as u64;
            message.frames.drain(..).for_each(|frame| pool.release(frame));
            self.free.push(number);
        }
        for frame in self.queue.drain(..) {
            counts.tx_errors += 1;
            pool.release(frame);
        }
    }

    fn has_waiting(&self) -> bool {
        self.under_way > 0 || !self.queue.is_empty() || !self.leaving.is_empty()
    }

    fn cancel(&mut self) {
        if let Some(ring) = &mut self.ring {
            let timeout = Timespec::from(Duration::from_millis(100));
            // What is not found has completed, and what cannot be cancelled keeps its memory: see `drop`.
            let _ = ring.submitter().register_sync_cancel(Some(timeout), CancelBuilder::any());
        }
    }
}

/// Whether a message is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Sent or counted as not sent.
    Gone,
    /// It is to be tried again.
    Refused,
}

fn part(pool: &Pool, frame: &Frame, from: usize) -> iovec {
    let len = usize::from(frame.len) - from;
    iovec { iov_base: pool.frame_ptr(frame).wrapping_add(from).cast(), iov_len: len }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if self.under_way > 0 {
            self.cancel();
            // A worker that failed leaves requests behind. Their memory stays for ever rather than be handed out while the
            // kernel may read it.
            std::mem::forget(Arc::clone(&self.region));
            std::mem::forget(std::mem::take(&mut self.messages));
        }
    }
}
