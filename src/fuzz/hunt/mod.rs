//! A user's program fuzzed: frames and contents of maps are changed at random, what reaches new instructions is kept and
//! changed further, and what traps, is found fault with by verify mode, or ends with a value that the hook does not know, is
//! made small.
//!
//! Frames follow each other in rounds, each with fresh maps. What is caught in a round can be run again: from the contents
//! of the maps at its start, and the frames that it takes.
//!
//! Invariant: every catch happened again in verify mode, from what it holds.

mod frames;
mod presets;

pub use frames::seeds;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::isa::Does;
use crate::isa::random::Dice;
use crate::limits::FRAME_LEN_MIN;
use crate::report::{FrameReport, Preset, RunError, RunRequest, TestRun};
use crate::verdict::{ProgramKind, Verdict};
use crate::vm::Mode;

/// Frames of a round.
const ROUND_LEN: usize = 64;
/// Frames of the corpus at most.
const CORPUS_MAX: usize = 4096;
/// Time that making one catch small may take.
const MINIMISE_TIME: Duration = Duration::from_secs(5);

/// What is to be hunted.
#[derive(Debug)]
pub struct Hunt<'a> {
    /// The program and what its maps hold before.
    pub request: RunRequest<'a>,
    /// Frames to begin with; what no program takes is left out.
    pub seeds: Vec<Vec<u8>>,
    /// Determines all that is random.
    pub seed: u64,
    /// Frames at most.
    pub count: u64,
    /// Time at most.
    pub time: Option<Duration>,
    /// Catches after which it ends.
    pub catches_max: usize,
    /// Verdicts that are catches though the hook knows them.
    pub forbidden: BTreeSet<Verdict>,
}

/// Something that a program did wrong, with what it takes to see it again.
#[derive(Clone, Debug)]
pub struct Prey {
    /// What it was, in words.
    pub what: String,
    /// Frames, the last of which shows it.
    pub frames: Vec<Vec<u8>>,
    /// What maps hold before, in the form that `kumite run --map` takes; none where it is as the object and the request say.
    pub maps: Option<String>,
}

/// An instruction that no frame reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreached {
    /// Name of its program.
    pub program: String,
    /// Its slot.
    pub pc: usize,
    /// File and line of its source.
    pub line: Option<String>,
}

/// What a hunt did.
#[derive(Debug, Default)]
pub struct Bag {
    /// Frames that the program was run on.
    pub runs: u64,
    /// Frames that reached something new.
    pub corpus: usize,
    /// Instructions of the object's programs that were reached, and all of them.
    pub reached: (usize, usize),
    /// Those that were not: program and slot, with the source line where the object tells it.
    pub unreached: Vec<Unreached>,
    /// What was caught, one of each kind.
    pub prey: Vec<Prey>,
    /// What was caught and not seen again from the start of its round: it depends on time or chance.
    pub lost: BTreeSet<String>,
    /// Time that it took.
    pub elapsed: Duration,
}

/// What a report holds against the program, a line each.
fn faults(kind: ProgramKind, forbidden: &BTreeSet<Verdict>, report: &FrameReport) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(trap) = &report.trap {
        faults.push(format!("trap: {trap}"));
    } else if forbidden.contains(&report.verdict) {
        faults.push(format!("verdict: {} is forbidden", report.verdict.name()));
    }
    let strange = report.unknown_verdict(kind);
    faults.extend(report.findings.iter().chain(&strange).map(|finding| format!("finding: {finding}")));
    faults
}

/// What tells faults of one kind from others: addresses, lengths and return values in the text do not.
fn kind_of(fault: &str) -> String {
    let is_number = |word: &str| word.starts_with("0x") || word.parse::<u64>().is_ok();
    fault.split_whitespace().map(|word| if is_number(word) { "N" } else { word }).collect::<Vec<_>>().join(" ")
}

