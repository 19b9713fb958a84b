//! What can be asked of a host, one route a value.
//!
//! Invariant: the list is in the order of paths, then methods; a path begins with the version of the API.

mod desk;
mod events;
mod hooks;
mod host;
mod maps;
mod ports;
mod profile;
mod programs;
mod source;

pub use desk::Desk;

use axum::Router;
use hyper::Method;
use serde_json::{Value, json};
use std::sync::Arc;

use super::{Body, Call, Refusal, Route};

/// The routes of a host.
pub static ROUTES: &[Route<Desk>] = &[
    events::EVENTS,
    hooks::HOOKS,
    hooks::DETACH,
    hooks::ATTACH,
    hooks::REPLACE,
    host::HOST,
    maps::MAPS,
    maps::MAP,
    maps::ELEMENTS,
    maps::DELETE,
    maps::LOOKUP,
    maps::UPDATE,
    programs::SET_MODE,
    programs::LOAD,
    programs::UNLOAD,
    ports::PORTS,
    ports::ADD,
    ports::REMOVE,
    programs::PROGRAMS,
    profile::PROFILE,
    LIST,
    source::STOP_SOURCE,
    source::SOURCE,
    source::SEND_FLOWS,
    source::SEND_CAPTURE,
    host::STATS,
    host::STOP,
];

const LIST: Route<Desk> =
    Route { path: "/v1/routes", method: Method::GET, what: "These routes.", body: Body::Json, answer: list };

fn list(_: &Desk, _: &Call) -> Result<Value, Refusal> {
    let routes =
        ROUTES.iter().map(|route| json!({ "method": route.method.as_str(), "path": route.path, "what": route.what }));
    Ok(routes.collect())
}

/// The routes as a service that answers for this desk.
pub fn service(desk: &Arc<Desk>) -> Router {
    super::router(ROUTES, desk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_stand_in_order_and_say_what_they_do() {
        let order: Vec<(&str, &str)> = ROUTES.iter().map(|route| (route.path, route.method.as_str())).collect();
        assert!(order.is_sorted_by(|a, b| a < b), "{order:#?}");
        assert!(ROUTES.iter().all(|route| route.path.starts_with("/v1/") && route.what.ends_with('.')));
    }

    #[test]
    fn the_manual_lists_every_route_in_this_order() {
        let manual = include_str!("../../manual/control.md");
        let listed: Vec<&str> = manual.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let routes: Vec<String> = ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        assert_eq!(listed, routes);
    }
}
