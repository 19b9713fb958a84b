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

use super::counters::{Published, Tally};
use super::events::{Event, Events, Happened};
use super::objects::{InstanceId, Objects};
use super::plan::Plans;
use super::registry::{Hook, ModeTarget, Registry};
use super::stats::{PortStats, RecordStats, Stats};
use super::worker::{Equipment, Ready, Seat, Shared};
use super::{Addresses, HostError, Judge, WIRE_IFINDEX};
use crate::elf::Object;
use crate::limits::{CHANGE_MS_MAX, FUEL_HOST, FUEL_MAX, WORKERS_MAX};
use crate::maps::Map;
use crate::port::udp::{IoPath, Socket, Trains, WireConfig, worker_of};
use crate::port::{Outbox, Wake};
use crate::run::{Clock, World};
use crate::vm::{Instance, Loaded, Mode};

/// What a host is to be.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Its name in reports.
    pub name: String,
    /// The wire towards its peer.
    pub wire: WireConfig,
    /// Workers, 1 to [`WORKERS_MAX`]; each is a thread.
    pub worker_count: u32,
    /// Mode of programs that are given none of their own.
    pub mode: Mode,
    /// Fuel of a run, in slots.
    pub fuel: u64,
    /// How datagrams are moved.
    pub io: IoPath,
    /// Whether frames travel in trains.
    pub trains: Trains,
    /// Whom the stack behind PASS answers for.
    pub responder: Addresses,
}

impl HostConfig {
    /// A host with one worker and fast programs that answers as 10.0.0.1.
    #[must_use]
    pub fn new(name: &str, wire: WireConfig) -> Self {
        Self {
            name: name.to_owned(),
            wire,
            worker_count: 1,
            mode: Mode::Fast,
            fuel: FUEL_HOST,
            io: IoPath::Auto,
            trains: Trains::On,
            responder: Addresses::numbered(1),
        }
    }
}

/// The threads of the workers, until they are joined.
type Staff = Vec<JoinHandle<()>>;

/// The sockets of the wire.
#[derive(Default)]
struct Sockets {
    open: Vec<Arc<Socket>>,
    /// Frames that the kernel had dropped at those that were closed.
    dropped: u64,
}

/// Whether the traffic source is taken from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Stopped,
}

