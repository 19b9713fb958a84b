//! The sockets that `bpf_sk_lookup_tcp` and its kin find: the host's own table, not the machine's.
//!
//! Programs see a socket as a read-only `struct bpf_sock` in the cage, with `struct bpf_tcp_sock` behind it. The host writes
//! it and never reads it back: it finds the socket by its address alone.
//!
//! A lookup holds a lock for reading; who replaces the table holds it alone while at most [`SOCKETS_MAX`] entries are written.
//!
//! Invariant: a program's pointer to a socket stays mapped for as long as the world, whatever becomes of the table.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use serde::Deserialize;

use crate::cage::{Cage, CageError, Protect, Region};
use crate::limits::{RUN_SOCKETS_MAX, SOCKETS_MAX};

/// Bytes of one socket in the cage: both structures.
const ENTRY_LEN: u32 = 256;
/// Where `struct bpf_tcp_sock` begins.
const TCP_OFFSET: u32 = 96;

/// Bytes of `struct bpf_sock`.
pub const SOCK_LEN: u32 = 80;
/// Bytes of `struct bpf_tcp_sock`.
pub const TCP_SOCK_LEN: u32 = 112;

/// IPv4 address of a socket that is bound to one of IPv6.
const LOOPBACK4_IPV6: [u8; 4] = [127, 0, 0, 6];

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// State of a TCP connection, `BPF_TCP_*`; `ss -a` spells them so. UDP sockets are unconnected or established.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[repr(u32)]
pub enum State {
    /// Data flow.
    #[serde(rename = "ESTAB", alias = "ESTABLISHED")]
    Established = 1,
    /// A SYN was sent.
    #[serde(rename = "SYN-SENT")]
    SynSent = 2,
    /// The last segment was acknowledged, the other side may still send.
    #[serde(rename = "FIN-WAIT-1")]
    FinWait1 = 4,
    /// The other side may still send.
    #[serde(rename = "FIN-WAIT-2")]
    FinWait2 = 5,
    /// Late segments are waited for.
    #[serde(rename = "TIME-WAIT")]
    TimeWait = 6,
    /// Unconnected.
    #[serde(rename = "UNCONN", alias = "CLOSE")]
    Unconnected = 7,
    /// The other side has closed.
    #[serde(rename = "CLOSE-WAIT")]
    CloseWait = 8,
    /// Connections are taken.
    #[serde(rename = "LISTEN")]
    Listen = 10,
}

/// A socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its protocol.
    pub protocol: Protocol,
    /// Own address and port; an address of zeros is any.
    pub local: (IpAddr, u16),
    /// The other side's, where it is connected.
    pub remote: Option<(IpAddr, u16)>,
    /// State.
    pub state: State,
    /// Index of the interface that it is bound to, 0 for any.
    pub interface: u32,
    /// `SO_MARK`.
    pub mark: u32,
    /// `SO_PRIORITY`.
    pub priority: u32,
    /// Whether an IPv6 socket leaves IPv4 to others (`IPV6_V6ONLY`).
    pub only6: bool,
}

/// A packet's two ends as the helper's tuple gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Address and port of who sent it.
    pub source: (IpAddr, u16),
    /// Address and port of who is to get it.
    pub destination: (IpAddr, u16),
    /// Index of the interface that it came in by.
    pub interface: u32,
}

impl Socket {
    /// Whether IPv4 packets reach it.
    #[must_use]
    pub fn takes_ip4(&self) -> bool {
        match self.local.0 {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => !self.only6 && address.is_unspecified(),
        }
    }

