//! Classic BPF for the kernel's side of a wire: who may send to us, and which worker gets a frame.
//!
//! Source: `net/core/filter.c` (`sk_filter` sees a datagram from its UDP header on, `reuseport_select_sock` from its
//! payload on; loads outside end the program with 0).

use std::net::{IpAddr, SocketAddr};

use libc::sock_filter;

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const TO_X: u32 = libc::BPF_MISC | libc::BPF_TAX;
const XOR_X: u32 = libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X;
const MUL: u32 = libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K;
const SHIFT_RIGHT: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K;
const MODULO: u32 = libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K;
const STORE: u32 = libc::BPF_ST;
const LOAD_STORED: u32 = libc::BPF_LD | libc::BPF_MEM;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
const RETURN_A: u32 = libc::BPF_RET | libc::BPF_A;

const ACCEPT: u32 = u32::MAX;
const REFUSE: u32 = 0;

fn insn(code: u32, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: u16::try_from(code).expect("opcodes have 16 bits"), jt, jf, k }
}

/// Accepts datagrams from `peer` only.
pub(super) fn from_peer(peer: SocketAddr) -> Vec<sock_filter> {
    let network_header = libc::SKF_NET_OFF.cast_unsigned();
    let (first, words): (u32, Vec<u32>) = match peer.ip() {
        IpAddr::V4(ip) => (12, vec![ip.to_bits()]),
        IpAddr::V6(ip) => {
            let words = ip.octets();
            let words = words.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word));
            (8, words.collect())
        }
    };
    let mut checks = vec![(LOAD_HALF, 0, u32::from(peer.port()))];
    checks.extend((0u32..).zip(words).map(|(index, word)| (LOAD_WORD, network_header + first + 4 * index, word)));
    let mut program = Vec::new();
    for (load, at, value) in checks {
        program.extend([insn(load, at), jump(IF_EQUAL, value, 1, 0), insn(RETURN, REFUSE)]);
    }
    program.push(insn(RETURN, ACCEPT));
    program
}

/// Chooses one of `worker_count` workers by the flow of the frame that a datagram carries: addresses and, for TCP and
/// UDP, ports. Both directions of a flow go to one worker; a frame too short to have a flow goes to the first.
pub(super) fn by_flow(worker_count: u32) -> Vec<sock_filter> {
    // Offsets from the start of the frame.
    let ipv4 = flow_hash(23, &[26, 30], 34, worker_count);
    let ipv6 = flow_hash(20, &[22, 26, 30, 34, 38, 42, 46, 50], 54, worker_count);
    let over_ipv4 = u8::try_from(ipv4.len()).expect("a short program");
    let mut program = vec![insn(LOAD_HALF, 12), jump(IF_EQUAL, 0x0800, 0, over_ipv4)];
    program.extend(ipv4);
    program.extend([jump(IF_EQUAL, 0x86dd, 1, 0), insn(RETURN, 0)]);
    program.extend(ipv6);
    program
}

/// The worker that [`by_flow`] chooses, for frames that do not come through the kernel.
pub(super) fn worker_of(frame: &[u8], worker_count: u32) -> u32 {
    if worker_count == 1 {
        return 0;
    }
    let word = |at: usize| frame.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let half = |at: usize| frame.get(at..at + 2).map(|b| u32::from(u16::from_be_bytes([b[0], b[1]])));
    let hash = |protocol_at: usize, words_at: std::ops::Range<usize>| {
        let ports_at = words_at.end;
        let words = words_at.step_by(4).map(word).try_fold(0, |hash, word| Some(hash ^ word?))?;
        let ports = match frame.get(protocol_at)? {
            6 | 17 => half(ports_at)? ^ half(ports_at + 2)?,
            _ => 0,
        };
        Some(((words ^ ports).wrapping_mul(0x9e37_79b1) >> 16) % worker_count)
    };
    let chosen = match half(12) {
        Some(0x0800) => hash(23, 26..34),
        Some(0x86dd) => hash(20, 22..54),
        _ => None,
    };
    chosen.unwrap_or(0)
}

