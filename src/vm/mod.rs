//! The machine: how programs run.
//!
//! [`Linked`] binds a well-formed program to its maps and helpers; [`Loaded`] adds generated code for the modes that
//! have it. The semantics are written twice on purpose, in `interp` and in `jit`, and compared by tests.
//!
//! # Fuel
//! A slot is worth one, and one that calls a helper its `cost` as well ([`Linked::price`]). Every engine charges the same:
//! entering a function (the program, a tail-called program, a subprogram) what its slots are worth; taking a jump to the
//! same or an earlier slot what the slots are worth that it repeats; calling a helper by register its `cost`. What cannot
//! be paid is a [`TrapKind::Fuel`](crate::trap::TrapKind) at the pc of the jump or call (of the first slot, for an entry). So
//! fuel bounds the instructions that a run executes.
//! [`may_goto`](crate::isa::Does::MayGoto) jumps when less than [`FUEL_MAY_GOTO`](crate::limits::FUEL_MAY_GOTO) is left.
//!
//! # Calls
//! A subprogram runs in its own 512 bytes of stack, directly below its caller's: r10 falls by 512. At most
//! [`CALL_FRAMES_MAX`](crate::limits::CALL_FRAMES_MAX) frames nest. A tail call keeps r10, passes r1 only,
//! and returns to whoever called the function that made it. Each function entry zeroes the stack bytes that the function
//! may read through r10, so nothing of another run is seen there. r0 and r2 to r9 are zero at the entry of a program (r2 is `Head::arg2`),
//! r6 to r9 and r0 are zero at the entry of a subprogram; r1 to r5 are zero after a call of a helper or subprogram.
//!
//! Invariant: no program can make an engine loop for ever, panic, or touch a byte outside the cage.

mod instance;
pub mod interp;
pub mod jit;
mod link;
mod loaded;
mod mode;
mod outcome;
mod plugin;
mod timers;

pub use instance::{Instance, LoadError, Refusal, RefusedProgram};
pub use link::{LinkError, Linked};
pub use loaded::Loaded;
pub use mode::Mode;
pub use outcome::{Outcome, TrapAt};
pub use plugin::{PluginError, vm_plugin};
pub use timers::fire;
