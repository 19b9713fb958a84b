//! Reads a table from what iproute2 prints: one object of the arrays of `ip -j address`, `ip -j route`, `ip -6 -j route` and
//! `ip -j neigh`.
//!
//! What iproute2 does not tell has fields of our own: `forwarding` of an interface (true unless it says otherwise) and
//! `lock` beside a metric `mtu`.
//!
//! Invariant: a file is taken whole or refused with the place of its first defect.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;
use serde_json::Value;

use super::prefixes::bits;
use super::table::{DEFAULT, Hop, Interface, LOCAL, MAIN, Neighbour, Route, RouteKind, Routes, RoutesBuilder};

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteFault {
    /// An interface is not listed.
    #[error("no interface is named {name:?}; list it under interfaces")]
    Interface {
        /// The name.
        name: String,
    },
    /// An address or prefix cannot be read.
    #[error("{text:?} is no address; write it as ip -j does")]
    Address {
        /// The text.
        text: String,
    },
    /// A gateway or source belongs to another family than the route.
    #[error("{address} is of another family than {prefix}; write an address of its family")]
    Family {
        /// The address.
        address: IpAddr,
        /// The prefix.
        prefix: IpAddr,
    },
    /// A link address cannot be read.
    #[error("{text:?} is no link address; write six bytes, 02:00:00:00:00:01")]
    Link {
        /// The text.
        text: String,
    },
    /// A table's name is unknown.
    #[error("no table is named {name:?}; write local, main, default or a number")]
    Table {
        /// The name.
        name: String,
    },
    /// A route that forwards has no interface.
    #[error("it forwards and names no interface; write dev or nexthops")]
    NoHop,
    /// Two interfaces are the same.
    #[error("interface {index} is there already; give each an index of its own")]
    Twice {
        /// The index.
        index: u32,
    },
}

/// A table of routes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    /// It is no JSON, or not of the form.
    #[error(
        "routes: {source}; write {{\"interfaces\": [..], \"routes\": [..], \"neighbours\": [..]}} as ip -j prints them"
    )]
    Json {
        /// What and where.
        #[from]
        source: serde_json::Error,
    },
    /// An entry is wrong.
    #[error("{list} {number}: {fault}")]
    Entry {
        /// Which array.
        list: &'static str,
        /// Which entry, from 1.
        number: usize,
        /// What is wrong.
        fault: RouteFault,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    interfaces: Vec<RawInterface>,
    #[serde(default)]
    routes: Vec<RawRoute>,
    #[serde(default)]
    routes6: Vec<RawRoute>,
    #[serde(default, alias = "neighbors")]
    neighbours: Vec<RawNeighbour>,
}

#[derive(Deserialize)]
struct RawInterface {
    ifindex: u32,
    ifname: String,
    #[serde(default)]
    flags: Option<Vec<String>>,
    mtu: u32,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    addr_info: Vec<RawAddress>,
    #[serde(default)]
    forwarding: Option<bool>,
}

#[derive(Deserialize)]
struct RawAddress {
    local: Option<IpAddr>,
    prefixlen: Option<u8>,
}

#[derive(Deserialize)]
struct RawRoute {
    dst: String,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    table: Option<Value>,
    #[serde(default)]
    metric: Option<u32>,
    #[serde(default)]
    prefsrc: Option<IpAddr>,
    #[serde(default)]
    metrics: Vec<RawMetrics>,
    #[serde(default)]
    nexthops: Vec<RawHop>,
    #[serde(flatten)]
    hop: RawHop,
}

#[derive(Deserialize)]
struct RawMetrics {
    #[serde(default)]
    mtu: Option<u32>,
    #[serde(default)]
    lock: bool,
}

#[derive(Deserialize)]
struct RawHop {
    #[serde(default)]
    dev: Option<String>,
    #[serde(default)]
    gateway: Option<IpAddr>,
    #[serde(default)]
    via: Option<RawVia>,
    #[serde(default)]
    weight: Option<u32>,
    #[serde(default)]
    encap: Option<Value>,
    #[serde(default)]
    flags: Vec<String>,
}

#[derive(Deserialize)]
struct RawVia {
    host: IpAddr,
}

#[derive(Deserialize)]
struct RawNeighbour {
    dst: IpAddr,
    dev: String,
    #[serde(default)]
    lladdr: Option<String>,
    #[serde(default)]
    state: Vec<String>,
}

/// States of a neighbour whose link address is not to be used.
const INVALID_STATES: [&str; 3] = ["INCOMPLETE", "FAILED", "NONE"];

