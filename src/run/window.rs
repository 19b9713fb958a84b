//! Where the frame under judgement lies in its chunk.
//!
//! The kernel keeps the rest of a long XDP frame in fragments, which programs reach through helpers alone. Here they follow
//! the linear part without a gap, so that a helper has one range to look at; where one fragment ends and the next begins is
//! arithmetic.
//!
//! Invariant: these bounds, not the context's fields in the cage, are what helpers and ports go by.

use crate::limits::FRAGMENT_LEN_MAX;

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
    /// Behind the last byte of the frame, or of its linear part where it has fragments.
    pub data_end: u32,
    /// Bytes of the fragments, which follow at `data_end` and may lie behind the end of the chunk's length.
    pub fragments_len: u32,
    /// Bytes at the start of the first fragment's page that were pulled out of it.
    pub pulled: u32,
}

impl Window {
    /// A frame of `len` bytes, `headroom` bytes into its chunk.
    #[must_use]
    pub fn new(chunk: u32, chunk_len: u32, headroom: u32, len: u32) -> Self {
        let data = chunk + headroom;
        Self { chunk, chunk_len, meta: data, data, data_end: data + len, fragments_len: 0, pulled: 0 }
    }

    /// Bytes of the frame.
    #[must_use]
    pub fn frame_len(&self) -> u32 {
        self.data_end - self.data + self.fragments_len
    }

    /// Behind the last byte of the frame, fragments included.
    #[must_use]
    pub fn frame_end(&self) -> u32 {
        self.data_end + self.fragments_len
    }

    /// Bytes of the linear part: all that a program reads and writes without helpers.
    #[must_use]
    pub fn linear_len(&self) -> u32 {
        self.data_end - self.data
    }

    /// Whether `len` bytes at `offset` of the frame, which has them, lie in the linear part or in one fragment.
    #[must_use]
    pub fn is_one_piece(&self, offset: u32, len: u32) -> bool {
        match offset.checked_sub(self.linear_len()) {
            None => offset + len <= self.linear_len(),
            Some(behind) => (behind + self.pulled) % FRAGMENT_LEN_MAX + len <= FRAGMENT_LEN_MAX,
        }
    }

    /// Bytes by which the last fragment can grow in its page.
    #[must_use]
    pub fn fragment_room(&self) -> u32 {
        let used = (self.pulled + self.fragments_len) % FRAGMENT_LEN_MAX;
        if used == 0 { 0 } else { FRAGMENT_LEN_MAX - used }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_end_where_their_pages_do() {
        let whole = Window::new(0x1000, 4096, 256, 60);
        assert_eq!((whole.frame_len(), whole.fragment_room(), whole.is_one_piece(10, 50)), (60, 0, true));
        let long = Window { fragments_len: 5000, ..whole };
        assert_eq!((long.frame_len(), long.linear_len(), long.frame_end()), (5060, 60, long.data_end + 5000));
        assert!(!long.is_one_piece(59, 2) && long.is_one_piece(60, 4096));
        assert!(!long.is_one_piece(60 + 4095, 2) && long.is_one_piece(60 + 4096, 904));
        assert_eq!(long.fragment_room(), 4096 - 904);
        let pulled = Window { data_end: long.data_end + 100, fragments_len: 4900, pulled: 100, ..long };
        assert!(pulled.is_one_piece(160, 3996) && !pulled.is_one_piece(160, 3997));
        assert_eq!((pulled.frame_len(), pulled.fragment_room()), (5060, 4096 - 904));
    }
}
