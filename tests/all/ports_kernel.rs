//! Ports on interfaces of the kernel: veth pairs and taps in network name spaces that the tests make, and links in memory.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kumite::cage::Cage;
use kumite::flow::checksum;
use kumite::limits::{OUTBOX_CHUNKS, RECEIVE_CHUNKS};
use kumite::port::af_xdp::{XdpConfig, XdpMode, XdpPort, XdpQueue};
use kumite::port::packet::{PacketConfig, PacketPort, PacketSocket, Queueing, Receive};
use kumite::port::tap::{SuperFrames, TapConfig, TapPort, TapQueue};
use kumite::port::udp::IoPath;
use kumite::port::{Burst, Frame, Link, LinkPort, Pool, Port, Refused, Sleep, Wake};

use crate::shared::skipped;

/// How long a condition may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A worker's surroundings, for as many ports as a test wants.
pub(crate) struct Bench {
    pub(crate) pool: Pool,
    pub(crate) wake: Arc<Wake>,
    burst: Burst,
    sleep: Sleep,
    pub(crate) refused: Refused,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let cage = Cage::new().expect("address space");
        Self {
            pool: Pool::new(&cage, 2 * RECEIVE_CHUNKS, OUTBOX_CHUNKS).expect("room"),
            wake: Arc::new(Wake::new().expect("a descriptor")),
            burst: Burst::new(),
            sleep: Sleep::new(),
            refused: Refused::default(),
        }
    }

    fn wake(&self) -> Arc<Wake> {
        Arc::clone(&self.wake)
    }

    /// Queues a frame if there is a chunk for it.
    pub(crate) fn send(&mut self, port: &mut dyn Port, bytes: &[u8]) -> bool {
        let taken = self.pool.outbox().put(bytes);
        if taken {
            let frame = self.pool.outbox().take().expect("just put");
            port.send(&mut self.pool, frame);
        }
        taken
    }

    /// One turn of a port.
    pub(crate) fn recv(&mut self, port: &mut dyn Port) -> Vec<Vec<u8>> {
        self.recv_frames(port).into_iter().map(|frame| self.take(frame)).collect()
    }

    fn recv_frames(&mut self, port: &mut dyn Port) -> Vec<Frame> {
        port.recv(&mut self.pool, &mut self.burst);
        let refused = self.burst.take_refused();
        self.refused.runt += refused.runt;
        self.refused.oversize += refused.oversize;
        std::iter::from_fn(|| self.burst.take()).collect()
    }

    fn take(&mut self, frame: Frame) -> Vec<u8> {
        let mut bytes = vec![0; frame.len() as usize];
        self.pool.read(&frame, &mut bytes);
        self.pool.release(frame);
        bytes
    }

    /// Sleeps until one of the ports has something, at most for a moment.
    pub(crate) fn sleep(&mut self, ports: &mut [&mut dyn Port]) {
        self.sleep.begin();
        for port in ports {
            self.sleep.watch(*port, &mut self.pool);
        }
        self.sleep.block(&self.wake, Duration::from_millis(20));
    }

    /// Sends all frames from one port and gives what the other received, until the books balance.
    pub(crate) fn cross(&mut self, from: &mut dyn Port, to: &mut dyn Port, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (sent_before, lost_before) = (from.counts(), to.dropped() + self.refused.total());
        let deadline = Instant::now() + PATIENCE;
        let (mut received, mut next) = (Vec::new(), 0);
        loop {
            // Some at a time: the wire's own queues are not what is tested.
            while next < frames.len() && next < received.len() + 64 && self.send(from, &frames[next]) {
                next += 1;
            }
            self.recv(from);
            let came = self.recv(to);
            let is_quiet = came.is_empty();
            received.extend(came);
            let lost = to.dropped() + self.refused.total() - lost_before;
            let counts = from.counts();
            let failed = counts.tx_errors - sent_before.tx_errors;
            if next == frames.len() && received.len() as u64 + lost + failed == frames.len() as u64 {
                assert_eq!(counts.tx_frames - sent_before.tx_frames, frames.len() as u64 - failed);
                return received;
            }
            assert!(
                Instant::now() < deadline,
                "{} of {next} came, {lost} lost, {:?}, {:?}",
                received.len(),
                from.counts(),
                to.counts()
            );
            if is_quiet {
                self.sleep(&mut [from, to]);
            }
        }
    }

    /// Closes the ports and checks that every chunk came home.
    pub(crate) fn close(mut self, ports: Vec<Box<dyn Port>>) {
        for mut port in ports {
            port.end_receiving();
            let deadline = Instant::now() + PATIENCE;
            while port.is_receiving() {
                self.recv(&mut *port);
                assert!(Instant::now() < deadline, "{}: the receive never ends", port.report());
            }
            port.close(&mut self.pool);
        }
        assert_eq!(self.pool.free_count(), usize::from(self.pool.own_count()), "chunks of the worker");
        assert!(self.pool.outbox().is_idle(), "chunks of the outbox");
    }
}

