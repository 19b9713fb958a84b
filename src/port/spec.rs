//! Ports as text: `KIND:ADDRESS?OPTION=VALUE&OPTION=VALUE`, which the command line and configuration files share.
//!
//! ```text
//! udp:LOCAL-PEER        io=auto|ring|plain  trains=on|off
//! packet:INTERFACE      receive=blocks|ring  fanout=GROUP  bypass=on|off  io=
//! tap:INTERFACE         super=on|off  io=
//! af_xdp:INTERFACE      mode=generic|driver
//! shm:PATH
//! pcap:INPUT            out=PATH  timing=on|off
//! link:NAME
//! any                   fault.seed= fault.loss= fault.duplicate= fault.corrupt= fault.reorder= fault.delay= fault.partition=
//!                       record=PATH  trace=PATH
//! ```
//!
//! Invariant: what is printed is read as the same.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::af_xdp::{XdpConfig, XdpMode, XdpPort, XdpQueue};
use super::fault::DELAY_US_MAX;
use super::packet::{PacketConfig, PacketPort, PacketSocket, Queueing, Receive};
use super::paper::Paper;
use super::record::file_header;
use super::tap::{SuperFrames, TapConfig, TapPort, TapQueue};
use super::udp::{IoPath, Socket, Trains, UdpPort, WireConfig};
use super::{
    Chance, FaultConfig, FaultPort, Link, LinkEnd, LinkPort, PcapConfig, PcapPort, PcapShare, Pool, Port, PortError,
    RecordPort, ShmPort, ShmShare, Span, Timing, TracePort, Wake,
};

/// Bytes of an interface's name; the kernel's `IFNAMSIZ` with the closing zero.
const INTERFACE_NAME_LEN_MAX: usize = 15;

/// A kind of port, and where its wire is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverSpec {
    /// Datagrams to a peer.
    Udp {
        /// The ends.
        wire: WireConfig,
        /// How datagrams are moved.
        io: IoPath,
        /// Whether frames travel in trains.
        trains: Trains,
    },
    /// An interface by a packet socket.
    Packet(PacketConfig),
    /// A tap.
    Tap(TapConfig),
    /// An interface by AF_XDP.
    AfXdp(XdpConfig),
    /// Memory shared with another process.
    Shm {
        /// Where the two meet.
        path: String,
    },
    /// Captures.
    Pcap(PcapConfig),
    /// A cable within this process.
    Link {
        /// Its name.
        name: String,
    },
}

/// A port as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// Its kind.
    pub driver: DriverSpec,
    /// What its wire does to frames.
    pub fault: Option<FaultConfig>,
    /// Where what passes is captured.
    pub record: Option<String>,
    /// Where what passes is told.
    pub trace: Option<String>,
}

/// Text that asks for no port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No driver has the name.
    #[error(
        "port {spec:?}: no such kind; use af_xdp, link, packet, pcap, shm, tap or udp, and an address behind a colon"
    )]
    Kind {
        /// The text.
        spec: String,
    },
    /// The address is none of its kind.
    #[error("port {spec:?}: {kind} has an address like {form}; mend it")]
    Address {
        /// The text.
        spec: String,
        /// The kind.
        kind: &'static str,
        /// An example.
        form: &'static str,
    },
    /// The kind has no such option.
    #[error("port {spec:?}: no option {option:?}; use {known}")]
    Option {
        /// The text.
        spec: String,
        /// The option.
        option: String,
        /// What there is.
        known: String,
    },
    /// An option stands there twice.
    #[error("port {spec:?}: option {option} stands there twice; leave one out")]
    Twice {
        /// The text.
        spec: String,
        /// The option.
        option: &'static str,
    },
    /// A value is none of its option.
    #[error("port {spec:?}: option {option}={value}: {form}; mend it")]
    Value {
        /// The text.
        spec: String,
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        form: &'static str,
    },
}

/// Options of a kind that have been read; each is taken once.
struct Options<'s> {
    spec: &'s str,
    pairs: Vec<(&'s str, &'s str)>,
    known: Vec<&'static str>,
}

impl<'s> Options<'s> {
    fn new(spec: &'s str, text: &'s str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self { spec, pairs: pairs.collect(), known: Vec::new() }
    }

