//! Chunks of the cage that frames lie in, and the frames.
//!
//! Invariant: allocates nothing after it is made, and its chunks are faulted in. Bounds of frames lie outside the cage.

use std::sync::Arc;

use super::Outbox;
use crate::cage::{Cage, CageError, Region};
use crate::limits::{CHUNK_LEN, FRAME_LEN_MAX, HEADROOM, PAGE_LEN};
use crate::run::Window;

/// A frame in a chunk of a pool. Who holds it owns the chunk; it goes back by [`Pool::release`] or through a port.
#[derive(Debug)]
#[must_use = "a frame that is dropped takes its chunk out of the pool"]
pub struct Frame {
    pub(super) chunk: u16,
    pub(super) offset: u16,
    pub(super) len: u16,
}

impl Frame {
    /// A frame as a port or a source finds it: behind the headroom.
    pub(super) fn behind_headroom(chunk: u16, len: u16) -> Self {
        assert!(u32::from(len) <= FRAME_LEN_MAX, "ports cut frames to what a chunk holds");
        Self { chunk, offset: HEADROOM_U16, len }
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::from(self.len)
    }

    /// Whether it holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[expect(clippy::cast_possible_truncation, reason = "256")]
const HEADROOM_U16: u16 = HEADROOM as u16;

/// The chunks of one worker: its own, and those that its outbox lends it.
#[derive(Debug)]
pub struct Pool {
    region: Arc<Region>,
    /// Chunks below this number are the worker's own, the others the outbox's.
    own_count: u16,
    free: Vec<u16>,
    outbox: Arc<Outbox>,
}

impl Pool {
    /// Takes `own_count` chunks for receiving and `outbox_count` for an outbox from the cage.
    ///
    /// # Errors
    /// [`CageError`] when the cage has no room.
    pub fn new(cage: &Arc<Cage>, own_count: u16, outbox_count: u16) -> Result<Self, CageError> {
        let count = own_count.checked_add(outbox_count).expect("counts are constants of `limits`");
        let len = u64::from(count) * u64::from(CHUNK_LEN);
        let region = Arc::new(cage.alloc(len, "frames")?);
        for page in (0..len).step_by(PAGE_LEN as usize) {
            region.write(page, &[0]);
        }
        let outbox = Arc::new(Outbox::new(Arc::clone(&region), own_count..count));
        Ok(Self { region, own_count, free: (0..own_count).rev().collect(), outbox })
    }

    /// Where another thread puts frames that this pool's worker sends.
    #[must_use]
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Chunks for receiving.
    #[must_use]
    pub fn own_count(&self) -> u16 {
        self.own_count
    }

    /// Chunks, those of the outbox included.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.own_count + self.outbox.count()
    }

    /// Chunks of its own that nobody holds.
    #[must_use]
    pub fn free_count(&self) -> usize {
        self.free.len()
    }

    /// The memory behind it. Whoever lets the kernel write there keeps it alive.
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Takes a chunk to receive into.
    pub(super) fn take(&mut self) -> Option<u16> {
        self.free.pop()
    }

    /// Gives a chunk back to whom it belongs.
    pub(super) fn give(&mut self, chunk: u16) {
        if chunk < self.own_count {
            assert!(self.free.len() < usize::from(self.own_count), "a chunk is given back once");
            self.free.push(chunk);
        } else {
            self.outbox.give(chunk);
        }
    }

    /// Gives a frame's chunk back.
    pub fn release(&mut self, frame: Frame) {
        self.give(frame.chunk);
    }

    /// Host address of the frame's first byte, for system calls.
    pub(super) fn frame_ptr(&self, frame: &Frame) -> *mut u8 {
        self.chunk_ptr(frame.chunk).wrapping_add(usize::from(frame.offset))
    }

    /// Host address of a chunk.
    pub(super) fn chunk_ptr(&self, chunk: u16) -> *mut u8 {
        assert!(chunk < self.count(), "a chunk of this pool");
        self.region.host_ptr().wrapping_add(usize::from(chunk) * CHUNK_LEN as usize)
    }

