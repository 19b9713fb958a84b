//! Which programs a host knows, where they sit and in which mode they run: the control plane's own book, from which it
//! makes plans.
//!
//! Invariant: workers never see it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::counters::{PortBook, ProgramRuns, Tally};
use super::plan::{Attached, Plan, PlanPort};
use super::stats::{HookProgram, ModeRuns, PortFacts, PortStats, ProgramStats};
use super::{Actions, Addresses, Hook, HostError, Judge, Place, Rank};
use crate::limits::HOOK_PROGRAMS_MAX;
use crate::vm::Mode;

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

/// A program on a hook.
#[derive(Clone, Copy, Debug)]
struct Sitting {
    program: u32,
    rank: Rank,
}

/// A port that workers drive.
#[derive(Debug)]
pub(super) struct PortEntry {
    pub(super) name: String,
    pub(super) ifindex: u32,
    pub(super) spec: String,
    /// Which path moves its frames and why.
    pub(super) path: String,
    pub(super) driver_count: u32,
    pub(super) book: Arc<PortBook>,
    pub(super) is_gone: Arc<AtomicBool>,
    /// Programs in the order in which they run, by hook.
    lists: [Vec<Sitting>; Hook::ALL.len()],
}

impl PortEntry {
    pub(super) fn new(name: &str, ifindex: u32, spec: String, driver_count: u32, book: Arc<PortBook>) -> Self {
        Self {
            name: name.to_owned(),
            ifindex,
            spec,
            path: String::new(),
            driver_count,
            book,
            is_gone: Arc::default(),
            lists: Default::default(),
        }
    }
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
    /// The ports by their places in the plan.
    ports: Vec<Option<PortEntry>>,
    /// Place of the stack port.
    stack: Option<usize>,
    /// What removed ports had counted.
    removed: Option<Tally>,
}

impl Registry {
    pub(super) fn new(worker_count: u32, responder: Addresses, fuel: u64, mode: Mode) -> Self {
        let (programs, ports) = (BTreeMap::new(), Vec::new());
        Self { worker_count, responder, fuel, mode, programs, ports, stack: None, removed: None }
    }

    /// The plan that all this makes.
    pub(super) fn plan(&self) -> Plan {
        let attached = |sitting: &Sitting| {
            self.programs.get(&sitting.program).map(|known| Attached {
                judge: Arc::clone(&known.judge),
                mode: known.mode.unwrap_or(self.mode),
                actions: sitting.rank.actions,
                runs: Arc::clone(&known.runs),
            })
        };
        let port = |entry: &PortEntry| PlanPort {
            ifindex: entry.ifindex,
            driver_count: entry.driver_count as usize,
            hooks: std::array::from_fn(|hook| {
                let chain: Box<[Attached]> = entry.lists[hook].iter().filter_map(attached).collect();
                (!chain.is_empty()).then_some(chain)
            }),
        };
        let ports: Vec<Option<PlanPort>> = self.ports.iter().map(|entry| entry.as_ref().map(port)).collect();
        let first = ports.iter().flatten().flat_map(|port| &port.hooks).flatten().flat_map(|chain| chain.iter()).next();
        let timer_mode = first.map_or(Mode::Fast, |attached| attached.mode);
        Plan { ports, stack: self.stack, responder: self.responder, fuel: self.fuel, timer_mode }
    }

    /// Takes a port in at a place that has none.
    pub(super) fn add_port(&mut self, slot: usize, entry: PortEntry) {
        if self.ports.len() <= slot {
            self.ports.resize_with(slot + 1, || None);
        }
        assert!(self.ports[slot].is_none(), "a place has one port");
        self.ports[slot] = Some(entry);
    }

    /// Lets passed frames go to the port at this place.
    pub(super) fn set_stack(&mut self, slot: usize) {
        self.stack = Some(slot);
    }

    /// Takes a port out, and the programs off its hooks.
    pub(super) fn remove_port(&mut self, name: &str) -> Result<(usize, PortEntry), HostError> {
        let slot = self.slot_of(name)?;
        self.stack = self.stack.filter(|stack| *stack != slot);
        Ok((slot, self.ports[slot].take().expect("found there")))
    }

    /// Keeps what a removed port had counted.
    pub(super) fn bury(&mut self, tally: &Tally) {
        self.removed.get_or_insert_default().add(tally);
    }

    /// The place of the port with this name.
    pub(super) fn slot_of(&self, name: &str) -> Result<usize, HostError> {
        let has_name = |entry: &Option<PortEntry>| entry.as_ref().is_some_and(|entry| entry.name == name);
        self.ports.iter().position(has_name).ok_or_else(|| HostError::NoPort { port: name.to_owned() })
    }

