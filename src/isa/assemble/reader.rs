//! One line as an instance of a row.
//!
//! Invariant: the first row that reads the line wins; a row that reads all but a number says so.

use super::AsmError;
use crate::isa::row::Row;
use crate::isa::table::ROWS;
use crate::isa::text::{Hole, Letter, Piece, hole, pieces};
use crate::isa::{Insn, Reg};

/// The field that says where a jump goes.
#[derive(Clone, Copy)]
pub(super) enum JumpBy {
    Off,
    Imm,
}

/// An instruction as read, perhaps with a label still to resolve.
pub(super) struct Read<'text> {
    pub(super) insn: Insn,
    pub(super) label: Option<&'text str>,
    pub(super) by: JumpBy,
}

/// Reads one instruction.
pub(super) fn read_line(line: usize, statement: &str) -> Result<Read<'_>, AsmError> {
    let mut near_miss = None;
    for row in ROWS {
        match Reader::new(row, statement).read() {
            Ok(read) => return Ok(read),
            Err(Misread::Other) => {}
            Err(misread) => near_miss = near_miss.or(Some(misread)),
        }
    }
    Err(match near_miss {
        Some(Misread::Range { number, min, max }) => AsmError::Number { line, number, min, max },
        Some(Misread::NoSign { number }) => AsmError::Sign { line, number },
        Some(Misread::Other) | None => AsmError::Unknown { line, text: statement.to_owned() },
    })
}

/// Why a row does not read a line.
enum Misread {
    /// It does, but for a number outside its field.
    Range { number: i128, min: i128, max: i128 },
    /// It does, but for the sign of a distance.
    NoSign { number: i128 },
    /// It reads otherwise.
    Other,
}

/// Reads a line as an instance of a row.
struct Reader<'text> {
    /// What is left of the line, spaces taken out.
    rest: Vec<Piece<'text>>,
    row: &'static Row,
    dst: Option<Reg>,
    src: Option<Reg>,
    off: i16,
    imm: i64,
    label: Option<&'text str>,
    by: JumpBy,
}

impl<'text> Reader<'text> {
    fn new(row: &'static Row, statement: &'text str) -> Self {
        let mut rest: Vec<_> = pieces(statement).filter(|piece| *piece != Piece::Space).collect();
        rest.reverse();
        Self { rest, row, dst: None, src: None, off: 0, imm: 0, label: None, by: JumpBy::Off }
    }

