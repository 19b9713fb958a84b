//! An object brought to life in a world: its maps made and filled, its programs linked.
//!
//! Invariant: a map stays in the world's table for as long as its instance and any program that was linked with it live,
//! whoever holds the program. Program arrays are emptied with the instance, as the kernel does when their last user goes.

use std::sync::Arc;

use crossbeam::epoch;

use super::{LinkError, Linked, Loaded};
use crate::elf::{MapTypes, Object, ObjectError, ObjectMap, Pinning};
use crate::maps::{self, Entry, Errno, Found, Map, MapDef, MapError, MapId, ProgramArray, Slot, Use};
use crate::run::World;

/// An object could not be brought to life, or has no such program.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A map cannot be made.
    #[error("{object}: {source}")]
    Map {
        /// Name of the object.
        object: String,
        /// Why.
        source: MapError,
    },
    /// A map does not take its initial value.
    #[error("{object}: map {map}: its initial value cannot be stored ({errno}); rebuild the object")]
    Contents {
        /// Name of the object.
        object: String,
        /// Name of the map.
        map: String,
        /// The map's answer.
        errno: Errno,
    },
    /// An initial entry of a program array cannot be set.
    #[error(
        "{object}: map {map}: entry {index} cannot be {program} ({errno}); raise `max_entries` or correct `values`"
    )]
    Slot {
        /// Name of the object.
        object: String,
        /// Name of the map.
        map: String,
        /// Which entry.
        index: u32,
        /// Name of the program.
        program: String,
        /// The map's answer.
        errno: Errno,
    },
    /// An initial entry of a map of maps cannot be set.
    #[error("{object}: map {map}: entry {index} cannot be map {inner} ({errno}); make it like the map's `values`")]
    InnerMap {
        /// Name of the object.
        object: String,
        /// Name of the map.
        map: String,
        /// Which entry.
        index: u32,
        /// Name of the inner map.
        inner: String,
        /// The map's answer.
        errno: Errno,
    },
    /// A map that objects share by name is defined otherwise by another object.
    #[error(
        "{object}: map {map}: another object shares a map of this name that is defined otherwise; define it alike or unload that \
         object"
    )]
    Pinned {
        /// Name of the object.
        object: String,
        /// Name of the map.
        map: String,
    },
    /// The object has no program of this name.
    #[error("{object}: no program is called {program}; it has {}", list(.programs))]
    NoProgram {
        /// Name of the object.
        object: String,
        /// The name asked for.
        program: String,
        /// Those that it has.
        programs: Vec<String>,
    },
    /// The program that was asked for was refused when the object was read.
    #[error("{0}")]
    Refused(ObjectError),
    /// The program that was asked for cannot be linked.
    #[error("{object}: {source}")]
    Link {
        /// Name of the object.
        object: String,
        /// Why.
        source: LinkError,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Why a program of an instance is not there.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// It was refused when the object was read.
    #[error(transparent)]
    Object(ObjectError),
    /// It cannot be linked in this world.
    #[error(transparent)]
    Link(LinkError),
}

/// A program that an instance does not have.
#[derive(Clone, Debug)]
pub struct RefusedProgram {
    /// Its name.
    pub name: String,
    /// Why.
    pub refusal: Refusal,
}

/// An object brought to life in a world.
#[derive(Debug)]
pub struct Instance {
    name: String,
    programs: Vec<Arc<Loaded>>,
    refused: Vec<RefusedProgram>,
    maps: Vec<(MapId, Arc<dyn Map>)>,
    /// The types of the maps' keys and values, in their order.
    map_types: Vec<Option<MapTypes>>,
    /// The maps' places in the world's table, which the programs keep as well.
    entries: Arc<[Arc<Entry>]>,
    /// Its uses of the maps, which the programs do not keep.
    _uses: Vec<Arc<Use>>,
}

