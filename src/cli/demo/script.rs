//! What happens during the demonstration, and when.
//!
//! Invariant: a step returns when every worker acts on it, so that a phase is counted in its mode alone.

use std::time::Duration;

use super::bout::{Bout, port};
use crate::cli::CliError;
use crate::flow::ModeTarget;
use crate::vm::Mode;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// All programs of both hosts run in this mode from now on.
    Mode(Mode),
    /// A slot of A's program array gets another program.
    Slot { index: u32, program: &'static str },
    /// B blocks a prefix of sources.
    Block,
    /// The end.
    End,
}

/// When each step comes, in hundredths of the whole time.
const STEPS: &[(u32, Step)] = &[
    (0, Step::Mode(Mode::Fast)),
    (20, Step::Slot { index: 2, program: "backend_0" }),
    (35, Step::Block),
    (45, Step::Mode(Mode::Instrumented)),
    (60, Step::Mode(Mode::Verify)),
    (80, Step::Mode(Mode::Fast)),
    (100, Step::End),
];

/// 10.0.0.0/25 as a key of the block list, and a counter at zero.
const BLOCKED: [u8; 8] = [25, 0, 0, 0, 10, 0, 0, 0];

/// Something that happened.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) at: Duration,
    pub(super) what: String,
}

/// What both hosts judged in one mode.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub(super) mode: Mode,
    pub(super) time: Duration,
    /// Frames judged by A and by B.
    pub(super) judged: [u64; 2],
}

/// The script, and how far it is.
#[derive(Debug)]
pub(super) struct Script {
    whole: Duration,
    done: usize,
    told: Vec<Told>,
    phases: Vec<Phase>,
    /// Mode in force, since when, and what had been judged before.
    now: Option<(Mode, Duration, [u64; 2])>,
}

impl Script {
    pub(super) fn new(whole: Duration) -> Self {
        Self { whole, done: 0, told: Vec::new(), phases: Vec::new(), now: None }
    }

    /// The whole time.
    pub(super) fn whole(&self) -> Duration {
        self.whole
    }

    /// The moment of the next step.
    pub(super) fn next_at(&self) -> Option<Duration> {
        STEPS.get(self.done).map(|(hundredths, _)| self.whole * *hundredths / 100)
    }

    /// What happened so far.
    pub(super) fn told(&self) -> &[Told] {
        &self.told
    }

    /// Each mode, in order of time.
    pub(super) fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// Lets the next step happen; what there is to tell of it.
    pub(super) fn step(&mut self, bout: &Bout) -> Result<Option<Told>, CliError> {
        let Some((_, step)) = STEPS.get(self.done) else { return Ok(None) };
        self.done += 1;
        let at = bout.elapsed();
        let what = match *step {
            Step::Mode(mode) => {
                self.end_phase(bout, at);
                for host in [&bout.a.host, &bout.b.host] {
                    host.set_mode(&ModeTarget::All, mode).map_err(CliError::host_failed)?;
                }
                self.now = Some((mode, bout.elapsed(), judged(bout)));
                format!("A and B: {mode}, {}", meaning(mode))
            }
            Step::Slot { index, program } => {
                let set = bout.a.host.set_slot("backends", index, Some(program));
                set.map_err(CliError::host_failed)?;
                format!("A: slot {index} of backends is {program} now: what passed goes back to B")
            }
            Step::Block => {
                let blocklist = bout.b.instance.map("blocklist").expect("the firewall has it");
                let blocked = blocklist.host_update(&BLOCKED, &[0; 8], 0);
                blocked.map_err(|errno| CliError::host_failed(format!("map blocklist: {errno}; report it")))?;
                "B: 10.0.0.0/25 is in the map blocklist now: half of what A sends is dropped".to_owned()
            }
            Step::End => {
                self.end_phase(bout, at);
                return Ok(None);
            }
        };
        let told = Told { at, what };
        self.told.push(told.clone());
        Ok(Some(told))
    }

    fn end_phase(&mut self, bout: &Bout, at: Duration) {
        if let Some((mode, since, before)) = self.now.take() {
            let after = judged(bout);
            let judged = [after[0] - before[0], after[1] - before[1]];
            self.phases.push(Phase { mode, time: at.saturating_sub(since), judged });
        }
    }
}

fn judged(bout: &Bout) -> [u64; 2] {
    [&bout.a, &bout.b].map(|corner| port(&corner.host.stats()).rx)
}

/// What a mode is, in some words.
fn meaning(mode: Mode) -> &'static str {
    match mode {
        Mode::Fast => "translated code in the cage",
        Mode::Instrumented => "translated code with counters",
        Mode::Verify => "the interpreter watches every access",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_in_order_and_the_modes_come_back_to_fast() {
        assert!(STEPS.is_sorted_by_key(|(hundredths, _)| *hundredths));
        let modes = STEPS.iter().filter_map(|(_, step)| match step {
            Step::Mode(mode) => Some(*mode),
            Step::Slot { .. } | Step::Block | Step::End => None,
        });
        assert_eq!(modes.collect::<Vec<_>>(), [Mode::Fast, Mode::Instrumented, Mode::Verify, Mode::Fast]);
        assert_eq!(STEPS.last(), Some(&(100, Step::End)));
    }
}
