//! A linked program with an entry for each mode.

use std::sync::Arc;

use super::Linked;

/// A linked program with an entry for each mode. Program arrays hold it as their `Slot::program`.
#[derive(Debug)]
pub struct Loaded {
    linked: Arc<Linked>,
}

impl Loaded {
    /// Makes the entries for a linked program.
    #[must_use]
    pub fn new(linked: Arc<Linked>) -> Self {
        Self { linked }
    }

    /// The program behind the entries.
    #[must_use]
    pub fn linked(&self) -> &Arc<Linked> {
        &self.linked
    }
}