/// Runs a test in a network name space of its own.
fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> Option<T> {
    let tried = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: takes no pointers; concerns this thread alone.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(test())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    tried.map_err(|error| skipped(&format!("no network namespace: {error}"))).ok()
}

/// What a test needs of the kernel, apart from a name space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    AfXdp,
    Ring,
    Tun,
}

/// Whether something is missing; says so.
fn lacks(needs: &[Need]) -> bool {
    let why = needs.iter().find_map(|need| {
        let (name, refusal) = match need {
            Need::AfXdp => {
                // SAFETY: takes no pointers.
                let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW, 0) };
                let refusal = (fd < 0).then(std::io::Error::last_os_error);
                if fd >= 0 {
                    // SAFETY: the kernel just gave us the descriptor.
                    unsafe { libc::close(fd) };
                }
                ("AF_XDP", refusal)
            }
            Need::Ring => {
                // SAFETY: without parameters the kernel makes no ring: it says so, or that it knows none.
                unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, std::ptr::null::<u8>()) };
                let error = std::io::Error::last_os_error();
                ("io_uring", Some(error).filter(|error| error.raw_os_error() != Some(libc::EFAULT)))
            }
            Need::Tun => {
                let opened = std::fs::File::options().read(true).write(true).open("/dev/net/tun");
                ("/dev/net/tun", opened.err())
            }
        };
        refusal.map(|refusal| format!("no {name}: {refusal}"))
    });
    why.inspect(|why| skipped(why)).is_some()
}

/// Configures the thread's name space.
fn ip(arguments: &str) {
    let answer = Command::new("ip").args(arguments.split(' ')).output().expect("ip of iproute2");
    assert!(answer.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&answer.stderr));
}

/// A veth pair that says nothing of its own.
fn veth() {
    ip("link add dev left type veth peer name right");
    for end in ["left", "right"] {
        ip(&format!("link set dev {end} addrgenmode none"));
        ip(&format!("link set dev {end} arp off multicast off up"));
    }
}

fn packet(bench: &mut Bench, interface: &str, io: IoPath, queueing: Queueing) -> Box<dyn Port> {
    let config = PacketConfig { interface: interface.to_owned(), receive: Receive::Blocks, fanout: None, queueing, io };
    packet_port(bench, &config)
}

fn packet_by_ring(bench: &mut Bench, interface: &str) -> Box<dyn Port> {
    let (queueing, io) = (Queueing::Normal, IoPath::Ring);
    let config = PacketConfig { interface: interface.to_owned(), receive: Receive::Ring, fanout: None, queueing, io };
    packet_port(bench, &config)
}

fn packet_port(bench: &mut Bench, config: &PacketConfig) -> Box<dyn Port> {
    let socket = PacketSocket::open(&format!("packet:{}", config.interface), config, 1).expect("a socket").remove(0);
    Box::new(PacketPort::open(socket, bench.wake(), &mut bench.pool).expect("a port"))
}

