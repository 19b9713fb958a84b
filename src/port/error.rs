//! Why a port could not be opened.

use std::io;
use std::net::SocketAddr;

/// The world did not give us a port.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Someone has the address.
    #[error("wire udp {local}: address in use; choose another LOCAL")]
    InUse {
        /// The address.
        local: SocketAddr,
    },
    /// The address belongs to another machine.
    #[error("wire udp {local}: no interface of this machine has the address; choose another LOCAL")]
    NotLocal {
        /// The address.
        local: SocketAddr,
    },
    /// The addresses cannot talk to each other.
    #[error("wire udp {local} -> {peer}: one address is IPv4 and the other IPv6; use one family")]
    Family {
        /// Our address.
        local: SocketAddr,
        /// The peer's.
        peer: SocketAddr,
    },
    /// The peer has no port to send to.
    #[error("wire udp {local} -> {peer}: a peer needs an address and a port; name both in PEER")]
    Peer {
        /// Our address.
        local: SocketAddr,
        /// The peer's.
        peer: SocketAddr,
    },
    /// The ring was demanded and is not to be had.
    #[error("wire udp {local}: {why}; use the plain calls or lift the restriction")]
    Ring {
        /// Our address.
        local: SocketAddr,
        /// What was refused.
        why: String,
    },
    /// A system call failed.
    #[error("wire udp {local}: {call}: {source}; see the call's manual page")]
    Call {
        /// Our address.
        local: SocketAddr,
        /// Name of the call.
        call: &'static str,
        /// What it answered.
        source: io::Error,
    },
    /// A wake-up descriptor could not be had.
    #[error("wake-up: eventfd: {source}; raise `ulimit -n`")]
    Wake {
        /// What the call answered.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_where_and_how_to_mend() {
        let local: SocketAddr = "127.0.0.1:7000".parse().expect("an address");
        let peer: SocketAddr = "[::1]:7001".parse().expect("an address");
        let refused = || io::Error::from_raw_os_error(libc::EMFILE);
        let texts = [
            PortError::InUse { local }.to_string(),
            PortError::NotLocal { local }.to_string(),
            PortError::Family { local, peer }.to_string(),
            PortError::Peer { local, peer }.to_string(),
            PortError::Ring { local, why: "io_uring_setup refused (EPERM)".to_owned() }.to_string(),
            PortError::Call { local, call: "connect", source: refused() }.to_string(),
            PortError::Wake { source: refused() }.to_string(),
        ];
        assert_eq!(
            texts,
            [
                "wire udp 127.0.0.1:7000: address in use; choose another LOCAL",
                "wire udp 127.0.0.1:7000: no interface of this machine has the address; choose another LOCAL",
                "wire udp 127.0.0.1:7000 -> [::1]:7001: one address is IPv4 and the other IPv6; use one family",
                "wire udp 127.0.0.1:7000 -> [::1]:7001: a peer needs an address and a port; name both in PEER",
                "wire udp 127.0.0.1:7000: io_uring_setup refused (EPERM); use the plain calls or lift the restriction",
                "wire udp 127.0.0.1:7000: connect: Too many open files (os error 24); see the call's manual page",
                "wake-up: eventfd: Too many open files (os error 24); raise `ulimit -n`",
            ]
        );
    }
}
