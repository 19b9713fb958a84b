//! A bad wire around any port: loses, delays, reorders, duplicates and corrupts frames, and parts the ends for a while.
//!
//! What happens to a frame is drawn from the seed, its direction and its number in that direction, so that the same frames
//! meet the same faults whatever else a host does. What the wire loses had been sent, as its sender sees it; what it loses
//! of what arrives counts as dropped.
//!
//! Invariant: allocates nothing after it is made. It holds back a bounded number of frames.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::RawFd;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::{Burst, Frame, Interest, Pool, Port, PortCounts, Wake};
use crate::limits::{BURST_MAX, FRAME_LEN_MAX};

/// Frames of one direction that are held back at most; more are lost.
const HELD_MAX: usize = 256;
/// Frames by which one is overtaken at most.
const OVERTAKEN_BY_MAX: u64 = 4;
/// How long a frame waits for others to overtake it.
const OVERTAKING: Duration = Duration::from_millis(10);
/// Microseconds that a frame is late at most: it keeps its chunk meanwhile.
pub(super) const DELAY_US_MAX: u64 = 1_000_000;
/// Parts of a whole chance.
const WHOLE: u32 = 1_000_000;

/// How often something happens, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chance(u32);

impl Chance {
    /// So many millionths, at most all of them.
    #[must_use]
    pub fn millionths(count: u32) -> Self {
        Self(count.min(WHOLE))
    }

    /// Whether it happens, for a number drawn from all that 64 bits hold.
    fn happens(self, drawn: u64) -> bool {
        (u128::from(drawn) * u128::from(WHOLE)) >> 64 < u128::from(self.0)
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:06}", self.0 / WHOLE, self.0 % WHOLE);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Text that is no chance.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("chance {text:?}: no number from 0 to 1 with at most six decimals; write it like 0.01")]
pub struct BadChance {
    /// The text.
    pub text: String,
}

impl FromStr for Chance {
    type Err = BadChance;

    fn from_str(text: &str) -> Result<Self, BadChance> {
        let bad = || BadChance { text: text.to_owned() };
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !are_digits(whole) || !are_digits(decimals) || decimals.len() > 6 {
            return Err(bad());
        }
        let whole: u32 = whole.parse().map_err(|_| bad())?;
        let decimals: u32 = format!("{decimals:0<6}").parse().map_err(|_| bad())?;
        let count = whole.checked_mul(WHOLE).and_then(|count| count.checked_add(decimals));
        count.filter(|count| *count <= WHOLE).map(Self).ok_or_else(bad)
    }
}

/// A range of numbers; the last is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Text that is no range.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("range {text:?}: no numbers like 100-200, the smaller first; mend it")]
pub struct BadSpan {
    /// The text.
    pub text: String,
}

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let span = first.parse().ok().zip(last.parse().ok()).map(|(first, last)| Self { first, last });
        span.filter(|span| span.first <= span.last).ok_or_else(|| BadSpan { text: text.to_owned() })
    }
}

/// What a wire does to frames, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultConfig {
    /// Where chance begins.
    pub seed: u64,
    /// Frames that are lost.
    pub loss: Chance,
    /// Frames that come twice.
    pub duplicate: Chance,
    /// Frames of which one bit is turned.
    pub corrupt: Chance,
    /// Frames that some of those behind them overtake.
    pub reorder: Chance,
    /// Microseconds that each frame is late; specifications take a second at most, as a late frame keeps its chunk.
    pub delay_us: Option<Span>,
    /// Numbers of the frames, from 0, during which the ends are parted.
    pub partition: Option<Span>,
}

/// What happened to frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Frames that entered the wire.
    pub frames: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost while the ends were parted.
    pub parted: u64,
    /// Lost because too many were held back.
    pub overflowed: u64,
    /// Came twice.
    pub duplicated: u64,
    /// Would have come twice, had there been a free chunk.
    pub unduplicated: u64,
    /// Had a bit turned.
    pub corrupted: u64,
    /// Were held back for others to overtake.
    pub reordered: u64,
    /// Were held back for a while.
    pub delayed: u64,
}

