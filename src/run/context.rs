//! What r1 points at: the UAPI structures `xdp_md` and `__sk_buff`, written into the cage before a run.
//!
//! The 32-bit `data` fields hold guest pointers, so programs read them with plain loads and no access is rewritten.
//!
//! Source: `include/uapi/linux/bpf.h`. Invariant: the host writes contexts and never reads one back for a bound.

use super::{PacketType, Run, Skb};
use crate::limits::FRAME_LEN_MIN;
use crate::trap::Fault;
use crate::verdict::ProgramKind;

/// Layouts of the contexts.
#[derive(Debug)]
pub struct Context;

impl Context {
    /// Bytes to reserve for a context of any kind, and for what it points at beside the frame.
    pub const LEN: u32 = 256;

    /// Bytes of `struct __sk_buff`.
    pub const SK_BUFF_LEN: u32 = 192;

    /// Offset of `xdp_md.data`; `data_end` and `data_meta` follow.
    pub const XDP_DATA: u32 = 0;
    /// Bytes of `struct xdp_md`.
    pub const XDP_LEN: u32 = 24;

    /// Offset of `__sk_buff.len`.
    pub const SKB_LEN: u32 = 0;
    /// Offset of `__sk_buff.pkt_type`.
    pub const SKB_PKT_TYPE: u32 = 4;
    /// Offset of `__sk_buff.mark`.
    pub const SKB_MARK: u32 = 8;
    /// Offset of `__sk_buff.protocol`, in network order.
    pub const SKB_PROTOCOL: u32 = 16;
    /// Offset of `__sk_buff.vlan_present`; `vlan_tci` and `vlan_proto` (in network order) follow.
    pub const SKB_VLAN: u32 = 20;
    /// Offset of `__sk_buff.priority`.
    pub const SKB_PRIORITY: u32 = 32;
    /// Offset of `__sk_buff.ingress_ifindex`.
    pub const SKB_INGRESS_IFINDEX: u32 = 36;
    /// Offset of `__sk_buff.ifindex`.
    pub const SKB_IFINDEX: u32 = 40;
    /// Offset of `__sk_buff.cb`, five words.
    pub const SKB_CB: u32 = 48;
    /// Offset of `__sk_buff.hash`.
    pub const SKB_HASH: u32 = 68;
    /// Offset of `__sk_buff.data`; `data_end` follows.
    pub const SKB_DATA: u32 = 76;
    /// Offset of `__sk_buff.data_meta`.
    pub const SKB_DATA_META: u32 = 140;
    /// Offset of `__sk_buff.flow_keys`, a pointer of eight bytes.
    pub const SKB_FLOW_KEYS: u32 = 144;
    /// Offset of `__sk_buff.tstamp`, eight bytes.
    pub const SKB_TSTAMP: u32 = 152;
    /// Offset of `__sk_buff.wire_len`.
    pub const SKB_WIRE_LEN: u32 = 160;
    /// Offset of `__sk_buff.gso_segs`.
    pub const SKB_GSO_SEGS: u32 = 164;
    /// Offset of `__sk_buff.gso_size`.
    pub const SKB_GSO_SIZE: u32 = 176;
    /// Offset of `__sk_buff.tstamp_type`, one byte.
    pub const SKB_TSTAMP_TYPE: u32 = 180;
    /// Offset of `__sk_buff.hwtstamp`, eight bytes.
    pub const SKB_HWTSTAMP: u32 = 184;

    /// Where `struct bpf_flow_keys` lies, counted from the context, and its bytes.
    pub const FLOW_KEYS: u32 = 192;
    /// Bytes of `struct bpf_flow_keys`.
    pub const FLOW_KEYS_LEN: u32 = 56;
    /// Offset of `bpf_flow_keys.nhoff`; `thoff` follows, two bytes each.
    pub const KEYS_NHOFF: u32 = 0;
    /// Offset of `bpf_flow_keys.n_proto`, in network order.
    pub const KEYS_N_PROTO: u32 = 10;
    /// Offset of `bpf_flow_keys.flags`.
    pub const KEYS_FLAGS: u32 = 48;

