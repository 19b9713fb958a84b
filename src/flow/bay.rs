//! A worker's side of one port: the port itself where this worker drives it, frames from it and for it, and what the worker
//! counted of it.
//!
//! Invariant: used by one worker alone; frames in it lie in that worker's pool.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use super::HostError;
use super::counters::{PortBook, Tally};
use crate::limits::BURST_MAX;
use crate::port::{Burst, Frame, Pool, Port, PortShare, Wake};

/// A port that a worker is to open.
pub(super) struct Opening {
    /// Its place in plans to come.
    pub(super) slot: usize,
    pub(super) name: String,
    /// This worker's share, where it drives the port.
    pub(super) share: Option<PortShare>,
    pub(super) book: Arc<PortBook>,
    pub(super) is_gone: Arc<AtomicBool>,
    /// Gets one answer: which path moves frames, where this worker drives the port.
    pub(super) answer: Sender<Result<Option<String>, HostError>>,
}

/// What a worker is told to do with its ports, between two turns.
pub(super) enum Order {
    Open(Box<Opening>),
    /// Of a port that the plan has no more.
    Close {
        slot: usize,
        /// Gets one answer.
        done: Sender<()>,
    },
}

/// A worker's side of one port.
#[derive(Default)]
pub(super) struct Bay {
    pub(super) port: Option<Box<dyn Port>>,
    /// Received and not judged yet.
    pub(super) burst: Burst,
    /// Judged and to leave at the end of the turn.
    pub(super) out: VecDeque<Frame>,
    pub(super) tally: Tally,
    published: Tally,
    book: Option<Arc<PortBook>>,
    name: String,
    is_gone: bool,
    says_gone: Arc<AtomicBool>,
}

impl Bay {
    /// Opens the port where this worker drives it.
    pub(super) fn open(opening: Opening, wake: &Arc<Wake>, pool: &mut Pool) -> Result<Self, HostError> {
        let port = opening.share.map(|share| share.open(wake, pool)).transpose()?;
        Ok(Self {
            port,
            out: VecDeque::with_capacity(2 * BURST_MAX),
            book: Some(opening.book),
            name: opening.name,
            says_gone: opening.is_gone,
            ..Self::default()
        })
    }

    /// A port for tests, without a book.
    #[cfg(test)]
    pub(super) fn of(port: Box<dyn Port>) -> Self {
        Self { port: Some(port), ..Self::default() }
    }

    pub(super) fn report(&self) -> Option<String> {
        self.port.as_ref().map(|port| port.report().to_owned())
    }

    /// Takes over what the port counted.
    pub(super) fn copy_counts(&mut self) {
        let Some(port) = &self.port else { return };
        let counts = port.counts();
        let tally = &mut self.tally;
        tally.tx_frames = counts.tx_frames;
        tally.tx_bytes = counts.tx_bytes;
        tally.tx_in_trains = counts.tx_in_trains;
        tally.tx_errors = counts.tx_errors;
        tally.rx_in_trains = counts.rx_in_trains;
        tally.rx_errors = counts.rx_errors;
        tally.unrecorded = counts.unrecorded;
        tally.unreachable = counts.unreachable;
    }

    /// Takes over what was lost before the port, which costs a system call.
    pub(super) fn copy_drops(&mut self) {
        if let Some(port) = &self.port {
            self.tally.dropped = self.tally.dropped.max(port.dropped());
        }
    }

    /// Whether the port's wire has gone since this was last asked; then its name.
    pub(super) fn went(&mut self) -> Option<&str> {
        if self.is_gone || !self.port.as_ref().is_some_and(|port| port.is_gone()) {
            return None;
        }
        self.is_gone = true;
        self.says_gone.store(true, Ordering::Release);
        Some(&self.name)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Shows others what is counted.
    pub(super) fn publish(&mut self, worker: usize) {
        if let Some(book) = &self.book
            && self.tally != self.published
        {
            self.published = self.tally;
            book.of_worker(worker).publish(&self.published);
        }
    }

    /// Sends what is queued and closes the port. Frames that wait to be judged are given up and never counted, like those
    /// that wait in the kernel.
    pub(super) fn close(&mut self, pool: &mut Pool) {
        while let Some(frame) = self.burst.take() {
            pool.release(frame);
        }
        if let Some(port) = &mut self.port {
            port.close(pool);
        }
        self.copy_counts();
        self.copy_drops();
        self.port = None;
    }
}
