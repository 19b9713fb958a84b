//! Frames through programs: the host.
//!
//! A [`Host`] is a network card with hooks that lives in user space. Its workers receive from the wire port, let the
//! program on the hook judge each frame, and send, drop or hand it to the stack. The control plane builds a whole plan,
//! checks it whole and publishes it; workers take it between two turns. Workers never call the control plane and never
//! wait for it.
//!
//! Invariant: every received frame is counted exactly once:
//! `rx = pass + drop + tx + redirect + aborted + refused`.

mod counters;
mod error;
mod events;
mod host;
mod judge;
mod objects;
mod plan;
mod registry;
mod responder;
mod stats;
mod turn;
mod worker;

pub use crate::port::checksum;

pub use counters::Tally;
pub use error::HostError;
pub use events::{Event, Happened};
pub use host::{Host, HostConfig};
pub use judge::Judge;
pub use objects::InstanceId;
pub use registry::{Hook, ModeTarget, UnknownHook};
pub use responder::{Addresses, BadMacAddr, MacAddr};
pub use stats::{Aborted, ModeRuns, PortStats, ProgramStats, RecordStats, Stats};
pub use turn::{NoProbe, Probe};

/// Index of the wire port, as programs know interfaces.
pub const WIRE_IFINDEX: u32 = 1;
