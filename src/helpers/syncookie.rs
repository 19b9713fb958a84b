//! SYN cookies. `net/core/filter.c`.
//!
//! Invariant: headers are copied in before they are looked at; a cookie is made of nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::check::{Place, place};
use super::{Arg, Frame, Helper, Ret};
use crate::maps::Errno;
use crate::run::sockets::{Protocol, Socket, State};
use crate::run::{Ends, Run};
use crate::trap::{Access, TrapKind};
use crate::verdict::ProgramKind;

const KINDS: &[ProgramKind] = &[ProgramKind::Xdp, ProgramKind::Tc];

/// Bytes of `struct iphdr`.
const IP4_LEN: u32 = 20;
/// Bytes of `struct ipv6hdr`.
const IP6_LEN: u32 = 40;
/// Bytes of `struct tcphdr`.
const TCP_LEN: u32 = 20;
/// Most bytes of a TCP header with options.
const TCP_LEN_MAX: usize = 60;

/// Segment size of a SYN without the option (`TCP_MSS_DEFAULT`).
const SIZE_4: u16 = 536;
/// The same with IPv6: what fits a packet that every link carries.
const SIZE_6: u16 = 1280 - 20 - 40;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A TCP header.
struct Tcp {
    bytes: [u8; TCP_LEN_MAX],
    /// Bytes that are there.
    len: usize,
}

impl Tcp {
    /// `len` bytes, of which a header uses no more than [`TCP_LEN_MAX`].
    fn read(run: &Run<'_>, at: Place, addr: u64, len: u64) -> Result<Self, TrapKind> {
        let mut bytes = [0; TCP_LEN_MAX];
        let len = usize::try_from(len).map_or(TCP_LEN_MAX, |len| len.min(TCP_LEN_MAX));
        run.world.cage.read(addr, &mut bytes[..len]).map_err(|fault| at.fault(fault))?;
        Ok(Self { bytes, len })
    }

    fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn word(&self, at: usize) -> u32 {
        u32::from(self.half(at)) << 16 | u32::from(self.half(at + 2))
    }

    fn sequence(&self) -> u32 {
        self.word(4)
    }

    /// The cookie that an ACK brings back.
    fn cookie(&self) -> u32 {
        self.word(8).wrapping_sub(1)
    }

    fn header_len(&self) -> usize {
        usize::from(self.bytes[12] >> 4) * 4
    }

    fn flags(&self) -> u8 {
        self.bytes[13]
    }

    /// The segment size option, `tcp_parse_mss_option`.
    fn segment_size(&self) -> Option<u16> {
        let end = self.header_len().min(self.len);
        let mut options = self.bytes.get(TCP_LEN as usize..end)?;
        let mut found = None;
        loop {
            options = match options {
                [] | [0, ..] => return found,
                [1, rest @ ..] => rest,
                [kind, len, rest @ ..] if *len >= 2 && usize::from(*len) <= options.len() => {
                    if let (2, 4, [high, low, ..]) = (kind, len, rest) {
                        found = Some(u16::from_be_bytes([*high, *low])).filter(|size| *size != 0).or(found);
                    }
                    &options[usize::from(*len)..]
                }
                _ => return found,
            };
        }
    }
}

/// The ends of a connection by its headers; the IP header is long enough for its version.
fn ends(ip: &[u8], tcp: &Tcp) -> Ends {
    let (source, destination): (IpAddr, IpAddr) = if ip.len() == IP6_LEN as usize {
        let address = |at: usize| Ipv6Addr::from(*ip[at..].first_chunk::<16>().expect("40 bytes"));
        (address(8).into(), address(24).into())
    } else {
        let address = |at: usize| Ipv4Addr::from(*ip[at..].first_chunk::<4>().expect("20 bytes"));
        (address(12).into(), address(16).into())
    };
    Ends { source, destination, source_port: tcp.half(0), destination_port: tcp.half(2) }
}

fn made(run: &Run<'_>, ends: &Ends, tcp: &Tcp, size: u16) -> u64 {
    let (cookie, size) = run.world.cookies.make(ends, tcp.sequence(), size, run.world.clock.now_ns());
    u64::from(cookie) | u64::from(size) << 32
}

fn is_ours(run: &Run<'_>, ends: &Ends, tcp: &Tcp) -> bool {
    let sequence = tcp.sequence().wrapping_sub(1);
    run.world.cookies.check(ends, sequence, tcp.cookie(), run.world.clock.now_ns()).is_some()
}

