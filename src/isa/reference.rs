//! The table as a page of the manual.
//!
//! Invariant: says nothing of an instruction that its row does not say.

use std::fmt::Write as _;

use super::row::{Field, Part, Row, Support};
use super::table::ROWS;

const HEAD: &str = "\
# Instructions

Every instruction that kumite knows. The text is what `kumite disasm` prints and case files hold. Words in it that are
operands: `dst` and `src` are 64-bit registers `r0` to `r10`, `wdst` and `wsrc` the low halves `w0` to `w10`; `xdst` and
`xsrc` are written `r` and read `r` or `w`; `imm`, `uimm`, `off` are numbers; `low` and `high` the immediates of the two
slots, `imm64` both as one number; `off_target` and `imm_target` are a label or a distance such as `+4`, which counts
from the next slot. Made from `src/isa/table.rs`.

| opcode | told by | name | text | group | runs |
|---|---|---|---|---|---|
";

/// The manual's page on the instruction set, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for row in ROWS {
        let (Row { opcode, name, text, .. }, group) = (row, row.group.name());
        // A bar would end the cell.
        let text = text.replace('|', "\\|");
        let runs = match row.support {
            Support::Runs => "yes".to_owned(),
            Support::Refused { because } => format!("no: {because}"),
        };
        writeln!(page, "| `{opcode:#04x}` | {} | {name} | `{text}` | {group} | {runs} |", told_by(row))
            .expect("a string takes any text");
    }
    page
}

/// The fixed fields that tell the row from others of its opcode.
fn told_by(row: &Row) -> String {
    let parts = Part::ALL.into_iter().filter_map(|part| match row.field(part) {
        Field::Is(value) if varies(row, part) => Some(format!("{} {value}", part.name())),
        Field::Is(_) | Field::Any | Field::Ignored => None,
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn varies(row: &Row, part: Part) -> bool {
    let fixed = |other: &&Row| matches!(other.field(part), Field::Is(_)) && other.field(part) != row.field(part);
    ROWS.iter().filter(|other| other.opcode == row.opcode).any(|other| fixed(&other))
}
