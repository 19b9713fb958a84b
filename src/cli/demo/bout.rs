//! The two hosts of the demonstration, and the traffic between them.
//!
//! Traffic is offered as fast as the peer takes it, and no faster: frames under way are limited, so that socket buffers of
//! an ordinary user do not overflow, in any mode.
//!
//! Invariant: every frame that left one host is received by the other or counted as dropped, or the command fails.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cli::CliError;
use crate::control::source::{Frames, Link, Pace, Rate, Sending};
use crate::elf::Object;
use crate::flow::{Addresses, Hook, Host, HostConfig, PortStats, Stats};
use crate::port::PortSpec;
use crate::port::udp::{IoPath, Trains, WireConfig};
use crate::vm::Instance;

/// The balancer of A, built from `balancer.c` beside this file.
pub(super) const BALANCER: (&str, &[u8]) = ("balancer.o", include_bytes!("balancer.o"));
/// The firewall of B, built from `firewall.c` beside this file.
pub(super) const FIREWALL: (&str, &[u8]) = ("firewall.o", include_bytes!("firewall.o"));

/// What A sends: questions to a name server, from 256 addresses, and connections.
const A_SENDS: &str = "udp 10.0.0.0/24:1024-2047 -> 10.1.0.1:53 size 64; tcp 10.0.0.0/24:1024-2047 -> 10.1.0.1:22";
/// What B sends: requests to the balanced service, and pings of A.
const B_SENDS: &str = "udp 10.2.0.0/24:1024-2047 -> 10.1.0.9:9000 size 64; udp 10.2.1.0/24:1024-2047 -> 10.1.0.9:9000 \
                       size 128; icmp 10.0.0.2 -> 10.0.0.1 size 98";

/// Frames under way in one direction beyond which its source waits.
const UNDER_WAY_MAX: u64 = 128;
/// How long the last frames may take to arrive.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(5);

/// A host of the demonstration.
#[derive(Debug)]
pub(super) struct Corner {
    pub(super) host: Arc<Host>,
    pub(super) instance: Arc<Instance>,
    source: Sending,
}

/// Both hosts, sparring.
#[derive(Debug)]
pub(super) struct Bout {
    pub(super) a: Corner,
    pub(super) b: Corner,
    begin: Instant,
}

/// What was counted in the end.
#[derive(Debug)]
pub(super) struct BoutResult {
    pub(super) time: Duration,
    pub(super) io: String,
    pub(super) a: Stats,
    pub(super) b: Stats,
}

impl Bout {
    pub(super) fn start(io: IoPath, rate: Rate) -> Result<Self, CliError> {
        let [a, b] = addresses(std::process::id());
        let a = host("A", 1, WireConfig { local: a, peer: b }, io)?;
        let b = host("B", 2, WireConfig { local: b, peer: a.local().expect("a wire over UDP") }, io)?;
        let balancer = attach(&a, BALANCER, "balance")?;
        let firewall = attach(&b, FIREWALL, "firewall")?;
        let sources = [
            source(&a, &b, A_SENDS, rate).map_err(CliError::host_failed)?,
            source(&b, &a, B_SENDS, rate).map_err(CliError::host_failed)?,
        ];
        let [from_a, from_b] = sources;
        Ok(Self {
            a: Corner { host: a, instance: balancer, source: from_a },
            b: Corner { host: b, instance: firewall, source: from_b },
            begin: Instant::now(),
        })
    }

    /// Time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Sleeps until a moment after the start.
    pub(super) fn sleep_until(&self, moment: Duration) {
        std::thread::sleep(moment.saturating_sub(self.elapsed()));
    }

    /// Ends the traffic, waits until what was sent has arrived, and stops both hosts.
    pub(super) fn end(mut self) -> BoutResult {
        let time = self.elapsed();
        self.a.source.stop();
        self.b.source.stop();
        let give_up = Instant::now() + SETTLE_TIME_MAX;
        while under_way(&self.a.host, &self.b.host, 0) + under_way(&self.b.host, &self.a.host, 0) > 0
            && Instant::now() < give_up
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.a.host.stop();
        self.b.host.stop();
        BoutResult { time, io: self.a.host.io_report(), a: self.a.host.stats(), b: self.b.host.stats() }
    }
}

