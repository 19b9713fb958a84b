//! Descriptions of flows: `udp 10.0.0.0/24:1024-2047 -> 10.1.0.1:53 size 64`.
//!
//! ```text
//! flows    = flow *( ";" flow )
//! flow     = ( "udp" | "tcp" | "icmp" ) endpoint "->" endpoint [ "size" bytes ]
//! endpoint = address [ "/" prefix ] [ ":" port [ "-" port ] ]      (IPv6 addresses stand in [ ])
//! ```
//! A flow stands for all combinations of its addresses and ports; frame after frame goes through them, the source
//! address turning fastest. `size` is the length of the frame in bytes, Ethernet header included, checksum of the link
//! not.
//!
//! Invariant: a flow that was read has frames: ranges run forwards, and its headers fit in its length.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{FlowDefect, SourceError};
use crate::limits::{FLOW_ADDRESSES_MAX, FLOWS_MAX, FRAME_LEN_MAX};

/// Length of a frame where the description does not say.
const FRAME_LEN_DEFAULT: u16 = 64;

/// What a flow's packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// ICMP or ICMPv6 echo requests; ports are identifiers.
    Icmp,
    /// TCP segments with the SYN flag.
    Tcp,
    /// UDP datagrams.
    Udp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Icmp, Self::Tcp, Self::Udp];

    /// Its name in descriptions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Bytes of its header.
    #[must_use]
    pub const fn header_len(self) -> u16 {
        match self {
            Self::Icmp | Self::Udp => 8,
            Self::Tcp => 20,
        }
    }
}

/// Consecutive addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The first.
    pub first: IpAddr,
    /// How many, from 1.
    pub count: u32,
}

/// Consecutive ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Ports {
    fn count(self) -> u64 {
        u64::from(self.last - self.first) + 1
    }
}

/// All combinations of some addresses and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// What its packets are.
    pub protocol: Protocol,
    /// Where they come from.
    pub source: (Addresses, Ports),
    /// Where they go. Of the same family.
    pub target: (Addresses, Ports),
    /// Bytes of each frame.
    pub frame_len: u16,
}

/// One of a flow's combinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tuple {
    pub(super) source: (IpAddr, u16),
    pub(super) target: (IpAddr, u16),
}

impl Flow {
    /// How many combinations it stands for.
    #[must_use]
    pub fn combination_count(&self) -> u64 {
        let side = |(addresses, ports): (Addresses, Ports)| u64::from(addresses.count) * ports.count();
        side(self.source).saturating_mul(side(self.target))
    }

    /// The combination with this number, counted round and round.
    pub(super) fn tuple(&self, number: u64) -> Tuple {
        let mut rest = number;
        let mut turn = |count: u64| {
            let digit = rest % count;
            rest /= count;
            digit
        };
        let source_address = turn(u64::from(self.source.0.count));
        let source_port = turn(self.source.1.count());
        let target_address = turn(u64::from(self.target.0.count));
        let target_port = turn(self.target.1.count());
        Tuple {
            source: (nth(self.source.0, source_address), nth_port(self.source.1, source_port)),
            target: (nth(self.target.0, target_address), nth_port(self.target.1, target_port)),
        }
    }

    fn parse(text: &str) -> Result<Self, FlowDefect> {
        let mut words = text.split_whitespace();
        let mut word = |part| words.next().ok_or(FlowDefect::Ends { part });
        let name = word("protocol")?;
        let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.name() == name);
        let protocol = protocol.ok_or_else(|| FlowDefect::Protocol { word: name.to_owned() })?;
        let source = endpoint(word("source")?)?;
        let arrow = word("arrow")?;
        if arrow != "->" {
            return Err(FlowDefect::Arrow { word: arrow.to_owned() });
        }
        let target = endpoint(word("target")?)?;
        if source.0.first.is_ipv4() != target.0.first.is_ipv4() {
            return Err(FlowDefect::Families);
        }
        let frame_len = match words.next() {
            None => None,
            Some("size") => {
                let size = words.next().unwrap_or_default();
                Some(size.parse().map_err(|_| FlowDefect::SizeWord { word: size.to_owned() })?)
            }
            Some(other) => return Err(FlowDefect::Option { word: other.to_owned() }),
        };
        if let Some(other) = words.next() {
            return Err(FlowDefect::BehindEnd { word: other.to_owned() });
        }
        let mut flow = Self { protocol, source, target, frame_len: 0 };
        let least = flow.headers_len();
        flow.frame_len = frame_len.unwrap_or(FRAME_LEN_DEFAULT.max(least));
        if flow.frame_len < least || u32::from(flow.frame_len) > FRAME_LEN_MAX {
            return Err(FlowDefect::Size { size: flow.frame_len, least });
        }
        Ok(flow)
    }

    /// Bytes of its headers, Ethernet's included.
    pub(super) fn headers_len(&self) -> u16 {
        let network = if self.source.0.first.is_ipv4() { 20 } else { 40 };
        14 + network + self.protocol.header_len()
    }
}

