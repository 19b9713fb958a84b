//! The routes, neighbours and interfaces that `bpf_fib_lookup` and `bpf_check_mtu` ask: the host's own table, not the
//! machine's.
//!
//! A table is built whole and published whole. A worker looks up under a lock for reading, which others may hold with it; who
//! replaces the table holds it alone only while two pointers are exchanged. So a worker never waits for a table to be built or
//! freed.
//!
//! Invariant: a lookup sees one table, never half of two.

mod prefixes;
mod read;
mod table;

pub use read::{RouteFault, RoutesError};
pub use table::{Hop, Interface, Miss, Neighbour, Query, Route, RouteKind, Routes, RoutesBuilder, Way};

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// The published table.
pub struct RouteTable {
    current: RwLock<Arc<Routes>>,
}

impl RouteTable {
    /// Publishes a first table.
    #[must_use]
    pub fn new(routes: Routes) -> Self {
        Self { current: RwLock::new(Arc::new(routes)) }
    }

    /// Publishes another table: each lookup that begins afterwards sees it.
    pub fn replace(&self, routes: Routes) {
        let mut next = Arc::new(routes);
        std::mem::swap(&mut *self.current.write().unwrap_or_else(PoisonError::into_inner), &mut next);
        // The old table is freed here, outside the lock.
    }

    /// The table as it is now, to be looked into at once: nobody replaces it meanwhile.
    pub fn read(&self) -> RwLockReadGuard<'_, Arc<Routes>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RouteTable").field(&*self.read()).finish()
    }
}
