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
