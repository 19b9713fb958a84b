//! The live table: drawn anew on a terminal, a line each second elsewhere.
//!
//! Invariant: what is shown of a time is what was so during that time, mode and frames alike.

use std::io;
use std::time::Duration;

use super::bout::{Bout, Corner, port};
use super::script::{Script, Told};
use crate::cli::Out;
use crate::cli::table::{Table, grouped};
use crate::flow::{Hook, PortStats};

/// Moves up, then clears to the end of the screen.
const CLEAR_BELOW: &str = "\x1b[J";

/// What the demonstration is shown on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    /// A terminal, on which a table is drawn anew.
    Terminal,
    /// A file or pipe, which gets lines.
    Lines,
}

/// The live table.
#[derive(Debug)]
pub(super) struct Screen {
    medium: Medium,
    /// Lines of the table that stands on the terminal.
    drawn: usize,
    before: (Duration, [PortStats; 2]),
    /// For each host, the modes that were in force since then, in order.
    modes: [Vec<&'static str>; 2],
}

impl Screen {
    pub(super) fn new(bout: &Bout, medium: Medium) -> Self {
        Self { medium, drawn: 0, before: (bout.elapsed(), ports(bout)), modes: modes(bout) }
    }

    pub(super) fn begin(&mut self, out: Out<'_>) -> io::Result<()> {
        writeln!(out, "Two hosts spar over UDP on loopback: A balances (tail calls), B filters; both send.")?;
        writeln!(out)?;
        out.flush()
    }

    /// Tells what happened, above the table.
    pub(super) fn tell(&mut self, bout: &Bout, script: &Script, told: &Told, out: Out<'_>) -> io::Result<()> {
        self.clear(out)?;
        writeln!(out, "{:6.1} s  {}", told.at.as_secs_f64(), told.what)?;
        if self.medium == Medium::Terminal {
            return self.table(bout, script, out);
        }
        for (seen, now) in self.modes.iter_mut().zip(modes(bout)) {
            seen.extend(now);
            seen.dedup();
        }
        out.flush()
    }

    /// Shows what happened since the last time.
    pub(super) fn draw(&mut self, bout: &Bout, script: &Script, out: Out<'_>) -> io::Result<()> {
        if self.medium == Medium::Terminal {
            self.clear(out)?;
            return self.table(bout, script, out);
        }
        let (rates, [a_mode, b_mode]) = self.rates(bout);
        let at = bout.elapsed().as_secs_f64();
        let [a, b] = [(&bout.a, &rates[0], a_mode), (&bout.b, &rates[1], b_mode)].map(|(corner, rate, mode)| {
            let name = corner.host.name();
            let count = |name: &str, count: u64| format!("{name} {}", grouped(count));
            let verdicts = [count("pass", rate.pass), count("drop", rate.drop), count("tx", rate.tx)].join(" ");
            format!("{name} {mode}: {} frames/s ({verdicts})", grouped(rate.rx))
        });
        writeln!(out, "{at:6.1} s  {a}  {b}")?;
        out.flush()
    }

    fn table(&mut self, bout: &Bout, script: &Script, out: Out<'_>) -> io::Result<()> {
        let (rates, modes) = self.rates(bout);
        let mut table =
            Table::new(&["host", "program", "mode", "received/s", "pass/s", "drop/s", "tx/s", "aborted/s", "sent/s"]);
        for ((corner, rate), mode) in [&bout.a, &bout.b].into_iter().zip(&rates).zip(modes) {
            table.row([
                corner.host.name().to_owned(),
                corner.host.attached(Hook::Xdp).unwrap_or_default(),
                mode,
                grouped(rate.rx),
                grouped(rate.pass),
                grouped(rate.drop),
                grouped(rate.tx),
                grouped(rate.aborted),
                grouped(rate.tx_frames),
            ]);
        }
        let (at, whole) = (bout.elapsed().as_secs_f64(), script.whole().as_secs());
        writeln!(out, "\n{:6.1} s of {whole}", at.min(script.whole().as_secs_f64()))?;
        table.write(out)?;
        self.drawn = 5;
        out.flush()
    }

    fn clear(&mut self, out: Out<'_>) -> io::Result<()> {
        if self.drawn > 0 {
            write!(out, "\x1b[{}A{CLEAR_BELOW}", self.drawn)?;
            self.drawn = 0;
        }
        Ok(())
    }

    /// Frames a second since the last time, and the modes that were in force meanwhile.
    fn rates(&mut self, bout: &Bout) -> ([PortStats; 2], [String; 2]) {
        let (then, before) = &self.before;
        let (now, after) = (bout.elapsed(), ports(bout));
        let micros = (now - *then).as_micros().max(1);
        let rate = |old: u64, new: u64| u64::try_from(u128::from(new - old) * 1_000_000 / micros).unwrap_or(u64::MAX);
        let rates = [0, 1].map(|index: usize| {
            let (old, new) = (&before[index], &after[index]);
            PortStats {
                rx: rate(old.rx, new.rx),
                pass: rate(old.pass, new.pass),
                drop: rate(old.drop, new.drop),
                tx: rate(old.tx, new.tx),
                aborted: rate(old.aborted, new.aborted),
                tx_frames: rate(old.tx_frames, new.tx_frames),
                ..new.clone()
            }
        });
        self.before = (now, after);
        let seen = std::mem::replace(&mut self.modes, modes(bout));
        (rates, seen.map(|modes| modes.join(" then ")))
    }
}

/// The mode of each host, as the start of what is seen.
fn modes(bout: &Bout) -> [Vec<&'static str>; 2] {
    [&bout.a, &bout.b].map(|corner| vec![mode(corner)])
}

fn ports(bout: &Bout) -> [PortStats; 2] {
    [&bout.a, &bout.b].map(|corner| port(&corner.host.stats()).clone())
}

/// The mode of the program on the hook.
fn mode(corner: &Corner) -> &'static str {
    let programs = corner.host.stats().programs;
    programs.iter().find(|program| program.hook.is_some()).map_or("", |program| program.mode)
}