/// Copies the first `LEN` bytes of an IP header.
fn ip_header<const LEN: usize>(run: &Run<'_>, at: Place, addr: u64) -> Result<[u8; LEN], TrapKind> {
    let mut bytes = [0; LEN];
    run.world.cage.read(addr, &mut bytes).map_err(|fault| at.fault(fault))?;
    Ok(bytes)
}

fn raw_gen<const LEN: usize>(
    run: &mut Run<'_>,
    helper: u32,
    [ip, tcp, len, ..]: [u64; 5],
    size: u16,
) -> Result<u64, TrapKind> {
    let ip = ip_header::<LEN>(run, place(helper, 1), ip)?;
    place(helper, 2).some_memory(run, tcp, len, Access::Read)?;
    if len < u64::from(TCP_LEN) {
        return Ok(Errno::EINVAL.to_r0());
    }
    let tcp = Tcp::read(run, place(helper, 2), tcp, len)?;
    if len != tcp.header_len() as u64 {
        return Ok(Errno::EINVAL.to_r0());
    }
    let size = tcp.segment_size().unwrap_or(size);
    Ok(made(run, &ends(&ip, &tcp), &tcp, size))
}

fn raw_check<const LEN: usize>(run: &mut Run<'_>, helper: u32, [ip, tcp, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let ip = ip_header::<LEN>(run, place(helper, 1), ip)?;
    let tcp = Tcp::read(run, place(helper, 2), tcp, TCP_LEN.into())?;
    Ok(if is_ours(run, &ends(&ip, &tcp), &tcp) { 0 } else { Errno::EACCES.to_r0() })
}

fn tcp_raw_gen_syncookie_ipv4(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    raw_gen::<{ IP4_LEN as usize }>(run, 204, args, SIZE_4)
}

/// `s64 bpf_tcp_raw_gen_syncookie_ipv4(iph, th, th_len)`: the cookie, and above it the segment size.
pub(super) static TCP_RAW_GEN_SYNCOOKIE_IPV4: Helper = Helper {
    id: 204,
    name: "tcp_raw_gen_syncookie_ipv4",
    args: &[Arg::Bytes(IP4_LEN), Arg::MemRead, Arg::Len],
    ret: Ret::Integer,
    cost: 256,
    frame: Frame::Keeps,
    kinds: KINDS,
    body: tcp_raw_gen_syncookie_ipv4,
};

fn tcp_raw_gen_syncookie_ipv6(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    raw_gen::<{ IP6_LEN as usize }>(run, 205, args, SIZE_6)
}

/// `s64 bpf_tcp_raw_gen_syncookie_ipv6(iph, th, th_len)`.
pub(super) static TCP_RAW_GEN_SYNCOOKIE_IPV6: Helper = Helper {
    id: 205,
    name: "tcp_raw_gen_syncookie_ipv6",
    args: &[Arg::Bytes(IP6_LEN), Arg::MemRead, Arg::Len],
    ret: Ret::Integer,
    cost: 256,
    frame: Frame::Keeps,
    kinds: KINDS,
    body: tcp_raw_gen_syncookie_ipv6,
};

fn tcp_raw_check_syncookie_ipv4(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    raw_check::<{ IP4_LEN as usize }>(run, 206, args)
}

/// `long bpf_tcp_raw_check_syncookie_ipv4(iph, th)`: whether an ACK brings a cookie of ours.
pub(super) static TCP_RAW_CHECK_SYNCOOKIE_IPV4: Helper = Helper {
    id: 206,
    name: "tcp_raw_check_syncookie_ipv4",
    args: &[Arg::Bytes(IP4_LEN), Arg::Bytes(TCP_LEN)],
    ret: Ret::Integer,
    cost: 256,
    frame: Frame::Keeps,
    kinds: KINDS,
    body: tcp_raw_check_syncookie_ipv4,
};

fn tcp_raw_check_syncookie_ipv6(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    raw_check::<{ IP6_LEN as usize }>(run, 207, args)
}

/// `long bpf_tcp_raw_check_syncookie_ipv6(iph, th)`.
pub(super) static TCP_RAW_CHECK_SYNCOOKIE_IPV6: Helper = Helper {
    id: 207,
    name: "tcp_raw_check_syncookie_ipv6",
    args: &[Arg::Bytes(IP6_LEN), Arg::Bytes(TCP_LEN)],
    ret: Ret::Integer,
    cost: 256,
    frame: Frame::Keeps,
    kinds: KINDS,
    body: tcp_raw_check_syncookie_ipv6,
};

