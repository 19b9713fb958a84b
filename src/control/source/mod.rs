//! The traffic source: frames from a description of flows or from a capture, sent at a pace.
//!
//! Invariant: knows nothing of hosts; frames go where a function says, and what it does not accept is offered again.

mod flow_defect;
mod flows;
mod frames;
mod pace;
mod sending;

pub use flow_defect::FlowDefect;
pub use flows::{Addresses, Flow, Flows, Ports, Protocol};
pub use frames::Link;
pub use pace::{Pace, Rate};
pub use sending::{Frames, Progress, Sending, State};

use crate::limits::{FRAME_LEN_MAX, FRAME_LEN_MIN, SOURCE_RATE_MAX};
use crate::report::CaptureError;

/// A description or capture that gives no frames.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The text is no description of flows.
    #[error("flows {text:?}: {defect}; write for example \"udp 10.0.0.0/24:1024-2047 -> 10.1.0.1:53 size 64\"")]
    Flows {
        /// The text.
        text: String,
        /// What is wrong.
        defect: FlowDefect,
    },
    /// The text is no rate.
    #[error("rate {text:?}: not frames per second; write a number from 1 to {SOURCE_RATE_MAX}, or max")]
    Rate {
        /// The text.
        text: String,
    },
    /// The bytes are no capture.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A frame of the capture does not go through the wire.
    #[error(
        "capture frame {number}: {len} bytes, but the wire takes {FRAME_LEN_MIN} to {FRAME_LEN_MAX}; cut the frame out of the file"
    )]
    FrameLen {
        /// Number of the frame in the file, from 1.
        number: usize,
        /// Its length in bytes.
        len: usize,
    },
    /// No thread.
    #[error("source: cannot start a thread: {source}; end other programs")]
    Thread {
        /// Why not.
        source: std::io::Error,
    },
}