impl BoutResult {
    /// Whether the books are exact and every frame is accounted for.
    pub(super) fn check(&self) -> Result<(), CliError> {
        for (from, to) in [(&self.a, &self.b), (&self.b, &self.a)] {
            let lost = lost(from, to);
            if lost != 0 {
                let what = format!("{lost} frames from {} to {} are unaccounted for", from.host, to.host);
                return Err(CliError::host_failed(format!("demo: {what}; report it with the output of --json")));
            }
            if !port(to).is_balanced() {
                let what = format!("the books of {} are not exact", to.host);
                return Err(CliError::host_failed(format!("demo: {what}; report it with the output of --json")));
            }
        }
        Ok(())
    }
}

/// Frames that left one host and are neither received by the other nor counted as dropped by its socket.
pub(super) fn lost(from: &Stats, to: &Stats) -> i128 {
    let arrived = port(to).rx + port(to).socket_drops;
    i128::from(port(from).tx_frames) - i128::from(arrived)
}

/// The counts of the wire port.
pub(super) fn port(stats: &Stats) -> &PortStats {
    stats.ports.first().expect("a host has a wire port")
}

/// Loopback addresses of this process's own, so that several demonstrations do not meet.
fn addresses(process: u32) -> [SocketAddr; 2] {
    let [_, high, middle, low] = process.to_be_bytes();
    let address = IpAddr::V4(Ipv4Addr::new(127, 64 | high & 0x3f, middle, low));
    [SocketAddr::new(address, 7001), SocketAddr::new(address, 7002)]
}

fn host(name: &str, number: u8, wire: WireConfig, io: IoPath) -> Result<Arc<Host>, CliError> {
    let wire = PortSpec::udp(wire, io, Trains::On);
    let config = HostConfig { responder: Addresses::numbered(number), ..HostConfig::new(name, wire) };
    Host::start(config).map_err(CliError::host_failed)
}

fn attach(host: &Host, (name, bytes): (&str, &[u8]), program: &str) -> Result<Arc<Instance>, CliError> {
    let object = Object::parse(name, bytes).map_err(CliError::refused)?;
    let id = host.load(&object).map_err(CliError::refused)?;
    let loaded = host.program(program).and_then(|program| host.attach(&program, Hook::Xdp));
    loaded.map_err(CliError::refused)?;
    let instance = host.instances().into_iter().find(|(own, _)| *own == id);
    Ok(instance.expect("nobody else commands the host").1)
}

fn source(
    from: &Arc<Host>,
    to: &Arc<Host>,
    flows: &str,
    rate: Rate,
) -> Result<Sending, crate::control::source::SourceError> {
    let link = Link { source: from.config().responder.mac.0, target: to.config().responder.mac.0 };
    let frames = Frames::Flows(flows.parse()?, link);
    let (from, to) = (Arc::clone(from), Arc::clone(to));
    let mut accepted = 0;
    let sink = move |burst: &[&[u8]]| {
        let room = UNDER_WAY_MAX.saturating_sub(under_way(&from, &to, accepted));
        let offered = &burst[..burst.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        let taken = from.send(offered).ok()?;
        accepted += taken as u64;
        Some(taken)
    };
    Sending::start(frames, Pace { rate, count: None, time: None }, sink)
}

/// Frames that left `from`, or were accepted from its source and will, and are not counted at `to` yet.
fn under_way(from: &Host, to: &Host, accepted: u64) -> u64 {
    let (from, to) = (from.stats(), to.stats());
    let (from, to) = (port(&from), port(&to));
    let left = from.tx + from.redirect + from.replies + from.sent.max(accepted);
    left.saturating_sub(to.rx + to.socket_drops + from.tx_errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_spars_on_addresses_of_its_own() {
        assert_eq!(addresses(1)[0].to_string(), "127.64.0.1:7001");
        assert_eq!(addresses(4_194_304)[1].to_string(), "127.64.0.0:7002");
        assert_ne!(addresses(70_000), addresses(70_001));
    }
}