impl FaultCounts {
    fn gone(&self) -> u64 {
        self.lost + self.parted + self.overflowed
    }
}

/// What is drawn for a frame: each its own, so that one fault does not change the others.
#[derive(Clone, Copy)]
enum Draw {
    Loss = 1,
    Duplicate,
    Corrupt,
    Bit,
    Reorder,
    Distance,
    Delay,
}

/// Whether a frame entered the wire, or came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Sender,
    Copy,
}

/// A frame that is held back.
#[derive(Debug)]
struct Held {
    frame: Frame,
    origin: Origin,
    due: Instant,
    /// It is due as well when so many frames have entered.
    after: Option<u64>,
}

/// One direction of the wire.
#[derive(Debug)]
struct Way {
    config: FaultConfig,
    seed: u64,
    held: Vec<Held>,
    /// Frames at the end of the wire.
    ready: VecDeque<(Frame, Origin)>,
    counts: FaultCounts,
    /// Copies among those that overflowed.
    overflowed_copies: u64,
    scratch: Box<[u8; FRAME_LEN_MAX as usize]>,
}

/// Spreads a number over all bits (the finaliser of splitmix64).
fn spread(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Way {
    fn new(config: FaultConfig, direction: u64) -> Self {
        Self {
            config,
            seed: spread(config.seed.wrapping_mul(2).wrapping_add(direction).wrapping_add(0x9e37_79b9_7f4a_7c15)),
            held: Vec::with_capacity(HELD_MAX),
            ready: VecDeque::with_capacity(2 * BURST_MAX + HELD_MAX),
            counts: FaultCounts::default(),
            overflowed_copies: 0,
            scratch: Box::new([0; FRAME_LEN_MAX as usize]),
        }
    }

    fn draw(&self, number: u64, what: Draw) -> u64 {
        spread(self.seed ^ spread(number.wrapping_mul(8).wrapping_add(what as u64)))
    }

    /// A frame enters the wire.
    fn enter(&mut self, pool: &mut Pool, mut frame: Frame) {
        let number = self.counts.frames;
        self.counts.frames += 1;
        let config = self.config;
        let happens = |chance: Chance, what| chance.happens(self.draw(number, what));
        let (is_lost, is_twice) = (happens(config.loss, Draw::Loss), happens(config.duplicate, Draw::Duplicate));
        let (is_corrupt, is_late) = (happens(config.corrupt, Draw::Corrupt), happens(config.reorder, Draw::Reorder));
        if config.partition.is_some_and(|span| (span.first..=span.last).contains(&number)) {
            self.counts.parted += 1;
            return pool.release(frame);
        }
        if is_lost {
            self.counts.lost += 1;
            return pool.release(frame);
        }
        if is_corrupt && !frame.is_empty() {
            let len = pool.read(&frame, &mut self.scratch[..]);
            let bit = usize::try_from(self.draw(number, Draw::Bit) % (len as u64 * 8)).expect("within a frame");
            self.scratch[bit / 8] ^= 1 << (bit % 8);
            pool.rewrite(&mut frame, &self.scratch[..len]);
            self.counts.corrupted += 1;
        }
        if is_twice {
            let len = pool.read(&frame, &mut self.scratch[..]);
            match pool.take() {
                Some(chunk) => {
                    let mut copy = Frame::behind_headroom(chunk, 0);
                    pool.rewrite(&mut copy, &self.scratch[..len]);
                    self.counts.duplicated += 1;
                    self.pass(pool, copy, Origin::Copy, number, Lateness::None);
                }
                None => self.counts.unduplicated += 1,
            }
        }
        let lateness = if is_late { Lateness::Overtaken } else { Lateness::None };
        self.pass(pool, frame, Origin::Sender, number, lateness);
    }

    fn pass(&mut self, pool: &mut Pool, frame: Frame, origin: Origin, number: u64, lateness: Lateness) {
        let held = match (lateness, self.config.delay_us) {
            (Lateness::Overtaken, _) => {
                self.counts.reordered += 1;
                let distance = 1 + self.draw(number, Draw::Distance) % OVERTAKEN_BY_MAX;
                Held { frame, origin, due: Instant::now() + OVERTAKING, after: Some(number + 1 + distance) }
            }
            (Lateness::None, Some(span)) => {
                self.counts.delayed += 1;
                let spread = (span.last - span.first).saturating_add(1);
                let late = span.first + self.draw(number, Draw::Delay) % spread;
                Held { frame, origin, due: Instant::now() + Duration::from_micros(late), after: None }
            }
            (Lateness::None, None) => return self.ready.push_back((frame, origin)),
        };
        if self.held.len() < HELD_MAX {
            self.held.push(held);
        } else {
            self.counts.overflowed += 1;
            self.overflowed_copies += u64::from(origin == Origin::Copy);
            pool.release(held.frame);
        }
    }

    /// Lets go of what was held back for long enough.
    fn release_due(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let (now, entered) = (Instant::now(), self.counts.frames);
        let mut index = 0;
        while let Some(held) = self.held.get(index) {
            if held.due <= now || held.after.is_some_and(|after| after <= entered) {
                let held = self.held.remove(index);
                self.ready.push_back((held.frame, held.origin));
            } else {
                index += 1;
            }
        }
    }

    fn until_due(&self) -> Duration {
        if !self.ready.is_empty() {
            return Duration::ZERO;
        }
        let due = self.held.iter().map(|held| held.due).min();
        due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()))
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.ready.is_empty()
    }

    /// Gives everything back; how many frames it was.
    fn clear(&mut self, pool: &mut Pool) -> u64 {
        let ready = self.ready.drain(..).map(|(frame, _)| frame);
        let frames = self.held.drain(..).map(|held| held.frame).chain(ready);
        frames.map(|frame| pool.release(frame)).count() as u64
    }
}

