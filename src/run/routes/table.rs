//! One table: built, then only read.
//!
//! Semantics are those of `net/ipv4/fib_trie.c`, `net/ipv6/ip6_fib.c` and `net/ipv6/route.c` without policy rules.
//!
//! Invariant: every hop names an interface of the table.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};

use super::prefixes::{Prefixes, bits, leading};

/// Number of the table `local`.
pub(super) const LOCAL: u32 = 255;
/// Number of the table `main`.
pub(super) const MAIN: u32 = 254;
/// Number of the table `default`, which only IPv4 asks.
pub(super) const DEFAULT: u32 = 253;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index, above zero.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its link address.
    pub address: [u8; 6],
    /// Longest packet without the link header, in bytes.
    pub mtu: u32,
    /// Whether frames leave by it.
    pub up: bool,
    /// Whether packets that came in by it are forwarded.
    pub forwards: bool,
    /// Its own network addresses, each with the length of its network's prefix.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// What a route does with packets, `RTN_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Forwards them.
    Unicast,
    /// Loses them.
    Blackhole,
    /// Answers that the destination cannot be reached.
    Unreachable,
    /// Answers that it is not allowed.
    Prohibit,
    /// Leaves the search to the next table.
    Throw,
    /// Any other: not forwarded (local, broadcast, multicast, anycast).
    Kept,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Index of the interface.
    pub interface: u32,
    /// The next router; none where the destination is a neighbour. May be of the other family for IPv4.
    pub gateway: Option<IpAddr>,
    /// Share of the flows, above zero.
    pub weight: u32,
    /// Whether it wraps packets into a tunnel.
    pub wraps: bool,
    /// Whether it is out of use.
    pub dead: bool,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The prefix and its length in bits.
    pub prefix: (IpAddr, u8),
    /// The table that it is in.
    pub table: u32,
    /// What it does.
    pub kind: RouteKind,
    /// Of routes of one prefix, the one with the lowest counts.
    pub metric: u32,
    /// Source address for packets of our own.
    pub source: Option<IpAddr>,
    /// Longest packet where it was set and locked.
    pub mtu: Option<u32>,
    /// Where it leads; several share the flows.
    pub hops: Vec<Hop>,
}

/// A neighbour whose link address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the interface.
    pub interface: u32,
    /// Network address.
    pub address: IpAddr,
    /// Link address.
    pub link: [u8; 6],
}

/// Whether a packet came in or goes out by the interface of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In: any interface may be the way out.
    In,
    /// Out: only routes by this interface count.
    Out,
}

/// What is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Where the packet comes from; of the destination's family.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// Index of the interface.
    pub interface: u32,
    /// What the interface is to the packet.
    pub way: Way,
    /// The only table to look into; otherwise they are asked in their order.
    pub table: Option<u32>,
}

/// Why a packet has no way, as `bpf_fib_lookup` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// By a route that loses it.
    Blackhole,
    /// By a route that says unreachable.
    Unreachable,
    /// By a route that forbids it.
    Prohibit,
    /// There is no route, or it is ours.
    NotForwarded,
}

/// Interfaces, routes and neighbours.
#[derive(Clone, Debug)]
pub struct Routes {
    interfaces: HashMap<u32, Interface>,
    /// By table and family's bits.
    routes: HashMap<(u32, u8), Prefixes<Route>>,
    neighbours: HashMap<(u32, IpAddr), [u8; 6]>,
    /// Of IPv4 and of IPv6, the address that packets carry which leave by an interface without one.
    any_addresses: [Option<IpAddr>; 2],
}

/// The first address of a family that is good beyond its link.
fn any_address(own: &[(u32, IpAddr, u8)], family: u8) -> Option<IpAddr> {
    let global = |address: &IpAddr| match address {
        IpAddr::V4(four) => !four.is_link_local() && !four.is_loopback(),
        IpAddr::V6(six) => !six.is_unicast_link_local() && !six.is_loopback(),
    };
    let all = own.iter().map(|(interface, address, _)| (*interface, *address));
    let first = all.filter(|(_, address)| bits(*address) == family && global(address)).min();
    first.map(|(_, address)| address)
}

