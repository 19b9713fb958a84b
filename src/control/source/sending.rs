//! A source at work: one thread that offers frames at a pace.
//!
//! Invariant: no frame is left out or sent twice; what the host does not accept is offered again, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::frames;
use super::{Flows, Link, Pace, SourceError};
use crate::limits::{BURST_MAX, FRAME_LEN_MAX, FRAME_LEN_MIN};
use crate::report::{Capture, CapturedFrame};

/// Longest sleep of the thread: how late it notices that it should stop.
const SLEEP_MAX: Duration = Duration::from_millis(20);
/// Sleep after the host accepted nothing: about the time in which a worker makes a turn.
const REFUSED_SLEEP: Duration = Duration::from_micros(50);

/// What a source sends, round and round.
#[derive(Clone, Debug)]
pub enum Frames {
    /// Frames made from a description.
    Flows(Flows, Link),
    /// Frames of a capture; there is at least one.
    Captured(Vec<CapturedFrame>),
}

impl Frames {
    /// The frames of a capture file, all of lengths that the wire takes.
    ///
    /// # Errors
    /// [`SourceError::Capture`], [`SourceError::FrameLen`].
    pub fn captured(file: &[u8]) -> Result<Self, SourceError> {
        let frames = Capture::read(file)?;
        let takes = FRAME_LEN_MIN as usize..=FRAME_LEN_MAX as usize;
        match frames.iter().position(|frame| !takes.contains(&frame.bytes.len())) {
            Some(index) => Err(SourceError::FrameLen { number: index + 1, len: frames[index].bytes.len() }),
            None => Ok(Self::Captured(frames)),
        }
    }

    /// How many there are before they come again.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Self::Flows(flows, _) => flows.count(),
            Self::Captured(frames) => frames.len() as u64,
        }
    }

    /// Writes the frame with this number over `frame`.
    pub fn write(&self, number: u64, frame: &mut Vec<u8>) {
        match self {
            Self::Flows(flows, link) => {
                let (flow, combination) = flows.turn(number);
                frames::write(flow, combination, number, *link, frame);
            }
            Self::Captured(frames) => {
                let index = number % frames.len() as u64;
                frame.clear();
                frame.extend_from_slice(&frames[usize::try_from(index).expect("below a length")].bytes);
            }
        }
    }
}

/// Whether a source still works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It sends.
    Sending,
    /// It has sent what its pace asked for.
    Done,
    /// It was stopped before that.
    Stopped,
}

impl State {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sending => "sending",
            Self::Done => "done",
            Self::Stopped => "stopped",
        }
    }
}

/// How far a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Whether it still works.
    pub state: State,
    /// Frames that the host accepted.
    pub accepted: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// How often the host accepted less than was offered.
    pub waits: u64,
    /// Time since the start, until the end.
    pub elapsed: Duration,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    bytes: AtomicU64,
    waits: AtomicU64,
    /// Nanoseconds from start to end; 0 while it works.
    ended_after: AtomicU64,
    stop: AtomicBool,
    /// Set where the end came by `stop`.
    stopped: AtomicBool,
}

/// A source at work. Dropping it stops it.
#[derive(Debug)]
pub struct Sending {
    counters: Arc<Counters>,
    begin: Instant,
    thread: Option<JoinHandle<()>>,
}

impl Sending {
    /// Starts a thread that offers bursts of frames to `sink`, which says how many of them, from the first on, it
    /// accepted, or `None` when it will never accept one again: the source has stopped then.
    ///
    /// # Errors
    /// [`SourceError::Thread`].
    pub fn start(
        frames: Frames,
        pace: Pace,
        sink: impl FnMut(&[&[u8]]) -> Option<usize> + Send + 'static,
    ) -> Result<Self, SourceError> {
        let counters = Arc::new(Counters::default());
        let begin = Instant::now();
        let shared = Arc::clone(&counters);
        let thread = std::thread::Builder::new()
            .name("kumite-source".to_owned())
            .spawn(move || {
                send(&frames, pace, sink, begin, &shared);
                let elapsed = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
                shared.ended_after.store(elapsed.max(1), Ordering::Release);
            })
            .map_err(|source| SourceError::Thread { source })?;
        Ok(Self { counters, begin, thread: Some(thread) })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let ended_after = self.counters.ended_after.load(Ordering::Acquire);
        let state = match (ended_after, self.counters.stopped.load(Ordering::Relaxed)) {
            (0, _) => State::Sending,
            (_, true) => State::Stopped,
            (_, false) => State::Done,
        };
        Progress {
            state,
            accepted: self.counters.accepted.load(Ordering::Relaxed),
            bytes: self.counters.bytes.load(Ordering::Relaxed),
            waits: self.counters.waits.load(Ordering::Relaxed),
            elapsed: if ended_after == 0 { self.begin.elapsed() } else { Duration::from_nanos(ended_after) },
        }
    }

    /// Ends it before its time and says how far it came.
    pub fn stop(&mut self) -> Progress {
        self.counters.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Progress {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the source does not panic");
        }
        self.progress()
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.stop();
    }
}

