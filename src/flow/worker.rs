//! A worker: a thread with a port, a pool, a stack and a context of its own.
//!
//! Idle, it polls for some microseconds and then blocks in its port, from where frames, the traffic source, a new plan
//! and the end wake it, or a program's timer that is due.
//!
//! Invariant: shares nothing but counters, plans, queues and the world with other threads, and waits for none of them longer
//! than a plan is handed out, a map is changed or two pointers are exchanged.

use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::counters::{Published, Tally};
use super::events::{Event, Events};
use super::plan::{Plan, Plans};
use super::turn::{NoProbe, Turn, panic_text};
use super::{HostError, WIRE_IFINDEX};
use crate::cage::Region;
use crate::limits::{DRAIN_MS_MAX, OUTBOX_CHUNKS, RECEIVE_CHUNKS, SPIN_US_MAX, STACK_LEN, WAIT_MS_MAX};
use crate::maps::WorkerIndex;
use crate::port::udp::{IoPath, Socket, Trains, UdpPort};
use crate::port::{Outbox, Pool, Port, Wake};
use crate::run::{Context, Run, World};
use crate::verdict::ProgramKind;

/// What a worker shares with the host.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plans: Plans,
    pub(super) events: Arc<Events>,
    pub(super) stopping: AtomicBool,
    pub(super) workers: Box<[Seat]>,
}

/// What one worker shares with the host.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) wake: Arc<Wake>,
    pub(super) tally: Published,
    /// Set when the worker's thread has ended, for whatever reason.
    pub(super) gone: AtomicBool,
}

/// What a worker is made of.
pub(super) struct Equipment {
    pub(super) index: u32,
    pub(super) world: Arc<World>,
    pub(super) socket: Arc<Socket>,
    pub(super) io: IoPath,
    pub(super) trains: Trains,
    pub(super) shared: Arc<Shared>,
}

/// A worker says that it is ready.
pub(super) struct Ready {
    pub(super) outbox: Arc<Outbox>,
    pub(super) report: String,
}

/// Memory of the cage that is this worker's alone.
struct Desk {
    stack: Region,
    context: Region,
}

impl Equipment {
    /// The life of a worker's thread. `ready` is answered once.
    pub(super) fn work(self, ready: &Sender<Result<Ready, HostError>>) {
        let seat = &self.shared.workers[self.index as usize];
        let lived = catch_unwind(AssertUnwindSafe(|| self.live(seat, ready)));
        if let Err(panic) = lived {
            let worker = self.index;
            self.shared.events.tell(Event::WorkerLost { worker, text: panic_text(&*panic) });
        }
        self.shared.plans.leaves(self.index as usize);
        seat.gone.store(true, Ordering::Release);
    }

    fn live(&self, seat: &Seat, ready: &Sender<Result<Ready, HostError>>) {
        let opened = self.open(seat);
        let (desk, pool, port) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let _ = ready.send(Ok(Ready { outbox: Arc::clone(pool.outbox()), report: port.report().to_owned() }));
        let mut run = Run::new(&self.world, WorkerIndex(self.index), ProgramKind::Xdp, desk.stack_top());
        run.head.ctx = desk.context.addr();
        run.ifindex = WIRE_IFINDEX;
        run.queue = self.index;
        let turn = Turn::new(port, pool, run, &self.shared.events);
        Worker { turn, seat, shared: &self.shared, index: self.index as usize, published: Tally::default() }.work();
    }

    fn open(&self, seat: &Seat) -> Result<(Desk, Pool, UdpPort), HostError> {
        let cage = &self.world.cage;
        let stack = cage.alloc_apart(STACK_LEN.into(), "a worker's stack")?;
        let context = cage.alloc(Context::LEN.into(), "a worker's context")?;
        let mut pool = Pool::new(cage, RECEIVE_CHUNKS, OUTBOX_CHUNKS)?;
        let (socket, wake) = (Arc::clone(&self.socket), Arc::clone(&seat.wake));
        let port = UdpPort::open(socket, wake, &mut pool, self.io, self.trains)?;
        Ok((Desk { stack, context }, pool, port))
    }
}

impl Desk {
    fn stack_top(&self) -> u32 {
        self.stack.addr() + STACK_LEN
    }
}

struct Worker<'w, P> {
    turn: Turn<'w, P>,
    seat: &'w Seat,
    shared: &'w Shared,
    index: usize,
    published: Tally,
}

impl<P: Port> Worker<'_, P> {
    fn work(&mut self) {
        let (mut generation, mut plan) = self.shared.plans.take();
        self.shared.plans.acts_on(self.index, generation);
        let mut idle_since = None;
        while !self.shared.stopping.load(Ordering::Acquire) {
            if self.shared.plans.is_newer(generation) {
                (generation, plan) = self.shared.plans.take();
                // The plan before is let go of now, and not a moment later.
                self.shared.plans.acts_on(self.index, generation);
                self.turn.clear_stack();
            }
            let shared = self.shared;
            let called = || shared.stopping.load(Ordering::Acquire) || shared.plans.is_newer(generation);
            if self.turn(&plan, called) + self.turn.fire_timers(&plan, called) > 0 {
                idle_since = None;
                continue;
            }
            let since = *idle_since.get_or_insert_with(Instant::now);
            if since.elapsed() < Duration::from_micros(SPIN_US_MAX) {
                spin_loop();
                continue;
            }
            // What this thread put off freeing shall not wait for its next frame.
            crossbeam::epoch::pin().flush();
            self.seat.wake.begin_sleep();
            if !called() && !self.turn.outbox().has_ready() {
                self.turn.wait(self.turn.until_timer().min(Duration::from_millis(WAIT_MS_MAX)));
            }
            self.seat.wake.end_sleep();
            idle_since = None;
        }
        self.drain(&plan);
    }

    fn turn(&mut self, plan: &Plan, called: impl Fn() -> bool) -> usize {
        let moved = self.turn.turn(plan, &mut NoProbe, called);
        self.publish();
        moved
    }

    fn publish(&mut self) {
        if self.turn.tally != self.published {
            self.published = self.turn.tally;
            self.seat.tally.publish(&self.published);
        }
    }

    /// Judges what had arrived and sends what was accepted, for a bounded time; then closes the port.
    fn drain(&mut self, plan: &Plan) {
        let is_over = |since: Instant| since.elapsed() >= Duration::from_millis(DRAIN_MS_MAX);
        let since = Instant::now();
        while !is_over(since) && (self.turn(plan, || is_over(since)) > 0 || self.turn.outbox().has_ready()) {}
        self.turn.port.end_receiving();
        let since = Instant::now();
        while !is_over(since)
            && (self.turn.port.is_receiving() || self.turn.has_waiting() || self.turn.outbox().has_ready())
        {
            self.turn(plan, || is_over(since));
        }
        self.turn.close();
        self.publish();
    }
}
