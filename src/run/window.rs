//! Where the frame under judgement lies in its chunk.
//!
//! Invariant: these bounds, not the context's fields in the cage, are what helpers and ports go by.

/// Bounds of a frame in its chunk, as guest addresses: `chunk <= meta <= data <= data_end <= chunk + chunk_len`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// First byte of the chunk.
    pub chunk: u32,
    /// Bytes of the chunk.
    pub chunk_len: u32,
    /// First byte of metadata; equal to `data` without any. Greater than `data` where the port supports none.
    pub meta: u32,
    /// First byte of the frame.
    pub data: u32,
    /// Behind the last byte of the frame.
    pub data_end: u32,
}

impl Window {
    /// A frame of `len` bytes, `headroom` bytes into its chunk.
    #[must_use]
    pub fn new(chunk: u32, chunk_len: u32, headroom: u32, len: u32) -> Self {
        let data = chunk + headroom;
        Self { chunk, chunk_len, meta: data, data, data_end: data + len }
    }

    /// Bytes of the frame.
    #[must_use]
    pub fn frame_len(&self) -> u32 {
        self.data_end - self.data
    }
}