fn xdp(bench: &mut Bench, interface: &str, mode: XdpMode) -> Box<dyn Port> {
    let config = XdpConfig { interface: interface.to_owned(), mode };
    let queue = XdpQueue::open(&format!("af_xdp:{interface}"), &config, 1).expect("a queue").remove(0);
    Box::new(XdpPort::open(queue, bench.wake(), &mut bench.pool).expect("a port"))
}

fn tap(bench: &mut Bench, interface: &str, io: IoPath, super_frames: SuperFrames) -> Box<dyn Port> {
    let config = TapConfig { interface: interface.to_owned(), io, super_frames };
    let queue = TapQueue::open(&format!("tap:{interface}"), &config, 1).expect("a tap").remove(0);
    Box::new(TapPort::open(queue, bench.wake(), &mut bench.pool).expect("a port"))
}

/// Frames of a protocol that no stack answers, of all lengths that the link takes, each of its own bytes.
pub(crate) fn frames(count: usize) -> Vec<Vec<u8>> {
    let frame = |number: usize| {
        let len = 14 + number * 37 % 1501;
        let mut bytes: Vec<u8> =
            (0..len).map(|at| u8::try_from((number * 31 + at * 7) % 251).expect("a byte")).collect();
        bytes[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
        bytes
    };
    (0..count).map(frame).collect()
}

#[test]
fn frames_cross_a_veth_intact_and_in_order_by_packet_sockets() {
    if lacks(&[Need::Ring]) {
        return;
    }
    in_namespace(|| {
        veth();
        for (io, queueing) in
            [(IoPath::Ring, Queueing::Normal), (IoPath::Plain, Queueing::Normal), (IoPath::Ring, Queueing::Bypass)]
        {
            let mut bench = Bench::new();
            let [mut a, mut b] = ["left", "right"].map(|end| packet(&mut bench, end, io, queueing));
            let sent = frames(3000);
            assert!(bench.cross(&mut *a, &mut *b, &sent) == sent, "{io} {queueing:?}");
            assert!(bench.cross(&mut *b, &mut *a, &sent) == sent, "{io} {queueing:?}");
            let way = if io == IoPath::Ring { "io_uring sends" } else { "plain sends" };
            assert_eq!(a.report(), format!("packet:left: TPACKET_V3 receive, {way}"));
            bench.close(vec![a, b]);
        }
    });
}

#[test]
fn frames_cross_a_veth_one_by_one_through_a_ring() {
    if lacks(&[Need::Ring]) {
        return;
    }
    in_namespace(|| {
        veth();
        let mut bench = Bench::new();
        let [mut a, mut b] = ["left", "right"].map(|end| packet_by_ring(&mut bench, end));
        let sent = frames(3000);
        assert!(bench.cross(&mut *a, &mut *b, &sent) == sent);
        assert!(bench.cross(&mut *b, &mut *a, &sent) == sent);
        assert_eq!(a.report(), "packet:left: io_uring receive in place, io_uring sends");
        bench.close(vec![a, b]);
    });
}

#[test]
fn frames_cross_a_veth_by_af_xdp_in_both_modes() {
    if lacks(&[Need::AfXdp]) {
        return;
    }
    in_namespace(|| {
        veth();
        for mode in XdpMode::ALL {
            let mut bench = Bench::new();
            let mut a = packet(&mut bench, "left", IoPath::Auto, Queueing::Normal);
            let mut b = xdp(&mut bench, "right", mode);
            let sent = frames(3000);
            assert!(bench.cross(&mut *a, &mut *b, &sent) == sent, "{mode}");
            assert!(bench.cross(&mut *b, &mut *a, &sent) == sent, "{mode}");
            assert_eq!(b.report(), format!("af_xdp:right: AF_XDP, {mode} mode, queue 0, in place"));
            bench.close(vec![a, b]);
        }
    });
}

#[test]
fn what_is_no_frame_for_us_is_counted_and_the_receive_goes_on() {
    if lacks(&[Need::Ring, Need::AfXdp]) {
        return;
    }
    in_namespace(|| {
        veth();
        for end in ["left", "right"] {
            ip(&format!("link set dev {end} mtu 3000"));
        }
        for way in ["packet", "ring", "generic", "driver"] {
            let mut bench = Bench::new();
            let mut a = packet(&mut bench, "left", IoPath::Auto, Queueing::Normal);
            let mut b = match way {
                "packet" => packet(&mut bench, "right", IoPath::Auto, Queueing::Normal),
                "ring" => packet_by_ring(&mut bench, "right"),
                mode => xdp(&mut bench, "right", mode.parse().expect("a mode")),
            };
            let raw = a_stranger("left");
            for len in [1792usize, 1793, 2500, 3014, 60] {
                let mut frame = vec![7; len];
                frame[12..14].copy_from_slice(&[0x88, 0xb5]);
                // SAFETY: the bytes are read for their length.
                let sent = unsafe { libc::send(raw.as_raw_fd(), frame.as_ptr().cast(), len, 0) };
                assert_eq!(sent, isize::try_from(len).expect("short"), "{}", std::io::Error::last_os_error());
            }
            let deadline = Instant::now() + PATIENCE;
            let mut lens = Vec::new();
            while lens.len() as u64 + bench.refused.total() + b.dropped() < 5 {
                lens.extend(bench.recv(&mut *b).iter().map(Vec::len));
                bench.sleep(&mut [&mut *b]);
                assert!(Instant::now() < deadline, "{way}: {lens:?}, {:?}, {}", bench.refused, b.dropped());
            }
            assert_eq!(lens, [1792, 60], "{way}");
            bench.recv(&mut *a);
            bench.close(vec![a, b]);
        }
    });
}

/// A packet socket beside ours.
fn a_stranger(interface: &str) -> std::fs::File {
    use std::os::fd::FromRawFd;
    let name = std::ffi::CString::new(interface).expect("a name");
    // SAFETY: the name is a string of C's.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
    assert!(fd >= 0 && index > 0, "{}", std::io::Error::last_os_error());
    // SAFETY: an address of zeroes is one.
    let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    addr.sll_family = u16::try_from(libc::AF_PACKET).expect("small");
    addr.sll_ifindex = i32::try_from(index).expect("small");
    // SAFETY: the address is as long as is said.
    let bound = unsafe { libc::bind(fd, (&raw const addr).cast(), u32::try_from(size_of_val(&addr)).expect("small")) };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel just gave us the descriptor.
    unsafe { std::fs::File::from_raw_fd(fd) }
}

#[test]
fn tags_stand_where_they_stood_and_own_frames_are_not_heard() {
    if lacks(&[Need::Ring]) {
        return;
    }
    in_namespace(|| {
        veth();
        for receive in [Receive::Blocks, Receive::Ring] {
            let mut bench = Bench::new();
            let [mut a, mut b] = ["left", "right"].map(|end| match receive {
                Receive::Blocks => packet(&mut bench, end, IoPath::Auto, Queueing::Normal),
                Receive::Ring => packet_by_ring(&mut bench, end),
            });
            // The kernel drops what ends with its tag.
            let mut sent = frames(200).split_off(1);
            for (number, frame) in sent.iter_mut().enumerate() {
                let tag: [u8; 4] = if number % 2 == 0 { [0x81, 0, 0x20, 7] } else { [0x88, 0xa8, 0, 9] };
                frame.splice(12..12, tag);
                frame.truncate(1500);
            }
            assert!(bench.cross(&mut *a, &mut *b, &sent) == sent, "{receive:?}");
            assert!(bench.recv(&mut *a).is_empty(), "a hears nothing of what it sent");
            bench.close(vec![a, b]);
        }
    });
}

#[test]
fn workers_share_an_interface_by_flow_and_hear_each_frame_once() {
    in_namespace(|| {
        veth();
        let config = PacketConfig {
            interface: "right".to_owned(),
            receive: Receive::Blocks,
            fanout: None,
            queueing: Queueing::Normal,
            io: IoPath::Auto,
        };
        let sockets = PacketSocket::open("packet:right", &config, 3).expect("sockets");
        let mut benches: Vec<Bench> = sockets.iter().map(|_| Bench::new()).collect();
        let mut ports: Vec<PacketPort> = sockets
            .into_iter()
            .zip(&mut benches)
            .map(|(socket, bench)| PacketPort::open(socket, Arc::clone(&bench.wake), &mut bench.pool).expect("a port"))
            .collect();
        let mut sender = Bench::new();
        let mut a = packet(&mut sender, "left", IoPath::Auto, Queueing::Normal);
        let flow = |number: usize, round: usize| {
            let source = u8::try_from(number).expect("few");
            let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
            bytes.extend([0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, source, 10, 0, 0, 200]);
            bytes.extend([0x30, source, 0, 53, 0, 9, 0, 0, u8::try_from(round).expect("few")]);
            bytes
        };
        let mut heard = vec![Vec::new(); 64];
        let deadline = Instant::now() + PATIENCE;
        for round in 0..10 {
            for number in 0..64 {
                assert!(sender.send(&mut *a, &flow(number, round)));
            }
            sender.recv(&mut *a);
            while heard.iter().map(Vec::len).sum::<usize>() < 64 * (round + 1) {
                for (worker, (port, bench)) in ports.iter_mut().zip(&mut benches).enumerate() {
                    for frame in bench.recv(port) {
                        heard[usize::from(frame[29])].push((worker, frame[42]));
                    }
                }
                assert!(Instant::now() < deadline, "round {round}");
            }
        }
        let workers: std::collections::BTreeSet<usize> = heard.iter().map(|flow| flow[0].0).collect();
        for flow in &heard {
            let expected: Vec<(usize, u8)> = (0..10).map(|round| (flow[0].0, round)).collect();
            assert_eq!(*flow, expected, "a flow has one worker and keeps its order");
        }
        assert!(workers.len() > 1, "64 flows over three workers");
        for (port, bench) in ports.into_iter().zip(benches) {
            bench.close(vec![Box::new(port)]);
        }
        sender.close(vec![a]);
    });
}

/// Two stacks of the kernel that talk through our ports.
fn stream_between(
    open: &(dyn Fn(&mut Bench, &str) -> Box<dyn Port> + Sync),
    devices: &str,
) -> Option<[kumite::port::PortCounts; 2]> {
    const LEN: usize = 8 << 20;
    let byte = |at: usize| u8::try_from(at * 7 % 253).expect("a byte");
    // Ports are opened one after the other in the name space of each, by the thread that drives them both.
    in_namespace(|| {
        let mut bench = Bench::new();
        let setup = |address: &str| {
            ip("link set dev lo up");
            if devices == "veth" {
                ip("link add dev s type veth peer name p");
                ip("link set dev p up");
            }
            address.to_owned()
        };
        let address = setup("10.7.0.1");
        let left = open(&mut bench, if devices == "veth" { "p" } else { "s" });
        ip("link set dev s address 02:00:00:00:00:01 up");
        ip(&format!("address add {address}/24 dev s"));
        ip("neighbour add 10.7.0.2 lladdr 02:00:00:00:00:02 dev s");
        let listener = TcpListener::bind("10.7.0.1:0").expect("our address");
        let port = listener.local_addr().expect("bound").port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut bytes = vec![0; LEN];
            stream.read_exact(&mut bytes).expect("all of it");
            stream.write_all(&bytes).expect("and back");
        });
        // SAFETY: takes no pointers; concerns this thread alone.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
        setup("10.7.0.2");
        let right = open(&mut bench, if devices == "veth" { "p" } else { "s" });
        ip("link set dev s address 02:00:00:00:00:02 up");
        ip("address add 10.7.0.2/24 dev s");
        ip("neighbour add 10.7.0.1 lladdr 02:00:00:00:00:01 dev s");
        let client = thread::spawn(move || {
            let mut stream = TcpStream::connect(("10.7.0.1", port)).expect("a way through both ports");
            let sent: Vec<u8> = (0..LEN).map(byte).collect();
            let mut writer = stream.try_clone().expect("a descriptor");
            let bytes = sent.clone();
            let sender = thread::spawn(move || writer.write_all(&bytes).expect("taken"));
            let mut bytes = vec![0; LEN];
            stream.read_exact(&mut bytes).expect("all of it");
            sender.join().expect("sent");
            assert!(bytes == sent, "what came back is what was sent");
        });
        let mut ports = [left, right];
        let deadline = Instant::now() + PATIENCE;
        while !client.is_finished() {
            let mut moved = 0;
            for from in 0..2 {
                for frame in bench.recv_frames(&mut *ports[from]) {
                    moved += 1;
                    let bench = &mut bench;
                    ports[1 - from].send(&mut bench.pool, frame);
                }
            }
            if moved == 0 {
                let [left, right] = &mut ports;
                bench.sleep(&mut [&mut **left, &mut **right]);
            }
            assert!(Instant::now() < deadline, "{:?} {:?}", ports[0].counts(), ports[1].counts());
        }
        client.join().expect("a stream through both");
        server.join().expect("a stream through both");
        let counts = [ports[0].counts(), ports[1].counts()];
        bench.close(ports.into());
        counts
    })
}

