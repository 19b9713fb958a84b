//! A host: a network card with hooks that lives in user space.
//!
//! Invariant: all methods may be called from any thread; none of them stops the workers but [`Host::stop`], and only it and
//! changes wait for them, with nothing locked that reports need.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::bay::{Opening, Order};
use super::config::{HostConfig, PortConfig};
use super::counters::PortBook;
use super::events::{Event, Events, Happened};
use super::objects::{InstanceId, Objects};
use super::plan::Plans;
use super::registry::{ModeTarget, PortEntry, Registry};
use super::relay::Relay;
use super::stats::{RecordStats, Stats};
use super::worker::{Equipment, Ready, Seat, Shared};
use super::{Addresses, Hook, HostError, Judge, Place, Rank, STACK_PORT, WIRE_IFINDEX, WIRE_PORT};
use crate::elf::Object;
use crate::limits::{CHANGE_MS_MAX, FUEL_MAX, PORTS_MAX, PORTS_ROOM_MIN, WORKERS_MAX};
use crate::maps::Map;
use crate::port::udp::worker_of;
use crate::port::{Outbox, PortShare, PortSpec, Wake};
use crate::run::{Clock, World};
use crate::vm::{Instance, Loaded, Mode};

/// The threads of the workers, until they are joined.
type Staff = Vec<JoinHandle<()>>;

/// Places of ports in plans.
struct Places {
    is_taken: Vec<bool>,
    next_ifindex: u32,
}

impl Places {
    /// A free place, and an interface index that no port has had.
    fn take(&mut self) -> Option<(usize, u32)> {
        let slot = self.is_taken.iter().position(|is_taken| !is_taken)?;
        self.is_taken[slot] = true;
        self.next_ifindex += 1;
        Some((slot, self.next_ifindex - 1))
    }
}

/// What workers say of a port that they opened, in their order.
type Answers = Vec<mpsc::Receiver<Result<Option<String>, HostError>>>;

/// Whether the traffic source is taken from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Stopped,
}

/// A host. Dropped, it stops.
pub struct Host {
    config: HostConfig,
    local: Option<SocketAddr>,
    world: Arc<World>,
    shared: Arc<Shared>,
    outboxes: Box<[Arc<Outbox>]>,
    io_report: String,
    /// Workers that drive the wire: the first so many.
    wire_drivers: u32,
    /// Locked for as long as a port is added or removed.
    places: Mutex<Places>,
    registry: Mutex<Registry>,
    objects: Mutex<Objects>,
    state: RwLock<State>,
    /// Locked for as long as a stop takes, and by nothing else.
    staff: Mutex<Staff>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("config", &self.config).field("io", &self.io_report).finish_non_exhaustive()
    }
}