/// Whether others overtake a frame.
#[derive(Clone, Copy)]
enum Lateness {
    None,
    Overtaken,
}

/// A port behind a bad wire.
pub struct FaultPort {
    port: Box<dyn Port>,
    /// Towards the peer, and from it.
    ways: [Way; 2],
    arrived: Burst,
    /// Copies that the port was handed, and those that it could not send.
    copies: u64,
    failed_copies: u64,
    given_up: u64,
    report: String,
}

impl fmt::Debug for FaultPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultPort").field("port", &self.port.report()).field("ways", &self.ways).finish_non_exhaustive()
    }
}

impl FaultPort {
    /// Puts a bad wire before a port.
    #[must_use]
    pub fn new(port: Box<dyn Port>, config: FaultConfig) -> Self {
        let report = format!("{}, faults of seed {}", port.report(), config.seed);
        let ways = [0, 1].map(|way| Way::new(config, way));
        Self { port, ways, arrived: Burst::new(), copies: 0, failed_copies: 0, given_up: 0, report }
    }

    /// What happened to frames towards the peer, and to those from it.
    #[must_use]
    pub fn faults(&self) -> [FaultCounts; 2] {
        [self.ways[0].counts, self.ways[1].counts]
    }

    /// Hands the port what has reached the end of the wire.
    fn send_ready(&mut self, pool: &mut Pool) {
        self.ways[0].release_due();
        while let Some((frame, origin)) = self.ways[0].ready.pop_front() {
            match origin {
                Origin::Sender => self.port.send(pool, frame),
                Origin::Copy => {
                    let errors = self.port.counts().tx_errors;
                    self.port.send(pool, frame);
                    self.copies += 1;
                    self.failed_copies += u64::from(self.port.counts().tx_errors > errors);
                }
            }
        }
    }
}

