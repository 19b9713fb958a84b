//! What workers count.
//!
//! Each worker owns its counters and publishes them once a turn; anyone reads them at any time. A snapshot of a port is one
//! turn's end, so in each [`Tally::is_balanced`] holds; after the workers have stopped [`Tally::has_all_left`] does too.
//!
//! Invariant: a worker never waits for a reader, and writes without a locked instruction.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, PoisonError};

use crossbeam::utils::CachePadded;

use super::Hook;
use super::relay::Entry;
use crate::verdict::Verdict;
use crate::vm::Mode;

/// What became of a frame at a hook, or at the stack behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Onward.
    Pass,
    /// Dropped by a program.
    Drop,
    /// Sent back by a program.
    Tx,
    /// Sent to a port by a program.
    Redirect,
    /// Aborted: the run trapped.
    Trap,
    /// Aborted: the program returned XDP_ABORTED or no verdict at all.
    Verdict,
    /// Aborted: it was redirected to a port that the host does not have.
    Target,
    /// Aborted: kumite itself failed while it judged.
    Panic,
    /// Aborted: the worker that drives the port it was for has no room.
    Room,
    /// Aborted: it was redirected from port to port more than [`crate::limits::HOPS_MAX`] times.
    Hops,
}

/// How many fates there are.
const FATES: usize = 10;

/// Frames at one hook of a port, by what became of them. Frames that no program judged are none of them, unless something
/// failed behind the hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookTally([u64; FATES]);

impl HookTally {
    /// Counts a frame.
    #[inline]
    pub(super) fn count(&mut self, fate: Fate) {
        self.0[fate as usize] += 1;
    }

    /// Frames with this fate.
    #[must_use]
    pub fn of(&self, fate: Fate) -> u64 {
        self.0[fate as usize]
    }

    /// Frames that programs failed on, for whatever reason.
    #[must_use]
    pub fn aborted(&self) -> u64 {
        self.0[Fate::Trap as usize..].iter().sum()
    }

    /// Frames that went no further on their way.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.0[Fate::Drop as usize..].iter().sum()
    }
}

macro_rules! tally {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// All that one worker counts of one port, or the sum over several.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Tally {
            $($(#[$doc])* pub $field: u64,)*
            /// What became of frames at each hook, in the order of [`Hook::ALL`].
            pub hooks: [HookTally; Hook::ALL.len()],
        }

        impl Tally {
            const PLAIN_CELLS: usize = [$(stringify!($field)),*].len();
            const CELLS: usize = Self::PLAIN_CELLS + Hook::ALL.len() * FATES;

            fn to_cells(self) -> [u64; Self::CELLS] {
                let mut cells = [0; Self::CELLS];
                let (plain, hooks) = cells.split_at_mut(Self::PLAIN_CELLS);
                plain.copy_from_slice(&[$(self.$field),*]);
                for (cells, hook) in hooks.chunks_exact_mut(FATES).zip(&self.hooks) {
                    cells.copy_from_slice(&hook.0);
                }
                cells
            }

            fn from_cells(cells: [u64; Self::CELLS]) -> Self {
                let mut cells = cells.into_iter();
                let mut next = || cells.next().expect("as many cells as counters");
                // In the order of `to_cells`.
                Self { $($field: next(),)* hooks: std::array::from_fn(|_| HookTally(std::array::from_fn(|_| next()))) }
            }

            /// Adds another worker's.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
                for (own, other) in self.hooks.iter_mut().zip(&other.hooks) {
                    own.0.iter_mut().zip(other.0).for_each(|(own, other)| *own += other);
                }
            }
        }
    };
}

