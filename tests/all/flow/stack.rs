//! The kernel's network stack at the other end of the wire: it finds the responder by ARP and neighbour discovery and
//! checks each checksum of what it answers.
//!
//! A thread moves into a network namespace of its own, with a TAP device whose frames travel through a host's wire.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kumite::port::udp::IoPath;

use super::{start, wire};
use crate::ports::free_addresses;
use crate::shared::skipped;

/// How long the stack may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A new namespace for this thread, with a TAP device `wire0` in it.
fn tap_in_a_namespace() -> io::Result<File> {
    // SAFETY: takes no pointers; concerns this thread alone.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let tap = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let mut request = [0u8; 40];
    request[..5].copy_from_slice(b"wire0");
    let flags = i16::try_from(libc::IFF_TAP | libc::IFF_NO_PI).expect("two low bits");
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the request is a `struct ifreq`, 40 bytes, that lives through the call.
    if unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(tap)
}

fn ip(arguments: &str) {
    let answer = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(answer.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&answer.stderr));
}

/// A socket that sends echo requests and hears their replies, whose checksums the kernel has checked.
fn ping_socket(domain: i32, protocol: i32) -> UdpSocket {
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::socket(domain, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, protocol) };
    assert!(fd >= 0, "ping socket: {}", io::Error::last_os_error());
    // SAFETY: the kernel just gave us the descriptor. Only its datagrams are of another protocol.
    unsafe { UdpSocket::from_raw_fd(fd) }
}

/// Sends `request` and gives the answer.
fn ask(socket: &UdpSocket, to: SocketAddr, request: &[u8]) -> Vec<u8> {
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    socket.send_to(request, to).expect("a route");
    let mut answer = [0; 2048];
    let (len, from) = socket.recv_from(&mut answer).expect("an answer in time");
    assert_eq!(from.ip(), to.ip());
    answer[..len].to_vec()
}

#[test]
fn the_kernels_stack_finds_the_responder_and_takes_its_answers() {
    let [a, b] = free_addresses();
    let cable = UdpSocket::bind(a).expect("free");
    cable.connect(b).expect("loopback");
    let host = start("host", b, a, IoPath::Auto, 1);
    let asked = thread::spawn(move || {
        let tap = match tap_in_a_namespace() {
            Ok(tap) => Arc::new(tap),
            Err(error) => return Err(error),
        };
        // The threads end with the test's process.
        let (cable, other) = (Arc::new(cable), Arc::clone(&tap));
        let back = Arc::clone(&cable);
        thread::spawn(move || {
            let mut frame = [0; 2048];
            while let Ok(len) = (&*tap).read(&mut frame) {
                let _ = cable.send(&frame[..len]);
            }
        });
        thread::spawn(move || {
            let mut frame = [0; 2048];
            while let Ok(len) = back.recv(&mut frame) {
                let _ = (&*other).write(&frame[..len]);
            }
        });
        ip("address add 10.0.0.2/24 dev wire0");
        ip("address add fd00::2/64 dev wire0 nodad");
        ip("link set wire0 up");
        fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").expect("our namespace");

        let us: SocketAddr = (Ipv4Addr::new(10, 0, 0, 1), 7).into();
        let us6: SocketAddr = (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1), 7).into();
        // The kernel fills in identifier and checksum.
        let ping = ping_socket(libc::AF_INET, libc::IPPROTO_ICMP);
        for len in [8, 9, 64, 1400] {
            let mut request = vec![0x5a; len];
            request[..8].copy_from_slice(&[8, 0, 0, 0, 0, 0, 0, 9]);
            let answer = ask(&ping, us, &request);
            assert_eq!((answer[0], &answer[6..]), (0, &request[6..]), "echo of {len} bytes");
        }
        let ping = ping_socket(libc::AF_INET6, libc::IPPROTO_ICMPV6);
        for len in [8, 9, 64, 1400] {
            let mut request = vec![0xa5; len];
            request[..8].copy_from_slice(&[128, 0, 0, 0, 0, 0, 0, 9]);
            let answer = ask(&ping, us6, &request);
            assert_eq!((answer[0], &answer[6..]), (129, &request[6..]), "echo of {len} bytes");
        }
        for (any, us) in [("0.0.0.0:0", us), ("[::]:0", us6)] {
            let socket = UdpSocket::bind(any).expect("a port");
            for len in [0, 1, 2, 999, 1400] {
                let request = vec![0xff; len];
                assert_eq!(ask(&socket, us, &request), request, "UDP echo of {len} bytes");
            }
        }
        Ok(())
    });
    match asked.join().expect("every answer is right") {
        Ok(()) => {}
        Err(error) => return skipped(&format!("no namespace with a TAP device: {error}")),
    }
    host.stop();
    let port = wire(&host);
    // Two addresses found, four pings and five datagrams of each family.
    assert!(port.replies >= 20, "{port:?}");
    assert_eq!((port.pass, port.tx_errors), (port.rx, 0));
}
