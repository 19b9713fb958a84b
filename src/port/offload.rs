//! What a kernel leaves to a network card, done here: checksums completed, and super-frames cut into frames.
//!
//! Taps and packet sockets say before each frame (`struct virtio_net_hdr`) what of it is not done yet. A super-frame is one
//! TCP stream's or one UDP flow's bytes behind one header, up to 64 KiB of them.
//!
//! Source: virtio 1.2, section 5.1.6.4.1; `net/ipv4/tcp_offload.c` for what changes from segment to segment.
//!
//! Invariant: knows bytes alone. Any bytes give frames or a refusal.

use super::checksum;
use super::{Burst, Pool, PortCounts};

/// Bytes of `struct virtio_net_hdr`.
pub(super) const HEADER_LEN: usize = 10;
/// Longest super-frame that a kernel makes, with its link header and what goes before it.
pub(super) const SUPER_LEN_MAX: usize = 66 * 1024;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
/// A flag beside the kinds: the sender's congestion window was reduced.
const GSO_ECN: u8 = 0x80;

/// Shortest link header, and the bytes of one VLAN tag.
const LINK_LEN: usize = 14;
const TAG_LEN: usize = 4;

/// What is left to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offload {
    /// Where the summed bytes begin, and where behind that the checksum stands.
    checksum: Option<(usize, usize)>,
    segment: Option<Segment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    kind: SegmentKind,
    /// Bytes of payload in all segments but the last.
    len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SegmentKind {
    Tcp,
    Udp,
    /// One that we did not ask for.
    Other,
}

impl Offload {
    /// Reads the header that stands before a frame.
    pub(super) fn parse(header: &[u8; HEADER_LEN]) -> Self {
        let half = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let kind = match header[1] & !GSO_ECN {
            GSO_NONE => None,
            GSO_TCP4 | GSO_TCP6 => Some(SegmentKind::Tcp),
            GSO_UDP => Some(SegmentKind::Udp),
            _ => Some(SegmentKind::Other),
        };
        Self {
            checksum: (header[0] & NEEDS_CHECKSUM != 0).then(|| (half(6), half(8))),
            segment: kind.map(|kind| Segment { kind, len: half(4) }),
        }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_done(self) -> bool {
        self == Self::default()
    }

    /// The same for the frame with one more VLAN tag.
    pub(super) fn behind_tag(self) -> Self {
        Self { checksum: self.checksum.map(|(start, offset)| (start + TAG_LEN, offset)), ..self }
    }

    /// Completes a frame's checksum; says no where it lies outside the frame.
    pub(super) fn complete(self, frame: &mut [u8]) -> bool {
        let Some((start, offset)) = self.checksum else { return true };
        let at = start + offset;
        if start > frame.len() || at + 2 > frame.len() {
            return false;
        }
        // The sum of the pseudo header stands where the checksum will.
        let sum = checksum::of(0, &frame[start..]);
        put(frame, at, if sum == 0 { 0xffff } else { sum });
        true
    }
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn half(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]))
}

/// Where the network header begins, and whether it is one of IPv6.
fn network(frame: &[u8]) -> Option<(usize, bool)> {
    let mut at = LINK_LEN - 2;
    for _ in 0..3 {
        match half(frame, at)? {
            0x8100 | 0x88a8 => at += TAG_LEN,
            0x0800 => return Some((at + 2, false)),
            0x86dd => return Some((at + 2, true)),
            _ => return None,
        }
    }
    None
}

/// A frame that is dealt out: as it is, or segment by segment.
#[derive(Debug)]
pub(super) struct Dealer {
    /// The frame as it came, and behind it room to build a segment in.
    frame: Vec<u8>,
    segment: Vec<u8>,
    len: usize,
    offload: Offload,
    cut: Option<Cut>,
}

