//! The last events of a host, numbered, so that several readers can follow them.
//!
//! Invariant: holds at most [`JOURNAL_EVENTS_MAX`] events, each of a bounded length.

use std::collections::VecDeque;

use super::view::{EventView, EventsView};
use crate::flow::Event;
use crate::limits::{JOURNAL_EVENTS_MAX, JOURNAL_RECORD_LEN_MAX};
use crate::report::to_hex;

/// The last events of a host.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// Number of the next event.
    next: u64,
    events: VecDeque<EventView>,
}

impl Journal {
    /// Keeps something that the host says.
    pub(super) fn keep(&mut self, at_ms: u64, event: Event) {
        let (kind, text) = match event {
            Event::Trace { text } => ("trace", text),
            Event::Trap { program, text } => ("trap", said_by(&program, text)),
            Event::Finding { program, text } => ("finding", said_by(&program, text)),
            Event::Verdict { program, text } => ("verdict", said_by(&program, text)),
            Event::PortGone { port, worker } => ("port_gone", format!("{port}: its wire is gone (worker {worker})")),
            Event::Panic { worker, text } => ("panic", format!("worker {worker}: {text}")),
            Event::WorkerLost { worker, text } => ("lost", format!("worker {worker}: {text}")),
        };
        self.push(at_ms, kind, text, None);
    }

    /// Keeps a record of a ring buffer; of a long one its start.
    pub(super) fn keep_record(&mut self, at_ms: u64, map: &str, record: &[u8]) {
        let cut = &record[..record.len().min(JOURNAL_RECORD_LEN_MAX)];
        self.push(at_ms, "record", to_hex(cut), Some(map.to_owned()));
    }

    fn push(&mut self, at_ms: u64, kind: &str, text: String, map: Option<String>) {
        if self.events.len() == JOURNAL_EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(EventView { number: self.next, at_ms, kind: kind.to_owned(), text, map });
        self.next += 1;
    }

    /// The events from number `since` on.
    pub(super) fn since(&self, since: u64) -> EventsView {
        let first = self.events.front().map_or(self.next, |event| event.number);
        let events = self.events.iter().filter(|event| event.number >= since).cloned().collect();
        EventsView { events, next: self.next, lost: first.saturating_sub(since), untold: 0 }
    }
}

/// A text that begins with the program's name, once.
fn said_by(program: &str, text: String) -> String {
    if text.starts_with(program) { text } else { format!("{program}: {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_comes_late_learns_what_is_forgotten() {
        let mut journal = Journal::default();
        for number in 0..JOURNAL_EVENTS_MAX as u64 + 3 {
            journal.keep(number, Event::Trace { text: number.to_string() });
        }
        let all = journal.since(0);
        assert_eq!((all.lost, all.events.len(), all.next), (3, JOURNAL_EVENTS_MAX, JOURNAL_EVENTS_MAX as u64 + 3));
        assert_eq!(all.events[0].text, "3");
        let rest = journal.since(all.next - 1);
        assert_eq!((rest.lost, rest.events.len()), (0, 1));
        assert!(journal.since(all.next).events.is_empty());
    }

    #[test]
    fn a_record_is_kept_as_digits_and_cut() {
        let mut journal = Journal::default();
        journal.keep_record(5, "drops", &[0xab; 1000]);
        let event = &journal.since(0).events[0];
        assert_eq!((event.kind.as_str(), event.map.as_deref(), event.at_ms), ("record", Some("drops"), 5));
        assert_eq!(event.text.len(), 2 * JOURNAL_RECORD_LEN_MAX);
        let trap = Event::Trap { program: "lb".to_owned(), text: "lb insn 3: fuel used up".to_owned() };
        journal.keep(6, trap);
        assert_eq!(journal.since(1).events[0].text, "lb insn 3: fuel used up");
    }
}
