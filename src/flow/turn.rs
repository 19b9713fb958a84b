//! One turn of a worker: receive a burst, judge each frame where it lies, send, count.
//!
//! Invariant: every received frame is counted exactly once, whatever a program does and even if kumite itself fails
//! while it judges. Nothing here allocates, locks or waits while frames go well; a trap, a finding or a trace line that
//! is told costs its text.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::counters::{Tally, TurnRuns};
use super::events::{Event, Events};
use super::plan::{Attached, Plan};
use super::{Addresses, WIRE_IFINDEX};
use crate::limits::{BURST_MAX, FRAME_LEN_MAX};
use crate::port::{Burst, Frame, Outbox, Pool, Port};
use crate::run::{Context, Run};
use crate::verdict::Verdict;
use crate::vm::Outcome;

/// Watches turns. A watcher that does nothing costs nothing: turns are compiled for each.
pub trait Probe {
    /// Before a frame is judged; its bounds are in the run's window.
    fn arrived(&mut self, run: &Run<'_>);

    /// After a frame was judged; the run holds its bounds as the program left them.
    fn judged(&mut self, run: &Run<'_>, outcome: &Outcome, verdict: Verdict);
}

/// Watches nothing.
#[derive(Debug)]
pub struct NoProbe;

impl Probe for NoProbe {
    #[inline]
    fn arrived(&mut self, _run: &Run<'_>) {}

    #[inline]
    fn judged(&mut self, _run: &Run<'_>, _outcome: &Outcome, _verdict: Verdict) {}
}

/// Why an aborted frame was aborted.
#[derive(Clone, Copy)]
enum Abort {
    Trap,
    Verdict,
    Target,
    Panic,
}

/// What a worker turns with.
pub(super) struct Turn<'w, P> {
    pub(super) port: P,
    pool: Pool,
    outbox: Arc<Outbox>,
    burst: Burst,
    run: Run<'w>,
    events: &'w Events,
    pub(super) tally: Tally,
    /// Where the stack behind PASS looks at a frame: outside the cage, where no program can change it meanwhile.
    copy: Box<[u8; FRAME_LEN_MAX as usize]>,
    /// The frame under judgement, so that a panic does not lose it.
    current: Option<Frame>,
}

impl<'w, P: Port> Turn<'w, P> {
    pub(super) fn new(port: P, pool: Pool, run: Run<'w>, events: &'w Events) -> Self {
        let outbox = Arc::clone(pool.outbox());
        Self {
            port,
            pool,
            outbox,
            burst: Burst::new(),
            run,
            events,
            tally: Tally::default(),
            copy: Box::new([0; FRAME_LEN_MAX as usize]),
            current: None,
        }
    }

    /// Receives a burst, judges it, queues what is to be sent, and says how many frames moved.
    pub(super) fn turn<B: Probe>(&mut self, plan: &Plan, probe: &mut B) -> usize {
        // One pin a burst: whoever deletes a map element or swaps a program waits for this turn at most.
        let _quiet_after = crossbeam::epoch::pin();
        self.port.recv(&mut self.pool, &mut self.burst);
        let refused = self.burst.take_refused();
        self.tally.runt += refused.runt;
        self.tally.oversize += refused.oversize;
        let arrived = self.burst.count();
        self.tally.rx += arrived as u64 + refused.total();
        if arrived > 0 {
            match &plan.xdp {
                Some(attached) => self.judge_burst(attached, plan, probe),
                None => {
                    while let Some(frame) = self.burst.take() {
                        self.tally.rx_bytes += u64::from(frame.len());
                        self.tally.pass += 1;
                        self.pass(frame, &plan.responder);
                    }
                }
            }
        }
        let sent = self.send_from_outbox();
        self.copy_port_counts();
        let moved = arrived + sent + usize::from(refused.total() > 0);
        self.tally.turns += u64::from(moved > 0);
        moved
    }

    fn judge_burst<B: Probe>(&mut self, attached: &Attached, plan: &Plan, probe: &mut B) {
        let mut runs = TurnRuns::default();
        self.run.kind = attached.judge.kind();
        while self.burst.count() > 0 {
            let judged = catch_unwind(AssertUnwindSafe(|| {
                while let Some(frame) = self.burst.take() {
                    self.judge(frame, attached, plan, &mut runs, probe);
                }
            }));
            if let Err(panic) = judged {
                self.judged_in_panic(&*panic, &mut runs);
            }
        }
        let worker = self.run.head.worker as usize;
        attached.runs.add(worker, attached.mode, &runs);
    }

    fn judge<B: Probe>(&mut self, frame: Frame, attached: &Attached, plan: &Plan, runs: &mut TurnRuns, probe: &mut B) {
        self.tally.rx_bytes += u64::from(frame.len());
        let window = self.pool.window(&frame);
        self.current = Some(frame);
        let run = &mut self.run;
        run.reset(plan.fuel);
        run.window = window;
        Context::write(run).expect("a worker's context area is writable for as long as the worker lives");
        probe.arrived(run);
        let outcome = attached.judge.judge(attached.mode, run);
        let verdict = if outcome.trap.is_some() {
            Verdict::Aborted
        } else {
            // The low half of r0 counts.
            Verdict::of(run.kind, u32::try_from(outcome.r0 & 0xffff_ffff).expect("masked"))
        };
        probe.judged(run, &outcome, verdict);
        if outcome.trap.is_some() || !run.findings.is_empty() {
            self.tell(attached, &outcome, runs);
        }
        runs.count(verdict);
        let frame = self.current.take().expect("put there above");
        let frame = self.pool.moved(frame, &self.run.window);
        match verdict {
            Verdict::Pass => {
                self.tally.pass += 1;
                self.pass(frame, &plan.responder);
            }
            Verdict::Drop => {
                self.tally.drop += 1;
                self.pool.release(frame);
            }
            Verdict::Tx => {
                self.tally.tx += 1;
                self.port.send(&mut self.pool, frame);
            }
            Verdict::Redirect => self.redirect(frame),
            Verdict::Aborted => {
                self.abort(frame, if outcome.trap.is_some() { Abort::Trap } else { Abort::Verdict });
            }
        }
    }

    fn redirect(&mut self, frame: Frame) {
        match self.run.redirect {
            Some(target) if target.ifindex == WIRE_IFINDEX => {
                self.tally.redirect += 1;
                self.port.send(&mut self.pool, frame);
            }
            Some(_) | None => self.abort(frame, Abort::Target),
        }
    }

    fn abort(&mut self, frame: Frame, why: Abort) {
        self.tally.aborted += 1;
        match why {
            Abort::Trap => self.tally.aborted_trap += 1,
            Abort::Verdict => self.tally.aborted_verdict += 1,
            Abort::Target => self.tally.aborted_target += 1,
            Abort::Panic => self.tally.aborted_panic += 1,
        }
        self.pool.release(frame);
    }

    /// Hands a frame to the stack, which may answer in the same chunk.
    fn pass(&mut self, frame: Frame, responder: &Addresses) {
        if frame.len() > FRAME_LEN_MAX {
            return self.pool.release(frame);
        }
        let len = self.pool.read(&frame, &mut self.copy[..]);
        match responder.answer(&mut self.copy[..], len) {
            Some(len) => {
                let reply = self.pool.rewrite(frame, &self.copy[..len]);
                self.tally.replies += 1;
                self.port.send(&mut self.pool, reply);
            }
            None => self.pool.release(frame),
        }
    }

    #[cold]
    fn tell(&self, attached: &Attached, outcome: &Outcome, runs: &mut TurnRuns) {
        let program = || attached.judge.name().to_owned();
        if let Some(trap) = &outcome.trap {
            if runs.traps == 0 {
                self.events.tell(Event::Trap { program: program(), text: trap.to_string() });
            }
            runs.traps += 1;
        }
        if runs.findings == 0 {
            for finding in &self.run.findings {
                self.events.tell(Event::Finding { program: program(), text: finding.to_string() });
            }
        }
        runs.findings += self.run.findings.len() as u64;
    }

    #[cold]
    fn judged_in_panic(&mut self, panic: &(dyn Any + Send), runs: &mut TurnRuns) {
        let worker = self.run.head.worker;
        self.events.tell(Event::Panic { worker, text: panic_text(panic) });
        if let Some(frame) = self.current.take() {
            runs.count(Verdict::Aborted);
            self.abort(frame, Abort::Panic);
        }
    }

    fn send_from_outbox(&mut self) -> usize {
        let mut count = 0;
        while count < BURST_MAX
            && let Some(frame) = self.outbox.take()
        {
            self.port.send(&mut self.pool, frame);
            count += 1;
        }
        self.tally.sent += count as u64;
        count
    }

    fn copy_port_counts(&mut self) {
        let counts = self.port.counts();
        self.tally.tx_frames = counts.tx_frames;
        self.tally.tx_bytes = counts.tx_bytes;
        self.tally.tx_in_trains = counts.tx_in_trains;
        self.tally.tx_errors = counts.tx_errors;
        self.tally.rx_in_trains = counts.rx_in_trains;
        self.tally.rx_errors = counts.rx_errors;
        self.tally.unreachable = counts.unreachable;
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(super) fn wait(&mut self, timeout: std::time::Duration) {
        self.port.wait(&mut self.pool, timeout);
    }

    /// Sends what is queued and closes the port.
    pub(super) fn close(&mut self) {
        self.port.close(&mut self.pool);
        self.copy_port_counts();
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}
