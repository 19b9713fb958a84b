//! Puts a relocation's answer into its instruction.
//!
//! Source: `bpf_core_patch_insn` of libbpf.

use super::{Answer, Found};
use crate::elf::text::LOAD_WIDE;
use crate::helpers::UNRESOLVED;

/// Opcode of a call.
const CALL: u8 = 0x85;

/// What became of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patched {
    /// It holds the answer.
    Answered,
    /// It must not be reached.
    Poisoned,
}

/// Rewrites the instruction at `pc`.
pub(super) fn patch(slots: &mut [[u8; 8]], pc: usize, answer: &Answer) -> Result<Patched, &'static str> {
    let Answer::Found(found) = answer else {
        return poison(slots, pc);
    };
    let slot = slots.get_mut(pc).ok_or("it is outside its function")?;
    // The class of the opcode: RFC 9669, 3.1.
    match slot[0] & 7 {
        // LD: the two-slot load is the only one with an immediate of 64 bits.
        0 => wide(slots, pc, found),
        // LDX, ST, STX.
        1..=3 => access(slots, pc, found),
        // ALU, ALU64, with an immediate.
        4 | 7 if slot[0] & 8 == 0 => {
            let old = u32::from_le_bytes([slot[4], slot[5], slot[6], slot[7]]);
            if found.is_checked && old != low(found.original) {
                return Err("the instruction holds another number than the types say");
            }
            slot[4..].copy_from_slice(&low(found.value).to_le_bytes());
            Ok(Patched::Answered)
        }
        _ => Err("the instruction is of a kind that has no number to change"),
    }
}

fn poison(slots: &mut [[u8; 8]], pc: usize) -> Result<Patched, &'static str> {
    let slot = slots.get_mut(pc).ok_or("it is outside its function")?;
    let is_wide = slot[0] == LOAD_WIDE;
    let [a, b, c, d] = UNRESOLVED.to_le_bytes();
    let call = [CALL, 0, 0, 0, a, b, c, d];
    *slot = call;
    if is_wide && let Some(second) = slots.get_mut(pc + 1) {
        *second = call;
    }
    Ok(Patched::Poisoned)
}

fn wide(slots: &mut [[u8; 8]], pc: usize, found: &Found) -> Result<Patched, &'static str> {
    let [first, second] =
        slots.get_mut(pc..pc + 2).and_then(|pair| pair.first_chunk_mut::<2>()).ok_or("it is cut off")?;
    if first[0] != LOAD_WIDE || first[1] >> 4 != 0 {
        return Err("the instruction is of a kind that has no number to change");
    }
    let half = |slot: &[u8; 8]| u32::from_le_bytes([slot[4], slot[5], slot[6], slot[7]]);
    let old = u64::from(half(second)) << 32 | u64::from(half(first));
    if found.is_checked && old != found.original {
        return Err("the instruction holds another number than the types say");
    }
    first[4..].copy_from_slice(&low(found.value).to_le_bytes());
    second[4..].copy_from_slice(&low(found.value >> 32).to_le_bytes());
    Ok(Patched::Answered)
}

/// A load or store: the offset, and the length where the target's field has another one.
fn access(slots: &mut [[u8; 8]], pc: usize, found: &Found) -> Result<Patched, &'static str> {
    let slot = &mut slots[pc];
    let old = i16::from_le_bytes([slot[2], slot[3]]);
    if found.is_checked && i64::from(old) != found.original.cast_signed() {
        return Err("the instruction holds another offset than the types say");
    }
    let new = i16::try_from(found.value).map_err(|_| "the field is too far away for the instruction")?;
    if !found.may_resize {
        return poison(slots, pc);
    }
    if let Some((from, to)) = found.resize {
        if len(slot[0]) != from {
            return Err("the instruction reads another length than the field has");
        }
        let bits = match to {
            1 => 0x10,
            2 => 0x08,
            4 => 0x00,
            8 => 0x18,
            _ => return Err("the field has no length that an instruction reads"),
        };
        slot[0] = slot[0] & !0x18 | bits;
    }
    slot[2..4].copy_from_slice(&new.to_le_bytes());
    Ok(Patched::Answered)
}

/// Bytes that a load or store moves.
const fn len(opcode: u8) -> u32 {
    match opcode & 0x18 {
        0x10 => 1,
        0x08 => 2,
        0x00 => 4,
        _ => 8,
    }
}

/// The low half, as instructions hold it.
const fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