    fn read(mut self) -> Result<Read<'text>, Misread> {
        let mut pattern = pieces(self.row.text).filter(|piece| *piece != Piece::Space).peekable();
        while let Some(piece) = pattern.next() {
            let next_hole = match pattern.peek() {
                Some(Piece::Word(word)) => hole(word),
                Some(Piece::Mark(_) | Piece::Space) | None => None,
            };
            match (piece, next_hole) {
                (Piece::Mark('+'), Some(operand)) => {
                    pattern.next();
                    self.addend(operand)?;
                }
                (Piece::Word(word), _) if hole(word).is_some() => {
                    hole(word).map_or(Ok(()), |operand| self.operand(operand))?;
                }
                (literal, _) => self.literal(literal)?,
            }
        }
        if !self.rest.is_empty() {
            return Err(Misread::Other);
        }
        let insn = Insn {
            does: self.row.does,
            dst: self.dst.unwrap_or(Reg::R0),
            src: self.src.unwrap_or(Reg::R0),
            off: self.off,
            imm: self.imm,
        };
        Ok(Read { insn, label: self.label, by: self.by })
    }

    fn literal(&mut self, piece: Piece<'_>) -> Result<(), Misread> {
        if self.rest.pop() == Some(piece) { Ok(()) } else { Err(Misread::Other) }
    }

    fn accept(&mut self, mark: char) -> bool {
        let found = self.rest.last() == Some(&Piece::Mark(mark));
        if found {
            self.rest.pop();
        }
        found
    }

    /// `+ operand`, `- operand`, or nothing for zero.
    fn addend(&mut self, operand: Hole) -> Result<(), Misread> {
        if self.accept('+') || self.rest.last() == Some(&Piece::Mark('-')) { self.operand(operand) } else { Ok(()) }
    }

    fn operand(&mut self, operand: Hole) -> Result<(), Misread> {
        match operand {
            Hole::Dst(letter) => {
                let read = self.register(letter)?;
                bind(&mut self.dst, read)
            }
            Hole::Src(letter) => {
                let read = self.register(letter)?;
                bind(&mut self.src, read)
            }
            Hole::Imm => self.number(i32::MIN, i32::MAX).map(|value| self.imm = i64::from(value)),
            Hole::UnsignedImm | Hole::Low => self.number(0, u32::MAX).map(|value| self.imm |= sign_extended(value)),
            Hole::Imm64 => self.number(i64::MIN.into(), u64::MAX.into()).map(|value: i128| self.imm = low_64(value)),
            Hole::High => {
                let high: u32 = self.number(0, u32::MAX)?;
                self.imm = i64::from(high.cast_signed()) << 32 | self.imm & 0xffff_ffff;
                Ok(())
            }
            Hole::ImmHigh => self.number(0, u16::MAX).map(|value| self.imm |= i64::from(value) << 16),
            Hole::ImmLow => self.number(0, u16::MAX).map(|value| self.imm |= i64::from(value)),
            Hole::Off => self.number(i16::MIN, i16::MAX).map(|value| self.off = value),
            Hole::OffTarget => {
                self.target(JumpBy::Off, i16::MIN, i16::MAX).map(|distance| self.off = distance.unwrap_or(0))
            }
            Hole::ImmTarget => {
                self.target(JumpBy::Imm, i32::MIN, i32::MAX).map(|distance| self.imm = i64::from(distance.unwrap_or(0)))
            }
        }
    }

    fn register(&mut self, letter: Letter) -> Result<Reg, Misread> {
        let Some(Piece::Word(word)) = self.rest.pop() else {
            return Err(Misread::Other);
        };
        let number = match letter {
            Letter::R => word.strip_prefix('r'),
            Letter::W => word.strip_prefix('w'),
            Letter::Either => word.strip_prefix(['r', 'w']),
        };
        number.and_then(|number| number.parse().ok()).and_then(Reg::new).ok_or(Misread::Other)
    }

    /// A number with an optional minus.
    fn number<T: TryFrom<i128> + Into<i128>>(&mut self, min: T, max: T) -> Result<T, Misread> {
        let minus = self.accept('-');
        let magnitude = self.magnitude()?;
        within(if minus { -magnitude } else { magnitude }, min, max)
    }

    fn magnitude(&mut self) -> Result<i128, Misread> {
        let Some(Piece::Word(word)) = self.rest.pop() else {
            return Err(Misread::Other);
        };
        let parsed = match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => word.parse(),
        };
        parsed.map(i128::from).map_err(|_| Misread::Other)
    }

    /// A label (`None`, to be resolved later) or a distance with its sign, and the symbol that a listing shows.
    fn target<T: TryFrom<i128> + Into<i128>>(&mut self, by: JumpBy, min: T, max: T) -> Result<Option<T>, Misread> {
        self.by = by;
        let distance = if self.accept('+') {
            Some(self.magnitude()?)
        } else if self.accept('-') {
            Some(-self.magnitude()?)
        } else {
            let word = self.rest.last().copied();
            if let Ok(number) = self.magnitude() {
                return Err(Misread::NoSign { number });
            }
            let Some(Piece::Word(label)) = word else {
                return Err(Misread::Other);
            };
            self.label = Some(label);
            None
        };
        if self.accept('<') {
            while !self.accept('>') {
                self.rest.pop().ok_or(Misread::Other)?;
            }
        }
        distance.map(|distance| within(distance, min, max)).transpose()
    }
}

fn bind(place: &mut Option<Reg>, read: Reg) -> Result<(), Misread> {
    match place.replace(read) {
        Some(before) if before != read => Err(Misread::Other),
        Some(_) | None => Ok(()),
    }
}

fn within<T: TryFrom<i128> + Into<i128>>(number: i128, min: T, max: T) -> Result<T, Misread> {
    T::try_from(number).map_err(|_| Misread::Range { number, min: min.into(), max: max.into() })
}

fn sign_extended(value: u32) -> i64 {
    i64::from(value.cast_signed())
}

/// The number modulo 2^64, as a signed value.
fn low_64(number: i128) -> i64 {
    i64::try_from(number).unwrap_or_else(|_| u64::try_from(number).map_or(0, u64::cast_signed))
}