impl Host {
    /// Opens the wire and starts the workers; when this returns, they receive.
    ///
    /// # Errors
    /// [`HostError`] when the address, memory, a thread or a demanded ring is not to be had.
    pub fn start(config: HostConfig) -> Result<Arc<Self>, HostError> {
        let worker_count = config.worker_count;
        if !(1..=WORKERS_MAX).contains(&worker_count) {
            return Err(HostError::WorkerCount { host: config.name, count: worker_count });
        }
        if !(1..=FUEL_MAX).contains(&config.fuel) {
            return Err(HostError::Fuel { host: config.name, fuel: config.fuel });
        }
        let events = Arc::new(Events::new());
        let told = Arc::clone(&events);
        let trace = move |line: &str| told.tell(Event::Trace { text: line.to_owned() });
        let mut world = World::new(worker_count, Clock::Monotonic, Box::new(trace))?;
        world.link_address = config.responder.mac.0;
        let world = Arc::new(world);
        let mut asked = vec![(WIRE_PORT, &config.wire)];
        asked.extend(config.stack.as_ref().map(|spec| (STACK_PORT, spec)));
        for port in &config.ports {
            port.check()?;
            if asked.iter().any(|(name, _)| *name == port.name) {
                return Err(HostError::PortTaken { port: port.name.clone() });
            }
            asked.push((&port.name, &port.spec));
        }
        let port_count = PORTS_ROOM_MIN.max(asked.len() + 1).min(PORTS_MAX);
        if asked.len() > port_count {
            return Err(HostError::PortsFull { port: asked[port_count].0.to_owned(), count: port_count });
        }
        let seats = (0..worker_count).map(|_| Ok(Seat::new(Arc::new(Wake::new()?))));
        let seats = seats.collect::<Result<Box<[Seat]>, HostError>>()?;
        let mut registry = Registry::new(worker_count, config.responder, config.fuel, config.mode);
        let mut places = Places { is_taken: vec![false; port_count], next_ifindex: WIRE_IFINDEX };
        let (mut local, mut waiting) = (None, Vec::new());
        for (name, spec) in asked {
            let (slot, ifindex) = places.take().expect("they were counted above");
            let (entry, shares) = prepared(name, ifindex, spec, worker_count)?;
            if slot == 0 {
                local = shares[0].local();
            }
            if name == STACK_PORT {
                registry.set_stack(slot);
            }
            waiting.push((slot, order_opening(&seats, slot, &entry, shares)));
            registry.add_port(slot, entry);
            world.ports.note(slot, ifindex);
        }
        let wire_drivers = registry.port_mut(0).expect("the wire").driver_count;
        let shared = Arc::new(Shared {
            plans: Plans::new(registry.plan(), worker_count),
            events,
            stopping: AtomicBool::new(false),
            workers: seats,
            relays: (0..worker_count).map(|_| Relay::new(worker_count)).collect(),
        });
        let mut staff = Staff::new();
        let hired = hire(&config, &world, &shared, port_count, &mut staff).and_then(|ready| {
            for (slot, answers) in waiting {
                registry.port_mut(slot).expect("added above").path = opened(&config.name, answers, None)?;
            }
            Ok(ready)
        });
        match hired {
            Ok(ready) => Ok(Arc::new(Self {
                io_report: registry.port_mut(0).expect("the wire").path.clone(),
                outboxes: ready.into_iter().map(|ready| ready.outbox).collect(),
                config,
                local,
                world,
                shared,
                wire_drivers,
                places: Mutex::new(places),
                registry: Mutex::new(registry),
                objects: Mutex::default(),
                state: RwLock::new(State::Running),
                staff: Mutex::new(staff),
            })),
            Err(error) => {
                dismiss(&shared, &mut staff);
                Err(error)
            }
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// What it was started with.
    #[must_use]
    pub fn config(&self) -> &HostConfig {
        &self.config
    }

    /// Where a wire over UDP receives; the free port that was found where the configuration named port 0.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// What all its programs share.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// How the wire's frames are moved and why, in one line.
    #[must_use]
    pub fn io_report(&self) -> String {
        self.io_report.clone()
    }

    /// Brings an object to life: makes its maps and links its programs, which sit on no hook yet.
    ///
    /// # Errors
    /// [`HostError::Load`] when a map cannot be made or filled; [`HostError::Stopped`].
    pub fn load(&self, object: &Object) -> Result<InstanceId, HostError> {
        drop(self.running()?);
        // Translation takes its time: nothing is locked meanwhile, so that the host can stop and send.
        let instance = Arc::new(Instance::load(&self.world, object)?);
        let _state = self.running()?;
        let mut registry = self.registry();
        for program in instance.programs() {
            registry.know(Arc::<Loaded>::clone(program));
        }
        Ok(self.objects().insert(instance))
    }

    /// Lets go of an object. Its maps and code are freed when no worker can reach them any more.
    ///
    /// # Errors
    /// [`HostError::NoInstance`]; [`HostError::InUse`] while one of its programs sits on a hook.
    pub fn unload(&self, id: InstanceId) -> Result<(), HostError> {
        let mut registry = self.registry();
        let mut objects = self.objects();
        let instance = objects.find(id)?;
        for program in instance.programs() {
            if let Some(place) = registry.place_of(program.id()) {
                let (object, program) = (instance.name().to_owned(), program.name().to_owned());
                return Err(HostError::InUse { object, program, hook: place.to_string() });
            }
        }
        instance.programs().iter().for_each(|program| registry.forget(program.id()));
        objects.remove(id);
        Ok(())
    }

    /// The objects that it has, oldest first.
    #[must_use]
    pub fn instances(&self) -> Vec<(InstanceId, Arc<Instance>)> {
        self.objects().all().to_vec()
    }

    /// The program with this name, of the newest object that has one.
    ///
    /// # Errors
    /// [`HostError::NoProgram`], or why it was refused.
    pub fn program(&self, name: &str) -> Result<Arc<Loaded>, HostError> {
        self.objects().program(name).cloned()
    }

    /// The map with this name, of the newest object that has one.
    #[must_use]
    pub fn map(&self, name: &str) -> Option<Arc<dyn Map>> {
        self.objects().map(name).cloned()
    }

    /// Puts a program, by its name, into a slot of a program array, or empties the slot. The next frame sees it.
    ///
    /// # Errors
    /// [`HostError::NoMap`], [`HostError::NotProgramArray`], [`HostError::NoProgram`], [`HostError::Slot`].
    pub fn set_slot(&self, map: &str, index: u32, program: Option<&str>) -> Result<(), HostError> {
        self.objects().set_slot(map, index, program)
    }

    /// Puts a program into a slot of this program array, or empties the slot. The next frame sees it.
    ///
    /// # Errors
    /// [`HostError::NoMap`] and [`HostError::NoProgram`] where it was unloaded meanwhile, [`HostError::NotProgramArray`],
    /// [`HostError::Slot`]; emptying an empty slot is one with `ENOENT`.
    pub fn replace_slot(&self, map: &Arc<dyn Map>, index: u32, program: Option<&Arc<Loaded>>) -> Result<(), HostError> {
        self.objects().replace_slot(map, index, program)
    }

    /// Lets a program alone sit on a hook of the wire, in place of what sat there. When this returns, every frame that
    /// arrives is judged by it.
    ///
    /// # Errors
    /// [`HostError::NoProgram`] when it was unloaded meanwhile or is another host's; [`HostError::Kind`] when it is for
    /// another hook; [`HostError::Stopped`].
    pub fn attach(&self, program: &Arc<Loaded>, hook: Hook) -> Result<(), HostError> {
        self.replace(&Place::wire(hook), &[(Arc::clone(program), Rank::default())])
    }

    /// Lets these programs sit on a hook, in place of what sat there, in the order of their priorities. One change.
    ///
    /// # Errors
    /// As [`Self::attach`]; [`HostError::NoPort`], [`HostError::Actions`], [`HostError::HookFull`].
    pub fn replace(&self, place: &Place, programs: &[(Arc<Loaded>, Rank)]) -> Result<(), HostError> {
        self.change(|registry| {
            programs.iter().try_for_each(|(program, _)| self.has(program))?;
            let judge =
                |(program, rank): &(Arc<Loaded>, Rank)| (Arc::<Loaded>::clone(program) as Arc<dyn Judge>, *rank);
            registry.replace(place, &programs.iter().map(judge).collect::<Vec<_>>())
        })
    }

    /// Lets a program sit on a hook beside those that are there; one that is there takes its new rank.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub fn attach_at(&self, place: &Place, program: &Arc<Loaded>, rank: Rank) -> Result<(), HostError> {
        self.change(|registry| {
            self.has(program)?;
            registry.attach(place, Arc::<Loaded>::clone(program), rank)
        })
    }

    /// Refuses a program that is not loaded here. Under the registry's lock, which unloading takes first, nothing is
    /// unloaded afterwards.
    fn has(&self, program: &Arc<Loaded>) -> Result<(), HostError> {
        if self.objects().has(program) {
            return Ok(());
        }
        Err(HostError::NoProgram { program: program.name().to_owned() })
    }

    /// Lets something that judges sit on a hook of the wire, in place of what sat there. When this returns, every frame
    /// that arrives is judged by it.
    ///
    /// # Errors
    /// [`HostError::Kind`] when it is for another hook; [`HostError::Stopped`].
    pub fn attach_judge(&self, judge: Arc<dyn Judge>, hook: Hook) -> Result<(), HostError> {
        self.change(|registry| registry.replace(&Place::wire(hook), &[(judge, Rank::default())]))
    }

    /// Lets something that judges sit on a hook beside what is there.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub fn attach_judge_at(&self, place: &Place, judge: Arc<dyn Judge>, rank: Rank) -> Result<(), HostError> {
        self.change(|registry| registry.attach(place, judge, rank))
    }

