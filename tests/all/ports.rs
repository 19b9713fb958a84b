//! Wire ports on loopback, by both paths: what arrives, what is refused, and that no chunk is lost.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kumite::cage::Cage;
use kumite::limits::{FRAME_LEN_MAX, OUTBOX_CHUNKS, RECEIVE_CHUNKS};
use kumite::port::udp::{IoPath, Socket, Trains, UdpPort, WireConfig};
use kumite::port::{Burst, Pool, Port, PortCounts, Refused, Sleep, Wake};

use crate::shared::skipped;

/// How long a condition may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Every way to move frames.
pub(crate) const WAYS: [(IoPath, Trains); 4] = [
    (IoPath::Ring, Trains::On),
    (IoPath::Ring, Trains::Off),
    (IoPath::Plain, Trains::On),
    (IoPath::Plain, Trains::Off),
];

/// Addresses of loopback that were free a moment ago.
pub(crate) fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let sockets: [UdpSocket; N] = std::array::from_fn(|_| UdpSocket::bind("127.0.0.1:0").expect("a free port"));
    sockets.map(|socket| socket.local_addr().expect("bound"))
}

/// A port with all that a worker has around it.
struct End {
    port: UdpPort,
    pool: Pool,
    wake: Arc<Wake>,
    socket: Arc<Socket>,
    burst: Burst,
    refused: Refused,
}

impl End {
    fn open(wire: WireConfig, io: IoPath, trains: Trains) -> Self {
        let mut sockets = Socket::open(wire, 1).expect("free addresses");
        Self::on(sockets.remove(0), io, trains)
    }

    fn on(socket: Arc<Socket>, io: IoPath, trains: Trains) -> Self {
        let cage = Cage::new().expect("address space");
        let mut pool = Pool::new(&cage, RECEIVE_CHUNKS, OUTBOX_CHUNKS).expect("room");
        let wake = Arc::new(Wake::new().expect("a descriptor"));
        let port = UdpPort::open(Arc::clone(&socket), Arc::clone(&wake), &mut pool, io, trains).expect("a port");
        Self { port, pool, wake, socket, burst: Burst::new(), refused: Refused::default() }
    }

    /// Queues a frame that the outbox takes.
    fn send(&mut self, bytes: &[u8]) {
        let deadline = Instant::now() + PATIENCE;
        while !self.pool.outbox().put(bytes) {
            self.turn(&mut |_| panic!("nobody sends to us"));
            assert!(Instant::now() < deadline, "the outbox never empties");
        }
        let frame = self.pool.outbox().take().expect("just put");
        self.port.send(&mut self.pool, frame);
    }

    /// One turn: hands every frame to `each` and gives it back.
    fn turn(&mut self, each: &mut dyn FnMut(&[u8])) -> usize {
        self.port.recv(&mut self.pool, &mut self.burst);
        let refused = self.burst.take_refused();
        self.refused.runt += refused.runt;
        self.refused.oversize += refused.oversize;
        let mut count = 0;
        let mut bytes = [0; FRAME_LEN_MAX as usize];
        while let Some(frame) = self.burst.take() {
            let len = self.pool.read(&frame, &mut bytes);
            each(&bytes[..len]);
            self.pool.release(frame);
            count += 1;
        }
        count
    }

    /// Turns until the condition holds.
    fn until(&mut self, what: &str, each: &mut dyn FnMut(&[u8]), done: &mut dyn FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let count = self.turn(each);
            if done(self) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: never came; refused {:?}", self.refused);
            if count == 0 {
                self.port.wait(&mut self.pool, Duration::from_millis(20));
            }
        }
    }

    fn tx_done(&self) -> u64 {
        let counts = self.port.counts();
        counts.tx_frames + counts.tx_errors
    }

    /// Closes the port and checks that every chunk came home.
    fn close(mut self) -> PortCounts {
        self.port.end_receiving();
        let deadline = Instant::now() + PATIENCE;
        while self.port.is_receiving() {
            self.turn(&mut |_| {});
            assert!(Instant::now() < deadline, "the receive never ends");
        }
        self.port.close(&mut self.pool);
        assert_eq!(self.pool.free_count(), usize::from(self.pool.own_count()), "chunks of the worker");
        assert!(self.pool.outbox().is_idle(), "chunks of the outbox");
        self.port.counts()
    }
}

