//! The programs of a world by number, for who has only the number: a timer.
//!
//! Invariant: keeps no program alive.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};

/// Programs by number.
#[derive(Debug, Default)]
pub struct Programs {
    by_id: RwLock<HashMap<u32, Weak<dyn Any + Send + Sync>>>,
}

impl Programs {
    /// Adds a program, and forgets those that are gone.
    pub fn add(&self, id: u32, program: &Arc<dyn Any + Send + Sync>) {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.retain(|_, known| known.strong_count() > 0);
        by_id.insert(id, Arc::downgrade(program));
    }

    /// The program with this number.
    #[must_use]
    pub fn find(&self, id: u32) -> Option<Arc<dyn Any + Send + Sync>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(&id)?.upgrade()
    }
}
