//! The tunnel that an sk_buff is to go into. `net/core/filter.c`.
//!
//! No port of ours wraps frames into tunnels: what a program sets it can ask for again, and reports may show it.
//!
//! Invariant: a frame that comes in has no tunnel.

use super::check::place;
use super::skb_frame::{Packet, Stop, answer};
use super::{Arg, Frame, Helper, Ret};
use crate::limits::TUNNEL_OPTIONS_LEN_MAX;
use crate::maps::Errno;
use crate::run::{Run, TunnelKey};
use crate::trap::{Access, TrapKind};
use crate::verdict::ProgramKind;

/// Bytes of `struct bpf_tunnel_key`.
const KEY_LEN: usize = 44;
/// Offset of `tunnel_ext`, which is `tunnel_flags` too.
const EXT: usize = 22;
/// Offset of `tunnel_label`.
const LABEL: usize = 24;
/// Offset of `local_ipv6`.
const LOCAL: usize = 28;
/// Behind `remote_ipv4`, the shortest form.
const REMOTE_IPV4_END: usize = 8;

const BPF_F_TUNINFO_IPV6: u64 = 1 << 0;
const BPF_F_ZERO_CSUM_TX: u64 = 1 << 1;
const BPF_F_DONT_FRAGMENT: u64 = 1 << 2;
const BPF_F_SEQ_NUMBER: u64 = 1 << 3;
const BPF_F_NO_TUNNEL_KEY: u64 = 1 << 4;
/// Of `bpf_skb_get_tunnel_key`.
const BPF_F_TUNINFO_FLAGS: u64 = 1 << 4;

/// `IP_TUNNEL_*_BIT` of `include/net/ip_tunnels.h`.
const TUNNEL_CSUM: u16 = 1 << 0;
const TUNNEL_KEY: u16 = 1 << 2;
const TUNNEL_SEQ: u16 = 1 << 3;
const TUNNEL_DONT_FRAGMENT: u16 = 1 << 8;
const TUNNEL_NOCACHE: u16 = 1 << 13;
/// Options of Geneve, VXLAN, ERSPAN and GTP: whichever tunnel it is to be.
const TUNNEL_OPTIONS_PRESENT: u16 = 1 << 11 | 1 << 12 | 1 << 14 | 1 << 15;

/// Flow labels have 20 bits.
const LABEL_MASK: u32 = 0xf_ffff;

/// Whether older programs have a `struct bpf_tunnel_key` of this length.
fn is_older_len(len: usize) -> bool {
    matches!(len, REMOTE_IPV4_END | EXT | LABEL | LOCAL)
}

/// `bytes` as `N` bytes at `offset`.
fn field<const N: usize>(bytes: &[u8; KEY_LEN], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("offsets are those of the structure")
}

fn skb_get_tunnel_key(run: &mut Run<'_>, [ctx, to, len, flags, _]: [u64; 5]) -> Result<u64, TrapKind> {
    place(20, 1).context(run, ctx)?;
    let range = place(20, 2).some_memory(run, to, len, Access::Write)?;
    let packet = Packet::new(run, 20);
    match key_bytes(packet.run.skb.tunnel, range.len() as usize, flags) {
        Ok(bytes) => answer(packet.write(to, &bytes[..range.len() as usize]).map(|()| 0)),
        Err(errno) => answer(packet.zero(to, range.len().into()).and(Err(errno.into()))),
    }
}

fn key_bytes(tunnel: Option<TunnelKey>, len: usize, flags: u64) -> Result<[u8; KEY_LEN], Errno> {
    let wants_ipv6 = flags & BPF_F_TUNINFO_IPV6 != 0;
    let known = flags & !(BPF_F_TUNINFO_IPV6 | BPF_F_TUNINFO_FLAGS) == 0;
    let key = tunnel.filter(|_| known).ok_or(Errno::EINVAL)?;
    if key.is_ipv6 != wants_ipv6 {
        return Err(Errno::EPROTO);
    }
    if len != KEY_LEN && !(is_older_len(len) && (len != REMOTE_IPV4_END || !key.is_ipv6)) {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0; KEY_LEN];
    bytes[..4].copy_from_slice(&key.id.to_le_bytes());
    bytes[4..20].copy_from_slice(&key.source);
    bytes[20] = key.tos;
    bytes[21] = key.ttl;
    if flags & BPF_F_TUNINFO_FLAGS != 0 {
        bytes[EXT..LABEL].copy_from_slice(&key.flags.to_be_bytes());
    }
    if key.is_ipv6 {
        bytes[LABEL..LOCAL].copy_from_slice(&key.label.to_le_bytes());
    }
    bytes[LOCAL..].copy_from_slice(&key.destination);
    Ok(bytes)
}

/// `long bpf_skb_get_tunnel_key(skb, key, size, flags)`.
pub(super) static SKB_GET_TUNNEL_KEY: Helper = Helper {
    id: 20,
    name: "skb_get_tunnel_key",
    args: &[Arg::Ctx, Arg::MemWrite, Arg::Len, Arg::Any],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc],
    body: skb_get_tunnel_key,
};

