//! Ports that need no interface: shared memory, captures, and the wrappers around any port.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kumite::port::{
    Capture, CapturedFrame, Chance, FaultConfig, FaultCounts, FaultPort, Link, LinkPort, Port, PortSpec, Span, open,
};

use crate::ports_kernel::{Bench, frames};
use crate::shared::skipped;

/// How long a condition may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// Says to a child process where its peer is.
const CHILD_PATH: &str = "KUMITE_TEST_SHM_PATH";

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kumite-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn port(bench: &mut Bench, spec: &str) -> Box<dyn Port> {
    let spec: PortSpec = spec.parse().unwrap_or_else(|error| panic!("{error}"));
    let wake = Arc::clone(&bench.wake);
    open(&spec, &wake, &mut bench.pool).unwrap_or_else(|error| panic!("{error}"))
}

/// Turns both ports until frames cross: the ends have met.
fn meet(bench: &mut Bench, ports: &mut [&mut dyn Port; 2]) {
    let hello = &frames(5)[4];
    let deadline = Instant::now() + PATIENCE;
    loop {
        let [one, two] = ports;
        assert!(bench.send(*one, hello));
        bench.recv(*one);
        if bench.recv(*two) == [hello.clone()] {
            return;
        }
        bench.sleep(&mut [*one, *two]);
        assert!(Instant::now() < deadline, "they never met");
    }
}

#[test]
fn frames_cross_shared_memory_intact_and_either_end_comes_again() {
    let folder = Folder::new("shm");
    let spec = format!("shm:{}", folder.path("wire"));
    let mut bench = Bench::new();
    let mut one = port(&mut bench, &spec);
    let mut two = port(&mut bench, &spec);
    assert_eq!(one.report(), format!("{spec}: shared memory"));
    let sent = frames(3000);
    for round in 0..4 {
        meet(&mut bench, &mut [&mut *one, &mut *two]);
        assert!(bench.cross(&mut *one, &mut *two, &sent) == sent, "round {round}");
        assert!(bench.cross(&mut *two, &mut *one, &sent) == sent, "round {round}");
        let gone = if round % 2 == 0 { &mut one } else { &mut two };
        gone.close(&mut bench.pool);
        // Dropped before the new one looks for its peer.
        *gone = port(&mut bench, &format!("link:{}", folder.path("nothing")));
        *gone = port(&mut bench, &spec);
    }
    bench.close(vec![one, two]);
    assert_eq!(fs::read_dir(&folder.0).expect("a folder").count(), 0, "the path is free again");
}

#[test]
fn a_full_ring_costs_frames_and_what_a_peer_leaves_is_counted() {
    let folder = Folder::new("shm-full");
    let spec = format!("shm:{}", folder.path("wire"));
    let mut bench = Bench::new();
    let mut one = port(&mut bench, &spec);
    assert!(bench.send(&mut *one, &frames(2)[1]));
    assert_eq!(one.counts().tx_errors, 1, "nobody is there");
    let mut two = port(&mut bench, &spec);
    meet(&mut bench, &mut [&mut *one, &mut *two]);
    let before = one.counts();
    for frame in frames(300) {
        assert!(bench.send(&mut *one, &frame));
    }
    let counts = one.counts();
    assert_eq!((counts.tx_frames - before.tx_frames, counts.tx_errors - before.tx_errors), (256, 44));
    let mut received = 0;
    while received < 64 {
        received += bench.recv(&mut *two).len();
    }
    two.close(&mut bench.pool);
    let deadline = Instant::now() + PATIENCE;
    while one.counts().unreachable == 0 {
        bench.recv(&mut *one);
        bench.sleep(&mut [&mut *one]);
        assert!(Instant::now() < deadline, "its end is never noticed");
    }
    let counts = one.counts();
    assert_eq!((counts.tx_frames - before.tx_frames, counts.tx_errors - before.tx_errors), (64, 236));
    bench.close(vec![one, two]);
}

