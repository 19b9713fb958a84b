//! The route to what programs say.
//!
//! Invariant: a request ends after [`API_WAIT_MS_MAX`] at most, whatever it asks for.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};

use super::Desk;
use crate::control::{Body, Call, Refusal, Route};
use crate::limits::API_WAIT_MS_MAX;

/// How often a waiting request looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(super) const EVENTS: Route<Desk> = Route {
    path: "/v1/events",
    method: Method::GET,
    what: "Trace lines, traps, findings and ring-buffer records from number ?since= on, waiting ?wait_ms= for one.",
    body: Body::Json,
    answer: events,
};

fn events(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let since = call.query_number("since", 0)?;
    let wait = Duration::from_millis(call.query_number("wait_ms", 0)?.min(API_WAIT_MS_MAX));
    let give_up = Instant::now() + wait;
    loop {
        let view = desk.events(since);
        if !view.events.is_empty() || Instant::now() >= give_up || desk.wants_stop() {
            return Ok(json!(view));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
