//! Routes about ports.
//!
//! Invariant: an answer to a change is given when every worker acts on it.

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Desk;
use super::programs::refusal;
use crate::control::view::PortPlaceView;
use crate::control::{Body, Call, Refusal, Route};
use crate::flow::PortConfig;

pub(super) const PORTS: Route<Desk> = Route {
    path: "/v1/ports",
    method: Method::GET,
    what: "The ports: name, interface index, what each is and which path moves its frames.",
    body: Body::Json,
    answer: ports,
};

fn ports(desk: &Desk, _: &Call) -> Result<Value, Refusal> {
    Ok(json!(port_views(desk)))
}

pub(super) fn port_views(desk: &Desk) -> Vec<PortPlaceView> {
    let view = |port: crate::flow::PortStats| PortPlaceView {
        port: port.port,
        ifindex: port.ifindex,
        spec: port.spec,
        path: port.path,
        drivers: port.drivers,
        is_gone: port.is_gone,
    };
    desk.host().stats().ports.into_iter().map(view).collect()
}

pub(super) const ADD: Route<Desk> = Route {
    path: "/v1/ports",
    method: Method::POST,
    what: "Opens {\"port\": SPEC} as a further port called {\"name\": NAME}.",
    body: Body::Json,
    answer: add,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    name: String,
    port: String,
}

fn add(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let wanted: Add = call.json()?;
    let spec =
        wanted.port.parse().map_err(|error: crate::port::SpecError| Refusal::Guest { text: error.to_string() })?;
    let port = PortConfig { name: wanted.name, spec };
    let ifindex = desk.host().add_port(&port).map_err(|error| refusal(&error))?;
    Ok(json!({ "port": port.name, "ifindex": ifindex, "spec": port.spec.to_string() }))
}

pub(super) const REMOVE: Route<Desk> = Route {
    path: "/v1/ports/{port}",
    method: Method::DELETE,
    what: "Closes a port that is not the wire; what it counted is added to the ports removed before.",
    body: Body::Json,
    answer: remove,
};

fn remove(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let name = call.param("port");
    desk.host().remove_port(name).map_err(|error| refusal(&error))?;
    Ok(json!({ "port": name, "removed": true }))
}