#[test]
fn streams_of_two_stacks_pass_through_taps_as_super_frames() {
    if lacks(&[Need::Ring, Need::Tun]) {
        return;
    }
    for (io, super_frames) in
        [(IoPath::Ring, SuperFrames::On), (IoPath::Plain, SuperFrames::On), (IoPath::Ring, SuperFrames::Off)]
    {
        let Some(counts) = stream_between(&|bench, name| tap(bench, name, io, super_frames), "tap") else { return };
        for counts in counts {
            let (came, left) = (counts.rx_in_trains > 0, counts.tx_in_trains > 0);
            let expected = super_frames == SuperFrames::On;
            assert_eq!((came, left), (expected, expected), "{io} {super_frames:?}: {counts:?}");
            assert_eq!(counts.rx_errors, 0);
        }
    }
}

#[test]
fn streams_of_two_stacks_pass_through_packet_sockets() {
    if lacks(&[Need::Ring]) {
        return;
    }
    for io in [IoPath::Ring, IoPath::Plain] {
        let open = |bench: &mut Bench, name: &str| packet(bench, name, io, Queueing::Normal);
        let Some(counts) = stream_between(&open, "veth") else { return };
        for counts in counts {
            assert!(counts.rx_in_trains > 0 && counts.tx_in_trains > 0, "{io}: {counts:?}");
        }
    }
}

