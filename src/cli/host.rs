//! `kumite host`: runs a host until it is told to end.
//!
//! Invariant: nobody can command the host before its program sits on the hook, nor after it drains.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::asking::{DEFAULT, typed_local, write_json};
use super::surroundings::Surroundings;
use super::wire::{NamedPort, Unnamed, Wire};
use super::{CliError, Exit, Form, Out, books, object_file};
use crate::control::api::{self, Desk};
use crate::control::view::StatsView;
use crate::control::{Address, Listening};
use crate::flow::{Addresses, Hook, Host, HostConfig, MacAddr};
use crate::limits::{FUEL_HOST, FUEL_MAX, WORKERS_MAX};
use crate::port::PortSpec;
use crate::port::udp::{IoPath, Trains};
use crate::vm::{Instance, Loaded, Mode};

/// How often the wish to stop that came by the API is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Run a host: until SIGTERM, SIGINT or a stop by its API, then it drains and prints its books
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the host
    #[arg(long)]
    name: String,
    /// The wire: its ends, or a port as KIND:ADDRESS?OPTION=VALUE (see the manual's page on ports)
    #[arg(long, value_name = "udp:LOCAL,peer=REMOTE")]
    wire: Wire,
    /// Port where passed frames go and from where a network stack's come, such as tap:NAME; without it passed frames are
    /// answered by the host itself
    #[arg(long, value_name = "PORT")]
    stack: Option<Unnamed>,
    /// A further port; may be given several times
    #[arg(long, value_name = "NAME=PORT")]
    port: Vec<NamedPort>,
    /// Object whose program judges frames: its only XDP program, or the one named
    #[arg(long, value_name = "OBJECT[:PROGRAM]")]
    xdp: Option<String>,
    /// Object that is loaded and not attached; may be given several times
    #[arg(long, value_name = "OBJECT")]
    load: Vec<PathBuf>,
    #[command(flatten)]
    said: object_file::Said,
    /// How programs run
    #[arg(long, default_value = "fast")]
    mode: Mode,
    /// Threads that receive and judge
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=WORKERS_MAX.into()))]
    workers: u32,
    /// How datagrams are moved: auto, ring or plain
    #[arg(long, default_value = "auto")]
    io: IoPath,
    /// Whether frames travel in trains, several in one message: on or off
    #[arg(long, value_name = "ON|OFF", default_value_t)]
    trains: Trains,
    /// Slots that a run may execute
    #[arg(long, value_name = "N", default_value_t = FUEL_HOST, value_parser = clap::value_parser!(u64).range(1..=FUEL_MAX))]
    fuel: u64,
    /// Ethernet address that passed frames are answered for
    #[arg(long, value_name = "MAC", default_value = "02:00:00:00:00:01")]
    mac: MacAddr,
    /// IPv4 address that is answered for
    #[arg(long, value_name = "ADDRESS")]
    ip4: Option<Ipv4Addr>,
    /// IPv6 address that is answered for
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    #[command(flatten)]
    surroundings: Surroundings,
    /// Control socket
    #[arg(long, value_name = "unix:PATH", default_value = DEFAULT)]
    api: Address,
    #[command(flatten)]
    form: Form,
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let attached = args.xdp.as_deref().map(Wanted::from_str).transpose()?;
    let config = HostConfig {
        name: args.name.clone(),
        wire: args.wire.spec(args.io, args.trains),
        stack: args.stack.as_ref().map(|stack| PortSpec::clone(&stack.0)),
        ports: args.port.iter().map(|port| port.0.clone()).collect(),
        worker_count: args.workers,
        mode: args.mode,
        fuel: args.fuel,
        responder: Addresses { mac: args.mac, ipv4: args.ip4, ipv6: args.ip6 },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(machine)?;
    // Before the host starts: a signal that comes early is not lost.
    let (mut terminate, mut interrupt) = {
        let _runtime = runtime.enter();
        (signal(SignalKind::terminate()).map_err(machine)?, signal(SignalKind::interrupt()).map_err(machine)?)
    };
    let host = Host::start(config).map_err(CliError::host_failed)?;
    args.surroundings.furnish(host.world())?;
    for path in &args.load {
        load(&host, path, &args.said)?;
    }
    if let Some(wanted) = &attached {
        let program = wanted.load(&host, &args.said)?;
        host.attach(&program, Hook::Xdp).map_err(CliError::refused)?;
    }
    let desk = Arc::new(Desk::new(Arc::clone(&host)));
    let listening = Listening::start(&args.api, api::service(&desk)).map_err(CliError::host_failed)?;
    say_start(args, &host, out)?;
    out.flush()?;
    let stopped = async {
        while !desk.wants_stop() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stopped => {}
        }
    });
    desk.end_source();
    drop(listening);
    host.stop();
    let stats = json!(host.stats());
    if args.form.json {
        write_json(out, &stats)?;
        return Ok(Exit::Done);
    }
    let stats: StatsView = typed_local(stats);
    for port in stats.ports.iter().chain(&stats.removed) {
        for line in books::lines(port) {
            writeln!(out, "host {} {}: {line}", stats.host, port.port)?;
        }
    }
    Ok(Exit::Done)
}

