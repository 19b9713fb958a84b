//! Programs that ask about the network, compared with the kernel in a network namespace of their own.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::{fs, io, thread};

use kumite::run::World;
use kumite::run::routes::Routes;
use kumite::run::sockets::Socket;

use super::{FRAME_COUNT, clang, compare_furnished};
use crate::shared::skipped;

/// The answer of `ip`.
fn ip(arguments: &str) -> String {
    let answer = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(answer.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&answer.stderr));
    String::from_utf8(answer.stdout).expect("ASCII")
}

/// A list that `ip` prints as JSON; it prints nothing, or nothing but its bracket, for an empty one.
fn list(arguments: &str) -> String {
    let text = ip(arguments);
    if text.trim().ends_with(']') { text } else { "[]".to_owned() }
}

/// Does something on a thread in a network namespace of its own; where there can be none, says that it is skipped.
fn in_a_namespace(act: impl FnOnce() + Send + 'static) {
    let acted = thread::spawn(|| {
        // SAFETY: takes no pointers; concerns this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        act();
        Ok(())
    });
    match acted.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => skipped(&format!("no network namespace: {error}")),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn forward(family: &str, interface: &str, wish: &str) {
    fs::write(format!("/proc/sys/net/{family}/conf/{interface}/forwarding"), wish).expect("our namespace");
}

/// Two interfaces that forward and one that does not, routes of every kind, and what `ip` says of them.
fn furnish_namespace() -> String {
    for setup in [
        "link set lo up",
        "link add v0 type veth peer name v1",
        "link add v2 type veth peer name v3",
        "link set v0 address 02:00:00:00:00:10",
        "link set v1 address 02:00:00:00:00:11",
        "link set v2 address 02:00:00:00:00:12",
        "link set v3 address 02:00:00:00:00:13",
        "link set v1 mtu 1350",
        "link set v0 up",
        "link set v1 up",
        "link set v2 up",
        "address add 10.1.0.1/16 dev v0",
        "address add 10.9.0.1/16 dev v1",
        "address add 10.9.0.2/16 dev v1",
        "address add fd01::1/64 dev v0 nodad",
        "address add fd09::1/64 dev v1 nodad",
        "address add fd02:1::1/64 dev v1 nodad",
        "route add 10.2.0.0/16 via 10.1.0.2",
        "route add 10.2.0.2/32 via 10.9.0.3 metric 9",
        "route add 10.2.0.2/32 via 10.1.0.3 metric 8",
        "route add 10.3.0.0/16 via inet6 fd01::9 dev v0",
        "route add blackhole 10.4.0.0/16",
        "route add unreachable 10.5.0.0/16",
        "route add prohibit 10.6.0.0/16",
        "route add 10.7.0.0/16 via 10.1.0.2 mtu lock 1400",
        "route add 10.8.0.0/16 via 10.1.0.2 mtu 1300 src 10.9.0.1",
        "route add throw 10.10.0.0/16",
        "route add 10.10.0.0/16 via 10.9.0.7 table 100",
        "route add 10.1.0.0/16 via 10.9.0.7 table 100",
        "route add default via 10.9.0.9 table 100",
        "route add 10.0.0.0/8 via 10.9.0.4 metric 100",
        "-6 route add fd02::/16 via fd01::2",
        "-6 route add fd02::2/128 via fd09::3 metric 9",
        "-6 route add fd02::2/128 via fd01::3 metric 8",
        "-6 route add blackhole fd04::/16",
        "-6 route add unreachable fd05::/16",
        "-6 route add prohibit fd06::/16",
        "-6 route add fd07::/16 via fd01::2 mtu lock 1400",
        "-6 route add fd08::/16 via fd01::2 mtu 1300 src fd09::1",
        "-6 route add fd0a::/16 via fd09::7 table 100",
        "-6 route add default via fd09::9",
        "neigh add 10.1.0.2 lladdr 02:00:00:00:00:02 dev v0",
        "neigh add 10.1.0.3 lladdr 02:00:00:00:00:03 dev v0",
        "neigh add 10.9.0.4 lladdr 02:00:00:00:00:04 dev v1",
        "neigh add 10.9.0.7 lladdr 02:00:00:00:00:07 dev v1",
        "neigh add fd01::2 lladdr 02:00:00:00:01:02 dev v0",
        "neigh add fd01::9 lladdr 02:00:00:00:01:09 dev v0",
        "neigh add fd09::9 lladdr 02:00:00:00:01:0a dev v1 nud stale",
    ] {
        ip(setup);
    }
    for family in ["ipv4", "ipv6"] {
        forward(family, "all", "1");
        forward(family, "v2", "0");
    }
    let [interfaces, routes, routes6, neighbours] =
        ["-j address", "-j route show table all", "-6 -j route show table all", "-j neigh"].map(list);
    let text = format!(
        r#"{{"interfaces": {interfaces}, "routes": {routes}, "routes6": {routes6}, "neighbours": {neighbours}}}"#
    );
    // What iproute2 does not tell.
    let text = text.replace(r#"{"mtu":1400}"#, r#"{"mtu":1400,"lock":true}"#);
    text.replace(r#""ifname":"v2""#, r#""ifname":"v2","forwarding":false"#)
}

#[test]
fn packets_find_the_ways_that_they_find_in_the_kernel() {
    if !clang::available("clang-19") {
        return;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return skipped("no ip");
    }
    in_a_namespace(|| {
        let told = furnish_namespace();
        let furnish =
            |world: &World| world.routes.replace(Routes::parse(&told).unwrap_or_else(|error| panic!("{error}")));
        for cpu in ["v1", "v3"] {
            let object = clang::build("clang-19", cpu, "tests/programs/route.c");
            for program in ["route_xdp", "route_tc", "too_short"] {
                compare_furnished(&object, program, &[], &furnish, FRAME_COUNT);
            }
        }
    });
}

/// A `struct question` of `sockets.c`: a packet from one end to the other, asked for in a namespace with flags.
fn question(source: SocketAddr, destination: SocketAddr, protocol: &str, rest: [i32; 2]) -> Vec<u8> {
    let octets = |end: SocketAddr| match end.ip() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    let mut bytes = [octets(source), octets(destination), ports].concat();
    let len = u32::try_from(bytes.len()).expect("12 or 36");
    bytes.resize(36, 0);
    bytes.extend(len.to_ne_bytes());
    bytes.extend(u32::from(protocol == "udp").to_ne_bytes());
    bytes.extend(rest.map(i32::to_ne_bytes).as_flattened());
    bytes
}

#[test]
fn sockets_are_found_as_in_the_kernel_and_make_cookies() {
    if !clang::available("clang-19") {
        return;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return skipped("no ip");
    }
    in_a_namespace(|| {
        furnish_namespace();
        fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2").expect("our namespace");
        let listening = ["10.1.0.1:80", "0.0.0.0:81", "[::]:82", "[fd01::1]:83", "127.0.0.1:84"];
        let listeners = listening.map(|end| TcpListener::bind(end).expect("free"));
        let client = TcpStream::connect("127.0.0.1:84").expect("listening");
        let server = listeners[4].accept().expect("connected").0;
        let bound = ["10.1.0.1:53", "0.0.0.0:54", "127.0.0.1:55"];
        let udp = bound.map(|end| UdpSocket::bind(end).expect("free"));
        udp[2].connect("127.0.0.1:56").expect("loopback");

        let tcp = |local: &str| format!(r#"{{"protocol": "tcp", "local": "{local}"}}"#);
        let connected = |protocol: &str, local: SocketAddr, remote: SocketAddr| {
            format!(r#"{{"protocol": "{protocol}", "local": "{local}", "remote": "{remote}"}}"#)
        };
        let mut table: Vec<String> = listening.map(tcp).to_vec();
        for stream in [&client, &server] {
            table.push(connected("tcp", stream.local_addr().expect("bound"), stream.peer_addr().expect("connected")));
        }
        table.extend(bound[..2].iter().map(|local| format!(r#"{{"protocol": "udp", "local": "{local}"}}"#)));
        table.push(connected("udp", "127.0.0.1:55".parse().expect("an end"), "127.0.0.1:56".parse().expect("an end")));
        let table = Socket::parse_list(&format!("[{}]", table.join(","))).expect("well-formed");

        let client_end = client.local_addr().expect("bound").to_string();
        let asked: Vec<(&str, &str, &str, [i32; 2])> = vec![
            ("tcp", "10.1.0.7:1000", "10.1.0.1:80", [-1, 0]),
            ("tcp", "10.1.0.7:1000", "10.1.0.2:80", [-1, 0]),
            ("tcp", "10.1.0.7:1000", "10.1.0.1:80", [0, 0]),
            ("tcp", "10.1.0.7:1000", "10.1.0.1:80", [-1, 1]),
            ("tcp", "10.1.0.7:1000", "10.1.0.1:81", [-1, 0]),
            ("tcp", "10.1.0.7:1000", "10.9.9.9:81", [-1, 0]),
            ("tcp", "10.1.0.7:1000", "10.1.0.1:82", [-1, 0]),
            ("tcp", "[fd01::7]:1000", "[fd01::1]:82", [-1, 0]),
            ("tcp", "[fd01::7]:1000", "[fd01::1]:83", [-1, 0]),
            ("tcp", "[fd01::7]:1000", "[fd01::2]:83", [-1, 0]),
            ("tcp", "[fd01::7]:1000", "[fd01::2]:81", [-1, 0]),
            ("tcp", &client_end, "127.0.0.1:84", [-1, 0]),
            ("tcp", "127.0.0.1:84", &client_end, [-1, 0]),
            ("tcp", "127.0.0.1:1", "127.0.0.1:84", [-1, 0]),
            ("tcp", "127.0.0.1:84", "127.0.0.1:1", [-1, 0]),
            ("udp", "10.1.0.7:1000", "10.1.0.1:53", [-1, 0]),
            ("udp", "10.1.0.7:1000", "10.1.0.2:53", [-1, 0]),
            ("udp", "10.1.0.7:1000", "10.1.0.1:54", [-1, 0]),
            ("udp", "127.0.0.1:56", "127.0.0.1:55", [-1, 0]),
            ("udp", "127.0.0.1:57", "127.0.0.1:55", [-1, 0]),
            ("udp", "[fd01::7]:1000", "[fd01::1]:53", [-1, 0]),
        ];
        let end = |text: &str| text.parse::<SocketAddr>().expect("an end");
        let preset: Vec<_> = (0u32..)
            .zip(&asked)
            .map(|(index, (protocol, source, destination, rest))| {
                ("questions", index.to_ne_bytes().to_vec(), question(end(source), end(destination), protocol, *rest))
            })
            .collect();
        let furnish = |world: &World| world.sockets.replace(table.clone()).expect("room");
        for cpu in ["v1", "v3"] {
            let object = clang::build("clang-19", cpu, "tests/programs/sockets.c");
            for program in ["sockets_xdp", "sockets_tc"] {
                compare_furnished(&object, program, &preset, &furnish, FRAME_COUNT);
            }
        }
    });
}