    /// Takes what sits on a hook of the wire away; frames pass then.
    ///
    /// # Errors
    /// [`HostError::NothingAttached`]; [`HostError::Stopped`].
    pub fn detach(&self, hook: Hook) -> Result<(), HostError> {
        self.detach_at(&Place::wire(hook), None)
    }

    /// Takes the program with this number, or all, off a hook.
    ///
    /// # Errors
    /// [`HostError::NothingAttached`], [`HostError::NotThere`], [`HostError::NoPort`]; [`HostError::Stopped`].
    pub fn detach_at(&self, place: &Place, program: Option<u32>) -> Result<(), HostError> {
        self.change(|registry| registry.detach(place, program))
    }

    /// Name of what sits first on a hook of the wire.
    #[must_use]
    pub fn attached(&self, hook: Hook) -> Option<String> {
        self.registry().attached(&Place::wire(hook)).map(|judge| judge.name().to_owned())
    }

    /// Opens a further port and gives its interface index. When this returns, frames from it are judged and frames for it
    /// leave.
    ///
    /// # Errors
    /// [`HostError::PortName`], [`HostError::PortTaken`], [`HostError::PortsFull`]; [`HostError::Port`] when it cannot be
    /// opened; [`HostError::Late`] when a worker does not come to it; [`HostError::Stopped`].
    pub fn add_port(&self, port: &PortConfig) -> Result<u32, HostError> {
        port.check()?;
        drop(self.running()?);
        let mut places = self.places();
        if self.registry().slot_of(&port.name).is_ok() {
            return Err(HostError::PortTaken { port: port.name.clone() });
        }
        let count = places.is_taken.len();
        let full = || HostError::PortsFull { port: port.name.clone(), count };
        let (slot, ifindex) = places.take().ok_or_else(full)?;
        let (mut entry, shares) = match prepared(&port.name, ifindex, &port.spec, self.config.worker_count) {
            Ok(prepared) => prepared,
            Err(error) => {
                places.is_taken[slot] = false;
                return Err(error);
            }
        };
        let answers = order_opening(&self.shared.workers, slot, &entry, shares);
        let told = self.change(|_| Ok(()));
        let deadline = Instant::now() + Duration::from_millis(CHANGE_MS_MAX);
        let opened = told.and_then(|()| opened(&self.config.name, answers, Some(deadline)));
        let added = opened.and_then(|path| {
            entry.path = path;
            self.change(|registry| {
                registry.add_port(slot, entry);
                self.world.ports.note(slot, ifindex);
                Ok(())
            })
        });
        if added.is_err() {
            let was_added = self.registry().remove_port(&port.name).is_ok();
            self.world.ports.note(slot, 0);
            // A late worker may still hold a plan with the port: then its place is not used again.
            let closed = self.close_port(slot);
            places.is_taken[slot] = was_added || closed.is_err();
        }
        added.map(|()| ifindex)
    }