fn machine(error: std::io::Error) -> CliError {
    CliError::host_failed(format!("host: cannot wait for signals: {error}; raise the limits of the process"))
}

fn say_start(args: &Args, host: &Host, out: Out<'_>) -> Result<(), CliError> {
    let program = host.attached(Hook::Xdp);
    let (local, peer) = (host.local(), host.config().peer());
    if args.form.json {
        let started = json!({
            "host": host.name(), "wire": { "local": local, "peer": peer }, "io": host.io_report(),
            "xdp": program, "mode": args.mode.name(), "api": args.api.to_string(),
        });
        writeln!(out, "{started}")?;
        return Ok(());
    }
    let program = program.map_or("no program, frames pass".to_owned(), |program| format!("{program} ({})", args.mode));
    let name = host.name();
    // In one piece: a reader that takes the first line and goes away does not end the host.
    let lines = format!("host {name}: xdp {program}; api {}\nhost {name}: {}\n", args.api, host.io_report());
    out.write_all(lines.as_bytes())?;
    Ok(())
}

fn load(host: &Host, path: &std::path::Path, said: &object_file::Said) -> Result<Arc<Instance>, CliError> {
    let id = host.load(&object_file::read(path, said)?).map_err(CliError::refused)?;
    let loaded = host.instances().into_iter().find(|(own, _)| *own == id);
    Ok(loaded.expect("nobody else commands the host yet").1)
}

/// What `--xdp` names.
struct Wanted {
    object: PathBuf,
    program: Option<String>,
}

impl FromStr for Wanted {
    type Err = CliError;

    fn from_str(text: &str) -> Result<Self, CliError> {
        let (object, program) = match text.rsplit_once(':') {
            Some((object, program)) if !program.contains('/') => (object, Some(program)),
            Some(_) | None => (text, None),
        };
        if object.is_empty() || program == Some("") {
            let form = "write OBJECT or OBJECT:PROGRAM";
            return Err(CliError::usage(format!("--xdp {text:?}: names no object or no program; {form}")));
        }
        Ok(Self { object: PathBuf::from(object), program: program.map(str::to_owned) })
    }
}

impl Wanted {
    /// Loads the object and finds the program.
    fn load(&self, host: &Host, said: &object_file::Said) -> Result<Arc<Loaded>, CliError> {
        let instance = load(host, &self.object, said)?;
        if let Some(name) = &self.program {
            return instance.expect_program(name).cloned().map_err(CliError::refused);
        }
        let fits = |program: &&Arc<Loaded>| program.linked().program().kind() == crate::verdict::ProgramKind::Xdp;
        let programs: Vec<&Arc<Loaded>> = instance.programs().iter().filter(fits).collect();
        if let [program] = programs.as_slice() {
            return Ok(Arc::clone(program));
        }
        let object = instance.name();
        let names: Vec<&str> = programs.iter().map(|program| program.linked().program().name()).collect();
        Err(match instance.refused().first() {
            Some(refused) if names.is_empty() => CliError::refused(&refused.refusal),
            Some(_) | None if names.is_empty() => {
                CliError::refused(format!("{object}: no XDP program; write one in a section called xdp"))
            }
            Some(_) | None => CliError::refused(format!(
                "{object}: several XDP programs ({}); name one as {object}:{}",
                names.join(", "),
                names[0]
            )),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_with_or_without_its_program() {
        let wanted = |text: &str| Wanted::from_str(text).map(|wanted| (wanted.object, wanted.program));
        assert_eq!(wanted("a/lb.o:balance"), Ok((PathBuf::from("a/lb.o"), Some("balance".to_owned()))));
        assert_eq!(wanted("lb.o"), Ok((PathBuf::from("lb.o"), None)));
        assert_eq!(wanted("a:b/lb.o"), Ok((PathBuf::from("a:b/lb.o"), None)));
        for text in ["", ":x", "lb.o:"] {
            let error = wanted(text).expect_err("nothing");
            assert_eq!(
                error.text,
                format!("--xdp {text:?}: names no object or no program; write OBJECT or OBJECT:PROGRAM")
            );
        }
    }
}