    /// Takes an option's value; `form` says what it should be.
    fn take<T>(
        &mut self,
        option: &'static str,
        form: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SpecError> {
        self.known.push(option);
        let mut found = None;
        let spec = self.spec;
        let mut is_twice = false;
        self.pairs.retain(|(name, value)| {
            if *name == option {
                is_twice |= found.replace(*value).is_some();
            }
            *name != option
        });
        if is_twice {
            return Err(SpecError::Twice { spec: spec.to_owned(), option });
        }
        let Some(value) = found else { return Ok(None) };
        let bad = || SpecError::Value { spec: spec.to_owned(), option, value: value.to_owned(), form };
        parse(value).map(Some).ok_or_else(bad)
    }

    fn take_switch<T: Copy>(&mut self, option: &'static str, on: T, off: T) -> Result<Option<T>, SpecError> {
        self.take_word(option, "neither on nor off", [("on", on), ("off", off)])
    }

    fn take_word<T: Copy>(
        &mut self,
        option: &'static str,
        form: &'static str,
        words: [(&str, T); 2],
    ) -> Result<Option<T>, SpecError> {
        self.take(option, form, |word| words.iter().find(|(name, _)| *name == word).map(|(_, value)| *value))
    }

    fn take_path(&mut self, option: &'static str) -> Result<Option<String>, SpecError> {
        self.take(option, "no path", |path| is_path(path).then(|| path.to_owned()))
    }

    fn take_io(&mut self) -> Result<IoPath, SpecError> {
        Ok(self
            .take("io", "no way to move packets: auto, ring or plain", |word| word.parse().ok())?
            .unwrap_or_default())
    }

    fn take_fault(&mut self) -> Result<Option<FaultConfig>, SpecError> {
        const DELAY: &str = "no microseconds like 100 or 100-200, at most 1000000, as a late frame keeps its chunk";
        const CHANCE: &str = "no chance from 0 to 1 with at most six decimals, like 0.01";
        let chance = |text: &str| text.parse::<Chance>().ok();
        let seed = self.take("fault.seed", "no number", |text| text.parse::<u64>().ok())?;
        let loss = self.take("fault.loss", CHANCE, chance)?;
        let duplicate = self.take("fault.duplicate", CHANCE, chance)?;
        let corrupt = self.take("fault.corrupt", CHANCE, chance)?;
        let reorder = self.take("fault.reorder", CHANCE, chance)?;
        let delay_us =
            self.take("fault.delay", DELAY, |text| text.parse::<Span>().ok().filter(|span| span.last <= DELAY_US_MAX))?;
        let partition =
            self.take("fault.partition", "no numbers of frames like 100-200", |text| text.parse::<Span>().ok())?;
        let is_any = seed.is_some()
            || [loss, duplicate, corrupt, reorder].iter().any(Option::is_some)
            || [delay_us, partition].iter().any(Option::is_some);
        Ok(is_any.then(|| FaultConfig {
            seed: seed.unwrap_or_default(),
            loss: loss.unwrap_or_default(),
            duplicate: duplicate.unwrap_or_default(),
            corrupt: corrupt.unwrap_or_default(),
            reorder: reorder.unwrap_or_default(),
            delay_us,
            partition,
        }))
    }

    /// Refuses what nobody took.
    fn end(mut self) -> Result<(), SpecError> {
        let Some((option, _)) = self.pairs.first() else { return Ok(()) };
        self.known.sort_unstable();
        let known = self.known.join(", ");
        Err(SpecError::Option { spec: self.spec.to_owned(), option: (*option).to_owned(), known })
    }
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_control() || c == '&' || c == '?')
}

