//! The datagram sockets behind a wire: bound, filtered, with large buffers.
//!
//! One worker: a connected socket, for which the kernel looks no route up. Several: unconnected sockets that share the
//! address; the kernel would give all frames to one of several connected ones. A filter of the kernel keeps strangers
//! out in both cases.

use std::fmt;
use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use libc::{c_int, c_void, socklen_t};

use super::super::PortError;
use super::{WireConfig, filter};
use crate::limits::{BIND_RETRY_MS_MAX, SOCKET_BUFFER_LEN};

/// An address as system calls take it.
#[derive(Clone, Copy)]
enum RawAddr {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl RawAddr {
    fn new(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(addr) => Self::V4(libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: addr.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(addr.ip().octets()) },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(addr) => Self::V6(libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: addr.port().to_be(),
                sin6_flowinfo: addr.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
                sin6_scope_id: addr.scope_id(),
            }),
        }
    }

    fn ptr(&self) -> *const libc::sockaddr {
        match self {
            Self::V4(addr) => (&raw const *addr).cast(),
            Self::V6(addr) => (&raw const *addr).cast(),
        }
    }

    fn len(&self) -> socklen_t {
        match self {
            Self::V4(_) => socklen::<libc::sockaddr_in>(),
            Self::V6(_) => socklen::<libc::sockaddr_in6>(),
        }
    }
}

fn family(number: c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).expect("address families are small")
}

fn socklen<T>() -> socklen_t {
    socklen_t::try_from(size_of::<T>()).expect("a small structure")
}

/// Whether other sockets may have the same address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// This socket alone.
    Alone,
    /// All workers of the host.
    Shared,
}

/// One worker's socket.
pub struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
    peer: SocketAddr,
    /// Where to send, for sockets that are not connected.
    to: Option<RawAddr>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("local", &self.local).field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wire udp {} -> {}", self.local, self.peer)
    }
}

impl Socket {
    /// Opens the sockets of a wire, one a worker. Port 0 of the local address means any free one.
    ///
    /// # Errors
    /// [`PortError`] with the address that could not be had.
    pub fn open(wire: WireConfig, worker_count: u32) -> Result<Vec<Arc<Self>>, PortError> {
        let WireConfig { local, peer } = wire;
        if local.is_ipv4() != peer.is_ipv4() {
            return Err(PortError::Family { local, peer });
        }
        if peer.port() == 0 || peer.ip().is_unspecified() {
            return Err(PortError::Peer { local, peer });
        }
        let sharing = if worker_count > 1 { Sharing::Shared } else { Sharing::Alone };
        // The first is bound alone and shared afterwards, so that it finds out another host that has the address.
        let first = Self::bound(local, peer, Sharing::Alone)?;
        let local = first.local;
        let mut sockets = vec![first];
        if sharing == Sharing::Shared {
            let first = &mut sockets[0];
            first.set(libc::SOL_SOCKET, libc::SO_REUSEPORT, "SO_REUSEPORT", &1)?;
            first.to = Some(RawAddr::new(peer));
            for _ in 1..worker_count {
                let socket = Self::bound(local, peer, sharing)?;
                sockets.push(Self { to: Some(RawAddr::new(peer)), ..socket });
            }
            sockets[0].attach(libc::SO_ATTACH_REUSEPORT_CBPF, &filter::by_flow(worker_count))?;
        } else {
            let first = &sockets[0];
            first.socket.connect(peer).map_err(|source| first.failed("connect", source))?;
            // From here on the kernel compares the source itself.
            first.set(libc::SOL_SOCKET, libc::SO_DETACH_FILTER, "SO_DETACH_FILTER", &0)?;
        }
        Ok(sockets.into_iter().map(Arc::new).collect())
    }

