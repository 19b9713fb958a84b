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
    /// A system call failed while another kind of port was opened.
    #[error("{port}: {call}: {source}; {mend}")]
    Open {
        /// The port, as it was asked for.
        port: String,
        /// Name of the call.
        call: &'static str,
        /// What it answered.
        source: io::Error,
        /// What may help.
        mend: &'static str,
    },
    /// A ring was demanded of another kind of port and is not to be had.
    #[error("{port}: {why}; use the plain calls or lift the restriction")]
    NoRing {
        /// The port, as it was asked for.
        port: String,
        /// What was refused.
        why: String,
    },
    /// No interface of this name space has the name.
    #[error("{port}: no interface has this name; `ip link` lists them")]
    NoInterface {
        /// The port, as it was asked for.
        port: String,
    },
    /// A capture cannot be replayed.
    #[error("{port}: {source}")]
    Capture {
        /// The port, as it was asked for.
        port: String,
        /// What is wrong with it.
        source: super::CaptureError,
    },
    /// A file is too long to be held in memory.
    #[error("{port}: longer than {max} bytes; replay a part of it")]
    CaptureLen {
        /// The port, as it was asked for.
        port: String,
        /// The bound.
        max: u64,
    },
    /// Both ends of a link are held.
    #[error("{port}: both ends are taken; choose another name")]
    LinkTaken {
        /// The port, as it was asked for.
        port: String,
    },
    /// A wake-up descriptor could not be had.
    #[error("wake-up: eventfd: {source}; raise `ulimit -n`")]
    Wake {
        /// What the call answered.
        source: io::Error,
    },
}

impl PortError {
    /// What a failed call makes of a port that is being opened.
    pub(super) fn failed(port: &str, call: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| {
            let mend = match source.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => "run as root or with CAP_NET_RAW and CAP_NET_ADMIN",
                Some(libc::EMFILE | libc::ENFILE) => "raise `ulimit -n`",
                Some(libc::ENOMEM | libc::ENOBUFS) => "free memory or raise `ulimit -l`",
                Some(libc::ERANGE) => "lower the interface's MTU, or use generic mode",
                Some(libc::EBUSY | libc::EEXIST) => "end whoever holds it",
                _ => "see the call's manual page",
            };
            Self::Open { port: port.to_owned(), call, source, mend }
        }
    }
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
            PortError::failed("tap:t0", "ioctl")(io::Error::from_raw_os_error(libc::EPERM)).to_string(),
            PortError::failed("tap:t0", "open")(refused()).to_string(),
            PortError::NoRing { port: "tap:t0".to_owned(), why: "io_uring_setup refused (EPERM)".to_owned() }
                .to_string(),
            PortError::NoInterface { port: "packet:veth9".to_owned() }.to_string(),
            PortError::Capture { port: "pcap:a".to_owned(), source: crate::port::CaptureError::Empty }.to_string(),
            PortError::CaptureLen { port: "pcap:a".to_owned(), max: 5 }.to_string(),
            PortError::LinkTaken { port: "link:a".to_owned() }.to_string(),
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
                "tap:t0: ioctl: Operation not permitted (os error 1); run as root or with CAP_NET_RAW and CAP_NET_ADMIN",
                "tap:t0: open: Too many open files (os error 24); raise `ulimit -n`",
                "tap:t0: io_uring_setup refused (EPERM); use the plain calls or lift the restriction",
                "packet:veth9: no interface has this name; `ip link` lists them",
                "pcap:a: capture: it holds no frame; capture some",
                "pcap:a: longer than 5 bytes; replay a part of it",
                "link:a: both ends are taken; choose another name",
                "wake-up: eventfd: Too many open files (os error 24); raise `ulimit -n`",
            ]
        );
    }
}
