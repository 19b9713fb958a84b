//! Captures as a wire: frames of one file come in, with or without its timing, and what is sent goes to another.
//!
//! Several workers share a capture by flow.
//!
//! Invariant: a capture is read whole before its port is opened; the port itself never waits for a disk.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::paper::Paper;
use super::record::{file_header, record};
use super::udp::worker_of;
use super::{Burst, Capture, CapturedFrame, Frame, Interest, Pool, Port, PortCounts, PortError, Wake};
use crate::limits::CAPTURE_LEN_MAX;

/// When frames of a capture come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timing {
    /// As they are taken.
    #[default]
    Off,
    /// As far apart as they were captured.
    On,
}

/// Captures that make a wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PcapConfig {
    /// The file whose frames come in; empty for none.
    pub input: String,
    /// The file for frames that are sent; without one they are gone.
    pub output: Option<String>,
    /// When frames come.
    pub timing: Timing,
}

/// One worker's share of the captures.
#[derive(Clone, Debug)]
pub struct PcapShare {
    name: String,
    frames: Arc<Vec<CapturedFrame>>,
    timing: Timing,
    output: Option<Arc<Paper>>,
    index: u32,
    worker_count: u32,
}

impl PcapShare {
    /// Reads the one capture and makes the other. `name` stands in errors and reports.
    ///
    /// # Errors
    /// [`PortError::Open`], [`PortError::Capture`], [`PortError::CaptureLen`].
    pub fn open(name: &str, config: &PcapConfig, worker_count: u32) -> Result<Vec<Self>, PortError> {
        let mut frames = Vec::new();
        if !config.input.is_empty() {
            let bytes = read(&config.input).map_err(PortError::failed(name, "reading"))?;
            if bytes.len() as u64 > CAPTURE_LEN_MAX {
                return Err(PortError::CaptureLen { port: name.to_owned(), max: CAPTURE_LEN_MAX });
            }
            frames = Capture::read(&bytes).map_err(|source| PortError::Capture { port: name.to_owned(), source })?;
        }
        let paper = |path: &String| Paper::new(Path::new(path), &file_header());
        let output = config.output.as_ref().map(paper).transpose().map_err(PortError::failed(name, "writing"))?;
        let (frames, output) = (Arc::new(frames), output.map(Arc::new));
        let share = |index| Self {
            name: name.to_owned(),
            frames: Arc::clone(&frames),
            timing: config.timing,
            output: output.clone(),
            index,
            worker_count,
        };
        Ok((0..worker_count).map(share).collect())
    }
}

fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more shows that it is too long.
    File::open(path)?.take(CAPTURE_LEN_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A worker's share of a wire made of captures.
#[derive(Debug)]
pub struct PcapPort {
    share: PcapShare,
    next: usize,
    /// When the first frame came.
    began: Option<Instant>,
    is_receiving: bool,
    lost: Cell<u64>,
    wake: Arc<Wake>,
    counts: PortCounts,
    report: String,
}

impl PcapPort {
    /// Opens a worker's share.
    #[must_use]
    pub fn open(share: PcapShare, wake: Arc<Wake>) -> Self {
        let timing = match share.timing {
            Timing::Off => "without its timing",
            Timing::On => "with its timing",
        };
        let report = format!("{}: {} frames from memory, {timing}", share.name, share.frames.len());
        let mut port = Self {
            share,
            next: 0,
            began: None,
            is_receiving: true,
            lost: Cell::new(0),
            wake,
            counts: PortCounts::default(),
            report,
        };
        port.skip();
        port
    }

    /// Passes over frames of other workers.
    fn skip(&mut self) {
        let (index, count) = (self.share.index, self.share.worker_count);
        while self.share.frames.get(self.next).is_some_and(|frame| worker_of(&frame.bytes, count) != index) {
            self.next += 1;
        }
    }

    /// How long until the next frame; none when it was the last.
    fn until_next(&self) -> Option<Duration> {
        let next = self.share.frames.get(self.next).filter(|_| self.is_receiving)?;
        let (Timing::On, Some(began)) = (self.share.timing, self.began) else { return Some(Duration::ZERO) };
        let after = next.at.saturating_sub(self.share.frames[0].at);
        Some(after.saturating_sub(began.elapsed()))
    }
}

impl Port for PcapPort {
    fn recv(&mut self, pool: &mut Pool, burst: &mut Burst) {
        if self.began.is_none() {
            self.began = Some(Instant::now());
        }
        while burst.room() > 0 && self.until_next() == Some(Duration::ZERO) {
            if !burst.copied(pool, &self.share.frames[self.next].bytes) {
                return;
            }
            self.next += 1;
            self.skip();
        }
    }

    fn send(&mut self, pool: &mut Pool, frame: Frame) {
        if let Some(output) = &self.share.output {
            output.put(record(pool, &frame));
        }
        self.counts.tx_frames += 1;
        self.counts.tx_bytes += u64::from(frame.len());
        pool.release(frame);
    }

    fn before_wait(&mut self, pool: &mut Pool) -> bool {
        pool.free_count() > 0 && self.until_next() == Some(Duration::ZERO)
    }

    fn waits_on(&self, _: &mut dyn FnMut(RawFd, Interest)) {
        // Its time comes by itself.
    }

    fn until_due(&self) -> Duration {
        self.until_next().filter(|until| !until.is_zero()).unwrap_or(Duration::MAX)
    }

    fn wake(&self) -> &Wake {
        &self.wake
    }

    fn end_receiving(&mut self) {
        self.is_receiving = false;
    }

    fn is_receiving(&mut self) -> bool {
        self.until_next().is_some()
    }

    fn close(&mut self, _: &mut Pool) {
        self.is_receiving = false;
    }

    fn counts(&self) -> PortCounts {
        self.lost.set(self.lost.get() + self.share.output.as_ref().map_or(0, |output| output.take_lost()));
        PortCounts { unrecorded: self.lost.get(), ..self.counts }
    }

    fn report(&self) -> &str {
        &self.report
    }
}