fn nth(addresses: Addresses, index: u64) -> IpAddr {
    match addresses.first {
        IpAddr::V4(first) => {
            let index = u32::try_from(index).expect("below the count, a u32");
            IpAddr::V4(first.to_bits().wrapping_add(index).into())
        }
        IpAddr::V6(first) => IpAddr::V6(first.to_bits().wrapping_add(u128::from(index)).into()),
    }
}

fn nth_port(ports: Ports, index: u64) -> u16 {
    u16::try_from(u64::from(ports.first) + index).expect("the range ends at a u16")
}

fn endpoint(text: &str) -> Result<(Addresses, Ports), FlowDefect> {
    let wrong = |text: &str, part| FlowDefect::Part { text: text.to_owned(), part };
    let (network, ports) = match text.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((network, "")) => (network, None),
        Some((network, rest)) => {
            (network, Some(rest.strip_prefix(':').ok_or_else(|| wrong(rest, ":port behind an IPv6 address"))?))
        }
        None => match text.split_once(':') {
            Some((_, ports)) if ports.contains(':') => {
                return Err(FlowDefect::NoBrackets { text: text.to_owned() });
            }
            Some((network, ports)) => (network, Some(ports)),
            None => (text, None),
        },
    };
    let (first, prefix) = match network.split_once('/') {
        Some((first, prefix)) => (first, Some(prefix)),
        None => (network, None),
    };
    let first: IpAddr = first.parse().map_err(|_| wrong(first, "address"))?;
    let width = if first.is_ipv4() { 32_u32 } else { 128 };
    let host_bits = match prefix {
        None => 0,
        Some(prefix) => {
            let len: u32 = prefix.parse().map_err(|_| wrong(prefix, "prefix length"))?;
            width.checked_sub(len).ok_or_else(|| wrong(prefix, "prefix length"))?
        }
    };
    let count = 1_u32.checked_shl(host_bits).filter(|count| *count <= FLOW_ADDRESSES_MAX);
    let count = count.ok_or_else(|| FlowDefect::Addresses { text: network.to_owned() })?;
    let first = match first {
        IpAddr::V4(first) => IpAddr::V4((first.to_bits() & !(count - 1)).into()),
        IpAddr::V6(first) => IpAddr::V6((first.to_bits() & !u128::from(count - 1)).into()),
    };
    let port = |text: &str| text.parse::<u16>().map_err(|_| wrong(text, "port"));
    let ports = match ports.map(|ports| ports.split_once('-').unwrap_or((ports, ports))) {
        None => Ports { first: 1024, last: 1024 },
        Some((first, last)) => Ports { first: port(first)?, last: port(last)? },
    };
    if ports.first > ports.last {
        return Err(FlowDefect::Ports { first: ports.first, last: ports.last });
    }
    Ok((Addresses { first, count }, ports))
}

impl FromStr for Flow {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        Self::parse(text).map_err(|defect| SourceError::Flows { text: text.to_owned(), defect })
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |f: &mut fmt::Formatter<'_>, (addresses, ports): (Addresses, Ports)| {
            let (width, open, close) = if addresses.first.is_ipv4() { (32, "", "") } else { (128, "[", "]") };
            write!(f, "{open}{}", addresses.first)?;
            if addresses.count > 1 {
                write!(f, "/{}", width - addresses.count.trailing_zeros())?;
            }
            write!(f, "{close}:{}", ports.first)?;
            if ports.last > ports.first { write!(f, "-{}", ports.last) } else { Ok(()) }
        };
        write!(f, "{} ", self.protocol.name())?;
        side(f, self.source)?;
        f.write_str(" -> ")?;
        side(f, self.target)?;
        write!(f, " size {}", self.frame_len)
    }
}

/// One flow or several, which take turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flows {
    flows: Vec<Flow>,
}

impl Flows {
    /// Frames until all combinations of all flows have come.
    pub(super) fn count(&self) -> u64 {
        let most = self.flows.iter().map(Flow::combination_count).max().unwrap_or(0);
        most.saturating_mul(self.flows.len() as u64)
    }

    /// The flow whose turn it is at frame `number`, and the number of its combination.
    pub(super) fn turn(&self, number: u64) -> (&Flow, u64) {
        let count = self.flows.len() as u64;
        let index = usize::try_from(number % count).expect("below the number of flows");
        (&self.flows[index], number / count)
    }
}

