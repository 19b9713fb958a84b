//! What is said of an object from outside.

use super::core::TypeSources;

/// What is said of an object from outside.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where the kernel's types are taken from.
    pub types: TypeSources,
}