    /// Takes a further port, or the stack port, out of the plan and closes it. Programs leave its hooks; its counters are
    /// added to those of the ports removed before.
    ///
    /// # Errors
    /// [`HostError::NoPort`], [`HostError::WirePort`]; [`HostError::Late`] when a worker does not come to it;
    /// [`HostError::Stopped`].
    pub fn remove_port(&self, name: &str) -> Result<(), HostError> {
        if name == WIRE_PORT {
            return Err(HostError::WirePort);
        }
        let mut places = self.places();
        let mut removed = None;
        let changed = self.change(|registry| {
            let (slot, entry) = registry.remove_port(name)?;
            self.world.ports.note(slot, 0);
            removed = Some((slot, entry));
            Ok(())
        });
        let Some((slot, entry)) = removed else { return changed };
        // Closed everywhere means that every worker acts on a plan without it, be it late.
        let closed = self.close_port(slot);
        places.is_taken[slot] = closed.is_err();
        self.registry().bury(&entry.book.sum());
        closed
    }

    /// Lets every worker close what it has at a place that the plan has not.
    fn close_port(&self, slot: usize) -> Result<(), HostError> {
        let close = |seat: &Seat| {
            let (done, answer) = mpsc::channel();
            seat.tell(Order::Close { slot, done });
            answer
        };
        let answers: Vec<_> = self.shared.workers.iter().map(close).collect();
        self.change(|_| Ok(()))?;
        let deadline = Instant::now() + Duration::from_millis(CHANGE_MS_MAX);
        for (worker, answer) in (0u32..).zip(answers) {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Err(mpsc::RecvTimeoutError::Timeout) = answer.recv_timeout(left) {
                return Err(HostError::Late { host: self.config.name.clone(), worker });
            }
        }
        Ok(())
    }

    /// Changes the mode in which programs run. No frame is lost, and maps keep what they hold.
    ///
    /// # Errors
    /// [`HostError::NoProgram`] when no program has the name or number; [`HostError::Stopped`].
    pub fn set_mode(&self, target: &ModeTarget, mode: Mode) -> Result<(), HostError> {
        self.change(|registry| registry.set_mode(target, mode))
    }

