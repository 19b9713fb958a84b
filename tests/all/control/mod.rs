//! The control API: its socket, its limits, and what its routes answer.

mod socket;
