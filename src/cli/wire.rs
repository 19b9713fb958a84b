//! What `--wire` takes: `udp:LOCAL,peer=REMOTE`.
//!
//! Invariant: both ends are of one family, have ports, and differ.

use std::net::SocketAddr;
use std::str::FromStr;

/// The ends of a wire: `udp:127.0.0.1:7001,peer=127.0.0.1:7002`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
}

/// A text that is no wire.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("--wire {text:?}: {defect}; write for example udp:127.0.0.1:7001,peer=127.0.0.1:7002")]
pub(super) struct WireError {
    text: String,
    defect: WireDefect,
}

/// What is wrong with it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum WireDefect {
    #[error("it does not begin with udp:")]
    Kind,
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
        let wrong = |defect| WireError { text: text.to_owned(), defect };
        let ends = text.strip_prefix("udp:").ok_or_else(|| wrong(WireDefect::Kind))?;
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
        Ok(Self { local, peer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_is_read_from_both_its_ends() {
        let wire: Wire = "udp:127.0.0.1:7001,peer=127.0.0.2:7002".parse().expect("a wire");
        assert_eq!((wire.local.to_string(), wire.peer.to_string()), ("127.0.0.1:7001".into(), "127.0.0.2:7002".into()));
        assert!("udp:[::1]:7001,peer=[::1]:7002".parse::<Wire>().is_ok());
    }

    #[test]
    fn what_is_no_wire_is_refused_with_the_form() {
        for (text, what) in [
            ("tap0", "it does not begin with udp:"),
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
    }
}
