//! How the helpers of tc programs reach the packet, open and close room in it, and end.
//!
//! A kernel that lacks room before a packet copies it to a larger buffer; here the frame moves within its chunk, and the
//! helper answers -ENOMEM where the chunk is too short.
//!
//! Invariant: the run's window and headers say where the frame is; what the program made of the context is never read. All
//! that is touched lies in the chunk.

use crate::maps::Errno;
use crate::run::{Context, Run};
use crate::trap::{Fault, TrapKind};

/// Why a body ends before its end.
pub(super) enum Stop {
    /// The helper's answer.
    Errno(Errno),
    /// A bad argument.
    Trap(TrapKind),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<TrapKind> for Stop {
    fn from(trap: TrapKind) -> Self {
        Self::Trap(trap)
    }
}

/// r0 of a body.
pub(super) fn answer(ended: Result<u64, Stop>) -> Result<u64, TrapKind> {
    match ended {
        Ok(r0) => Ok(r0),
        Err(Stop::Errno(errno)) => Ok(errno.to_r0()),
        Err(Stop::Trap(trap)) => Err(trap),
    }
}

/// The low half of a register, which is what the kernel's parameter takes.
#[expect(clippy::cast_possible_truncation, reason = "the kernel's parameter is 32 bits of the register")]
pub(super) fn u32_of(register: u64) -> u32 {
    register as u32
}

/// The low quarter of a register.
#[expect(clippy::cast_possible_truncation, reason = "the kernel's parameter is 16 bits of the register")]
pub(super) fn u16_of(register: u64) -> u16 {
    register as u16
}

/// The packet of a run, for one helper.
pub(super) struct Packet<'run, 'world> {
    pub(super) run: &'run mut Run<'world>,
    helper: u32,
}

impl<'run, 'world> Packet<'run, 'world> {
    /// The packet, for the helper with this number.
    pub(super) fn new(run: &'run mut Run<'world>, helper: u32) -> Self {
        Self { run, helper }
    }

    fn fault(&self, fault: Fault) -> Stop {
        Stop::Trap(TrapKind::HelperMemory { helper: self.helper, fault })
    }

    /// Bytes of the packet.
    pub(super) fn len(&self) -> u32 {
        self.run.window.frame_len()
    }

    /// Guest address of `len` bytes at `offset` of the packet, if it has them.
    pub(super) fn at(&self, offset: u32, len: u32) -> Option<u64> {
        let inside = u64::from(offset) + u64::from(len) <= u64::from(self.len());
        inside.then(|| u64::from(self.run.window.data) + u64::from(offset))
    }

    /// Copies bytes of the chunk out.
    pub(super) fn read<const LEN: usize>(&self, addr: u64) -> Result<[u8; LEN], Stop> {
        let mut bytes = [0; LEN];
        self.run.world.cage.read(addr, &mut bytes).map_err(|fault| self.fault(fault))?;
        Ok(bytes)
    }

    /// Copies bytes into the chunk.
    pub(super) fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Stop> {
        self.run.world.cage.write(addr, bytes).map_err(|fault| self.fault(fault))
    }

    /// Moves bytes within guest memory.
    pub(super) fn copy(&self, from: u64, to: u64, len: u64) -> Result<(), Stop> {
        self.run.world.cage.copy(from, to, len).map_err(|fault| self.fault(fault))
    }

    /// Zeroes guest memory.
    pub(super) fn zero(&self, addr: u64, len: u64) -> Result<(), Stop> {
        self.run.world.cage.fill(addr, len, 0).map_err(|fault| self.fault(fault))
    }

    /// First byte of metadata before the packet.
    fn meta(&self) -> u32 {
        self.run.window.meta.min(self.run.window.data)
    }

    /// Bytes of the chunk behind the packet.
    fn tail_room(&self) -> u32 {
        let window = &self.run.window;
        window.chunk.saturating_add(window.chunk_len).saturating_sub(window.data_end)
    }

    /// Moves the whole frame, metadata included, by so many bytes that the chunk has; downwards as `2^32 - n`.
    fn slide(&mut self, by: u32) -> Result<(), Stop> {
        let start = self.meta();
        let len = self.run.window.data_end - start;
        self.copy(start.into(), start.wrapping_add(by).into(), len.into())?;
        let window = &mut self.run.window;
        window.meta = window.meta.wrapping_add(by);
        window.data = window.data.wrapping_add(by);
        window.data_end = window.data_end.wrapping_add(by);
        self.run.skb.moved(by);
        Ok(())
    }

    /// Makes `len` bytes of room before the packet (`skb_cow`).
    pub(super) fn make_head_room(&mut self, len: u32) -> Result<(), Stop> {
        let head_room = self.meta().saturating_sub(self.run.window.chunk);
        let missing = len.saturating_sub(head_room);
        if missing > self.tail_room() {
            return Err(Errno::ENOMEM.into());
        }
        if missing > 0 { self.slide(missing) } else { Ok(()) }
    }

    /// Makes `len` bytes of room behind the packet.
    pub(super) fn make_tail_room(&mut self, len: u32) -> Result<(), Stop> {
        let head_room = self.meta().saturating_sub(self.run.window.chunk);
        let missing = len.saturating_sub(self.tail_room());
        if missing > head_room {
            return Err(Errno::ENOMEM.into());
        }
        if missing > 0 { self.slide(missing.wrapping_neg()) } else { Ok(()) }
    }

    /// Puts `len` bytes at `offset` of the packet by moving what is before them forward; what they hold is left over. The
    /// room is there.
    pub(super) fn open(&mut self, offset: u32, len: u32) -> Result<(), Stop> {
        let start = self.meta();
        let moved_len = self.run.window.data - start + offset;
        self.copy(start.into(), (start - len).into(), moved_len.into())?;
        let window = &mut self.run.window;
        window.meta -= len;
        window.data -= len;
        Ok(())
    }

    /// Takes `len` bytes at `offset` out of the packet by moving what is before them backward.
    pub(super) fn close(&mut self, offset: u32, len: u32) -> Result<(), Stop> {
        let start = self.meta();
        let moved_len = self.run.window.data - start + offset;
        self.copy(start.into(), (start + len).into(), moved_len.into())?;
        let window = &mut self.run.window;
        window.meta += len;
        window.data += len;
        Ok(())
    }

    /// Writes what has changed where the program finds it.
    pub(super) fn publish(&self) -> Result<(), Stop> {
        Context::write_bounds(self.run).and_then(|()| Context::write_skb(self.run)).map_err(|fault| self.fault(fault))
    }
}