fn is_interface(text: &str) -> bool {
    (1..=INTERFACE_NAME_LEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?&:".contains(&byte))
        && !["..", "."].contains(&text)
}

impl DriverSpec {
    fn parse(spec: &str, kind: &str, address: &str, options: &mut Options<'_>) -> Result<Self, SpecError> {
        let bad = |kind, form| SpecError::Address { spec: spec.to_owned(), kind, form };
        let interface = |kind, form| {
            if is_interface(address) { Ok(address.to_owned()) } else { Err(bad(kind, form)) }
        };
        let path = |kind, form| if is_path(address) { Ok(address.to_owned()) } else { Err(bad(kind, form)) };
        match kind {
            "udp" => {
                let ends =
                    address.split_once('-').and_then(|(local, peer)| Some((local.parse().ok()?, peer.parse().ok()?)));
                let (local, peer) = ends.ok_or_else(|| bad("udp", "127.0.0.1:9000-127.0.0.1:9001"))?;
                let io = options.take_io()?;
                let trains = options.take_switch("trains", Trains::On, Trains::Off)?.unwrap_or_default();
                Ok(Self::Udp { wire: WireConfig { local, peer }, io, trains })
            }
            "packet" => Ok(Self::Packet(PacketConfig {
                interface: interface("packet", "packet:veth0")?,
                fanout: options.take("fanout", "no number of a group from 0 to 65535", |text| text.parse().ok())?,
                receive: options
                    .take_word(
                        "receive",
                        "neither blocks nor ring",
                        [("blocks", Receive::Blocks), ("ring", Receive::Ring)],
                    )?
                    .unwrap_or_default(),
                queueing: options.take_switch("bypass", Queueing::Bypass, Queueing::Normal)?.unwrap_or_default(),
                io: options.take_io()?,
            })),
            "tap" => Ok(Self::Tap(TapConfig {
                interface: interface("tap", "tap:kumite0")?,
                io: options.take_io()?,
                super_frames: options.take_switch("super", SuperFrames::On, SuperFrames::Off)?.unwrap_or_default(),
            })),
            "af_xdp" => Ok(Self::AfXdp(XdpConfig {
                interface: interface("af_xdp", "af_xdp:veth0")?,
                mode: options
                    .take("mode", "no mode: generic or driver", |word| word.parse::<XdpMode>().ok())?
                    .unwrap_or_default(),
            })),
            "shm" => Ok(Self::Shm { path: path("shm", "shm:/run/kumite/wire")? }),
            "pcap" => {
                let output = options.take_path("out")?;
                let timing = options.take_switch("timing", Timing::On, Timing::Off)?.unwrap_or_default();
                let input = if address.is_empty() && output.is_some() {
                    String::new()
                } else {
                    path("pcap", "pcap:in.pcap, or pcap:?out=out.pcap")?
                };
                Ok(Self::Pcap(PcapConfig { input, output, timing }))
            }
            "link" => Ok(Self::Link { name: path("link", "link:cable")? }),
            _ => Err(SpecError::Kind { spec: spec.to_owned() }),
        }
    }
}

impl FromStr for PortSpec {
    type Err = SpecError;

    fn from_str(spec: &str) -> Result<Self, SpecError> {
        let (kind, rest) = spec.split_once(':').ok_or_else(|| SpecError::Kind { spec: spec.to_owned() })?;
        let (address, options) = rest.split_once('?').unwrap_or((rest, ""));
        let mut options = Options::new(spec, options);
        let driver = DriverSpec::parse(spec, kind, address, &mut options)?;
        let fault = options.take_fault()?;
        let (record, trace) = (options.take_path("record")?, options.take_path("trace")?);
        options.end()?;
        Ok(Self { driver, fault, record, trace })
    }
}

/// Writes options: a question mark before the first, an ampersand before the others.
struct Written<'f, 'g> {
    to: &'f mut fmt::Formatter<'g>,
    is_first: bool,
}

impl Written<'_, '_> {
    fn option(&mut self, name: &str, value: impl Display) -> fmt::Result {
        let before = if std::mem::take(&mut self.is_first) { '?' } else { '&' };
        write!(self.to, "{before}{name}={value}")
    }

    fn io(&mut self, io: IoPath) -> fmt::Result {
        if io == IoPath::default() { Ok(()) } else { self.option("io", io) }
    }

    fn fault(&mut self, fault: &FaultConfig) -> fmt::Result {
        self.option("fault.seed", fault.seed)?;
        let chances = [
            ("fault.loss", fault.loss),
            ("fault.duplicate", fault.duplicate),
            ("fault.corrupt", fault.corrupt),
            ("fault.reorder", fault.reorder),
        ];
        for (name, chance) in chances.into_iter().filter(|(_, chance)| *chance != Chance::default()) {
            self.option(name, chance)?;
        }
        for (name, span) in [("fault.delay", fault.delay_us), ("fault.partition", fault.partition)] {
            if let Some(span) = span {
                self.option(name, span)?;
            }
        }
        Ok(())
    }
}

impl Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.driver {
            DriverSpec::Udp { wire, .. } => write!(f, "udp:{}-{}", wire.local, wire.peer)?,
            DriverSpec::Packet(config) => write!(f, "packet:{}", config.interface)?,
            DriverSpec::Tap(config) => write!(f, "tap:{}", config.interface)?,
            DriverSpec::AfXdp(config) => write!(f, "af_xdp:{}", config.interface)?,
            DriverSpec::Shm { path } => write!(f, "shm:{path}")?,
            DriverSpec::Pcap(config) => write!(f, "pcap:{}", config.input)?,
            DriverSpec::Link { name } => write!(f, "link:{name}")?,
        }
        let mut written = Written { to: f, is_first: true };
        match &self.driver {
            DriverSpec::Udp { io, trains, .. } => {
                written.io(*io)?;
                if *trains != Trains::default() {
                    written.option("trains", trains)?;
                }
            }
            DriverSpec::Packet(config) => {
                if config.receive == Receive::Ring {
                    written.option("receive", "ring")?;
                }
                if let Some(group) = config.fanout {
                    written.option("fanout", group)?;
                }
                if config.queueing == Queueing::Bypass {
                    written.option("bypass", "on")?;
                }
                written.io(config.io)?;
            }
            DriverSpec::Tap(config) => {
                written.io(config.io)?;
                if config.super_frames == SuperFrames::Off {
                    written.option("super", "off")?;
                }
            }
            DriverSpec::AfXdp(config) if config.mode != XdpMode::default() => written.option("mode", config.mode)?,
            DriverSpec::Pcap(config) => {
                if let Some(path) = &config.output {
                    written.option("out", path)?;
                }
                if config.timing == Timing::On {
                    written.option("timing", "on")?;
                }
            }
            DriverSpec::AfXdp(_) | DriverSpec::Shm { .. } | DriverSpec::Link { .. } => {}
        }
        if let Some(fault) = &self.fault {
            written.fault(fault)?;
        }
        for (name, path) in [("record", &self.record), ("trace", &self.trace)] {
            if let Some(path) = path {
                written.option(name, path)?;
            }
        }
        Ok(())
    }
}

