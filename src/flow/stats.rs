//! What a host counted, as reports and the API show it.
//!
//! Invariant: plain numbers of one moment; nothing here changes or counts.

use serde::Serialize;

use super::Hook;
use super::counters::{Fate, HookTally, ProgramRuns, Tally};
use crate::port::Refused;
use crate::verdict::Verdict;
use crate::vm::Mode;

/// What a host counted since it was started.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// Name of the host.
    pub host: String,
    /// Workers, and how many of them still run.
    pub workers: u32,
    /// Workers that still run.
    pub workers_alive: u32,
    /// One entry a port, the wire first.
    pub ports: Vec<PortStats>,
    /// The sum over the ports that were removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<PortStats>,
    /// One entry for each program that is or was attached.
    pub programs: Vec<ProgramStats>,
    /// Events that made room for newer ones because nobody read them in time.
    pub events_lost: u64,
    /// Traps and findings that are in the counts of their programs alone: of a turn, those of one run are told.
    pub events_untold: u64,
    /// One entry for each ring buffer and perf event array.
    pub records: Vec<RecordStats>,
}

/// Records that programs sent to a map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordStats {
    /// Name of the map.
    pub map: String,
    /// Its number on the host.
    pub id: u32,
    /// Object that it came from.
    pub object: String,
    /// Records that found the map full: the helper refused them.
    pub lost: u64,
}

/// Why frames were aborted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Aborted {
    /// The run trapped.
    pub trap: u64,
    /// The program returned XDP_ABORTED or no verdict at all.
    pub verdict: u64,
    /// It was redirected to a port that the host does not have.
    pub target: u64,
    /// Kumite itself failed while it judged.
    pub panic: u64,
    /// The worker that drives the port it was for had no room.
    pub room: u64,
    /// It was redirected from port to port too often.
    pub hops: u64,
}

impl Aborted {
    fn new(count: impl Fn(Fate) -> u64) -> Self {
        Self {
            trap: count(Fate::Trap),
            verdict: count(Fate::Verdict),
            target: count(Fate::Target),
            panic: count(Fate::Panic),
            room: count(Fate::Room),
            hops: count(Fate::Hops),
        }
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.trap + self.verdict + self.target + self.panic + self.room + self.hops
    }
}

/// A program of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookProgram {
    /// Its name.
    pub program: String,
    /// Its number.
    pub id: u32,
    /// Lower ones run first.
    pub priority: u32,
    /// On xdp: verdicts after which the next one runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<String>,
}

/// What became of frames at a hook, and who judges there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookStats {
    /// Its name.
    pub hook: &'static str,
    /// The programs on it, in the order in which they run.
    pub programs: Vec<HookProgram>,
    /// Frames that went on behind a program.
    pub pass: u64,
    /// Frames dropped.
    pub drop: u64,
    /// Frames sent back.
    pub tx: u64,
    /// Frames sent to a port.
    pub redirect: u64,
    /// Frames aborted, here or, without a program, in the stack behind.
    pub aborted: u64,
    /// The aborted by their reason.
    pub aborted_by: Aborted,
}

impl HookStats {
    pub(super) fn new(hook: Hook, programs: Vec<HookProgram>, tally: &HookTally) -> Self {
        Self {
            hook: hook.name(),
            programs,
            pass: tally.of(Fate::Pass),
            drop: tally.of(Fate::Drop),
            tx: tally.of(Fate::Tx),
            redirect: tally.of(Fate::Redirect),
            aborted: tally.aborted(),
            aborted_by: Aborted::new(|fate| tally.of(fate)),
        }
    }

    /// Frames that went no further here.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.drop + self.tx + self.redirect + self.aborted
    }
}

