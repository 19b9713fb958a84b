//! Where commands for one host arrive: the host, its traffic source, and the wish to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::control::Refusal;
use crate::control::journal::Journal;
use crate::control::source::Sending;
use crate::control::view::EventsView;
use crate::flow::Host;
use crate::maps::Map;
use crate::vm::{Instance, Loaded};

/// Where commands for one host arrive.
#[derive(Debug)]
pub struct Desk {
    host: Arc<Host>,
    begin: Instant,
    source: Mutex<Option<Sending>>,
    journal: Mutex<Journal>,
    stop: AtomicBool,
}

impl Desk {
    /// A desk for a running host.
    #[must_use]
    pub fn new(host: Arc<Host>) -> Self {
        Self {
            host,
            begin: Instant::now(),
            source: Mutex::default(),
            journal: Mutex::default(),
            stop: AtomicBool::new(false),
        }
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Whether somebody asked the host to stop.
    #[must_use]
    pub fn wants_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn ask_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn begin(&self) -> Instant {
        self.begin
    }

    /// The traffic source, where one was started.
    pub(super) fn source(&self) -> MutexGuard<'_, Option<Sending>> {
        self.source.lock().expect("nothing panics while it holds the lock")
    }

    /// Ends the traffic source.
    pub fn end_source(&self) {
        self.source().take();
    }

    /// Takes what the host and its ring buffers have to say, and gives the events from number `since` on.
    pub(super) fn events(&self, since: u64) -> EventsView {
        let mut journal = self.journal.lock().expect("nothing panics while it holds the lock");
        let at_ms = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        for event in self.host.events() {
            journal.keep(at_ms, event);
        }
        for instance in self.host.instances() {
            for (_, map) in instance.maps() {
                if let Some(ring) = map.as_ring_buffer() {
                    ring.read(|record| journal.keep_record(at_ms, &map.def().name, record));
                }
            }
        }
        journal.since(since)
    }

    /// The program called `NAME` or `OBJECT/NAME`.
    pub(super) fn program(&self, name: &str) -> Result<Arc<Loaded>, Refusal> {
        let programs = self.host.instances().into_iter().flat_map(|instance| {
            let programs = instance.programs().to_vec();
            programs.into_iter().map(move |program| (Arc::clone(&instance), program))
        });
        let own = |program: &Arc<Loaded>| program.linked().program().name().to_owned();
        let found = programs.filter(|(instance, program)| is_called(instance, &own(program), name));
        one("program", name, found.map(|(instance, program)| (instance.name().to_owned(), program)).collect())
    }

    /// The map called `NAME` or `OBJECT/NAME`.
    pub(super) fn map(&self, name: &str) -> Result<Arc<dyn Map>, Refusal> {
        let maps = self.host.instances().into_iter().flat_map(|instance| {
            let maps = instance.maps().to_vec();
            maps.into_iter().map(move |(_, map)| (Arc::clone(&instance), map))
        });
        let found = maps.filter(|(instance, map)| is_called(instance, &map.def().name, name));
        one("map", name, found.map(|(instance, map)| (instance.name().to_owned(), map)).collect())
    }
}

fn is_called(instance: &Instance, own: &str, name: &str) -> bool {
    own == name || name.strip_suffix(own).and_then(|rest| rest.strip_suffix('/')) == Some(instance.name())
}

/// The only one that has the name.
fn one<T>(kind: &'static str, name: &str, mut found: Vec<(String, T)>) -> Result<T, Refusal> {
    match found.len() {
        0 => Err(Refusal::Absent {
            kind,
            name: name.to_owned(),
            mend: if kind == "map" { "see kumite map list" } else { "see kumite prog list" },
        }),
        1 => Ok(found.remove(0).1),
        _ => {
            let objects: Vec<String> = found.into_iter().map(|(object, _)| object).collect();
            Err(Refusal::Conflict {
                place: format!("{kind} {name}"),
                what: format!("objects {} have one each", objects.join(" and ")),
                mend: format!("write OBJECT/{name}"),
            })
        }
    }
}
