//! The control API: its socket, its limits, and what its routes answer.

pub(crate) mod socket;
