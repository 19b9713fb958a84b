//! What a host counted, as reports and the API show it.
//!
//! Invariant: plain numbers of one moment; nothing here changes or counts.

use serde::Serialize;

use super::counters::{ProgramRuns, Tally};
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
    /// One entry a port.
    pub ports: Vec<PortStats>,
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
}

/// What went through a port: `rx = pass + drop + tx + redirect + aborted + refused`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortStats {
    /// Name of the port.
    pub port: &'static str,
    /// Its number, as programs know interfaces.
    pub ifindex: u32,
    /// Frames received.
    pub rx: u64,
    /// Of the received: handed to the stack.
    pub pass: u64,
    /// Of the received: dropped by a program.
    pub drop: u64,
    /// Of the received: sent back by a program.
    pub tx: u64,
    /// Of the received: sent to a port by a program.
    pub redirect: u64,
    /// Of the received: dropped because the program failed.
    pub aborted: u64,
    /// Of the received: not shown to a program.
    pub refused: u64,
    /// The aborted by their reason.
    pub aborted_by: Aborted,
    /// The refused by their reason.
    pub refused_by: Refused,
    /// Bytes of received frames that a program could see.
    pub rx_bytes: u64,
    /// Frames that the stack answered with.
    pub replies: u64,
    /// Frames of the traffic source.
    pub sent: u64,
    /// Frames that the kernel took for sending: in the end, with the errors, the sum of `tx`, `redirect`, `replies` and
    /// `sent`.
    pub tx_frames: u64,
    /// Bytes of them.
    pub tx_bytes: u64,
    /// Of the sent: in trains, several in one message.
    pub tx_in_trains: u64,
    /// Frames that the kernel would not send.
    pub tx_errors: u64,
    /// Of the received: in trains.
    pub rx_in_trains: u64,
    /// Receives that failed.
    pub rx_errors: u64,
    /// Times the peer was away.
    pub unreachable: u64,
    /// Frames that the kernel dropped before we could take them: too many at once, or from a stranger. Not in `rx`.
    pub socket_drops: u64,
    /// Turns that moved a frame; `rx / turns` is about the length of a burst.
    pub turns: u64,
}

impl PortStats {
    pub(super) fn new(port: &'static str, ifindex: u32, tally: &Tally, socket_drops: u64) -> Self {
        Self {
            port,
            ifindex,
            rx: tally.rx,
            pass: tally.pass,
            drop: tally.drop,
            tx: tally.tx,
            redirect: tally.redirect,
            aborted: tally.aborted,
            refused: tally.refused(),
            aborted_by: Aborted {
                trap: tally.aborted_trap,
                verdict: tally.aborted_verdict,
                target: tally.aborted_target,
                panic: tally.aborted_panic,
            },
            refused_by: Refused { runt: tally.runt, oversize: tally.oversize },
            rx_bytes: tally.rx_bytes,
            replies: tally.replies,
            sent: tally.sent,
            tx_frames: tally.tx_frames,
            tx_bytes: tally.tx_bytes,
            tx_in_trains: tally.tx_in_trains,
            tx_errors: tally.tx_errors,
            rx_in_trains: tally.rx_in_trains,
            rx_errors: tally.rx_errors,
            unreachable: tally.unreachable,
            socket_drops,
            turns: tally.turns,
        }
    }

    /// Whether every received frame is counted once.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.rx == self.pass + self.drop + self.tx + self.redirect + self.aborted + self.refused
    }
}

/// Runs of a program.
#[derive(Clone, Debug, Serialize)]
pub struct ProgramStats {
    /// Its name.
    pub program: String,
    /// Its number on the host.
    pub id: u32,
    /// The hook that it sits on, if any.
    pub hook: Option<&'static str>,
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