    /// The port at a place.
    pub(super) fn port_mut(&mut self, slot: usize) -> Option<&mut PortEntry> {
        self.ports.get_mut(slot)?.as_mut()
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

    /// The first hook that a program sits on.
    pub(super) fn place_of(&self, id: u32) -> Option<Place> {
        let sits = |list: &Vec<Sitting>| list.iter().any(|sitting| sitting.program == id);
        self.ports.iter().flatten().find_map(|entry| {
            let hook = Hook::ALL.into_iter().find(|hook| sits(&entry.lists[hook.index()]))?;
            Some(Place::new(&entry.name, hook))
        })
    }

    fn list(&mut self, place: &Place) -> Result<&mut Vec<Sitting>, HostError> {
        let slot = self.slot_of(&place.port)?;
        let entry = self.ports[slot].as_mut().expect("found there");
        Ok(&mut entry.lists[place.hook.index()])
    }

    /// Lets these programs, and no others, judge at a place.
    pub(super) fn replace(&mut self, place: &Place, judges: &[(Arc<dyn Judge>, Rank)]) -> Result<(), HostError> {
        let hook = place.hook;
        for (judge, rank) in judges {
            let program = judge.name().to_owned();
            if judge.kind() != hook.kind() {
                return Err(HostError::Kind { program, kind: judge.kind().name(), hook: hook.name() });
            }
            if hook != Hook::Xdp && rank.actions != Actions::default() {
                return Err(HostError::Actions { program, hook: hook.name() });
            }
        }
        let mut list: Vec<Sitting> = Vec::new();
        for (judge, rank) in judges {
            let program = judge.id();
            list.retain(|sitting| sitting.program != program);
            list.push(Sitting { program, rank: *rank });
        }
        if list.len() > HOOK_PROGRAMS_MAX {
            return Err(HostError::HookFull { place: place.to_string() });
        }
        list.sort_by_key(|sitting| sitting.rank.priority);
        *self.list(place)? = list;
        for (judge, _) in judges {
            self.know(Arc::clone(judge));
            if let Some(known) = self.programs.get_mut(&judge.id()) {
                // What wraps a loaded program, under its number, sits there in its place.
                known.judge = Arc::clone(judge);
            }
        }
        Ok(())
    }

    /// Lets a program judge at a place beside those that are there; one that is there already moves.
    pub(super) fn attach(&mut self, place: &Place, judge: Arc<dyn Judge>, rank: Rank) -> Result<(), HostError> {
        let there = self.list(place)?.clone();
        let known = |sitting: &Sitting| {
            let known = self.programs.get(&sitting.program)?;
            (sitting.program != judge.id()).then(|| (Arc::clone(&known.judge), sitting.rank))
        };
        let mut judges: Vec<(Arc<dyn Judge>, Rank)> = there.iter().filter_map(known).collect();
        judges.push((judge, rank));
        self.replace(place, &judges)
    }

    /// Takes a program, or all, off a hook.
    pub(super) fn detach(&mut self, place: &Place, program: Option<u32>) -> Result<(), HostError> {
        let name = program.and_then(|id| self.programs.get(&id)).map(|known| known.judge.name().to_owned());
        let list = self.list(place)?;
        let before = list.len();
        list.retain(|sitting| program.is_some_and(|program| program != sitting.program));
        if list.len() < before {
            return Ok(());
        }
        let place = place.to_string();
        Err(match (before, name) {
            (0, _) | (_, None) => HostError::NothingAttached { hook: place },
            (_, Some(program)) => HostError::NotThere { program, hook: place },
        })
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

    /// The first program at a place.
    pub(super) fn attached(&self, place: &Place) -> Option<&Arc<dyn Judge>> {
        let entry = self.ports[self.slot_of(&place.port).ok()?].as_ref()?;
        let first = entry.lists[place.hook.index()].first()?;
        self.programs.get(&first.program).map(|known| &known.judge)
    }

    /// What each port counted, the wire first.
    pub(super) fn port_stats(&self) -> Vec<PortStats> {
        let program = |hook: Hook, sitting: &Sitting| {
            self.programs.get(&sitting.program).map(|known| HookProgram {
                program: known.judge.name().to_owned(),
                id: sitting.program,
                priority: sitting.rank.priority,
                actions: (hook == Hook::Xdp).then(|| sitting.rank.actions.to_string()),
            })
        };
        let stats = self.ports.iter().flatten().map(|entry| {
            let programs =
                Hook::ALL.map(|hook| entry.lists[hook.index()].iter().filter_map(|one| program(hook, one)).collect());
            let facts = PortFacts {
                port: entry.name.clone(),
                ifindex: entry.ifindex,
                spec: entry.spec.clone(),
                path: entry.path.clone(),
                drivers: entry.driver_count,
                is_gone: entry.is_gone.load(Ordering::Acquire),
                programs,
            };
            PortStats::new(facts, &entry.book.sum())
        });
        stats.collect()
    }

    /// What the removed ports had counted.
    pub(super) fn removed_stats(&self) -> Option<PortStats> {
        let facts = PortFacts { port: "removed".to_owned(), is_gone: true, ..PortFacts::default() };
        self.removed.as_ref().map(|tally| PortStats::new(facts, tally))
    }

    /// What each program did.
    pub(super) fn stats(&self) -> Vec<ProgramStats> {
        let stats = self.programs.iter().map(|(id, known)| {
            let modes = Mode::ALL.map(|mode| ModeRuns::new(&known.runs, mode));
            ProgramStats {
                program: known.judge.name().to_owned(),
                id: *id,
                hook: self.place_of(*id).map(|place| place.to_string()),
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
