//! A context and a frame below 4 GiB, where the 32-bit fields of `struct xdp_md` hold whole addresses: what native code and
//! engines without a cage run on.

use crate::engine::Absent;

const LEN: usize = 8192;
/// Where the frame lies.
const FRAME_START: usize = 512;

/// The memory; it stays, as engines keep its address.
#[derive(Debug)]
pub(crate) struct LowMemory {
    start: *mut u8,
    frame_len: usize,
}

impl LowMemory {
    pub(crate) fn new(frame: &[u8]) -> Result<Self, Absent> {
        assert!(FRAME_START + frame.len() <= LEN, "frames of the bench fit");
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), LEN, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(Absent::because("there is no memory below 4 GiB"));
        }
        let mut memory = Self { start: start.cast(), frame_len: frame.len() };
        memory.place(frame);
        Ok(memory)
    }

    /// Puts a frame there, of the same length, and its context before it.
    pub(crate) fn place(&mut self, frame: &[u8]) {
        assert_eq!(frame.len(), self.frame_len, "a row has one frame");
        let data = u32::try_from(self.start.addr() + FRAME_START).expect("it lies below 4 GiB");
        let data_end = data + u32::try_from(frame.len()).expect("short");
        let bytes = self.bytes();
        for (field, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip([data, data_end, data, 1, 0, 0]) {
            *field = value.to_ne_bytes();
        }
        bytes[FRAME_START..FRAME_START + frame.len()].copy_from_slice(frame);
    }

    /// The frame as it is now.
    pub(crate) fn frame(&mut self) -> Vec<u8> {
        let end = FRAME_START + self.frame_len;
        self.bytes()[FRAME_START..end].to_vec()
    }

    /// All of it, from the context on.
    pub(crate) fn bytes(&mut self) -> &'static mut [u8] {
        // SAFETY: the mapping stays; who calls does so for one run, and nobody else holds the bytes meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.start, LEN) }
    }

    /// Address of the context.
    pub(crate) fn context(&self) -> *mut u8 {
        self.start
    }
}
