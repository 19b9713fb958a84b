//! Tables and numbers for people.
//!
//! Invariant: a column is as wide as its widest cell.

use std::io;

use super::Out;

/// Rows of cells; numbers align to the right, all else to the left.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(ToString::to_string).collect()] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    pub(super) fn write(&self, out: Out<'_>) -> io::Result<()> {
        let column_count = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..column_count)
            .map(|column| self.rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0))
            .collect();
        let numeric: Vec<bool> =
            (0..column_count).map(|column| self.rows.iter().skip(1).all(|row| is_number(&cell(row, column)))).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, width) in widths.iter().enumerate() {
                let text = cell(row, column);
                let blank = " ".repeat(width - text.chars().count());
                let (before, after) = if numeric[column] { (blank.as_str(), "") } else { ("", blank.as_str()) };
                line.push_str(&format!("{before}{text}{after}  "));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn is_number(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit() || ".,-".contains(c))
}

/// A number of things: `1 tail call`, `2 tail calls`.
pub(super) fn counted(count: u64, thing: &str) -> String {
    format!("{} {thing}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_align_right_and_words_left() {
        let mut table = Table::new(&["name", "packets"]);
        table.row(["lb".to_owned(), grouped(1_234_567)]);
        table.row(["firewall".to_owned(), grouped(89)]);
        let mut text = Vec::new();
        table.write(&mut text).expect("memory");
        assert_eq!(
            String::from_utf8(text).expect("text"),
            "name        packets\nlb        1,234,567\nfirewall         89\n"
        );
    }
}