fn flow_hash(protocol_at: u32, words_at: &[u32], ports_at: u32, worker_count: u32) -> Vec<sock_filter> {
    let add = |at: u32| [insn(TO_X, 0), insn(LOAD_WORD, at), insn(XOR_X, 0)];
    let mut program = vec![insn(LOAD_WORD, words_at[0])];
    program.extend(words_at[1..].iter().flat_map(|at| add(*at)));
    let hash = 0;
    program.extend([insn(STORE, hash), insn(LOAD_BYTE, protocol_at)]);
    program.extend([jump(IF_EQUAL, 6, 1, 0), jump(IF_EQUAL, 17, 0, 8)]);
    // Ports, folded so that both directions give the same.
    program.extend([
        insn(LOAD_HALF, ports_at),
        insn(TO_X, 0),
        insn(LOAD_HALF, ports_at + 2),
        insn(XOR_X, 0),
        insn(TO_X, 0),
        insn(LOAD_STORED, hash),
        insn(XOR_X, 0),
        insn(STORE, hash),
    ]);
    // The golden ratio's multiple spreads neighbouring addresses over the upper bits.
    program.extend([insn(LOAD_STORED, hash), insn(MUL, 0x9e37_79b1), insn(SHIFT_RIGHT, 16)]);
    program.extend([insn(MODULO, worker_count), insn(RETURN_A, 0)]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would, as far as ours go.
    fn run(program: &[sock_filter], bytes: &[u8]) -> u32 {
        let (mut a, mut x, mut stored, mut pc) = (0u32, 0u32, 0u32, 0usize);
        let load = |at: u32, len: usize| {
            let bytes = bytes.get(at as usize..at as usize + len)?;
            Some(bytes.iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte)))
        };
        loop {
            let insn = program[pc];
            pc += 1;
            let code = u32::from(insn.code);
            match code {
                LOAD_WORD | LOAD_HALF | LOAD_BYTE => {
                    let len = [4, 2, 1][usize::from(insn.code >> 3 & 3)];
                    match load(insn.k, len) {
                        Some(value) => a = value,
                        None => return 0,
                    }
                }
                TO_X => x = a,
                XOR_X => a ^= x,
                MUL => a = a.wrapping_mul(insn.k),
                SHIFT_RIGHT => a >>= insn.k,
                MODULO => a %= insn.k,
                STORE => stored = a,
                LOAD_STORED => a = stored,
                IF_EQUAL => pc += usize::from(if a == insn.k { insn.jt } else { insn.jf }),
                RETURN => return insn.k,
                RETURN_A => return a,
                _ => panic!("opcode {code:#x}"),
            }
        }
    }

    fn ipv4(protocol: u8, src: [u8; 4], dst: [u8; 4], ports: [u16; 2]) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[23] = protocol;
        frame[26..30].copy_from_slice(&src);
        frame[30..34].copy_from_slice(&dst);
        frame[34..36].copy_from_slice(&ports[0].to_be_bytes());
        frame[36..38].copy_from_slice(&ports[1].to_be_bytes());
        frame
    }

    #[test]
    fn a_flow_keeps_its_worker_in_both_directions_and_flows_spread() {
        let program = by_flow(4);
        let mut hits = [0; 4];
        for port in 0..1000 {
            let [a, b] = [[10, 0, 0, 1], [10, 0, 0, 2]];
            let there = run(&program, &ipv4(17, a, b, [1024 + port, 53]));
            assert_eq!(there, run(&program, &ipv4(17, b, a, [53, 1024 + port])));
            hits[there as usize] += 1;
        }
        assert!(hits.iter().all(|count| *count > 150), "{hits:?}");
    }

    #[test]
    fn without_ports_the_addresses_alone_decide() {
        let program = by_flow(64);
        let [a, b] = [[10, 0, 0, 1], [10, 0, 0, 2]];
        let first = run(&program, &ipv4(1, a, b, [1, 2]));
        assert_eq!(first, run(&program, &ipv4(1, a, b, [3, 4])), "an echo's type and checksum are no ports");
    }

    #[test]
    fn frames_without_a_flow_go_to_the_first_worker() {
        let program = by_flow(3);
        assert_eq!(run(&program, &[]), 0);
        assert_eq!(run(&program, &[0xff; 60]), 0);
        assert_eq!(run(&program, &ipv4(17, [1; 4], [2; 4], [3, 4])[..30]), 0);
    }

    #[test]
    fn the_host_and_the_kernel_choose_the_same_worker() {
        let program = by_flow(7);
        let mut state = 1u64;
        for round in 0..10_000usize {
            let mut frame = [0u8; 90];
            frame.fill_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            });
            let types: [[u8; 2]; 3] = [[8, 0], [0x86, 0xdd], [0x12, 0x34]];
            frame[12..14].copy_from_slice(&types[round % 3]);
            frame[23] = [6, 17, 1][round / 3 % 3];
            frame[20] = frame[23];
            let frame = &frame[..round % 91];
            assert_eq!(worker_of(frame, 7), run(&program, frame), "{frame:02x?}");
        }
    }

    #[test]
    fn ipv6_flows_spread_too() {
        let program = by_flow(2);
        let mut hits = [0; 2];
        for last in 0..=255 {
            let mut frame = vec![0; 80];
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
            frame[20] = 17;
            frame[53] = last;
            hits[run(&program, &frame) as usize] += 1;
        }
        assert!(hits.iter().all(|count| *count > 64), "{hits:?}");
    }
}