fn pair(io: IoPath, trains: Trains) -> (End, End) {
    let [a, b] = free_addresses();
    let there = WireConfig { local: a, peer: b };
    let back = WireConfig { local: b, peer: a };
    (End::open(there, io, trains), End::open(back, io, trains))
}

/// A frame whose bytes tell its number.
fn frame(number: usize) -> Vec<u8> {
    let len = 14 + number * 37 % (FRAME_LEN_MAX as usize - 13);
    (0..len).map(|at| u8::try_from((number * 31 + at * 7) % 251).expect("below 251")).collect()
}

#[test]
fn frames_cross_a_wire_intact_and_in_order() {
    for (io, trains) in WAYS {
        let (mut left, mut right) = pair(io, trains);
        let mut received = 0;
        let total = 20_000;
        for first in (0..total).step_by(32) {
            for number in first..first + 32 {
                left.send(&frame(number));
            }
            let mut check = |bytes: &[u8]| {
                assert_eq!(bytes, frame(received), "{io}, trains {trains}: frame {received}");
                received += 1;
            };
            left.until("sends", &mut |_| {}, &mut |end| end.tx_done() == first as u64 + 32);
            let deadline = Instant::now() + PATIENCE;
            let mut here = 0;
            while here < 32 {
                here += right.turn(&mut check);
                assert!(Instant::now() < deadline, "{io}, trains {trains}: {received} of {total} came");
            }
        }
        assert_eq!(received, total);
        assert_eq!(right.socket.dropped(), 0);
        let bytes: usize = (0..total).map(|number| frame(number).len()).sum();
        let counts = left.close();
        assert_eq!((counts.tx_frames, counts.tx_bytes, counts.tx_errors), (total as u64, bytes as u64, 0));
        right.close();
    }
}

/// Sends frames of these lengths over a pair and checks that they arrive in order; gives what both ends counted.
fn cross(left: &mut End, right: &mut End, lens: &[usize]) -> (PortCounts, PortCounts) {
    let frame = |number: usize| -> Vec<u8> { vec![u8::try_from(number % 256).expect("a byte"); lens[number]] };
    let mut received = 0;
    let deadline = Instant::now() + PATIENCE;
    for first in (0..lens.len()).step_by(64) {
        let last = lens.len().min(first + 64);
        (first..last).for_each(|number| left.send(&frame(number)));
        while received < last {
            left.turn(&mut |_| panic!("nobody sends to us"));
            right.turn(&mut |bytes| {
                assert_eq!(bytes, frame(received), "frame {received}");
                received += 1;
            });
            assert!(Instant::now() < deadline, "{received} of {} came", lens.len());
        }
    }
    (left.port.counts(), right.port.counts())
}

#[test]
fn neighbours_of_one_length_travel_together_and_others_alone() {
    for io in [IoPath::Ring, IoPath::Plain] {
        let (mut left, mut right) = pair(io, Trains::On);
        let (tx, rx) = cross(&mut left, &mut right, &[64; 6400]);
        assert_eq!((tx.tx_frames, tx.tx_in_trains, rx.rx_in_trains), (6400, 6400, 6400), "{io}");
        // Trains of long frames end at the longest datagram, and a shorter frame ends its train.
        let (tx, rx) = cross(&mut left, &mut right, &[1792; 640]);
        assert_eq!((tx.tx_in_trains, rx.rx_in_trains), (7040, 7040), "{io}");
        let growing: Vec<usize> = (14..1014).collect();
        let (tx, rx) = cross(&mut left, &mut right, &growing);
        assert_eq!((tx.tx_frames, tx.tx_in_trains, rx.rx_in_trains), (8040, 7040, 7040), "{io}: all alone");
        let pairs: Vec<usize> = (0..1000).map(|number| if number % 2 == 0 { 100 } else { 50 }).collect();
        let (tx, rx) = cross(&mut left, &mut right, &pairs);
        assert_eq!((tx.tx_in_trains, rx.rx_in_trains), (8040, 8040), "{io}: in twos");
        left.close();
        right.close();
    }
}

