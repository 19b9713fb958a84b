//! What the demonstration ends with.
//!
//! Invariant: text and JSON say the same numbers.

use serde::Serialize;

use super::bout::{BoutResult, lost, port};
use super::script::Script;
use crate::cli::table::{Table, grouped};
use crate::cli::{CliError, Out, asking, books};
use crate::control::view::StatsView;
use crate::flow::Stats;

/// All that there is to say, for programs.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    seconds: f64,
    /// How datagrams were moved.
    io: String,
    steps: Vec<StepTold>,
    modes: Vec<ModeRate>,
    directions: Vec<Direction>,
    /// Whether all books are exact and no frame is unaccounted for.
    exact: bool,
    hosts: Vec<Stats>,
}

#[derive(Debug, Serialize)]
struct StepTold {
    at_seconds: f64,
    what: String,
}

/// Frames a second that both hosts judged in one mode.
#[derive(Debug, Serialize)]
struct ModeRate {
    mode: &'static str,
    seconds: f64,
    a_judged: u64,
    b_judged: u64,
    a_per_second: u64,
    b_per_second: u64,
}

/// Frames from one host to the other.
#[derive(Debug, Serialize)]
struct Direction {
    from: String,
    to: String,
    sent: u64,
    received: u64,
    /// Dropped by the kernel for want of buffer, and counted there.
    socket_drops: u64,
    /// Sent and neither received nor counted as dropped.
    lost: i128,
}

impl Summary {
    pub(super) fn new(result: &BoutResult, script: &Script) -> Self {
        let direction = |from: &Stats, to: &Stats| Direction {
            from: from.host.clone(),
            to: to.host.clone(),
            sent: port(from).tx_frames,
            received: port(to).rx,
            socket_drops: port(to).socket_drops,
            lost: lost(from, to),
        };
        let modes = script.phases().iter().map(|phase| {
            let micros = phase.time.as_micros().max(1);
            let rate = |count: u64| u64::try_from(u128::from(count) * 1_000_000 / micros).unwrap_or(u64::MAX);
            let [a, b] = phase.judged;
            ModeRate {
                mode: phase.mode.name(),
                seconds: phase.time.as_secs_f64(),
                a_judged: a,
                b_judged: b,
                a_per_second: rate(a),
                b_per_second: rate(b),
            }
        });
        let steps = script.told().iter();
        Self {
            seconds: result.time.as_secs_f64(),
            io: result.io.clone(),
            steps: steps.map(|told| StepTold { at_seconds: told.at.as_secs_f64(), what: told.what.clone() }).collect(),
            modes: modes.collect(),
            directions: vec![direction(&result.a, &result.b), direction(&result.b, &result.a)],
            exact: result.check().is_ok(),
            hosts: vec![result.a.clone(), result.b.clone()],
        }
    }
}

/// Writes it for people.
pub(super) fn write(summary: &Summary, out: Out<'_>) -> Result<(), CliError> {
    writeln!(out, "\nFrames judged a second, by mode ({})", summary.io)?;
    let mut table = Table::new(&["mode", "seconds", "A", "B"]);
    for mode in &summary.modes {
        table.row([
            mode.mode.to_owned(),
            format!("{:.1}", mode.seconds),
            grouped(mode.a_per_second),
            grouped(mode.b_per_second),
        ]);
    }
    table.write(out)?;
    writeln!(out, "\nEvery frame")?;
    let mut table = Table::new(&["direction", "sent", "received", "dropped by the kernel", "lost"]);
    for direction in &summary.directions {
        table.row([
            format!("{} to {}", direction.from, direction.to),
            grouped(direction.sent),
            grouped(direction.received),
            grouped(direction.socket_drops),
            direction.lost.to_string(),
        ]);
    }
    table.write(out)?;
    writeln!(out, "\nThe books")?;
    for stats in &summary.hosts {
        let view: StatsView = asking::typed_local(serde_json::json!(stats));
        for port in &view.ports {
            writeln!(out, "{}: {}", view.host, books::line(port))?;
        }
    }
    writeln!(out, "\n{NEXT}")?;
    Ok(())
}

const NEXT: &str = "Try next, each of the hosts in a terminal of its own:
  kumite demo --save /tmp/kumite-demo
  kumite host --name A --wire udp:127.0.0.1:7001,peer=127.0.0.1:7002 --xdp /tmp/kumite-demo/balancer.o:balance \\
              --api unix:/tmp/a
  kumite host --name B --wire udp:127.0.0.1:7002,peer=127.0.0.1:7001 --xdp /tmp/kumite-demo/firewall.o \\
              --mac 02:00:00:00:00:02 --api unix:/tmp/b
  kumite send --detach --api unix:/tmp/b \\
              --flows \"udp 10.2.0.0/24:1024-2047 -> 10.1.0.9:9000 size 64\" --rate 20000 --seconds 600
  kumite send --detach --api unix:/tmp/a \\
              --flows \"udp 10.0.0.0/24:1024-2047 -> 10.1.0.1:53 size 64\" --rate 20000 --seconds 600
  kumite stat --api unix:/tmp/a
  kumite map update blocklist 10.0.0.0/25 0 --api unix:/tmp/b
  kumite events --follow --count 5 --api unix:/tmp/b
  kumite map update backends key 2 value prog backend_0 --api unix:/tmp/a
  kumite mode instrumented --api unix:/tmp/a
  kumite prog profile balance --api unix:/tmp/a
  kumite stat --watch --count 3 --api unix:/tmp/a";