/// What a socket may be asked a cookie of.
fn listens(socket: &Socket) -> bool {
    socket.protocol == Protocol::Tcp && socket.state == State::Listen
}

/// What the two helpers that have a socket are given.
struct Asked {
    socket: Socket,
    tcp: Tcp,
    ip: u64,
    ip_len: u64,
}

impl Asked {
    /// Reads the arguments; an errno for a socket or a TCP header that is none.
    fn read(
        run: &mut Run<'_>,
        helper: u32,
        [socket, ip, ip_len, tcp, tcp_len]: [u64; 5],
    ) -> Result<Result<Self, Errno>, TrapKind> {
        place(helper, 2).some_memory(run, ip, ip_len, Access::Read)?;
        place(helper, 4).some_memory(run, tcp, tcp_len, Access::Read)?;
        let found = run.world.sockets.by_addr(socket);
        let (_, socket) = found.ok_or_else(|| place(helper, 1).not("a socket"))?;
        if tcp_len < u64::from(TCP_LEN) || !listens(&socket) {
            return Ok(Err(Errno::EINVAL));
        }
        let tcp = Tcp::read(run, place(helper, 4), tcp, tcp_len)?;
        Ok(Ok(Self { socket, tcp, ip, ip_len }))
    }

    /// The ends of the connection, where the socket may have it.
    fn ends(&self, run: &Run<'_>, helper: u32) -> Result<Result<Ends, Errno>, TrapKind> {
        let at = place(helper, 2);
        if self.ip_len < u64::from(IP4_LEN) {
            return Ok(Err(Errno::EINVAL));
        }
        let four = ip_header::<{ IP4_LEN as usize }>(run, at, self.ip)?;
        Ok(match four[0] >> 4 {
            4 if !self.socket.takes_ip4() => Err(Errno::EINVAL),
            4 => Ok(ends(&four, &self.tcp)),
            6 if self.ip_len < u64::from(IP6_LEN) || self.socket.local.0.is_ipv4() => Err(Errno::EINVAL),
            6 => Ok(ends(&ip_header::<{ IP6_LEN as usize }>(run, at, self.ip)?, &self.tcp)),
            _ => Err(Errno::EPROTONOSUPPORT),
        })
    }
}

fn tcp_check_syncookie(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let asked = match Asked::read(run, 100, args)? {
        Ok(asked) => asked,
        Err(errno) => return Ok(errno.to_r0()),
    };
    if asked.tcp.flags() & (ACK | RST | SYN) != ACK {
        return Ok(Errno::ENOENT.to_r0());
    }
    Ok(match asked.ends(run, 100)? {
        Err(errno) => errno.to_r0(),
        Ok(ends) if is_ours(run, &ends, &asked.tcp) => 0,
        Ok(_) => Errno::ENOENT.to_r0(),
    })
}

/// `long bpf_tcp_check_syncookie(sk, iph, iph_len, th, th_len)`: whether an ACK brings a cookie of ours.
pub(super) static TCP_CHECK_SYNCOOKIE: Helper = Helper {
    id: 100,
    name: "tcp_check_syncookie",
    args: &[Arg::Socket, Arg::MemRead, Arg::Len, Arg::MemRead, Arg::Len],
    ret: Ret::Integer,
    cost: 256,
    frame: Frame::Keeps,
    kinds: KINDS,
    body: tcp_check_syncookie,
};

fn tcp_gen_syncookie(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let asked = match Asked::read(run, 110, args)? {
        Ok(asked) => asked,
        Err(errno) => return Ok(errno.to_r0()),
    };
    if asked.tcp.flags() & (SYN | ACK | FIN | RST) != SYN {
        return Ok(Errno::EINVAL.to_r0());
    }
    Ok(match asked.ends(run, 110)? {
        Err(errno) => errno.to_r0(),
        Ok(ends) => {
            let size = if ends.source.is_ipv4() { SIZE_4 } else { SIZE_6 };
            made(run, &ends, &asked.tcp, asked.tcp.segment_size().unwrap_or(size))
        }
    })
}

/// `s64 bpf_tcp_gen_syncookie(sk, iph, iph_len, th, th_len)`: the cookie, and above it the segment size.
pub(super) static TCP_GEN_SYNCOOKIE: Helper = Helper {
    id: 110,
    name: "tcp_gen_syncookie",
    args: &[Arg::Socket, Arg::MemRead, Arg::Len, Arg::MemRead, Arg::Len],
    ret: Ret::Integer,
    cost: 256,
    frame: Frame::Keeps,
    kinds: KINDS,
    body: tcp_gen_syncookie,
};