    /// Lets the stack behind PASS answer for other addresses.
    ///
    /// # Errors
    /// [`HostError::Stopped`].
    pub fn set_responder(&self, responder: Addresses) -> Result<(), HostError> {
        self.change(|registry| {
            registry.set_responder(responder);
            Ok(())
        })
    }

    /// Changes the book, publishes the plan that it makes, and waits until every worker acts on it. Nothing is locked while
    /// it waits.
    fn change(&self, change: impl FnOnce(&mut Registry) -> Result<(), HostError>) -> Result<(), HostError> {
        let generation = {
            let _state = self.running()?;
            let mut registry = self.registry();
            change(&mut registry)?;
            self.shared.plans.publish(registry.plan())
        };
        self.call_all();
        let deadline = Instant::now() + Duration::from_millis(CHANGE_MS_MAX);
        let mut late = None;
        for worker in 0..self.config.worker_count {
            while !self.shared.plans.is_taken(worker as usize, generation) {
                if Instant::now() >= deadline {
                    late = Some(worker);
                    break;
                }
                thread::sleep(Duration::from_micros(20));
            }
        }
        // Here, and not by a worker, which shall not spend time on it.
        self.shared.plans.free_former();
        late.map_or(Ok(()), |worker| Err(HostError::Late { host: self.config.name.clone(), worker }))
    }

    /// Queues frames for sending to the peer and says how many were taken, in order; the others are to be offered again
    /// when some have left.
    ///
    /// # Errors
    /// [`HostError::FrameLen`] at the first frame that cannot be sent, if none before it was taken;
    /// [`HostError::Stopped`]; [`HostError::WorkerLost`] when nobody is left to send it.
    pub fn send(&self, frames: &[&[u8]]) -> Result<usize, HostError> {
        let _state = self.running()?;
        let mut called = 0u64;
        let mut taken = 0;
        for frame in frames {
            if !Outbox::takes(frame.len()) {
                if taken == 0 {
                    return Err(HostError::FrameLen { index: taken, len: frame.len() });
                }
                break;
            }
            let worker_number = worker_of(frame, self.wire_drivers);
            let worker = worker_number as usize;
            if !self.outboxes[worker].put(frame) {
                if taken == 0 && self.shared.workers[worker].gone.load(Ordering::Acquire) {
                    return Err(HostError::WorkerLost { host: self.config.name.clone(), worker: worker_number });
                }
                break;
            }
            taken += 1;
            called |= 1 << worker;
        }
        for (index, seat) in self.shared.workers.iter().enumerate() {
            if called >> index & 1 == 1 {
                seat.wake.notify();
            }
        }
        Ok(taken)
    }