/// What each kind gives a worker.
#[derive(Debug)]
enum DriverShare {
    Udp { socket: Arc<Socket>, io: IoPath, trains: Trains },
    Packet(PacketSocket),
    Tap(TapQueue),
    AfXdp(XdpQueue),
    Shm(ShmShare),
    Pcap(PcapShare),
    Link(Arc<LinkEnd>),
}

/// One worker's share of a port: opened in the worker's own thread.
#[derive(Debug)]
pub struct PortShare {
    driver: DriverShare,
    name: String,
    index: u32,
    fault: Option<FaultConfig>,
    record: Option<(Arc<Paper>, String)>,
    trace: Option<(Arc<Paper>, String)>,
}

impl PortSpec {
    /// Takes what the port needs of the machine, and gives each worker its share. Interfaces are those of the calling
    /// thread's network name space.
    ///
    /// # Errors
    /// [`PortError`].
    pub fn prepare(&self, worker_count: u32) -> Result<Vec<PortShare>, PortError> {
        let name = self.to_string().split('?').next().unwrap_or_default().to_owned();
        let drivers: Vec<DriverShare> = match &self.driver {
            DriverSpec::Udp { wire, io, trains } => {
                let share = |socket| DriverShare::Udp { socket, io: *io, trains: *trains };
                Socket::open(*wire, worker_count)?.into_iter().map(share).collect()
            }
            DriverSpec::Packet(config) => {
                PacketSocket::open(&name, config, worker_count)?.into_iter().map(DriverShare::Packet).collect()
            }
            DriverSpec::Tap(config) => {
                TapQueue::open(&name, config, worker_count)?.into_iter().map(DriverShare::Tap).collect()
            }
            DriverSpec::AfXdp(config) => {
                XdpQueue::open(&name, config, worker_count)?.into_iter().map(DriverShare::AfXdp).collect()
            }
            DriverSpec::Shm { path } => ShmShare::open(path, worker_count)?.into_iter().map(DriverShare::Shm).collect(),
            DriverSpec::Pcap(config) => {
                PcapShare::open(&name, config, worker_count)?.into_iter().map(DriverShare::Pcap).collect()
            }
            DriverSpec::Link { name } => {
                let end = Link::named(name, worker_count)?;
                (0..worker_count).map(|_| DriverShare::Link(Arc::clone(&end))).collect()
            }
        };
        let paper = |path: &Option<String>, first: &[u8]| {
            let open = |path: &String| Ok((Arc::new(Paper::new(Path::new(path), first)?), path.clone()));
            path.as_ref().map(open).transpose().map_err(PortError::failed(&name, "writing"))
        };
        let (record, trace) = (paper(&self.record, &file_header())?, paper(&self.trace, &[])?);
        let share = |(index, driver)| PortShare {
            driver,
            name: name.clone(),
            index,
            fault: self.fault,
            record: record.clone(),
            trace: trace.clone(),
        };
        Ok((0..).zip(drivers).map(share).collect())
    }
}

