//! Many cases on several threads, for as long as asked.
//!
//! Invariant: which cases are run depends on the seed and on how many there are time for, not on the threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::differential::{AsksKernel, Differential, Divergence, KERNEL};
use super::{BenchError, Case, Expected, Form, KernelUse, Oracle, generate, minimise};
use crate::kernel::KernelError;

/// Time that making one case small may take.
const MINIMISE_TIME: Duration = Duration::from_secs(20);

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The first seed; the others follow.
    pub seed: u64,
    /// Cases at most.
    pub count: u64,
    /// Time at most.
    pub time: Option<Duration>,
    /// Threads.
    pub jobs: usize,
    /// Whether the kernel is asked.
    pub kernel: KernelUse,
    /// Divergences after which it ends.
    pub catches_max: usize,
}

/// A case that two sides disagree on, made small.
#[derive(Debug)]
pub struct Catch {
    /// Its seed.
    pub seed: u64,
    /// The small case, with what verify mode makes of it as expectation.
    pub case: Case,
    /// What differs in the small case.
    pub divergence: Divergence,
}

/// What a campaign did.
#[derive(Debug, Default)]
pub struct Tally {
    /// Cases that every engine ran.
    pub programs: u64,
    /// Those of them that stopped early.
    pub traps: u64,
    /// Cases that the kernel was asked about.
    pub asked: u64,
    /// Those of them that it accepted and ran.
    pub accepted: u64,
    /// Cases that no engine could run, with the reasons.
    pub unfit: BTreeMap<String, u64>,
    /// Why the kernel refused cases.
    pub refusals: BTreeMap<String, u64>,
    /// Divergences.
    pub catches: Vec<Catch>,
    /// Time that it took.
    pub elapsed: Duration,
}

/// A campaign cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    /// There is no memory to run in.
    #[error("{0}")]
    Bench(#[from] BenchError),
    /// The kernel was to be asked and cannot be.
    #[error("{0}")]
    Kernel(#[from] KernelError),
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.programs += other.programs;
        self.traps += other.traps;
        self.asked += other.asked;
        self.accepted += other.accepted;
        self.catches.extend(other.catches);
        for (all, some) in [(&mut self.unfit, other.unfit), (&mut self.refusals, other.refusals)] {
            for (reason, count) in some {
                *all.entry(reason).or_default() += count;
            }
        }
    }
}

/// How far a campaign is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Cases that were judged.
    pub programs: u64,
    /// Those that the kernel accepted and ran.
    pub accepted: u64,
    /// Divergences.
    pub divergences: u64,
    /// Time since its start.
    pub elapsed: Duration,
}

/// Who is told how far a campaign is, and how often.
#[derive(Clone, Copy)]
pub struct Listener<'a> {
    /// Time from one word to the next.
    pub every: Duration,
    /// Takes it.
    pub tell: &'a (dyn Fn(Progress) + Sync),
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    next: AtomicU64,
    stop: AtomicBool,
    programs: AtomicU64,
    accepted: AtomicU64,
    divergences: AtomicU64,
}

impl Shared {
    fn progress(&self, started: Instant) -> Progress {
        let [programs, accepted, divergences] =
            [&self.programs, &self.accepted, &self.divergences].map(|count| count.load(Ordering::Relaxed));
        Progress { programs, accepted, divergences, elapsed: started.elapsed() }
    }
}

