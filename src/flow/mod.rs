//! Frames through programs: the host.
//!
//! A [`Host`] is a network card with hooks that lives in user space. Its workers receive from its ports, let the
//! programs on their hooks judge each frame, and send, drop or hand it to the stack. The control plane builds a whole plan,
//! checks it whole and publishes it; workers take it between two turns. Workers never call the control plane and never
//! wait for it.
//!
//! ```text
//! port ──▶ xdp ──▶ tc ingress ──PASS──▶ stack port (its frames: to the wire), or the built-in responder
//!  ▲        │ TX        │ REDIRECT ──▶ any port (from tc by its tc egress, or its tc ingress)
//!  └── tc egress ◀──────┴── frames of the stack, the responder, the traffic source, other ports
//! ```
//! What XDP programs send goes past tc egress, as in the kernel.
//!
//! Invariant: every frame that comes in by a port is counted exactly once there, every frame that is to leave once there:
//! `rx + reentered = pass + drop + tx + redirect + aborted + refused`, and
//! `tx + redirected + forwarded + replies + sent = egress_ended + tx_frames + tx_errors`.

mod bay;
mod carried;
mod config;
mod counters;
mod error;
mod events;
mod hook;
mod host;
mod judge;
mod objects;
mod plan;
mod registry;
mod relay;
mod responder;
mod stats;
mod turn;
mod walk;
mod worker;

pub use crate::port::checksum;

pub use config::{HostConfig, PortConfig};
pub use counters::{Fate, HookTally, Tally};
pub use error::HostError;
pub use events::{Event, Happened};
pub use hook::{Actions, BadActions, Hook, Place, Rank, UnknownHook};
pub use host::Host;
pub use judge::Judge;
pub use objects::InstanceId;
pub use registry::ModeTarget;
pub use responder::{Addresses, BadMacAddr, MacAddr};
pub use stats::{Aborted, HookProgram, HookStats, ModeRuns, PortStats, ProgramStats, RecordStats, Stats};
pub use turn::{NoProbe, Probe};

/// Index of the wire port, as programs know interfaces; others count on from it.
pub const WIRE_IFINDEX: u32 = 1;
/// Name of the wire port.
pub const WIRE_PORT: &str = "wire";
/// Name of the stack port.
pub const STACK_PORT: &str = "stack";
