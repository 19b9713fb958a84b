//! A worker: a thread with a pool, a stack and a context of its own, which drives its instance of each port.
//!
//! Idle, it polls for some microseconds and then blocks on all its ports at once, from where frames, the traffic source,
//! other workers, a new plan and the end wake it, or a program's timer that is due.
//!
//! Invariant: shares nothing but counters, plans, queues and the world with other threads, and waits for none of them longer
//! than a plan is handed out, a map is changed or two pointers are exchanged.

use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bay::Order;
use super::events::{Event, Events};
use super::plan::{Plan, Plans};
use super::relay::Relay;
use super::turn::{NoProbe, Turn, panic_text};
use super::{HostError, WIRE_IFINDEX};
use crate::cage::Region;
use crate::limits::{
    BURST_MAX, DRAIN_MS_MAX, OUTBOX_CHUNKS, RECEIVE_CHUNKS, RELAY_FRAMES_MAX, SPIN_US_MAX, STACK_LEN, WAIT_MS_MAX,
};
use crate::maps::WorkerIndex;
use crate::port::{Outbox, Pool, Wake};
use crate::run::{Context, Run, World};
use crate::verdict::ProgramKind;

/// What a worker shares with the host.
pub(super) struct Shared {
    pub(super) plans: Plans,
    pub(super) events: Arc<Events>,
    pub(super) stopping: AtomicBool,
    pub(super) workers: Box<[Seat]>,
    /// Frames from one worker to another, by who gets them.
    pub(super) relays: Box<[Relay]>,
}

/// What one worker shares with the host.
pub(super) struct Seat {
    pub(super) wake: Arc<Wake>,
    /// Set when the worker's thread has ended, for whatever reason.
    pub(super) gone: AtomicBool,
    /// What it is told to do when it takes the next plan.
    orders: Mutex<Vec<Order>>,
}

impl Seat {
    pub(super) fn new(wake: Arc<Wake>) -> Self {
        Self { wake, gone: AtomicBool::new(false), orders: Mutex::default() }
    }

