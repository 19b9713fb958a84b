//! Objects brought to life: maps made and filled, programs linked, all of it gone again.

use std::sync::{Arc, Weak};

use kumite::elf::{Object, ObjectMap, Pinning};
use kumite::maps::{Map, MapDef, MapKind};
use kumite::run::{Clock, World};
use kumite::vm::{Instance, LoadError};

use super::builder::{Builder, Names};

pub(super) fn world() -> Arc<World> {
    Arc::new(World::new(1, Clock::Fixed(0), Box::new(|_| {})).expect("address space"))
}

fn balancer() -> Object {
    Object::parse("balancer.o", include_bytes!("../../../src/cli/demo/balancer.o")).expect("an object of ours")
}

fn map(kind: MapKind, value_len: u32) -> ObjectMap {
    ObjectMap::new(MapDef {
        name: "m".to_owned(),
        kind,
        key_len: 4,
        value_len,
        max_entries: 2,
        flags: 0,
        ..MapDef::default()
    })
}

fn with_maps(maps: Vec<ObjectMap>) -> Object {
    let mut object = Object::parse("test.o", &Builder::new().finish()).expect("an empty object");
    object.maps = maps;
    object
}

fn refusal(object: &Object) -> String {
    Instance::load(&world(), object).expect_err("a wrong object").to_string()
}

/// Waits until what was retired is freed.
fn collect() {
    for _ in 0..1000 {
        crossbeam::epoch::pin().flush();
    }
}

#[test]
fn maps_are_filled_and_programs_are_in_their_slots() {
    let world = world();
    let instance = Instance::load(&world, &balancer()).expect("all that it needs is there");
    assert_eq!(instance.name(), "balancer.o");
    assert_eq!(instance.programs().len(), 4);
    assert!(instance.refused().is_empty());
    let rodata = instance.map(".rodata").expect("it has constants");
    assert_eq!(rodata.host_lookup(&[0; 4]).expect("one value").len(), 24);
    assert!(rodata.host_update(&[0; 4], &[0; 24], 0).is_err(), "it is frozen");
    let backends = instance.map("backends").expect("it jumps");
    let guard = crossbeam::epoch::pin();
    let array = backends.as_program_array().expect("a program array");
    let names: Vec<Option<&str>> =
        (0..4).map(|index| array.slot(index, &guard).map(|slot| slot.name.as_str())).collect();
    assert_eq!(names, [Some("backend_0"), Some("backend_1"), Some("backend_local"), None]);
    for (id, map) in instance.maps() {
        assert!(world.maps.map(*id, &crossbeam::epoch::pin()).is_some(), "{} is in the table", map.def().name);
    }
}

#[test]
fn maps_stay_for_as_long_as_a_program_and_all_goes_with_the_last_one() {
    let world = world();
    let instance = Instance::load(&world, &balancer()).expect("all that it needs is there");
    let ids: Vec<_> = instance.maps().iter().map(|(id, _)| *id).collect();
    let maps: Vec<Weak<dyn Map>> = instance.maps().iter().map(|(_, map)| Arc::downgrade(map)).collect();
    let program = Arc::clone(instance.program("balance").expect("its entry"));
    let backend = Arc::downgrade(instance.program("backend_0").expect("a target of its jumps"));
    drop(instance);
    collect();
    assert!(ids.iter().all(|id| world.maps.map(*id, &crossbeam::epoch::pin()).is_some()), "a program may still run");
    assert!(backend.upgrade().is_none(), "the program array was emptied");
    drop(program);
    collect();
    assert!(ids.iter().all(|id| world.maps.map(*id, &crossbeam::epoch::pin()).is_none()));
    assert!(maps.iter().all(|map| map.upgrade().is_none()), "nothing holds what holds it");
}

#[test]
fn loading_many_times_does_not_fill_the_host() {
    let world = world();
    let object = with_maps(vec![map(MapKind::ARRAY, 4), map(MapKind::PROGRAM_ARRAY, 4)]);
    for _ in 0..5000 {
        Instance::load(&world, &object).expect("the host forgets what is gone");
        crossbeam::epoch::pin().flush();
    }
}

#[test]
fn a_map_that_cannot_be_made_leaves_the_world_as_it_was() {
    let world = world();
    let object = with_maps(vec![map(MapKind::ARRAY, 4), map(MapKind(15), 4)]);
    let error = Instance::load(&world, &object).expect_err("no such type");
    assert_eq!(
        error.to_string(),
        "test.o: map m: type sockmap is not supported: a host has no kernel sockets to send to; use another map type"
    );
    collect();
    assert_eq!(refusal(&with_maps(vec![map(MapKind::ARRAY, 0)])).split(';').count(), 2);
    let first = Instance::load(&world, &with_maps(vec![map(MapKind::ARRAY, 4)])).expect("room");
    assert!(world.maps.map(first.maps()[0].0, &crossbeam::epoch::pin()).is_some());
}