impl Routes {
    /// Reads a table.
    ///
    /// # Errors
    /// [`RoutesError`].
    pub fn parse(json: &str) -> Result<Self, RoutesError> {
        let file: File = serde_json::from_str(json)?;
        let mut names = HashMap::new();
        let mut interfaces = HashMap::new();
        for (number, raw) in (1..).zip(&file.interfaces) {
            let at = |fault| RoutesError::Entry { list: "interfaces", number, fault };
            let interface = interface(raw).map_err(at)?;
            let index = interface.index;
            names.insert(interface.name.clone(), index);
            if interfaces.insert(index, interface).is_some() {
                return Err(at(RouteFault::Twice { index }));
            }
        }
        let mut builder = RoutesBuilder::new(interfaces.into_values());
        let lists = [
            ("routes", &file.routes, Ipv4Addr::UNSPECIFIED.into()),
            ("routes6", &file.routes6, Ipv6Addr::UNSPECIFIED.into()),
        ];
        for (list, raws, any) in lists {
            for (number, raw) in (1..).zip(raws) {
                let route = route(raw, any, &names);
                builder.route(route.map_err(|fault| RoutesError::Entry { list, number, fault })?);
            }
        }
        for (number, raw) in (1..).zip(&file.neighbours) {
            let neighbour = neighbour(raw, &names);
            let neighbour = neighbour.map_err(|fault| RoutesError::Entry { list: "neighbours", number, fault })?;
            if let Some(neighbour) = neighbour {
                builder.neighbour(neighbour);
            }
        }
        Ok(builder.finish())
    }
}

fn interface(raw: &RawInterface) -> Result<Interface, RouteFault> {
    let addresses = raw.addr_info.iter().filter_map(|address| {
        let local = address.local?;
        let bits = bits(local);
        Some((local, address.prefixlen.unwrap_or(bits).min(bits)))
    });
    Ok(Interface {
        index: raw.ifindex,
        name: raw.ifname.clone(),
        address: raw.address.as_deref().map_or(Ok([0; 6]), link)?,
        mtu: raw.mtu,
        up: raw.flags.as_ref().is_none_or(|flags| flags.iter().any(|flag| flag == "UP")),
        forwards: raw.forwarding.unwrap_or(true),
        addresses: addresses.collect(),
    })
}

fn link(text: &str) -> Result<[u8; 6], RouteFault> {
    let wrong = || RouteFault::Link { text: text.to_owned() };
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16).map_err(|_| wrong()));
    bytes.collect::<Result<Vec<u8>, RouteFault>>()?.try_into().map_err(|_| wrong())
}

fn index(names: &HashMap<String, u32>, name: &str) -> Result<u32, RouteFault> {
    names.get(name).copied().ok_or_else(|| RouteFault::Interface { name: name.to_owned() })
}

fn neighbour(raw: &RawNeighbour, names: &HashMap<String, u32>) -> Result<Option<Neighbour>, RouteFault> {
    let interface = index(names, &raw.dev)?;
    let valid = !raw.state.iter().any(|state| INVALID_STATES.contains(&state.as_str()));
    match &raw.lladdr {
        Some(text) if valid => Ok(Some(Neighbour { interface, address: raw.dst, link: link(text)? })),
        Some(_) | None => Ok(None),
    }
}

fn table(value: &Value) -> Result<u32, RouteFault> {
    let name = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match name.as_str() {
        "local" => Ok(LOCAL),
        "main" => Ok(MAIN),
        "default" => Ok(DEFAULT),
        number => number.parse().map_err(|_| RouteFault::Table { name }),
    }
}

fn hop(raw: &RawHop, names: &HashMap<String, u32>) -> Result<Option<Hop>, RouteFault> {
    let Some(dev) = &raw.dev else { return Ok(None) };
    Ok(Some(Hop {
        interface: index(names, dev)?,
        gateway: raw.gateway.or(raw.via.as_ref().map(|via| via.host)),
        weight: raw.weight.unwrap_or(1).max(1),
        wraps: raw.encap.is_some(),
        dead: raw.flags.iter().any(|flag| flag == "dead"),
    }))
}