#[test]
fn either_end_may_know_no_trains() {
    for (io, ours, theirs) in [IoPath::Ring, IoPath::Plain]
        .into_iter()
        .flat_map(|io| [(io, Trains::On, Trains::Off), (io, Trains::Off, Trains::On)])
    {
        let [a, b] = free_addresses();
        let mut left = End::open(WireConfig { local: a, peer: b }, io, ours);
        let mut right = End::open(WireConfig { local: b, peer: a }, io, theirs);
        let (tx, rx) = cross(&mut left, &mut right, &[200; 2000]);
        assert_eq!((tx.tx_frames, rx.rx_in_trains), (2000, 0), "{io}");
        left.close();
        right.close();
    }
}

#[test]
fn frames_too_long_for_a_train_on_their_route_travel_alone() {
    let tried = std::thread::spawn(|| {
        // SAFETY: takes no pointers; concerns this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let ip = std::process::Command::new("ip").args("link set lo mtu 1400 up".split(' ')).status()?;
        assert!(ip.success(), "our namespace");
        for io in [IoPath::Ring, IoPath::Plain] {
            let (mut left, mut right) = pair(io, Trains::On);
            let (tx, _) = cross(&mut left, &mut right, &[1300; 640]);
            assert_eq!((tx.tx_frames, tx.tx_in_trains), (640, 640), "{io}");
            // The first train is refused; the kernel cuts single datagrams up.
            let lens: Vec<usize> = (0..640).map(|number| if number < 320 { 1500 } else { 1300 }).collect();
            let deadline = Instant::now() + PATIENCE;
            lens.iter().for_each(|len| left.send(&vec![7; *len]));
            let mut received = Vec::new();
            while received.len() < 640 {
                left.turn(&mut |_| {});
                right.turn(&mut |bytes| received.push(bytes.len()));
                assert!(Instant::now() < deadline, "{io}: {} came", received.len());
            }
            received.sort_unstable_by(|a, b| b.cmp(a));
            assert_eq!(received, lens, "{io}");
            let tx = left.close();
            assert_eq!((tx.tx_frames, tx.tx_errors), (1280, 0), "{io}");
            assert!(tx.tx_in_trains >= 900 && tx.tx_in_trains <= 960, "{io}: {tx:?}");
            right.close();
        }
        Ok(())
    });
    if let Err(error) = tried.join().expect("frames arrive") {
        skipped(&format!("no network namespace: {error}"));
    }
}

#[test]
fn runts_empty_datagrams_and_giants_are_refused_and_the_receive_goes_on() {
    for (io, trains) in WAYS {
        let [a, b] = free_addresses();
        let peer = UdpSocket::bind(a).expect("free");
        let mut end = End::open(WireConfig { local: b, peer: a }, io, trains);
        let mut lens = Vec::new();
        for _ in 0..100 {
            for len in [0, 13, 14, 1792, 1793, 9000, 60_000, 60] {
                peer.send_to(&vec![7; len], b).expect("loopback");
            }
            let mut seen = 0;
            end.until("a round", &mut |bytes| lens.push(bytes.len()), &mut |end| {
                seen += 1;
                end.refused.total() % 5 == 0 && end.refused.total() > 0 && seen > 0
            });
        }
        end.until("the last", &mut |bytes| lens.push(bytes.len()), &mut |end| end.refused.total() == 500);
        while lens.len() < 300 {
            end.turn(&mut |bytes| lens.push(bytes.len()));
        }
        assert_eq!(end.refused, Refused { runt: 200, oversize: 300 }, "{io}, trains {trains}");
        assert_eq!(lens.len(), 300);
        assert_eq!(lens.iter().filter(|len| **len == 1792).count(), 100);
        end.close();
    }
}

#[test]
fn a_flood_beyond_the_pool_loses_nothing_that_the_socket_held() {
    for (io, trains) in WAYS {
        let [a, b] = free_addresses();
        let peer = UdpSocket::bind(a).expect("free");
        let mut end = End::open(WireConfig { local: b, peer: a }, io, trains);
        // Three times the chunks, so that the receive ends for want of buffers and is armed again.
        let total = 3 * usize::from(RECEIVE_CHUNKS);
        for number in 0..total {
            peer.send_to(&frame(number)[..14], b).expect("loopback");
        }
        let mut count = 0;
        while count + usize::try_from(end.socket.dropped()).expect("few") < total {
            count += end.turn(&mut |_| {});
            end.port.wait(&mut end.pool, Duration::from_millis(1));
        }
        assert_eq!(count, total, "{io}, trains {trains}: the socket's buffer holds {total} short frames");
        end.close();
    }
}

