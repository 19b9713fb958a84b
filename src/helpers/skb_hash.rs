//! The flow's hash that an sk_buff carries. `net/core/filter.c`.
//!
//! The kernel keys its hash with a number drawn at start; ours is one of many that it could be, and the same in every run.
//!
//! Invariant: a computed hash is never zero.

use super::check::place;
use super::skb_frame::{Packet, Stop, answer, u32_of};
use super::{Arg, Frame, Helper, Ret};
use crate::run::Run;
use crate::trap::TrapKind;
use crate::verdict::ProgramKind;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// One round of FNV-1a.
fn mixed(hash: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// A hash of what tells the packet's flow: addresses, protocol and ports, where it has them.
fn flow_hash(packet: &Packet<'_, '_>) -> Result<u32, Stop> {
    const OFFSET_BASIS: u32 = 0x811c_9dc5;
    let skb = packet.run.skb;
    let end = u64::from(packet.run.window.data_end);
    let network = u64::from(skb.network);
    let mut hash = mixed(OFFSET_BASIS, &skb.protocol.to_be_bytes());
    let transport = match skb.protocol {
        ETH_P_IP if network + 20 <= end => {
            let [first, _, _, _, _, _, fragment @ .., _, protocol, _, _, _, _, _, _, _, _, _, _] =
                packet.read::<20>(network)?;
            let addresses: [u8; 8] = packet.read(network + 12)?;
            hash = mixed(mixed(hash, &addresses), &[protocol]);
            let is_fragment = u16::from_be_bytes(fragment) & 0x3fff != 0;
            let has_ports = matches!(protocol, 6 | 17 | 132) && !is_fragment;
            has_ports.then_some(network + u64::from(first & 0xf) * 4)
        }
        ETH_P_IPV6 if network + 40 <= end => {
            let [protocol] = packet.read(network + 6)?;
            let addresses: [u8; 32] = packet.read(network + 8)?;
            hash = mixed(mixed(hash, &addresses), &[protocol]);
            matches!(protocol, 6 | 17 | 132).then_some(network + 40)
        }
        _ => None,
    };
    if let Some(transport) = transport.filter(|transport| transport + 4 <= end) {
        hash = mixed(hash, &packet.read::<4>(transport)?);
    }
    Ok(hash.max(1))
}

fn recalculate(packet: &mut Packet<'_, '_>) -> Result<u64, Stop> {
    let hash = match packet.run.skb.hash {
        Some(hash) => hash,
        None => flow_hash(packet)?,
    };
    packet.run.skb.hash = Some(hash);
    packet.publish()?;
    Ok(hash.into())
}

fn get_hash_recalc(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(34, 1).context(run, ctx)?;
    answer(recalculate(&mut Packet::new(run, 34)))
}

/// `u32 bpf_get_hash_recalc(skb)`: the hash, computed where none is known.
pub(super) static GET_HASH_RECALC: Helper = Helper {
    id: 34,
    name: "get_hash_recalc",
    args: &[Arg::Ctx],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc],
    body: get_hash_recalc,
};

/// Notes a hash, or that none is known.
fn note(run: &mut Run<'_>, helper: u32, hash: Option<u32>) -> Result<u64, TrapKind> {
    run.skb.hash = hash;
    answer(Packet::new(run, helper).publish().map(|()| 0))
}

fn set_hash_invalid(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(41, 1).context(run, ctx)?;
    note(run, 41, None)
}

/// `void bpf_set_hash_invalid(skb)`: forgets the hash.
pub(super) static SET_HASH_INVALID: Helper = Helper {
    id: 41,
    name: "set_hash_invalid",
    args: &[Arg::Ctx],
    ret: Ret::Integer,
    cost: 8,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc],
    body: set_hash_invalid,
};

fn set_hash(run: &mut Run<'_>, [ctx, hash, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(48, 1).context(run, ctx)?;
    note(run, 48, Some(u32_of(hash)))
}

/// `u32 bpf_set_hash(skb, hash)`: says the hash.
pub(super) static SET_HASH: Helper = Helper {
    id: 48,
    name: "set_hash",
    args: &[Arg::Ctx, Arg::Any],
    ret: Ret::Integer,
    cost: 8,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc],
    body: set_hash,
};