#[test]
fn datagrams_of_the_stack_arrive_with_their_checksums_done() {
    if lacks(&[Need::Tun]) {
        return;
    }
    in_namespace(|| {
        let mut bench = Bench::new();
        let mut port = tap(&mut bench, "t", IoPath::Auto, SuperFrames::On);
        ip("link set dev t up");
        ip("address add 10.8.0.1/24 dev t");
        ip("neighbour add 10.8.0.2 lladdr 02:00:00:00:00:02 dev t");
        let socket = UdpSocket::bind("10.8.0.1:5000").expect("our address");
        for len in [1usize, 2, 333, 1000, 1472] {
            socket.send_to(&vec![9; len], "10.8.0.2:6000").expect("taken");
        }
        // A train of five datagrams, cut here.
        let segment: libc::c_int = 700;
        // SAFETY: the value is read for its length.
        let set = unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, (&raw const segment).cast(), 4)
        };
        assert_eq!(set, 0);
        socket.send_to(&[8; 4 * 700 + 55], "10.8.0.2:6000").expect("taken");
        let mut lens = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while lens.len() < 10 {
            for frame in bench.recv(&mut *port).iter().filter(|frame| frame[12..14] == [8, 0] && frame[23] == 17) {
                let udp_len = u32::try_from(frame.len() - 34).expect("short");
                assert_eq!(checksum::of(0, &frame[14..34]), 0, "the header's");
                assert_eq!(
                    checksum::of(checksum::sum(&frame[26..34]) + 17 + udp_len, &frame[34..]),
                    0,
                    "the datagram's"
                );
                assert_eq!(u32::from(u16::from_be_bytes([frame[38], frame[39]])), udp_len);
                lens.push(frame.len() - 42);
            }
            bench.sleep(&mut [&mut *port]);
            assert!(Instant::now() < deadline, "{lens:?} {:?}", port.counts());
        }
        assert_eq!(lens, [1, 2, 333, 1000, 1472, 700, 700, 700, 700, 55]);
        assert_eq!(port.counts().rx_in_trains, 5, "the kernel hands over a train whole");
        bench.close(vec![port]);
    });
}