    /// Bounds of a frame for its run, as guest addresses; no metadata.
    #[must_use]
    pub fn window(&self, frame: &Frame) -> Window {
        let chunk = self.region.addr() + u32::from(frame.chunk) * CHUNK_LEN;
        Window::new(chunk, CHUNK_LEN, u32::from(frame.offset), u32::from(frame.len))
    }

    /// Moves the frame's bounds to where a run left them.
    ///
    /// # Panics
    /// If they are outside its chunk, which helpers do not let happen; the frame is as before then.
    pub fn follow(&self, frame: &mut Frame, window: &Window) {
        let chunk = self.region.addr() + u32::from(frame.chunk) * CHUNK_LEN;
        assert!(
            window.chunk == chunk && chunk <= window.data && window.data <= window.data_end,
            "helpers keep a frame in its chunk"
        );
        assert!(window.data_end - chunk <= CHUNK_LEN, "helpers keep a frame in its chunk");
        let [offset, len] =
            [window.data - chunk, window.frame_len()].map(|n| u16::try_from(n).expect("within a chunk"));
        (frame.offset, frame.len) = (offset, len);
    }

    /// Copies the frame's bytes out, as many as `into` takes, and says how many.
    pub fn read(&self, frame: &Frame, into: &mut [u8]) -> usize {
        let len = usize::from(frame.len).min(into.len());
        self.region.read(Self::at(frame), &mut into[..len]);
        len
    }

    /// Writes bytes over a frame, whose length becomes theirs. They must fit behind the frame's start.
    ///
    /// # Panics
    /// If they do not: our mistake; the frame is as before then.
    pub fn rewrite(&self, frame: &mut Frame, bytes: &[u8]) {
        let len = u16::try_from(bytes.len()).expect("a frame is shorter than a chunk");
        assert!(u32::from(frame.offset) + u32::from(len) <= CHUNK_LEN, "an answer fits in its chunk");
        self.region.write(Self::at(frame), bytes);
        frame.len = len;
    }

    fn at(frame: &Frame) -> u64 {
        u64::from(frame.chunk) * u64::from(CHUNK_LEN) + u64::from(frame.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        Pool::new(&Cage::new().expect("address space"), 4, 2).expect("room")
    }

    #[test]
    fn a_frame_lies_behind_the_headroom_and_keeps_what_is_written() {
        let mut pool = pool();
        let chunk = pool.take().expect("four are free");
        let mut frame = Frame::behind_headroom(chunk, 60);
        let window = pool.window(&frame);
        assert_eq!(window.data - window.chunk, HEADROOM);
        assert_eq!((window.frame_len(), window.meta), (60, window.data));
        pool.rewrite(&mut frame, b"sixteen bytes ..");
        let mut bytes = [0; 64];
        assert_eq!(pool.read(&frame, &mut bytes), 16);
        assert_eq!(&bytes[..16], b"sixteen bytes ..");
        pool.release(frame);
        assert_eq!(pool.free_count(), 4);
    }

    #[test]
    fn a_frame_follows_its_window() {
        let mut pool = pool();
        let mut frame = Frame::behind_headroom(pool.take().expect("free"), 100);
        let mut window = pool.window(&frame);
        window.data -= 20;
        window.data_end -= 10;
        pool.follow(&mut frame, &window);
        assert_eq!((frame.offset, frame.len), (236, 110));
        assert_eq!(pool.window(&frame).data, window.data);
        pool.release(frame);
    }

    #[test]
    #[should_panic(expected = "helpers keep a frame in its chunk")]
    fn a_window_outside_the_chunk_is_our_fault() {
        let mut pool = pool();
        let mut frame = Frame::behind_headroom(pool.take().expect("free"), 100);
        let mut window = pool.window(&frame);
        window.data_end = window.chunk + CHUNK_LEN + 1;
        pool.follow(&mut frame, &window);
        pool.release(frame);
    }

    #[test]
    fn chunks_of_the_outbox_go_back_to_it() {
        let mut pool = pool();
        let outbox = Arc::clone(pool.outbox());
        assert!(outbox.put(&[1; 20]) && outbox.put(&[2; 20]));
        assert!(!outbox.put(&[3; 20]), "two chunks only");
        let frame = outbox.take().expect("put first");
        pool.release(frame);
        assert_eq!(pool.free_count(), 4);
        assert!(outbox.put(&[3; 20]));
    }
}
