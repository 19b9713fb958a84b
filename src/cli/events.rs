//! `kumite events`: what programs of a running host say.
//!
//! Invariant: one event, one line; an event is shown once, in the order of its number.

use serde_json::json;

use super::asking::typed;
use super::table::grouped;
use super::{Api, CliError, Exit, Form, Out, one_line};
use crate::control::view::{EventView, EventsView};

/// Milliseconds that the host waits for the next event before it answers without one.
const WAIT_MS: u64 = 5_000;

/// Show trace lines and ring-buffer records of a running host
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on and show events as they come
    #[arg(long, short)]
    follow: bool,
    /// End after this many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    api: Api,
    #[command(flatten)]
    form: Form,
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let client = args.api.client()?;
    let mut since = 0;
    let mut left = args.count.unwrap_or(u64::MAX);
    loop {
        let wait_ms = if args.follow { WAIT_MS } else { 0 };
        let answer = client.get(&format!("/v1/events?since={since}&wait_ms={wait_ms}"))?;
        let part: EventsView = typed(&client, answer)?;
        if part.lost > 0 && !args.form.json {
            writeln!(out, "({} older events are forgotten)", part.lost)?;
        }
        for event in &part.events {
            if left == 0 {
                return Ok(Exit::Done);
            }
            left -= 1;
            write_event(event, &args.form, out)?;
        }
        out.flush()?;
        let end = part.events.is_empty() && !args.follow;
        if end && part.untold > 0 && !args.form.json {
            let untold = grouped(part.untold);
            writeln!(out, "(and {untold} more traps and findings: one of a burst is told, kumite stat counts all)")?;
        }
        if end || left == 0 {
            return Ok(Exit::Done);
        }
        since = part.next;
    }
}

/// One event, one line: JSON lines too, so that a pipe can follow.
fn write_event(event: &EventView, form: &Form, out: Out<'_>) -> Result<(), CliError> {
    if form.json {
        writeln!(out, "{}", json!(event))?;
        return Ok(());
    }
    let seconds = std::time::Duration::from_millis(event.at_ms).as_secs_f64();
    let map = event.map.as_ref().map(|map| format!("{map} ")).unwrap_or_default();
    writeln!(out, "{seconds:10.3}  {:6}  {map}{}", event.kind, one_line(&event.text))?;
    Ok(())
}
