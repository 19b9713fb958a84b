//! What programs say, and what went wrong with them, for whoever reads it.
//!
//! Invariant: never blocks a worker; when nobody reads, events are counted and dropped.

use std::sync::atomic::{AtomicU64, Ordering};

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
    /// A worker failed while it judged a frame: a mistake of kumite's. It goes on with the next frame.
    Panic {
        /// Number of the worker.
        worker: u32,
        /// What it said.
        text: String,
    },
    /// A worker ended by a mistake of kumite's. The others go on.
    WorkerLost {
        /// Number of the worker.
        worker: u32,
        /// What it said.
        text: String,
    },
}

/// Events that wait for a reader.
#[derive(Debug)]
pub(super) struct Events {
    queue: ArrayQueue<Event>,
    lost: AtomicU64,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { queue: ArrayQueue::new(EVENTS_MAX), lost: AtomicU64::new(0) }
    }

    /// Keeps an event, or counts it where there is no room.
    pub(super) fn tell(&self, event: impl FnOnce() -> Event) {
        if self.queue.is_full() || self.queue.push(event()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes all events out, oldest first.
    pub(super) fn take(&self) -> Vec<Event> {
        std::iter::from_fn(|| self.queue.pop()).take(EVENTS_MAX).collect()
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_beyond_the_bound_are_counted_and_dropped() {
        let events = Events::new();
        for number in 0..EVENTS_MAX + 3 {
            events.tell(|| Event::Trace { text: number.to_string() });
        }
        assert_eq!(events.lost(), 3);
        let taken = events.take();
        assert_eq!(taken.len(), EVENTS_MAX);
        assert_eq!(taken[0], Event::Trace { text: "0".to_owned() });
        assert!(events.take().is_empty());
    }

    #[test]
    fn events_are_told_as_tagged_objects() {
        let event = Event::Trap { program: "count".to_owned(), text: "count insn 3: fuel".to_owned() };
        let json = serde_json::to_string(&event).expect("plain data");
        assert_eq!(json, r#"{"event":"trap","program":"count","text":"count insn 3: fuel"}"#);
    }
}
