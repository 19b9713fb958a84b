//! Where a packet would go and whether it fits: `bpf_fib_lookup`, `bpf_check_mtu`. `net/core/filter.c`.
//!
//! Answers come from the host's own table ([`crate::run::routes`]), never from the machine's.
//!
//! Invariant: the table is held for one lookup alone; guest memory is copied in before and out after.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::check::place;
use super::{Arg, Frame, Helper, Ret};
use crate::limits::FRAME_LEN_MIN;
use crate::maps::Errno;
use crate::run::Run;
use crate::run::routes::{Interface, Miss, Query, Routes, Way};
use crate::trap::{Access, TrapKind};
use crate::verdict::ProgramKind;

const KINDS: &[ProgramKind] = &[ProgramKind::Xdp, ProgramKind::Tc];

/// Bytes of `struct bpf_fib_lookup`.
const PARAMS_LEN: usize = 64;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const DIRECT: u64 = 1;
const OUTPUT: u64 = 2;
const SKIP_NEIGH: u64 = 4;
const TBID: u64 = 8;
const SRC: u64 = 16;
/// All flags; the last is a mark for policy rules, of which there are none.
const FLAGS: u64 = 63;

const SUCCESS: u64 = 0;
const BLACKHOLE: u64 = 1;
const UNREACHABLE: u64 = 2;
const PROHIBIT: u64 = 3;
const NOT_FORWARDED: u64 = 4;
const FORWARDING_DISABLED: u64 = 5;
const UNSUPPORTED_TUNNEL: u64 = 6;
const NO_NEIGHBOUR: u64 = 7;
const FRAGMENTATION_NEEDED: u64 = 8;
const NO_SOURCE: u64 = 9;

/// Longest packets of the two families, whatever an interface says (`IP_MAX_MTU`, `IP6_MAX_MTU`).
const IP4_MTU_MAX: u32 = 65_535;
const IP6_MTU_MAX: u32 = 65_535 + 40;

/// `struct bpf_fib_lookup`.
struct Params {
    bytes: [u8; PARAMS_LEN],
}

impl Params {
    const TOT_LEN: usize = 6;
    const IFINDEX: usize = 8;
    const METRIC: usize = 12;
    const SOURCE: usize = 16;
    const DESTINATION: usize = 32;
    const TABLE: usize = 48;
    const SOURCE_LINK: usize = 52;
    const DESTINATION_LINK: usize = 58;

    fn part<const LEN: usize>(&self, at: usize) -> [u8; LEN] {
        *self.bytes[at..].first_chunk().expect("fields lie in the structure")
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn total_len(&self) -> u32 {
        u16::from_ne_bytes(self.part(Self::TOT_LEN)).into()
    }

    fn ifindex(&self) -> u32 {
        u32::from_ne_bytes(self.part(Self::IFINDEX))
    }

    fn address(&self, at: usize, family: u8) -> IpAddr {
        if family == AF_INET {
            Ipv4Addr::from(self.part::<4>(at)).into()
        } else {
            Ipv6Addr::from(self.part::<16>(at)).into()
        }
    }

    fn put_address(&mut self, at: usize, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.put(at, &address.octets()),
            IpAddr::V6(address) => self.put(at, &address.octets()),
        }
    }

    /// The 16-bit field that holds the total length before and the longest packet after.
    #[expect(clippy::cast_possible_truncation, reason = "the kernel's field is 16 bits of it")]
    fn put_mtu(&mut self, mtu: u32) {
        self.put(Self::TOT_LEN, &(mtu as u16).to_ne_bytes());
    }
}

/// Whether the total length is checked against the way's longest packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LenCheck {
    Yes,
    No,
}

/// `rt6_need_strict`: addresses that are never forwarded.
fn stays_on_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_multicast() || address.is_unicast_link_local() || address.is_loopback(),
    }
}

