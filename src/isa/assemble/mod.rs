//! The assembler: text to slots, for tests and case files.
//!
//! A line holds `label:`, an instruction as the disassembler or LLVM writes it, both, or nothing; `#`, `//` and `;`
//! start a comment. A jump says a label or a signed distance (`+4`). A listing of `llvm-objdump -d` is read too:
//! addresses, raw bytes and `<symbols>` behind targets are skipped, its function headings become labels.
//!
//! Invariant: every instruction that it reads comes from a row's text; the order of the rows settles what two rows read.

mod reader;

use std::collections::HashMap;

use super::text::{Piece, pieces};
use super::{Does, Insn, Reg, encode};
use reader::{JumpBy, read_line};

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
