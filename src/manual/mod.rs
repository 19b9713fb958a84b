//! The manual: modules of pure documentation.
//!
//! Invariant: no code.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("cases.md")]
pub mod cases {}

#[doc = include_str!("changes.md")]
pub mod changes {}

#[doc = include_str!("control.md")]
pub mod control {}

#[doc = include_str!("decisions.md")]
pub mod decisions {}

#[doc = include_str!("differences.md")]
pub mod differences {}

#[doc = include_str!("glossary.md")]
pub mod glossary {}

#[doc = include_str!("instructions.md")]
pub mod instructions {}

#[doc = include_str!("oracle.md")]
pub mod oracle {}

#[doc = include_str!("ports.md")]
pub mod ports {}