fn lookup(routes: &Routes, params: &mut Params, family: u8, flags: u64, check: LenCheck) -> u64 {
    let source = params.address(Params::SOURCE, family);
    let destination = params.address(Params::DESTINATION, family);
    if stays_on_link(destination) || stays_on_link(source) {
        return NOT_FORWARDED;
    }
    let Some(interface) = routes.interface(params.ifindex()) else { return Errno::ENODEV.to_r0() };
    if !interface.forwards {
        return FORWARDING_DISABLED;
    }
    let mut table = None;
    if flags & DIRECT != 0 {
        table = Some(MAIN);
        if flags & TBID != 0 {
            table = Some(u32::from_ne_bytes(params.part(Params::TABLE)));
            params.put(Params::TABLE, &[0; 4]);
        }
    }
    let way = if flags & OUTPUT == 0 { Way::In } else { Way::Out };
    let query = Query { source, destination, interface: interface.index, way, table };
    let (route, hop) = match routes.lookup(&query) {
        Ok(found) => found,
        Err(Miss::Blackhole) => return BLACKHOLE,
        Err(Miss::Unreachable) => return UNREACHABLE,
        Err(Miss::Prohibit) => return PROHIBIT,
        Err(Miss::NotForwarded) => return NOT_FORWARDED,
    };
    let out = routes.interface(hop.interface).expect("every hop names an interface of the table");
    let mut mtu = 0;
    if check == LenCheck::Yes {
        let mtu_max = if family == AF_INET { IP4_MTU_MAX } else { IP6_MTU_MAX };
        mtu = route.mtu.unwrap_or(out.mtu.min(mtu_max));
        if params.total_len() > mtu {
            params.put_mtu(mtu);
            return FRAGMENTATION_NEEDED;
        }
    }
    if hop.wraps {
        return UNSUPPORTED_TUNNEL;
    }
    if let (AF_INET6, Some(gateway)) = (family, hop.gateway) {
        params.put_address(Params::DESTINATION, gateway);
    }
    params.put(Params::METRIC, &route.metric.to_ne_bytes());
    params.put(Params::IFINDEX, &out.index.to_ne_bytes());
    if flags & SRC != 0 {
        match (routes.source(route, hop, destination), family) {
            (Some(address), _) => params.put_address(Params::SOURCE, address),
            (None, AF_INET) => params.put(Params::SOURCE, &[0; 4]),
            (None, _) => return NO_SOURCE,
        }
    }
    if let (AF_INET, Some(gateway)) = (family, hop.gateway) {
        if gateway.is_ipv6() {
            params.bytes[0] = AF_INET6;
        }
        params.put_address(Params::DESTINATION, gateway);
    }
    if flags & SKIP_NEIGH == 0 {
        let Some(link) = routes.neighbour(out.index, hop.gateway.unwrap_or(destination)) else { return NO_NEIGHBOUR };
        params.put(Params::DESTINATION_LINK, &link);
        params.put(Params::SOURCE_LINK, &out.address);
    }
    params.put(Params::TABLE, &[0; 4]);
    if mtu != 0 {
        params.put_mtu(mtu);
    }
    SUCCESS
}

/// Number of the table `main`.
const MAIN: u32 = 254;

/// `is_skb_forwardable`: whether a frame fits an interface, a VLAN tag put in; one that stands for segments is cut up.
fn fits(interface: &Interface, run: &Run<'_>) -> bool {
    let fits = run.window.frame_len() <= interface.mtu.saturating_add(FRAME_LEN_MIN + 4);
    interface.up && (fits || run.skb.segment_len != 0)
}

/// `skb_gso_validate_network_len`: whether the segments that a frame stands for are too long. Where no transport header is
/// known, the kernel takes one for far behind.
fn segments_too_long(run: &Run<'_>, mtu: u32) -> bool {
    let headers = run.skb.transport.map(|transport| transport.wrapping_sub(run.skb.network));
    headers.is_none_or(|headers| headers.saturating_add(run.skb.segment_len) > mtu)
}

