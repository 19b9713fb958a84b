//! Routes about programs: objects, modes.
//!
//! Invariant: an answer to a change is given when every worker acts on it.

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Desk;
use crate::control::view::{ObjectView, ProgramView, RefusedView};
use crate::control::{Body, Call, Refusal, Route};
use crate::elf::{Object, SettingError, Settings};
use crate::flow::{HostError, ModeTarget};
use crate::limits::OBJECT_NAME_LEN_MAX;
use crate::vm::Mode;

pub(super) const PROGRAMS: Route<Desk> =
    Route { path: "/v1/programs", method: Method::GET, what: "All programs.", body: Body::Json, answer: programs };

fn programs(desk: &Desk, _: &Call) -> Result<Value, Refusal> {
    let stats = desk.host().stats().programs;
    let mut views = Vec::new();
    for (id, instance) in desk.objects() {
        for loaded in instance.programs() {
            let program = loaded.linked().program();
            let known = stats.iter().find(|known| known.id == loaded.linked().id());
            views.push(ProgramView {
                id: loaded.linked().id(),
                object_id: id.0,
                object: instance.name().to_owned(),
                name: program.name().to_owned(),
                kind: program.kind().name().to_owned(),
                slots: program.insns().len(),
                mode: known.map_or("", |known| known.mode).to_owned(),
                hook: known.and_then(|known| known.hook.clone()),
                interpreted: loaded.translated(Mode::Fast).err().map(ToString::to_string),
            });
        }
    }
    Ok(json!(views))
}

pub(super) const LOAD: Route<Desk> = Route {
    path: "/v1/objects",
    method: Method::POST,
    what: "Loads the object in the body; ?name= is how messages call it, ?type=, ?map-size=, ?const= and ?kconfig= say \
           of it what kumite run takes.",
    body: Body::File,
    answer: load,
};

fn load(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let name: String = call.query("name").unwrap_or("object").chars().filter(|c| !c.is_control()).collect();
    let name: String = name.chars().take(OBJECT_NAME_LEN_MAX).collect();
    let object = Object::parse_with(&name, &call.body, &settings(call)?).map_err(guest)?;
    let id = desk.host().load(&object).map_err(|error| refusal(&error))?;
    let loaded = desk.objects().find(|(own, _)| *own == id);
    let (_, instance) = loaded.ok_or_else(|| guest(format!("{name}: unloaded meanwhile; load it again")))?;
    let refused = instance
        .refused()
        .iter()
        .map(|refused| RefusedView { name: refused.name.clone(), why: refused.refusal.to_string() });
    Ok(json!(ObjectView {
        id: id.0,
        object: name,
        programs: instance.programs().iter().map(|program| program.linked().program().name().to_owned()).collect(),
        refused: refused.collect(),
        maps: instance.maps().iter().map(|(_, map)| map.def().name.clone()).collect(),
    }))
}

/// A setting by its name in the query.
type Say = fn(&mut Settings, &str) -> Result<(), SettingError>;

/// What the query says of the object.
fn settings(call: &Call) -> Result<Settings, Refusal> {
    const SAY: [(&str, Say); 4] = [
        ("type", Settings::say_type),
        ("map-size", Settings::say_map_size),
        ("const", Settings::say_constant),
        ("kconfig", Settings::say_configuration),
    ];
    let mut settings = Settings::new();
    for (name, say) in SAY {
        for text in call.queries(name) {
            say(&mut settings, text).map_err(guest)?;
        }
    }
    Ok(settings)
}

fn guest(error: impl ToString) -> Refusal {
    Refusal::Guest { text: error.to_string() }
}

/// What the host's error means for whoever asked.
pub(super) fn refusal(error: &HostError) -> Refusal {
    let text = error.to_string();
    match error {
        HostError::Port(_)
        | HostError::Cage(_)
        | HostError::Thread { .. }
        | HostError::WorkerLost { .. }
        | HostError::Late { .. }
        | HostError::Stopped { .. } => Refusal::Host { text },
        HostError::WorkerCount { .. }
        | HostError::Fuel { .. }
        | HostError::FrameLen { .. }
        | HostError::Load(_)
        | HostError::NoInstance { .. }
        | HostError::InUse { .. }
        | HostError::NoMap { .. }
        | HostError::NotProgramArray { .. }
        | HostError::Slot { .. }
        | HostError::NoProgram { .. }
        | HostError::Kind { .. }
        | HostError::NothingAttached { .. }
        | HostError::NotThere { .. }
        | HostError::Actions { .. }
        | HostError::HookFull { .. }
        | HostError::NoPort { .. }
        | HostError::PortTaken { .. }
        | HostError::PortName { .. }
        | HostError::PortsFull { .. }
        | HostError::WirePort => Refusal::Guest { text },
    }
}

pub(super) const UNLOAD: Route<Desk> = Route {
    path: "/v1/objects/{object}",
    method: Method::DELETE,
    what: "Unloads an object none of whose programs is on a hook.",
    body: Body::Json,
    answer: unload,
};

fn unload(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let (id, instance) = desk.object(call.param("object"))?;
    desk.host().unload(id).map_err(|error| refusal(&error))?;
    Ok(json!({ "id": id.0, "object": instance.name() }))
}

pub(super) const SET_MODE: Route<Desk> = Route {
    path: "/v1/modes",
    method: Method::PUT,
    what: "Lets {\"program\": NAME or \"all\"} run in {\"mode\": fast, instrumented or verify}.",
    body: Body::Json,
    answer: set_mode,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetMode {
    program: String,
    mode: String,
}

fn set_mode(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let wanted: SetMode = call.json()?;
    let mode: Mode = wanted.mode.parse().map_err(|_| Refusal::Request {
        place: format!("mode {:?}", wanted.mode),
        what: "no such mode".to_owned(),
        mend: "use fast, instrumented or verify".to_owned(),
    })?;
    let target = match wanted.program.as_str() {
        "all" => ModeTarget::All,
        name => {
            let program = desk.program(name)?;
            let own = program.linked().program().name();
            // A bare name means all of the name; what tells one of them apart means that one.
            if name == own { ModeTarget::Program(own.to_owned()) } else { ModeTarget::Number(program.linked().id()) }
        }
    };
    desk.host().set_mode(&target, mode).map_err(|error| refusal(&error))?;
    Ok(json!({ "program": wanted.program, "mode": mode.name() }))
}