/// How a super-frame is cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    network_at: usize,
    is_ipv6: bool,
    transport_at: usize,
    payload_at: usize,
    kind: SegmentKind,
    segment_len: usize,
    /// Of the payload: where the next segment begins.
    next: usize,
    number: u16,
}

impl Dealer {
    /// An empty one, with its memory.
    pub(super) fn new() -> Self {
        Self {
            frame: vec![0; SUPER_LEN_MAX],
            segment: Vec::with_capacity(SUPER_LEN_MAX),
            len: 0,
            offload: Offload::default(),
            cut: None,
        }
    }

    /// Where the next frame is received, once the one before is dealt out.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.frame
    }

    /// Takes a frame in its room that has `len` bytes.
    pub(super) fn took(&mut self, len: usize, offload: Offload, counts: &mut PortCounts) {
        self.len = len;
        self.offload = offload;
        self.cut = None;
        let Some(segment) = offload.segment else { return };
        match self.plan(segment) {
            Some(cut) => {
                let payload_len = len - cut.payload_at;
                counts.rx_in_trains += payload_len.div_ceil(cut.segment_len) as u64;
                self.cut = Some(cut);
            }
            None => {
                counts.rx_errors += 1;
                self.len = 0;
            }
        }
    }

    /// Whether something is left to deal.
    pub(super) fn has_waiting(&self) -> bool {
        self.len > 0
    }

    /// Deals frames into the burst until it is full, chunks run out or nothing is left. Says whether nothing is left.
    pub(super) fn deal(&mut self, pool: &mut Pool, burst: &mut Burst, counts: &mut PortCounts) -> bool {
        while self.len > 0 {
            if burst.room() == 0 {
                return false;
            }
            let Some(mut cut) = self.cut else {
                if !std::mem::take(&mut self.offload).complete(&mut self.frame[..self.len]) {
                    counts.rx_errors += 1;
                    self.len = 0;
                    return true;
                }
                if !burst.copied(pool, &self.frame[..self.len]) {
                    return false;
                }
                self.len = 0;
                return true;
            };
            self.build(&cut);
            if !burst.copied(pool, &self.segment) {
                return false;
            }
            cut.next += cut.segment_len;
            cut.number = cut.number.wrapping_add(1);
            self.cut = Some(cut);
            if cut.payload_at + cut.next >= self.len {
                self.len = 0;
            }
        }
        true
    }

    fn plan(&self, segment: Segment) -> Option<Cut> {
        let frame = &self.frame[..self.len];
        let (network_at, is_ipv6) = network(frame)?;
        let (transport_at, _) = self.offload.checksum?;
        let network_len = if is_ipv6 { 40 } else { usize::from(frame.get(network_at)? & 0xf) * 4 };
        if network_len < 20 || transport_at < network_at + network_len {
            return None;
        }
        let transport_len = match segment.kind {
            SegmentKind::Tcp => usize::from(frame.get(transport_at + 12)? >> 4) * 4,
            SegmentKind::Udp => 8,
            SegmentKind::Other => return None,
        };
        let payload_at = transport_at + transport_len;
        let least = if segment.kind == SegmentKind::Tcp { 20 } else { 8 };
        if transport_len < least || payload_at >= self.len || segment.len == 0 {
            return None;
        }
        Some(Cut {
            network_at,
            is_ipv6,
            transport_at,
            payload_at,
            kind: segment.kind,
            segment_len: segment.len,
            next: 0,
            number: 0,
        })
    }

    /// Builds the next segment.
    fn build(&mut self, cut: &Cut) {
        let start = cut.payload_at + cut.next;
        let end = self.len.min(start + cut.segment_len);
        let is_last = end == self.len;
        self.segment.clear();
        self.segment.extend_from_slice(&self.frame[..cut.payload_at]);
        self.segment.extend_from_slice(&self.frame[start..end]);
        let segment = &mut self.segment[..];
        let below = u16::try_from(segment.len() - cut.network_at).unwrap_or(u16::MAX);
        if cut.is_ipv6 {
            put(segment, cut.network_at + 4, below.saturating_sub(40));
        } else {
            put(segment, cut.network_at + 2, below);
            let id = u16::from_be_bytes([segment[cut.network_at + 4], segment[cut.network_at + 5]]);
            put(segment, cut.network_at + 4, id.wrapping_add(cut.number));
            put(segment, cut.network_at + 10, 0);
            let header_len = usize::from(segment[cut.network_at] & 0xf) * 4;
            let sum = checksum::of(0, &segment[cut.network_at..cut.network_at + header_len]);
            put(segment, cut.network_at + 10, sum);
        }
        let (at, checksum_at) =
            (cut.transport_at, cut.transport_at + if cut.kind == SegmentKind::Udp { 6 } else { 16 });
        match cut.kind {
            SegmentKind::Udp | SegmentKind::Other => {
                let len = u16::try_from(segment.len() - at).unwrap_or(u16::MAX);
                put(segment, at + 4, len);
            }
            SegmentKind::Tcp => {
                let sequence = u32::from_be_bytes([segment[at + 4], segment[at + 5], segment[at + 6], segment[at + 7]]);
                // At most 64 KiB further on.
                let sequence = sequence.wrapping_add(u32::try_from(cut.next).unwrap_or(0));
                segment[at + 4..at + 8].copy_from_slice(&sequence.to_be_bytes());
                if !is_last {
                    segment[at + 13] &= !(TCP_FIN | TCP_PSH);
                }
                if cut.number > 0 {
                    segment[at + 13] &= !TCP_CWR;
                }
            }
        }
        put(segment, checksum_at, 0);
        let protocol = if cut.kind == SegmentKind::Udp { 17 } else { 6 };
        let pseudo = pseudo_sum(segment, cut.network_at, cut.is_ipv6, protocol, segment.len() - at);
        let sum = checksum::of(pseudo, &segment[at..]);
        put(segment, checksum_at, if sum == 0 { 0xffff } else { sum });
    }
}