fn fib_lookup(run: &mut Run<'_>, [ctx, at, len, flags, _]: [u64; 5]) -> Result<u64, TrapKind> {
    place(69, 1).context(run, ctx)?;
    place(69, 2).some_memory(run, at, len, Access::Write)?;
    if len < PARAMS_LEN as u64 || (flags & 0xffff_ffff) & !FLAGS != 0 {
        return Ok(Errno::EINVAL.to_r0());
    }
    let mut params = Params { bytes: [0; PARAMS_LEN] };
    let fault = |fault| place(69, 2).fault(fault);
    run.world.cage.read(at, &mut params.bytes).map_err(fault)?;
    let family = params.bytes[0];
    if !matches!(family, AF_INET | AF_INET6) {
        return Ok(Errno::EAFNOSUPPORT.to_r0());
    }
    // Programs of XDP have their packets checked always, those of tc where they give a length.
    let is_skb = run.kind == ProgramKind::Tc;
    let check = if is_skb && params.total_len() == 0 { LenCheck::No } else { LenCheck::Yes };
    let answer = {
        let routes = run.world.routes.read();
        let mut answer = lookup(&routes, &mut params, family, flags, check);
        if answer == SUCCESS && check == LenCheck::No {
            let out = routes.interface(params.ifindex()).expect("the lookup found it");
            if !fits(out, run) {
                answer = FRAGMENTATION_NEEDED;
            }
            params.put_mtu(out.mtu);
        }
        answer
    };
    run.world.cage.write(at, &params.bytes).map_err(fault)?;
    Ok(answer)
}

/// `long bpf_fib_lookup(ctx, params, plen, flags)`: the next hop of a packet, or why it has none.
pub(super) static FIB_LOOKUP: Helper = Helper {
    id: 69,
    name: "fib_lookup",
    args: &[Arg::Ctx, Arg::MemInOut, Arg::Len, Arg::Any],
    ret: Ret::Integer,
    cost: 512,
    frame: Frame::Keeps,
    kinds: KINDS,
    body: fib_lookup,
};

/// Check the segments of a packet that is to be cut up instead of its length.
const CHECK_SEGMENTS: u64 = 1;
/// `enum bpf_check_mtu_ret`.
const MTU_FITS: u64 = 0;
const MTU_TOO_LONG: u64 = 1;
const MTU_SEGMENTS_TOO_LONG: u64 = 2;

fn check_mtu(run: &mut Run<'_>, [ctx, ifindex, at, difference, flags]: [u64; 5]) -> Result<u64, TrapKind> {
    place(163, 1).context(run, ctx)?;
    let fault = |fault| place(163, 3).fault(fault);
    run.world.cage.check(at, 4, Access::Write).map_err(fault)?;
    let mut given = [0; 4];
    run.world.cage.read(at, &mut given).map_err(fault)?;
    let given = u32::from_ne_bytes(given);
    #[expect(clippy::cast_possible_truncation, reason = "the kernel's parameters are 32 bits of their registers")]
    let (ifindex, difference) = (ifindex as u32, difference as i32);
    let allowed = if run.kind == ProgramKind::Tc { CHECK_SEGMENTS } else { 0 };
    if flags & !allowed != 0 || flags != 0 && (difference != 0 || given != 0) {
        return Ok(Errno::EINVAL.to_r0());
    }
    let ifindex = if ifindex == 0 { run.ifindex } else { ifindex };
    let Some(mtu) = run.world.routes.read().interface(ifindex).map(|interface| interface.mtu) else {
        return Ok(Errno::ENODEV.to_r0());
    };
    // The kernel's arithmetic is that of an `int`.
    let header = FRAME_LEN_MIN.cast_signed();
    // Of an XDP frame the kernel counts the linear part.
    let len = if given == 0 { run.window.linear_len().cast_signed() } else { given.cast_signed().wrapping_add(header) };
    let too_long = len.wrapping_add(difference) > mtu.cast_signed().wrapping_add(header);
    run.world.cage.write(at, &mtu.to_ne_bytes()).map_err(fault)?;
    let stands_for_segments = run.kind == ProgramKind::Tc && run.skb.segment_len != 0;
    Ok(match too_long {
        false => MTU_FITS,
        true if !stands_for_segments => MTU_TOO_LONG,
        true if flags & CHECK_SEGMENTS != 0 && segments_too_long(run, mtu) => MTU_SEGMENTS_TOO_LONG,
        true => MTU_FITS,
    })
}

/// `long bpf_check_mtu(ctx, ifindex, mtu_len, len_diff, flags)`: whether a packet fits an interface, and what fits.
pub(super) static CHECK_MTU: Helper = Helper {
    id: 163,
    name: "check_mtu",
    args: &[Arg::Ctx, Arg::Any, Arg::BytesInOut(4), Arg::Any, Arg::Any],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: KINDS,
    body: check_mtu,
};
