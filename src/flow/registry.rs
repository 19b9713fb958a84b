//! Which programs a host knows, where they sit and in which mode they run: the control plane's own book, from which it
//! makes plans.
//!
//! Invariant: workers never see it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::counters::ProgramRuns;
use super::plan::{Attached, Plan};
use super::stats::{ModeRuns, ProgramStats};
use super::{Addresses, HostError, Judge};
use crate::verdict::ProgramKind;
use crate::vm::Mode;

/// A place where a program judges frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// Frames from the wire, before anything else.
    Xdp,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Xdp];

    /// Its name in options and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
        }
    }

    fn takes(self, kind: ProgramKind) -> bool {
        match self {
            Self::Xdp => kind == ProgramKind::Xdp,
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no hook.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("hook {word:?}: no such hook; use xdp")]
pub struct UnknownHook {
    /// The word.
    pub word: String,
}

impl FromStr for Hook {
    type Err = UnknownHook;

    fn from_str(word: &str) -> Result<Self, UnknownHook> {
        Self::ALL.into_iter().find(|hook| hook.name() == word).ok_or_else(|| UnknownHook { word: word.to_owned() })
    }
}

/// Whose mode is to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeTarget {
    /// All programs, those that are attached later included.
    All,
    /// The programs of this name.
    Program(String),
    /// The program with this number.
    Number(u32),
}

/// A program that is or was attached.
#[derive(Debug)]
struct Known {
    judge: Arc<dyn Judge>,
    runs: Arc<ProgramRuns>,
    /// Its own mode, where it has one.
    mode: Option<Mode>,
}

/// What the control plane knows.
#[derive(Debug)]
pub(super) struct Registry {
    worker_count: u32,
    responder: Addresses,
    fuel: u64,
    /// Mode of programs without one of their own.
    mode: Mode,
    programs: BTreeMap<u32, Known>,
    xdp: Option<u32>,
}

impl Registry {
    pub(super) fn new(worker_count: u32, responder: Addresses, fuel: u64, mode: Mode) -> Self {
        Self { worker_count, responder, fuel, mode, programs: BTreeMap::new(), xdp: None }
    }

    /// The plan that all this makes.
    pub(super) fn plan(&self) -> Plan {
        let xdp = self.xdp.and_then(|id| self.programs.get(&id)).map(|known| Attached {
            judge: Arc::clone(&known.judge),
            mode: known.mode.unwrap_or(self.mode),
            runs: Arc::clone(&known.runs),
        });
        Plan { xdp, responder: self.responder, fuel: self.fuel }
    }

    /// Makes a program known, so that it can have a mode before it is attached.
    pub(super) fn know(&mut self, judge: Arc<dyn Judge>) {
        let worker_count = self.worker_count;
        self.programs.entry(judge.id()).or_insert_with(|| Known {
            judge,
            runs: Arc::new(ProgramRuns::new(worker_count)),
            mode: None,
        });
    }

    /// Forgets a program that sits nowhere.
    pub(super) fn forget(&mut self, id: u32) {
        self.programs.remove(&id);
    }

    /// The hook that a program sits on.
    pub(super) fn hook_of(&self, id: u32) -> Option<Hook> {
        (self.xdp == Some(id)).then_some(Hook::Xdp)
    }

    pub(super) fn attach(&mut self, judge: Arc<dyn Judge>, hook: Hook) -> Result<(), HostError> {
        if !hook.takes(judge.kind()) {
            let (program, kind) = (judge.name().to_owned(), judge.kind().name());
            return Err(HostError::Kind { program, kind, hook: hook.name() });
        }
        let id = judge.id();
        self.know(Arc::clone(&judge));
        if let Some(known) = self.programs.get_mut(&id) {
            // What wraps a loaded program, under its number, sits there in its place.
            known.judge = judge;
        }
        match hook {
            Hook::Xdp => self.xdp = Some(id),
        }
        Ok(())
    }

    pub(super) fn detach(&mut self, hook: Hook) -> Result<(), HostError> {
        let place = match hook {
            Hook::Xdp => &mut self.xdp,
        };
        place.take().map(|_| ()).ok_or(HostError::NothingAttached { hook: hook.name() })
    }

    pub(super) fn set_mode(&mut self, target: &ModeTarget, mode: Mode) -> Result<(), HostError> {
        match target {
            ModeTarget::All => {
                self.mode = mode;
                self.programs.values_mut().for_each(|known| known.mode = None);
            }
            ModeTarget::Program(name) => {
                let mut found = false;
                for known in self.programs.values_mut().filter(|known| known.judge.name() == name) {
                    known.mode = Some(mode);
                    found = true;
                }
                if !found {
                    return Err(HostError::NoProgram { program: name.clone() });
                }
            }
            ModeTarget::Number(id) => {
                let known = self.programs.get_mut(id);
                known.ok_or_else(|| HostError::NoProgram { program: format!("id:{id}") })?.mode = Some(mode);
            }
        }
        Ok(())
    }

    pub(super) fn set_responder(&mut self, responder: Addresses) {
        self.responder = responder;
    }

    /// The program on a hook.
    pub(super) fn attached(&self, hook: Hook) -> Option<&Arc<dyn Judge>> {
        let id = match hook {
            Hook::Xdp => self.xdp,
        };
        self.programs.get(&id?).map(|known| &known.judge)
    }

    pub(super) fn stats(&self) -> Vec<ProgramStats> {
        let stats = self.programs.iter().map(|(id, known)| {
            let modes = Mode::ALL.map(|mode| ModeRuns::new(&known.runs, mode));
            ProgramStats {
                program: known.judge.name().to_owned(),
                id: *id,
                hook: self.hook_of(*id).map(Hook::name),
                mode: known.mode.unwrap_or(self.mode).name(),
                tail_runs: known.judge.tail_runs(),
                runs: modes.iter().map(ModeRuns::total).sum(),
                traps: known.runs.traps(),
                findings: known.runs.findings(),
                modes: modes.into_iter().filter(|runs| runs.total() > 0).collect(),
            }
        });
        stats.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_is_read_by_its_own_name_and_others_are_refused() {
        for hook in Hook::ALL {
            assert_eq!(hook.to_string().parse(), Ok(hook));
        }
        let error = "tc".parse::<Hook>().expect_err("not yet");
        assert_eq!(error.to_string(), "hook \"tc\": no such hook; use xdp");
    }
}