const TCP_FIN: u8 = 1;
const TCP_PSH: u8 = 8;
const TCP_CWR: u8 = 0x80;

/// The sum of the pseudo header, not folded.
fn pseudo_sum(frame: &[u8], network_at: usize, is_ipv6: bool, protocol: u8, len: usize) -> u32 {
    let addresses = if is_ipv6 { network_at + 8..network_at + 40 } else { network_at + 12..network_at + 20 };
    checksum::sum(&frame[addresses]) + u32::from(protocol) + u32::try_from(len).unwrap_or(0)
}

/// A TCP segment that may travel in a super-frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stream {
    network_at: usize,
    is_ipv6: bool,
    transport_at: usize,
    payload_at: usize,
    end: usize,
}

impl Stream {
    fn of(frame: &[u8]) -> Option<Self> {
        let (network_at, is_ipv6) = network(frame)?;
        let (transport_at, below) = if is_ipv6 {
            if *frame.get(network_at + 6)? != 6 {
                return None;
            }
            (network_at + 40, 40 + usize::from(half(frame, network_at + 4)?))
        } else {
            // Without options, and in one piece.
            if *frame.get(network_at)? != 0x45
                || *frame.get(network_at + 9)? != 6
                || half(frame, network_at + 6)? & 0x3fff != 0
            {
                return None;
            }
            (network_at + 20, usize::from(half(frame, network_at + 2)?))
        };
        let end = network_at + below;
        let payload_at = transport_at + usize::from(frame.get(transport_at + 12)? >> 4) * 4;
        let flags = *frame.get(transport_at + 13)?;
        let is_plain = flags & !TCP_PSH == 0x10;
        let fits = payload_at >= transport_at + 20 && payload_at < end && end == frame.len();
        let stream = Self { network_at, is_ipv6, transport_at, payload_at, end };
        (is_plain && fits && stream.sums_are_right(frame)).then_some(stream)
    }

