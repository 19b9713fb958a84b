//! What programs say, and what went wrong with them, for whoever reads it.
//!
//! Invariant: never blocks a worker; when nobody reads, the newest events stay and the older ones are counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam::queue::ArrayQueue;
use serde::Serialize;

use crate::limits::EVENTS_MAX;

/// Something that happened on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A program printed a line (`bpf_trace_printk`).
    Trace {
        /// The line.
        text: String,
    },
    /// A run stopped early. At most one of a turn is told; all are counted.
    Trap {
        /// Name of the program on the hook.
        program: String,
        /// Why and where.
        text: String,
    },
    /// Verify mode noticed something. At most those of one run of a turn are told; all are counted.
    Finding {
        /// Name of the program on the hook.
        program: String,
        /// What and where.
        text: String,
    },
    /// A program returned what is no answer of its hook. At most one of a turn is told; the frames are counted among those of
    /// their verdict.
    Verdict {
        /// Name of the program on the hook.
        program: String,
        /// What it returned, and what became of the frame.
        text: String,
    },
    /// A worker failed while it judged a frame: a mistake of kumite's. It goes on with the next frame.
    Panic {
        /// Number of the worker.
        worker: u32,
        /// What it said.
        text: String,
    },
    /// A port's wire has gone for good: nothing will arrive, and what is sent there is counted among its errors.
    PortGone {
        /// Name of the port.
        port: String,
        /// Number of the worker that noticed.
        worker: u32,
    },
    /// A worker ended by a mistake of kumite's. The others go on.
    WorkerLost {
        /// Number of the worker.
        worker: u32,
        /// What it said.
        text: String,
    },
}

/// An event and its moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// When it happened, and not when somebody read of it.
    pub at: Instant,
    /// What happened.
    pub event: Event,
}

/// Events that wait for a reader.
#[derive(Debug)]
pub(super) struct Events {
    queue: ArrayQueue<Happened>,
    lost: AtomicU64,
    untold: AtomicU64,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { queue: ArrayQueue::new(EVENTS_MAX), lost: AtomicU64::new(0), untold: AtomicU64::new(0) }
    }

    /// Keeps an event; where there is no room, the oldest goes and is counted.
    pub(super) fn tell(&self, event: Event) {
        if self.queue.force_push(Happened { at: Instant::now(), event }).is_some() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes all events out, oldest first.
    pub(super) fn take(&self) -> Vec<Happened> {
        std::iter::from_fn(|| self.queue.pop()).take(EVENTS_MAX).collect()
    }

    /// Counts what is like an event of the same turn and therefore not told.
    pub(super) fn leave_untold(&self, count: usize) {
        self.untold.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn untold(&self) -> u64 {
        self.untold.load(Ordering::Relaxed)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_events_the_newest_stay_and_the_others_are_counted() {
        let events = Events::new();
        for number in 0..EVENTS_MAX + 3 {
            events.tell(Event::Trace { text: number.to_string() });
        }
        let before = Instant::now();
        assert_eq!(events.lost(), 3);
        let taken = events.take();
        assert_eq!(taken.len(), EVENTS_MAX);
        assert_eq!(taken[0].event, Event::Trace { text: "3".to_owned() });
        assert!(taken.is_sorted_by_key(|happened| happened.at), "oldest first");
        assert!(taken.iter().all(|happened| happened.at <= before), "they carry the time of happening");
        assert!(events.take().is_empty());
    }

    #[test]
    fn events_are_told_as_tagged_objects() {
        let event = Event::Trap { program: "count".to_owned(), text: "count insn 3: fuel".to_owned() };
        let json = serde_json::to_string(&event).expect("plain data");
        assert_eq!(json, r#"{"event":"trap","program":"count","text":"count insn 3: fuel"}"#);
    }
}