#[test]
fn an_interface_that_is_deleted_is_told_and_costs_neither_the_worker_nor_its_time() {
    if lacks(&[Need::Ring, Need::AfXdp, Need::Tun]) {
        return;
    }
    in_namespace(|| {
        for way in ["packet", "ring", "generic", "driver", "tap"] {
            let mut bench = Bench::new();
            let mut port = match way {
                "tap" => {
                    let port = tap(&mut bench, "right", IoPath::Auto, SuperFrames::On);
                    ip("link set dev right up");
                    port
                }
                "packet" => {
                    veth();
                    packet(&mut bench, "right", IoPath::Auto, Queueing::Normal)
                }
                "ring" => {
                    veth();
                    packet_by_ring(&mut bench, "right")
                }
                mode => {
                    veth();
                    xdp(&mut bench, "right", mode.parse().expect("a mode"))
                }
            };
            let frame = &frames(5)[4];
            assert!(bench.send(&mut *port, frame));
            bench.recv(&mut *port);
            assert!(!port.is_gone());
            ip("link delete dev right");
            let deadline = Instant::now() + PATIENCE;
            while !port.is_gone() {
                bench.sleep(&mut [&mut *port]);
                bench.recv(&mut *port);
                assert!(Instant::now() < deadline, "{way}: never told");
            }
            assert!(port.counts().rx_errors > 0, "{way}");
            for _ in 0..100 {
                assert!(bench.send(&mut *port, frame));
                bench.recv(&mut *port);
            }
            assert!(!port.before_wait(&mut bench.pool), "{way}: nothing to turn for");
            port.waits_on(&mut |_, interest| panic!("{way}: {interest:?} of what is gone"));
            let began = Instant::now();
            while port.counts().tx_errors + port.counts().tx_frames < 101 {
                bench.recv(&mut *port);
                assert!(began.elapsed() < PATIENCE, "{way}: {:?}", port.counts());
            }
            assert!(port.counts().tx_errors >= 100, "{way}: {:?}", port.counts());
            bench.close(vec![port]);
        }
    });
}

