//! All maps of a host, by number.
//!
//! A program holds a map as a *handle*, a guest address that is never mapped; helpers turn it back into the map here.
//!
//! Invariant: a lookup takes no lock and cannot fail for a map that a running program was linked with.

use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam::epoch::{self, Guard};

use super::{Budget, Map, MapDef, MapError, MapId, Pins};
use crate::limits::{MAP_HANDLE_BASE, MAP_HANDLE_STEP, MAPS_MAX};

/// All maps of a host.
///
/// A place holds a raw pointer to a boxed `Arc`, so that a reader needs one load; the box lives until the table is
/// dropped or, for a removed map, until no run can hold its handle.
#[derive(Debug)]
pub struct MapTable {
    places: Box<[AtomicPtr<Arc<dyn Map>>]>,
    free: Mutex<Vec<u32>>,
    budget: Arc<Budget>,
    pins: Pins,
}

impl Default for MapTable {
    fn default() -> Self {
        Self::new()
    }
}

impl MapTable {
    /// A table without maps.
    #[must_use]
    pub fn new() -> Self {
        Self {
            places: (0..MAPS_MAX).map(|_| AtomicPtr::default()).collect(),
            free: Mutex::new((0..MAPS_MAX).rev().collect()),
            budget: Arc::default(),
            pins: Pins::default(),
        }
    }

    /// What the maps of the host take outside the cage.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The maps that objects share by name.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Enters a map and gives it its number.
    ///
    /// # Errors
    /// [`MapError::Count`] when the table is full.
    pub fn insert(&self, map: Arc<dyn Map>) -> Result<MapId, MapError> {
        let def: &MapDef = map.def();
        let id = self.lock_free().pop();
        let id = id.ok_or_else(|| MapError::Count { name: def.name.clone(), max: MAPS_MAX })?;
        self.places[id as usize].store(Box::into_raw(Box::new(map)), Ordering::Release);
        Ok(MapId(id))
    }

    /// Removes a map; its memory and number are free again once every worker has passed a quiet point. The caller has
    /// made sure that no linked program refers to it.
    pub fn remove(self: &Arc<Self>, id: MapId) {
        let Some(place) = self.places.get(id.0 as usize) else { return };
        let old = place.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if old.is_null() {
            return;
        }
        // SAFETY: `old` came from `Box::into_raw` in `insert`, and the swap made us its only owner.
        let old = unsafe { Box::from_raw(old) };
        let table = Arc::clone(self);
        epoch::pin().defer(move || {
            drop(old);
            table.lock_free().push(id.0);
        });
    }

    /// The map with this number. `guard` is one of [`crossbeam::epoch::pin`], which costs next to nothing where the thread
    /// holds another already; workers hold one for each burst.
    #[must_use]
    pub fn map<'g>(&'g self, id: MapId, guard: &'g Guard) -> Option<&'g dyn Map> {
        debug_assert!(guard.collector() == Some(epoch::default_collector()), "a guard of `crossbeam::epoch::pin`");
        let place = self.places.get(id.0 as usize)?.load(Ordering::Acquire);
        // SAFETY: a place is null or holds a box that is freed only after a grace period, which `guard` delays, or with the
        // table, which is borrowed.
        unsafe { place.as_ref() }.map(|map| &**map)
    }

    /// The map that a guest's handle means.
    #[must_use]
    pub fn map_by_handle<'g>(&'g self, handle: u64, guard: &'g Guard) -> Option<&'g dyn Map> {
        let offset = handle.checked_sub(u64::from(MAP_HANDLE_BASE))?;
        if offset % u64::from(MAP_HANDLE_STEP) != 0 {
            return None;
        }
        self.map(MapId(u32::try_from(offset / u64::from(MAP_HANDLE_STEP)).ok()?), guard)
    }

    /// The handle by which a program knows this map: a guest address that is never mapped.
    #[must_use]
    pub fn handle(id: MapId) -> u64 {
        u64::from(MAP_HANDLE_BASE) + u64::from(id.0) * u64::from(MAP_HANDLE_STEP)
    }

    fn lock_free(&self) -> std::sync::MutexGuard<'_, Vec<u32>> {
        self.free.lock().expect("the free list is never left half changed")
    }
}

impl Drop for MapTable {
    fn drop(&mut self) {
        for place in &mut self.places {
            let map = std::mem::take(place.get_mut());
            if !map.is_null() {
                // SAFETY: as in `remove`; `&mut self` says that nobody reads.
                drop(unsafe { Box::from_raw(map) });
            }
        }
    }
}