#[test]
fn a_held_back_burst_fills_the_pool_and_frames_wait_in_the_socket() {
    for (io, trains) in WAYS {
        let [a, b] = free_addresses();
        let peer = UdpSocket::bind(a).expect("free");
        let mut end = End::open(WireConfig { local: b, peer: a }, io, trains);
        let total = 2 * usize::from(RECEIVE_CHUNKS);
        for number in 0..total {
            peer.send_to(&frame(number)[..14], b).expect("loopback");
        }
        let mut held = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while held.len() < usize::from(RECEIVE_CHUNKS) {
            end.port.recv(&mut end.pool, &mut end.burst);
            held.extend(std::iter::from_fn(|| end.burst.take()));
            assert!(Instant::now() < deadline, "{io}, trains {trains}: {} came", held.len());
        }
        end.port.recv(&mut end.pool, &mut end.burst);
        assert_eq!(end.burst.count(), 0, "{io}, trains {trains}: no chunk is left");
        for frame in held.drain(..) {
            end.pool.release(frame);
        }
        let mut count = usize::from(RECEIVE_CHUNKS);
        let expected = total as u64;
        end.until("the rest", &mut |_| count += 1, &mut |end| {
            end.pool.free_count() < 1000 && end.socket.dropped() == 0
        });
        while (count as u64) < expected {
            count += end.turn(&mut |_| {});
        }
        end.close();
    }
}

#[test]
fn strangers_are_not_heard() {
    for (io, trains) in WAYS {
        let [a, b] = free_addresses();
        let peer = UdpSocket::bind(a).expect("free");
        let stranger = UdpSocket::bind("127.0.0.1:0").expect("free");
        for worker_count in [1, 2] {
            let sockets = Socket::open(WireConfig { local: b, peer: a }, worker_count).expect("free");
            let mut end = End::on(Arc::clone(&sockets[0]), io, trains);
            for _ in 0..100 {
                stranger.send_to(&[1; 60], b).expect("loopback");
            }
            peer.send_to(&[2; 60], b).expect("loopback");
            let mut heard = Vec::new();
            let mut count = 0;
            end.until("the peer", &mut |bytes| heard.push(bytes[0]), &mut |_| {
                count += 1;
                count > 3
            });
            while heard.is_empty() {
                end.turn(&mut |bytes| heard.push(bytes[0]));
            }
            assert_eq!(heard, [2], "{io}, trains {trains}");
            end.close();
        }
    }
}

#[test]
fn a_peer_that_is_away_costs_frames_and_not_the_port() {
    for (io, trains) in WAYS {
        let [a, b] = free_addresses();
        let mut end = End::open(WireConfig { local: a, peer: b }, io, trains);
        for round in 0..3u64 {
            for number in 0..50 {
                end.send(&frame(number));
            }
            end.until("sends into the void", &mut |_| {}, &mut |end| end.tx_done() == round * 60 + 50);
            let peer = UdpSocket::bind(b).expect("free");
            peer.set_read_timeout(Some(PATIENCE)).expect("a socket");
            // The first frame may meet the last refusal; it is tried again.
            for number in 0..10 {
                end.send(&frame(number));
            }
            end.until("sends to the peer", &mut |_| {}, &mut |end| end.tx_done() == round * 60 + 60);
            let mut bytes = [0; 2048];
            for _ in 0..10 {
                let len = peer.recv(&mut bytes).expect("all ten arrive");
                assert!(len >= 14);
            }
            peer.connect(a).expect("loopback");
            peer.send(&[9; 60]).expect("loopback");
            let mut heard = 0;
            let deadline = Instant::now() + PATIENCE;
            while heard == 0 {
                heard += end.turn(&mut |bytes| assert_eq!(bytes, [9; 60]));
                assert!(Instant::now() < deadline, "{io}, trains {trains}: deaf after the peer was away");
            }
        }
        let counts = end.close();
        assert!(counts.unreachable > 0, "{io}, trains {trains}: {counts:?}");
        assert_eq!(counts.tx_frames + counts.tx_errors, 180);
        assert_eq!(counts.rx_errors, 0);
    }
}