/// A host. Dropped, it stops.
pub struct Host {
    config: HostConfig,
    local: SocketAddr,
    world: Arc<World>,
    shared: Arc<Shared>,
    outboxes: Box<[Arc<Outbox>]>,
    io_report: String,
    registry: Mutex<Registry>,
    objects: Mutex<Objects>,
    state: RwLock<State>,
    /// Locked for as long as a stop takes, and by nothing else.
    staff: Mutex<Staff>,
    sockets: Mutex<Sockets>,
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
        let world = Arc::new(World::new(worker_count, Clock::Monotonic, Box::new(trace))?);
        let registry = Registry::new(worker_count, config.responder, config.fuel, config.mode);
        let sockets = Socket::open(config.wire, worker_count)?;
        let local = sockets[0].local();
        let seats = (0..worker_count).map(|_| {
            let wake = Arc::new(Wake::new()?);
            Ok(Seat { wake, tally: Published::default(), gone: AtomicBool::new(false) })
        });
        let shared = Arc::new(Shared {
            plans: Plans::new(registry.plan(), worker_count),
            events,
            stopping: AtomicBool::new(false),
            workers: seats.collect::<Result<_, HostError>>()?,
        });
        let mut staff = Staff::new();
        match hire(&config, &world, &shared, &sockets, &mut staff) {
            Ok(ready) => {
                let io_report = ready[0].report.clone();
                let outboxes = ready.into_iter().map(|ready| ready.outbox).collect();
                let (registry, staff) = (Mutex::new(registry), Mutex::new(staff));
                let (objects, state) = (Mutex::default(), RwLock::new(State::Running));
                let sockets = Mutex::new(Sockets { open: sockets, dropped: 0 });
                Ok(Arc::new(Self {
                    config,
                    local,
                    world,
                    shared,
                    outboxes,
                    io_report,
                    registry,
                    objects,
                    state,
                    staff,
                    sockets,
                }))
            }
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

    /// Where it receives; the free port that was found where the configuration named port 0.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// What all its programs share.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// How datagrams are moved and why, in one line.
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
            if let Some(hook) = registry.hook_of(program.id()) {
                let (object, program) = (instance.name().to_owned(), program.name().to_owned());
                return Err(HostError::InUse { object, program, hook: hook.name() });
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

    /// Lets a program sit on a hook, in place of what sat there. When this returns, every frame that arrives is judged by
    /// it.
    ///
    /// # Errors
    /// [`HostError::NoProgram`] when it was unloaded meanwhile or is another host's; [`HostError::Kind`] when it is for
    /// another hook; [`HostError::Stopped`].
    pub fn attach(&self, program: &Arc<Loaded>, hook: Hook) -> Result<(), HostError> {
        self.change(|registry| {
            // Under the registry's lock, which unloading takes first: nothing is unloaded from here on.
            if !self.objects().has(program) {
                return Err(HostError::NoProgram { program: program.name().to_owned() });
            }
            registry.attach(Arc::<Loaded>::clone(program), hook)
        })
    }

    /// Lets something that judges sit on a hook, in place of what sat there. When this returns, every frame that arrives
    /// is judged by it.
    ///
    /// # Errors
    /// [`HostError::Kind`] when it is for another hook; [`HostError::Stopped`].
    pub fn attach_judge(&self, judge: Arc<dyn Judge>, hook: Hook) -> Result<(), HostError> {
        self.change(|registry| registry.attach(judge, hook))
    }

    /// Takes what sits on a hook away; frames pass then.
    ///
    /// # Errors
    /// [`HostError::NothingAttached`]; [`HostError::Stopped`].
    pub fn detach(&self, hook: Hook) -> Result<(), HostError> {
        self.change(|registry| registry.detach(hook))
    }

    /// Name of what sits on a hook.
    #[must_use]
    pub fn attached(&self, hook: Hook) -> Option<String> {
        self.registry().attached(hook).map(|judge| judge.name().to_owned())
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
            let worker_number = worker_of(frame, self.config.worker_count);
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
        let mut tally = Tally::default();
        for seat in &self.shared.workers {
            tally.add(&seat.tally.read());
        }
        let dropped = {
            let sockets = self.sockets();
            sockets.dropped + sockets.open.iter().map(|socket| socket.dropped()).sum::<u64>()
        };
        let gone = self.shared.workers.iter().filter(|seat| seat.gone.load(Ordering::Acquire)).count();
        let workers = self.config.worker_count;
        Stats {
            host: self.config.name.clone(),
            workers,
            workers_alive: workers - u32::try_from(gone).expect("at most all"),
            ports: vec![PortStats::new("wire", WIRE_IFINDEX, &tally, dropped)],
            programs: self.registry().stats(),
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
        let mut sockets = self.sockets();
        sockets.dropped += sockets.open.drain(..).map(|socket| socket.dropped()).sum::<u64>();
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

    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Starts the workers and waits until each is ready.
fn hire(
    config: &HostConfig,
    world: &Arc<World>,
    shared: &Arc<Shared>,
    sockets: &[Arc<Socket>],
    staff: &mut Staff,
) -> Result<Vec<Ready>, HostError> {
    let mut answers = Vec::new();
    for (index, socket) in (0u32..).zip(sockets) {
        let (ready, answer) = mpsc::channel();
        let equipment = Equipment {
            index,
            world: Arc::clone(world),
            socket: Arc::clone(socket),
            io: config.io,
            trains: config.trains,
            shared: Arc::clone(shared),
        };
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