impl FromStr for Flows {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        let flows = parts.map(str::parse).collect::<Result<Vec<Flow>, _>>()?;
        let defect = match flows.len() {
            0 => FlowDefect::NoFlow,
            count if count > FLOWS_MAX => FlowDefect::TooMany { count },
            _ => return Ok(Self { flows }),
        };
        Err(SourceError::Flows { text: text.to_owned(), defect })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_read_and_printed_alike() {
        for text in [
            "udp 10.0.0.0/24:1024-2047 -> 10.1.0.1:53 size 64",
            "tcp 192.0.2.1:1 -> 192.0.2.2:80 size 1400",
            "icmp [2001:db8::/120]:7 -> [2001:db8:1::1]:1024 size 64",
            "udp [fd00::]:5-6 -> [fd00::1]:53 size 62",
        ] {
            assert_eq!(text.parse::<Flow>().expect("a flow").to_string(), text);
        }
        let short: Flow = "tcp [::1] -> [::2]".parse().expect("a flow");
        assert_eq!(short.to_string(), "tcp [::1]:1024 -> [::2]:1024 size 74");
    }

    #[test]
    fn the_source_address_turns_fastest_and_all_combinations_come() {
        let flow: Flow = "udp 10.0.0.7/30:8-9 -> 10.1.0.1:53".parse().expect("a flow");
        assert_eq!(flow.combination_count(), 8);
        let seen: Vec<String> = (0..9)
            .map(|number| {
                let Tuple { source, target } = flow.tuple(number);
                format!("{}:{} {}:{}", source.0, source.1, target.0, target.1)
            })
            .collect();
        assert_eq!(seen[0], "10.0.0.4:8 10.1.0.1:53");
        assert_eq!(seen[1], "10.0.0.5:8 10.1.0.1:53");
        assert_eq!(seen[4], "10.0.0.4:9 10.1.0.1:53");
        assert_eq!(seen[7], "10.0.0.7:9 10.1.0.1:53");
        assert_eq!(seen[8], seen[0]);
    }

    #[test]
    fn what_is_no_flow_is_refused_with_the_place() {
        for (text, what) in [
            ("", "it names no flow"),
            ("udp", "it ends before the source"),
            ("sctp 1.2.3.4 -> 1.2.3.5", "\"sctp\" is not udp, tcp or icmp"),
            ("udp 1.2.3.4 1.2.3.5", "\"1.2.3.5\" stands where -> belongs"),
            ("udp 1.2.3.4 -> 1.2.3.5:70000", "\"70000\" is no port"),
            ("udp 1.2.3.4:9-8 -> 1.2.3.5", "ports 9-8 run backwards"),
            ("udp 1.2.3.4/33 -> 1.2.3.5", "\"33\" is no prefix length"),
            ("udp 1.2.3.4/2 -> 1.2.3.5", "\"1.2.3.4/2\" holds more than 1048576 addresses"),
            ("udp [::/0] -> [::1]", "\"::/0\" holds more than 1048576 addresses"),
            ("udp ::1 -> ::2", "\"::1\" is no IPv4 address; an IPv6 address stands in [ ]"),
            ("udp [::1]9 -> [::2]", "\"9\" is no :port behind an IPv6 address"),
            ("udp 1.2.3.4 -> [::1]", "source and target are of different families"),
            ("udp 1.2.3.4 -> 1.2.3.5 size 41", "size 41 is not from 42 to 1792"),
            ("udp 1.2.3.4 -> 1.2.3.5 size", "size \"\" is no number of bytes"),
            ("udp 1.2.3.4 -> 1.2.3.5 burst 3", "\"burst\" is no option of a flow"),
            ("udp 1.2.3.4 -> 1.2.3.5 size 64 3", "\"3\" stands behind the end"),
        ] {
            let error = text.parse::<Flows>().expect_err("no flow").to_string();
            let form = "write for example \"udp 10.0.0.0/24:1024-2047 -> 10.1.0.1:53 size 64\"";
            assert_eq!(error, format!("flows {text:?}: {what}; {form}"));
        }
    }

    #[test]
    fn several_flows_take_turns() {
        let flows: Flows = "udp 1.2.3.4 -> 1.2.3.5; tcp 1.2.3.4 -> 1.2.3.6;".parse().expect("flows");
        let turns: Vec<_> = (0..4).map(|number| (flows.turn(number).0.protocol, flows.turn(number).1)).collect();
        assert_eq!(turns, [(Protocol::Udp, 0), (Protocol::Tcp, 0), (Protocol::Udp, 1), (Protocol::Tcp, 1)]);
        let many = "udp 1.2.3.4 -> 1.2.3.5;".repeat(65);
        assert!(many.parse::<Flows>().expect_err("too many").to_string().contains("it names 65 flows, more than 64"));
    }
}
