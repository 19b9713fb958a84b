//! What sits on a hook and says what becomes of a frame.
//!
//! Invariant: knows nothing of ports and counters; a judge that panics costs its frame.

use std::fmt::Debug;

use crate::run::Run;
use crate::verdict::ProgramKind;
use crate::vm::{Mode, Outcome};

/// What sits on a hook. A loaded program is one; whoever embeds kumite may write another in Rust.
pub trait Judge: Debug + Send + Sync {
    /// Its name in reports and commands.
    fn name(&self) -> &str;

    /// Number that tells it from all others of the process.
    fn id(&self) -> u32;

    /// Which context it wants.
    fn kind(&self) -> ProgramKind;

    /// Runs of others that went on in it by a tail call, as far as the modes count them.
    fn tail_runs(&self) -> u64 {
        0
    }

    /// Judges the frame of `run`, whose budget, bounds and context are set. Bounds that it leaves in the run's window are
    /// the frame's afterwards.
    fn judge(&self, mode: Mode, run: &mut Run<'_>) -> Outcome;
}
