//! The whole configuration that workers act on, published at once and taken between two turns.
//!
//! Invariant: a plan never changes; a worker acts on one plan for a whole turn, and never frees one: old plans are kept
//! until every worker has let go of them, however late.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::utils::CachePadded;

use super::counters::ProgramRuns;
use super::{Actions, Addresses, Hook, Judge};
use crate::vm::Mode;

/// A program of a hook.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    pub(super) judge: Arc<dyn Judge>,
    pub(super) mode: Mode,
    pub(super) actions: Actions,
    pub(super) runs: Arc<ProgramRuns>,
}

/// The programs of a hook, in the order in which they run; never none.
pub(super) type Chain = Box<[Attached]>;

/// A port of the plan.
#[derive(Clone, Debug)]
pub(super) struct PlanPort {
    pub(super) ifindex: u32,
    /// Workers that drive it: the first so many.
    pub(super) driver_count: usize,
    /// What judges frames there, in the order of [`Hook::ALL`]; without programs they pass.
    pub(super) hooks: [Option<Chain>; Hook::ALL.len()],
}

impl PlanPort {
    pub(super) fn chain(&self, hook: Hook) -> Option<&Chain> {
        self.hooks[hook.index()].as_ref()
    }
}

/// The whole configuration.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The ports by their places; the wire's is the first.
    pub(super) ports: Vec<Option<PlanPort>>,
    /// Place of the stack port; without it the responder stands behind PASS.
    pub(super) stack: Option<usize>,
    /// Whom the built-in responder answers for.
    pub(super) responder: Addresses,
    /// Fuel of a run, in slots.
    pub(super) fuel: u64,
    /// How functions of timers run.
    pub(super) timer_mode: Mode,
}

impl Plan {
    /// The port at a place.
    pub(super) fn port(&self, slot: usize) -> Option<&PlanPort> {
        self.ports.get(slot)?.as_ref()
    }

    /// The place of the port with this interface index.
    pub(super) fn slot_of(&self, ifindex: u32) -> Option<usize> {
        self.ports.iter().position(|port| port.as_ref().is_some_and(|port| port.ifindex == ifindex))
    }
}

/// The plan in force and those before it.
#[derive(Debug)]
struct Book {
    current: Arc<Plan>,
    /// Plans that workers may still hold, oldest first, each with the generation of the one that took its place.
    former: Vec<(u64, Arc<Plan>)>,
}

/// The plan in force, and which one each worker acts on.
#[derive(Debug)]
pub(super) struct Plans {
    /// Counts publications; workers look at it once a turn.
    generation: CachePadded<AtomicU64>,
    book: Mutex<Book>,
    taken: Box<[CachePadded<AtomicU64>]>,
}

impl Plans {
    pub(super) fn new(plan: Plan, worker_count: u32) -> Self {
        Self {
            generation: CachePadded::new(AtomicU64::new(1)),
            book: Mutex::new(Book { current: Arc::new(plan), former: Vec::new() }),
            taken: (0..worker_count).map(|_| CachePadded::default()).collect(),
        }
    }

    /// Puts a plan into force and gives its generation.
    pub(super) fn publish(&self, plan: Plan) -> u64 {
        let mut book = self.lock();
        let former = std::mem::replace(&mut book.current, Arc::new(plan));
        let generation = self.generation.fetch_add(1, Ordering::Release) + 1;
        book.former.push((generation, former));
        generation
    }

    /// Frees the former plans that no worker holds any more.
    pub(super) fn free_former(&self) {
        let oldest = self.taken.iter().map(|taken| taken.load(Ordering::Acquire)).min().unwrap_or(0);
        let mut book = self.lock();
        let (free, kept) = book.former.drain(..).partition::<Vec<_>, _>(|(generation, _)| *generation <= oldest);
        book.former = kept;
        drop(book);
        // What a plan held takes its time, and workers take plans from the book.
        drop(free);
    }

    /// Whether a worker that acts on plan `generation` should take another.
    pub(super) fn is_newer(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Acquire) != generation
    }

    /// Gives a worker the plan in force.
    pub(super) fn take(&self) -> (u64, Arc<Plan>) {
        let book = self.lock();
        (self.generation.load(Ordering::Relaxed), Arc::clone(&book.current))
    }

    /// A worker says that it acts on plan `generation` and has let go of those before.
    pub(super) fn acts_on(&self, worker: usize, generation: u64) {
        self.taken[worker].store(generation, Ordering::Release);
    }

    /// A worker has ended and holds no plan.
    pub(super) fn leaves(&self, worker: usize) {
        self.acts_on(worker, u64::MAX);
    }

    /// Whether the worker has let go of all plans before `generation`.
    pub(super) fn is_taken(&self, worker: usize, generation: u64) -> bool {
        self.taken[worker].load(Ordering::Acquire) >= generation
    }

    /// The lock is held for some instructions only, so a worker that meets another there does not wait for long.
    fn lock(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_sees_a_publication_and_the_publisher_sees_it_taken() {
        let plan = Plan {
            ports: Vec::new(),
            stack: None,
            responder: Addresses::numbered(1),
            fuel: 10,
            timer_mode: Mode::Fast,
        };
        let plans = Plans::new(plan.clone(), 2);
        let (first, _) = plans.take();
        plans.acts_on(0, first);
        assert!(!plans.is_newer(first));
        let former = Arc::downgrade(&plans.lock().current);
        let second = plans.publish(Plan { fuel: 20, ..plan });
        assert!(plans.is_newer(first) && !plans.is_taken(0, second));
        let (taken, plan) = plans.take();
        assert_eq!((taken, plan.fuel), (second, 20));
        plans.acts_on(0, taken);
        assert!(plans.is_taken(0, second) && !plans.is_taken(1, second));
        plans.free_former();
        assert_eq!(former.upgrade().expect("worker 1 may hold it").fuel, 10);
        plans.leaves(1);
        plans.free_former();
        assert!(former.upgrade().is_none());
    }
}