fn skb_set_tunnel_key(run: &mut Run<'_>, [ctx, from, len, flags, _]: [u64; 5]) -> Result<u64, TrapKind> {
    place(21, 1).context(run, ctx)?;
    let range = place(21, 2).some_memory(run, from, len, Access::Read)?;
    let len = range.len() as usize;
    let mut bytes = [0; KEY_LEN];
    let is_one = len == KEY_LEN || is_older_len(len);
    if is_one {
        run.world.cage.read(from, &mut bytes[..len]).map_err(|fault| place(21, 2).fault(fault))?;
    }
    let key = key_of(&bytes, flags).filter(|_| is_one);
    let Some(key) = key else { return Ok(Errno::EINVAL.to_r0()) };
    run.skb.tunnel = Some(key);
    Ok(0)
}

fn key_of(bytes: &[u8; KEY_LEN], flags: u64) -> Option<TunnelKey> {
    let known = BPF_F_TUNINFO_IPV6 | BPF_F_ZERO_CSUM_TX | BPF_F_DONT_FRAGMENT | BPF_F_SEQ_NUMBER | BPF_F_NO_TUNNEL_KEY;
    let is_ipv6 = flags & BPF_F_TUNINFO_IPV6 != 0;
    let label = u32::from_le_bytes(field(bytes, LABEL));
    let ext: [u8; 2] = field(bytes, EXT);
    if flags & !known != 0 || (!is_ipv6 && label != 0) || ext != [0, 0] {
        return None;
    }
    let mut tunnel_flags = TUNNEL_KEY | TUNNEL_CSUM | TUNNEL_NOCACHE;
    for (flag, set, cleared) in [
        (BPF_F_DONT_FRAGMENT, TUNNEL_DONT_FRAGMENT, 0),
        (BPF_F_ZERO_CSUM_TX, 0, TUNNEL_CSUM),
        (BPF_F_SEQ_NUMBER, TUNNEL_SEQ, 0),
        (BPF_F_NO_TUNNEL_KEY, 0, TUNNEL_KEY),
    ] {
        if flags & flag != 0 {
            tunnel_flags = tunnel_flags & !cleared | set;
        }
    }
    let address = |offset| {
        let mut address: [u8; 16] = field(bytes, offset);
        if !is_ipv6 {
            address[4..].fill(0);
        }
        address
    };
    Some(TunnelKey {
        id: u32::from_le_bytes(field(bytes, 0)),
        source: address(LOCAL),
        destination: address(4),
        is_ipv6,
        tos: bytes[20],
        ttl: bytes[21],
        label: if is_ipv6 { label & LABEL_MASK } else { 0 },
        flags: tunnel_flags,
        options_len: None,
    })
}

/// `long bpf_skb_set_tunnel_key(skb, key, size, flags)`: says which tunnel the packet is to go into.
pub(super) static SKB_SET_TUNNEL_KEY: Helper = Helper {
    id: 21,
    name: "skb_set_tunnel_key",
    args: &[Arg::Ctx, Arg::MemRead, Arg::Len, Arg::Any],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc],
    body: skb_set_tunnel_key,
};

fn skb_get_tunnel_opt(run: &mut Run<'_>, [ctx, to, len, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(29, 1).context(run, ctx)?;
    let range = place(29, 2).some_memory(run, to, len, Access::Write)?;
    run.work(len / 8)?;
    answer(load_options(&Packet::new(run, 29), to, range.len()))
}

fn load_options(packet: &Packet<'_, '_>, to: u64, len: u32) -> Result<u64, Stop> {
    packet.zero(to, len.into())?;
    let options_len = packet.run.skb.tunnel.and_then(|tunnel| tunnel.options_len).ok_or(Errno::ENOENT)?;
    if len < options_len.into() {
        return Err(Errno::ENOMEM.into());
    }
    packet.write(to, &packet.run.tunnel_options[..usize::from(options_len)])?;
    Ok(options_len.into())
}

/// `long bpf_skb_get_tunnel_opt(skb, opt, size)`: bytes of the tunnel's options.
pub(super) static SKB_GET_TUNNEL_OPT: Helper = Helper {
    id: 29,
    name: "skb_get_tunnel_opt",
    args: &[Arg::Ctx, Arg::MemWrite, Arg::Len],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc],
    body: skb_get_tunnel_opt,
};

fn skb_set_tunnel_opt(run: &mut Run<'_>, [ctx, from, len, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(30, 1).context(run, ctx)?;
    let range = place(30, 2).some_memory(run, from, len, Access::Read)?;
    let Some(tunnel) = run.skb.tunnel.filter(|_| range.len().is_multiple_of(4)) else {
        return Ok(Errno::EINVAL.to_r0());
    };
    let len = range.len() as usize;
    let Some(options_len) = u8::try_from(len).ok().filter(|_| len <= TUNNEL_OPTIONS_LEN_MAX) else {
        return Ok(Errno::ENOMEM.to_r0());
    };
    let world = run.world;
    world.cage.read(from, &mut run.tunnel_options[..len]).map_err(|fault| place(30, 2).fault(fault))?;
    let flags = tunnel.flags | TUNNEL_OPTIONS_PRESENT;
    run.skb.tunnel = Some(TunnelKey { options_len: Some(options_len), flags, ..tunnel });
    Ok(0)
}

/// `long bpf_skb_set_tunnel_opt(skb, opt, size)`: options of the tunnel, behind `bpf_skb_set_tunnel_key`.
pub(super) static SKB_SET_TUNNEL_OPT: Helper = Helper {
    id: 30,
    name: "skb_set_tunnel_opt",
    args: &[Arg::Ctx, Arg::MemRead, Arg::Len],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc],
    body: skb_set_tunnel_opt,
};