tally! {
    /// Frames that came in by the port.
    rx,
    /// Bytes of those that a program could see.
    rx_bytes,
    /// Frames shorter than an Ethernet header.
    runt,
    /// Frames longer than a chunk takes.
    oversize,
    /// Frames that programs sent to the port's ingress, as if they had come in there.
    reentered,
    /// Frames handed on behind the hooks: to the stack, or from the stack port to the wire.
    pass,
    /// Frames to leave that programs sent here.
    redirected,
    /// Frames to leave that another port passed on.
    forwarded,
    /// Frames to leave that the built-in responder made.
    replies,
    /// Frames to leave that were taken from the traffic source.
    sent,
    /// Copies that programs sent to ports beside the frames of this one.
    copies,
    /// Copies that nobody got: there was no such port, or no room.
    copies_lost,
    /// Frames to leave that were given up before the driver had them.
    given_up,
    /// Frames that the kernel took for sending.
    tx_frames,
    /// Bytes of them.
    tx_bytes,
    /// Of the sent: in trains.
    tx_in_trains,
    /// Frames that the kernel would not send.
    tx_errors,
    /// Of the received: in trains.
    rx_in_trains,
    /// Receives that failed.
    rx_errors,
    /// Frames that the port's record or trace lacks.
    unrecorded,
    /// Frames that were lost before the port could take them.
    dropped,
    /// Times the peer was away.
    unreachable,
    /// Turns that moved a frame.
    turns,
}

impl Tally {
    /// Frames that no program saw.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.runt + self.oversize
    }

    /// What became of frames at a hook.
    #[must_use]
    pub fn hook(&self, hook: Hook) -> &HookTally {
        &self.hooks[hook.index()]
    }

    /// Frames with this fate on their way in.
    #[must_use]
    pub fn inward(&self, fate: Fate) -> u64 {
        self.hook(Hook::Xdp).of(fate) + self.hook(Hook::TcIngress).of(fate)
    }

    /// Counts a frame that a program sent here and that found no room or nobody.
    pub(super) fn lose_way(&mut self, entry: Entry) {
        match entry {
            Entry::Ingress => {
                self.reentered += 1;
                self.hooks[Hook::TcIngress.index()].count(Fate::Room);
            }
            Entry::Redirected | Entry::Out => {
                self.redirected += 1;
                self.given_up += 1;
            }
            Entry::Forwarded => {
                self.forwarded += 1;
                self.given_up += 1;
            }
        }
    }

    /// Whether every frame that came in is counted once.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let ended = self.hook(Hook::Xdp).ended() + self.hook(Hook::TcIngress).ended();
        self.rx + self.reentered == self.refused() + self.pass + ended
    }

    /// Frames that were to leave by the port.
    #[must_use]
    pub fn outward(&self) -> u64 {
        self.inward(Fate::Tx) + self.redirected + self.forwarded + self.replies + self.sent
    }

    /// Whether every frame that was to leave has left or failed; so after the workers have stopped.
    #[must_use]
    pub fn has_all_left(&self) -> bool {
        self.outward() == self.hook(Hook::TcEgress).ended() + self.given_up + self.tx_frames + self.tx_errors
    }
}

/// What all workers count of one port, as others see it.
#[derive(Debug)]
pub(super) struct PortBook {
    workers: Box<[CachePadded<Published>]>,
    /// Frames that were on the way from one worker to another when all ended.
    left_over: Mutex<Tally>,
}

impl PortBook {
    pub(super) fn new(worker_count: u32) -> Self {
        Self { workers: (0..worker_count).map(|_| CachePadded::default()).collect(), left_over: Mutex::default() }
    }

    /// The cells of one worker.
    pub(super) fn of_worker(&self, worker: usize) -> &Published {
        &self.workers[worker]
    }

    /// The sum over all workers.
    pub(super) fn sum(&self) -> Tally {
        let mut sum = *self.left_over.lock().unwrap_or_else(PoisonError::into_inner);
        self.workers.iter().for_each(|worker| sum.add(&worker.read()));
        sum
    }