impl Port for FaultPort {
    fn recv(&mut self, pool: &mut Pool, burst: &mut Burst) {
        self.send_ready(pool);
        let way = &mut self.ways[1];
        if way.ready.is_empty() {
            self.port.recv(pool, &mut self.arrived);
            burst.refuse(self.arrived.take_refused());
            while let Some(frame) = self.arrived.take() {
                way.enter(pool, frame);
                way.release_due();
            }
        }
        way.release_due();
        while burst.room() > 0
            && let Some((frame, _)) = way.ready.pop_front()
        {
            burst.push(frame);
        }
    }

    fn send(&mut self, pool: &mut Pool, frame: Frame) {
        self.ways[0].enter(pool, frame);
        self.send_ready(pool);
    }

    fn before_wait(&mut self, pool: &mut Pool) -> bool {
        self.send_ready(pool);
        self.ways[1].release_due();
        let is_there = self.port.before_wait(pool);
        is_there || !self.ways[1].ready.is_empty()
    }

    fn waits_on(&self, each: &mut dyn FnMut(RawFd, Interest)) {
        self.port.waits_on(each);
    }

    fn until_due(&self) -> Duration {
        self.port.until_due().min(self.ways[0].until_due()).min(self.ways[1].until_due())
    }

    fn wake(&self) -> &Wake {
        self.port.wake()
    }

    fn end_receiving(&mut self) {
        self.port.end_receiving();
    }

    fn is_receiving(&mut self) -> bool {
        self.port.is_receiving() || !self.ways[1].is_empty()
    }

    fn close(&mut self, pool: &mut Pool) {
        for held in std::mem::take(&mut self.ways[0].held) {
            self.ways[0].ready.push_back((held.frame, held.origin));
        }
        self.send_ready(pool);
        self.given_up += self.ways[1].clear(pool);
        self.port.close(pool);
    }

    fn counts(&self) -> PortCounts {
        let (counts, way) = (self.port.counts(), &self.ways[0]);
        // Nobody sent the copies: neither those that the port sent nor those that it could not.
        let copies = self.copies - self.failed_copies + way.overflowed_copies;
        PortCounts {
            tx_frames: (counts.tx_frames + way.counts.gone()).saturating_sub(copies),
            tx_errors: counts.tx_errors.saturating_sub(self.failed_copies),
            ..counts
        }
    }

    fn dropped(&self) -> u64 {
        self.port.dropped() + self.ways[1].counts.gone() + self.given_up
    }

    fn is_gone(&self) -> bool {
        self.port.is_gone()
    }

    fn report(&self) -> &str {
        &self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_and_ranges_are_read_as_they_are_written() {
        for text in ["0", "1", "0.5", "0.000001", "0.999999", "0.01"] {
            assert_eq!(text.parse::<Chance>().expect("a chance").to_string(), text);
        }
        for text in ["", "2", "1.000001", "-1", "0.0000001", ".5", "0.", "1e-3", "99999999999"] {
            let error = text.parse::<Chance>().expect_err("none").to_string();
            let why = "no number from 0 to 1 with at most six decimals; write it like 0.01";
            assert_eq!(error, format!("chance {text:?}: {why}"));
        }
        assert_eq!("5".parse(), Ok(Span { first: 5, last: 5 }));
        assert_eq!("5-18446744073709551615".parse(), Ok(Span { first: 5, last: u64::MAX }));
        let error = "9-5".parse::<Span>().expect_err("backwards").to_string();
        assert_eq!(error, "range \"9-5\": no numbers like 100-200, the smaller first; mend it");
    }

    #[test]
    fn a_chance_happens_as_often_as_it_says() {
        let way = Way::new(FaultConfig { seed: 3, ..FaultConfig::default() }, 0);
        for (chance, least, most) in
            [(0, 0, 0), (10_000, 900, 1100), (500_000, 49_000, 51_000), (WHOLE, 100_000, 100_000)]
        {
            let happens = |number: &u64| Chance(chance).happens(way.draw(*number, Draw::Loss));
            let count = (0..100_000u64).filter(happens).count();
            assert!((least..=most).contains(&count), "{chance}: {count}");
        }
    }
}
