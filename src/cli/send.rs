//! `kumite send`: traffic from a running host to its peer.
//!
//! Invariant: sends nothing itself: the frames are made by the host.

use std::path::PathBuf;
use std::time::Duration;

use hyper::Method;
use serde_json::json;

use super::asking::{typed, write_json};
use super::table::counted;
use super::{Api, CliError, Exit, Form, Out, object_file};
use crate::control::source::{Flows, Rate};
use crate::control::view::SourceView;
use crate::control::{Client, escape};
use crate::limits::OBJECT_LEN_MAX;

/// How often the progress of a source is asked for.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Send frames from a running host to its peer
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["capture", "flows", "stop"])))]
pub(super) struct Args {
    /// Capture file (pcap or pcapng) whose frames are sent
    capture: Option<PathBuf>,
    /// Flows, such as "udp 10.0.0.0/24:1024-2047 -> 10.1.0.1:53 size 64"; several apart by ;
    #[arg(long, value_name = "FLOWS")]
    flows: Option<String>,
    /// Frames per second, or max
    #[arg(long, value_name = "PPS", default_value = "10000")]
    rate: Rate,
    /// Frames to send; a capture is sent once unless --count or --seconds is given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Seconds to send for; 1 where neither it nor --count is given
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Stop what the host sends
    #[arg(long)]
    stop: bool,
    /// Return at once; the host goes on sending
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    api: Api,
    #[command(flatten)]
    form: Form,
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let time_ms = args.seconds.map(milliseconds).transpose()?;
    let client = args.api.client()?;
    if args.stop {
        let source = typed(&client, client.call(&Method::DELETE, "/v1/source", Default::default())?)?;
        return write_end(&source, &args.form, out);
    }
    let answer = match (&args.flows, &args.capture) {
        (Some(flows), _) => {
            flows.parse::<Flows>().map_err(CliError::usage)?;
            let time_ms = if args.count.is_none() { time_ms.or(Some(1000)) } else { time_ms };
            let body =
                json!({ "flows": flows, "rate": args.rate.to_string(), "count": args.count, "time_ms": time_ms });
            client.send(&Method::POST, "/v1/source", &body)?
        }
        (None, Some(capture)) => {
            let bytes = object_file::bytes(capture, OBJECT_LEN_MAX)?;
            let mut path = format!("/v1/source/capture?rate={}", escape(&args.rate.to_string()));
            for (name, value) in [("count", args.count), ("time_ms", time_ms)] {
                path += &value.map(|value| format!("&{name}={value}")).unwrap_or_default();
            }
            client.call(&Method::POST, &path, bytes.into())?
        }
        (None, None) => unreachable!("clap asks for one of them"),
    };
    let mut source: SourceView = typed(&client, answer)?;
    while !args.detach && source.state == "sending" {
        std::thread::sleep(ASK_EVERY);
        source = progress(&client)?;
    }
    write_end(&source, &args.form, out)
}

fn write_end(source: &SourceView, form: &Form, out: Out<'_>) -> Result<Exit, CliError> {
    if form.json {
        write_json(out, &json!(source))?;
        return Ok(Exit::Done);
    }
    let seconds = Duration::from_millis(source.elapsed_ms).as_secs_f64();
    let rate =
        if seconds > 0.0 { format!(", {:.0} frames/s", source.accepted as f64 / seconds) } else { String::new() };
    writeln!(out, "{}: {} in {seconds:.2} s{rate}", source.state, counted(source.accepted, "frame"))?;
    Ok(Exit::Done)
}

fn progress(client: &Client) -> Result<SourceView, CliError> {
    typed(client, client.get("/v1/source")?)
}

/// Seconds as whole milliseconds, where a source can run for so long.
fn milliseconds(seconds: f64) -> Result<u64, CliError> {
    let time = Duration::try_from_secs_f64(seconds).ok().map(|time| time.as_millis());
    let time = time.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
    time.ok_or_else(|| {
        CliError::usage(format!("--seconds {seconds}: no time to send for; write for example 10 or 0.5"))
    })
}