    /// Counts a frame that nobody is left to take.
    pub(super) fn leave_over(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.left_over.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The tally of one worker as others see it.
#[derive(Debug)]
pub(super) struct Published {
    /// Odd while the worker writes.
    sequence: AtomicU64,
    cells: [AtomicU64; Tally::CELLS],
}

impl Default for Published {
    fn default() -> Self {
        Self { sequence: AtomicU64::new(0), cells: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Published {
    /// Publishes the worker's tally; only the worker itself calls this.
    pub(super) fn publish(&self, tally: &Tally) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (cell, value) in self.cells.iter().zip(tally.to_cells()) {
            cell.store(value, Ordering::Relaxed);
        }
        self.sequence.store(sequence + 2, Ordering::Release);
    }

    /// The tally as it was at the end of some turn.
    pub(super) fn read(&self) -> Tally {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            let cells = std::array::from_fn(|index| self.cells[index].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before {
                return Tally::from_cells(cells);
            }
            std::hint::spin_loop();
        }
    }
}

/// Verdicts of a program's runs, by mode.
#[derive(Debug, Default)]
struct ProgramCells {
    verdicts: [[AtomicU64; Verdict::ALL.len()]; Mode::ALL.len()],
    traps: AtomicU64,
    findings: AtomicU64,
}

/// Runs of a program on all workers.
#[derive(Debug)]
pub(super) struct ProgramRuns {
    workers: Box<[CachePadded<ProgramCells>]>,
}

impl ProgramRuns {
    pub(super) fn new(worker_count: u32) -> Self {
        Self { workers: (0..worker_count).map(|_| CachePadded::default()).collect() }
    }

    /// Counts a run; only the worker itself calls this with its number, as the two below.
    #[inline]
    pub(super) fn count(&self, worker: usize, mode: Mode, verdict: Verdict) {
        add_alone(&self.workers[worker].verdicts[mode_index(mode)][verdict_index(verdict)], 1);
    }

    pub(super) fn count_trap(&self, worker: usize) {
        add_alone(&self.workers[worker].traps, 1);
    }

    pub(super) fn count_findings(&self, worker: usize, count: u64) {
        add_alone(&self.workers[worker].findings, count);
    }

    /// Runs that ended with this verdict in this mode.
    pub(super) fn verdicts(&self, mode: Mode, verdict: Verdict) -> u64 {
        self.sum(|cells| &cells.verdicts[mode_index(mode)][verdict_index(verdict)])
    }

    pub(super) fn traps(&self) -> u64 {
        self.sum(|cells| &cells.traps)
    }

    pub(super) fn findings(&self) -> u64 {
        self.sum(|cells| &cells.findings)
    }

    fn sum(&self, cell: impl Fn(&ProgramCells) -> &AtomicU64) -> u64 {
        self.workers.iter().map(|cells| cell(cells).load(Ordering::Relaxed)).sum()
    }
}

/// Adds to a cell that nobody else writes.
fn add_alone(cell: &AtomicU64, count: u64) {
    cell.store(cell.load(Ordering::Relaxed) + count, Ordering::Relaxed);
}

fn verdict_index(verdict: Verdict) -> usize {
    match verdict {
        Verdict::Pass => 0,
        Verdict::Drop => 1,
        Verdict::Tx => 2,
        Verdict::Redirect => 3,
        Verdict::Aborted => 4,
    }
}

fn mode_index(mode: Mode) -> usize {
    match mode {
        Mode::Fast => 0,
        Mode::Instrumented => 1,
        Mode::Verify => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn every_snapshot_under_way_is_balanced() {
        let published = Arc::new(CachePadded::new(Published::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let (published, stop) = (Arc::clone(&published), Arc::clone(&stop));
            move || {
                let mut tally = Tally::default();
                while !stop.load(Ordering::Relaxed) {
                    tally.rx += 3;
                    tally.pass += 1;
                    tally.hooks[0].count(Fate::Tx);
                    tally.hooks[1].count(Fate::Hops);
                    published.publish(&tally);
                }
                tally
            }
        });
        let mut last = Tally::default();
        while last.rx < 300_000 {
            let tally = published.read();
            assert!(tally.is_balanced(), "{tally:?}");
            assert!(tally.rx >= last.rx && tally.rx % 3 == 0, "{tally:?}");
            last = tally;
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(writer.join().expect("counts"), published.read());
    }

    #[test]
    fn runs_are_kept_by_mode_and_verdict() {
        let runs = ProgramRuns::new(2);
        for (worker, mode) in [(0, Mode::Fast), (1, Mode::Verify), (1, Mode::Fast)] {
            runs.count(worker, mode, Verdict::Tx);
            runs.count(worker, mode, Verdict::Tx);
            runs.count(worker, mode, Verdict::Aborted);
            runs.count_trap(worker);
        }
        runs.count_findings(0, 2);
        assert_eq!(runs.verdicts(Mode::Fast, Verdict::Tx), 4);
        assert_eq!(runs.verdicts(Mode::Verify, Verdict::Aborted), 1);
        assert_eq!(runs.verdicts(Mode::Instrumented, Verdict::Tx), 0);
        assert_eq!((runs.traps(), runs.findings()), (3, 2));
    }
}
