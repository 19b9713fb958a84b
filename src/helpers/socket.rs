//! The socket that a packet is for. `net/core/filter.c`.
//!
//! Sockets are those of the host's own table ([`crate::run::sockets`]), never the machine's. A reference keeps nothing alive:
//! it is counted so that verify mode finds what the kernel's verifier refuses.
//!
//! Invariant: a socket is known by its address alone; what is in the cage is never read back.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::check::place;
use super::{Arg, Frame, Helper, Ret};
use crate::maps::Errno;
use crate::run::Run;
use crate::run::sockets::{Protocol, Socket, SocketTable, State, Tuple};
use crate::trap::{Access, TrapKind};
use crate::verdict::ProgramKind;

const KINDS: &[ProgramKind] = &[ProgramKind::Xdp, ProgramKind::Tc];
const TC: &[ProgramKind] = &[ProgramKind::Tc];

/// Bytes of the tuple for IPv4: addresses, ports.
const TUPLE_4_LEN: usize = 12;
/// The same for IPv6.
const TUPLE_6_LEN: usize = 36;

/// Whether a lookup takes remainders of sockets too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Full,
    Any,
}

/// The tuple of a length; `None` for one that is no tuple's.
fn tuple(bytes: &[u8], interface: u32) -> Option<Tuple> {
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    match bytes.len() {
        TUPLE_4_LEN => {
            let address = |at: usize| Ipv4Addr::from(*bytes[at..].first_chunk::<4>().expect("12 bytes"));
            let (source, destination) = ((address(0).into(), port(8)), (address(4).into(), port(10)));
            Some(Tuple { source, destination, interface })
        }
        TUPLE_6_LEN => {
            let address = |at: usize| Ipv6Addr::from(*bytes[at..].first_chunk::<16>().expect("36 bytes"));
            let (source, destination) = ((address(0).into(), port(32)), (address(16).into(), port(34)));
            Some(Tuple { source, destination, interface })
        }
        _ => None,
    }
}

fn lookup(
    run: &mut Run<'_>,
    helper: u32,
    protocol: Protocol,
    wanted: Wanted,
    [ctx, at, len, namespace, flags]: [u64; 5],
) -> Result<u64, TrapKind> {
    place(helper, 1).context(run, ctx)?;
    let range = place(helper, 2).some_memory(run, at, len, Access::Read)?;
    run.work(len / 8)?;
    let interface = run.ifindex;
    let tuple = place(helper, 2).copied(run, at, range.len(), |bytes| tuple(bytes, interface))?;
    // Of namespaces there is the current one, which any negative number means.
    #[expect(clippy::cast_possible_truncation, reason = "the kernel looks at the low half")]
    let current = (namespace as i32) < 0;
    let Some(tuple) = tuple.filter(|_| flags == 0 && current) else { return Ok(0) };
    let found = run.world.sockets.lookup(protocol, &tuple);
    let found = found.filter(|(_, socket)| wanted == Wanted::Any || socket.is_full());
    Ok(match found {
        Some((addr, _)) if run.sockets.push(addr) => addr.into(),
        Some(_) | None => 0,
    })
}

const LOOKUP_ARGS: &[Arg] = &[Arg::Ctx, Arg::MemRead, Arg::Len, Arg::Any, Arg::Any];

fn sk_lookup_tcp(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    lookup(run, 84, Protocol::Tcp, Wanted::Full, args)
}

/// `struct bpf_sock *bpf_sk_lookup_tcp(ctx, tuple, tuple_size, netns, flags)`: to be released.
pub(super) static SK_LOOKUP_TCP: Helper = Helper {
    id: 84,
    name: "sk_lookup_tcp",
    args: LOOKUP_ARGS,
    ret: Ret::SocketOrNull,
    cost: 4096,
    frame: Frame::Keeps,
    kinds: KINDS,
    body: sk_lookup_tcp,
};

fn sk_lookup_udp(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    lookup(run, 85, Protocol::Udp, Wanted::Full, args)
}

/// `struct bpf_sock *bpf_sk_lookup_udp(ctx, tuple, tuple_size, netns, flags)`: to be released.
pub(super) static SK_LOOKUP_UDP: Helper = Helper {
    id: 85,
    name: "sk_lookup_udp",
    args: LOOKUP_ARGS,
    ret: Ret::SocketOrNull,
    cost: 4096,
    frame: Frame::Keeps,
    kinds: KINDS,
    body: sk_lookup_udp,
};

fn skc_lookup_tcp(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    lookup(run, 99, Protocol::Tcp, Wanted::Any, args)
}

/// `struct bpf_sock *bpf_skc_lookup_tcp(ctx, tuple, tuple_size, netns, flags)`: to be released; also one that waits.
pub(super) static SKC_LOOKUP_TCP: Helper = Helper {
    id: 99,
    name: "skc_lookup_tcp",
    args: LOOKUP_ARGS,
    ret: Ret::SocketOrNull,
    cost: 4096,
    frame: Frame::Keeps,
    kinds: KINDS,
    body: skc_lookup_tcp,
};

fn sk_release(run: &mut Run<'_>, [socket, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    if run.sockets.take(socket) { Ok(0) } else { Err(place(86, 1).not("a socket that was looked up")) }
}