    /// Whether it is a whole socket and not the remainder of one.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.state != State::TimeWait
    }

    /// How well it fits a packet, `None` where not at all: connected ones best, then those of one address.
    fn score(&self, protocol: Protocol, tuple: &Tuple) -> Option<u32> {
        let (address, port) = self.local;
        let any = address.is_unspecified();
        let same_family = address.is_ipv4() == tuple.destination.0.is_ipv4();
        let here = if any {
            same_family || self.takes_ip4() && tuple.destination.0.is_ipv4()
        } else {
            address == tuple.destination.0
        };
        let there = self.remote.is_none_or(|remote| remote == tuple.source);
        let bound = self.interface == 0 || self.interface == tuple.interface;
        let open = protocol == Protocol::Udp || self.remote.is_some() || self.state == State::Listen;
        if self.protocol != protocol || port != tuple.destination.1 || !here || !there || !bound || !open {
            return None;
        }
        let points = [(self.remote.is_some(), 8), (!any, 4), (self.interface != 0, 2), (same_family, 1)];
        Some(points.iter().map(|(has, points)| if *has { *points } else { 0 }).sum())
    }

    /// `struct bpf_sock` and `struct bpf_tcp_sock`.
    fn bytes(&self) -> [u8; ENTRY_LEN as usize] {
        let mut bytes = [0; ENTRY_LEN as usize];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let family: u32 = if self.local.0.is_ipv4() { 2 } else { 10 };
        let (kind, protocol): (u32, u32) = match self.protocol {
            Protocol::Tcp => (1, 6),
            Protocol::Udp => (2, 17),
        };
        for (at, value) in [
            (0, self.interface),
            (4, family),
            (8, kind),
            (12, protocol),
            (16, self.mark),
            (20, self.priority),
            (44, self.local.1.into()),
            (72, self.state as u32),
            (76, u32::MAX),
        ] {
            put(at, &value.to_ne_bytes());
        }
        // What the kernel leaves in the fields of the other family is seen by programs too.
        let is_connection = self.protocol == Protocol::Tcp && self.remote.is_some();
        let mut address = |at4: usize, at6: usize, address: IpAddr| match address {
            IpAddr::V4(address) => {
                put(at4, &address.octets());
                if is_connection {
                    put(at6, &address.to_ipv6_mapped().octets());
                }
            }
            IpAddr::V6(address) => {
                put(at6, &address.octets());
                if !address.is_unspecified() {
                    put(at4, &LOOPBACK4_IPV6);
                }
            }
        };
        address(24, 28, self.local.0);
        if let Some((remote, port)) = self.remote {
            address(52, 56, remote);
            put(48, &port.to_be_bytes());
        }
        if self.protocol == Protocol::Tcp {
            // Window and segment size of a connection that has just begun; nothing is known of the rest.
            put(TCP_OFFSET as usize, &10u32.to_ne_bytes());
            put(TCP_OFFSET as usize + 28, &536u32.to_ne_bytes());
        }
        bytes
    }
}

/// Guest address of an entry of the table that begins at `start`.
fn addr_of(start: u32, index: u32) -> u32 {
    start + index * ENTRY_LEN
}

/// The published table.
pub struct SocketTable {
    cage: Arc<Cage>,
    /// Made for the first sockets: most worlds have none.
    region: OnceLock<Region>,
    current: RwLock<Vec<Socket>>,
}

impl SocketTable {
    /// An empty table.
    #[must_use]
    pub fn new(cage: &Arc<Cage>) -> Self {
        Self { cage: Arc::clone(cage), region: OnceLock::new(), current: RwLock::new(Vec::new()) }
    }

    fn region(&self) -> Result<&Region, CageError> {
        if self.region.get().is_none() {
            let region = self.cage.alloc(u64::from(ENTRY_LEN) * SOCKETS_MAX as u64, "sockets")?;
            // The lock of the table is held: nobody else makes one.
            let _ = self.region.set(region);
        }
        Ok(self.region.get().expect("it was just made"))
    }

    /// Publishes another table, before any program of the world runs: the entries are writable while they are written.
    ///
    /// # Errors
    /// [`CageError`] where there is no address space for the first sockets, or the kernel does not change its protection. The
    /// table is empty then.
    ///
    /// # Panics
    /// If there are more than [`SOCKETS_MAX`]: the caller asks first.
    pub fn replace(&self, sockets: Vec<Socket>) -> Result<(), CageError> {
        assert!(sockets.len() <= SOCKETS_MAX, "the caller counts the sockets");
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.clear();
        let region = self.region()?;
        let mapped = |source| CageError::Map { len: region.len(), what: "sockets", source };
        region.protect(Protect::ReadWrite).map_err(mapped)?;
        for (index, socket) in (0u64..).zip(&sockets) {
            region.write(index * u64::from(ENTRY_LEN), &socket.bytes());
        }
        region.protect(Protect::ReadOnly).map_err(mapped)?;
        *current = sockets;
        Ok(())
    }