#[test]
fn ends_that_start_together_meet_even_where_a_dead_socket_lies() {
    let folder = Folder::new("shm-together");
    for round in 0..40 {
        let path = folder.path(&format!("wire{round}"));
        if round % 2 == 0 {
            drop(UnixListener::bind(&path).expect("free"));
        }
        let gate = std::sync::Barrier::new(2);
        let done = AtomicUsize::new(0);
        let end = || {
            let mut bench = Bench::new();
            gate.wait();
            let mut end = port(&mut bench, &format!("shm:{path}"));
            let (deadline, mut has_heard) = (Instant::now() + PATIENCE, false);
            // Each goes on until both have heard the other.
            while done.load(Ordering::SeqCst) < 2 {
                assert!(bench.send(&mut *end, &frames(2)[1]));
                if !bench.recv(&mut *end).is_empty() && !std::mem::replace(&mut has_heard, true) {
                    done.fetch_add(1, Ordering::SeqCst);
                }
                bench.sleep(&mut [&mut *end]);
                assert!(Instant::now() < deadline, "round {round}: they never met");
            }
            bench.close(vec![end]);
        };
        std::thread::scope(|scope| [scope.spawn(end), scope.spawn(end)].map(|end| end.join().expect("met")));
        assert!(!Path::new(&path).exists(), "round {round}: the path is free again");
    }
}

#[test]
fn an_end_removes_no_file_but_its_own() {
    let folder = Folder::new("shm-own");
    let path = folder.path("wire");
    let mut bench = Bench::new();
    let end = port(&mut bench, &format!("shm:{path}"));
    fs::remove_file(&path).expect("it listens there");
    let _other = UnixListener::bind(&path).expect("free");
    bench.close(vec![end]);
    assert!(Path::new(&path).exists(), "it is another's");
}