fn send(
    frames: &Frames,
    pace: Pace,
    mut sink: impl FnMut(&[&[u8]]) -> Option<usize>,
    begin: Instant,
    counters: &Counters,
) {
    let mut burst: Vec<Vec<u8>> = vec![Vec::new(); BURST_MAX];
    let mut sent = 0_u64;
    let end = pace.count.unwrap_or(u64::MAX);
    while sent < end {
        if counters.stop.load(Ordering::Relaxed) {
            counters.stopped.store(true, Ordering::Relaxed);
            return;
        }
        let elapsed = begin.elapsed();
        if pace.time.is_some_and(|time| elapsed >= time) {
            return;
        }
        let due = pace.rate.due(elapsed).min(end).saturating_sub(sent);
        if due == 0 {
            let until_next = until_due(pace, sent, elapsed);
            std::thread::sleep(until_next.min(SLEEP_MAX));
            continue;
        }
        let count = usize::try_from(due).unwrap_or(BURST_MAX).min(BURST_MAX);
        for (number, frame) in (sent..).zip(&mut burst[..count]) {
            frames.write(number, frame);
        }
        let offered: Vec<&[u8]> = burst[..count].iter().map(Vec::as_slice).collect();
        let Some(accepted) = sink(&offered).map(|accepted| accepted.min(count)) else {
            counters.stopped.store(true, Ordering::Relaxed);
            return;
        };
        let bytes: u64 = offered[..accepted].iter().map(|frame| frame.len() as u64).sum();
        sent += accepted as u64;
        counters.accepted.store(sent, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        if accepted < count {
            counters.waits.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(REFUSED_SLEEP);
        }
    }
}

/// How long until frame `sent` is due.
fn until_due(pace: Pace, sent: u64, elapsed: Duration) -> Duration {
    match pace.rate {
        super::Rate::Max => Duration::ZERO,
        super::Rate::PerSecond(rate) => {
            let due = u128::from(sent) * 1_000_000_000 / u128::from(rate);
            let due = Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX));
            let time = pace.time.map_or(SLEEP_MAX, |time| time.saturating_sub(elapsed));
            due.saturating_sub(elapsed).min(time)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rate;
    use super::*;
    use std::sync::Mutex;

    fn flows() -> Frames {
        let flows = "udp 10.0.0.0/24 -> 10.1.0.1:53".parse().expect("flows");
        Frames::Flows(flows, Link { source: [2; 6], target: [4; 6] })
    }

    fn pace(rate: Rate, count: Option<u64>, time_ms: Option<u64>) -> Pace {
        Pace { rate, count, time: time_ms.map(Duration::from_millis) }
    }

    #[test]
    fn frames_that_are_not_accepted_come_again_in_order() {
        let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let shared = Arc::clone(&seen);
        let mut turn = 0;
        let sink = move |burst: &[&[u8]]| {
            turn += 1;
            let accepted = burst.len() * (turn % 4) / 3;
            shared.lock().expect("a list").extend(burst.iter().take(accepted).map(|frame| frame.to_vec()));
            Some(accepted)
        };
        let mut sending = Sending::start(flows(), pace(Rate::Max, Some(1000), None), sink).expect("a thread");
        let progress = sending.wait();
        assert_eq!((progress.state, progress.accepted, progress.bytes), (State::Done, 1000, 64_000));
        assert!(progress.waits > 0);
        let seen = seen.lock().expect("a list");
        for (number, frame) in seen.iter().enumerate() {
            assert_eq!(frame[42..50], (number as u64).to_be_bytes());
        }
        assert_eq!(seen.len(), 1000);
    }

    #[test]
    fn a_host_that_takes_no_more_stops_the_source() {
        let mut left = 3;
        let sink = move |burst: &[&[u8]]| {
            left -= 1;
            (left > 0).then_some(burst.len())
        };
        let mut sending = Sending::start(flows(), pace(Rate::Max, None, None), sink).expect("a thread");
        let progress = sending.wait();
        assert_eq!((progress.state, progress.accepted), (State::Stopped, 2 * BURST_MAX as u64));
    }

    #[test]
    fn a_capture_gives_its_frames_round_and_round() {
        let captured = |lens: &[usize]| {
            let frame = |len: &usize| CapturedFrame { at: Duration::ZERO, bytes: vec![1; *len] };
            Frames::captured(&Capture::Pcap.write(&lens.iter().map(frame).collect::<Vec<_>>()))
        };
        let frames = captured(&[60, 61]).expect("frames");
        let mut frame = Vec::new();
        let lens = [0, 1, 2, u64::MAX].map(|number| {
            frames.write(number, &mut frame);
            frame.len()
        });
        assert_eq!(lens, [60, 61, 60, 61]);
        assert_eq!(
            captured(&[60, 9]).expect_err("too short").to_string(),
            "capture frame 2: 9 bytes, but the wire takes 14 to 1792; cut the frame out of the file"
        );
        assert_eq!(captured(&[]).expect_err("empty").to_string(), "capture: it holds no frame; capture some");
    }

    #[test]
    fn a_source_keeps_its_rate_and_ends_at_its_time() {
        let sending = Sending::start(flows(), pace(Rate::PerSecond(2000), None, Some(300)), |burst| Some(burst.len()));
        let progress = sending.expect("a thread").wait();
        assert_eq!(progress.state, State::Done);
        assert!((100..=601).contains(&progress.accepted), "{progress:?}");
    }

    #[test]
    fn a_source_that_is_stopped_says_so() {
        let mut sending = Sending::start(flows(), pace(Rate::PerSecond(10), None, None), |burst| Some(burst.len()))
            .expect("a thread");
        assert_eq!(sending.progress().state, State::Sending);
        let progress = sending.stop();
        assert_eq!(progress.state, State::Stopped);
        assert!(progress.accepted <= 10);
    }
}
