//! Bring the checksums in a packet up to date after its bytes were changed. `net/core/filter.c`, `net/core/utils.c`.
//!
//! Invariant: sums are of words as the machine reads them, little-endian, as in the kernel on this machine.

use super::check::place;
use super::checksum::fold32;
use super::skb_frame::{Packet, Stop, answer, u16_of, u32_of};
use super::{Arg, Frame, Helper, Ret};
use crate::maps::Errno;
use crate::run::{Checksum, Run};
use crate::trap::TrapKind;
use crate::verdict::ProgramKind;

/// `BPF_F_HDR_FIELD_MASK`: bytes of the field that changed, or 0 where the difference of sums is given.
const FIELD_LEN: u64 = 0xf;
/// `BPF_F_PSEUDO_HDR`; matters only to a sum of all bytes, which no frame comes with.
const BPF_F_PSEUDO_HDR: u64 = 1 << 4;
/// `BPF_F_MARK_MANGLED_0`: a checksum of zero means none, so that none comes about.
const BPF_F_MARK_MANGLED_0: u64 = 1 << 5;
/// `BPF_F_MARK_ENFORCE`: also where there was none.
const BPF_F_MARK_ENFORCE: u64 = 1 << 6;
/// `BPF_F_IPV6`; matters only to a sum of all bytes.
const BPF_F_IPV6: u64 = 1 << 7;
/// What a checksum of zero is sent as.
const CSUM_MANGLED_0: u16 = 0xffff;
/// `SKB_MAX_CSUM_LEVEL`.
const LEVEL_MAX: u8 = 3;

/// `csum_add`.
fn added(left: u32, right: u32) -> u32 {
    fold32(u64::from(left) + u64::from(right))
}

/// `csum_fold`: a checksum of a sum.
fn checksum_of(sum: u32) -> u16 {
    !u16_of(super::checksum::fold16(sum).into())
}

/// `csum_replace_by_diff`.
fn replaced_by_difference(check: u16, difference: u32) -> u16 {
    checksum_of(added(difference, !u32::from(check)))
}

/// `csum_replace4`.
fn replaced_word(check: u16, from: u32, to: u32) -> u16 {
    checksum_of(added(added(!u32::from(check), !from), to))
}

/// `csum16_add`.
pub(super) fn added16(left: u16, right: u16) -> u16 {
    let (sum, carry) = left.overflowing_add(right);
    sum + u16::from(carry)
}

/// `csum_replace2`.
fn replaced_half(check: u16, from: u16, to: u16) -> u16 {
    !added16(added16(!check, !from), to)
}

/// Guest address of the checksum at an even `offset`, as both helpers look for it.
fn place_of_checksum(packet: &Packet<'_, '_>, offset: u32) -> Result<u64, Stop> {
    if offset > 0xffff || offset & 1 != 0 {
        return Err(Errno::EFAULT.into());
    }
    Ok(packet.at(offset, 2).ok_or(Errno::EFAULT)?)
}

fn l3_csum_replace(run: &mut Run<'_>, [ctx, offset, from, to, flags]: [u64; 5]) -> Result<u64, TrapKind> {
    place(10, 1).context(run, ctx)?;
    answer(replace_network(&Packet::new(run, 10), u32_of(offset), from, to, flags))
}

fn replace_network(packet: &Packet<'_, '_>, offset: u32, from: u64, to: u64, flags: u64) -> Result<u64, Stop> {
    if flags & !FIELD_LEN != 0 {
        return Err(Errno::EINVAL.into());
    }
    let at = place_of_checksum(packet, offset)?;
    let check = u16::from_le_bytes(packet.read(at)?);
    let replaced = match flags {
        0 if from == 0 => replaced_by_difference(check, u32_of(to)),
        2 => replaced_half(check, u16_of(from), u16_of(to)),
        4 => replaced_word(check, u32_of(from), u32_of(to)),
        _ => return Err(Errno::EINVAL.into()),
    };
    packet.write(at, &replaced.to_le_bytes())?;
    Ok(0)
}