impl PortShare {
    /// Where a port over UDP receives: asked for port 0, it has another.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        match &self.driver {
            DriverShare::Udp { socket, .. } => Some(socket.local()),
            DriverShare::Packet(_)
            | DriverShare::Tap(_)
            | DriverShare::AfXdp(_)
            | DriverShare::Shm(_)
            | DriverShare::Pcap(_)
            | DriverShare::Link(_) => None,
        }
    }

    /// Opens it in the thread that will drive it, which `wake` wakes. Faults are those of the wire; what is recorded and told
    /// is what the host sees.
    ///
    /// # Errors
    /// [`PortError`].
    pub fn open(self, wake: &Arc<Wake>, pool: &mut Pool) -> Result<Box<dyn Port>, PortError> {
        let wake = Arc::clone(wake);
        let mut port: Box<dyn Port> = match self.driver {
            DriverShare::Udp { socket, io, trains } => Box::new(UdpPort::open(socket, wake, pool, io, trains)?),
            DriverShare::Packet(socket) => Box::new(PacketPort::open(socket, wake, pool)?),
            DriverShare::Tap(queue) => Box::new(TapPort::open(queue, wake, pool)?),
            DriverShare::AfXdp(queue) => Box::new(XdpPort::open(queue, wake, pool)?),
            DriverShare::Shm(share) => Box::new(ShmPort::open(share, wake)),
            DriverShare::Pcap(share) => Box::new(PcapPort::open(share, wake)),
            DriverShare::Link(end) => Box::new(LinkPort::open(end, &self.name, self.index, wake)),
        };
        if let Some(fault) = self.fault {
            // Workers' wires are not bad in step.
            let seed = fault.seed.wrapping_add(self.index.into());
            port = Box::new(FaultPort::new(port, FaultConfig { seed, ..fault }));
        }
        if let Some((paper, path)) = self.record {
            port = Box::new(RecordPort::new(port, paper, &path));
        }
        if let Some((paper, path)) = self.trace {
            port = Box::new(TracePort::new(port, paper, &path));
        }
        Ok(port)
    }
}