#[test]
fn a_notification_ends_a_wait() {
    for (io, trains) in WAYS {
        let [a, b] = free_addresses();
        let mut end = End::open(WireConfig { local: a, peer: b }, io, trains);
        for _ in 0..20 {
            end.turn(&mut |_| {});
            end.wake.begin_sleep();
            let wake = Arc::clone(&end.wake);
            let notifier = std::thread::spawn(move || wake.notify());
            let began = Instant::now();
            end.port.wait(&mut end.pool, PATIENCE);
            end.wake.end_sleep();
            assert!(began.elapsed() < PATIENCE / 2, "{io}, trains {trains}: slept through");
            notifier.join().expect("notified");
        }
        let began = Instant::now();
        end.turn(&mut |_| {});
        end.port.wait(&mut end.pool, Duration::from_millis(5));
        assert!(began.elapsed() >= Duration::from_millis(4), "{io}, trains {trains}: nobody notified this one");
        end.close();
    }
}

#[test]
fn a_worker_sleeps_on_several_ports_at_once() {
    for (io, trains) in WAYS {
        let wake = Arc::new(Wake::new().expect("a descriptor"));
        let cage = Cage::new().expect("address space");
        let mut pool = Pool::new(&cage, 3 * RECEIVE_CHUNKS, OUTBOX_CHUNKS).expect("room");
        let [a, b, c, d] = free_addresses();
        let peers = [a, b].map(|peer| UdpSocket::bind(peer).expect("free"));
        let mut ports: Vec<Box<dyn Port>> = Vec::new();
        for (local, peer) in [(c, a), (d, b)] {
            let socket = Socket::open(WireConfig { local, peer }, 1).expect("free").remove(0);
            let port = UdpPort::open(socket, Arc::clone(&wake), &mut pool, io, trains).expect("a port");
            ports.push(Box::new(port));
        }
        let (mut sleep, mut burst) = (Sleep::new(), Burst::new());
        for round in 0..20 {
            let which = round % 3;
            let (peer, to) = (peers[which % 2].try_clone().expect("a descriptor"), [c, d][which % 2]);
            let notified = Arc::clone(&wake);
            // The notifier writes for a sleeper only.
            wake.begin_sleep();
            let waker = std::thread::spawn(move || match which {
                2 => notified.notify(),
                _ => assert_eq!(peer.send_to(&[5; 60], to).expect("loopback"), 60),
            });
            let deadline = Instant::now() + PATIENCE / 2;
            let mut turns = 0;
            loop {
                ports.iter_mut().for_each(|port| port.recv(&mut pool, &mut burst));
                if burst.count() > 0 || (which == 2 && turns > 0) {
                    break;
                }
                sleep.begin();
                ports.iter_mut().for_each(|port| sleep.watch(&mut **port, &mut pool));
                sleep.block(&wake, PATIENCE);
                assert!(Instant::now() < deadline, "{io}, trains {trains}, round {round}: slept through");
                turns += 1;
            }
            wake.end_sleep();
            waker.join().expect("sent");
            while let Some(frame) = burst.take() {
                pool.release(frame);
            }
        }
        for mut port in ports {
            port.end_receiving();
            port.close(&mut pool);
        }
        assert_eq!(pool.free_count(), usize::from(pool.own_count()));
    }
}

#[test]
fn a_busy_address_is_refused_and_a_closed_one_is_free_at_once() {
    let [a, b] = free_addresses();
    let wire = WireConfig { local: a, peer: b };
    for worker_count in [1, 3] {
        let sockets = Socket::open(wire, worker_count).expect("free");
        for other_count in [1, 2] {
            let error = Socket::open(wire, other_count).expect_err("in use");
            assert_eq!(error.to_string(), format!("wire udp {a}: address in use; choose another LOCAL"));
        }
        drop(sockets);
    }
    for (io, trains) in WAYS {
        for _ in 0..10 {
            let end = End::open(wire, io, trains);
            end.close();
        }
    }
}