/// A table that is being built.
#[derive(Debug)]
pub struct RoutesBuilder {
    routes: Routes,
}

impl RoutesBuilder {
    /// A table without routes; interface addresses are ours, so packets to them are not forwarded.
    #[must_use]
    pub fn new(interfaces: impl IntoIterator<Item = Interface>) -> Self {
        let interfaces = interfaces.into_iter().map(|interface| (interface.index, interface)).collect();
        let routes =
            Routes { interfaces, routes: HashMap::new(), neighbours: HashMap::new(), any_addresses: [None; 2] };
        let mut builder = Self { routes };
        let own: Vec<(u32, IpAddr, u8)> = builder.routes.own_addresses().collect();
        builder.routes.any_addresses = [32, 128].map(|family| any_address(&own, family));
        for (interface, address, len) in own {
            let mut keep = |prefix| builder.keep(interface, prefix);
            keep((address, bits(address)));
            if let IpAddr::V4(four) = address {
                if four.is_loopback() {
                    keep((address, len));
                }
                let host_bits = u32::MAX.checked_shr(len.into()).unwrap_or(0);
                if host_bits > 1 {
                    keep((Ipv4Addr::from_bits(four.to_bits() | host_bits).into(), 32));
                }
            }
        }
        builder
    }

    fn keep(&mut self, interface: u32, prefix: (IpAddr, u8)) {
        let hop = Hop { interface, gateway: None, weight: 1, wraps: false, dead: false };
        self.route(Route {
            prefix,
            table: LOCAL,
            kind: RouteKind::Kept,
            metric: 0,
            source: None,
            mtu: None,
            hops: vec![hop],
        });
    }

    /// Adds a route.
    ///
    /// # Panics
    /// If a hop names no interface of the table: the caller asks first.
    pub fn route(&mut self, route: Route) {
        let known = |hop: &Hop| self.routes.interfaces.contains_key(&hop.interface);
        assert!(route.hops.iter().all(known), "the caller asks whether each hop's interface exists");
        let (address, len) = route.prefix;
        let family = bits(address);
        // Without policy rules the kernel keeps `local` and `main` of IPv4 in one trie.
        let table = if family == 32 && route.table == LOCAL { MAIN } else { route.table };
        self.routes.routes.entry((table, family)).or_default().push(address, len.min(family), route);
    }

    /// Adds a neighbour, or changes it.
    pub fn neighbour(&mut self, neighbour: Neighbour) {
        self.routes.neighbours.insert((neighbour.interface, neighbour.address), neighbour.link);
    }

    /// The finished table.
    #[must_use]
    pub fn finish(mut self) -> Routes {
        for list in self.routes.routes.values_mut().flat_map(Prefixes::lists) {
            list.sort_by_key(|route| (std::cmp::Reverse(route.table), route.metric));
        }
        self.routes
    }
}

impl Routes {
    /// A table of one interface with index 1, as on the loopback interface where the kernel's test runs take place.
    #[must_use]
    pub fn of_loopback() -> Self {
        let loopback = Interface {
            index: 1,
            name: "lo".to_owned(),
            address: [0; 6],
            mtu: 65536,
            up: true,
            forwards: true,
            addresses: Vec::new(),
        };
        RoutesBuilder::new([loopback]).finish()
    }

    /// The interface with this index.
    #[must_use]
    pub fn interface(&self, index: u32) -> Option<&Interface> {
        self.interfaces.get(&index)
    }

    /// Index of the interface with this name.
    #[must_use]
    pub fn interface_by_name(&self, name: &str) -> Option<u32> {
        self.interfaces.values().find(|interface| interface.name == name).map(|interface| interface.index)
    }

    /// Link address of a neighbour.
    #[must_use]
    pub fn neighbour(&self, interface: u32, address: IpAddr) -> Option<[u8; 6]> {
        self.neighbours.get(&(interface, address)).copied()
    }