    /// Tells the worker something, which it hears when it takes the next plan. One that is gone answers nothing.
    pub(super) fn tell(&self, order: Order) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.push(order);
        if self.gone.load(Ordering::Acquire) {
            orders.clear();
        }
    }

    fn take_orders(&self) -> Vec<Order> {
        std::mem::take(&mut self.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a worker is made of.
pub(super) struct Equipment {
    pub(super) index: u32,
    pub(super) world: Arc<World>,
    /// Ports that it has chunks for.
    pub(super) port_count: u16,
    pub(super) shared: Arc<Shared>,
}

/// A worker says that it is ready.
pub(super) struct Ready {
    pub(super) outbox: Arc<Outbox>,
}

/// Memory of the cage that is this worker's alone.
struct Desk {
    stack: Region,
    context: Region,
}

impl Equipment {
    /// The life of a worker's thread. `ready` is answered once, before the orders that it begins with.
    pub(super) fn work(self, ready: &Sender<Result<Ready, HostError>>) {
        let seat = &self.shared.workers[self.index as usize];
        let lived = catch_unwind(AssertUnwindSafe(|| self.live(seat, ready)));
        if let Err(panic) = lived {
            let worker = self.index;
            self.shared.events.tell(Event::WorkerLost { worker, text: panic_text(&*panic) });
        }
        self.shared.plans.leaves(self.index as usize);
        seat.gone.store(true, Ordering::Release);
        drop(seat.take_orders());
    }

    fn live(&self, seat: &Seat, ready: &Sender<Result<Ready, HostError>>) {
        let (desk, pool) = match self.open() {
            Ok(opened) => opened,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let _ = ready.send(Ok(Ready { outbox: Arc::clone(pool.outbox()) }));
        let mut run = Run::new(&self.world, WorkerIndex(self.index), ProgramKind::Xdp, desk.stack_top());
        run.head.ctx = desk.context.addr();
        run.ifindex = WIRE_IFINDEX;
        run.queue = self.index;
        let turn = Turn::new(pool, run, &self.shared.events, &self.shared.relays);
        Worker { turn, seat, shared: &self.shared, index: self.index as usize }.work();
    }

    fn open(&self) -> Result<(Desk, Pool), HostError> {
        let cage = &self.world.cage;
        let stack = cage.alloc_apart(STACK_LEN.into(), "a worker's stack")?;
        let context = cage.alloc(Context::LEN.into(), "a worker's context")?;
        let pool = Pool::new(cage, self.port_count * RECEIVE_CHUNKS, OUTBOX_CHUNKS)?;
        Ok((Desk { stack, context }, pool))
    }
}

impl Desk {
    fn stack_top(&self) -> u32 {
        self.stack.addr() + STACK_LEN
    }
}

struct Worker<'w> {
    turn: Turn<'w>,
    seat: &'w Seat,
    shared: &'w Shared,
    index: usize,
}

impl Worker<'_> {
    fn work(&mut self) {
        let (mut generation, mut plan) = self.take_plan();
        let mut idle_since = None;
        while !self.shared.stopping.load(Ordering::Acquire) {
            if self.shared.plans.is_newer(generation) {
                // The plan before is let go of now, and not a moment later.
                (generation, plan) = self.take_plan();
                self.turn.clear_stack();
            }
            let shared = self.shared;
            let called = || shared.stopping.load(Ordering::Acquire) || shared.plans.is_newer(generation);
            if self.turn(&plan, called) + self.turn.fire_timers(&plan, called) > 0 {
                idle_since = None;
                continue;
            }
            let since = match idle_since {
                Some(since) => since,
                None => {
                    self.turn.copy_drops();
                    self.turn.publish();
                    *idle_since.insert(Instant::now())
                }
            };
            if since.elapsed() < Duration::from_micros(SPIN_US_MAX) {
                spin_loop();
                continue;
            }
            // What this thread put off freeing shall not wait for its next frame.
            crossbeam::epoch::pin().flush();
            self.seat.wake.begin_sleep();
            if !called() && !self.turn.has_handed() {
                let timeout = self.turn.until_timer().min(Duration::from_millis(WAIT_MS_MAX));
                self.turn.wait(&self.seat.wake, timeout);
            }
            self.seat.wake.end_sleep();
            idle_since = None;
        }
        self.drain(&plan);
    }

    /// Takes the plan in force and does what it was told. The answer to an order goes out when the worker acts on the plan.
    fn take_plan(&mut self) -> (u64, Arc<Plan>) {
        let (generation, plan) = self.shared.plans.take();
        self.shared.plans.acts_on(self.index, generation);
        for order in self.seat.take_orders() {
            if let Order::Close { .. } = order {
                // What other workers sent to the port leaves before: a relay is empty after so many turns.
                for _ in 0..RELAY_FRAMES_MAX.div_ceil(BURST_MAX) {
                    self.turn(&plan, || false);
                }
            }
            self.turn.obey(order, &self.seat.wake);
        }
        (generation, plan)
    }

    fn turn(&mut self, plan: &Plan, called: impl Fn() -> bool) -> usize {
        let moved = self.turn.turn(plan, &mut NoProbe, called);
        self.turn.publish();
        let mut handed_to = std::mem::take(&mut self.turn.handed_to);
        while handed_to != 0 {
            self.shared.workers[handed_to.trailing_zeros() as usize].wake.notify();
            handed_to &= handed_to - 1;
        }
        moved
    }

    /// Judges what had arrived and sends what was accepted, for a bounded time; then closes the ports.
    fn drain(&mut self, plan: &Plan) {
        let is_over = |since: Instant| since.elapsed() >= Duration::from_millis(DRAIN_MS_MAX);
        let since = Instant::now();
        while !is_over(since) && (self.turn(plan, || is_over(since)) > 0 || self.turn.has_handed()) {}
        self.turn.end_receiving();
        let since = Instant::now();
        while !is_over(since) && (self.turn.is_receiving() || self.turn.has_handed()) {
            self.turn(plan, || is_over(since));
        }
        self.turn.close();
        self.turn.publish();
    }
}