/// Opens a port for the calling thread alone.
///
/// # Errors
/// [`PortError`].
pub fn open(spec: &PortSpec, wake: &Arc<Wake>, pool: &mut Pool) -> Result<Box<dyn Port>, PortError> {
    spec.prepare(1)?.pop().expect("a share for one worker").open(wake, pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: [&str; 14] = [
        "udp:127.0.0.1:9000-127.0.0.1:9001",
        "udp:[::1]:9000-[::1]:9001?io=plain&trains=off",
        "packet:veth0",
        "packet:veth0?receive=ring&fanout=1&bypass=on&io=ring",
        "tap:kumite0",
        "tap:kumite0?io=plain&super=off",
        "af_xdp:veth0",
        "af_xdp:veth0?mode=driver",
        "shm:/run/kumite/wire",
        "pcap:in.pcap?out=out.pcap&timing=on",
        "pcap:?out=out.pcap",
        "link:cable",
        "link:cable?fault.seed=7&fault.loss=0.01&fault.delay=100-200&record=x.pcap&trace=x.txt",
        "shm:w?fault.seed=0&fault.duplicate=1&fault.corrupt=0.000001&fault.reorder=0.5&fault.partition=5-9",
    ];

    #[test]
    fn what_is_printed_is_read_as_the_same() {
        for text in SPECS {
            let spec: PortSpec = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(spec.to_string(), text);
        }
        let mut state = 1u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..20_000 {
            let number = usize::try_from(draw(SPECS.len() as u64)).expect("few");
            let mut spec: PortSpec = SPECS[number].parse().expect("seen above");
            let mut span = || {
                let first = draw(1 << 31);
                (draw(2) == 0).then(|| Span { first, last: first + draw(1 << 31) })
            };
            let partition = span();
            let delay_us = span().map(|span| Span { first: span.first % 1000, last: 1000 + span.last % 999_001 });
            let mut chance = || Chance::millionths(u32::try_from(draw(1_000_002)).expect("below"));
            let fault = FaultConfig {
                loss: chance(),
                duplicate: chance(),
                corrupt: chance(),
                reorder: chance(),
                seed: draw(u64::MAX),
                delay_us,
                partition,
            };
            spec.fault = (draw(2) == 0).then_some(fault);
            spec.record = (draw(2) == 0).then(|| format!("/tmp/{}=:.pcap", draw(1000)));
            spec.trace = (draw(2) == 0).then(|| format!("ü {}", draw(1000)));
            assert_eq!(spec.to_string().parse(), Ok(spec));
        }
    }

    #[test]
    fn text_that_asks_for_no_port_is_refused_in_a_line() {
        let refusal = |text: &str| text.parse::<PortSpec>().expect_err(text).to_string();
        let kinds = "no such kind; use af_xdp, link, packet, pcap, shm, tap or udp, and an address behind a colon";
        assert_eq!(refusal("dpdk:0"), format!("port \"dpdk:0\": {kinds}"));
        assert_eq!(refusal("tap"), format!("port \"tap\": {kinds}"));
        assert_eq!(
            refusal("udp:127.0.0.1:1"),
            "port \"udp:127.0.0.1:1\": udp has an address like 127.0.0.1:9000-127.0.0.1:9001; mend it"
        );
        assert_eq!(refusal("tap:a/b"), "port \"tap:a/b\": tap has an address like tap:kumite0; mend it");
        assert_eq!(
            refusal("pcap:"),
            "port \"pcap:\": pcap has an address like pcap:in.pcap, or pcap:?out=out.pcap; mend it"
        );
        let known =
            "fault.corrupt, fault.delay, fault.duplicate, fault.loss, fault.partition, fault.reorder, fault.seed";
        assert_eq!(
            refusal("link:a?los=1"),
            format!("port \"link:a?los=1\": no option \"los\"; use {known}, record, trace")
        );
        assert_eq!(
            refusal("af_xdp:a?mode=generic&mode=driver"),
            "port \"af_xdp:a?mode=generic&mode=driver\": option mode stands there twice; leave one out"
        );
        assert_eq!(
            refusal("link:a?fault.loss=2"),
            "port \"link:a?fault.loss=2\": option fault.loss=2: \
             no chance from 0 to 1 with at most six decimals, like 0.01; mend it"
        );
        assert_eq!(
            refusal("link:a?fault.delay=5-1000001"),
            "port \"link:a?fault.delay=5-1000001\": option fault.delay=5-1000001: \
             no microseconds like 100 or 100-200, at most 1000000, as a late frame keeps its chunk; mend it"
        );
        assert_eq!(
            refusal("udp:127.0.0.1:1-127.0.0.1:2?trains=maybe"),
            "port \"udp:127.0.0.1:1-127.0.0.1:2?trains=maybe\": option trains=maybe: neither on nor off; mend it"
        );
        assert_eq!(refusal("link:a?record="), "port \"link:a?record=\": option record=: no path; mend it");
    }

    #[test]
    fn any_text_is_a_port_or_refused() {
        let mut state = 7u64;
        for text in SPECS {
            for _ in 0..2000 {
                let mut bytes = text.as_bytes().to_vec();
                for _ in 0..3 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let at = usize::try_from(state >> 33).expect("31 bits") % bytes.len();
                    bytes[at] = b"?&=:-.0a%["[usize::try_from(state >> 17 & 0xffff).expect("16 bits") % 10];
                }
                let text = String::from_utf8(bytes).expect("ASCII");
                if let Ok(spec) = text.parse::<PortSpec>() {
                    assert_eq!(spec.to_string().parse(), Ok(spec), "{text}");
                }
            }
        }
    }
}
