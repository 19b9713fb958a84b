//! Fuzzing: random programs whose runs must be the same in every engine and, where it accepts them, in the kernel; and users'
//! programs on random frames.
//!
//! A [`Case`] is one or more programs with their world and their input; it can be written to a file and run again. A
//! [`Bench`] runs cases, a [`Differential`] compares what engines and kernel make of one, [`minimise`] makes one small that
//! they disagree on, a [`Campaign`] does this on all processors for as long as asked. A [`Hunt`] looks for frames on which a
//! user's program fails.
//!
//! Invariant: a seed gives the same case on every machine; prints nothing.

mod bench;
mod campaign;
mod case;
mod differential;
mod generate;
mod hostile;
mod hunt;
mod minimise;
mod oracle;

pub use bench::{Bench, BenchError, Ran, Scene};
pub use campaign::{Campaign, CampaignError, Catch, Listener, Progress, Tally};
pub use case::{Case, CaseError, CaseMap, CaseProgram, CaseSlot, Expected, Input};
pub use differential::{AsksKernel, Differential, Divergence, Judgement};
pub use generate::{Form, Single, case as generate, single};
pub use hostile::{Attempts, Hostile, HostileTally, Longest, Translation};
pub use hunt::{Bag, Hunt, Prey, Unreached, seeds};
pub use minimise::minimise;
pub use oracle::{KernelUse, Oracle};