    /// Guest address of the socket that a packet is for.
    #[must_use]
    pub fn lookup(&self, protocol: Protocol, tuple: &Tuple) -> Option<(u32, Socket)> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let scored =
            (0u32..).zip(&*current).filter_map(|(index, socket)| Some((socket.score(protocol, tuple)?, index)));
        // Of equals the first.
        let (_, index) = scored.max_by_key(|(score, index)| (*score, std::cmp::Reverse(*index)))?;
        Some((addr_of(self.region.get()?.addr(), index), current[index as usize]))
    }

    /// The socket whose `struct bpf_sock`, or whose `struct bpf_tcp_sock`, is at an address, with the address of the former.
    #[must_use]
    pub fn by_addr(&self, addr: u64) -> Option<(u32, Socket)> {
        let start = self.region.get()?.addr();
        let offset = u32::try_from(addr).ok()?.checked_sub(start)?;
        let within = offset % ENTRY_LEN;
        if within != 0 && within != TCP_OFFSET {
            return None;
        }
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let socket = current.get((offset / ENTRY_LEN) as usize)?;
        Some((addr_of(start, offset / ENTRY_LEN), *socket))
    }

    /// Guest address of the `struct bpf_tcp_sock` of the socket whose `struct bpf_sock` is at an address.
    #[must_use]
    pub fn tcp_addr(addr: u32) -> u32 {
        addr + TCP_OFFSET
    }
}

impl fmt::Debug for SocketTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SocketTable").field(&*self.current.read().unwrap_or_else(PoisonError::into_inner)).finish()
    }
}

/// Sockets that a run has looked up and not released. No allocation.
#[derive(Debug, Default)]
pub struct References {
    held: [u32; RUN_SOCKETS_MAX],
    count: usize,
}

impl References {
    /// Their guest addresses, one for each reference.
    #[must_use]
    pub fn held(&self) -> &[u32] {
        &self.held[..self.count]
    }

    /// Takes a reference; `false` where no more fits.
    pub(crate) fn push(&mut self, addr: u32) -> bool {
        let Some(place) = self.held.get_mut(self.count) else { return false };
        *place = addr;
        self.count += 1;
        true
    }

    /// Gives a reference back; `false` where there is none.
    pub(crate) fn take(&mut self, addr: u64) -> bool {
        let Some(index) = self.held().iter().position(|held| u64::from(*held) == addr) else { return false };
        self.count -= 1;
        self.held.swap(index, self.count);
        true
    }

    /// Gives all back.
    pub(super) fn clear(&mut self) {
        self.count = 0;
    }
}

