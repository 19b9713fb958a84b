//! Frames to begin with, and frames made of others.

use std::collections::BTreeSet;

use crate::flow::checksum;
use crate::isa::random::Dice;
use crate::isa::{Does, Insn, Operand};
use crate::limits::FRAME_LEN_MIN;

/// Longest frame that is made.
const LEN_MAX: usize = 1514;
/// Changes of one frame at most.
const CHANGES_MAX: usize = 6;
/// Bytes in which headers lie that programs look at.
const HEADERS_LEN: usize = 64;
/// Offset of the protocol in an IPv4 header behind an Ethernet header.
const PROTOCOL_AT: usize = 23;

/// Frames of the protocols that programs look for: ARP; UDP, TCP and ICMP over IPv4 and IPv6; tags; options; tunnels.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let udp = [0x04, 0xd2, 0x23, 0x28, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let dns = [0x04, 0xd2, 0, 53, 0, 25, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1];
    let syn = [0x04, 0xd2, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 5, 0xb4];
    let ack = [0x04, 0xd2, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0];
    let echo = [8, 0, 0, 0, 0, 1, 0, 1, b'p', b'i', b'n', b'g'];
    let arp = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1];
    let mut with_options = ipv4(17, &udp);
    with_options[0] = 0x46;
    with_options.splice(20..20, [1, 1, 1, 0]);
    let inner = ipv4(6, &ack);
    let vxlan: Vec<u8> = [0x04, 0xd2, 0x12, 0xb5, 0, 70, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0]
        .into_iter()
        .chain(ethernet(&[8, 0], &ipv4(17, &udp)))
        .collect();
    vec![
        ethernet(&[8, 0], &ipv4(17, &udp)),
        ethernet(&[8, 0], &ipv4(17, &dns)),
        ethernet(&[8, 0], &ipv4(6, &syn)),
        ethernet(&[8, 0], &inner),
        ethernet(&[8, 0], &ipv4(1, &echo)),
        ethernet(&[0x86, 0xdd], &ipv6(17, &udp)),
        ethernet(&[0x86, 0xdd], &ipv6(6, &syn)),
        ethernet(&[0x86, 0xdd], &ipv6(58, &[135, 0, 0, 0, 0, 0, 0, 0])),
        ethernet(&[8, 6], &arp),
        ethernet(&[0x81, 0, 0, 5, 8, 0], &ipv4(17, &udp)),
        ethernet(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 5, 8, 0], &ipv4(6, &ack)),
        ethernet(&[8, 0], &with_options),
        ethernet(&[8, 0], &ipv4(4, &inner)),
        ethernet(&[8, 0], &ipv4(47, &[&[0, 0, 8, 0][..], &inner].concat())),
        ethernet(&[8, 0], &ipv4(17, &vxlan)),
        ethernet(&[8, 0], &[]),
    ]
}

