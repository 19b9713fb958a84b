//! Routes about hooks: who judges frames where, and in which order.
//!
//! Invariant: an answer to a change is given when every worker acts on it; each change is one published plan.

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Desk;
use super::programs::refusal;
use crate::control::view::{HookProgramView, HookView};
use crate::control::{Body, Call, Refusal, Route};
use crate::flow::{Actions, Hook, Place, Rank, WIRE_PORT};

pub(super) const HOOKS: Route<Desk> = Route {
    path: "/v1/hooks",
    method: Method::GET,
    what: "The hooks of all ports and what sits there.",
    body: Body::Json,
    answer: hooks,
};

fn hooks(desk: &Desk, _: &Call) -> Result<Value, Refusal> {
    Ok(json!(hook_views(desk)))
}

pub(super) fn hook_views(desk: &Desk) -> Vec<HookView> {
    let mut views = Vec::new();
    for port in desk.host().stats().ports {
        views.extend(port.hooks.into_iter().map(|hook| {
            let programs: Vec<HookProgramView> = hook
                .programs
                .into_iter()
                .map(|one| HookProgramView {
                    program: one.program,
                    id: one.id,
                    priority: one.priority,
                    actions: one.actions,
                })
                .collect();
            let program = programs.first().map(|first| first.program.clone());
            HookView { port: port.port.clone(), hook: hook.hook.to_owned(), program, programs }
        }));
    }
    views
}

fn place(call: &Call, port: Option<&str>) -> Result<Place, Refusal> {
    let word = call.param("hook");
    let hook: Hook = word.parse().map_err(|_| Refusal::Request {
        place: format!("hook {word:?}"),
        what: "no such hook".to_owned(),
        mend: "use xdp, tc-ingress or tc-egress".to_owned(),
    })?;
    Ok(Place::new(port.unwrap_or(WIRE_PORT), hook))
}

/// A program as a request names it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    program: String,
    priority: Option<u32>,
    actions: Option<String>,
}

impl Wanted {
    fn rank(&self) -> Result<Rank, Refusal> {
        let actions = self.actions.as_deref().map(str::parse::<Actions>).transpose();
        let actions = actions.map_err(|error| Refusal::Guest { text: error.to_string() })?;
        let priority = self.priority.unwrap_or(Rank::PRIORITY_DEFAULT);
        Ok(Rank { priority, actions: actions.unwrap_or_default() })
    }
}

pub(super) const ATTACH: Route<Desk> = Route {
    path: "/v1/hooks/{hook}",
    method: Method::POST,
    what: "Puts {\"program\": NAME} on a hook beside what is there; \"priority\", \"actions\" and \"port\" may say more.",
    body: Body::Json,
    answer: attach,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attach {
    program: String,
    priority: Option<u32>,
    actions: Option<String>,
    port: Option<String>,
}

fn attach(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let Attach { program, priority, actions, port } = call.json()?;
    let (place, wanted) = (place(call, port.as_deref())?, Wanted { program, priority, actions });
    let (program, rank) = (desk.program(&wanted.program)?, wanted.rank()?);
    desk.host().attach_at(&place, &program, rank).map_err(|error| refusal(&error))?;
    let name = program.linked().program().name();
    Ok(json!({ "port": place.port, "hook": place.hook.name(), "program": name, "priority": rank.priority }))
}

pub(super) const REPLACE: Route<Desk> = Route {
    path: "/v1/hooks/{hook}",
    method: Method::PUT,
    what: "Puts {\"program\": NAME}, or {\"programs\": [..]} with priorities and actions, on a hook in place of what is there.",
    body: Body::Json,
    answer: replace,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replace {
    program: Option<String>,
    #[serde(default)]
    programs: Vec<Wanted>,
    port: Option<String>,
}

fn replace(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let Replace { program, mut programs, port } = call.json()?;
    let place = place(call, port.as_deref())?;
    programs.extend(program.map(|program| Wanted { program, priority: None, actions: None }));
    if programs.is_empty() {
        return Err(Refusal::Request {
            place: "body".to_owned(),
            what: "names no program".to_owned(),
            mend: "send {\"program\": NAME}; DELETE empties a hook".to_owned(),
        });
    }
    let found = programs.iter().map(|wanted| Ok((desk.program(&wanted.program)?, wanted.rank()?)));
    let found = found.collect::<Result<Vec<_>, Refusal>>()?;
    desk.host().replace(&place, &found).map_err(|error| refusal(&error))?;
    let first = found.first().map(|(program, _)| program.linked().program().name());
    Ok(json!({ "port": place.port, "hook": place.hook.name(), "program": first }))
}

pub(super) const DETACH: Route<Desk> = Route {
    path: "/v1/hooks/{hook}",
    method: Method::DELETE,
    what: "Takes ?program=, or all, off a hook of ?port=, or of the wire: without programs frames pass.",
    body: Body::Json,
    answer: detach,
};

fn detach(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let place = place(call, call.query("port"))?;
    let program = call.query("program").map(|name| desk.program(name)).transpose()?;
    let id = program.as_ref().map(|program| program.linked().id());
    desk.host().detach_at(&place, id).map_err(|error| refusal(&error))?;
    Ok(json!({ "port": place.port, "hook": place.hook.name(), "program": null }))
}