#[test]
fn an_interface_that_is_down_costs_frames_and_keeps_no_chunks() {
    if lacks(&[Need::Ring, Need::AfXdp]) {
        return;
    }
    in_namespace(|| {
        veth();
        for way in ["packet", "ring", "generic", "driver"] {
            let mut bench = Bench::new();
            let mut a = packet(&mut bench, "left", IoPath::Auto, Queueing::Normal);
            let mut b = match way {
                "packet" => packet(&mut bench, "right", IoPath::Auto, Queueing::Normal),
                "ring" => packet_by_ring(&mut bench, "right"),
                mode => xdp(&mut bench, "right", mode.parse().expect("a mode")),
            };
            let sent = frames(300);
            assert!(bench.cross(&mut *b, &mut *a, &sent) == sent, "{way}");
            let before = b.counts();
            ip("link set dev right down");
            let deadline = Instant::now() + PATIENCE;
            for frame in &sent {
                assert!(bench.send(&mut *b, frame));
            }
            while b.counts().tx_errors < before.tx_errors + 300 {
                bench.recv(&mut *b);
                assert!(Instant::now() < deadline, "{way}: {:?}", b.counts());
            }
            assert!(bench.pool.outbox().is_idle() && !b.is_gone(), "{way}");
            assert_eq!(b.counts().tx_bytes, before.tx_bytes, "{way}");
            ip("link set dev right up");
            // The link comes up a little later.
            let mut again = 0;
            while again == 0 {
                assert!(bench.send(&mut *b, &sent[5]));
                bench.recv(&mut *b);
                again += bench.recv(&mut *a).len();
                bench.sleep(&mut [&mut *a, &mut *b]);
                assert!(Instant::now() < deadline, "{way}: never up again");
            }
            bench.close(vec![a, b]);
        }
    });
}

