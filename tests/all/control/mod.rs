//! The control API: its socket, its limits, and what its routes answer.

mod card;
mod routes;
pub(crate) mod socket;