#[test]
fn addresses_that_cannot_be_a_wire_are_refused() {
    let refusal = |local: &str, peer: &str| {
        let wire = WireConfig { local: local.parse().expect("an address"), peer: peer.parse().expect("an address") };
        Socket::open(wire, 1).expect_err("no wire").to_string()
    };
    assert_eq!(
        refusal("192.0.2.1:7000", "127.0.0.1:7001"),
        "wire udp 192.0.2.1:7000: no interface of this machine has the address; choose another LOCAL"
    );
    assert_eq!(
        refusal("127.0.0.1:0", "[::1]:7001"),
        "wire udp 127.0.0.1:0 -> [::1]:7001: one address is IPv4 and the other IPv6; use one family"
    );
    assert_eq!(
        refusal("127.0.0.1:0", "0.0.0.0:7001"),
        "wire udp 127.0.0.1:0 -> 0.0.0.0:7001: a peer needs an address and a port; name both in PEER"
    );
}

#[test]
fn the_report_says_which_path_and_why() {
    let [a, b] = free_addresses();
    let wire = WireConfig { local: a, peer: b };
    let reports = WAYS.map(|(io, trains)| {
        let end = End::open(wire, io, trains);
        let report = end.port.report().to_owned();
        end.close();
        report
    });
    let expected = [
        "io_uring (multishot receive, trains)",
        "io_uring (multishot receive)",
        "plain calls, trains: as configured",
        "plain calls: as configured",
    ];
    assert_eq!(reports, expected.map(|how| format!("wire udp {a} -> {b}: {how}")));
}

#[test]
fn workers_share_a_wire_by_flow() {
    let [a, b] = free_addresses();
    let peer = UdpSocket::bind(a).expect("free");
    let sockets = Socket::open(WireConfig { local: b, peer: a }, 2).expect("free");
    let mut ends: Vec<End> = sockets.into_iter().map(|socket| End::on(socket, IoPath::Auto, Trains::On)).collect();
    let flow = |number: u16| {
        let mut frame = [0; 60];
        frame[12] = 8;
        frame[23] = 17;
        frame[34..36].copy_from_slice(&number.to_be_bytes());
        frame
    };
    for number in 0..100 {
        for _ in 0..3 {
            peer.send_to(&flow(number), b).expect("loopback");
        }
    }
    let mut hits = [[0u32; 100]; 2];
    let deadline = Instant::now() + PATIENCE;
    while hits.iter().flatten().sum::<u32>() < 300 {
        for (end, hits) in ends.iter_mut().zip(&mut hits) {
            end.turn(&mut |bytes| hits[usize::from(bytes[35])] += 1);
        }
        assert!(Instant::now() < deadline, "{hits:?}");
    }
    for flow in 0..100 {
        let here = hits.map(|hits| hits[flow]);
        assert!(here == [3, 0] || here == [0, 3], "flow {flow} was split: {here:?}");
    }
    assert!(hits.iter().all(|hits| hits.iter().sum::<u32>() > 60), "flows spread");
    for mut end in ends {
        // Unconnected sockets send too.
        end.send(&[5; 60]);
        end.until("a send", &mut |_| {}, &mut |end| end.tx_done() == 1);
        end.close();
    }
    peer.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut bytes = [0; 64];
    for _ in 0..2 {
        assert_eq!(peer.recv(&mut bytes).expect("sent"), 60);
    }
}

#[test]
fn a_wire_runs_over_ipv6() {
    for ((io, trains), worker_count) in WAYS.into_iter().zip([1, 2, 1, 2]) {
        let Ok(peer) = UdpSocket::bind("[::1]:0") else {
            return skipped("no IPv6 on this machine");
        };
        let from = peer.local_addr().expect("bound");
        let wire = WireConfig { local: "[::1]:0".parse().expect("an address"), peer: from };
        let mut sockets = Socket::open(wire, worker_count).expect("free");
        let mut end = End::on(sockets.remove(0), io, trains);
        peer.send_to(&[3; 60], end.socket.local()).expect("loopback");
        let mut heard = 0;
        let deadline = Instant::now() + PATIENCE;
        while heard == 0 {
            heard += end.turn(&mut |bytes| assert_eq!(bytes, [3; 60]));
            assert!(Instant::now() < deadline, "{io}, trains {trains}");
        }
        end.close();
    }
}