#[test]
fn what_cannot_be_opened_says_why() {
    if lacks(&[Need::Tun, Need::AfXdp]) {
        return;
    }
    in_namespace(|| {
        let config = PacketConfig {
            interface: "z".to_owned(),
            receive: Receive::Blocks,
            fanout: None,
            queueing: Queueing::Normal,
            io: IoPath::Auto,
        };
        let error = PacketSocket::open("packet:z", &config, 1).expect_err("no z");
        assert_eq!(error.to_string(), "packet:z: no interface has this name; `ip link` lists them");
        let config = XdpConfig { interface: "z".to_owned(), mode: XdpMode::Driver };
        let error = XdpQueue::open("af_xdp:z", &config, 1).expect_err("no z");
        assert_eq!(error.to_string(), "af_xdp:z: no interface has this name; `ip link` lists them");
        let mut bench = Bench::new();
        let port = tap(&mut bench, "t", IoPath::Auto, SuperFrames::On);
        let config = TapConfig { interface: "t".to_owned(), io: IoPath::Auto, super_frames: SuperFrames::On };
        let error = TapQueue::open("tap:t", &config, 1).expect_err("held");
        let expected = "tap:t: TUNSETIFF: Device or resource busy (os error 16); end whoever holds it";
        assert_eq!(error.to_string(), expected);
        bench.close(vec![port]);
    });
}

#[test]
fn a_link_carries_frames_wakes_its_peer_and_counts_what_it_cannot_carry() {
    let [left, right] = Link::pair([1, 1]);
    let mut bench = Bench::new();
    let mut a: Box<dyn Port> = Box::new(LinkPort::open(left, "link:l", 0, bench.wake()));
    let peer_wake = Arc::new(Wake::new().expect("a descriptor"));
    let mut b: Box<dyn Port> = Box::new(LinkPort::open(right, "link:l", 0, Arc::clone(&peer_wake)));
    let sent = frames(5000);
    assert!(bench.cross(&mut *a, &mut *b, &sent) == sent);
    assert!(bench.cross(&mut *b, &mut *a, &sent) == sent);
    // A sleeper is woken by the frame.
    peer_wake.begin_sleep();
    assert!(!b.before_wait(&mut bench.pool));
    assert!(bench.send(&mut *a, &sent[0]));
    b.wait(&mut bench.pool, PATIENCE);
    let sleeper = Arc::clone(&peer_wake);
    let sleeper = thread::spawn(move || Sleep::new().block(&sleeper, Duration::MAX));
    let deadline = Instant::now() + PATIENCE;
    while !sleeper.is_finished() {
        thread::sleep(Duration::from_millis(1));
        assert!(Instant::now() < deadline, "slept through");
    }
    peer_wake.end_sleep();
    assert_eq!(bench.recv(&mut *b), sent[..1]);
    // A lane holds so many.
    for frame in &sent[..600] {
        assert!(bench.send(&mut *a, frame));
    }
    let counts = a.counts();
    assert_eq!((counts.tx_frames, counts.tx_errors), (5001 + 512, 88));
    let mut received = 0;
    while received < 512 {
        received += bench.recv(&mut *b).len();
    }
    b.close(&mut bench.pool);
    drop(b);
    assert!(bench.send(&mut *a, &sent[0]));
    assert_eq!((a.counts().tx_errors, a.counts().unreachable), (89, 1), "nobody is there");
    bench.close(vec![a]);
}

#[test]
fn a_link_has_two_ends_and_its_name_is_free_again() {
    let first = Link::named("test of names", 1).expect("free");
    let second = Link::named("test of names", 2).expect("free");
    let error = Link::named("test of names", 1).expect_err("both are held");
    assert_eq!(error.to_string(), "link:test of names: both ends are taken; choose another name");
    drop(first);
    let _third = Link::named("test of names", 1).expect("free again");
    drop(second);
}
