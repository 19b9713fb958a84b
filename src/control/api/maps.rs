//! Routes about maps.
//!
//! Invariant: slots of program arrays change through the host alone, which knows what is loaded.

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Desk;
use super::desk::FoundMap;
use crate::control::view::MapView;
use crate::control::{Body, Call, Refusal, Route, elements};
use crate::flow::{HostError, InstanceId};
use crate::maps::{Map, MapId};

pub(super) const MAPS: Route<Desk> =
    Route { path: "/v1/maps", method: Method::GET, what: "All maps.", body: Body::Json, answer: maps };

fn maps(desk: &Desk, _: &Call) -> Result<Value, Refusal> {
    let mut views = Vec::new();
    for (id, instance) in desk.objects() {
        views.extend(instance.maps().iter().map(|(map_id, map)| view(id, instance.name(), *map_id, map.as_ref())));
    }
    Ok(json!(views))
}

fn view(object_id: InstanceId, object: &str, id: MapId, map: &dyn Map) -> MapView {
    let def = map.def();
    MapView {
        id: id.0,
        object_id: object_id.0,
        object: object.to_owned(),
        name: def.name.clone(),
        kind: def.kind.to_string(),
        key_len: def.key_len,
        value_len: def.value_len,
        max_entries: def.max_entries,
        flags: def.flags,
        lost: map.records_lost(),
    }
}

pub(super) const MAP: Route<Desk> =
    Route { path: "/v1/maps/{map}", method: Method::GET, what: "One map.", body: Body::Json, answer: map };

fn map(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let found = desk.map(call.param("map"))?;
    Ok(json!(view(found.object, &found.object_name, found.id, found.map.as_ref())))
}

pub(super) const ELEMENTS: Route<Desk> = Route {
    path: "/v1/maps/{map}/elements",
    method: Method::GET,
    what: "Elements of a map, those behind ?after=KEY; the answer's next says where to go on.",
    body: Body::Json,
    answer: all,
};

fn all(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let FoundMap { map, types, .. } = desk.map(call.param("map"))?;
    let after = call.query("after").map(|digits| elements::key(&*map, digits)).transpose()?;
    Ok(json!(elements::part(&*map, types.as_ref(), after.as_deref())?))
}

pub(super) const LOOKUP: Route<Desk> = Route {
    path: "/v1/maps/{map}/elements/{key}",
    method: Method::GET,
    what: "The element with this key (hexadecimal digits).",
    body: Body::Json,
    answer: lookup,
};

fn lookup(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let FoundMap { map, types, .. } = desk.map(call.param("map"))?;
    let key = elements::key(&*map, call.param("key"))?;
    Ok(json!(elements::lookup(&*map, types.as_ref(), &key)?))
}

pub(super) const UPDATE: Route<Desk> = Route {
    path: "/v1/maps/{map}/elements/{key}",
    method: Method::PUT,
    what: "Stores {\"value\": DIGITS}, {\"program\": NAME} or {\"map\": NAME}; \"flags\": any, noexist or exist.",
    body: Body::Json,
    answer: update,
};

/// What a map's elements are.
#[derive(Clone, Copy)]
enum Holds {
    Values,
    Programs,
    Maps,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    value: Option<String>,
    program: Option<String>,
    map: Option<String>,
    #[serde(default)]
    flags: Option<String>,
}

fn update(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let map = desk.map(call.param("map"))?.map;
    let key = elements::key(&*map, call.param("key"))?;
    let wanted: Update = call.json()?;
    let flags = wanted.flags.as_deref().unwrap_or("any");
    let holds = if map.as_program_array().is_some() {
        Holds::Programs
    } else if map.as_map_of_maps().is_some() {
        Holds::Maps
    } else {
        Holds::Values
    };
    match (wanted.value, wanted.program, wanted.map, holds) {
        (Some(value), None, None, Holds::Values) => {
            elements::update(&*map, &key, &value, flags, desk.host().world().worker_count)?;
        }
        (None, Some(program), None, Holds::Programs) => {
            let program = desk.program(&program)?;
            let replaced = desk.host().replace_slot(&map, elements::index(&*map, &key)?, Some(&program));
            replaced.map_err(|error| slot_refusal(&*map, "storing", &error))?;
        }
        (None, None, Some(inner), Holds::Maps) => {
            let inner = desk.map(&inner)?.entry;
            let outer = map.as_map_of_maps().expect("just seen");
            let put = outer.put(&key, &inner, elements::flags(&*map, flags)?);
            put.map_err(|errno| elements::refusal(&*map, "storing", errno))?;
        }
        (value, program, inner, holds) => {
            let given = usize::from(value.is_some()) + usize::from(program.is_some()) + usize::from(inner.is_some());
            let what = match (given, holds) {
                (0, _) => "neither value, program nor map is given",
                (1, Holds::Programs) => "a program array holds programs",
                (1, Holds::Maps) => "a map of maps holds maps",
                (1, Holds::Values) => "it holds values, neither programs nor maps",
                (_, _) => "more than one of value, program and map is given",
            };
            return Err(Refusal::Request {
                place: format!("map {}", map.def().name),
                what: what.to_owned(),
                mend: "send {\"value\": DIGITS}; {\"program\": NAME} for a program array; {\"map\": NAME} for a map of maps"
                    .to_owned(),
            });
        }
    }
    Ok(json!({}))
}

pub(super) const DELETE: Route<Desk> = Route {
    path: "/v1/maps/{map}/elements/{key}",
    method: Method::DELETE,
    what: "Removes an element, or empties a slot of a program array.",
    body: Body::Json,
    answer: delete,
};

fn delete(desk: &Desk, call: &Call) -> Result<Value, Refusal> {
    let map = desk.map(call.param("map"))?.map;
    let key = elements::key(&*map, call.param("key"))?;
    match map.as_program_array() {
        Some(_) => {
            let emptied = desk.host().replace_slot(&map, elements::index(&*map, &key)?, None);
            emptied.map_err(|error| slot_refusal(&*map, "deleting", &error))?;
        }
        None => elements::delete(&*map, &key)?,
    }
    Ok(json!({}))
}

/// What the map itself says of a slot is told as of any other element.
fn slot_refusal(map: &dyn Map, doing: &str, error: &HostError) -> Refusal {
    if let HostError::Slot { errno, .. } = error {
        return elements::refusal(map, doing, *errno);
    }
    super::programs::refusal(error)
}