#[test]
fn initial_values_that_a_map_does_not_take_are_told() {
    let mut frozen = map(MapKind::PROGRAM_ARRAY, 4);
    frozen.frozen = true;
    assert_eq!(
        refusal(&with_maps(vec![frozen])),
        "test.o: map m: its initial value cannot be stored (EPERM); rebuild the object"
    );
    let mut object = balancer();
    object.maps[0].slots.push((4, "backend_0".to_owned()));
    assert_eq!(
        refusal(&object),
        "balancer.o: map backends: entry 4 cannot be backend_0 (E2BIG); raise `max_entries` or correct `values`"
    );
}

#[test]
fn a_program_that_cannot_be_had_says_why() {
    let mut builder = Builder::new();
    let xdp = builder.text("xdp", "r0 = 2\nexit\ncall 9999\nexit\nr0 = 2");
    builder.symbol("good", Names::Function, xdp, 0, 16);
    builder.symbol("strange", Names::Function, xdp, 16, 16);
    builder.symbol("bad", Names::Function, xdp, 32, 8);
    let mut object = Object::parse("test.o", &builder.finish()).expect("one is good");
    let mut jumps = map(MapKind::PROGRAM_ARRAY, 4);
    jumps.slots = vec![(0, "good".to_owned()), (1, "strange".to_owned())];
    object.maps.push(jumps);
    let instance = Instance::load(&world(), &object).expect("others do not matter");
    assert_eq!(instance.programs().len(), 1);
    let names: Vec<&str> = instance.refused().iter().map(|refused| refused.name.as_str()).collect();
    assert_eq!(names, ["bad", "strange"]);
    let guard = crossbeam::epoch::pin();
    let array = instance.map("m").and_then(|map| map.as_program_array()).expect("a program array");
    assert!(array.slot(0, &guard).is_some());
    assert!(array.slot(1, &guard).is_none(), "a program that is not there is in no slot");
    assert!(instance.expect_program("good").is_ok());
    let why = |name: &str| instance.expect_program(name).map_err(|error: LoadError| error.to_string()).expect_err(name);
    assert_eq!(
        why("strange"),
        "test.o: strange insn 0: helper 9999 is not supported; see `kumite helpers` for those that are"
    );
    assert_eq!(why("bad"), "test.o: bad insn 0: bad falls off its end; end it with `exit` or `goto`");
    assert_eq!(why("ugly"), "test.o: no program is called ugly; it has good");
}

/// An array of maps that holds the second map in its last entry.
fn nested() -> Object {
    let named = |name: &str, map: ObjectMap| ObjectMap { def: MapDef { name: name.to_owned(), ..map.def }, ..map };
    let mut outer = named("outer", map(MapKind::ARRAY_OF_MAPS, 4));
    let inner = named("inner", map(MapKind::HASH, 8));
    outer.def.inner = Some(Arc::new(inner.def.clone()));
    outer.inner_maps.push((1, "inner".to_owned()));
    with_maps(vec![outer, inner])
}

#[test]
fn inner_maps_are_put_in_and_go_with_the_last_that_holds_them() {
    let world = world();
    let instance = Instance::load(&world, &nested()).expect("a good object");
    let [outer, inner] = [0, 1].map(|index| instance.maps()[index].0);
    let map = Arc::clone(&instance.maps()[0].1);
    assert_eq!(map.host_lookup(&1u32.to_ne_bytes()), Ok(inner.0.to_ne_bytes().to_vec()));
    drop(instance);
    let gone = |id| {
        collect();
        let guard = crossbeam::epoch::pin();
        world.maps.map(id, &guard).is_none()
    };
    assert!((0..1000).any(|_| gone(outer)), "the instance was the last to hold it");
    assert!(!gone(inner), "its outer map still lives");
    drop(map);
    assert!((0..1000).any(|_| gone(inner)), "now nobody holds it");
}

#[test]
fn inner_maps_that_do_not_fit_are_told() {
    let mut object = nested();
    object.maps[0].inner_maps[0].0 = 2;
    let mend = "make it like the map's `values`";
    assert_eq!(refusal(&object), format!("test.o: map outer: entry 2 cannot be map inner (E2BIG); {mend}"));
    let mut object = nested();
    object.maps[1].def.value_len = 4;
    assert_eq!(refusal(&object), format!("test.o: map outer: entry 1 cannot be map inner (EINVAL); {mend}"));
    let mut object = nested();
    object.maps[0].inner_maps[0].1 = "none".to_owned();
    assert_eq!(refusal(&object), format!("test.o: map outer: entry 1 cannot be map none (EBADF); {mend}"));
    let mut object = nested();
    object.maps[1].inner_maps.push((0, "outer".to_owned()));
    assert_eq!(refusal(&object), format!("test.o: map inner: entry 0 cannot be map outer (EINVAL); {mend}"));
}

