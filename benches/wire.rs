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
use kumite::port::udp::{IoPath, WireConfig};
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
        license: None,
        btf: None,
    }
}

/// Nanoseconds a frame.
fn round(io: IoPath, text: &str, len: usize) -> f64 {
    let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let from = peer.local_addr().expect("bound");
    let wire = WireConfig { local: "127.0.0.1:0".parse().expect("an address"), peer: from };
    let host = Host::start(HostConfig { io, ..HostConfig::new("bench", wire) }).expect("loopback");
    peer.connect(host.local()).expect("loopback");
    host.load(&object(text)).expect("loads");
    let gated = Arc::new(Gated { open: AtomicBool::new(false), program: host.program("empty").expect("loaded") });
    let judge: Arc<dyn Judge> = Arc::<Gated>::clone(&gated);
    host.attach_judge(judge, Hook::Xdp).expect("a hook");
    let frame = vec![2; len];
    let frames = if len > 1000 { FRAMES / 2 } else { FRAMES };
    for _ in 0..frames {
        peer.send(&frame).expect("loopback");
    }
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
            for io in [IoPath::Ring, IoPath::Plain] {
                let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round(io, text, len)).collect();
                rounds.sort_by(f64::total_cmp);
                let (best, median) = (rounds[0], rounds[ROUNDS / 2]);
                println!("{what}, {len} B, {io}: best {best:.0} ns a frame, median {median:.0} ns");
            }
        }
    }
}
