//! What `--wire` and `--port` take: `udp:LOCAL,peer=REMOTE`, and ports as text.
//!
//! Invariant: both ends of a wire that is named by its ends are of one family, have ports, and differ.

use std::net::SocketAddr;
use std::str::FromStr;

use crate::flow::PortConfig;
use crate::port::udp::{IoPath, Trains, WireConfig};
use crate::port::{PortSpec, SpecError};

/// A wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// By its ends: `udp:127.0.0.1:7001,peer=127.0.0.1:7002`.
    Ends(WireConfig),
    /// As any port: `udp:127.0.0.1:7001-127.0.0.1:7002?trains=off`, `packet:veth0`.
    Port(Box<PortSpec>),
}

impl Wire {
    /// The port. What options of the command say of it holds for a wire that is named by its ends.
    pub(super) fn spec(&self, io: IoPath, trains: Trains) -> PortSpec {
        match self {
            Self::Ends(wire) => PortSpec::udp(*wire, io, trains),
            Self::Port(spec) => PortSpec::clone(spec),
        }
    }
}

/// A port as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unnamed(pub(super) Box<PortSpec>);

impl FromStr for Unnamed {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        Ok(Self(Box::new(text.parse()?)))
    }
}

/// A further port: `lan=link:cable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedPort(pub(super) PortConfig);

/// A text that is no named port.
#[derive(Debug, thiserror::Error)]
pub(super) enum NamedPortError {
    #[error("--port {text:?}: no name and port; write for example lan=packet:veth0")]
    Form { text: String },
    #[error(transparent)]
    Port(#[from] SpecError),
}

impl FromStr for NamedPort {
    type Err = NamedPortError;

    fn from_str(text: &str) -> Result<Self, NamedPortError> {
        let parts = text.split_once('=').filter(|(name, _)| !name.contains(':'));
        let (name, spec) = parts.ok_or_else(|| NamedPortError::Form { text: text.to_owned() })?;
        Ok(Self(PortConfig { name: name.to_owned(), spec: spec.parse()? }))
    }
}

/// A text that is no wire.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("--wire {text:?}: {defect}; write for example udp:127.0.0.1:7001,peer=127.0.0.1:7002")]
    Ends { text: String, defect: WireDefect },
    #[error("--wire: {0}")]
    Port(#[from] SpecError),
}

/// What is wrong with it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireDefect {
    #[error("no ,peer= follows the local address")]
    NoPeer,
    #[error("{end:?} is no address with a port")]
    Address { end: String },
    #[error("both ends must be of one family")]
    Families,
    #[error("both ends need a port, and the peer an address")]
    Open,
    #[error("both ends are the same")]
    Same,
}

impl FromStr for Wire {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        let wrong = |defect| WireError::Ends { text: text.to_owned(), defect };
        let ends = match text.strip_prefix("udp:") {
            Some(ends) if ends.contains(",peer=") || !ends.contains('-') => ends,
            Some(_) | None => return Ok(Self::Port(Box::new(text.parse()?))),
        };
        let ends = ends.split_once(",peer=").ok_or_else(|| wrong(WireDefect::NoPeer))?;
        let address =
            |end: &str| end.parse::<SocketAddr>().map_err(|_| wrong(WireDefect::Address { end: end.to_owned() }));
        let (local, peer) = (address(ends.0)?, address(ends.1)?);
        if local.is_ipv4() != peer.is_ipv4() {
            return Err(wrong(WireDefect::Families));
        }
        if local.port() == 0 || peer.port() == 0 || peer.ip().is_unspecified() || peer.ip().is_multicast() {
            return Err(wrong(WireDefect::Open));
        }
        if local == peer {
            return Err(wrong(WireDefect::Same));
        }
        Ok(Self::Ends(WireConfig { local, peer }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_is_read_from_both_its_ends() {
        let wire: Wire = "udp:127.0.0.1:7001,peer=127.0.0.2:7002".parse().expect("a wire");
        let spec = |wire: &Wire| wire.spec(IoPath::Plain, Trains::On).to_string();
        assert_eq!(spec(&wire), "udp:127.0.0.1:7001-127.0.0.2:7002?io=plain");
        let wire: Wire = "udp:127.0.0.1:7001-127.0.0.2:7002?trains=off".parse().expect("a port");
        assert_eq!(spec(&wire), "udp:127.0.0.1:7001-127.0.0.2:7002?trains=off");
        assert_eq!(spec(&"packet:veth0".parse().expect("a port")), "packet:veth0");
        assert!("udp:[::1]:7001,peer=[::1]:7002".parse::<Wire>().is_ok());
    }

    #[test]
    fn what_is_no_wire_is_refused_with_the_form() {
        for (text, what) in [
            ("udp:127.0.0.1:7001", "no ,peer= follows the local address"),
            ("udp:127.0.0.1,peer=127.0.0.1:2", "\"127.0.0.1\" is no address with a port"),
            ("udp:127.0.0.1:1,peer=localhost:2", "\"localhost:2\" is no address with a port"),
            ("udp:127.0.0.1:1,peer=[::1]:2", "both ends must be of one family"),
            ("udp:127.0.0.1:0,peer=127.0.0.1:2", "both ends need a port, and the peer an address"),
            ("udp:127.0.0.1:1,peer=0.0.0.0:2", "both ends need a port, and the peer an address"),
            ("udp:127.0.0.1:1,peer=127.0.0.1:1", "both ends are the same"),
        ] {
            assert_eq!(
                text.parse::<Wire>().expect_err("no wire").to_string(),
                format!("--wire {text:?}: {what}; write for example udp:127.0.0.1:7001,peer=127.0.0.1:7002")
            );
        }
        let error = "tap0".parse::<Wire>().expect_err("no port").to_string();
        assert!(error.starts_with("--wire: port \"tap0\": no such kind; use af_xdp, link"), "{error}");
    }

    #[test]
    fn a_further_port_has_a_name() {
        let port: NamedPort = "lan=link:cable?fault.loss=0.5".parse().expect("a port");
        assert_eq!(
            (port.0.name.as_str(), port.0.spec.to_string().as_str()),
            ("lan", "link:cable?fault.seed=0&fault.loss=0.5")
        );
        let error = "link:a?fault.loss=1".parse::<NamedPort>().expect_err("no name").to_string();
        assert_eq!(error, "--port \"link:a?fault.loss=1\": no name and port; write for example lan=packet:veth0");
    }
}
