//! Slots to instructions and back, with the reason where a slot is no instruction.
//!
//! Invariant: reads one slot at a time (two for a wide instruction) and knows nothing of the program around it.

use super::row::{Field, Part, Row};
use super::table::{row_of, rows_of};
use super::{Does, Insn, Reg};

/// Why a slot is no instruction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// No row has this opcode, or it is the opcode of a second slot without a first.
    #[error("insn {pc}: no instruction has opcode {opcode:#04x}; rebuild the object for the bpf target")]
    UnknownOpcode {
        /// Slot index.
        pc: usize,
        /// First byte of the slot.
        opcode: u8,
    },
    /// A register number above 10.
    #[error("insn {pc}: {name} names register r{number}; registers end at r10")]
    NoRegister {
        /// Slot index.
        pc: usize,
        /// The instruction.
        name: &'static str,
        /// The number, 11 to 15.
        number: u8,
    },
    /// A field that is unused, or tells instructions apart, holds what it must not.
    #[error("insn {pc}: {name} has {field} {value} where {allowed} is allowed; rebuild the object")]
    Reserved {
        /// Slot index.
        pc: usize,
        /// The instruction that the slot resembles most.
        name: &'static str,
        /// The field: `dst`, `src`, `off`, `imm`, or one of the second slot.
        field: &'static str,
        /// What it holds.
        value: i32,
        /// What it may hold, such as `only 0` or `one of 0, 1`.
        allowed: String,
    },
    /// The program ends inside a two-slot instruction.
    #[error("insn {pc}: {name} is cut off before its second slot; rebuild the object")]
    CutOff {
        /// Slot index of the first slot.
        pc: usize,
        /// The instruction.
        name: &'static str,
    },
}

impl FormError {
    /// Slot index of the instruction at fault.
    #[must_use]
    pub const fn pc(&self) -> usize {
        match self {
            Self::UnknownOpcode { pc, .. }
            | Self::NoRegister { pc, .. }
            | Self::Reserved { pc, .. }
            | Self::CutOff { pc, .. } => *pc,
        }
    }
}

/// The fields of a slot, RFC 9669 section 3.
#[derive(Clone, Copy)]
struct Slot {
    opcode: u8,
    dst: u8,
    src: u8,
    off: i16,
    imm: i32,
}

impl Slot {
    const fn parse(bytes: [u8; 8]) -> Self {
        let [opcode, registers, off0, off1, imm0, imm1, imm2, imm3] = bytes;
        Self {
            opcode,
            dst: registers & 0xf,
            src: registers >> 4,
            off: i16::from_le_bytes([off0, off1]),
            imm: i32::from_le_bytes([imm0, imm1, imm2, imm3]),
        }
    }

    fn bytes(self) -> [u8; 8] {
        let [off0, off1] = self.off.to_le_bytes();
        let [imm0, imm1, imm2, imm3] = self.imm.to_le_bytes();
        [self.opcode, self.dst | self.src << 4, off0, off1, imm0, imm1, imm2, imm3]
    }

    fn value(self, part: Part) -> i32 {
        match part {
            Part::Dst => i32::from(self.dst),
            Part::Src => i32::from(self.src),
            Part::Off => i32::from(self.off),
            Part::Imm => self.imm,
        }
    }

    /// The parts that hold what the row does not allow.
    fn misfits(self, row: &Row) -> impl Iterator<Item = Part> {
        Part::ALL.into_iter().filter(move |part| match row.field(*part) {
            Field::Is(wanted) => wanted != self.value(*part),
            Field::Any | Field::Ignored => false,
        })
    }
}

