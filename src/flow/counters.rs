//! What workers count.
//!
//! Each worker owns its counters and publishes them once a turn; anyone reads them at any time. A snapshot is one turn's
//! end, so in each `rx = pass + drop + tx + redirect + aborted + refused` holds. After the workers have stopped it also
//! holds that `tx + redirect + replies + sent = tx_frames + tx_errors`.
//!
//! Invariant: a worker never waits for a reader, and writes without a locked instruction.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crossbeam::utils::CachePadded;

use crate::verdict::Verdict;
use crate::vm::Mode;

macro_rules! tally {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// All that one worker counts, or the sum over several.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Tally {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Tally {
            const CELLS: usize = [$(stringify!($field)),*].len();

            fn to_cells(self) -> [u64; Self::CELLS] {
                [$(self.$field),*]
            }

            fn from_cells(cells: [u64; Self::CELLS]) -> Self {
                let [$($field),*] = cells;
                Self { $($field),* }
            }

            /// Adds another worker's.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

tally! {
    /// Frames that came in by the wire.
    rx,
    /// Bytes of those that a program could see.
    rx_bytes,
    /// Frames handed to the stack.
    pass,
    /// Frames dropped by a program.
    drop,
    /// Frames sent back by a program.
    tx,
    /// Frames that a program sent to a port.
    redirect,
    /// Frames dropped because a program failed; the sum of the four below.
    aborted,
    /// Of the aborted: the run trapped.
    aborted_trap,
    /// Of the aborted: the program returned XDP_ABORTED or no verdict at all.
    aborted_verdict,
    /// Of the aborted: it was redirected to a port that the host does not have.
    aborted_target,
    /// Of the aborted: kumite itself failed while it judged.
    aborted_panic,
    /// Frames shorter than an Ethernet header.
    runt,
    /// Frames longer than a chunk takes.
    oversize,
    /// Frames that the stack answered with.
    replies,
    /// Frames taken from the traffic source.
    sent,
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

    /// Whether every received frame is counted once.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let aborted = self.aborted_trap + self.aborted_verdict + self.aborted_target + self.aborted_panic;
        let judged = self.pass + self.drop + self.tx + self.redirect + self.aborted;
        self.rx == judged + self.refused() && self.aborted == aborted
    }
}

/// The tally of one worker as others see it.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Odd while the worker writes.
    sequence: AtomicU64,
    cells: [AtomicU64; Tally::CELLS],
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

/// What one turn adds to a program's counters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TurnRuns {
    verdicts: [u64; Verdict::ALL.len()],
    pub(super) traps: u64,
    pub(super) findings: u64,
    /// Returns that are no answer of the hook.
    pub(super) strange: u64,
}

impl TurnRuns {
    pub(super) fn count(&mut self, verdict: Verdict, runs: u64) {
        self.verdicts[verdict_index(verdict)] += runs;
    }
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

    /// Adds a turn; only the worker itself calls this with its number.
    pub(super) fn add(&self, worker: usize, mode: Mode, turn: &TurnRuns) {
        let cells = &self.workers[worker];
        for (cell, count) in cells.verdicts[mode_index(mode)].iter().zip(turn.verdicts) {
            add_alone(cell, count);
        }
        add_alone(&cells.traps, turn.traps);
        add_alone(&cells.findings, turn.findings);
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
    if count != 0 {
        cell.store(cell.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }
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
                    tally.tx += 1;
                    tally.drop += 1;
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
        let mut turn = TurnRuns::default();
        turn.count(Verdict::Tx, 2);
        turn.count(Verdict::Aborted, 1);
        turn.traps = 1;
        runs.add(0, Mode::Fast, &turn);
        runs.add(1, Mode::Verify, &turn);
        runs.add(1, Mode::Fast, &turn);
        assert_eq!(runs.verdicts(Mode::Fast, Verdict::Tx), 4);
        assert_eq!(runs.verdicts(Mode::Verify, Verdict::Aborted), 1);
        assert_eq!(runs.verdicts(Mode::Instrumented, Verdict::Tx), 0);
        assert_eq!((runs.traps(), runs.findings()), (3, 0));
    }
}
