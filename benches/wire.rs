//! What a frame costs on a wire: received and dropped, received and sent back, by both paths.
//!
//! A gate holds the worker while its socket fills, so that the figures are one core's work on frames that are there.
//! They need a quiet machine; they are printed, never asserted.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kumite::elf::Object;
use kumite::flow::{Hook, Host, HostConfig, Judge};
use kumite::isa;
use kumite::port::PortSpec;
use kumite::port::udp::{IoPath, Trains, WireConfig};
use kumite::program::{Program, RawProgram};
use kumite::run::Run;
use kumite::verdict::ProgramKind;
use kumite::vm::{Loaded, Mode, Outcome};

/// Frames of one round: what a socket's buffer holds.
const FRAMES: u64 = 10_000;
const ROUNDS: usize = 7;

/// A program behind a gate.
#[derive(Debug)]
struct Gated {
    open: AtomicBool,
    program: Arc<Loaded>,
}

impl Judge for Gated {
    fn name(&self) -> &str {
        self.program.name()
    }

    fn id(&self) -> u32 {
        self.program.id()
    }

    fn kind(&self) -> ProgramKind {
        self.program.kind()
    }

    fn judge(&self, mode: Mode, run: &mut Run<'_>) -> Outcome {
        while !self.open.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_micros(100));
        }
        self.program.judge(mode, run)
    }
}

fn object(text: &str) -> Object {
    let slots = isa::assemble(text).expect("assembler text");
    let raw = RawProgram { name: "empty".to_owned(), section: "bench".to_owned(), slots, ..RawProgram::default() };
    let program = Program::check(raw, ProgramKind::Xdp).expect("a well-formed program");
    Object {
        name: "empty.o".to_owned(),
        programs: vec![Arc::new(program)],
        refused: Vec::new(),
        maps: Vec::new(),
        refused_maps: Vec::new(),
        license: None,
        btf: None,
    }
}

/// Nanoseconds a frame.
fn round(io: IoPath, trains: Trains, text: &str, len: usize) -> f64 {
    let free = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("loopback"));
    let [a, b] = free.map(|socket| socket.local_addr().expect("bound"));
    let start = |local, peer| {
        let wire = PortSpec::udp(WireConfig { local, peer }, io, trains);
        Host::start(HostConfig::new("bench", wire)).expect("loopback")
    };
    let (sender, host) = (start(a, b), start(b, a));
    sender.load(&object("r0 = 1\nexit")).expect("loads");
    sender.attach(&sender.program("empty").expect("loaded"), Hook::Xdp).expect("a hook");
    host.load(&object(text)).expect("loads");
    let gated = Arc::new(Gated { open: AtomicBool::new(false), program: host.program("empty").expect("loaded") });
    let judge: Arc<dyn Judge> = Arc::<Gated>::clone(&gated);
    host.attach_judge(judge, Hook::Xdp).expect("a hook");
    let frame = vec![2; len];
    let frames = if len > 1000 { FRAMES / 2 } else { FRAMES };
    let mut sent = 0;
    while sent < frames {
        let count = usize::try_from(frames - sent).expect("small").min(64);
        sent += sender.send(&vec![frame.as_slice(); count]).expect("runs") as u64;
    }
    while sender.stats().ports[0].tx_frames < frames {
        std::thread::sleep(Duration::from_micros(100));
    }
    let before = host.stats().ports.remove(0);
    assert_eq!(before.rx, 0, "the gate holds the first burst");
    let began = Instant::now();
    gated.open.store(true, Ordering::Release);
    loop {
        let port = host.stats().ports.remove(0);
        if port.drop + port.tx_frames + port.socket_drops >= frames {
            assert_eq!(port.socket_drops, 0, "the socket holds a round");
            break;
        }
        std::thread::sleep(Duration::from_micros(20));
    }
    let nanoseconds = began.elapsed().as_nanos();
    #[expect(clippy::cast_precision_loss, reason = "a round takes milliseconds")]
    let each = nanoseconds as f64 / frames as f64;
    each
}

fn main() {
    for (what, text) in [("received and dropped", "r0 = 1\nexit"), ("received and sent back", "r0 = 3\nexit")] {
        for len in [64, 1500] {
            for (io, trains) in [IoPath::Ring, IoPath::Plain].into_iter().flat_map(|io| Trains::ALL.map(|t| (io, t))) {
                let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round(io, trains, text, len)).collect();
                rounds.sort_by(f64::total_cmp);
                let (best, median) = (rounds[0], rounds[ROUNDS / 2]);
                println!("{what}, {len} B, {io}, trains {trains}: best {best:.0} ns a frame, median {median:.0} ns");
            }
        }
    }
}
