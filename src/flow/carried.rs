//! What an sk_buff keeps from one tc hook to the next.
//!
//! Contexts are written anew for each program; the fields that programs may write, and what helpers noted beside the
//! packet, go with the frame. A tag that is beside the packet when it leaves is put into it, as the kernel does for an
//! interface that cannot (`validate_xmit_vlan` of `net/core/dev.c`).
//!
//! Invariant: values that programs wrote are handed to programs and to nobody else.

use crate::run::{Context, PacketType, Run, Vlan};
use crate::trap::Fault;

/// Bytes of `__sk_buff` in which everything that is carried lies, but the time stamp.
const HEAD_LEN: usize = 76;
/// `mark` and `queue_mapping`; `priority`; `tc_index` and `cb`: offset and bytes.
const KEPT: [(u32, usize); 3] = [(Context::SKB_MARK, 8), (Context::SKB_PRIORITY, 4), (Context::SKB_IFINDEX + 4, 24)];
/// Bytes of both link addresses: a tag stands behind them.
const ADDRESSES_LEN: usize = 12;
/// Bytes of a tag.
const TAG_LEN: u32 = 4;

/// What an sk_buff keeps from one tc hook to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried {
    /// Port that it came in by (`skb_iif`); 0 for frames that the host made.
    pub(super) ingress: u32,
    head: [u8; HEAD_LEN],
    timestamp: [u8; 8],
    vlan: Option<Vlan>,
    hash: Option<u32>,
    packet_type: Option<PacketType>,
}

impl Carried {
    /// Of a frame that came in by this port; 0 for one that the host made.
    pub(super) fn new(ingress: u32) -> Self {
        // What a stack sends is to nobody else (`PACKET_HOST` of a fresh sk_buff).
        let packet_type = (ingress == 0).then_some(PacketType::Host);
        Self { ingress, head: [0; HEAD_LEN], timestamp: [0; 8], vlan: None, hash: None, packet_type }
    }

    /// Puts it into the context that was just written.
    pub(super) fn put(&self, run: &mut Run<'_>) -> Result<(), Fault> {
        let at = u64::from(run.head.ctx);
        let cage = &run.world.cage;
        for (offset, len) in KEPT {
            cage.write(at + u64::from(offset), &self.head[offset as usize..offset as usize + len])?;
        }
        cage.write(at + u64::from(Context::SKB_TSTAMP), &self.timestamp)?;
        cage.write(at + u64::from(Context::SKB_INGRESS_IFINDEX), &self.ingress.to_le_bytes())?;
        run.skb.vlan = self.vlan;
        run.skb.hash = self.hash;
        run.skb.packet_type = self.packet_type.unwrap_or(run.skb.packet_type);
        Context::write_skb(run)
    }

    /// Takes over what a program left.
    pub(super) fn take(&mut self, run: &Run<'_>) -> Result<(), Fault> {
        let at = u64::from(run.head.ctx);
        run.world.cage.read(at, &mut self.head)?;
        run.world.cage.read(at + u64::from(Context::SKB_TSTAMP), &mut self.timestamp)?;
        self.vlan = run.skb.vlan;
        self.hash = run.skb.hash;
        self.packet_type = Some(run.skb.packet_type);
        Ok(())
    }

    /// Whether a tag waits beside the packet.
    pub(super) fn has_tag(&self) -> bool {
        self.vlan.is_some()
    }

    /// Puts the tag into the packet of the run's window; says no where there is no room before it.
    pub(super) fn insert_tag(&mut self, run: &mut Run<'_>) -> bool {
        let Some(vlan) = self.vlan else { return true };
        let window = &mut run.window;
        if window.data - window.chunk < TAG_LEN || window.frame_len() < 14 {
            return false;
        }
        let cage = &run.world.cage;
        let mut head = [0; ADDRESSES_LEN + TAG_LEN as usize];
        let (addresses, tag) = head.split_at_mut(ADDRESSES_LEN);
        tag.copy_from_slice([vlan.protocol.to_be_bytes(), vlan.tci.to_be_bytes()].as_flattened());
        let data = window.data - TAG_LEN;
        let moved = cage.read(window.data.into(), addresses).and_then(|()| cage.write(data.into(), &head));
        if moved.is_err() {
            return false;
        }
        window.data = data;
        window.meta = data;
        self.vlan = None;
        true
    }
}
