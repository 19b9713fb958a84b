//! The whole configuration that workers act on, published at once and taken between two turns.
//!
//! Invariant: a plan never changes; a worker acts on one plan for a whole turn, and never frees one (whoever publishes
//! keeps the old plan until every worker has let go of it).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::utils::CachePadded;

use super::counters::ProgramRuns;
use super::{Addresses, Judge};
use crate::vm::Mode;

/// A program on a hook.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    pub(super) judge: Arc<dyn Judge>,
    pub(super) mode: Mode,
    pub(super) runs: Arc<ProgramRuns>,
}

/// The whole configuration.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// What judges frames from the wire; without it they pass.
    pub(super) xdp: Option<Attached>,
    /// Whom the stack behind PASS answers for.
    pub(super) responder: Addresses,
    /// Fuel of a run, in slots.
    pub(super) fuel: u64,
}

/// The plan in force, and which one each worker acts on.
#[derive(Debug)]
pub(super) struct Plans {
    /// Counts publications; workers look at it once a turn.
    generation: CachePadded<AtomicU64>,
    current: Mutex<Arc<Plan>>,
    taken: Box<[CachePadded<AtomicU64>]>,
}

impl Plans {
    pub(super) fn new(plan: Plan, worker_count: u32) -> Self {
        Self {
            generation: CachePadded::new(AtomicU64::new(1)),
            current: Mutex::new(Arc::new(plan)),
            taken: (0..worker_count).map(|_| CachePadded::default()).collect(),
        }
    }

    /// Puts a plan into force and gives its generation and the plan before it.
    pub(super) fn publish(&self, plan: Plan) -> (u64, Arc<Plan>) {
        let mut current = self.lock();
        let old = std::mem::replace(&mut *current, Arc::new(plan));
        (self.generation.fetch_add(1, Ordering::Release) + 1, old)
    }

    /// Whether a worker that acts on plan `generation` should take another.
    pub(super) fn is_newer(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Acquire) != generation
    }

    /// Gives a worker the plan in force.
    pub(super) fn take(&self) -> (u64, Arc<Plan>) {
        let current = self.lock();
        (self.generation.load(Ordering::Relaxed), Arc::clone(&current))
    }

    /// A worker says that it acts on plan `generation` and has let go of those before.
    pub(super) fn acts_on(&self, worker: usize, generation: u64) {
        self.taken[worker].store(generation, Ordering::Release);
    }

    /// Whether the worker has let go of all plans before `generation`.
    pub(super) fn is_taken(&self, worker: usize, generation: u64) -> bool {
        self.taken[worker].load(Ordering::Acquire) >= generation
    }

    /// The lock is held for some instructions only, so a worker that meets another there does not wait for long.
    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Plan>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_sees_a_publication_and_the_publisher_sees_it_taken() {
        let plan = Plan { xdp: None, responder: Addresses::numbered(1), fuel: 10 };
        let plans = Plans::new(plan.clone(), 2);
        let (first, _) = plans.take();
        plans.acts_on(0, first);
        assert!(!plans.is_newer(first));
        let (second, old) = plans.publish(Plan { fuel: 20, ..plan });
        assert_eq!(old.fuel, 10);
        assert!(plans.is_newer(first) && !plans.is_taken(0, second));
        let (taken, plan) = plans.take();
        assert_eq!((taken, plan.fuel), (second, 20));
        plans.acts_on(0, taken);
        assert!(plans.is_taken(0, second) && !plans.is_taken(1, second));
    }
}
