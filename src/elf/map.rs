//! A map as an object defines it: its definition and what it holds at first.

use std::sync::Arc;

use super::Object;
use super::btf::{Btf, TypeId};
use crate::maps::MapDef;

/// Whether a map is shared by name with other objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pinning {
    /// It is the object's own.
    #[default]
    Own,
    /// It is shared with every object that asks for one of its name.
    ByName,
}

/// A map of an object.
#[derive(Clone, Debug)]
pub struct ObjectMap {
    /// What it is to be.
    pub def: MapDef,
    /// Initial value of entry 0; empty where that is all zero.
    pub contents: Vec<u8>,
    /// Initial entries of a program array: index, and name of the function.
    pub slots: Vec<(u32, String)>,
    /// Initial entries of a map of maps: index, and name of the inner map.
    pub inner_maps: Vec<(u32, String)>,
    /// Whether programs may only read it.
    pub frozen: bool,
    /// Whether it is shared.
    pub pinning: Pinning,
    /// Type of a key, where the object says it.
    pub key_type: Option<TypeId>,
    /// Type of a value, where the object says it; of the section, for variables.
    pub value_type: Option<TypeId>,
}

impl ObjectMap {
    /// A map that holds nothing at first.
    #[must_use]
    pub fn new(def: MapDef) -> Self {
        Self {
            def,
            contents: Vec::new(),
            slots: Vec::new(),
            inner_maps: Vec::new(),
            frozen: false,
            pinning: Pinning::Own,
            key_type: None,
            value_type: None,
        }
    }
}

/// The types of a map's keys and values.
#[derive(Clone, Debug)]
pub struct MapTypes {
    /// The types of the object.
    pub btf: Arc<Btf>,
    /// That of a key, where the object says it.
    pub key: Option<TypeId>,
    /// That of a value, where the object says it; of the section, for variables.
    pub value: Option<TypeId>,
}

impl Object {
    /// The types of one of its maps; `None` where the object says neither that of a key nor that of a value.
    #[must_use]
    pub fn map_types(&self, map: &ObjectMap) -> Option<MapTypes> {
        let (key, value) = (map.key_type, map.value_type);
        let btf = self.btf.as_ref().filter(|_| key.is_some() || value.is_some())?;
        Some(MapTypes { btf: Arc::clone(btf), key, value })
    }
}

/// A map with its place in the file, by which instructions refer to it.
#[derive(Debug)]
pub(super) struct PlacedMap {
    /// Index of the section.
    pub(super) section: usize,
    /// Offset of its definition in the section; `None` where the section's contents are its value.
    pub(super) offset: Option<u64>,
    /// Its number in the object, where the dialect gives it one.
    pub(super) id: Option<u32>,
    /// The map.
    pub(super) map: ObjectMap,
}