/// `long bpf_sk_release(sock)`: gives a reference back.
pub(super) static SK_RELEASE: Helper = Helper {
    id: 86,
    name: "sk_release",
    args: &[Arg::Socket],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Keeps,
    kinds: KINDS,
    body: sk_release,
};

/// The socket of an argument, either of whose structures is meant, and where it begins; NULL is none.
fn socket(run: &Run<'_>, helper: u32, arg: u8, addr: u64) -> Result<Option<(u32, Socket)>, TrapKind> {
    if addr == 0 {
        return Ok(None);
    }
    run.world.sockets.by_addr(addr).map(Some).ok_or_else(|| place(helper, arg).not("a socket"))
}

fn sk_fullsock(run: &mut Run<'_>, [addr, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(socket(run, 95, 1, addr)?.filter(|(_, socket)| socket.is_full()).map_or(0, |(addr, _)| addr.into()))
}

/// `struct bpf_sock *bpf_sk_fullsock(sk)`: the same, or NULL where it is a remainder.
pub(super) static SK_FULLSOCK: Helper = Helper {
    id: 95,
    name: "sk_fullsock",
    args: &[Arg::Socket],
    ret: Ret::SocketOrNull,
    cost: 16,
    frame: Frame::Keeps,
    kinds: TC,
    body: sk_fullsock,
};

fn tcp_sock(run: &mut Run<'_>, [addr, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let is_tcp = |(_, socket): &(u32, Socket)| socket.is_full() && socket.protocol == Protocol::Tcp;
    Ok(socket(run, 96, 1, addr)?.filter(is_tcp).map_or(0, |(addr, _)| SocketTable::tcp_addr(addr).into()))
}

/// `struct bpf_tcp_sock *bpf_tcp_sock(sk)`: what is known of the connection.
pub(super) static TCP_SOCK: Helper = Helper {
    id: 96,
    name: "tcp_sock",
    args: &[Arg::Socket],
    ret: Ret::TcpSocketOrNull,
    cost: 16,
    frame: Frame::Keeps,
    kinds: TC,
    body: tcp_sock,
};

fn get_listener_sock(run: &mut Run<'_>, [addr, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    let listens = |(_, socket): &(u32, Socket)| socket.state == State::Listen;
    Ok(socket(run, 98, 1, addr)?.filter(listens).map_or(0, |(addr, _)| addr.into()))
}

/// `struct bpf_sock *bpf_get_listener_sock(sk)`: the same where it listens, else NULL.
pub(super) static GET_LISTENER_SOCK: Helper = Helper {
    id: 98,
    name: "get_listener_sock",
    args: &[Arg::Socket],
    ret: Ret::SocketOrNull,
    cost: 16,
    frame: Frame::Keeps,
    kinds: TC,
    body: get_listener_sock,
};

fn sk_assign(run: &mut Run<'_>, [ctx, addr, flags, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(124, 1).context(run, ctx)?;
    let Some((addr, _)) = socket(run, 124, 2, addr)?.filter(|_| flags == 0) else {
        return Ok(Errno::EINVAL.to_r0());
    };
    run.assigned = Some(addr);
    Ok(0)
}

/// `long bpf_sk_assign(skb, sk, flags)`: the packet is for this socket.
pub(super) static SK_ASSIGN: Helper = Helper {
    id: 124,
    name: "sk_assign",
    args: &[Arg::Ctx, Arg::Socket, Arg::Any],
    ret: Ret::Integer,
    cost: 16,
    frame: Frame::Keeps,
    kinds: TC,
    body: sk_assign,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::STACK_LEN;
    use crate::maps::WorkerIndex;
    use crate::run::{Clock, World};

    #[test]
    fn both_structures_of_a_socket_lead_to_the_same_answers() {
        let world = World::new(1, Clock::Fixed(0), Box::new(|_| {})).expect("address space");
        let list = r#"[{"protocol": "tcp", "local": "10.0.0.1:80"}, {"protocol": "tcp", "local": "10.0.0.1:81"}]"#;
        world.sockets.replace(Socket::parse_list(list).expect("well-formed")).expect("room");
        let end = |text: &str, port| (text.parse().expect("an address"), port);
        let tuple = Tuple { source: end("10.0.0.2", 5000), destination: end("10.0.0.1", 80), interface: 1 };
        let (addr, _) = world.sockets.lookup(Protocol::Tcp, &tuple).expect("it listens");
        let (sock, tcp) = (u64::from(addr), u64::from(SocketTable::tcp_addr(addr)));
        let mut run = Run::new(&world, WorkerIndex(0), ProgramKind::Tc, STACK_LEN);
        run.head.ctx = 0x1000;
        for given in [sock, tcp] {
            let args = [given, 0, 0, 0, 0];
            assert_eq!(sk_fullsock(&mut run, args), Ok(sock));
            assert_eq!(tcp_sock(&mut run, args), Ok(tcp));
            assert_eq!(get_listener_sock(&mut run, args), Ok(sock));
            assert_eq!(sk_assign(&mut run, [0x1000, given, 0, 0, 0]), Ok(0));
            assert_eq!(run.assigned, Some(addr));
        }
    }
}
