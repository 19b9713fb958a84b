//! Where commands for one host arrive: the host, its traffic source, and the wish to stop.
//!
//! Invariant: no lock of the desk is held while a program is translated or a plan is awaited.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::control::Refusal;
use crate::control::journal::Journal;
use crate::control::source::Sending;
use crate::control::view::EventsView;
use crate::elf::MapTypes;
use crate::flow::{Host, InstanceId};
use crate::maps::{Entry, Map, MapId};
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
        let since_begin =
            |at: Instant| u64::try_from(at.saturating_duration_since(self.begin).as_millis()).unwrap_or(u64::MAX);
        for happened in self.host.events() {
            journal.keep(since_begin(happened.at), happened.event);
        }
        // A record says nothing of its time; it is taken out now.
        let at_ms = since_begin(Instant::now());
        for (_, instance) in self.objects() {
            for (_, map) in instance.maps() {
                if let Some(buffer) = map.as_perf_buffer() {
                    buffer.read(|_, record| journal.keep_record(at_ms, &map.def().name, record));
                }
                if let Some(ring) = map.as_ring_buffer() {
                    ring.read(|record| journal.keep_record(at_ms, &map.def().name, record));
                }
            }
        }
        EventsView { untold: self.host.events_untold(), ..journal.since(since) }
    }

    /// The objects, oldest first.
    pub(super) fn objects(&self) -> impl DoubleEndedIterator<Item = (InstanceId, Arc<Instance>)> {
        self.host.instances().into_iter()
    }

    /// The object that `NAME` (the newest of it), `id:NUMBER` or `NUMBER` means.
    pub(super) fn object(&self, name: &str) -> Result<(InstanceId, Arc<Instance>), Refusal> {
        let has_number = |id: &InstanceId| number(name) == Some(id.0);
        let found = self.objects().rev().find(|(_, instance)| instance.name() == name);
        let found = found.or_else(|| self.objects().find(|(id, _)| has_number(id)));
        found.ok_or_else(|| Refusal::Absent { kind: "object", name: name.to_owned(), mend: "see kumite prog list" })
    }

    /// Refuses a bare name that objects of several names have. Of objects of one name the newest is meant: the older ones
    /// are what it replaces.
    fn unique(&self, name: &str, has: impl Fn(&Instance) -> bool) -> Result<(), Refusal> {
        let mut owners: Vec<String> =
            self.objects().filter(|(_, object)| has(object)).map(|(_, object)| object.name().to_owned()).collect();
        owners.sort();
        owners.dedup();
        if owners.len() < 2 {
            return Ok(());
        }
        let what = format!("several objects have it: {}", owners.join(", "));
        Err(Refusal::Conflict { place: name.to_owned(), what, mend: format!("say for example {}/{name}", owners[0]) })
    }

    /// The program that is meant by `NAME`, where one object has it, `OBJECT/NAME`, `id:NUMBER` or `NUMBER`.
    pub(super) fn program(&self, name: &str) -> Result<Arc<Loaded>, Refusal> {
        if let Some((object, name)) = name.rsplit_once('/') {
            let (_, instance) = self.object(object)?;
            return instance.expect_program(name).cloned().map_err(|error| Refusal::Guest { text: error.to_string() });
        }
        if let Some(number) = number(name) {
            let programs = self.objects().flat_map(|(_, object)| object.programs().to_vec());
            let found = programs.into_iter().find(|program| program.linked().id() == number);
            let mend = "see kumite prog list";
            return found.ok_or_else(|| Refusal::Absent { kind: "program", name: name.to_owned(), mend });
        }
        self.unique(name, |object| object.program(name).is_some())?;
        self.host.program(name).map_err(|error| super::programs::refusal(&error))
    }

    /// The map that is meant by `NAME`, where one object has it, `OBJECT/NAME`, `id:NUMBER` or `NUMBER`.
    pub(super) fn map(&self, name: &str) -> Result<FoundMap, Refusal> {
        let own = |(object, instance): (InstanceId, Arc<Instance>), is_meant: &dyn Fn(MapId, &dyn Map) -> bool| {
            let entry = instance.entries().iter().find(|entry| is_meant(entry.id(), entry.map().as_ref()))?;
            let (object_name, id, map) = (instance.name().to_owned(), entry.id(), Arc::clone(entry.map()));
            let types = instance.map_types(id).cloned();
            Some(FoundMap { object, object_name, id, map, types, entry: Arc::clone(entry) })
        };
        let found = match name.rsplit_once('/') {
            Some((object, name)) => own(self.object(object)?, &|_, map| map.def().name == name),
            None => {
                self.unique(name, |object| object.map(name).is_some())?;
                let named = self.objects().rev().find_map(|object| own(object, &|_, map| map.def().name == name));
                named.or_else(|| self.objects().find_map(|object| own(object, &|id, _| number(name) == Some(id.0))))
            }
        };
        found.ok_or_else(|| Refusal::Absent { kind: "map", name: name.to_owned(), mend: "see kumite map list" })
    }
}

/// A map that a request names.
#[derive(Debug)]
pub(super) struct FoundMap {
    pub(super) object: InstanceId,
    pub(super) object_name: String,
    pub(super) id: MapId,
    pub(super) map: Arc<dyn Map>,
    /// The types of its keys and values, where the object says them.
    pub(super) types: Option<MapTypes>,
    /// Its place in the host's table, by which it is put into maps of maps.
    pub(super) entry: Arc<Entry>,
}

/// The number in `id:7` or `7`.
fn number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("id:").unwrap_or(name);
    // The parser takes a sign too.
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}
