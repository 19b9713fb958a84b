//! Routes about the host as a whole.
//!
//! Invariant: reads counters while workers count, and stops none but by `POST /v1/stop`.

use hyper::Method;
use serde_json::{Value, json};

use super::Desk;
use crate::control::view::{HostView, WireView};
use crate::control::{Body, Call, Refusal, Route};
use crate::flow::Host;

pub(super) const HOST: Route<Desk> =
    Route { path: "/v1/host", method: Method::GET, what: "The host.", body: Body::Json, answer: host };

fn host(desk: &Desk, _: &Call) -> Result<Value, Refusal> {
    Ok(json!(view(desk)))
}

/// The ends of the wire, where it has addresses; else what it is, and nothing of its peer.
fn wire(host: &Host) -> WireView {
    let config = host.config();
    let local = host.local().map_or_else(|| config.wire.to_string(), |local| local.to_string());
    WireView { local, peer: config.peer().map(|peer| peer.to_string()).unwrap_or_default() }
}

/// What there is to say about the host of a desk.
pub(super) fn view(desk: &Desk) -> HostView {
    let host = desk.host();
    HostView {
        name: host.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        process: std::process::id(),
        uptime_ms: u64::try_from(desk.begin().elapsed().as_millis()).unwrap_or(u64::MAX),
        wire: wire(host),
        io: host.io_report(),
        workers: host.config().worker_count,
        hooks: super::hooks::hook_views(desk),
        ports: super::ports::port_views(desk),
    }
}

pub(super) const STATS: Route<Desk> = Route {
    path: "/v1/stats",
    method: Method::GET,
    what: "The books: what ports and programs counted.",
    body: Body::Json,
    answer: stats,
};

fn stats(desk: &Desk, _: &Call) -> Result<Value, Refusal> {
    Ok(json!(desk.host().stats()))
}

pub(super) const STOP: Route<Desk> = Route {
    path: "/v1/stop",
    method: Method::POST,
    what: "Ends the host as SIGTERM does: it drains and says its books.",
    body: Body::Json,
    answer: stop,
};

fn stop(desk: &Desk, _: &Call) -> Result<Value, Refusal> {
    desk.ask_stop();
    Ok(json!({ "stopping": desk.host().name() }))
}