    /// A super-frame has its sums made anew: what was wrong must not become right on the way.
    fn sums_are_right(&self, frame: &[u8]) -> bool {
        let pseudo = pseudo_sum(frame, self.network_at, self.is_ipv6, 6, self.end - self.transport_at);
        (self.is_ipv6 || checksum::of(0, &frame[self.network_at..self.network_at + 20]) == 0)
            && checksum::of(pseudo, &frame[self.transport_at..self.end]) == 0
    }

    fn sequence(&self, frame: &[u8]) -> u32 {
        let at = self.transport_at + 4;
        u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
    }
}

/// TCP segments in a row that make one super-frame.
#[derive(Debug)]
pub(super) struct Gathering {
    first: Vec<u8>,
    stream: Option<Stream>,
    segment_len: usize,
    payload_len: usize,
    count: u16,
    is_over: bool,
}

impl Gathering {
    /// Of nothing yet.
    pub(super) fn new() -> Self {
        Self {
            first: Vec::with_capacity(SUPER_LEN_MAX),
            stream: None,
            segment_len: 0,
            payload_len: 0,
            count: 0,
            is_over: false,
        }
    }

    /// Begins with a frame; it may turn out to travel alone.
    pub(super) fn begin(&mut self, frame: &[u8]) {
        self.stream = Stream::of(frame);
        self.first.clear();
        self.first.extend_from_slice(frame);
        self.count = 1;
        self.is_over = true;
        if let Some(stream) = self.stream {
            self.segment_len = stream.end - stream.payload_at;
            self.payload_len = self.segment_len;
            self.is_over = frame[stream.transport_at + 13] & TCP_PSH != 0;
        }
    }

    /// Whether the frame continues the stream; where it does, says where its payload begins.
    pub(super) fn add(&mut self, frame: &[u8]) -> Option<usize> {
        let first = self.stream.filter(|_| !self.is_over)?;
        let next = Stream::of(frame)?;
        let payload_len = next.end - next.payload_at;
        let same_form = (next.network_at, next.is_ipv6, next.transport_at, next.payload_at)
            == (first.network_at, first.is_ipv6, first.transport_at, first.payload_at);
        if !same_form
            || payload_len > self.segment_len
            || first.payload_at + self.payload_len + payload_len > usize::from(u16::MAX)
            || next.sequence(frame) != first.sequence(&self.first).wrapping_add(u32::try_from(self.payload_len).ok()?)
        {
            return None;
        }
        // All but lengths, identification, sequence, checksums and PSH is the same.
        let (network, transport) = (first.network_at, first.transport_at);
        let same = |range: std::ops::Range<usize>| self.first[range.clone()] == frame[range];
        let network_is_same = if first.is_ipv6 {
            same(network..network + 4) && same(network + 6..transport)
        } else {
            let id = half(&self.first, network + 4)?.wrapping_add(self.count);
            same(network..network + 2)
                && half(frame, network + 4)? == id
                && same(network + 6..network + 10)
                && same(network + 12..transport)
        };
        if !(same(0..network)
            && network_is_same
            && same(transport..transport + 4)
            && same(transport + 8..transport + 13)
            && same(transport + 14..transport + 16)
            && same(transport + 18..first.payload_at))
        {
            return None;
        }
        let is_pushed = frame[transport + 13] & TCP_PSH != 0;
        self.first[transport + 13] |= frame[transport + 13];
        self.is_over = is_pushed || payload_len < self.segment_len;
        self.payload_len += payload_len;
        self.count += 1;
        Some(next.payload_at)
    }