impl Instance {
    /// Makes an object's maps, fills them, and links its programs.
    ///
    /// A program that cannot be linked is kept in [`Instance::refused`] with the reason; entries of program arrays that
    /// name it stay empty.
    ///
    /// # Errors
    /// [`LoadError`] where a map cannot be made or filled; the world is as before then.
    pub fn load(world: &Arc<World>, object: &Object) -> Result<Self, LoadError> {
        let found = object.maps.iter().map(|map| find_or_make(world, &object.name, map));
        let (uses, found): (Vec<Arc<Use>>, Vec<Found>) = found.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let entries: Arc<[Arc<Entry>]> = uses.iter().map(|used| Arc::clone(used.entry())).collect();
        let maps: Vec<_> = entries.iter().map(|entry| (entry.id(), Arc::clone(entry.map()))).collect();
        let mut programs = Vec::with_capacity(object.programs.len());
        let refused = object.refused.iter();
        let mut refused: Vec<RefusedProgram> = refused
            .map(|refused| RefusedProgram {
                name: refused.name.clone(),
                refusal: Refusal::Object(refused.reason.clone()),
            })
            .collect();
        for program in &object.programs {
            match Linked::link(Arc::clone(program), Arc::clone(world), maps.clone().into()) {
                Ok(linked) => {
                    let loaded = Arc::new(Loaded::new(Arc::new(linked.keeping(Arc::new(Arc::clone(&entries))))));
                    let id = loaded.linked().id();
                    world.programs.add(id, &(Arc::clone(&loaded) as _));
                    programs.push(loaded);
                }
                Err(error) => {
                    refused.push(RefusedProgram { name: program.name().to_owned(), refusal: Refusal::Link(error) });
                }
            }
        }
        let map_types = object.maps.iter().map(|map| object.map_types(map)).collect();
        let instance = Self { name: object.name.clone(), programs, refused, maps, map_types, entries, _uses: uses };
        // A shared map of maps is as who made it filled it, as with libbpf; a shared program array gets our programs.
        for ((map, (_, made)), found) in object.maps.iter().zip(&instance.maps).zip(found) {
            if found == Found::Made {
                instance.fill_inner_maps(map, made.as_ref())?;
            }
        }
        let mut before = Vec::new();
        let filled = object.maps.iter().zip(&instance.maps);
        let filled = filled.map(|(map, (_, made))| instance.fill_slots(map, made.as_ref(), &mut before));
        if let Err(error) = filled.collect::<Result<(), _>>() {
            // The last one first: an entry may have been set twice.
            for (array, index, slot) in before.into_iter().rev() {
                // Who emptied it meanwhile did so for good.
                let _ = array.replace(index, slot);
            }
            return Err(error);
        }
        Ok(instance)
    }

    /// Sets the initial entries of a program array; `before` gets what they were.
    fn fill_slots<'m>(
        &self,
        map: &ObjectMap,
        made: &'m dyn Map,
        before: &mut Vec<(&'m ProgramArray, u32, Option<Slot>)>,
    ) -> Result<(), LoadError> {
        for (index, name) in &map.slots {
            let Some(program) = self.program(name) else { continue };
            let array = made.as_program_array().ok_or(Errno::EINVAL);
            let set = array.and_then(|array| {
                let old = array.slot(*index, &epoch::pin()).cloned();
                array.replace(*index, Some(program.slot()))?;
                before.push((array, *index, old));
                Ok(())
            });
            set.map_err(|errno| LoadError::Slot {
                object: self.name.clone(),
                map: map.def.name.clone(),
                index: *index,
                program: name.clone(),
                errno,
            })?;
        }
        Ok(())
    }

    fn fill_inner_maps(&self, map: &ObjectMap, made: &dyn Map) -> Result<(), LoadError> {
        for (index, name) in &map.inner_maps {
            let outer = made.as_map_of_maps().ok_or(Errno::EINVAL);
            let put = outer.and_then(|outer| outer.put(&index.to_ne_bytes(), self.entry(name).ok_or(Errno::EBADF)?, 0));
            put.map_err(|errno| LoadError::InnerMap {
                object: self.name.clone(),
                map: map.def.name.clone(),
                index: *index,
                inner: name.clone(),
                errno,
            })?;
        }
        Ok(())
    }

    /// Name of the object.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its programs, in the object's order.
    #[must_use]
    pub fn programs(&self) -> &[Arc<Loaded>] {
        &self.programs
    }