/// `long bpf_l3_csum_replace(skb, offset, from, to, size)`: the checksum of a network header.
pub(super) static L3_CSUM_REPLACE: Helper = Helper {
    id: 10,
    name: "l3_csum_replace",
    args: &[Arg::Ctx, Arg::Any, Arg::Any, Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Moves,
    kinds: &[ProgramKind::Tc],
    body: l3_csum_replace,
};

fn l4_csum_replace(run: &mut Run<'_>, [ctx, offset, from, to, flags]: [u64; 5]) -> Result<u64, TrapKind> {
    place(11, 1).context(run, ctx)?;
    answer(replace_transport(&Packet::new(run, 11), u32_of(offset), from, to, flags))
}

fn replace_transport(packet: &Packet<'_, '_>, offset: u32, from: u64, to: u64, flags: u64) -> Result<u64, Stop> {
    let known = BPF_F_MARK_MANGLED_0 | BPF_F_MARK_ENFORCE | BPF_F_PSEUDO_HDR | BPF_F_IPV6 | FIELD_LEN;
    if flags & !known != 0 {
        return Err(Errno::EINVAL.into());
    }
    let at = place_of_checksum(packet, offset)?;
    let check = u16::from_le_bytes(packet.read(at)?);
    let zero_means_none = flags & BPF_F_MARK_MANGLED_0 != 0;
    if zero_means_none && flags & BPF_F_MARK_ENFORCE == 0 && check == 0 {
        return Ok(0);
    }
    let replaced = match flags & FIELD_LEN {
        0 if from == 0 => replaced_by_difference(check, u32_of(to)),
        2 => replaced_word(check, u16_of(from).into(), u16_of(to).into()),
        4 => replaced_word(check, u32_of(from), u32_of(to)),
        _ => return Err(Errno::EINVAL.into()),
    };
    let replaced = if zero_means_none && replaced == 0 { CSUM_MANGLED_0 } else { replaced };
    packet.write(at, &replaced.to_le_bytes())?;
    Ok(0)
}

/// `long bpf_l4_csum_replace(skb, offset, from, to, flags)`: the checksum of a transport header.
pub(super) static L4_CSUM_REPLACE: Helper = Helper {
    id: 11,
    name: "l4_csum_replace",
    args: &[Arg::Ctx, Arg::Any, Arg::Any, Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Moves,
    kinds: &[ProgramKind::Tc],
    body: l4_csum_replace,
};

fn csum_update(run: &mut Run<'_>, [ctx, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(40, 1).context(run, ctx)?;
    Ok(Errno::ENOTSUPP.to_r0())
}

/// `s64 bpf_csum_update(skb, csum)`: adds to the sum of all bytes, which no frame comes with.
pub(super) static CSUM_UPDATE: Helper = Helper {
    id: 40,
    name: "csum_update",
    args: &[Arg::Ctx, Arg::Any],
    ret: Ret::Integer,
    cost: 4,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc],
    body: csum_update,
};

fn csum_level(run: &mut Run<'_>, [ctx, level, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(135, 1).context(run, ctx)?;
    let checksum = &mut run.skb.checksum;
    *checksum = match (level, *checksum) {
        (0, Checksum::None) => return Ok(Errno::EACCES.to_r0()),
        (0, Checksum::Unnecessary(level)) => return Ok(level.into()),
        (1, Checksum::None) => Checksum::Unnecessary(0),
        (1, Checksum::Unnecessary(level)) => Checksum::Unnecessary((level + 1).min(LEVEL_MAX)),
        (2, Checksum::None | Checksum::Unnecessary(0)) | (3, _) => Checksum::None,
        (2, Checksum::Unnecessary(level)) => Checksum::Unnecessary(level - 1),
        _ => return Ok(Errno::EINVAL.to_r0()),
    };
    Ok(0)
}

/// `long bpf_csum_level(skb, level)`: asks how many checksums were found good (0), or says one more (1), one less (2), none (3).
pub(super) static CSUM_LEVEL: Helper = Helper {
    id: 135,
    name: "csum_level",
    args: &[Arg::Ctx, Arg::Any],
    ret: Ret::Integer,
    cost: 4,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Tc],
    body: csum_level,
};
