//! The table: net times, ratios to the kernel and to native code, means and worst rows; as text and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::bench::Cell;
use crate::clock::{float, geometric_mean};
use crate::engine::{Absent, Column};
use crate::rows::{EMPTY, InMean, Row};

/// Net times below this are noise; they count as this much.
const NET_NS_MIN: f64 = 0.2;

/// What was measured of all rows.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Measured>,
}

/// What was measured of a row.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) row: &'static Row,
    pub(crate) cells: BTreeMap<Column, Result<Cell, Absent>>,
    /// Instructions of one run.
    pub(crate) steps: Option<u64>,
}

impl Measured {
    pub(crate) fn cell(&self, column: Column) -> Option<&Cell> {
        self.cells.get(&column)?.as_ref().ok()
    }

    /// Nanoseconds net of the empty program.
    pub(crate) fn net_ns(&self, column: Column) -> Option<f64> {
        let cell = self.cell(column).filter(|_| self.row.name != EMPTY);
        cell.map(|cell| cell.net_ns.max(NET_NS_MIN))
    }

    pub(crate) fn ratio(&self, column: Column, to: Column) -> Option<f64> {
        Some(self.net_ns(column)? / self.net_ns(to)?)
    }
}

impl Table {
    pub(crate) fn row(&self, name: &str) -> Option<&Measured> {
        self.rows.iter().find(|measured| measured.row.name == name)
    }

    /// Ratios of the rows that count in the mean.
    fn counted(&self, column: Column, to: Column) -> Vec<(&'static str, f64)> {
        let counted = self.rows.iter().filter(|measured| measured.row.in_mean == InMean::Yes);
        counted.filter_map(|measured| Some((measured.row.name, measured.ratio(column, to)?))).collect()
    }

    /// Rows of the mean, and all that count.
    pub(crate) fn mean_count(&self, column: Column, to: Column) -> (usize, usize) {
        let all = self.rows.iter().filter(|measured| measured.row.in_mean == InMean::Yes).count();
        (self.counted(column, to).len(), all)
    }

    /// The geometric mean over the rows that count.
    pub(crate) fn mean(&self, column: Column, to: Column) -> Option<f64> {
        geometric_mean(&self.counted(column, to).into_iter().map(|(_, ratio)| ratio).collect::<Vec<_>>())
    }

    /// The row with the greatest ratio, of all rows.
    pub(crate) fn worst(&self, column: Column, to: Column) -> Option<(&'static str, f64)> {
        let all = self.rows.iter().filter_map(|measured| Some((measured.row.name, measured.ratio(column, to)?)));
        all.max_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    /// Columns with at least one cell.
    fn columns(&self) -> Vec<Column> {
        let has = |column: &Column| self.rows.iter().any(|measured| measured.cell(*column).is_some());
        Column::ALL.into_iter().filter(has).collect()
    }

    pub(crate) fn print(&self) {
        let columns = self.columns();
        println!("\nNanoseconds a run, net of the empty program (whose own row is gross):");
        head(&columns);
        for measured in &self.rows {
            let ns = |column: Column| {
                let cell = measured.cell(column)?;
                Some(if measured.row.name == EMPTY { cell.ns } else { cell.net_ns })
            };
            line(measured.row.name, columns.iter().map(|column| ns(*column)), 1);
        }
        for to in [Column::Kernel, Column::Native, Column::Scalar] {
            if !columns.contains(&to) {
                continue;
            }
            println!("\nRatios to {} (* counts in the mean):", to.name());
            head(&columns);
            for measured in self.rows.iter().filter(|measured| measured.row.name != EMPTY) {
                let mark = if measured.row.in_mean == InMean::Yes { "*" } else { "" };
                let name = format!("{}{mark}", measured.row.name);
                line(&name, columns.iter().map(|column| measured.ratio(*column, to)), 2);
            }
            line("geometric mean", columns.iter().map(|column| self.mean(*column, to)), 2);
            let rows = columns.iter().map(|column| Some(float(self.mean_count(*column, to).0 as u64)));
            line("rows of the mean", rows, 0);
            if let Some((row, ratio)) = self.worst(Column::Fast, to) {
                println!("worst of fast: {row}, {ratio:.2}");
            }
        }
        println!();
        for (column, why) in self.missing() {
            println!("{column}: {why}");
        }
        let discarded: usize = self.cells().map(|cell| cell.discarded).sum();
        let counted: usize = self.cells().map(|cell| cell.rounds).sum();
        println!("{counted} rounds counted, {discarded} pieces were discarded as unsteady");
    }

    fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.rows.iter().flat_map(|measured| measured.cells.values()).filter_map(|cell| cell.as_ref().ok())
    }

    /// Why cells are empty, each reason once: with the column alone where all of it is.
    fn missing(&self) -> Vec<(String, String)> {
        let mut missing = Vec::new();
        for column in Column::ALL {
            let mut reasons = BTreeMap::<String, Vec<&str>>::new();
            for measured in &self.rows {
                if let Some(Err(why)) = measured.cells.get(&column) {
                    reasons.entry(why.to_string()).or_default().push(measured.row.name);
                }
            }
            for (why, rows) in reasons {
                let whole = rows.len() == self.rows.len();
                let place = if whole { "left out".to_owned() } else { rows.join(", ") };
                missing.push((format!("{} ({place})", column.name()), why));
            }
        }
        missing
    }

    pub(crate) fn json(&self) -> Value {
        let columns = self.columns();
        let ratios = |to: Column| {
            let mean: BTreeMap<&str, Option<f64>> =
                columns.iter().map(|column| (column.name(), self.mean(*column, to))).collect();
            json!({ "geometric_mean": mean, "worst_of_fast": self.worst(Column::Fast, to) })
        };
        let rows = self.rows.iter().map(|measured| {
            let cells: serde_json::Map<String, Value> = measured
                .cells
                .iter()
                .map(|(column, cell)| {
                    let value = match cell {
                        Ok(cell) => json!({
                            "ns": cell.ns,
                            "net_ns": cell.net_ns,
                            "least_ns": cell.least_ns,
                            "rounds": cell.rounds,
                            "discarded": cell.discarded,
                            "to_kernel": measured.ratio(*column, Column::Kernel),
                            "to_native": measured.ratio(*column, Column::Native),
                            "to_scalar": measured.ratio(*column, Column::Scalar),
                        }),
                        Err(why) => json!({ "absent": why.to_string() }),
                    };
                    (column.name().to_owned(), value)
                })
                .collect();
            let in_mean = measured.row.in_mean == InMean::Yes;
            json!({ "row": measured.row.name, "in_mean": in_mean, "steps": measured.steps, "cells": cells })
        });
        json!({
            "rows": rows.collect::<Vec<_>>(),
            "to_kernel": ratios(Column::Kernel),
            "to_native": ratios(Column::Native),
            "to_scalar": ratios(Column::Scalar),
        })
    }
}

fn head(columns: &[Column]) {
    print!("{:<17}", "");
    columns.iter().for_each(|column| print!("{:>9}", column.short()));
    println!();
}

fn line(name: &str, figures: impl Iterator<Item = Option<f64>>, decimals: usize) {
    print!("{name:<17}");
    for figure in figures {
        match figure {
            Some(figure) => print!("{figure:>9.decimals$}"),
            None => print!("{:>9}", "-"),
        }
    }
    println!();
}