impl Hunt<'_> {
    /// Hunts.
    ///
    /// # Errors
    /// [`RunError`] where the program cannot be run.
    pub fn run(&self) -> Result<Bag, RunError> {
        let started = Instant::now();
        let mut bag = Bag::default();
        let mut dice = Dice::new(self.seed);
        let first = self.fresh(None)?;
        let mut seeds: Vec<Vec<u8>> =
            self.seeds.iter().filter(|frame| first.check_one(1, frame).is_ok()).cloned().collect();
        if seeds.is_empty() {
            seeds.push(vec![0; 64]);
        }
        let mut corpus = seeds.clone();
        let words = frames::words(first.instance().programs().iter().flat_map(|program| program.linked().insns()));
        let mut reached = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut untried = seeds.into_iter();
        let is_over = |bag: &Bag| {
            bag.runs >= self.count
                || bag.prey.len() >= self.catches_max
                || self.time.is_some_and(|time| started.elapsed() >= time)
        };
        let mut run = first;
        while !is_over(&bag) {
            // Maps are changed in every other round.
            let maps = if bag.runs > 0 && dice.once_in(2) { presets::changed(run.instance(), &mut dice) } else { None };
            run = self.fresh(maps.as_deref())?;
            let mut round = Vec::new();
            while round.len() < ROUND_LEN && !is_over(&bag) {
                let frame = untried.next().unwrap_or_else(|| {
                    let base = dice.below(corpus.len());
                    frames::change(&corpus[base], &corpus, &words, &mut dice)
                });
                // Counted all the same, so that a hunt ends where the program takes none.
                bag.runs += 1;
                if run.check_one(1, &frame).is_err() {
                    continue;
                }
                round.push(frame.clone());
                let [instrumented] = self.reports(&run, Mode::Instrumented, &[&frame])?;
                let mut faults = faults(run.program().linked().program().kind(), &self.forbidden, &instrumented);
                let is_new = self.note_reached(&run, &mut reached);
                if is_new && corpus.len() < CORPUS_MAX {
                    corpus.push(frame);
                }
                // What is known already hides nothing.
                let is_old = faults.iter().all(|fault| seen.contains(&kind_of(fault)));
                if is_old && (is_new || dice.once_in(16)) {
                    faults = self.in_verify(maps.as_deref(), &round)?;
                }
                let fresh: Vec<String> = faults.into_iter().filter(|fault| seen.insert(kind_of(fault))).collect();
                for fault in fresh {
                    match self.catch(&fault, maps.as_deref(), &round)? {
                        Some(prey) => bag.prey.push(prey),
                        None => {
                            bag.lost.insert(fault);
                        }
                    }
                }
            }
        }
        let programs = run.instance().programs().iter();
        let all = programs
            .clone()
            .map(|program| program.linked().insns().iter().filter(|insn| insn.does != Does::SecondSlot).count());
        for program in programs.clone() {
            let (linked, known) = (program.linked(), reached.get(program.linked().program().name()));
            let insns = linked.insns().iter().enumerate().filter(|(_, insn)| insn.does != Does::SecondSlot);
            let missing = insns.map(|(pc, _)| pc).filter(|pc| known.is_none_or(|known| !known.contains(pc)));
            let program = linked.program();
            bag.unreached.extend(missing.map(|pc| Unreached {
                program: program.name().to_owned(),
                pc,
                line: program.line_at(pc).map(|line| format!("{}:{}", line.file, line.line)),
            }));
        }
        bag.reached = (reached.values().map(BTreeSet::len).sum(), all.sum());
        bag.corpus = corpus.len();
        bag.elapsed = started.elapsed();
        Ok(bag)
    }

    /// The program with fresh maps, or with maps that hold this.
    fn fresh(&self, maps: Option<&str>) -> Result<TestRun, RunError> {
        let mut presets: Vec<Preset> = self
            .request
            .presets
            .iter()
            .map(|preset| Preset { map: preset.map.clone(), json: preset.json.clone() })
            .collect();
        presets.extend(maps.and_then(Preset::all).unwrap_or_default());
        let RunRequest { object, program, .. } = self.request;
        TestRun::new(&RunRequest { object, program, presets: &presets })
    }

    fn reports<const N: usize>(
        &self,
        run: &TestRun,
        mode: Mode,
        frames: &[&[u8]; N],
    ) -> Result<[FrameReport; N], RunError> {
        let reports = run.reports(mode, 1, frames.iter().copied()).collect::<Result<Vec<_>, _>>()?;
        Ok(reports.try_into().expect("a report for each frame"))
    }

    /// Notes which instructions have been executed; whether any was not before.
    fn note_reached(&self, run: &TestRun, reached: &mut BTreeMap<String, BTreeSet<usize>>) -> bool {
        let mut is_new = false;
        for program in run.instance().programs() {
            let Some(counts) = program.counts() else { continue };
            let name = program.linked().program().name().to_owned();
            let known = reached.entry(name).or_default();
            let executed = counts.executed.iter().enumerate().filter(|(_, count)| **count > 0);
            for (pc, _) in executed {
                is_new |= known.insert(pc);
            }
        }
        is_new
    }

    /// What verify mode holds against the program on these frames, one after the other.
    fn in_verify(&self, maps: Option<&str>, frames: &[Vec<u8>]) -> Result<Vec<String>, RunError> {
        let run = self.fresh(maps)?;
        let kind = run.program().linked().program().kind();
        let mut all = Vec::new();
        for report in run.reports(Mode::Verify, 1, frames.iter().map(Vec::as_slice)) {
            all.extend(faults(kind, &self.forbidden, &report?));
        }
        Ok(all)
    }

    /// Makes what leads to a fault small; `None` where it does not lead there again.
    fn catch(&self, fault: &str, maps: Option<&str>, frames: &[Vec<u8>]) -> Result<Option<Prey>, RunError> {
        let wanted = kind_of(fault);
        let end = Instant::now() + MINIMISE_TIME;
        let told = |maps: Option<&str>, frames: &[Vec<u8>]| -> Result<Option<String>, RunError> {
            let faults = self.in_verify(maps, frames)?;
            Ok(faults.into_iter().find(|fault| kind_of(fault) == wanted))
        };
        if told(maps, frames)?.is_none() {
            return Ok(None);
        }
        let mut frames = frames.to_vec();
        let mut maps = maps.map(str::to_owned);
        if maps.is_some() && told(None, &frames)?.is_some() {
            maps = None;
        }
        let last = frames[frames.len() - 1..].to_vec();
        if told(maps.as_deref(), &last)?.is_some() {
            frames = last;
        }
        let mut at = 0;
        while at + 1 < frames.len() && Instant::now() < end {
            let mut fewer = frames.clone();
            fewer.remove(at);
            if told(maps.as_deref(), &fewer)?.is_some() { frames = fewer } else { at += 1 }
        }
        for at in 0..frames.len() {
            for simpler in frames::simpler(&frames[at]) {
                if Instant::now() >= end {
                    break;
                }
                let mut with = frames.clone();
                with[at] = simpler(&with[at]);
                let is_good = with[at].len() >= FRAME_LEN_MIN as usize && with[at] != frames[at];
                if is_good && told(maps.as_deref(), &with)?.is_some() {
                    frames = with;
                }
            }
        }
        // Elements are left out for as long as leaving one out does no harm.
        while let Some(text) = maps.clone().filter(|_| Instant::now() < end) {
            let mut fewer = None;
            for simpler in presets::simpler(&text) {
                if Instant::now() < end && told(Some(&simpler), &frames)?.is_some() {
                    fewer = Some(simpler);
                    break;
                }
            }
            match fewer {
                Some(fewer) => maps = Some(fewer),
                None => break,
            }
        }
        let what = told(maps.as_deref(), &frames)?.unwrap_or_else(|| fault.to_owned());
        Ok(Some(Prey { what, frames, maps }))
    }
}