    /// What it counted. A worker's counters are those of the end of a turn.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let gone = self.shared.workers.iter().filter(|seat| seat.gone.load(Ordering::Acquire)).count();
        let workers = self.config.worker_count;
        let registry = self.registry();
        let (ports, removed, programs) = (registry.port_stats(), registry.removed_stats(), registry.stats());
        drop(registry);
        Stats {
            host: self.config.name.clone(),
            workers,
            workers_alive: workers - u32::try_from(gone).expect("at most all"),
            ports,
            removed,
            programs,
            events_lost: self.shared.events.lost(),
            events_untold: self.shared.events.untold(),
            records: self.records(),
        }
    }

    fn records(&self) -> Vec<RecordStats> {
        let mut records = Vec::new();
        for (_, instance) in self.instances() {
            records.extend(instance.maps().iter().filter_map(|(id, map)| {
                let (map, lost) = (map.def().name.clone(), map.records_lost()?);
                Some(RecordStats { map, id: id.0, object: instance.name().to_owned(), lost })
            }));
        }
        records
    }

    /// Traps and findings that were counted and not told.
    #[must_use]
    pub fn events_untold(&self) -> u64 {
        self.shared.events.untold()
    }

    /// Takes what happened since this was last asked, oldest first: trace lines, traps, findings.
    #[must_use]
    pub fn events(&self) -> Vec<Happened> {
        self.shared.events.take()
    }

    /// Judges what has arrived, sends what was accepted, ends the workers and frees the address. Counters stay.
    pub fn stop(&self) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = State::Stopped;
        let mut staff = self.staff();
        dismiss(&self.shared, &mut staff);
        self.shared.plans.free_former();
        // What a worker handed over to one that had ended already.
        let mut registry = self.registry();
        for relay in &self.shared.relays {
            while let Some(handed) = relay.take() {
                if let Some(entry) = registry.port_mut(handed.way.slot) {
                    entry.book.leave_over(|tally| tally.lose_way(handed.way.entry));
                }
            }
        }
    }

    /// Keeps the host running for as long as the answer is held.
    fn running(&self) -> Result<RwLockReadGuard<'_, State>, HostError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Running => Ok(state),
            State::Stopped => Err(HostError::Stopped { host: self.config.name.clone() }),
        }
    }

    fn call_all(&self) {
        self.shared.workers.iter().for_each(|seat| seat.wake.notify());
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locked after the registry, where both are.
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn staff(&self) -> MutexGuard<'_, Staff> {
        self.staff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Takes what a port needs of the machine. Where the machine gives several workers none, one drives it alone.
fn prepared(
    name: &str,
    ifindex: u32,
    spec: &PortSpec,
    worker_count: u32,
) -> Result<(PortEntry, Vec<PortShare>), HostError> {
    let shares = spec.prepare(worker_count).or_else(|error| {
        let alone = if worker_count > 1 { spec.prepare(1).ok() } else { None };
        alone.ok_or(error)
    })?;
    let driver_count = u32::try_from(shares.len()).expect("at most one a worker");
    assert!(driver_count > 0, "somebody drives each port");
    let book = Arc::new(PortBook::new(worker_count));
    Ok((PortEntry::new(name, ifindex, spec.to_string(), driver_count, book), shares))
}

/// Tells every worker to open its share of a port when it takes the next plan.
fn order_opening(seats: &[Seat], slot: usize, entry: &PortEntry, shares: Vec<PortShare>) -> Answers {
    let shares = shares.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
    let order = |(seat, share): (&Seat, Option<PortShare>)| {
        let (answer, answers) = mpsc::channel();
        let (book, is_gone) = (Arc::clone(&entry.book), Arc::clone(&entry.is_gone));
        let opening = Opening { slot, name: entry.name.clone(), share, book, is_gone, answer };
        seat.tell(Order::Open(Box::new(opening)));
        answers
    };
    seats.iter().zip(shares).map(order).collect()
}

/// Waits until every worker has opened its share, and gives the path of the first.
fn opened(host: &str, answers: Answers, deadline: Option<Instant>) -> Result<String, HostError> {
    let mut path = None;
    for (worker, answer) in (0u32..).zip(answers) {
        let lost = || HostError::WorkerLost { host: host.to_owned(), worker };
        let answer = match deadline {
            None => answer.recv().map_err(|_| lost()),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                answer.recv_timeout(left).map_err(|error| match error {
                    mpsc::RecvTimeoutError::Timeout => HostError::Late { host: host.to_owned(), worker },
                    mpsc::RecvTimeoutError::Disconnected => lost(),
                })
            }
        };
        let report = answer??;
        path = path.or(report);
    }
    Ok(path.unwrap_or_default())
}

/// Starts the workers and waits until each is ready.
fn hire(
    config: &HostConfig,
    world: &Arc<World>,
    shared: &Arc<Shared>,
    port_count: usize,
    staff: &mut Staff,
) -> Result<Vec<Ready>, HostError> {
    let mut answers = Vec::new();
    let port_count = u16::try_from(port_count).expect("few");
    for index in 0..config.worker_count {
        let (ready, answer) = mpsc::channel();
        let equipment = Equipment { index, world: Arc::clone(world), port_count, shared: Arc::clone(shared) };
        // The system shows 15 bytes of a thread's name, and takes none that are zero.
        let name = format!("{}-{index}", config.name.chars().filter(|c| *c != '\0').take(12).collect::<String>());
        let thread = thread::Builder::new().name(name).spawn(move || equipment.work(&ready));
        let thread = thread.map_err(|source| HostError::Thread { host: config.name.clone(), worker: index, source })?;
        staff.push(thread);
        answers.push(answer);
    }
    let ready = (0u32..).zip(answers).map(|(worker, answer)| {
        answer.recv().unwrap_or_else(|_| Err(HostError::WorkerLost { host: config.name.clone(), worker }))
    });
    ready.collect()
}

/// Ends the workers.
fn dismiss(shared: &Shared, staff: &mut Staff) {
    shared.stopping.store(true, Ordering::Release);
    shared.workers.iter().for_each(|seat| seat.wake.notify());
    for thread in staff.drain(..) {
        // A worker catches its panics itself.
        let _ = thread.join();
    }
}