/// Decodes program text, one [`Insn`] a slot.
///
/// # Errors
/// [`FormError`] for the first slot that is no instruction of the table. Instructions that the table refuses decode.
pub fn decode(slots: &[[u8; 8]]) -> Result<Vec<Insn>, FormError> {
    let mut insns = Vec::with_capacity(slots.len());
    while let Some(bytes) = slots.get(insns.len()) {
        let pc = insns.len();
        let slot = Slot::parse(*bytes);
        let row = row_for(pc, slot)?;
        let imm = match row.imm {
            Field::Is(_) => 0,
            Field::Any | Field::Ignored => slot.imm,
        };
        let first = Insn {
            does: row.does,
            dst: register(pc, row, row.dst, slot.dst)?,
            src: register(pc, row, row.src, slot.src)?,
            off: match row.off {
                Field::Is(_) => 0,
                Field::Any | Field::Ignored => slot.off,
            },
            imm: i64::from(imm),
        };
        if !row.does.is_wide() {
            insns.push(first);
            continue;
        }
        let second = slots.get(pc + 1).ok_or(FormError::CutOff { pc, name: row.name })?;
        let next_imm = second_slot(pc, row, Slot::parse(*second))?;
        let whole = match row.next_imm {
            Field::Is(_) => i64::from(imm),
            Field::Any | Field::Ignored => i64::from(next_imm) << 32 | i64::from(imm.cast_unsigned()),
        };
        insns.push(Insn { imm: whole, ..first });
        insns.push(Insn { does: Does::SecondSlot, dst: Reg::R0, src: Reg::R0, off: 0, imm: i64::from(next_imm) });
    }
    Ok(insns)
}

/// The row that a slot is an instance of.
fn row_for(pc: usize, slot: Slot) -> Result<&'static Row, FormError> {
    let rows = rows_of(slot.opcode);
    let first_slots = rows.iter().filter(|row| row.does != Does::SecondSlot);
    let Some(nearest) = first_slots.min_by_key(|row| slot.misfits(row).count()) else {
        return Err(FormError::UnknownOpcode { pc, opcode: slot.opcode });
    };
    let Some(part) = slot.misfits(nearest).next() else {
        return Ok(nearest);
    };
    Err(FormError::Reserved {
        pc,
        name: nearest.name,
        field: part.name(),
        value: slot.value(part),
        allowed: allowed_values(rows, part),
    })
}

/// What the rows of an opcode allow in a field, in words.
fn allowed_values(rows: &[Row], part: Part) -> String {
    let mut values: Vec<i32> = rows
        .iter()
        .filter_map(|row| match row.field(part) {
            Field::Is(value) => Some(value),
            Field::Any | Field::Ignored => None,
        })
        .collect();
    values.sort_unstable();
    values.dedup();
    match values.as_slice() {
        [only] => format!("only {only}"),
        several => {
            let texts: Vec<String> = several.iter().map(i32::to_string).collect();
            format!("only one of {}", texts.join(", "))
        }
    }
}

fn register(pc: usize, row: &Row, field: Field, number: u8) -> Result<Reg, FormError> {
    match field {
        Field::Is(_) => Ok(Reg::R0),
        Field::Any | Field::Ignored => Reg::new(number).ok_or(FormError::NoRegister { pc, name: row.name, number }),
    }
}

/// The immediate of a second slot that has nothing else.
fn second_slot(pc: usize, row: &Row, slot: Slot) -> Result<i32, FormError> {
    let fields = [
        ("second opcode", i32::from(slot.opcode), Field::Is(0)),
        ("second dst", i32::from(slot.dst), Field::Is(0)),
        ("second src", i32::from(slot.src), Field::Is(0)),
        ("second off", i32::from(slot.off), Field::Is(0)),
        ("second imm", slot.imm, row.next_imm),
    ];
    for (field, value, wanted) in fields {
        if let Field::Is(wanted) = wanted
            && wanted != value
        {
            let allowed = format!("only {wanted}");
            return Err(FormError::Reserved { pc, name: row.name, field, value, allowed });
        }
    }
    Ok(slot.imm)
}

