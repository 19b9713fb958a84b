//! What a host is to be.
//!
//! Invariant: plain values; nothing here opens anything.

use super::{Addresses, HostError, STACK_PORT, WIRE_PORT};
use crate::limits::{FUEL_HOST, PORT_NAME_LEN_MAX};
use crate::port::udp::{IoPath, Trains, WireConfig};
use crate::port::{DriverSpec, PortSpec};
use crate::vm::Mode;

/// A port beside the wire and the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Its name: letters, digits, `-`, `_` and `.`, at most [`PORT_NAME_LEN_MAX`].
    pub name: String,
    /// Where its frames come from and go to.
    pub spec: PortSpec,
}

impl PortConfig {
    /// Checks the name.
    ///
    /// # Errors
    /// [`HostError::PortName`].
    pub(super) fn check(&self) -> Result<(), HostError> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_reserved = [WIRE_PORT, STACK_PORT].contains(&self.name.as_str());
        if (1..=PORT_NAME_LEN_MAX).contains(&self.name.len()) && self.name.bytes().all(is_word) && !is_reserved {
            return Ok(());
        }
        Err(HostError::PortName { port: self.name.clone() })
    }
}

/// What a host is to be.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Its name in reports.
    pub name: String,
    /// The wire towards its peer.
    pub wire: PortSpec,
    /// The port towards a network stack, where passed frames go; without it the built-in responder answers.
    pub stack: Option<PortSpec>,
    /// Further ports.
    pub ports: Vec<PortConfig>,
    /// Workers, 1 to [`crate::limits::WORKERS_MAX`]; each is a thread.
    pub worker_count: u32,
    /// Mode of programs that are given none of their own.
    pub mode: Mode,
    /// Fuel of a run, in slots.
    pub fuel: u64,
    /// Whom the built-in responder answers for.
    pub responder: Addresses,
}

impl HostConfig {
    /// A host with one worker, one port and fast programs that answers as 10.0.0.1.
    #[must_use]
    pub fn new(name: &str, wire: impl Into<PortSpec>) -> Self {
        Self {
            name: name.to_owned(),
            wire: wire.into(),
            stack: None,
            ports: Vec::new(),
            worker_count: 1,
            mode: Mode::Fast,
            fuel: FUEL_HOST,
            responder: Addresses::numbered(1),
        }
    }

    /// Where a wire over UDP sends to.
    #[must_use]
    pub fn peer(&self) -> Option<std::net::SocketAddr> {
        match &self.wire.driver {
            DriverSpec::Udp { wire, .. } => Some(wire.peer),
            DriverSpec::Packet(_)
            | DriverSpec::Tap(_)
            | DriverSpec::AfXdp(_)
            | DriverSpec::Shm { .. }
            | DriverSpec::Pcap(_)
            | DriverSpec::Link { .. } => None,
        }
    }
}

impl PortSpec {
    /// A port over UDP.
    #[must_use]
    pub fn udp(wire: WireConfig, io: IoPath, trains: Trains) -> Self {
        Self { driver: DriverSpec::Udp { wire, io, trains }, fault: None, record: None, trace: None }
    }
}

impl From<WireConfig> for PortSpec {
    fn from(wire: WireConfig) -> Self {
        Self::udp(wire, IoPath::default(), Trains::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_named_by_one_plain_word_that_is_not_taken() {
        let check = |name: &str| {
            let spec = "link:a".parse().expect("a port");
            PortConfig { name: name.to_owned(), spec }.check().map_err(|error| error.to_string())
        };
        assert_eq!(check("lan-1"), Ok(()));
        for name in ["", "a/b", "wire", "stack", "ü", &"x".repeat(33)] {
            let text = format!(
                "port {name:?}: no name for a further port; use 1 to 32 letters, digits, -, _ and ., but not wire or stack"
            );
            assert_eq!(check(name), Err(text));
        }
    }
}
