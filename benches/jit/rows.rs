//! The programs that are measured, each with the frame that it judges and what its maps hold before.
//!
//! Invariant: a program does the same work in every run on the same frame, though it may have rewritten it.

use kumite::isa::random::Dice;

/// Whether a row counts in the mean: those with loops, calls or maps do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InMean {
    Yes,
    No,
}

/// A program.
#[derive(Debug)]
pub(crate) struct Row {
    /// Name of the row, of its file in `benches/programs` and of its program.
    pub(crate) name: &'static str,
    pub(crate) in_mean: InMean,
    /// Writes the operands into the payload, which is random before.
    operands: fn(&mut [u8]),
    /// What maps hold before.
    pub(crate) elements: fn() -> Vec<Element>,
}

/// An element that is put into a map before.
#[derive(Debug)]
pub(crate) struct Element {
    pub(crate) map: &'static str,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// The row that every other is net of.
pub(crate) const EMPTY: &str = "empty";

const FRAME_LEN: usize = 1514;
/// Ethernet, IPv4 and UDP.
const HEADERS_LEN: usize = 42;
/// The service that the load balancer stands before.
const SERVICE: ([u8; 4], [u8; 2]) = ([10, 0, 0, 2], [0x80, 0xe8]);

/// All of them, in the order of the table.
pub(crate) const ROWS: &[Row] = &[
    row(EMPTY, InMean::No),
    row("parse", InMean::No),
    row("checksum_20", InMean::Yes),
    row("checksum_1500", InMean::Yes),
    Row { operands: |payload| payload[0] = 60, ..row("jhash_60", InMean::Yes) },
    row("siphash", InMean::Yes),
    // A prime that is tried by all 127 divisors.
    Row { operands: |payload| payload[..4].copy_from_slice(&65_521u32.to_le_bytes()), ..row("prime", InMean::Yes) },
    Row { operands: small_numbers, ..row("log2_16", InMean::Yes) },
    row("copy", InMean::Yes),
    row("copy_bytes", InMean::Yes),
    row("switch_64", InMean::Yes),
    row("acl_64", InMean::No),
    row("calls", InMean::Yes),
    row("array_map", InMean::Yes),
    row("array_update", InMean::Yes),
    row("percpu_map", InMean::Yes),
    row("hash_map", InMean::Yes),
    Row { elements: services, ..row("balancer", InMean::Yes) },
    Row { operands: chain, ..row("tail_calls", InMean::Yes) },
];

const fn row(name: &'static str, in_mean: InMean) -> Row {
    Row { name, in_mean, operands: |_| {}, elements: Vec::new }
}

/// Sixteen numbers of every size.
fn small_numbers(payload: &mut [u8]) {
    for (index, number) in payload.as_chunks_mut::<8>().0.iter_mut().take(16).enumerate() {
        *number = (u64::from_le_bytes(*number) >> (index * 37 % 64)).to_le_bytes();
    }
}

/// A way through all 33 steps; the last leads to an empty slot.
fn chain(payload: &mut [u8]) {
    let mut at = 63;
    for step in 0..33u8 {
        // 33 and 13 have no common divisor.
        let next = (step * 13 + 5) % 33;
        payload[at] = next;
        at = usize::from(next);
    }
    payload[at] = 63;
}

fn services() -> Vec<Element> {
    let number = |number: u32| number.to_ne_bytes().to_vec();
    let (addr, port) = SERVICE;
    let service = Element {
        map: "services",
        key: [&addr[..], &port, &17u16.to_ne_bytes()].concat(),
        value: [number(3), number(64)].concat(),
    };
    let ring = (0..64).map(|slot| Element { map: "ring", key: number(64 + slot), value: number(slot * 7 % 64) });
    let servers = (0..64).map(|server| Element {
        map: "servers",
        key: number(server),
        value: [&[2, 0, 0, 0, 1][..], &server.to_le_bytes()[..1], &[0x28, 0]].concat(),
    });
    [service].into_iter().chain(ring).chain(servers).collect()
}

impl Row {
    /// The frame that the program judges: 1,514 bytes of Ethernet, IPv4 and UDP.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut dice = Dice::new(1);
        let mut frame = vec![0; FRAME_LEN];
        frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        frame[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x00]);
        frame[16..18].copy_from_slice(&1500u16.to_be_bytes());
        frame[22..24].copy_from_slice(&[64, 17]);
        // In the network of the last rule of `acl_64`, as the port is among its ports.
        frame[26..30].copy_from_slice(&[0x48, 0xd1, 0x59, 0xc1]);
        frame[30..34].copy_from_slice(&SERVICE.0);
        frame[34..36].copy_from_slice(&[0x9c, 0x40]);
        frame[36..38].copy_from_slice(&SERVICE.1);
        frame[38..40].copy_from_slice(&1480u16.to_be_bytes());
        for byte in &mut frame[HEADERS_LEN..] {
            *byte = u8::try_from(dice.below(256)).expect("a byte");
        }
        (self.operands)(&mut frame[HEADERS_LEN..]);
        frame
    }
}
