//! `kumite stat`: what a running host counted.
//!
//! Invariant: changes nothing at the host.

use std::time::{Duration, Instant};

use super::asking::{typed, write_json};
use super::table::{Table, counted, grouped};
use super::{Api, CliError, Exit, Form, Out, books};
use crate::control::Client;
use crate::control::view::{HostView, PortView, StatsView};

/// Show what a running host counted
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on, a line a second
    #[arg(long, short)]
    watch: bool,
    /// With --watch, end after this many lines
    #[arg(long, value_name = "N", requires = "watch")]
    count: Option<u64>,
    #[command(flatten)]
    api: Api,
    #[command(flatten)]
    form: Form,
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let client = args.api.client()?;
    if args.watch {
        return watch(&client, args, out);
    }
    let stats = client.get("/v1/stats")?;
    if args.form.json {
        write_json(out, &stats)?;
        return Ok(Exit::Done);
    }
    let host: HostView = typed(&client, client.get("/v1/host")?)?;
    let stats: StatsView = typed(&client, stats)?;
    let (workers, uptime) = (host.workers, host.uptime_ms / 1000);
    writeln!(out, "host {}: up {uptime} s, workers {workers}, process {}", host.name, host.process)?;
    writeln!(out, "{}", host.io)?;
    for port in stats.ports.iter().chain(&stats.removed) {
        for line in books::lines(port) {
            writeln!(out, "{}: {line}", port.port)?;
        }
    }
    write!(out, "events: {} forgotten before anybody read them", grouped(stats.events_lost))?;
    if stats.events_untold > 0 {
        let untold = grouped(stats.events_untold);
        write!(out, "; {untold} more traps and findings counted below, where one of a burst is told")?;
    }
    writeln!(out)?;
    for records in &stats.records {
        let (map, id, lost) = (&records.map, records.id, counted(records.lost, "record"));
        writeln!(out, "map {map} (id:{id}): {lost} lost because it was full")?;
    }
    writeln!(out)?;
    let mut table = Table::new(&["id", "program", "hook", "mode", "runs", "traps", "findings"]);
    for program in stats.programs {
        table.row([
            program.id.to_string(),
            program.program,
            program.hook.unwrap_or_default(),
            program.mode,
            grouped(program.runs),
            grouped(program.traps),
            grouped(program.findings),
        ]);
    }
    table.write(out)?;
    Ok(Exit::Done)
}

fn watch(client: &Client, args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let mut before: Option<(Instant, PortView)> = None;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let now = Instant::now();
        let answer = client.get("/v1/stats")?;
        if args.form.json {
            writeln!(out, "{answer}")?;
            left -= 1;
        } else {
            let stats: StatsView = typed(client, answer)?;
            let modes: Vec<String> = stats
                .programs
                .iter()
                .filter(|program| program.hook.is_some())
                .map(|program| format!("{} {}", program.program, program.mode))
                .collect();
            let Some(port) = stats.ports.into_iter().next() else { return Ok(Exit::Done) };
            if let Some((then, old)) = &before {
                writeln!(out, "{}  {}", rates(old, &port, now - *then), modes.join(", "))?;
                left -= 1;
            }
            before = Some((now, port));
        }
        out.flush()?;
        if left > 0 {
            std::thread::sleep(Duration::from_secs(1).saturating_sub(now.elapsed()));
        }
    }
    Ok(Exit::Done)
}

/// Frames a second between two looks.
fn rates(old: &PortView, new: &PortView, time: Duration) -> String {
    let rate = |old: u64, new: u64| {
        let per_second = u128::from(new.saturating_sub(old)) * 1_000_000 / time.as_micros().max(1);
        grouped(u64::try_from(per_second).unwrap_or(u64::MAX))
    };
    format!(
        "rx/s {}  pass {}  drop {}  tx {}  aborted {}  refused {}  sent/s {}  kernel drops {}",
        rate(old.rx, new.rx),
        rate(old.pass, new.pass),
        rate(old.drop, new.drop),
        rate(old.tx, new.tx),
        rate(old.aborted, new.aborted),
        rate(old.refused, new.refused),
        rate(old.tx_frames, new.tx_frames),
        grouped(new.socket_drops.saturating_sub(old.socket_drops))
    )
}
