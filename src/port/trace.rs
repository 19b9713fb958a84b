//! A line for each frame that passes a port, as many a second as can be read.
//!
//! Invariant: beyond the bound, a line says how many frames have none.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::paper::Paper;
use super::{Burst, Frame, Interest, Pool, Port, PortCounts, Wake};

/// Lines of one port and worker in a second.
const LINES_MAX: u32 = 1000;
/// Bytes of a frame that a line describes.
const SEEN_LEN: usize = 54;

/// A port whose frames are told.
pub struct TracePort {
    port: Box<dyn Port>,
    paper: Arc<Paper>,
    lost: Cell<u64>,
    began: Instant,
    /// The second that is counted, and its lines.
    second: u64,
    lines: u32,
    untold: u64,
    report: String,
}

impl fmt::Debug for TracePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracePort").field("port", &self.port.report()).finish_non_exhaustive()
    }
}

impl TracePort {
    pub(super) fn new(port: Box<dyn Port>, paper: Arc<Paper>, path: &str) -> Self {
        let report = format!("{}, traced to {path}", port.report());
        Self { port, paper, lost: Cell::new(0), began: Instant::now(), second: 0, lines: 0, untold: 0, report }
    }

    fn tell(&mut self, direction: &str, pool: &Pool, frame: &Frame) {
        let at = self.began.elapsed();
        if at.as_secs() != self.second {
            self.tell_untold();
            (self.second, self.lines) = (at.as_secs(), 0);
        }
        if self.lines >= LINES_MAX {
            self.untold += 1;
            return;
        }
        self.lines += 1;
        let mut bytes = [0; SEEN_LEN];
        let len = pool.read(frame, &mut bytes);
        let mut line = format!("{:>5}.{:06} {direction} ", at.as_secs(), at.subsec_micros());
        describe(&mut line, frame.len(), &bytes[..len]);
        line.push('\n');
        self.paper.put(line.into_bytes());
    }

    fn tell_untold(&mut self) {
        if self.untold > 0 {
            self.paper.put(format!("      {} frames more\n", std::mem::take(&mut self.untold)).into_bytes());
        }
    }
}

/// Length, stations and what the frame carries.
fn describe(line: &mut String, frame_len: u32, bytes: &[u8]) {
    let half = |at: usize| bytes.get(at..at + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let station = |at: usize| {
        let octets = bytes.get(at..at + 6).unwrap_or_default();
        octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":")
    };
    let kind = half(12).unwrap_or(0);
    // Writing to a string does not fail.
    let _ = write!(line, "{frame_len} bytes {} -> {} type {kind:04x}", station(6), station(0));
    if kind == 0x0800 && bytes.len() >= 34 {
        let address = |at: usize| format!("{}.{}.{}.{}", bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
        let _ = write!(line, " {} -> {} protocol {}", address(26), address(30), bytes[23]);
        if let (6 | 17, Some(source), Some(destination)) = (bytes[23], half(34), half(36)) {
            let _ = write!(line, " ports {source} -> {destination}");
        }
    }
}

impl Port for TracePort {
    fn recv(&mut self, pool: &mut Pool, burst: &mut Burst) {
        let before = burst.count();
        self.port.recv(pool, burst);
        burst.frames().skip(before).for_each(|frame| self.tell("in ", pool, frame));
    }

    fn send(&mut self, pool: &mut Pool, frame: Frame) {
        self.tell("out", pool, &frame);
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
        self.tell_untold();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_a_frame_is() {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x1f, 0x90, 0, 80]);
        let told = |len: usize| {
            let mut line = String::new();
            describe(&mut line, 60, &frame[..len]);
            line
        };
        let stations = "60 bytes 02:00:00:00:00:02 -> 02:00:00:00:00:01 type 0800";
        assert_eq!(told(38), format!("{stations} 10.0.0.1 -> 10.0.0.2 protocol 6 ports 8080 -> 80"));
        assert_eq!(told(37), format!("{stations} 10.0.0.1 -> 10.0.0.2 protocol 6"));
        assert_eq!(told(33), stations);
        assert_eq!(told(13), "60 bytes 02:00:00:00:00:02 -> 02:00:00:00:00:01 type 0000");
    }
}
