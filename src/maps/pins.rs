//! Maps that objects of one host share by name (`LIBBPF_PIN_BY_NAME`), and who uses which map.
//!
//! A kernel's loader pins such a map in the BPF file system; here the host's own table of names takes that place, and a map
//! goes with the last object that uses it.
//!
//! Invariant: holds no map alive.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use super::Entry;

/// An object's use of a map. The last one to go empties a program array: its slots hold programs that hold the array.
#[derive(Debug)]
pub struct Use(Arc<Entry>);

impl Use {
    /// Uses a map that only this object has.
    #[must_use]
    pub fn new(entry: Arc<Entry>) -> Arc<Self> {
        Arc::new(Self(entry))
    }

    /// The map's entry in the host's table.
    #[must_use]
    pub fn entry(&self) -> &Arc<Entry> {
        &self.0
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(array) = self.0.map().as_program_array() {
            array.clear();
        }
    }
}

/// The shared maps of a host, by name.
#[derive(Debug, Default)]
pub struct Pins(Mutex<HashMap<String, Weak<Use>>>);

/// Whether a shared map was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was made just now.
    Made,
    /// Another object had made it.
    Shared,
}

impl Pins {
    /// The shared map of this name, or what `make` makes of it. Names that nobody uses any more are forgotten.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn find_or_make<E>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Arc<Use>, E>,
    ) -> Result<(Arc<Use>, Found), E> {
        let mut pins = self.lock();
        if let Some(shared) = pins.get(name).and_then(Weak::upgrade) {
            return Ok((shared, Found::Shared));
        }
        let made = make()?;
        pins.retain(|_, pin| pin.strong_count() > 0);
        pins.insert(name.to_owned(), Arc::downgrade(&made));
        Ok((made, Found::Made))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Weak<Use>>> {
        self.0.lock().expect("the table of names is never left half changed")
    }
}
