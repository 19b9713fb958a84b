//! The assembler: text to slots, for tests and case files.
//!
//! A line holds `label:`, an instruction as the disassembler or LLVM writes it, both, or nothing; `#`, `//` and `;`
//! start a comment. A jump says a label or a signed distance (`+4`). A listing of `llvm-objdump -d` is read too:
//! addresses, raw bytes and `<symbols>` behind targets are skipped, its function headings become labels.
//!
//! Invariant: every instruction that it reads comes from a row's text; the order of the rows settles what two rows read.

use std::collections::HashMap;

use super::row::Row;
use super::table::ROWS;
use super::text::{Hole, Letter, Piece, hole, pieces};
use super::{Does, Insn, Reg, encode};

/// Why text is no program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AsmError {
    /// No row reads like the line.
    #[error("line {line}: `{text}` is no instruction; see the manual's table of instructions")]
    Unknown {
        /// Line, from 1.
        line: usize,
        /// The line without label and comment.
        text: String,
    },
    /// A number outside its field.
    #[error(
        "line {line}: {number} is outside {min} to {max}; load it with `r0 = {number} ll` first, or make it smaller"
    )]
    Number {
        /// Line, from 1.
        line: usize,
        /// The number.
        number: i128,
        /// Least that the field holds.
        min: i128,
        /// Most that the field holds.
        max: i128,
    },
    /// A jump to a bare number.
    #[error("line {line}: jump to {number}: the sign is missing; write +{number}, or a label")]
    Sign {
        /// Line, from 1.
        line: usize,
        /// The number.
        number: i128,
    },
    /// A jump to a label that no line has.
    #[error("line {line}: no line has the label `{label}`; add it, or mend the name")]
    NoLabel {
        /// Line of the jump, from 1.
        line: usize,
        /// The label.
        label: String,
    },
    /// Two lines with one label.
    #[error("line {line}: label `{label}` stands before another line too; rename one")]
    LabelTwice {
        /// The second line, from 1.
        line: usize,
        /// The label.
        label: String,
    },
    /// A label out of a jump's reach.
    #[error("line {line}: `{label}` is {distance} slots away, more than the jump reaches; use `gotol`")]
    TooFar {
        /// Line of the jump, from 1.
        line: usize,
        /// The label.
        label: String,
        /// Slots from the next instruction to the label.
        distance: i64,
    },
}

/// Assembled text.
#[derive(Clone, Debug, Default)]
pub struct Assembled {
    /// Program text.
    pub slots: Vec<[u8; 8]>,
    /// Where each label stands, as a slot index.
    pub labels: HashMap<String, usize>,
}

/// Assembles text to slots.
///
/// # Errors
/// [`AsmError`] for the first line that is at fault.
pub fn assemble(text: &str) -> Result<Vec<[u8; 8]>, AsmError> {
    Ok(assemble_with_labels(text)?.slots)
}

/// Assembles text to slots and says where its labels stand.
///
/// # Errors
/// [`AsmError`] for the first line that is at fault.
pub fn assemble_with_labels(text: &str) -> Result<Assembled, AsmError> {
    let mut insns = Vec::new();
    let mut labels = HashMap::new();
    let mut jumps = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let (label, statement) = split(text);
        if let Some(label) = label
            && labels.insert(label.to_owned(), insns.len()).is_some()
        {
            return Err(AsmError::LabelTwice { line, label: label.to_owned() });
        }
        if statement.is_empty() {
            continue;
        }
        let read = read_line(line, statement)?;
        if let Some(label) = read.label {
            jumps.push(Jump { line, label, pc: insns.len(), by: read.by });
        }
        insns.push(read.insn);
        if read.insn.does.is_wide() {
            insns.push(Insn { does: Does::SecondSlot, dst: Reg::R0, src: Reg::R0, off: 0, imm: 0 });
        }
    }
    for jump in jumps {
        jump.resolve(&labels, &mut insns)?;
    }
    Ok(Assembled { slots: encode(&insns), labels })
}

/// A jump to a label, to be resolved when all labels are known.
struct Jump<'text> {
    line: usize,
    label: &'text str,
    pc: usize,
    by: JumpBy,
}

/// The field that says where a jump goes.
#[derive(Clone, Copy)]
enum JumpBy {
    Off,
    Imm,
}

impl Jump<'_> {
    fn resolve(&self, labels: &HashMap<String, usize>, insns: &mut [Insn]) -> Result<(), AsmError> {
        let (line, label) = (self.line, self.label.to_owned());
        let Some(&target) = labels.get(self.label) else {
            return Err(AsmError::NoLabel { line, label });
        };
        let slots = |index: usize| i64::try_from(index).expect("text is shorter than 2^63 lines");
        let distance = slots(target) - slots(self.pc) - 1;
        let insn = &mut insns[self.pc];
        match self.by {
            JumpBy::Off => {
                insn.off = i16::try_from(distance).map_err(|_| AsmError::TooFar { line, label, distance })?;
            }
            JumpBy::Imm => {
                let reach = i32::try_from(distance).map_err(|_| AsmError::TooFar { line, label, distance })?;
                insn.imm = i64::from(reach);
            }
        }
        Ok(())
    }
}

