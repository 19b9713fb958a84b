//! Frames that other threads hand a worker for sending.
//!
//! Invariant: neither side blocks or allocates; when every chunk is under way, [`Outbox::put`] says no.

use std::ops::Range;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::Frame;
use crate::cage::Region;
use crate::limits::{CHUNK_LEN, FRAME_LEN_MAX, FRAME_LEN_MIN, HEADROOM};

/// Frames that other threads hand a worker for sending, in chunks that the worker's pool lends.
#[derive(Debug)]
pub struct Outbox {
    region: Arc<Region>,
    chunks: Range<u16>,
    free: ArrayQueue<u16>,
    ready: ArrayQueue<(u16, u16)>,
}

impl Outbox {
    pub(super) fn new(region: Arc<Region>, chunks: Range<u16>) -> Self {
        let capacity = chunks.len().max(1);
        let free = ArrayQueue::new(capacity);
        for chunk in chunks.clone() {
            free.push(chunk).expect("there is a place for each chunk");
        }
        Self { region, chunks, free, ready: ArrayQueue::new(capacity) }
    }

    /// Chunks, all in all.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.chunks.end - self.chunks.start
    }

    /// Whether a frame of this length can be sent at all.
    #[must_use]
    pub fn takes(len: usize) -> bool {
        (FRAME_LEN_MIN as usize..=FRAME_LEN_MAX as usize).contains(&len)
    }

    /// Copies a frame into a free chunk and queues it. The worker must then be woken. Says no when no chunk is free.
    ///
    /// # Panics
    /// If the length is none that [`Self::takes`].
    #[must_use]
    pub fn put(&self, bytes: &[u8]) -> bool {
        assert!(Self::takes(bytes.len()), "the caller checks lengths");
        let Some(chunk) = self.free.pop() else { return false };
        self.region.write(u64::from(chunk) * u64::from(CHUNK_LEN) + u64::from(HEADROOM), bytes);
        let len = u16::try_from(bytes.len()).expect("checked above");
        self.ready.push((chunk, len)).expect("there is a place for each chunk");
        true
    }

    /// The next frame to send.
    #[must_use]
    pub fn take(&self) -> Option<Frame> {
        self.ready.pop().map(|(chunk, len)| Frame::behind_headroom(chunk, len))
    }

    /// Whether frames wait.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether no frame waits and none is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.free.len() == self.chunks.len()
    }

    pub(super) fn give(&self, chunk: u16) {
        assert!(self.chunks.contains(&chunk), "a chunk of this outbox");
        self.free.push(chunk).expect("a chunk is given back once");
    }
}