    /// Writes the context for the run's frame at `run.head.ctx`, and what the run knows of the packet beyond its bytes. Raw
    /// programs have none: r1 is the frame itself.
    ///
    /// # Errors
    /// The fault, when `head.ctx` or the frame is not guest memory.
    pub fn write(run: &mut Run<'_>) -> Result<(), Fault> {
        let at = u64::from(run.head.ctx);
        let cage = &run.world.cage;
        let window = run.window;
        run.skb = Skb::default();
        match run.kind {
            ProgramKind::Xdp => {
                let fields = [window.data, window.data_end, window.meta, run.ifindex, run.queue, 0];
                cage.write(at, fields.map(u32::to_le_bytes).as_flattened())
            }
            ProgramKind::FlowDissector => {
                cage.write(at, &[0; Self::LEN as usize])?;
                let keys = run.head.ctx + Self::FLOW_KEYS;
                cage.write(at + u64::from(Self::SKB_FLOW_KEYS), &u64::from(keys).to_le_bytes())?;
                write_flow_keys(run, keys.into())?;
                Self::write_bounds(run)
            }
            ProgramKind::Tc | ProgramKind::SocketFilter => {
                run.skb = received(run)?;
                cage.write(at, &[0; Self::LEN as usize])?;
                let put = |offset: u32, value: u32| cage.write(at + u64::from(offset), &value.to_le_bytes());
                put(Self::SKB_INGRESS_IFINDEX, run.ifindex)?;
                put(Self::SKB_IFINDEX, run.ifindex)?;
                put(Self::SKB_WIRE_LEN, window.frame_len())?;
                Self::write_skb(run)?;
                Self::write_bounds(run)
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
            ProgramKind::FlowDissector => {
                let bounds = [window.data, window.data_end].map(u32::to_le_bytes);
                cage.write(at + u64::from(Self::SKB_DATA), bounds.as_flattened())
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

    /// Writes what the run knows of the packet beyond its bytes into `__sk_buff` again after a helper changed it.
    ///
    /// # Errors
    /// The fault, when `head.ctx` is not writable guest memory.
    pub fn write_skb(run: &Run<'_>) -> Result<(), Fault> {
        match run.kind {
            ProgramKind::Tc | ProgramKind::SocketFilter => {}
            ProgramKind::Xdp | ProgramKind::FlowDissector | ProgramKind::Raw => return Ok(()),
        }
        let put = |offset: u32, value: u32| {
            run.world.cage.write(u64::from(run.head.ctx) + u64::from(offset), &value.to_le_bytes())
        };
        let in_network_order = |value: u16| u32::from(value.swap_bytes());
        let skb = &run.skb;
        let vlan = skb.vlan.unwrap_or_default();
        put(Self::SKB_PKT_TYPE, skb.packet_type as u32)?;
        put(Self::SKB_PROTOCOL, in_network_order(skb.protocol))?;
        put(Self::SKB_VLAN, skb.vlan.is_some().into())?;
        put(Self::SKB_VLAN + 4, vlan.tci.into())?;
        put(Self::SKB_VLAN + 8, in_network_order(vlan.protocol))?;
        put(Self::SKB_HASH, skb.hash.unwrap_or(0))?;
        put(Self::SKB_GSO_SIZE, skb.segment_len)
    }
}

/// What a flow dissector begins with: the network header behind the link header, and its protocol (`bpf_flow_dissect` of
/// `net/core/flow_dissector.c`).
fn write_flow_keys(run: &Run<'_>, keys: u64) -> Result<(), Fault> {
    let cage = &run.world.cage;
    let offset = u16::try_from(FRAME_LEN_MIN).expect("an Ethernet header").to_le_bytes();
    cage.write(keys + u64::from(Context::KEYS_NHOFF), [offset, offset].as_flattened())?;
    if run.window.frame_len() >= FRAME_LEN_MIN {
        let from = u64::from(run.window.data + FRAME_LEN_MIN - 2);
        cage.copy(from, keys + u64::from(Context::KEYS_N_PROTO), 2)?;
    }
    Ok(())
}

/// What is known of a frame that was just received, as `eth_type_trans` has it. Socket filters begin behind the link header.
fn received(run: &Run<'_>) -> Result<Skb, Fault> {
    let window = run.window;
    let link = match run.kind {
        ProgramKind::SocketFilter => window.data.saturating_sub(FRAME_LEN_MIN),
        ProgramKind::Tc | ProgramKind::FlowDissector | ProgramKind::Xdp | ProgramKind::Raw => window.data,
    };
    let network = link.saturating_add(FRAME_LEN_MIN);
    let mut skb = Skb { link, link_len: FRAME_LEN_MIN, network, ..Skb::default() };
    if window.data_end >= skb.network {
        let mut header = [0; FRAME_LEN_MIN as usize];
        run.world.cage.read(link.into(), &mut header)?;
        let [destination @ .., _, _, _, _, _, _, high, low] = header;
        let mut payload = [0; 2];
        if window.data_end - skb.network >= 2 {
            run.world.cage.read(skb.network.into(), &mut payload)?;
        }
        skb.protocol = Skb::protocol_of(u16::from_be_bytes([high, low]), payload);
        skb.packet_type = PacketType::of(destination, run.world.link_address);
    }
    Ok(skb)
}
