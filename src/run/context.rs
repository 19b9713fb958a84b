//! What r1 points at: the UAPI structures `xdp_md` and `__sk_buff`, written into the cage before a run.
//!
//! The 32-bit `data` fields hold guest pointers, so programs read them with plain loads and no access is rewritten.
//!
//! Source: `include/uapi/linux/bpf.h`. Invariant: the host writes contexts and never reads one back for a bound.

use super::Run;
use crate::trap::Fault;
use crate::verdict::ProgramKind;

/// Layouts of the contexts.
#[derive(Debug)]
pub struct Context;

impl Context {
    /// Bytes to reserve for a context of any kind.
    pub const LEN: u32 = 192;

    /// Offset of `xdp_md.data`; `data_end` and `data_meta` follow.
    pub const XDP_DATA: u32 = 0;
    /// Bytes of `struct xdp_md`.
    pub const XDP_LEN: u32 = 24;

    /// Offset of `__sk_buff.len`.
    pub const SKB_LEN: u32 = 0;
    /// Offset of `__sk_buff.protocol`, in network order.
    pub const SKB_PROTOCOL: u32 = 16;
    /// Offset of `__sk_buff.ingress_ifindex`.
    pub const SKB_INGRESS_IFINDEX: u32 = 36;
    /// Offset of `__sk_buff.ifindex`.
    pub const SKB_IFINDEX: u32 = 40;
    /// Offset of `__sk_buff.data`; `data_end` follows.
    pub const SKB_DATA: u32 = 76;
    /// Offset of `__sk_buff.data_meta`.
    pub const SKB_DATA_META: u32 = 140;

    /// Writes the context for the run's frame at `run.head.ctx`. Raw programs have none: r1 is the frame itself.
    ///
    /// # Errors
    /// The fault, when `head.ctx` is not writable guest memory.
    pub fn write(run: &Run<'_>) -> Result<(), Fault> {
        let at = u64::from(run.head.ctx);
        let cage = &run.world.cage;
        let window = &run.window;
        match run.kind {
            ProgramKind::Xdp => {
                let fields = [window.data, window.data_end, window.meta, run.ifindex, run.queue, 0];
                cage.write(at, fields.map(u32::to_le_bytes).as_flattened())
            }
            ProgramKind::Tc | ProgramKind::SocketFilter => {
                let mut bytes = [0u8; Self::LEN as usize];
                let mut put = |offset: u32, value: u32| {
                    bytes[offset as usize..offset as usize + 4].copy_from_slice(&value.to_le_bytes());
                };
                let mut protocol = [0; 2];
                if window.frame_len() >= 14 {
                    cage.read(u64::from(window.data) + 12, &mut protocol)?;
                }
                put(Self::SKB_LEN, window.frame_len());
                put(Self::SKB_PROTOCOL, u32::from(u16::from_le_bytes(protocol)));
                put(Self::SKB_INGRESS_IFINDEX, run.ifindex);
                put(Self::SKB_IFINDEX, run.ifindex);
                put(Self::SKB_DATA, window.data);
                put(Self::SKB_DATA + 4, window.data_end);
                put(Self::SKB_DATA_META, window.meta);
                cage.write(at, &bytes)
            }
            ProgramKind::Raw => Ok(()),
        }
    }

    /// Writes the frame's bounds into the context again after a helper moved them.
    ///
    /// # Errors
    /// The fault, when `head.ctx` is not writable guest memory.
    pub fn write_bounds(run: &Run<'_>) -> Result<(), Fault> {
        let at = u64::from(run.head.ctx);
        let cage = &run.world.cage;
        let window = &run.window;
        match run.kind {
            ProgramKind::Xdp => {
                cage.write(at, [window.data, window.data_end, window.meta].map(u32::to_le_bytes).as_flattened())
            }
            ProgramKind::Tc | ProgramKind::SocketFilter => {
                cage.write(at + u64::from(Self::SKB_LEN), &window.frame_len().to_le_bytes())?;
                let bounds = [window.data, window.data_end].map(u32::to_le_bytes);
                cage.write(at + u64::from(Self::SKB_DATA), bounds.as_flattened())?;
                cage.write(at + u64::from(Self::SKB_DATA_META), &window.meta.to_le_bytes())
            }
            ProgramKind::Raw => Ok(()),
        }
    }
}
