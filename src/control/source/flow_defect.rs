//! What can be wrong with a description of flows.
//!
//! Invariant: each text says what stands where something else should.

use crate::limits::{FLOW_ADDRESSES_MAX, FLOWS_MAX, FRAME_LEN_MAX};

/// What is wrong with a description of flows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowDefect {
    /// There is none.
    #[error("it names no flow")]
    NoFlow,
    /// There are more than [`FLOWS_MAX`].
    #[error("it names {count} flows, more than {FLOWS_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A flow is not whole.
    #[error("it ends before the {part}")]
    Ends {
        /// What is missing.
        part: &'static str,
    },
    /// The first word is no protocol.
    #[error("{word:?} is not udp, tcp or icmp")]
    Protocol {
        /// The word.
        word: String,
    },
    /// Something else stands between source and target.
    #[error("{word:?} stands where -> belongs")]
    Arrow {
        /// What stands there.
        word: String,
    },
    /// One end is IPv4, the other IPv6.
    #[error("source and target are of different families")]
    Families,
    /// A word behind the target is no option.
    #[error("{word:?} is no option of a flow")]
    Option {
        /// The word.
        word: String,
    },
    /// A word too many.
    #[error("{word:?} stands behind the end")]
    BehindEnd {
        /// The word.
        word: String,
    },
    /// The size is no number.
    #[error("size {word:?} is no number of bytes")]
    SizeWord {
        /// What stands there.
        word: String,
    },
    /// The headers do not fit, or the frame does not go through the wire.
    #[error("size {size} is not from {least} to {FRAME_LEN_MAX}")]
    Size {
        /// Bytes.
        size: u16,
        /// Fewest that its headers take.
        least: u16,
    },
    /// A part of an endpoint is not what it should be.
    #[error("{text:?} is no {part}")]
    Part {
        /// What stands there.
        text: String,
        /// What should.
        part: &'static str,
    },
    /// An IPv6 address without brackets.
    #[error("{text:?} is no IPv4 address; an IPv6 address stands in [ ]")]
    NoBrackets {
        /// What stands there.
        text: String,
    },
    /// A prefix is too short.
    #[error("{text:?} holds more than {FLOW_ADDRESSES_MAX} addresses")]
    Addresses {
        /// The network.
        text: String,
    },
    /// The last port is below the first.
    #[error("ports {first}-{last} run backwards")]
    Ports {
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
}