fn ethernet(kinds: &[u8], payload: &[u8]) -> Vec<u8> {
    let addresses = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    [&addresses[..], kinds, payload].concat()
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = vec![0x45, 0, len[0], len[1], 0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
    let sum = checksum::of(0, &packet).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    packet.extend_from_slice(payload);
    packet
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let address = |last| [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    [&[0x60, 0, 0, 0, len[0], len[1], next, 64][..], &address(2), &address(1), payload].concat()
}

/// A frame made of one by a few changes.
pub(super) fn change(frame: &[u8], corpus: &[Vec<u8>], words: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut changed = frame.to_vec();
    for _ in 0..1 + dice.below(CHANGES_MAX) {
        if !words.is_empty() && dice.once_in(4) {
            let word = &words[dice.below(words.len())];
            let at = dice.below(changed.len().clamp(1, HEADERS_LEN));
            changed.iter_mut().skip(at).zip(word).for_each(|(byte, new)| *byte = *new);
        } else {
            change_once(&mut changed, corpus, dice);
        }
    }
    changed.truncate(LEN_MAX);
    if changed.len() < FRAME_LEN_MIN as usize {
        changed.resize(FRAME_LEN_MIN as usize, 0);
    }
    changed
}

/// What programs compare with and load, as bytes of either order: what a frame may have to hold to get past a compare.
pub(super) fn words<'a>(insns: impl Iterator<Item = &'a Insn>) -> Vec<Vec<u8>> {
    let mut words = BTreeSet::new();
    for insn in insns {
        if !matches!(insn.does, Does::Branch(_, _, Operand::Imm) | Does::LoadImm64) {
            continue;
        }
        let bytes = insn.imm.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let fits = [1, 2, 4, 8].into_iter().filter(|len| len + zeros >= bytes.len() || *len == 4);
        for len in fits {
            let word = &bytes[bytes.len() - len..];
            words.insert(word.to_vec());
            words.insert(word.iter().rev().copied().collect());
        }
    }
    words.into_iter().collect()
}

fn change_once(frame: &mut Vec<u8>, corpus: &[Vec<u8>], dice: &mut Dice) {
    if frame.is_empty() {
        return frame.push(0);
    }
    // Headers are where programs look.
    let len = if dice.once_in(2) { frame.len().min(HEADERS_LEN) } else { frame.len() };
    let at = dice.below(len);
    match dice.below(10) {
        0 => frame[at] ^= 1 << dice.below(8),
        1 => frame[at] = dice.pick(&[0, 1, 0x7f, 0x80, 0xff]),
        2 => frame[at] = dice.bits().to_le_bytes()[0],
        3 => {
            let word = dice.pick(&[0_u16, 1, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x0800, 0x86dd, 0x8100, 53, 80, 443]);
            frame.iter_mut().skip(at).zip(word.to_be_bytes()).for_each(|(byte, new)| *byte = new);
        }
        4 => frame.truncate(at),
        5 => frame.extend((0..1 + dice.below(64)).map(|_| dice.bits().to_le_bytes()[0])),
        6 => {
            frame.drain(at..(at + 1 + dice.below(8)).min(frame.len()));
        }
        7 => {
            let new: Vec<u8> = (0..1 + dice.below(8)).map(|_| dice.bits().to_le_bytes()[0]).collect();
            frame.splice(at..at, new);
        }
        8 => {
            let other = &corpus[dice.below(corpus.len())];
            let from = dice.below(other.len() + 1);
            frame.truncate(at);
            frame.extend_from_slice(&other[from..]);
        }
        _ => {
            if let Some(protocol) = frame.get_mut(PROTOCOL_AT) {
                *protocol = dice.pick(&[1, 4, 6, 17, 41, 47, 50, 58, 132]);
            }
        }
    }
}

/// One way to make a frame simpler.
pub(super) type Simpler = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// Ways to make a frame simpler, the boldest first.
pub(super) fn simpler(frame: &[u8]) -> Vec<Simpler> {
    let len = frame.len();
    let mut ways: Vec<Simpler> = Vec::new();
    let mut part = len / 2;
    while part > 0 {
        ways.push(Box::new(move |frame| frame[..frame.len().saturating_sub(part)].to_vec()));
        part /= 2;
    }
    let mut part = len.next_power_of_two();
    while part > 0 {
        for start in (0..len).step_by(part) {
            ways.push(Box::new(move |frame| {
                let mut frame = frame.to_vec();
                frame.iter_mut().skip(start).take(part).for_each(|byte| *byte = 0);
                frame
            }));
        }
        part /= 2;
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{assemble, decode};

    #[test]
    fn what_a_program_compares_with_becomes_words_of_either_order() {
        let insns = decode(&assemble("if r1 == 0x8100 goto +0\nif r1 == r2 goto +0\nr0 = 7\nexit").expect("text"))
            .expect("slots");
        let expected = [&[0, 0, 0x81, 0][..], &[0, 0, 0, 0, 0, 0, 0x81, 0], &[0, 0x81], &[0, 0x81, 0, 0], &[0x81, 0]];
        let words = words(insns.iter());
        assert!(expected.iter().all(|word| words.iter().any(|known| known == word)), "{words:?}");
        assert_eq!(words.len(), 6);
    }
}