#[test]
fn a_perf_event_array_without_a_size_has_a_slot_for_each_worker() {
    let mut events = map(MapKind::PERF_EVENT_ARRAY, 4);
    events.def.max_entries = 0;
    let world = Arc::new(World::new(3, Clock::Fixed(0), Box::new(|_| {})).expect("address space"));
    let instance = Instance::load(&world, &with_maps(vec![events])).expect("a good object");
    assert_eq!(instance.maps()[0].1.def().max_entries, 3);
}

/// An object with one map that is shared by name, and nothing else.
fn sharing(name: &str, max_entries: u32) -> Object {
    let def = MapDef {
        name: "flows".to_owned(),
        kind: MapKind::HASH,
        key_len: 4,
        value_len: 4,
        max_entries,
        ..MapDef::default()
    };
    let map = ObjectMap { pinning: Pinning::ByName, ..ObjectMap::new(def) };
    Object {
        name: name.to_owned(),
        maps: vec![map],
        ..Object::parse("empty.o", &Builder::new().finish()).expect("empty")
    }
}

#[test]
fn objects_share_a_map_by_its_name_until_the_last_of_them_goes() {
    let world = world();
    let first = Instance::load(&world, &sharing("first.o", 8)).expect("loads");
    let second = Instance::load(&world, &sharing("second.o", 8)).expect("loads");
    first.map("flows").expect("there").host_update(&[1; 4], &[2; 4], 0).expect("room");
    assert_eq!(second.map("flows").expect("there").host_lookup(&[1; 4]), Ok(vec![2; 4]));
    drop(first);
    let third = Instance::load(&world, &sharing("third.o", 8)).expect("loads");
    assert_eq!(third.map("flows").expect("there").host_lookup(&[1; 4]), Ok(vec![2; 4]));
    drop((second, third));
    let fourth = Instance::load(&world, &sharing("fourth.o", 8)).expect("loads");
    assert!(fourth.map("flows").expect("there").next_key(None).is_err(), "a map of its own");
}

#[test]
fn a_shared_map_that_is_defined_otherwise_is_refused() {
    let world = world();
    let _first = Instance::load(&world, &sharing("first.o", 8)).expect("loads");
    let error = Instance::load(&world, &sharing("second.o", 9)).expect_err("other sizes");
    assert_eq!(
        error.to_string(),
        "second.o: map flows: another object shares a map of this name that is defined otherwise; define it alike or unload \
         that object"
    );
    let mut other = sharing("third.o", 8);
    for change in [
        |def: &mut MapDef| def.extra = 1,
        |def: &mut MapDef| def.lock_offset = Some(0),
        |def: &mut MapDef| def.timer_offset = Some(0),
        |def: &mut MapDef| def.inner = Some(Arc::default()),
    ] {
        let before = other.maps[0].def.clone();
        change(&mut other.maps[0].def);
        let error = Instance::load(&world, &other).expect_err("another definition").to_string();
        assert!(error.starts_with("third.o: map flows: another object shares a map of this name"), "{error}");
        other.maps[0].def = before;
    }
    Instance::load(&world, &other).expect("it is alike");
}

#[test]
fn an_object_that_fails_leaves_a_shared_program_array_as_it_was() {
    let world = world();
    let mut object = balancer();
    let program = object.programs[0].name().to_owned();
    let mut array = ObjectMap { pinning: Pinning::ByName, ..map(MapKind::PROGRAM_ARRAY, 4) };
    array.slots = vec![(0, program.clone())];
    object.maps.push(array);
    let first = Instance::load(&world, &object).expect("loads");
    let in_slot = |index: u32| {
        let guard = crossbeam::epoch::pin();
        let array = first.map("m").expect("there").as_program_array().expect("a program array");
        array.slot(index, &guard).map(|slot| slot.program_id)
    };
    let before = in_slot(0).expect("it was set");
    let array = object.maps.last_mut().expect("just pushed");
    array.slots = vec![(1, program.clone()), (0, program.clone()), (0, program.clone()), (9, program)];
    let error = Instance::load(&world, &object).expect_err("there is no entry 9").to_string();
    assert!(error.contains("map m: entry 9 cannot be"), "{error}");
    assert_eq!((in_slot(0), in_slot(1)), (Some(before), None));
}

#[test]
fn a_shared_map_of_maps_keeps_what_its_maker_put_in() {
    let world = world();
    let inner = |name: &str| {
        let mut inner = map(MapKind::ARRAY, 4);
        inner.def.name = name.to_owned();
        inner
    };
    let object = |inner_map: &str| {
        let mut outer = ObjectMap { pinning: Pinning::ByName, ..map(MapKind::ARRAY_OF_MAPS, 4) };
        outer.def.inner = Some(Arc::new(inner("one").def));
        outer.inner_maps = vec![(0, inner_map.to_owned())];
        with_maps(vec![outer, inner("one"), inner("two")])
    };
    let first = Instance::load(&world, &object("one")).expect("loads");
    let held = || first.map("m").expect("there").host_lookup(&[0; 4]).expect("it was set");
    let before = held();
    let _second = Instance::load(&world, &object("two")).expect("loads");
    assert_eq!(held(), before);
}
