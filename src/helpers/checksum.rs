//! Internet checksums. `bpf_csum_diff` of `net/core/filter.c`, as it is since 6.13: any length, folded to 16 bits.
//!
//! Invariant: guest bytes are copied out in pieces and summed outside the cage.

use super::check::{Place, place};
use super::{Arg, Frame, Helper, Ret};
use crate::run::Run;
use crate::trap::{Access, TrapKind};
use crate::verdict::ProgramKind;

/// Bytes that are copied out at a time; a multiple of four.
const PIECE_LEN: usize = 512;

/// One's complement sum of 32-bit little-endian words, the last one padded with zeros, on top of `seed`.
fn partial(run: &Run<'_>, at: Place, addr: u64, len: u64, seed: u32) -> Result<u32, TrapKind> {
    let mut sum = u64::from(seed);
    let mut done = 0;
    while done < len {
        let mut piece = [0; PIECE_LEN];
        let count = usize::try_from(len - done).map_or(PIECE_LEN, |left| left.min(PIECE_LEN));
        run.world.cage.read(addr + done, &mut piece[..count]).map_err(|fault| at.fault(fault))?;
        // 2^14 words of 32 bits at most: no overflow.
        let words = piece.as_chunks().0.iter().map(|word| u64::from(u32::from_le_bytes(*word)));
        sum += words.sum::<u64>();
        done += count as u64;
    }
    Ok(fold32(sum))
}

/// Adds the carries back in until 32 bits are left.
pub(super) fn fold32(mut sum: u64) -> u32 {
    loop {
        match u32::try_from(sum) {
            Ok(folded) => return folded,
            Err(_) => sum = (sum >> 32) + (sum & 0xffff_ffff),
        }
    }
}

/// Adds the carries back in until 16 bits are left.
pub(super) fn fold16(sum: u32) -> u32 {
    let once = (sum >> 16) + (sum & 0xffff);
    (once >> 16) + (once & 0xffff)
}

#[expect(clippy::cast_possible_truncation, reason = "the kernel's lengths and seed are 32 bits of their registers")]
fn csum_diff(run: &mut Run<'_>, [from, from_len, to, to_len, seed]: [u64; 5]) -> Result<u64, TrapKind> {
    let (from_place, to_place) = (place(28, 1), place(28, 3));
    from_place.memory(run, from, from_len, Access::Read)?;
    to_place.memory(run, to, to_len, Access::Read)?;
    run.work((from_len + to_len) / 4)?;
    let seed = seed as u32;
    let sum = match (from_len, to_len) {
        (0, 0) => seed,
        (0, _) => partial(run, to_place, to, to_len, seed)?,
        (_, 0) => !partial(run, from_place, from, from_len, !seed)?,
        (_, _) => {
            let added = partial(run, to_place, to, to_len, seed)?;
            let removed = partial(run, from_place, from, from_len, 0)?;
            fold32(u64::from(added) + u64::from(!removed))
        }
    };
    Ok(u64::from(fold16(sum)))
}

/// `s64 bpf_csum_diff(from, from_size, to, to_size, seed)`.
pub(super) static CSUM_DIFF: Helper = Helper {
    id: 28,
    name: "csum_diff",
    args: &[Arg::MemReadOrNull, Arg::LenOrZero, Arg::MemReadOrNull, Arg::LenOrZero, Arg::Any],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[ProgramKind::Xdp, ProgramKind::Tc],
    body: csum_diff,
};
