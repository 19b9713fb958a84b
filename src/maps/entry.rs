//! A map's place in a host's table, for as long as somebody needs it.
//!
//! Invariant: the table's place is taken back when the last holder of the entry lets go; an entry does not keep its table,
//! so that a map which holds entries of its own table is no circle.

use std::sync::{Arc, Weak};

use super::{Map, MapError, MapId, MapTable};

/// A map in a table, for as long as this lives.
#[derive(Debug)]
pub struct Entry {
    table: Weak<MapTable>,
    id: MapId,
    map: Arc<dyn Map>,
}

impl Entry {
    /// Its number in the table.
    #[must_use]
    pub fn id(&self) -> MapId {
        self.id
    }

    /// The map.
    #[must_use]
    pub fn map(&self) -> &Arc<dyn Map> {
        &self.map
    }
}

impl MapTable {
    /// Enters a map, which leaves the table with the last holder of the answer.
    ///
    /// # Errors
    /// [`MapError::Count`] when the table is full.
    pub fn enter(self: &Arc<Self>, map: Arc<dyn Map>) -> Result<Arc<Entry>, MapError> {
        let id = self.insert(Arc::clone(&map))?;
        Ok(Arc::new(Entry { table: Arc::downgrade(self), id, map }))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(table) = self.table.upgrade() {
            table.remove(self.id);
        }
    }
}