/// What went through a port: `rx + reentered = pass + drop + tx + redirect + aborted + refused`, and in the end
/// `tx + redirected + forwarded + replies + sent = egress_ended + tx_frames + tx_errors`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortStats {
    /// Name of the port.
    pub port: String,
    /// Its number, as programs know interfaces.
    pub ifindex: u32,
    /// What it was asked for as.
    pub spec: String,
    /// Which path moves its frames and why.
    pub path: String,
    /// Workers that drive it.
    pub drivers: u32,
    /// Whether its wire has gone for good.
    pub is_gone: bool,
    /// Frames received.
    pub rx: u64,
    /// Frames that programs sent to its ingress.
    pub reentered: u64,
    /// Of those that came in: handed on behind the hooks, to the stack or from the stack to the wire.
    pub pass: u64,
    /// Of those that came in: dropped by a program.
    pub drop: u64,
    /// Of those that came in: sent back by a program.
    pub tx: u64,
    /// Of those that came in: sent to a port by a program.
    pub redirect: u64,
    /// Of those that came in: dropped because the program failed.
    pub aborted: u64,
    /// Of the received: not shown to a program.
    pub refused: u64,
    /// The aborted by their reason.
    pub aborted_by: Aborted,
    /// The refused by their reason.
    pub refused_by: Refused,
    /// Its hooks.
    pub hooks: Vec<HookStats>,
    /// Bytes of received frames that a program could see.
    pub rx_bytes: u64,
    /// Frames to leave that programs sent here, from this port or another.
    pub redirected: u64,
    /// Frames to leave that another port passed on: the stack's to the wire, all others to the stack.
    pub forwarded: u64,
    /// Frames to leave that the built-in responder made.
    pub replies: u64,
    /// Frames to leave of the traffic source.
    pub sent: u64,
    /// Copies that programs sent to ports beside the frames of this one.
    pub copies: u64,
    /// Copies that nobody got.
    pub copies_lost: u64,
    /// Of the frames to leave: ended on tc egress.
    pub egress_ended: u64,
    /// Frames that the kernel took for sending.
    pub tx_frames: u64,
    /// Bytes of them.
    pub tx_bytes: u64,
    /// Of the sent: in trains, several in one message.
    pub tx_in_trains: u64,
    /// Frames that the kernel would not send, or that were given up before.
    pub tx_errors: u64,
    /// Of the received: in trains.
    pub rx_in_trains: u64,
    /// Receives that failed.
    pub rx_errors: u64,
    /// Frames that the port's record or trace lacks.
    pub unrecorded: u64,
    /// Times the peer was away.
    pub unreachable: u64,
    /// Frames that were dropped before we could take them: too many at once, or from a stranger. Not in `rx`. A busy
    /// worker asks its ports now and then.
    pub socket_drops: u64,
    /// Turns that moved a frame; `rx / turns` is about the length of a burst.
    pub turns: u64,
}

/// What there is to say of a port beside its counts.
#[derive(Clone, Debug, Default)]
pub(super) struct PortFacts {
    pub(super) port: String,
    pub(super) ifindex: u32,
    pub(super) spec: String,
    pub(super) path: String,
    pub(super) drivers: u32,
    pub(super) is_gone: bool,
    pub(super) programs: [Vec<HookProgram>; Hook::ALL.len()],
}

