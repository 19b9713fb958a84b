//! A capture of what passes a port, in either direction.
//!
//! Source: the classic form of pcap with nanoseconds, draft-ietf-opsawg-pcap.
//!
//! Invariant: costs a port a copy of each frame and never a wait; frames that do not reach the file are counted.

use std::cell::Cell;
use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::paper::Paper;
use super::{Burst, Frame, Interest, Pool, Port, PortCounts, Wake};
use crate::limits::FRAME_LEN_MAX;

/// Bytes before a frame in a capture.
const RECORD_HEADER_LEN: usize = 16;

/// What stands at the beginning of a capture: times in nanoseconds, Ethernet.
pub(super) fn file_header() -> Vec<u8> {
    let words = [0xa1b2_3c4d_u32, 2 | 4 << 16, 0, 0, 65_535, 1];
    words.map(u32::to_le_bytes).as_flattened().to_vec()
}

/// A frame as it stands in a capture, seen now.
pub(super) fn record(pool: &Pool, frame: &Frame) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let mut bytes = vec![0; RECORD_HEADER_LEN + FRAME_LEN_MAX as usize];
    let len = pool.read(frame, &mut bytes[RECORD_HEADER_LEN..]);
    bytes.truncate(RECORD_HEADER_LEN + len);
    let (len, wire_len) = (u32::try_from(len).expect("a frame's length"), frame.len());
    // The form's seconds end in 2106.
    let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
    let words = [seconds, now.subsec_nanos(), len, wire_len];
    bytes[..RECORD_HEADER_LEN].copy_from_slice(words.map(u32::to_le_bytes).as_flattened());
    bytes
}

/// A port that is recorded.
pub struct RecordPort {
    port: Box<dyn Port>,
    paper: Arc<Paper>,
    lost: Cell<u64>,
    report: String,
}

impl fmt::Debug for RecordPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordPort").field("port", &self.port.report()).finish_non_exhaustive()
    }
}

impl RecordPort {
    pub(super) fn new(port: Box<dyn Port>, paper: Arc<Paper>, path: &str) -> Self {
        let report = format!("{}, recorded to {path}", port.report());
        Self { port, paper, lost: Cell::new(0), report }
    }
}

impl Port for RecordPort {
    fn recv(&mut self, pool: &mut Pool, burst: &mut Burst) {
        let before = burst.count();
        self.port.recv(pool, burst);
        burst.frames().skip(before).for_each(|frame| self.paper.put(record(pool, frame)));
    }

    fn send(&mut self, pool: &mut Pool, frame: Frame) {
        self.paper.put(record(pool, &frame));
        self.port.send(pool, frame);
    }

    fn before_wait(&mut self, pool: &mut Pool) -> bool {
        self.port.before_wait(pool)
    }

    fn waits_on(&self, each: &mut dyn FnMut(RawFd, Interest)) {
        self.port.waits_on(each);
    }

    fn until_due(&self) -> Duration {
        self.port.until_due()
    }

    fn wake(&self) -> &Wake {
        self.port.wake()
    }

    fn end_receiving(&mut self) {
        self.port.end_receiving();
    }

    fn is_receiving(&mut self) -> bool {
        self.port.is_receiving()
    }

    fn close(&mut self, pool: &mut Pool) {
        self.port.close(pool);
    }

    fn counts(&self) -> PortCounts {
        self.lost.set(self.lost.get() + self.paper.take_lost());
        let counts = self.port.counts();
        PortCounts { unrecorded: counts.unrecorded + self.lost.get(), ..counts }
    }

    fn dropped(&self) -> u64 {
        self.port.dropped()
    }

    fn is_gone(&self) -> bool {
        self.port.is_gone()
    }

    fn report(&self) -> &str {
        &self.report
    }
}