/// Encodes instructions, one slot each; the inverse of [`decode`]. The second slot of a wide instruction takes its value
/// from the first one's `imm`.
///
/// # Panics
/// If an instruction does what no row does, such as an 8-bit byte swap.
#[must_use]
pub fn encode(insns: &[Insn]) -> Vec<[u8; 8]> {
    let mut slots: Vec<[u8; 8]> = Vec::with_capacity(insns.len());
    let mut high = None;
    for insn in insns {
        let row = row_of(insn.does).expect("instructions do what a row of the table does");
        let [low, next] = halves(insn.imm);
        let imm = match high.take() {
            Some(high) if insn.does == Does::SecondSlot => high,
            _ => low,
        };
        if insn.does.is_wide() {
            high = Some(match row.next_imm {
                Field::Is(value) => value,
                Field::Any | Field::Ignored => next,
            });
        }
        slots.push(slot_of(row, insn, imm).bytes());
    }
    slots
}

/// The low and high 32 bits.
fn halves(imm: i64) -> [i32; 2] {
    let [b0, b1, b2, b3, b4, b5, b6, b7] = imm.to_le_bytes();
    [i32::from_le_bytes([b0, b1, b2, b3]), i32::from_le_bytes([b4, b5, b6, b7])]
}

fn slot_of(row: &Row, insn: &Insn, imm: i32) -> Slot {
    let fixed = |field: Field, operand: i32| match field {
        Field::Is(value) => value,
        Field::Any | Field::Ignored => operand,
    };
    let small = |field: Field, register: Reg| {
        u8::try_from(fixed(field, i32::from(register.number()))).expect("the table's registers are four bits")
    };
    Slot {
        opcode: row.opcode,
        dst: small(row.dst, insn.dst),
        src: small(row.src, insn.src),
        off: i16::try_from(fixed(row.off, i32::from(insn.off))).expect("the table's offsets are sixteen bits"),
        imm: fixed(row.imm, imm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{Alu, Endian, Operand, Size, Width};

    fn slot(opcode: u8, registers: u8, off: i16, imm: i32) -> [u8; 8] {
        let ([o0, o1], [i0, i1, i2, i3]) = (off.to_le_bytes(), imm.to_le_bytes());
        [opcode, registers, o0, o1, i0, i1, i2, i3]
    }

    fn refusal(slots: &[[u8; 8]]) -> String {
        let error = decode(slots).expect_err("no program");

        error.to_string()
    }

    #[test]
    fn an_unknown_opcode_is_refused_with_its_number() {
        assert_eq!(
            refusal(&[slot(0x95, 0, 0, 0), slot(0x8f, 0, 0, 0)]),
            "insn 1: no instruction has opcode 0x8f; rebuild the object for the bpf target"
        );
    }

    #[test]
    fn a_second_slot_without_a_first_is_an_unknown_opcode() {
        assert_eq!(
            refusal(&[slot(0, 0, 0, 0)]),
            "insn 0: no instruction has opcode 0x00; rebuild the object for the bpf target"
        );
    }

    #[test]
    fn registers_above_ten_are_refused() {
        assert_eq!(refusal(&[slot(0xbf, 0x0b, 0, 0)]), "insn 0: mov_reg names register r11; registers end at r10");
        assert_eq!(refusal(&[slot(0x79, 0xf0, 0, 0)]), "insn 0: ldxdw names register r15; registers end at r10");
    }

    #[test]
    fn a_reserved_field_that_is_set_is_refused() {
        assert_eq!(
            refusal(&[slot(0x07, 0x10, 0, 1)]),
            "insn 0: add_imm has src 1 where only 0 is allowed; rebuild the object"
        );
        assert_eq!(
            refusal(&[slot(0x37, 0x00, 2, 1)]),
            "insn 0: div_imm has off 2 where only one of 0, 1 is allowed; rebuild the object"
        );
    }

    #[test]
    fn an_exchange_without_its_fetch_bit_is_refused() {
        assert_eq!(
            refusal(&[slot(0xdb, 0x10, 0, 0xe0)]),
            "insn 0: lock add has imm 224 where only one of 0, 1, 64, 65, 80, 81, 160, 161, 225, 241, 256, 272 is \
             allowed; rebuild the object"
        );
    }

    #[test]
    fn a_byte_swap_of_a_bad_width_is_refused() {
        assert_eq!(
            refusal(&[slot(0xd4, 0, 0, 8)]),
            "insn 0: le16 has imm 8 where only one of 16, 32, 64 is allowed; rebuild the object"
        );
        let insns = decode(&[slot(0xd4, 0, 0, 16)]).expect("le16");
        assert_eq!(insns[0].does, Does::Swap(Endian::Le, Size::H));
    }

    #[test]
    fn signed_division_is_not_read_as_unsigned() {
        let insns = decode(&[slot(0x3f, 0x10, 1, 0), slot(0x3f, 0x10, 0, 0)]).expect("two divisions");
        assert_eq!(insns[0].does, Does::Alu(Width::W64, Alu::Sdiv, Operand::Reg));
        assert_eq!(insns[1].does, Does::Alu(Width::W64, Alu::Div, Operand::Reg));
    }

    #[test]
    fn a_two_slot_load_keeps_bit_31_of_its_low_half_apart_from_the_high_half() {
        let insns = decode(&[slot(0x18, 0, 0, i32::MIN), slot(0, 0, 0, 1)]).expect("a wide load");
        assert_eq!(insns[0].imm, 0x1_8000_0000);
        assert_eq!(insns[1].does, Does::SecondSlot);
    }

    #[test]
    fn a_two_slot_load_cut_off_at_the_end_is_refused() {
        assert_eq!(
            refusal(&[slot(0x18, 0, 0, 1)]),
            "insn 0: lddw is cut off before its second slot; rebuild the object"
        );
    }

    #[test]
    fn a_second_slot_that_holds_more_than_an_immediate_is_refused() {
        let first = slot(0x18, 0, 0, 1);
        assert_eq!(
            refusal(&[first, slot(0x95, 0, 0, 0)]),
            "insn 0: lddw has second opcode 149 where only 0 is allowed; rebuild the object"
        );
        assert_eq!(
            refusal(&[first, slot(0, 0x10, 0, 0)]),
            "insn 0: lddw has second src 1 where only 0 is allowed; rebuild the object"
        );
        assert_eq!(
            refusal(&[slot(0x18, 0x50, 0, 1), slot(0, 0, 0, 7)]),
            "insn 0: ld_map_idx has second imm 7 where only 0 is allowed; rebuild the object"
        );
    }

    #[test]
    fn a_map_value_reference_says_map_and_offset() {
        let insns = decode(&[slot(0x18, 0x61, 0, 3), slot(0, 0, 0, 40)]).expect("a map value");
        assert_eq!(insns[0].does, Does::LoadMapValueByIndex);
        assert_eq!((insns[0].imm & 0xffff_ffff, insns[0].imm >> 32), (3, 40));
    }

    #[test]
    fn negative_immediates_are_sign_extended() {
        let insns = decode(&[slot(0x25, 0, 0, -1)]).expect("a compare");
        assert_eq!(insns[0].imm, -1);
    }

    #[test]
    fn a_long_jump_takes_its_target_from_the_immediate() {
        let insns = decode(&[slot(0x06, 0, 0, 70_000)]).expect("a long jump");
        assert_eq!(insns[0].target(10), Some(70_011));
        assert_eq!(
            refusal(&[slot(0x06, 0, 5, 0)]),
            "insn 0: ja32 has off 5 where only 0 is allowed; rebuild the object"
        );
    }

    #[test]
    #[should_panic(expected = "instructions do what a row of the table does")]
    fn an_instruction_that_does_not_exist_is_not_encoded() {
        let none = Insn { does: Does::Swap(Endian::Le, Size::B), dst: Reg::R0, src: Reg::R0, off: 0, imm: 0 };
        let _ = encode(&[none]);
    }
}