    fn bound(local: SocketAddr, peer: SocketAddr, sharing: Sharing) -> Result<Self, PortError> {
        let domain = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::socket(domain, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(PortError::Call { local, call: "socket", source: io::Error::last_os_error() });
        }
        // SAFETY: the kernel just gave us the descriptor, and nobody else knows it.
        let socket = unsafe { UdpSocket::from_raw_fd(fd) };
        let mut opened = Self { socket, local, peer, to: None };
        opened.set_buffers()?;
        // Frames as long as a link's MTU make longer datagrams: let the kernel cut them up.
        if local.is_ipv4() {
            opened.set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, "IP_MTU_DISCOVER", &libc::IP_PMTUDISC_DONT)?;
        } else {
            opened.set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, "IPV6_V6ONLY", &1)?;
            opened.set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, "IPV6_MTU_DISCOVER", &libc::IP_PMTUDISC_DONT)?;
        }
        if sharing == Sharing::Shared {
            opened.set(libc::SOL_SOCKET, libc::SO_REUSEPORT, "SO_REUSEPORT", &1)?;
        }
        // Before binding: not even the first datagram may be a stranger's.
        opened.attach(libc::SO_ATTACH_FILTER, &filter::from_peer(peer))?;
        opened.bind()?;
        opened.local = opened.socket.local_addr().map_err(|source| opened.failed("getsockname", source))?;
        Ok(opened)
    }

    fn bind(&self) -> Result<(), PortError> {
        let addr = RawAddr::new(self.local);
        let deadline = Instant::now() + Duration::from_millis(BIND_RETRY_MS_MAX);
        loop {
            // SAFETY: `addr` is a socket address of the length that it says.
            if unsafe { libc::bind(self.fd(), addr.ptr(), addr.len()) } == 0 {
                return Ok(());
            }
            let source = io::Error::last_os_error();
            match source.raw_os_error() {
                Some(libc::EADDRINUSE) if Instant::now() < deadline => sleep(Duration::from_millis(5)),
                Some(libc::EADDRINUSE) => return Err(PortError::InUse { local: self.local }),
                Some(libc::EADDRNOTAVAIL) => return Err(PortError::NotLocal { local: self.local }),
                _ => return Err(self.failed("bind", source)),
            }
        }
    }

    /// Asks for large buffers: beyond the system's limit where we are privileged, else up to it.
    fn set_buffers(&self) -> Result<(), PortError> {
        let pairs = [
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, "SO_RCVBUF"),
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, "SO_SNDBUF"),
        ];
        for (force, ask, call) in pairs {
            if self.set(libc::SOL_SOCKET, force, call, &SOCKET_BUFFER_LEN).is_err() {
                self.set(libc::SOL_SOCKET, ask, call, &SOCKET_BUFFER_LEN)?;
            }
        }
        Ok(())
    }

    fn attach(&self, option: c_int, program: &[libc::sock_filter]) -> Result<(), PortError> {
        let len = u16::try_from(program.len()).expect("a short program");
        let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
        self.set(libc::SOL_SOCKET, option, "SO_ATTACH_FILTER", &program)
    }

    fn set<T>(&self, level: c_int, option: c_int, call: &'static str, value: &T) -> Result<(), PortError> {
        let at: *const c_void = (&raw const *value).cast();
        // SAFETY: `value` is read for its length, and a filter's program outlives the call.
        if unsafe { libc::setsockopt(self.fd(), level, option, at, socklen::<T>()) } == 0 {
            return Ok(());
        }
        Err(self.failed(call, io::Error::last_os_error()))
    }

    fn failed(&self, call: &'static str, source: io::Error) -> PortError {
        PortError::Call { local: self.local, call, source }
    }

    /// Where it receives.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Datagrams that the kernel dropped at this socket since it was opened: because nobody fetched them in time, or
    /// because a stranger sent them. The kernel's counter has 32 bits.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        const FIELDS: usize = libc::SK_MEMINFO_DROPS as usize + 1;
        let mut fields = [0u32; FIELDS];
        let mut len = socklen::<[u32; FIELDS]>();
        let into: *mut c_void = fields.as_mut_ptr().cast();
        // SAFETY: the kernel writes at most `len` bytes to `fields`.
        let answer = unsafe { libc::getsockopt(self.fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, into, &raw mut len) };
        if answer == 0 { u64::from(fields[FIELDS - 1]) } else { 0 }
    }

    /// Asks the kernel to hand trains over whole; whether it will. From then on receives must expect them.
    pub(super) fn takes_trains(&self) -> bool {
        self.set(libc::SOL_UDP, libc::UDP_GRO, "UDP_GRO", &1).is_ok()
    }

    /// Where to send, for calls that take an address; null and 0 for a connected socket.
    pub(super) fn to(&self) -> (*const libc::sockaddr, socklen_t) {
        self.to.as_ref().map_or((std::ptr::null(), 0), |addr| (addr.ptr(), addr.len()))
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
