//! The four rings of an AF_XDP socket: chunks to fill, frames that came, frames to send, chunks that were sent.
//!
//! Source: `Documentation/networking/af_xdp.rst`; `struct xdp_mmap_offsets` and `struct xdp_desc` of linux/if_xdp.h.
//!
//! Invariant: our own index of each ring is kept here; the kernel's is read and never believed beyond the ring's length.
//! Invariant: no index goes back. The kernel remembers how far a producer had come, and would send what was taken back.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use super::super::calls::{self, Mapping, raw};

/// Bytes of a descriptor of a frame.
const DESCRIPTOR_LEN: usize = 16;
/// Bytes of a chunk's address.
const ADDRESS_LEN: usize = 8;

/// A frame in the memory shared with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) addr: u64,
    pub(super) len: u32,
}

/// Which ring.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Receive,
    Send,
    Fill,
    Completion,
}

/// One ring.
#[derive(Debug)]
struct Ring {
    memory: Mapping,
    producer_at: usize,
    consumer_at: usize,
    flags_at: usize,
    entries_at: usize,
    count: u32,
    entry_len: usize,
    /// The index that is ours.
    own: u32,
}

impl Ring {
    fn map(fd: &OwnedFd, kind: Kind, count: u32, offsets: &[u64; 16]) -> io::Result<Self> {
        let (row, page, entry_len) = match kind {
            Kind::Receive => (0, libc::XDP_PGOFF_RX_RING, DESCRIPTOR_LEN),
            Kind::Send => (4, libc::XDP_PGOFF_TX_RING, DESCRIPTOR_LEN),
            Kind::Fill => (8, libc::XDP_UMEM_PGOFF_FILL_RING.cast_signed(), ADDRESS_LEN),
            Kind::Completion => (12, libc::XDP_UMEM_PGOFF_COMPLETION_RING.cast_signed(), ADDRESS_LEN),
        };
        let at = |column: usize| usize::try_from(offsets[row + column]).expect("an offset in a small mapping");
        let memory = Mapping::new(raw(fd), page, at(2) + count as usize * entry_len)?;
        Ok(Self {
            memory,
            producer_at: at(0),
            consumer_at: at(1),
            entries_at: at(2),
            flags_at: at(3),
            count,
            entry_len,
            own: 0,
        })
    }

    fn entry(&self, index: u32) -> usize {
        self.entries_at + (index & (self.count - 1)) as usize * self.entry_len
    }

    /// Entries that the kernel produced and we have not consumed.
    fn waiting(&self) -> u32 {
        self.memory.word(self.producer_at).load(Ordering::Acquire).wrapping_sub(self.own).min(self.count)
    }

    /// Entries that we may still produce.
    fn room(&self) -> u32 {
        self.count - self.under_way()
    }

    /// Entries that we produced and the kernel has not consumed.
    fn under_way(&self) -> u32 {
        self.own.wrapping_sub(self.memory.word(self.consumer_at).load(Ordering::Acquire)).min(self.count)
    }

    fn asks_for_wakeup(&self) -> bool {
        self.memory.word(self.flags_at).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    fn produced(&self) {
        self.memory.word(self.producer_at).store(self.own, Ordering::Release);
    }

    fn consumed(&self) {
        self.memory.word(self.consumer_at).store(self.own, Ordering::Release);
    }

    fn long(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        self.memory.read(at, &mut bytes);
        u64::from_ne_bytes(bytes)
    }
}

/// The rings of a socket.
#[derive(Debug)]
pub(super) struct Rings {
    receive: Ring,
    send: Ring,
    fill: Ring,
    completion: Ring,
}

impl Rings {
    /// Makes and maps them; each count is a power of two. An error comes with the name of the step.
    pub(super) fn open(fd: &OwnedFd, count: u32, send_count: u32) -> Result<Self, (&'static str, io::Error)> {
        let kinds = [
            (libc::XDP_UMEM_FILL_RING, count, "XDP_UMEM_FILL_RING"),
            (libc::XDP_UMEM_COMPLETION_RING, send_count, "XDP_UMEM_COMPLETION_RING"),
            (libc::XDP_RX_RING, count, "XDP_RX_RING"),
            (libc::XDP_TX_RING, send_count, "XDP_TX_RING"),
        ];
        for (option, count, step) in kinds {
            calls::set_option(raw(fd), libc::SOL_XDP, option, &count).map_err(|error| (step, error))?;
        }
        let mut offsets = [0u64; 16];
        calls::option(raw(fd), libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, &mut offsets)
            .map_err(|error| ("XDP_MMAP_OFFSETS", error))?;
        let map = |kind, count| Ring::map(fd, kind, count, &offsets).map_err(|error| ("mmap", error));
        Ok(Self {
            receive: map(Kind::Receive, count)?,
            send: map(Kind::Send, send_count)?,
            fill: map(Kind::Fill, count)?,
            completion: map(Kind::Completion, send_count)?,
        })
    }

    /// The frame that came first.
    pub(super) fn take_received(&mut self) -> Option<Descriptor> {
        if self.receive.waiting() == 0 {
            return None;
        }
        let at = self.receive.entry(self.receive.own);
        let len = self.receive.memory.word(at + ADDRESS_LEN).load(Ordering::Relaxed);
        let descriptor = Descriptor { addr: self.receive.long(at), len };
        self.receive.own = self.receive.own.wrapping_add(1);
        self.receive.consumed();
        Some(descriptor)
    }

    /// Whether frames came.
    pub(super) fn has_received(&self) -> bool {
        self.receive.waiting() > 0
    }

    /// The address of a chunk that was sent.
    pub(super) fn take_sent(&mut self) -> Option<u64> {
        if self.completion.waiting() == 0 {
            return None;
        }
        let addr = self.completion.long(self.completion.entry(self.completion.own));
        self.completion.own = self.completion.own.wrapping_add(1);
        self.completion.consumed();
        Some(addr)
    }

    /// Offers a chunk to receive into; says no where the ring is full.
    pub(super) fn offer(&mut self, addr: u64) -> bool {
        if self.fill.room() == 0 {
            return false;
        }
        self.fill.memory.write(self.fill.entry(self.fill.own), &addr.to_ne_bytes());
        self.fill.own = self.fill.own.wrapping_add(1);
        self.fill.produced();
        true
    }

    /// Queues a frame; says no where the ring is full.
    pub(super) fn send(&mut self, frame: Descriptor) -> bool {
        if self.send.room() == 0 {
            return false;
        }
        let at = self.send.entry(self.send.own);
        self.send.memory.write(at, &frame.addr.to_ne_bytes());
        self.send.memory.write(at + ADDRESS_LEN, &u64::from(frame.len).to_ne_bytes());
        self.send.own = self.send.own.wrapping_add(1);
        self.send.produced();
        true
    }

    /// Frames that the kernel has not looked at yet.
    pub(super) fn unsent(&self) -> u32 {
        self.send.under_way()
    }

    /// Whether sends wait for a system call.
    pub(super) fn asks_to_send(&self) -> bool {
        self.send.asks_for_wakeup()
    }
}
