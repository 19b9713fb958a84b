//! Programs that try to harm the host: each runs in every mode, and nothing of the host may change, nor last long.
//!
//! Invariant: a seed gives the same programs but for the addresses in them, which are those of this process.

mod arena;
mod attacks;
mod bulk;
mod canary;
mod cpu_time;
mod lures;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::BenchError;
use crate::isa::random::Dice;
use crate::trap::TrapKind;
use crate::vm::Mode;
use arena::Arena;
use attacks::ATTACKS;
use bulk::SHAPES;
pub use bulk::Translation;

/// Programs after which a new arena is made: its canaries lie elsewhere, and what programs left is gone.
const ARENA_RUNS: u64 = 256;
/// Breaches after which it ends.
const BREACHES_MAX: usize = 64;

/// What is to be tried.
#[derive(Clone, Copy, Debug)]
pub struct Hostile {
    /// Determines all programs.
    pub seed: u64,
    /// How many programs, or pairs of them that race.
    pub count: u64,
    /// Fuel of each run.
    pub fuel: u64,
    /// Slots of the programs that are only translated, of one of each shape that is long to translate.
    pub bulk: usize,
}

/// The longest run of a mode.
#[derive(Clone, Copy, Debug)]
pub struct Longest {
    /// Time that it computed.
    pub time: Duration,
    /// Seed of the program.
    pub seed: u64,
}

/// What came of the programs that tried one thing.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    /// Programs, or pairs.
    pub programs: u64,
    /// The longest run of each mode.
    pub longest: BTreeMap<Mode, Longest>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct HostileTally {
    /// Programs, or pairs.
    pub programs: u64,
    /// Runs of all modes.
    pub runs: u64,
    /// Runs that ended by a trap; those by fuel among them.
    pub traps: u64,
    /// Runs that used up their fuel.
    pub out_of_fuel: u64,
    /// By what was tried.
    pub attacks: BTreeMap<&'static str, Attempts>,
    /// What was translated, and what it took.
    pub translations: Vec<Translation>,
    /// What was changed or exceeded that must not be: mode, seed, words.
    pub breaches: Vec<String>,
    /// Time that it took.
    pub elapsed: Duration,
}

impl Hostile {
    /// Runs them, one after the other.
    ///
    /// # Errors
    /// [`BenchError`] where there is no memory.
    pub fn run(&self) -> Result<HostileTally, BenchError> {
        let started = Instant::now();
        let mut tally = HostileTally::default();
        let mut arena = Arena::new()?;
        for number in 0..self.count {
            if number > 0 && number % ARENA_RUNS == 0 {
                arena = Arena::new()?;
            }
            let seed = self.seed.wrapping_add(number);
            let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x686f_7374);
            let attack = dice.pick(&ATTACKS.iter().collect::<Vec<_>>());
            let plan = attack.plan(&mut dice, arena.lures());
            tally.programs += 1;
            tally.attacks.entry(attack.name).or_default().programs += 1;
            for mode in Mode::ALL {
                let told = |what: String| format!("seed {seed}, {mode} mode, {}: {what}", attack.name);
                let ended = match arena.run(&plan, mode, self.fuel, &mut dice) {
                    Ok(ended) => ended,
                    Err(error) => {
                        tally.breaches.push(told(format!("not well-formed: {error}")));
                        continue;
                    }
                };
                for ended in ended {
                    tally.runs += 1;
                    tally.traps += u64::from(ended.trap.is_some());
                    tally.out_of_fuel += u64::from(ended.trap == Some(TrapKind::Fuel));
                    tally.breaches.extend(ended.breach.map(told));
                    tally.note(attack.name, mode, Longest { time: ended.time, seed });
                }
            }
            if tally.breaches.len() >= BREACHES_MAX {
                break;
            }
        }
        for shape in SHAPES {
            match shape.translate(&arena, self.bulk) {
                Ok(translations) => tally.translations.extend(translations),
                Err(error) => tally.breaches.push(format!("{}: not well-formed: {error}", shape.name)),
            }
        }
        tally.elapsed = started.elapsed();
        Ok(tally)
    }
}

impl HostileTally {
    fn note(&mut self, attack: &'static str, mode: Mode, ran: Longest) {
        let longest = self.attacks.entry(attack).or_default().longest.entry(mode).or_insert(ran);
        if longest.time < ran.time {
            *longest = ran;
        }
    }

    /// The longest run of a mode.
    #[must_use]
    pub fn longest(&self, mode: Mode) -> Option<Longest> {
        let all = self.attacks.values().filter_map(|attempts| attempts.longest.get(&mode));
        all.max_by_key(|longest| longest.time).copied()
    }
}