    /// Writes what stands before the payload: the header of [`HEADER_LEN`] bytes and the frame's own; and says where in the
    /// first frame the payload begins. Only for more than one frame.
    pub(super) fn head(&mut self, into: &mut Vec<u8>) -> usize {
        let stream = self.stream.expect("frames were added");
        let below =
            u16::try_from(stream.payload_at + self.payload_len - stream.network_at).expect("bounded when added");
        let frame = &mut self.first[..stream.payload_at];
        if stream.is_ipv6 {
            put(frame, stream.network_at + 4, below - 40);
        } else {
            put(frame, stream.network_at + 2, below);
            put(frame, stream.network_at + 10, 0);
            let sum = checksum::of(0, &frame[stream.network_at..stream.network_at + 20]);
            put(frame, stream.network_at + 10, sum);
        }
        let len = stream.payload_at + self.payload_len - stream.transport_at;
        let pseudo = pseudo_sum(frame, stream.network_at, stream.is_ipv6, 6, len);
        // The kernel, or whoever receives it, goes on from the sum of the pseudo header.
        put(frame, stream.transport_at + 16, !checksum::of(pseudo, &[]));
        let kind = if stream.is_ipv6 { GSO_TCP6 } else { GSO_TCP4 };
        let halves = [stream.payload_at, self.segment_len, stream.transport_at, 16];
        into.clear();
        into.extend([NEEDS_CHECKSUM, kind]);
        into.extend(halves.map(|half| u16::try_from(half).expect("within a frame").to_le_bytes()).as_flattened());
        into.extend_from_slice(frame);
        stream.payload_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cage::Cage;

    /// A TCP segment over IPv4 or IPv6 whose sums are right.
    fn segment(is_ipv6: bool, number: usize, payload: &[u8], flags: u8) -> Vec<u8> {
        let mut frame = vec![2; 12];
        let len = u16::try_from(20 + payload.len()).expect("short");
        if is_ipv6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(len.to_be_bytes());
            frame.extend([6, 64]);
            frame.extend([7; 32]);
        } else {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((20 + len).to_be_bytes());
            frame.extend(u16::try_from((0xfffe + number) & 0xffff).expect("masked").to_be_bytes());
            frame.extend([0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            let sum = checksum::of(0, &frame[14..34]);
            put(&mut frame, 24, sum);
        }
        let at = frame.len();
        frame.extend([0x12, 0x34, 0, 80]);
        frame.extend(u32::try_from(number * 100).expect("few").wrapping_sub(150).to_be_bytes());
        frame.extend([0, 0, 0, 9, 0x50, flags, 1, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        let pseudo = pseudo_sum(&frame, 14, is_ipv6, 6, frame.len() - at);
        let sum = checksum::of(pseudo, &frame[at..]);
        put(&mut frame, at + 16, sum);
        frame
    }

    fn deal(bytes: &[u8], offload: Offload) -> (Vec<Vec<u8>>, PortCounts) {
        let mut pool = Pool::new(&Cage::new().expect("address space"), 3, 0).expect("room");
        let (mut burst, mut dealer, mut counts) = (Burst::new(), Dealer::new(), PortCounts::default());
        dealer.room()[..bytes.len()].copy_from_slice(bytes);
        dealer.took(bytes.len(), offload, &mut counts);
        let mut frames = Vec::new();
        loop {
            let done = dealer.deal(&mut pool, &mut burst, &mut counts);
            while let Some(frame) = burst.take() {
                let mut room = [0; 1792];
                let len = pool.read(&frame, &mut room);
                frames.push(room[..len].to_vec());
                pool.release(frame);
            }
            if done {
                return (frames, counts);
            }
        }
    }

    #[test]
    fn segments_that_are_gathered_are_cut_again_to_the_byte() {
        for is_ipv6 in [false, true] {
            let payload = |number: usize| vec![u8::try_from(number).expect("few"); if number == 6 { 40 } else { 100 }];
            let sent: Vec<Vec<u8>> = (0..7)
                .map(|number| segment(is_ipv6, number, &payload(number), if number == 6 { 0x18 } else { 0x10 }))
                .collect();
            let mut gathering = Gathering::new();
            gathering.begin(&sent[0]);
            let mut payloads = Vec::new();
            for frame in &sent[1..] {
                let at = gathering.add(frame).expect("it goes on");
                payloads.extend_from_slice(&frame[at..]);
            }
            assert_eq!(gathering.add(&segment(is_ipv6, 7, &payload(7), 0x10)), None, "the last was shorter");
            let mut whole = Vec::new();
            let at = gathering.head(&mut whole);
            whole.extend_from_slice(&sent[0][at..]);
            whole.extend(payloads);
            let (header, frame) = whole.split_first_chunk().expect("long");
            let offload = Offload::parse(header);
            assert!(offload.segment.is_some());
            let (frames, counts) = deal(frame, offload);
            assert_eq!(frames, sent, "IPv6: {is_ipv6}");
            assert_eq!((counts.rx_in_trains, counts.rx_errors), (7, 0));
        }
    }

    #[test]
    fn segments_that_differ_travel_alone() {
        let first = segment(false, 0, &[1; 100], 0x10);
        let follows = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut gathering = Gathering::new();
            gathering.begin(&first);
            let mut next = segment(false, 1, &[2; 100], 0x10);
            change(&mut next);
            gathering.add(&next).is_some()
        };
        assert!(follows(&|_| {}));
        assert!(!follows(&|next| next[60] ^= 1), "its sum is wrong");
        assert!(!follows(&|next| next[0] ^= 1), "for another station");
        assert!(!follows(&|next| *next = segment(false, 2, &[2; 100], 0x10)), "a gap");
        assert!(!follows(&|next| *next = segment(false, 1, &[2; 101], 0x10)), "longer than the first");
        assert!(!follows(&|next| *next = segment(false, 1, &[2; 100], 0x11)), "it ends the stream");
        assert!(!follows(&|next| next.push(0)), "padding behind it");
        for len in 0..first.len() {
            assert!(!follows(&|next| next.truncate(len)), "cut to {len}");
        }
    }

    #[test]
    fn partial_checksums_are_completed_and_wild_ones_refused() {
        let whole = segment(false, 3, b"odd", 0x18);
        let mut partial = whole.clone();
        let pseudo = pseudo_sum(&partial, 14, false, 6, partial.len() - 34);
        put(&mut partial, 50, !checksum::of(pseudo, &[]));
        let header = |start: u16, offset: u16| {
            let mut header = [0; HEADER_LEN];
            header[0] = NEEDS_CHECKSUM;
            header[6..8].copy_from_slice(&start.to_le_bytes());
            header[8..].copy_from_slice(&offset.to_le_bytes());
            header
        };
        assert_eq!(deal(&partial, Offload::parse(&header(34, 16))).0, [whole]);
        for (start, offset) in [(34, 60_000), (60_000, 16), (57, 0), (34, 22), (0xffff, 0xffff)] {
            let (frames, counts) = deal(&partial, Offload::parse(&header(start, offset)));
            assert_eq!((frames.len(), counts.rx_errors), (0, 1), "{start} {offset}");
        }
    }

    #[test]
    fn any_header_over_any_bytes_gives_frames_or_a_refusal() {
        let bytes = segment(true, 1, &[5; 300], 0x18);
        let mut state = 1u64;
        for _ in 0..20_000 {
            let mut header = [0; HEADER_LEN];
            let mut damaged = bytes.clone();
            let mut draw = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state >> 33
            };
            header.fill_with(|| u8::try_from(draw() % 8).expect("below 8"));
            header[6] = u8::try_from(draw() % 80).expect("below 80");
            for _ in 0..draw() % 4 {
                let at = usize::try_from(draw()).expect("31 bits") % 80;
                damaged[at] = u8::try_from(draw() % 256).expect("a byte");
            }
            let len = usize::try_from(draw()).expect("31 bits") % (bytes.len() + 1);
            let _ = deal(&damaged[..len], Offload::parse(&header));
        }
    }
}