/// A line's label and its instruction, either of which may be missing.
fn split(line: &str) -> (Option<&str>, &str) {
    let comment = ["#", "//", ";"].iter().filter_map(|mark| line.find(mark)).min();
    let line = line[..comment.unwrap_or(line.len())].trim();
    if line.starts_with("Disassembly of section") || line.contains("file format elf") {
        return (None, "");
    }
    let Some((head, rest)) = line.split_once(':') else {
        return (None, line);
    };
    let (head, rest) = (head.trim(), rest.trim());
    if head.bytes().all(|byte| byte.is_ascii_digit()) {
        return (None, without_raw_bytes(rest));
    }
    let heading = head.strip_suffix('>').and_then(|head| head.split_once('<'));
    match heading {
        Some((_, symbol)) => (Some(symbol), rest),
        None if pieces(head).all(|piece| matches!(piece, Piece::Word(_))) => (Some(head), rest),
        None => (None, line),
    }
}

/// Cuts the hexadecimal bytes that a listing shows before the instruction.
fn without_raw_bytes(text: &str) -> &str {
    let mut rest = text;
    while let Some((word, tail)) = rest.split_once(char::is_whitespace)
        && word.len() == 2
        && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        rest = tail.trim_start();
    }
    rest
}

/// An instruction as read, perhaps with a label still to resolve.
struct Read<'text> {
    insn: Insn,
    label: Option<&'text str>,
    by: JumpBy,
}

fn read_line(line: usize, statement: &str) -> Result<Read<'_>, AsmError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{decode, print};

    fn texts(text: &str) -> Vec<String> {
        let slots = assemble(text).unwrap_or_else(|error| panic!("{error}"));
        let insns = decode(&slots).expect("what is assembled decodes");
        (0..).zip(&insns).filter(|(_, insn)| insn.does != Does::SecondSlot).map(|(pc, insn)| print(insn, pc)).collect()
    }

    fn refusal(text: &str) -> String {
        assemble(text).expect_err("no program").to_string()
    }

    #[test]
    fn labels_count_slots() {
        let printed = texts("r1 = 0x1122334455667788 ll\nif r1 s> 5 goto out\nr0 = -1\nout: exit");
        assert_eq!(printed, ["r1 = 0x1122334455667788 ll", "if r1 s> 5 goto +1 <4>", "r0 = -1", "exit"]);
    }

    #[test]
    fn jumps_go_backwards_and_calls_go_to_labels() {
        let printed = texts("again:\ncall sub // comment\ngotol again ; another\nexit # a third\nsub: exit");
        assert_eq!(printed, ["call +2 <3>", "gotol -2 <0>", "exit", "exit"]);
    }

    #[test]
    fn spelling_of_spaces_numbers_and_narrow_registers_is_free() {
        let printed = texts("r1=0x10\nw1  s>>=  3\nw1 = *(u32*)(r2+0x8)\n*(u8 *)(r10 - 1) = w3\nr4 = *(u64 *)(r5)");
        let expected =
            ["r1 = 16", "w1 s>>= 3", "r1 = *(u32 *)(r2 + 8)", "*(u8 *)(r10 - 1) = r3", "r4 = *(u64 *)(r5 + 0)"];
        assert_eq!(printed, expected);
    }

    #[test]
    fn a_listing_of_objdump_is_read() {
        let listing = "
prog.o:\tfile format elf64-bpf

Disassembly of section xdp:

0000000000000000 <main>:
; \treturn helper(ctx);
       0:\t85 10 00 00 01 00 00 00\tcall 0x7
       1:\t15 00 fe ff 00 00 00 00\tif r0 == 0x0 goto -0x2 <main>
       2:\t18 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00\tr1 = 0x0 ll
       4:\t95 00 00 00 00 00 00 00\texit
";
        assert_eq!(texts(listing), ["call 7", "if r0 == 0 goto -2 <0>", "r1 = 0x0 ll", "exit"]);
        assert_eq!(assemble_with_labels(listing).expect("a listing").labels["main"], 0);
    }

    #[test]
    fn one_register_cannot_be_two() {
        assert_eq!(refusal("r1 = -r2"), "line 1: `r1 = -r2` is no instruction; see the manual's table of instructions");
        assert_eq!(
            refusal("\n  r11 = 5 # too many"),
            "line 2: `r11 = 5` is no instruction; see the manual's table of instructions"
        );
    }

    #[test]
    fn a_number_outside_its_field_is_refused() {
        assert_eq!(
            refusal("r1 = 4294967296"),
            "line 1: 4294967296 is outside -2147483648 to 2147483647; load it with `r0 = 4294967296 ll` first, or make \
             it smaller"
        );
        assert_eq!(
            refusal("r1 = *(u8 *)(r2 + 40000)"),
            "line 1: 40000 is outside -32768 to 32767; load it with `r0 = 40000 ll` first, or make it smaller"
        );
    }

    #[test]
    fn a_distance_without_sign_is_refused() {
        assert_eq!(refusal("goto 3"), "line 1: jump to 3: the sign is missing; write +3, or a label");
    }

    #[test]
    fn labels_are_there_once() {
        assert_eq!(refusal("goto out"), "line 1: no line has the label `out`; add it, or mend the name");
        assert_eq!(refusal("a: exit\na: exit"), "line 2: label `a` stands before another line too; rename one");
    }

    #[test]
    fn a_label_out_of_reach_is_refused() {
        let far = format!("goto out\n{}out: exit", "r0 = 0\n".repeat(40_000));
        assert_eq!(refusal(&far), "line 1: `out` is 40000 slots away, more than the jump reaches; use `gotol`");
        assert!(assemble(&far.replace("goto out", "gotol out")).is_ok());
    }
}