impl Campaign {
    /// Runs cases until there are enough, the time is over, or enough divergences are found.
    ///
    /// # Errors
    /// [`CampaignError`].
    pub fn run(&self, listener: Option<Listener<'_>>) -> Result<Tally, CampaignError> {
        let started = Instant::now();
        let end = self.time.map(|time| started + time);
        let shared = Shared::default();
        let (running, over) = mpsc::channel::<()>();
        let parts: Vec<Result<Tally, CampaignError>> = std::thread::scope(|scope| {
            let jobs: Vec<_> = (0..self.jobs)
                .map(|job| {
                    scope.spawn({
                        let shared = &shared;
                        move || self.work(job, shared, end)
                    })
                })
                .collect();
            let shared = &shared;
            if let Some(Listener { every, tell }) = listener {
                scope.spawn(move || {
                    // Nothing is ever sent: the channel closes when the jobs are done.
                    while over.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                        tell(shared.progress(started));
                    }
                });
            }
            let parts = jobs.into_iter().map(|job| job.join().expect("a case is no reason to panic")).collect();
            drop(running);
            parts
        });
        let mut all = Tally::default();
        for part in parts {
            all.add(part?);
        }
        all.catches.sort_by_key(|catch| catch.seed);
        all.elapsed = started.elapsed();
        Ok(all)
    }

    fn oracle(&self, job: usize) -> Result<Option<Oracle>, CampaignError> {
        Ok(Oracle::wanted(self.kernel, job)?)
    }

    fn work(&self, job: usize, shared: &Shared, end: Option<Instant>) -> Result<Tally, CampaignError> {
        let mut differential = Differential::new(self.oracle(job)?)?;
        let mut tally = Tally::default();
        while !shared.stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
            let number = shared.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.count {
                break;
            }
            let seed = self.seed.wrapping_add(number);
            let (case, accepted) = (generate(seed), tally.accepted);
            let diverges = tally.judge(&mut differential, seed, &case);
            shared.programs.fetch_add(1, Ordering::Relaxed);
            shared.accepted.fetch_add(tally.accepted - accepted, Ordering::Relaxed);
            if diverges {
                shared.divergences.fetch_add(1, Ordering::Relaxed);
                if let Some(catch) = look_again(&mut differential, seed, &case) {
                    tally.catches.push(catch);
                }
                if tally.catches.len() >= self.catches_max {
                    shared.stop.store(true, Ordering::Relaxed);
                }
            }
        }
        Ok(tally)
    }
}

/// Whether the kernel is asked about cases of this seed.
fn asks(seed: u64) -> AsksKernel {
    if Form::of(seed) == Form::Kernel { AsksKernel::Yes } else { AsksKernel::No }
}

impl Tally {
    /// Runs a case and counts it; whether it diverges.
    fn judge(&mut self, differential: &mut Differential, seed: u64, case: &Case) -> bool {
        match differential.judge(case, asks(seed)) {
            Ok(judgement) => {
                self.programs += 1;
                self.traps += u64::from(judgement.verify.trap.is_some());
                self.asked += u64::from(judgement.kernel.is_some());
                self.accepted += u64::from(judgement.kernel == Some(true));
                if let Some(refusal) = judgement.refusal {
                    *self.refusals.entry(refusal).or_default() += 1;
                }
                judgement.divergence.is_some()
            }
            Err(error) => {
                *self.unfit.entry(error.to_string()).or_default() += 1;
                false
            }
        }
    }
}

/// Judges a case again that diverged, and makes it small.
fn look_again(differential: &mut Differential, seed: u64, case: &Case) -> Option<Catch> {
    let asks = asks(seed);
    let first = differential.judge(case, asks).ok()?;
    let sides = |divergence: &Divergence| [divergence.reference.0 == KERNEL, divergence.other.0 == KERNEL];
    let first_sides = sides(first.divergence.as_ref()?);
    let mut still = |case: &Case| {
        let Ok(judgement) = differential.judge(case, asks) else { return false };
        // What a program reads that it never wrote is zero here and anything in the kernel.
        let is_clean = first_sides == [false; 2] || judgement.verify.findings.is_empty();
        is_clean && judgement.divergence.is_some_and(|found| sides(&found) == first_sides)
    };
    let mut small = minimise(case, MINIMISE_TIME, &mut still);
    let judgement = differential.judge(&small, asks).ok()?;
    let divergence = judgement.divergence?;
    if let Some(fuel) = divergence.fuel {
        small.fuel = Some(fuel);
    }
    let ran = differential.judge(&small, AsksKernel::No).ok()?.verify;
    small.expected = Expected::of(&ran);
    small.about = format!("Seed {seed} of kumite fuzz: {divergence}.").replace('\n', " ");
    Some(Catch { seed, case: small, divergence })
}
