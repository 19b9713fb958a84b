//! Reports: what programs did, as people and other programs read it.
//!
//! Invariant: prints nothing and opens no file; takes and gives bytes and values.

mod diff;
mod elements;
mod frame_report;
mod hexadecimal;
mod preset;
mod tally;
mod test_context;
mod test_run;
mod typed;

pub use crate::port::{Capture, CaptureError, CapturedFrame};
pub use diff::{Diff, DiffError, Difference, Given, ModeDiff, diff};
pub use elements::{Element, dump, dump_all, sort};
pub use frame_report::{CopyReport, FindingReport, FrameReport, RedirectReport, TimerReport};
pub use hexadecimal::{from_hex, to_hex};
pub use preset::{Preset, PresetError};
pub use tally::RunTally;
pub use test_context::ContextError;
pub use test_run::{RunError, RunRequest, TestRun, try_load};
pub use typed::{Typing, by_type};
