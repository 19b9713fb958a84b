//! Frames that programs judge: well-formed ones of several protocols, and damaged ones.

use crate::random::Random;

/// Sums 16-bit words as checksums of IP do.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]))).sum()
}

fn folded(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let folded = u16::try_from(sum).expect("folded");
    (!folded).to_be_bytes()
}

/// An IPv4 packet with correct checksums; addresses and ports are of small sets, so that flows come again.
fn ipv4(random: &mut Random, payload_len: usize) -> Vec<u8> {
    let protocol = random.pick(&[17, 17, 17, 6, 1, 4]);
    let payload = random.bytes(payload_len);
    let source = [10, 0, random.pick(&[0, 1, 7]), random.pick(&[1, 2, 3, 200])];
    let target = [10, 9, 0, random.pick(&[1, 2])];
    let ports = [1000 + random.below(40), random.pick(&[9000, 9000, 53, 80])];
    let ports: Vec<u8> = ports.iter().flat_map(|port| u16::try_from(*port).expect("small").to_be_bytes()).collect();
    let pseudo = [&source[..], &target, &[0, protocol]].concat();
    let l4 = match protocol {
        17 => {
            let len = u16::try_from(8 + payload.len()).expect("short").to_be_bytes();
            let mut udp = [&ports[..], &len, &[0, 0], &payload].concat();
            if random.below(4) != 0 {
                let check = folded(sum(&pseudo) + sum(&len) + sum(&udp));
                udp[6..8].copy_from_slice(&check);
            }
            udp
        }
        6 => [&ports[..], &[0; 8], &[0x50, 2, 0, 0, 0, 0, 0, 0], &payload].concat(),
        1 => {
            let mut icmp = [&[random.pick(&[8, 8, 0]), 0, 0, 0, 0, 1, 0, 2][..], &payload].concat();
            let check = folded(sum(&icmp));
            icmp[2..4].copy_from_slice(&check);
            icmp
        }
        _ => {
            let inner = random.pick(&[20usize, 28, 60]);
            [&[0x45, 0, 0, u8::try_from(inner).expect("short")][..], &random.bytes(inner - 4), &payload].concat()
        }
    };
    let total = u16::try_from(20 + l4.len()).expect("short").to_be_bytes();
    let fragment = random.pick(&[0, 0, 0, 0, 0, 0x20]);
    let ttl = random.pick(&[64, 64, 1]);
    let mut ip = vec![0x45, 0, total[0], total[1], 0, 7, fragment, 0, ttl, protocol, 0, 0];
    ip.extend(source);
    ip.extend(target);
    let check = folded(sum(&ip));
    ip[10..12].copy_from_slice(&check);
    [ip, l4].concat()
}

/// A frame.
pub(crate) fn frame(random: &mut Random) -> Vec<u8> {
    let payload_len = random.pick(&[0, 1, 18, 18, 64, 200, 900, 1400]);
    let mut frame = random.bytes(12);
    frame[0] &= 0xfe;
    for _ in 0..random.pick(&[0, 0, 0, 0, 1, 2, 3]) {
        frame.extend([0x81, 0, 0, 7]);
    }
    match random.below(10) {
        0 => {
            let next = random.pick(&[17, 6, 58]);
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, next, 64]);
            frame.extend(random.bytes(32 + payload_len));
        }
        1 => {
            frame.extend([0x08, 0x06]);
            frame.extend(random.bytes(28));
        }
        2 => frame.extend(random.bytes(2 + payload_len)),
        _ => {
            frame.extend([0x08, 0x00]);
            frame.extend(ipv4(random, payload_len));
        }
    }
    match random.below(8) {
        0 => frame.truncate(14.max(frame.len() / 2)),
        1 => {
            let at = 12 + random.below(u32::try_from(frame.len() - 12).expect("short")) as usize;
            frame[at] = random.bytes(1)[0];
        }
        _ => {}
    }
    frame
}