impl PortStats {
    pub(super) fn new(facts: PortFacts, tally: &Tally) -> Self {
        let PortFacts { port, ifindex, spec, path, drivers, is_gone, programs } = facts;
        let hooks = Hook::ALL.into_iter().zip(programs);
        Self {
            port,
            ifindex,
            spec,
            path,
            drivers,
            is_gone,
            rx: tally.rx,
            reentered: tally.reentered,
            pass: tally.pass,
            drop: tally.inward(Fate::Drop),
            tx: tally.inward(Fate::Tx),
            redirect: tally.inward(Fate::Redirect),
            aborted: tally.hook(Hook::Xdp).aborted() + tally.hook(Hook::TcIngress).aborted(),
            refused: tally.refused(),
            aborted_by: Aborted::new(|fate| tally.inward(fate)),
            refused_by: Refused { runt: tally.runt, oversize: tally.oversize },
            hooks: hooks.map(|(hook, programs)| HookStats::new(hook, programs, tally.hook(hook))).collect(),
            rx_bytes: tally.rx_bytes,
            redirected: tally.redirected,
            forwarded: tally.forwarded,
            replies: tally.replies,
            sent: tally.sent,
            copies: tally.copies,
            copies_lost: tally.copies_lost,
            egress_ended: tally.hook(Hook::TcEgress).ended(),
            tx_frames: tally.tx_frames,
            tx_bytes: tally.tx_bytes,
            tx_in_trains: tally.tx_in_trains,
            tx_errors: tally.tx_errors + tally.given_up,
            rx_in_trains: tally.rx_in_trains,
            rx_errors: tally.rx_errors,
            unrecorded: tally.unrecorded,
            unreachable: tally.unreachable,
            socket_drops: tally.dropped,
            turns: tally.turns,
        }
    }

    /// Whether every frame that came in is counted once.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.rx + self.reentered == self.pass + self.drop + self.tx + self.redirect + self.aborted + self.refused
    }

    /// Whether every frame that was to leave has left or failed; so after the workers have stopped.
    #[must_use]
    pub fn has_all_left(&self) -> bool {
        let outward = self.tx + self.redirected + self.forwarded + self.replies + self.sent;
        outward == self.egress_ended + self.tx_frames + self.tx_errors
    }
}

impl Stats {
    /// Whether every frame stands in the books once: at each port, and on the way from one to another. So after the workers
    /// have stopped, or while nothing is under way.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let ports = || self.ports.iter().chain(&self.removed);
        let sum = |count: fn(&PortStats) -> u64| ports().map(count).sum::<u64>();
        let egress_redirect = |port: &PortStats| port.hooks[Hook::TcEgress.index()].redirect;
        let went = sum(|port| port.redirect + port.copies) + ports().map(egress_redirect).sum::<u64>();
        ports().all(|port| port.is_balanced() && port.has_all_left())
            && went == sum(|port| port.redirected + port.reentered)
    }
}

/// Runs of a program.
#[derive(Clone, Debug, Serialize)]
pub struct ProgramStats {
    /// Its name.
    pub program: String,
    /// Its number on the host.
    pub id: u32,
    /// The hook that it sits on, if any; the first of several.
    pub hook: Option<String>,
    /// The mode in which it runs.
    pub mode: &'static str,
    /// Runs that began in it, on its hook.
    pub runs: u64,
    /// Runs of other programs that went on in it by a tail call, in instrumented and verify mode: fast mode does not count
    /// them. Verdict, traps and findings of such a run are those of the program that it began in.
    pub tail_runs: u64,
    /// Runs that trapped.
    pub traps: u64,
    /// What verify mode noticed.
    pub findings: u64,
    /// Runs by mode and verdict; modes in which it never ran are left out.
    pub modes: Vec<ModeRuns>,
}

/// Runs of a program in one mode, by verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ModeRuns {
    /// Name of the mode.
    pub mode: &'static str,
    /// Frames handed on.
    pub pass: u64,
    /// Frames dropped.
    pub drop: u64,
    /// Frames sent back.
    pub tx: u64,
    /// Frames redirected, known target or not.
    pub redirect: u64,
    /// Runs that failed.
    pub aborted: u64,
}

impl ModeRuns {
    pub(super) fn new(runs: &ProgramRuns, mode: Mode) -> Self {
        let count = |verdict| runs.verdicts(mode, verdict);
        Self {
            mode: mode.name(),
            pass: count(Verdict::Pass),
            drop: count(Verdict::Drop),
            tx: count(Verdict::Tx),
            redirect: count(Verdict::Redirect),
            aborted: count(Verdict::Aborted),
        }
    }

    /// Runs in this mode, all in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.pass + self.drop + self.tx + self.redirect + self.aborted
    }
}