/// The prefix of a route. `default` is of the family of its gateway or source, or else of the list's.
fn prefix(raw: &RawRoute, any: IpAddr) -> Result<(IpAddr, u8), RouteFault> {
    if raw.dst == "default" {
        let near = raw.hop.gateway.or(raw.prefsrc).or(raw.nexthops.iter().find_map(|hop| hop.gateway));
        let any = match near {
            Some(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
            Some(IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
            None => any,
        };
        return Ok((any, 0));
    }
    let wrong = || RouteFault::Address { text: raw.dst.clone() };
    let (address, len) = match raw.dst.split_once('/') {
        Some((address, len)) => (address, Some(len.parse::<u8>().map_err(|_| wrong())?)),
        None => (raw.dst.as_str(), None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let len = len.unwrap_or(bits(address));
    if len > bits(address) { Err(wrong()) } else { Ok((address, len)) }
}

fn route(raw: &RawRoute, any: IpAddr, names: &HashMap<String, u32>) -> Result<Route, RouteFault> {
    let prefix = prefix(raw, any)?;
    let kind = match raw.kind.as_deref() {
        None | Some("unicast") => RouteKind::Unicast,
        Some("blackhole") => RouteKind::Blackhole,
        Some("unreachable") => RouteKind::Unreachable,
        Some("prohibit") => RouteKind::Prohibit,
        Some("throw") => RouteKind::Throw,
        Some(_) => RouteKind::Kept,
    };
    let mut hops = Vec::new();
    // Errors are shown with an interface that means nothing, lo for one.
    if matches!(kind, RouteKind::Unicast | RouteKind::Kept) {
        for raw in raw.nexthops.iter().chain([&raw.hop]) {
            hops.extend(hop(raw, names)?);
        }
    }
    if hops.is_empty() && kind == RouteKind::Unicast {
        return Err(RouteFault::NoHop);
    }
    // IPv4 may go by a router of IPv6, not the other way round.
    let other = |address: &IpAddr| prefix.0.is_ipv6() && address.is_ipv4();
    let wrong = hops.iter().filter_map(|hop| hop.gateway).find(other);
    let wrong = wrong.or(raw.prefsrc.filter(|source| bits(*source) != bits(prefix.0)));
    if let Some(address) = wrong {
        return Err(RouteFault::Family { address, prefix: prefix.0 });
    }
    let default_metric = if prefix.0.is_ipv6() { 1024 } else { 0 };
    Ok(Route {
        prefix,
        table: raw.table.as_ref().map_or(Ok(MAIN), table)?,
        kind,
        metric: raw.metric.unwrap_or(default_metric),
        source: raw.prefsrc,
        mtu: raw.metrics.iter().filter(|metrics| metrics.lock).find_map(|metrics| metrics.mtu),
        hops,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Miss, Query, Way};
    use super::*;

    const FILE: &str = r#"{
        "interfaces": [
            {"ifindex": 2, "ifname": "eth0", "flags": ["BROADCAST", "UP"], "mtu": 1500, "address": "02:00:00:00:00:01",
             "addr_info": [{"family": "inet", "local": "10.1.0.1", "prefixlen": 16}, {}]},
            {"ifindex": 3, "ifname": "eth1", "mtu": 9000, "forwarding": false},
            {"ifindex": 4, "ifname": "eth2", "flags": [], "mtu": 1500}],
        "routes": [
            {"dst": "default", "gateway": "10.1.0.9", "dev": "eth0", "protocol": "static", "flags": []},
            {"dst": "10.1.0.0/16", "dev": "eth0", "scope": "link", "prefsrc": "10.1.0.1", "flags": []},
            {"dst": "10.2.0.0/16", "flags": [], "metrics": [{"mtu": 1300, "lock": true}], "nexthops": [
                {"gateway": "10.1.0.2", "dev": "eth0", "weight": 3, "flags": []},
                {"gateway": "10.9.0.2", "dev": "eth1", "weight": 1, "flags": []}]},
            {"dst": "10.3.0.0/16", "dev": "eth2"},
            {"dst": "10.3.0.0/16", "dev": "eth0", "metric": 7},
            {"dst": "10.4.0.0/16", "type": "blackhole"},
            {"dst": "10.5.0.7", "dev": "eth1", "table": 100},
            {"dst": "10.6.0.0/16", "via": {"family": "inet6", "host": "fd00::9"}, "dev": "eth1"}],
        "routes6": [{"dst": "default", "dev": "eth1"}],
        "neighbours": [{"dst": "10.1.0.9", "dev": "eth0", "lladdr": "02:00:00:00:00:09", "state": ["REACHABLE"]},
                       {"dst": "10.1.0.8", "dev": "eth0", "lladdr": "02:00:00:00:00:08", "state": ["FAILED"]},
                       {"dst": "10.1.0.7", "dev": "eth0", "state": ["INCOMPLETE"]}]
    }"#;

    fn query(destination: &str) -> Query {
        let destination: IpAddr = destination.parse().expect("an address");
        let source = if destination.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" };
        let source = source.parse().expect("an address");
        Query { source, destination, interface: 2, way: Way::In, table: None }
    }

    fn way(routes: &Routes, query: &Query) -> Result<(u32, u32), Miss> {
        routes.lookup(query).map(|(route, hop)| (hop.interface, route.metric))
    }

    #[test]
    fn what_iproute2_prints_becomes_a_table() {
        let routes = Routes::parse(FILE).expect("well-formed");
        assert_eq!(way(&routes, &query("8.8.8.8")), Ok((2, 0)));
        assert_eq!(way(&routes, &query("10.1.0.1")), Err(Miss::NotForwarded), "our own");
        assert_eq!(way(&routes, &query("10.1.255.255")), Err(Miss::NotForwarded), "to all");
        assert_eq!(way(&routes, &query("10.3.1.1")), Ok((2, 7)), "the other interface is down");
        assert_eq!(way(&routes, &query("10.4.1.1")), Err(Miss::Blackhole));
        assert_eq!(way(&routes, &query("10.5.0.7")), Ok((2, 0)));
        assert_eq!(way(&routes, &Query { table: Some(100), ..query("10.5.0.7") }), Ok((3, 0)));
        assert_eq!(way(&routes, &Query { table: Some(100), ..query("10.5.0.8") }), Err(Miss::NotForwarded));
        assert_eq!(way(&routes, &query("2001:db8::7")), Ok((3, 1024)));
        let out = Query { interface: 3, way: Way::Out, ..query("10.2.0.1") };
        assert_eq!(way(&routes, &out), Ok((3, 0)), "the hop by that interface");
        assert_eq!(routes.lookup(&query("10.2.0.1")).expect("a route").0.mtu, Some(1300));
        let nine = [2, 0, 0, 0, 0, 9];
        assert_eq!(routes.neighbour(2, "10.1.0.9".parse().expect("an address")), Some(nine));
        assert_eq!(routes.neighbour(2, "10.1.0.8".parse().expect("an address")), None);
        assert_eq!(routes.interface_by_name("eth1"), Some(3));
    }

    #[test]
    fn flows_spread_over_hops_by_weight_and_keep_to_theirs() {
        let routes = Routes::parse(FILE).expect("well-formed");
        let mut first = 0;
        for last in 0..=255u8 {
            let query = Query { destination: Ipv4Addr::new(10, 2, 0, last).into(), ..query("10.2.0.0") };
            assert_eq!(way(&routes, &query), way(&routes, &query));
            first += u32::from(way(&routes, &query) == Ok((2, 0)));
        }
        assert!((150..230).contains(&first), "three of four: {first} of 256");
    }

    #[test]
    fn a_wrong_file_is_refused_with_the_place() {
        let refused = |json: &str| Routes::parse(json).expect_err("refused").to_string();
        let with = |list: &str| format!(r#"{{"interfaces": [{{"ifindex": 2, "ifname": "e", "mtu": 1500}}], {list}}}"#);
        let eth = r#"{"ifindex": 2, "ifname": "e", "mtu": 1, "address": "02:00"}"#;
        let cases = [
            (
                format!(r#"{{"interfaces": [{eth}]}}"#),
                "interfaces 1: \"02:00\" is no link address; write six bytes, 02:00:00:00:00:01",
            ),
            (
                r#"{"interfaces": [{"ifindex": 2, "ifname": "a", "mtu": 1}, {"ifindex": 2, "ifname": "b", "mtu": 1}]}"#
                    .to_owned(),
                "interfaces 2: interface 2 is there already; give each an index of its own",
            ),
            (
                with(r#""routes": [{"dst": "10.0.0.0/8", "dev": "x"}]"#),
                "routes 1: no interface is named \"x\"; list it under interfaces",
            ),
            (
                with(r#""routes": [{"dst": "10.0.0.0/33", "dev": "e"}]"#),
                "routes 1: \"10.0.0.0/33\" is no address; write it as ip -j does",
            ),
            (
                with(r#""routes": [{"dst": "10.0.0.0/8"}]"#),
                "routes 1: it forwards and names no interface; write dev or nexthops",
            ),
            (
                with(r#""routes6": [{"dst": "fd00::/8", "dev": "e", "gateway": "10.0.0.1"}]"#),
                "routes6 1: 10.0.0.1 is of another family than fd00::; write an address of its family",
            ),
            (
                with(r#""routes": [{"dst": "10.0.0.0/8", "dev": "e", "table": "blue"}]"#),
                "routes 1: no table is named \"blue\"; write local, main, default or a number",
            ),
            (
                with(r#""neighbours": [{"dst": "10.0.0.1", "dev": "y", "lladdr": "02:00:00:00:00:01"}]"#),
                "neighbours 1: no interface is named \"y\"; list it under interfaces",
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(refused(&json), expected);
        }
        assert!(refused("7").starts_with("routes: invalid type: integer"), "{}", refused("7"));
    }
}
