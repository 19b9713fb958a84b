//! Reports: what programs did, as people and other programs read it.
//!
//! Invariant: prints nothing and opens no file; takes and gives bytes and values.

mod capture;
mod elements;
mod hexadecimal;
mod test_run;

pub use capture::{Capture, CaptureError, CapturedFrame};
pub use elements::{Preset, PresetError, dump, dump_all};
pub use hexadecimal::{from_hex, to_hex};
pub use test_run::{FindingReport, FrameReport, RedirectReport, RunError, RunRequest, TestRun};