    /// The route and hop that a packet takes.
    ///
    /// # Errors
    /// Why it has none.
    pub fn lookup(&self, query: &Query) -> Result<(&Route, &Hop), Miss> {
        let family = bits(query.destination);
        let all: &[u32] = if family == 32 { &[MAIN, DEFAULT] } else { &[LOCAL, MAIN] };
        let one = query.table.map(|table| [if family == 32 && table == LOCAL { MAIN } else { table }]);
        let tables = one.as_ref().map_or(all, <[u32; 1]>::as_slice);
        for table in tables {
            let covering = self.routes.get(&(*table, family)).map(|routes| routes.covering(query.destination));
            let route = covering.into_iter().flatten().find(|route| self.fits(route, query));
            match route {
                None => {}
                Some(route) => match route.kind {
                    RouteKind::Unicast => {
                        let hop = self.choose(route, query).ok_or(Miss::NotForwarded)?;
                        return Ok((route, hop));
                    }
                    RouteKind::Blackhole => return Err(Miss::Blackhole),
                    RouteKind::Unreachable => return Err(Miss::Unreachable),
                    RouteKind::Prohibit => return Err(Miss::Prohibit),
                    RouteKind::Kept => return Err(Miss::NotForwarded),
                    RouteKind::Throw => {}
                },
            }
        }
        Err(Miss::NotForwarded)
    }

    fn fits(&self, route: &Route, query: &Query) -> bool {
        match route.kind {
            RouteKind::Unicast | RouteKind::Kept => route.hops.iter().any(|hop| self.leads(hop, query)),
            RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Throw => true,
        }
    }

    /// Whether the query may take the hop. To IPv6 the interface of a packet that goes out is a wish.
    fn leads(&self, hop: &Hop, query: &Query) -> bool {
        let up = self.interface(hop.interface).is_some_and(|interface| interface.up);
        let wanted = query.way == Way::In || query.destination.is_ipv6() || hop.interface == query.interface;
        up && !hop.dead && wanted
    }

    /// Of several hops one by the packet's addresses, so that a flow keeps to it.
    fn choose<'r>(&self, route: &'r Route, query: &Query) -> Option<&'r Hop> {
        let mut usable: Vec<&Hop> = route.hops.iter().filter(|hop| self.leads(hop, query)).collect();
        if query.way == Way::Out && usable.iter().any(|hop| hop.interface == query.interface) {
            usable.retain(|hop| hop.interface == query.interface);
        }
        if let [only] = usable[..] {
            return Some(only);
        }
        let total: u64 = usable.iter().map(|hop| u64::from(hop.weight)).sum();
        let mut hasher = DefaultHasher::new();
        (query.source, query.destination).hash(&mut hasher);
        let mut at = hasher.finish() % total.max(1);
        usable.into_iter().find(|hop| {
            let found = at < hop.weight.into();
            at = at.saturating_sub(hop.weight.into());
            found
        })
    }

    /// The address that packets of our own would carry on this way (`fib_result_prefsrc`, `ipv6_dev_get_saddr`).
    #[must_use]
    pub fn source(&self, route: &Route, hop: &Hop, destination: IpAddr) -> Option<IpAddr> {
        if route.source.is_some() {
            return route.source;
        }
        let family = bits(destination);
        let interface = self.interface(hop.interface)?;
        let own = || interface.addresses.iter().filter(|(address, _)| bits(*address) == family);
        if family == 32 {
            let gateway = hop.gateway.filter(IpAddr::is_ipv4);
            let near =
                |(address, len): &&(IpAddr, u8)| gateway.is_some_and(|at| leading(at, *len) == leading(*address, *len));
            let found = own().find(near).or_else(|| own().next()).map(|(address, _)| *address);
            return found.or(self.any_addresses[0]);
        }
        let common = |address: IpAddr| (leading(address, 128) ^ leading(destination, 128)).leading_zeros();
        let global = |address: &IpAddr| matches!(address, IpAddr::V6(six) if !six.is_unicast_link_local());
        let own = own().map(|(address, _)| *address).filter(global);
        own.max_by_key(|address| common(*address)).or(self.any_addresses[1])
    }

    fn own_addresses(&self) -> impl Iterator<Item = (u32, IpAddr, u8)> {
        self.interfaces.values().flat_map(|interface| {
            interface.addresses.iter().map(move |(address, len)| (interface.index, *address, *len))
        })
    }
}