    /// The program with this name.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<&Arc<Loaded>> {
        self.programs.iter().find(|program| program.linked().program().name() == name)
    }

    /// The program with this name, or why there is none.
    ///
    /// # Errors
    /// [`LoadError::Refused`] or [`LoadError::Link`] where it was refused, [`LoadError::NoProgram`] where there is none.
    pub fn expect_program(&self, name: &str) -> Result<&Arc<Loaded>, LoadError> {
        if let Some(program) = self.program(name) {
            return Ok(program);
        }
        let Some(refused) = self.refused.iter().find(|refused| refused.name == name) else {
            let programs = self.programs.iter().map(|program| program.linked().program().name().to_owned()).collect();
            return Err(LoadError::NoProgram { object: self.name.clone(), program: name.to_owned(), programs });
        };
        Err(match &refused.refusal {
            Refusal::Object(error) => LoadError::Refused(error.clone()),
            Refusal::Link(source) => LoadError::Link { object: self.name.clone(), source: source.clone() },
        })
    }

    /// Programs that the object has and the instance has not, with the reason.
    #[must_use]
    pub fn refused(&self) -> &[RefusedProgram] {
        &self.refused
    }

    /// Its maps with their numbers, in the object's order.
    #[must_use]
    pub fn maps(&self) -> &[(MapId, Arc<dyn Map>)] {
        &self.maps
    }

    /// The types of keys and values of one of its maps, where the object says them.
    #[must_use]
    pub fn map_types(&self, map: MapId) -> Option<&MapTypes> {
        let place = self.maps.iter().position(|(id, _)| *id == map)?;
        self.map_types[place].as_ref()
    }

    /// The entries of its maps in the world's table, in the object's order.
    #[must_use]
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The entry of the map with this name in the world's table, for maps of maps.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|entry| entry.map().def().name == name)
    }

    /// The map with this name.
    #[must_use]
    pub fn map(&self, name: &str) -> Option<&Arc<dyn Map>> {
        self.maps.iter().find(|(_, map)| map.def().name == name).map(|(_, map)| map)
    }
}

/// The map that others of its name share, or a new one.
fn find_or_make(world: &World, object: &str, map: &ObjectMap) -> Result<(Arc<Use>, Found), LoadError> {
    let enter = || {
        let entry = world.maps.enter(make(world, object, map)?);
        entry.map(Use::new).map_err(|source| LoadError::Map { object: object.to_owned(), source })
    };
    if map.pinning == Pinning::Own {
        return Ok((enter()?, Found::Made));
    }
    let (used, found) = world.maps.pins().find_or_make(&map.def.name, enter)?;
    if found == Found::Shared && !are_alike(used.entry().map().def(), &map.def.sized(world.worker_count)) {
        return Err(LoadError::Pinned { object: object.to_owned(), map: map.def.name.clone() });
    }
    Ok((used, found))
}

/// Whether two definitions are of one map: what libbpf compares (`map_is_reuse_compat`), and where locks and timers lie, which
/// the kernel's verifier compares when a program uses them.
fn are_alike(one: &MapDef, other: &MapDef) -> bool {
    let key = |def: &MapDef| {
        let sizes = (def.kind, def.key_len, def.value_len, def.max_entries);
        (sizes, def.flags, def.extra, def.lock_offset, def.timer_offset)
    };
    let inner = match (&one.inner, &other.inner) {
        (Some(one), Some(other)) => are_alike(one, other),
        (one, other) => one.is_none() == other.is_none(),
    };
    key(one) == key(other) && inner
}

/// Makes one map and gives it its contents.
fn make(world: &World, object: &str, map: &ObjectMap) -> Result<Arc<dyn Map>, LoadError> {
    let made = maps::create(&map.def.sized(world.worker_count), world.map_env());
    let made = made.map_err(|source| LoadError::Map { object: object.to_owned(), source })?;
    let filled = if map.contents.is_empty() { Ok(()) } else { made.host_update(&[0; 4], &map.contents, 0) };
    let done = filled.and_then(|()| if map.frozen { made.freeze() } else { Ok(()) });
    done.map_err(|errno| LoadError::Contents { object: object.to_owned(), map: map.def.name.clone(), errno })?;
    Ok(made)
}
