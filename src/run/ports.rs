//! The interface indexes of the host's ports, for helpers that ask whether there is one.
//!
//! Invariant: read without a lock; only the control plane writes.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::limits::PORTS_MAX;

/// The interface indexes of the host's ports; none at first.
#[derive(Debug, Default)]
pub struct Ports([AtomicU32; PORTS_MAX]);

impl Ports {
    /// Notes the index of the port at a place of the plan; 0 for none.
    ///
    /// # Panics
    /// If there is no such place: our mistake.
    pub fn note(&self, slot: usize, ifindex: u32) {
        self.0[slot].store(ifindex, Ordering::Release);
    }

    /// Whether the host has a port with this index.
    #[must_use]
    pub fn has(&self, ifindex: u32) -> bool {
        ifindex != 0 && self.0.iter().any(|port| port.load(Ordering::Acquire) == ifindex)
    }
}