/// Makes the calling thread, and no other, one of a user who may do nothing.
fn become_nobody() {
    // SAFETY: takes no pointers; the call itself, other than the function of this name, concerns this thread alone.
    let answer = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_stranger_is_no_peer_on_either_side() {
    // SAFETY: takes no pointers.
    if unsafe { libc::geteuid() } != 0 {
        return skipped("not root: no other user to be");
    }
    let folder = Folder::new("shm-stranger");
    let path = folder.path("wire");
    let mut bench = Bench::new();
    let mut end = port(&mut bench, &format!("shm:{path}"));
    let mode = fs::metadata(&path).expect("it listens there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let everybody = |path: &str| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("ours");
    everybody(&path);
    everybody(folder.0.to_str().expect("UTF-8"));
    std::thread::scope(|scope| {
        let stranger = scope.spawn(|| {
            become_nobody();
            UnixStream::connect(&path).expect("it listens").read(&mut [0])
        });
        let deadline = Instant::now() + PATIENCE;
        while !stranger.is_finished() {
            bench.recv(&mut *end);
            bench.sleep(&mut [&mut *end]);
            assert!(Instant::now() < deadline, "it neither greets nor refuses");
        }
        assert_eq!(stranger.join().expect("it asked").expect("an end"), 0, "no memory for strangers");
    });
    bench.close(vec![end]);
    let listener = std::thread::scope(|scope| {
        let listen = || {
            become_nobody();
            UnixListener::bind(&path).expect("a folder for everybody")
        };
        scope.spawn(listen).join().expect("it listens")
    });
    let spec: PortSpec = format!("shm:{path}").parse().expect("a port");
    let mut bench = Bench::new();
    let error = open(&spec, &Arc::clone(&bench.wake), &mut bench.pool).err().expect("a stranger's");
    let expected = format!(
        "shm:{path}: meeting at the path: Permission denied (os error 13); run as root or with CAP_NET_RAW and CAP_NET_ADMIN"
    );
    assert_eq!(error.to_string(), expected);
    drop(listener);
}

/// The other process of the test below; nothing without its path.
#[test]
fn shm_child() {
    let Some(path) = std::env::var_os(CHILD_PATH) else { return };
    let mut bench = Bench::new();
    let mut end = port(&mut bench, &format!("shm:{}", path.to_str().expect("UTF-8")));
    // Sends back what comes, until it is killed.
    let deadline = Instant::now() + 3 * PATIENCE;
    while Instant::now() < deadline {
        for frame in bench.recv(&mut *end) {
            assert!(bench.send(&mut *end, &frame));
        }
        bench.sleep(&mut [&mut *end]);
    }
}

fn child(path: &str) -> Child {
    let own = std::env::current_exe().expect("a test binary");
    let list = Command::new(&own).args(["--list", "--format=terse"]).output().expect("itself");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let name = list.lines().find_map(|line| line.strip_suffix(": test").filter(|name| name.ends_with("::shm_child")));
    let name = name.expect("it is listed");
    let mut command = Command::new(own);
    command.args([name, "--exact"]).env(CHILD_PATH, path).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("a process")
}

#[test]
fn a_peer_in_another_process_that_is_killed_costs_frames_and_another_takes_its_place() {
    let folder = Folder::new("shm-killed");
    let path = folder.path("wire");
    let mut bench = Bench::new();
    let mut end = port(&mut bench, &format!("shm:{path}"));
    let sent = frames(50);
    for round in 1..=3 {
        let mut child = child(&path);
        let deadline = Instant::now() + PATIENCE;
        let mut back = Vec::new();
        while back.is_empty() {
            assert!(bench.send(&mut *end, &sent[0]));
            back = bench.recv(&mut *end);
            bench.sleep(&mut [&mut *end]);
            assert!(Instant::now() < deadline, "round {round}: it never answers");
        }
        let mut answered = 0;
        for frame in &sent {
            assert!(bench.send(&mut *end, frame));
        }
        while answered < sent.len() {
            answered += bench.recv(&mut *end).iter().filter(|frame| **frame != sent[0]).count();
            answered += usize::from(answered == sent.len() - 1);
            bench.sleep(&mut [&mut *end]);
            assert!(Instant::now() < deadline, "round {round}: {answered} came back");
        }
        child.kill().expect("it runs");
        child.wait().expect("it ran");
        while end.counts().unreachable < round {
            bench.recv(&mut *end);
            bench.sleep(&mut [&mut *end]);
            assert!(Instant::now() < deadline, "round {round}: its death is never noticed");
        }
        let errors = end.counts().tx_errors;
        assert!(bench.send(&mut *end, &sent[1]));
        assert_eq!(end.counts().tx_errors, errors + 1, "nobody is there");
    }
    bench.close(vec![end]);
}

/// The memory that a listening end hands over.
fn memory_of(socket: &UnixStream) -> File {
    let mut byte = [0u8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = [0u64; 8];
    // SAFETY: a message header of zeroes has no name, no parts and no control bytes.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = 64;
    // SAFETY: the message points at locals that outlive the call.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    assert_eq!(len, 1, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel just gave us the descriptor.
    unsafe { File::from_raw_fd(i32::from_ne_bytes(control[2].to_ne_bytes()[..4].try_into().expect("four"))) }
}

#[test]
fn a_peer_that_writes_anything_into_the_rings_harms_nobody_but_itself() {
    let folder = Folder::new("shm-hostile");
    let path = folder.path("wire");
    let mut bench = Bench::new();
    let mut end = port(&mut bench, &format!("shm:{path}"));
    let mut state = 1u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u32::try_from(state >> 32).expect("32 bits")
    };
    let ring_len = 4096 + 256 * 2048u64;
    let mut partings = 0;
    for round in 0..200u32 {
        let socket = UnixStream::connect(&path).expect("it listens");
        let deadline = Instant::now() + PATIENCE;
        let memory = std::thread::scope(|scope| {
            let receiver = scope.spawn(|| memory_of(&socket));
            while !receiver.is_finished() {
                bench.recv(&mut *end);
                bench.sleep(&mut [&mut *end]);
                assert!(Instant::now() < deadline, "round {round}: it never greets");
            }
            receiver.join().expect("greeted")
        });
        assert!(memory.set_len(5).is_err(), "nobody cuts the memory off");
        let write = |at: u64, value: u32| memory.write_all_at(&value.to_ne_bytes(), at).expect("memory");
        for slot in 0..256u64 {
            let len = if slot % 3 == 0 { draw() } else { draw() % 2000 };
            write(ring_len + 4096 + slot * 2048, len);
        }
        // Few frames, as many as fit, or more than that; and the index of what we consumed.
        let produced = [draw() % 100, 256, 257, draw(), u32::MAX][round as usize % 5];
        write(ring_len, produced);
        write(64, if round % 2 == 0 { 0 } else { draw() });
        write(128, draw());
        let errors = end.counts().rx_errors;
        for _ in 0..20 {
            bench.recv(&mut *end);
            assert!(bench.send(&mut *end, &frames(3)[2]));
            bench.recv(&mut *end);
        }
        partings += end.counts().rx_errors - errors;
        let unreachable = end.counts().unreachable;
        drop(socket);
        while end.counts().rx_errors == errors && end.counts().unreachable == unreachable {
            bench.recv(&mut *end);
            bench.sleep(&mut [&mut *end]);
            assert!(Instant::now() < deadline, "round {round}: its end is never noticed");
        }
    }
    assert!(partings > 80, "indices that cannot be end the connection: {partings}");
    assert!(bench.refused.runt > 0 && bench.refused.oversize > 0, "{:?}", bench.refused);
    bench.close(vec![end]);
}

#[test]
fn memory_that_a_peer_could_cut_off_is_not_taken() {
    let folder = Folder::new("shm-unsealed");
    let path = folder.path("wire");
    let listener = UnixListener::bind(&path).expect("free");
    let mut bench = Bench::new();
    let mut end = port(&mut bench, &format!("shm:{path}"));
    let (socket, _) = listener.accept().expect("it connects");
    let file = File::options().read(true).write(true).create_new(true).open(folder.path("memory")).expect("a file");
    file.set_len(2 * (4096 + 256 * 2048)).expect("space");
    send_file(&socket, &file);
    let deadline = Instant::now() + PATIENCE;
    // It lets go of the stranger and looks for another.
    socket.set_nonblocking(true).expect("a socket");
    while !matches!((&socket).read(&mut [0]), Ok(0)) {
        bench.recv(&mut *end);
        bench.sleep(&mut [&mut *end]);
        assert!(Instant::now() < deadline, "it holds on");
    }
    assert!(bench.send(&mut *end, &frames(2)[1]));
    assert_eq!(end.counts().tx_errors, 1);
    bench.close(vec![end]);
}

#[test]
fn descriptors_that_a_peer_sends_unasked_are_closed() {
    let folder = Folder::new("shm-descriptors");
    let path = folder.path("wire");
    let listener = UnixListener::bind(&path).expect("free");
    let mut bench = Bench::new();
    let mut end = port(&mut bench, &format!("shm:{path}"));
    let (socket, _) = listener.accept().expect("it connects");
    // Each pipe ends when nobody has its other side any more.
    let pipes = [(); 2].map(|()| std::io::pipe().expect("descriptors"));
    let [(first, first_writer), (second, second_writer)] = pipes;
    send_files(&socket, [first_writer.as_raw_fd(), second_writer.as_raw_fd()]);
    drop((first_writer, second_writer));
    let deadline = Instant::now() + PATIENCE;
    for (which, mut pipe) in [("first", first), ("second", second)] {
        // SAFETY: takes no pointers.
        let set = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        while !matches!(pipe.read(&mut [0]), Ok(0)) {
            bench.recv(&mut *end);
            bench.sleep(&mut [&mut *end]);
            assert!(Instant::now() < deadline, "the {which} stays open");
        }
    }
    bench.close(vec![end]);
}

fn send_file(socket: &UnixStream, file: &File) {
    send_descriptors(socket, 20, [file.as_raw_fd(), 0]);
}

fn send_files(socket: &UnixStream, files: [RawFd; 2]) {
    send_descriptors(socket, 24, files);
}

/// Sends what a control message of this length holds of two descriptors.
fn send_descriptors(socket: &UnixStream, control_len: u64, files: [RawFd; 2]) {
    let mut byte = [0u8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let rights = u64::from(libc::SOL_SOCKET.cast_unsigned()) | u64::from(libc::SCM_RIGHTS.cast_unsigned()) << 32;
    let [first, second] = files.map(|file| u64::from(file.cast_unsigned()));
    let mut control = [control_len, rights, first | second << 32];
    // SAFETY: a message header of zeroes has no name, no parts and no control bytes.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = 24;
    // SAFETY: the message points at locals that outlive the call.
    let len = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    assert_eq!(len, 1, "{}", std::io::Error::last_os_error());
}

fn bad_wire(config: FaultConfig, sent: &[Vec<u8>]) -> (FaultCounts, Vec<Vec<u8>>) {
    let mut bench = Bench::new();
    let [left, right] = Link::pair([1, 1]);
    let inner = Box::new(LinkPort::open(left, "link:l", 0, Arc::clone(&bench.wake)));
    let mut a = FaultPort::new(inner, config);
    let mut b = LinkPort::open(right, "link:l", 0, Arc::clone(&bench.wake));
    let mut received = Vec::new();
    for frames in sent.chunks(64) {
        for frame in frames {
            assert!(bench.send(&mut a, frame));
        }
        bench.recv(&mut a);
        received.extend(bench.recv(&mut b));
        received.extend(bench.recv(&mut b));
    }
    let counts = |a: &FaultPort| a.faults()[0];
    let deadline = Instant::now() + PATIENCE;
    let due = |a: &FaultPort| {
        let counts = counts(a);
        counts.frames - counts.lost - counts.parted - counts.overflowed + counts.duplicated
    };
    while received.len() as u64 != due(&a) {
        bench.recv(&mut a);
        received.extend(bench.recv(&mut b));
        bench.sleep(&mut [&mut a, &mut b]);
        assert!(Instant::now() < deadline, "{} of {} came", received.len(), due(&a));
    }
    let faults = counts(&a);
    assert_eq!(a.counts().tx_frames, sent.len() as u64, "a wire's losses have been sent");
    bench.close(vec![Box::new(a), Box::new(b)]);
    (faults, received)
}

#[test]
fn copies_that_the_wire_made_are_in_no_count_of_the_senders() {
    let mut bench = Bench::new();
    let [left, right] = Link::pair([1, 1]);
    let inner = LinkPort::open(left, "link:copies", 0, Arc::clone(&bench.wake));
    let config = FaultConfig { duplicate: Chance::millionths(1_000_000), ..FaultConfig::default() };
    let mut a = FaultPort::new(Box::new(inner), config);
    drop(right);
    for frame in frames(10) {
        assert!(bench.send(&mut a, &frame));
    }
    let counts = a.counts();
    assert_eq!((counts.tx_frames, counts.tx_errors), (0, 10), "nobody is there");
    bench.close(vec![Box::new(a)]);
}

#[test]
fn faults_are_those_of_the_seed_and_the_books_balance() {
    let sent: Vec<Vec<u8>> = (0..10_000u32).map(|number| number.to_be_bytes().repeat(8)).collect();
    let chance = Chance::millionths;
    let config = FaultConfig {
        seed: 7,
        loss: chance(10_000),
        duplicate: chance(20_000),
        corrupt: chance(30_000),
        reorder: chance(40_000),
        delay_us: None,
        partition: Some(Span { first: 5000, last: 5499 }),
    };
    let (faults, received) = bad_wire(config, &sent);
    let (again, _) = bad_wire(config, &sent);
    assert_eq!(faults, again);
    let expected = EXPECTED_OF_SEED_7;
    assert_eq!(faults, expected);
    assert_eq!(received.len() as u64, 10_000 - faults.lost - 500 + faults.duplicated);
    let is_whole = |frame: &&Vec<u8>| frame.chunks(4).all(|word| *word == frame[..4]);
    let spoiled = received.iter().filter(|frame| !is_whole(frame)).count() as u64;
    // A frame that comes twice is spoiled twice.
    assert!((faults.corrupted..faults.corrupted + 20).contains(&spoiled), "{spoiled}");
    let numbers: Vec<u32> = received
        .iter()
        .filter(is_whole)
        .map(|frame| u32::from_be_bytes(frame[..4].try_into().expect("four bytes")))
        .collect();
    assert!(numbers.iter().all(|number| !(5000..5500).contains(number)));
    assert!(!numbers.is_sorted(), "some were overtaken");
    // Each fault alone, and none of them changes another.
    let (alone, received) = bad_wire(FaultConfig { seed: 7, loss: chance(10_000), ..FaultConfig::default() }, &sent);
    let in_partition = alone.lost - faults.lost;
    assert!(in_partition < 15, "the others are lost in both");
    assert_eq!(received.len() as u64, 10_000 - alone.lost);
    assert!(received.is_sorted(), "loss keeps the order");
    let late = FaultConfig { seed: 7, delay_us: Some(Span { first: 100, last: 300 }), ..FaultConfig::default() };
    let (late, received) = bad_wire(late, &sent[..200]);
    assert_eq!((late.delayed, received.len()), (200, 200));
}

const EXPECTED_OF_SEED_7: FaultCounts = FaultCounts {
    frames: 10_000,
    lost: 90,
    parted: 500,
    overflowed: 0,
    duplicated: 194,
    unduplicated: 0,
    corrupted: 305,
    reordered: 357,
    delayed: 0,
};

#[test]
fn what_passes_is_recorded_and_told() {
    let folder = Folder::new("record");
    let (capture, trace, name) = (folder.path("x.pcap"), folder.path("x.txt"), folder.path("cable"));
    let mut bench = Bench::new();
    let mut a = port(&mut bench, &format!("link:{name}?record={capture}&trace={trace}"));
    let mut b = port(&mut bench, &format!("link:{name}"));
    assert_eq!(a.report(), format!("link:{name}: in memory, recorded to {capture}, traced to {trace}"));
    let sent = frames(1500);
    assert!(bench.cross(&mut *a, &mut *b, &sent[..500]) == sent[..500]);
    assert!(bench.cross(&mut *b, &mut *a, &sent[500..]) == sent[500..]);
    bench.close(vec![a, b]);
    let recorded = Capture::read(&fs::read(&capture).expect("it is there")).expect("a capture");
    assert!(recorded.iter().map(|frame| &frame.bytes).eq(&sent), "both directions, in order");
    let told = fs::read_to_string(&trace).expect("it is there");
    let lines = told.lines().filter(|line| line.contains(" in  ") || line.contains(" out ")).count();
    let untold: usize =
        told.lines().filter_map(|line| line.trim().strip_suffix(" frames more")?.parse::<usize>().ok()).sum();
    assert_eq!(lines + untold, 1500, "each has its line, or is counted in one");
    assert!(told.starts_with("    0."), "{}", told.lines().next().unwrap_or_default());
}

#[test]
fn a_full_disk_costs_the_record_and_not_the_port() {
    let folder = Folder::new("full");
    let name = folder.path("cable");
    let mut bench = Bench::new();
    let mut a = port(&mut bench, &format!("link:{name}?trace=/dev/full"));
    let mut b = port(&mut bench, &format!("link:{name}"));
    let deadline = Instant::now() + PATIENCE;
    let sent = frames(300);
    while a.counts().unrecorded == 0 {
        assert!(bench.cross(&mut *a, &mut *b, &sent) == sent);
        assert!(Instant::now() < deadline, "the disk is full");
    }
    bench.close(vec![a, b]);
}

#[test]
fn captures_come_in_with_or_without_their_timing_and_go_out() {
    let folder = Folder::new("pcap");
    let (input, output) = (folder.path("in.pcapng"), folder.path("out.pcap"));
    let sent = frames(300);
    let step = Duration::from_micros(100);
    let captured =
        sent.iter().zip(1u32..).map(|(bytes, number)| CapturedFrame { at: step * number, bytes: bytes.clone() });
    let mut captured: Vec<CapturedFrame> = captured.collect();
    captured.push(CapturedFrame { at: step * 300, bytes: vec![1; 13] });
    captured.push(CapturedFrame { at: step * 300, bytes: vec![1; 1793] });
    fs::write(&input, Capture::PcapNg.write(&captured)).expect("space");
    for timing in ["off", "on"] {
        let mut bench = Bench::new();
        let mut port = port(&mut bench, &format!("pcap:{input}?out={output}&timing={timing}"));
        let began = Instant::now();
        let mut received = Vec::new();
        while port.is_receiving() {
            for frame in bench.recv(&mut *port) {
                assert!(bench.send(&mut *port, &frame));
                received.push(frame);
            }
            bench.sleep(&mut [&mut *port]);
            assert!(began.elapsed() < PATIENCE, "{timing}: {} came", received.len());
        }
        assert!(received == sent, "timing {timing}");
        assert!(timing == "off" || began.elapsed() >= step * 299, "no frame before its time");
        assert_eq!((bench.refused.runt, bench.refused.oversize), (1, 1));
        assert_eq!(port.counts().tx_frames, 300);
        bench.close(vec![port]);
        let written = Capture::read(&fs::read(&output).expect("it is there")).expect("a capture");
        assert!(written.iter().map(|frame| &frame.bytes).eq(&sent), "timing {timing}");
    }
}

#[test]
fn ports_of_files_that_are_not_there_say_so() {
    let folder = Folder::new("refused");
    let refusal = |spec: &str| {
        let spec: PortSpec = spec.parse().expect("a port");
        spec.prepare(1).expect_err("no port").to_string()
    };
    let none = folder.path("none");
    assert_eq!(
        refusal(&format!("pcap:{none}")),
        format!("pcap:{none}: reading: No such file or directory (os error 2); see the call's manual page")
    );
    fs::write(&none, "what").expect("space");
    assert_eq!(
        refusal(&format!("pcap:{none}")),
        format!("pcap:{none}: capture: it begins neither as pcap nor as pcapng; write it with tcpdump or tshark")
    );
    assert_eq!(
        refusal(&format!("shm:{none}")),
        format!("shm:{none}: meeting at the path: Connection refused (os error 111); see the call's manual page")
    );
    assert_eq!(
        refusal(&format!("link:a?record={none}/x")),
        "link:a: writing: Not a directory (os error 20); see the call's manual page"
    );
}
