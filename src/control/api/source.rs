//! Routes about the traffic source. A host has one at a time.
//!
//! Invariant: a source that sends is never replaced.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Desk;
use crate::control::source::{Flows, Frames, Link, Pace, Progress, Rate, Sending, SourceError, State};
use crate::control::view::SourceView;
use crate::control::{Body, Call, Refusal, Route};
use crate::flow::{Host, MacAddr};

/// Rate where the request names none, frames per second: what any mode takes.
const RATE_DEFAULT: Rate = Rate::PerSecond(10_000);

pub(super) const SOURCE: Route<Desk> = Route {
    path: "/v1/source",
    method: Method::GET,
    what: "How far the traffic source is.",
    body: Body::Json,
    answer: progress,
};

fn progress(desk: &Desk, _: &Call) -> Result<Value, Refusal> {
    let source = desk.source();
    let source = source.as_ref().ok_or_else(|| Refusal::Conflict {
        place: "source".to_owned(),
        what: "none was started".to_owned(),
        mend: "start one with kumite send".to_owned(),
    })?;
    Ok(json!(view(source.progress())))
}

fn view(progress: Progress) -> SourceView {
    SourceView {
        state: progress.state.name().to_owned(),
        accepted: progress.accepted,
        bytes: progress.bytes,
        waits: progress.waits,
        elapsed_ms: u64::try_from(progress.elapsed.as_millis()).unwrap_or(u64::MAX),
    }
}

pub(super) const STOP_SOURCE: Route<Desk> = Route {
    path: "/v1/source",
    method: Method::DELETE,
    what: "Stops the traffic source.",
    body: Body::Json,
    answer: stop,
};

fn stop(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    if let Some(source) = desk.source().as_mut() {
        source.stop();
    }
    progress(desk, call)
}

pub(super) const SEND_FLOWS: Route<Desk> = Route {
    path: "/v1/source",
    method: Method::POST,
    what: "Sends {\"flows\": TEXT, \"rate\": FRAMES A SECOND or \"max\", \"count\": N, \"time_ms\": N, \"mac\": TO}.",
    body: Body::Json,
    answer: send_flows,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendFlows {
    flows: String,
    rate: Option<String>,
    count: Option<u64>,
    time_ms: Option<u64>,
    mac: Option<String>,
}

fn send_flows(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let wanted: SendFlows = call.json()?;
    let flows: Flows = wanted.flows.parse().map_err(request)?;
    let rate = wanted.rate.as_deref().map_or(Ok(RATE_DEFAULT), str::parse).map_err(request)?;
    let source = desk.host().config().responder.mac;
    let target = match wanted.mac {
        Some(text) => text.parse::<MacAddr>().map_err(|error| Refusal::Request {
            place: format!("mac {:?}", error.text),
            what: "no Ethernet address".to_owned(),
            mend: "write it as 02:00:00:00:00:01".to_owned(),
        })?,
        None => peer_mac(source),
    };
    let frames = Frames::Flows(flows, Link { source: source.0, target: target.0 });
    start(desk, frames, pace(rate, wanted.count, wanted.time_ms))
}

/// The address of the other host where both are numbered 1 and 2, which is how hosts begin.
fn peer_mac(own: MacAddr) -> MacAddr {
    let number = if own.0[5] == 2 { 1 } else { 2 };
    MacAddr([2, 0, 0, 0, 0, number])
}

pub(super) const SEND_CAPTURE: Route<Desk> = Route {
    path: "/v1/source/capture",
    method: Method::POST,
    what: "Sends the frames of the capture in the body; ?rate= ?count= ?time_ms=, else once.",
    body: Body::File,
    answer: send_capture,
};

fn send_capture(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let frames = Frames::captured(&call.body).map_err(request)?;
    let rate = call.query("rate").map_or(Ok(RATE_DEFAULT), str::parse).map_err(request)?;
    let count = call.query("count").map(|_| call.query_number("count", 0)).transpose()?;
    let time_ms = call.query("time_ms").map(|_| call.query_number("time_ms", 0)).transpose()?;
    let once = if time_ms.is_none() { Some(frames.count()) } else { None };
    start(desk, frames, pace(rate, count.or(once), time_ms))
}

fn pace(rate: Rate, count: Option<u64>, time_ms: Option<u64>) -> Pace {
    Pace { rate, count, time: time_ms.map(Duration::from_millis) }
}

fn request(error: SourceError) -> Refusal {
    match error {
        SourceError::Thread { .. } => Refusal::Host { text: error.to_string() },
        SourceError::Flows { .. }
        | SourceError::Rate { .. }
        | SourceError::Capture(_)
        | SourceError::FrameLen { .. } => Refusal::Guest { text: error.to_string() },
    }
}

fn start(desk: &Desk, frames: Frames, pace: Pace) -> Result<Value, Refusal> {
    let mut place = desk.source();
    if let Some(source) = place.as_ref()
        && source.progress().state == State::Sending
    {
        return Err(Refusal::Conflict {
            place: "source".to_owned(),
            what: "one sends already".to_owned(),
            mend: "wait for its end, or stop it with kumite send --stop".to_owned(),
        });
    }
    let source = Sending::start(frames, pace, sink(desk.host())).map_err(request)?;
    let view = view(source.progress());
    *place = Some(source);
    Ok(json!(view))
}

/// Offers frames to a host, until it has stopped or lost the worker that sends them.
pub(crate) fn sink(host: &Arc<Host>) -> impl FnMut(&[&[u8]]) -> Option<usize> + Send + use<> {
    let host = Arc::clone(host);
    move |burst| host.send(burst).ok()
}