/// A table of sockets cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// It is no JSON, or not of the form.
    #[error(
        "sockets: {source}; write [{{\"protocol\": \"tcp\", \"state\": \"LISTEN\", \"local\": \"10.0.0.1:80\"}}, ..]"
    )]
    Json {
        /// What and where.
        #[from]
        source: serde_json::Error,
    },
    /// The ends are of two families.
    #[error("sockets {number}: {local} and {remote} are of two families; write addresses of one")]
    Family {
        /// Which entry, from 1.
        number: usize,
        /// Own end.
        local: SocketAddr,
        /// The other.
        remote: SocketAddr,
    },
    /// The state does not go with a remote end, or without one.
    #[error("sockets {number}: a socket has a remote end exactly when it is connected; write both or neither")]
    Ends {
        /// Which entry, from 1.
        number: usize,
    },
    /// There are too many.
    #[error("sockets: {count} are more than {}; leave some out", SOCKETS_MAX)]
    Count {
        /// How many.
        count: usize,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSocket {
    protocol: Protocol,
    local: SocketAddr,
    #[serde(default)]
    remote: Option<SocketAddr>,
    #[serde(default)]
    state: Option<State>,
    #[serde(default)]
    interface: u32,
    #[serde(default)]
    mark: u32,
    #[serde(default)]
    priority: u32,
    #[serde(default)]
    v6only: bool,
}

impl Socket {
    /// Reads a list of sockets. A state that is left out is `ESTAB` with a remote end and else `LISTEN`, or `UNCONN` for UDP.
    ///
    /// # Errors
    /// [`SocketsError`].
    pub fn parse_list(json: &str) -> Result<Vec<Self>, SocketsError> {
        let raws: Vec<RawSocket> = serde_json::from_str(json)?;
        if raws.len() > SOCKETS_MAX {
            return Err(SocketsError::Count { count: raws.len() });
        }
        (1..).zip(raws).map(|(number, raw)| raw.socket(number)).collect()
    }
}

impl RawSocket {
    fn socket(self, number: usize) -> Result<Socket, SocketsError> {
        let Self { protocol, local, remote, .. } = self;
        if let Some(remote) = remote.filter(|remote| remote.is_ipv4() != local.is_ipv4()) {
            return Err(SocketsError::Family { number, local, remote });
        }
        let usual = match (remote, protocol) {
            (Some(_), _) => State::Established,
            (None, Protocol::Tcp) => State::Listen,
            (None, Protocol::Udp) => State::Unconnected,
        };
        let state = self.state.unwrap_or(usual);
        if matches!(state, State::Listen | State::Unconnected) != remote.is_none() {
            return Err(SocketsError::Ends { number });
        }
        let end = |end: SocketAddr| (end.ip(), end.port());
        Ok(Socket {
            protocol,
            local: end(local),
            remote: remote.map(end),
            state,
            interface: self.interface,
            mark: self.mark,
            priority: self.priority,
            only6: self.v6only,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_that_fits_best_is_found() {
        let list = r#"[
            {"protocol": "tcp", "local": "0.0.0.0:80"},
            {"protocol": "tcp", "local": "10.0.0.1:80"},
            {"protocol": "tcp", "local": "[::]:443"},
            {"protocol": "tcp", "local": "10.0.0.1:80", "remote": "10.0.0.2:5000"},
            {"protocol": "udp", "local": "10.0.0.1:53", "interface": 3},
            {"protocol": "tcp", "local": "[::]:25", "v6only": true}]"#;
        let cage = Cage::new().expect("address space");
        let table = SocketTable::new(&cage);
        table.replace(Socket::parse_list(list).expect("well-formed")).expect("room");
        let start = table.region().expect("it was made").addr();
        let find = |protocol, source: &str, destination: &str| {
            let end = |text: &str| {
                let end: SocketAddr = text.parse().expect("an address");
                (end.ip(), end.port())
            };
            let tuple = Tuple { source: end(source), destination: end(destination), interface: 3 };
            table.lookup(protocol, &tuple).map(|(addr, socket)| {
                let found = Some((addr, socket));
                let tcp = SocketTable::tcp_addr(addr);
                assert_eq!([addr, tcp].map(|addr| table.by_addr(addr.into())), [found, found]);
                (addr - start) / ENTRY_LEN
            })
        };
        assert_eq!(find(Protocol::Tcp, "10.0.0.2:5000", "10.0.0.1:80"), Some(3));
        assert_eq!(find(Protocol::Tcp, "10.0.0.2:5001", "10.0.0.1:80"), Some(1));
        assert_eq!(find(Protocol::Tcp, "10.0.0.2:5001", "10.0.0.7:80"), Some(0));
        assert_eq!(find(Protocol::Tcp, "10.0.0.2:5001", "10.0.0.7:443"), Some(2));
        assert_eq!(find(Protocol::Tcp, "[fd00::1]:5001", "[fd00::2]:443"), Some(2));
        assert_eq!(find(Protocol::Tcp, "10.0.0.2:5001", "10.0.0.7:25"), None);
        assert_eq!(find(Protocol::Udp, "10.0.0.2:5001", "10.0.0.1:53"), Some(4));
        assert_eq!(find(Protocol::Udp, "10.0.0.2:5001", "10.0.0.1:80"), None);
        let at = u64::from(start);
        assert!(cage.write(at, &[0]).is_err(), "programs only read it");
        assert_eq!((table.by_addr(at + 1), table.by_addr(at + 6 * u64::from(ENTRY_LEN))), (None, None));
    }

    #[test]
    fn a_wrong_list_is_refused_with_the_place() {
        let refused = |json: &str| Socket::parse_list(json).expect_err("refused").to_string();
        assert_eq!(
            refused(r#"[{"protocol": "tcp", "local": "10.0.0.1:80", "remote": "[::1]:5"}]"#),
            "sockets 1: 10.0.0.1:80 and [::1]:5 are of two families; write addresses of one"
        );
        assert_eq!(
            refused(r#"[{"protocol": "tcp", "local": "10.0.0.1:80", "state": "ESTAB"}]"#),
            "sockets 1: a socket has a remote end exactly when it is connected; write both or neither"
        );
        let many = format!("[{}]", vec![r#"{"protocol": "udp", "local": "10.0.0.1:80"}"#; SOCKETS_MAX + 1].join(","));
        assert_eq!(refused(&many), "sockets: 1025 are more than 1024; leave some out");
        assert!(refused("{}").starts_with("sockets: invalid type: map"), "{}", refused("{}"));
    }
}
