//! One turn of a worker: receive a burst, judge each frame where it lies, send, count.
//!
//! Invariant: every received frame is counted exactly once, whatever a program does and even if kumite itself fails
//! while it judges. Nothing here allocates, locks or waits while frames go well, beyond what the helpers of a program do, but
//! for a timer that is due: it costs a lock and the key that its function is given. A trap, a finding or a trace line that is
//! told costs its text.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::counters::{Tally, TurnRuns};
use super::events::{Event, Events};
use super::plan::{Attached, Plan};
use super::{Addresses, WIRE_IFINDEX};
use crate::limits::{BURST_MAX, FRAME_LEN_MAX, LONG_RUN_SLOTS, TURN_TIMERS_MAX};
use crate::port::{Burst, Frame, Outbox, Pool, Port};
use crate::run::{Context, Run};
use crate::verdict::Verdict;
use crate::vm::{Mode, Outcome, fire};

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

/// Why a frame is in `current`.
const IN_PLACE: &str = "a frame stays in place until it is handed on";

/// Why an aborted frame was aborted.
#[derive(Clone, Copy)]
enum Abort {
    Trap,
    Verdict,
    Target,
    Panic,
}

/// Whether the stack behind PASS answers.
enum Answer {
    /// The frame holds the answer now.
    Reply,
    Silence,
}

/// How long a frame took.
#[derive(PartialEq, Eq)]
enum Pace {
    Short,
    /// So long that the worker looks around before the next one.
    Long,
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
    /// The frame under judgement, from when it is taken out of the burst until it is counted and handed on, so that a
    /// panic does not lose it.
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
    ///
    /// After a frame that took long, asks `called` whether the worker is wanted elsewhere, and leaves the frames behind it
    /// to the next turn then: a frame is counted as received when it is judged.
    pub(super) fn turn<B: Probe>(&mut self, plan: &Plan, probe: &mut B, called: impl Fn() -> bool) -> usize {
        // One pin a burst: whoever deletes a map element or swaps a program waits for this turn at most.
        self.run.begin_burst();
        self.port.recv(&mut self.pool, &mut self.burst);
        let refused = self.burst.take_refused();
        self.tally.runt += refused.runt;
        self.tally.oversize += refused.oversize;
        self.tally.rx += refused.total();
        let waiting = self.burst.count();
        if waiting > 0 {
            match &plan.xdp {
                Some(attached) => self.judge_burst(attached, plan, probe, called),
                None => {
                    self.each_frame(called, |turn| {
                        let answer = turn.answer(&plan.responder);
                        let frame = turn.hand_on();
                        turn.pass(frame, &answer);
                        Pace::Short
                    });
                }
            }
        }
        let judged = waiting - self.burst.count();
        let sent = self.send_from_outbox();
        self.copy_port_counts();
        self.run.end_burst();
        let moved = judged + sent + usize::from(refused.total() > 0);
        self.tally.turns += u64::from(moved > 0);
        moved
    }

    /// Calls the functions of programs' timers that are due; says how many. All of them share the fuel of one run, and after
    /// one that took long `called` says whether the worker is wanted elsewhere: timers keep nobody from frames or changes.
    pub(super) fn fire_timers(&mut self, plan: &Plan, called: impl Fn() -> bool) -> usize {
        let world = self.run.world;
        // Most hosts have no timers, and those that have none due read a clock here and nothing more.
        let soonest = world.timers.soonest_ns();
        if soonest == u64::MAX || soonest > world.clock.now_ns() {
            return 0;
        }
        let _quiet_after = crossbeam::epoch::pin();
        let mode = plan.xdp.as_ref().map_or(Mode::Fast, |attached| attached.mode);
        let mut fuel = plan.fuel;
        let mut count = 0;
        while count < TURN_TIMERS_MAX && fuel > 0 {
            match catch_unwind(AssertUnwindSafe(|| fire(&mut self.run, mode, fuel))) {
                Ok(None) => break,
                Ok(Some((program, outcome))) => {
                    self.tell_of_timer(program.linked().program().name(), &outcome);
                    let used = fuel - outcome.fuel_left;
                    fuel = outcome.fuel_left;
                    if used >= LONG_RUN_SLOTS && called() {
                        break;
                    }
                }
                Err(panic) => {
                    let worker = self.run.head.worker;
                    self.events.tell(Event::Panic { worker, text: panic_text(&*panic) });
                }
            }
            count += 1;
        }
        count
    }

    fn tell_of_timer(&self, program: &str, outcome: &Outcome) {
        if let Some(trap) = &outcome.trap {
            self.events.tell(Event::Trap { program: program.to_owned(), text: trap.to_string() });
        }
        for finding in &self.run.findings {
            self.events.tell(Event::Finding { program: program.to_owned(), text: finding.to_string() });
        }
    }

    /// How long the next timer of a program is away; a long time where there is none.
    pub(super) fn until_timer(&self) -> Duration {
        let world = self.run.world;
        let soonest = world.timers.soonest_ns();
        if soonest == u64::MAX {
            return Duration::MAX;
        }
        Duration::from_nanos(soonest.saturating_sub(world.clock.now_ns()))
    }

    fn judge_burst<B: Probe>(&mut self, attached: &Attached, plan: &Plan, probe: &mut B, called: impl Fn() -> bool) {
        let mut runs = TurnRuns::default();
        self.run.kind = attached.judge.kind();
        let lost = self.each_frame(called, |turn| turn.judge(attached, plan, &mut runs, probe));
        runs.count(Verdict::Aborted, lost);
        let worker = self.run.head.worker as usize;
        attached.runs.add(worker, attached.mode, &runs);
    }

    /// Takes frame after frame out of the burst for `one` to judge and hand on. A panic costs the frame in `current`; says
    /// how many it cost.
    fn each_frame(&mut self, called: impl Fn() -> bool, mut one: impl FnMut(&mut Self) -> Pace) -> u64 {
        let mut lost = 0;
        loop {
            let left = catch_unwind(AssertUnwindSafe(|| {
                while let Some(frame) = self.burst.take() {
                    self.tally.rx += 1;
                    self.tally.rx_bytes += u64::from(frame.len());
                    self.current = Some(frame);
                    if one(self) == Pace::Long && called() {
                        return;
                    }
                }
            }));
            match left {
                Ok(()) => return lost,
                Err(panic) => lost += self.lose(&*panic),
            }
        }
    }

    fn judge<B: Probe>(&mut self, attached: &Attached, plan: &Plan, runs: &mut TurnRuns, probe: &mut B) -> Pace {
        let frame = self.current.as_ref().expect(IN_PLACE);
        let run = &mut self.run;
        run.reset(plan.fuel);
        run.window = self.pool.window(frame);
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
        if verdict == Verdict::Aborted && outcome.trap.is_none() {
            self.tell_of_verdict(attached, &outcome, runs);
        }
        self.pool.follow(self.current.as_mut().expect(IN_PLACE), &self.run.window);
        let answer = if verdict == Verdict::Pass { self.answer(&plan.responder) } else { Answer::Silence };
        // Nothing judges any more.
        runs.count(verdict, 1);
        let frame = self.hand_on();
        match verdict {
            Verdict::Pass => self.pass(frame, &answer),
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
        if outcome.fuel_left <= plan.fuel.saturating_sub(LONG_RUN_SLOTS) { Pace::Long } else { Pace::Short }
    }

    fn hand_on(&mut self) -> Frame {
        self.current.take().expect(IN_PLACE)
    }

    fn redirect(&mut self, frame: Frame) {
        if self.run.redirects_to(WIRE_IFINDEX) {
            self.tally.redirect += 1;
            self.port.send(&mut self.pool, frame);
        } else {
            self.abort(frame, Abort::Target);
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

    /// Shows the frame in `current` to the stack, which may put an answer in its place.
    fn answer(&mut self, responder: &Addresses) -> Answer {
        let frame = self.current.as_mut().expect(IN_PLACE);
        if frame.len() > FRAME_LEN_MAX {
            return Answer::Silence;
        }
        let len = self.pool.read(frame, &mut self.copy[..]);
        match responder.answer(&mut self.copy[..], len) {
            Some(len) => {
                self.pool.rewrite(frame, &self.copy[..len]);
                Answer::Reply
            }
            None => Answer::Silence,
        }
    }

    fn pass(&mut self, frame: Frame, answer: &Answer) {
        self.tally.pass += 1;
        match answer {
            Answer::Reply => {
                self.tally.replies += 1;
                self.port.send(&mut self.pool, frame);
            }
            Answer::Silence => self.pool.release(frame),
        }
    }

    #[cold]
    fn tell(&self, attached: &Attached, outcome: &Outcome, runs: &mut TurnRuns) {
        let program = || attached.judge.name().to_owned();
        if let Some(trap) = &outcome.trap {
            if runs.traps == 0 {
                self.events.tell(Event::Trap { program: program(), text: trap.to_string() });
            } else {
                self.events.leave_untold(1);
            }
            runs.traps += 1;
        }
        if runs.findings == 0 {
            for finding in &self.run.findings {
                self.events.tell(Event::Finding { program: program(), text: finding.to_string() });
            }
        } else {
            self.events.leave_untold(self.run.findings.len());
        }
        runs.findings += self.run.findings.len() as u64;
    }

    /// XDP's set alone has an answer that means what a strange one does: of other hooks none is aborted.
    #[cold]
    fn tell_of_verdict(&self, attached: &Attached, outcome: &Outcome, runs: &mut TurnRuns) {
        let retval = u32::try_from(outcome.r0 & 0xffff_ffff).expect("masked");
        let kind = self.run.kind;
        if kind.answers(retval) {
            return;
        }
        if runs.strange == 0 {
            let program = attached.judge.name().to_owned();
            self.events.tell(Event::Verdict { program, text: kind.no_answer(retval) });
        }
        runs.strange += 1;
    }

    /// After a panic: gives up the frame that was not handed on yet, and says how many that are.
    #[cold]
    fn lose(&mut self, panic: &(dyn Any + Send)) -> u64 {
        let worker = self.run.head.worker;
        self.events.tell(Event::Panic { worker, text: panic_text(panic) });
        let Some(frame) = self.current.take() else { return 0 };
        self.abort(frame, Abort::Panic);
        1
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

    /// Leaves nothing of the programs so far where another could find it.
    pub(super) fn clear_stack(&self) {
        self.run.clear_stack();
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(super) fn wait(&mut self, timeout: Duration) {
        self.port.wait(&mut self.pool, timeout);
    }

    /// Whether frames were received that are not judged yet.
    pub(super) fn has_waiting(&self) -> bool {
        self.burst.count() > 0
    }

    /// Sends what is queued and closes the port. Frames that wait are given up and never counted, like those that wait in
    /// the kernel.
    pub(super) fn close(&mut self) {
        while let Some(frame) = self.burst.take() {
            self.pool.release(frame);
        }
        self.port.close(&mut self.pool);
        self.copy_port_counts();
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{FUEL_DEFAULT, STACK_LEN};
    use crate::maps::WorkerIndex;
    use crate::port::{Interest, PortCounts, Wake};
    use crate::run::{Clock, World};
    use crate::verdict::ProgramKind;
    use std::os::fd::RawFd;

    /// Gives three frames at once, and fails whenever it is to send one.
    struct Failing {
        frame: Vec<u8>,
        counts: PortCounts,
    }

    impl Port for Failing {
        fn recv(&mut self, pool: &mut Pool, burst: &mut Burst) {
            for _ in 0..3 {
                assert!(burst.copied(pool, &self.frame), "chunks are given back");
            }
        }

        fn send(&mut self, pool: &mut Pool, frame: Frame) {
            pool.release(frame);
            panic!("the port fails");
        }

        fn before_wait(&mut self, _: &mut Pool) -> bool {
            true
        }

        fn waits_on(&self, _: &mut dyn FnMut(RawFd, Interest)) {}

        fn wake(&self) -> &Wake {
            unreachable!("it never waits")
        }

        fn end_receiving(&mut self) {}

        fn is_receiving(&mut self) -> bool {
            false
        }

        fn close(&mut self, _: &mut Pool) {}

        fn counts(&self) -> PortCounts {
            self.counts
        }

        fn report(&self) -> &'static str {
            "fails"
        }
    }

    /// Asks who has 10.0.0.1.
    fn question() -> Vec<u8> {
        let parts: [&[u8]; 4] = [
            &[0xff; 6],
            &[2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &[2, 0, 0, 0, 0, 2, 10, 0, 0, 2],
            &[0, 0, 0, 0, 0, 0, 10, 0, 0, 1],
        ];
        parts.concat()
    }

    fn with_turn(test: impl FnOnce(&mut Turn<'_, Failing>, &Events)) {
        let world = World::new(1, Clock::Fixed(0), Box::new(|_| {})).expect("address space");
        let cage = &world.cage;
        let stack = cage.alloc_apart(STACK_LEN.into(), "a stack").expect("room");
        let context = cage.alloc(Context::LEN.into(), "a context").expect("room");
        let pool = Pool::new(cage, 4, 1).expect("room");
        let mut run = Run::new(&world, WorkerIndex(0), ProgramKind::Xdp, stack.addr() + STACK_LEN);
        run.head.ctx = context.addr();
        let events = Events::new();
        let port = Failing { frame: question(), counts: PortCounts::default() };
        test(&mut Turn::new(port, pool, run, &events), &events);
    }

    #[test]
    fn without_a_program_a_panic_costs_its_frame_alone() {
        with_turn(|turn, events| {
            turn.port.recv(&mut turn.pool, &mut turn.burst);
            let lost = turn.each_frame(|| false, |_| panic!("the stack fails"));
            assert_eq!((lost, turn.pool.free_count()), (3, 4));
            assert_eq!((turn.tally.rx, turn.tally.aborted_panic), (3, 3));
            assert!(turn.tally.is_balanced(), "{:?}", turn.tally);
            let told = Event::Panic { worker: 0, text: "the stack fails".to_owned() };
            assert!(events.take().iter().map(|happened| &happened.event).eq([&told; 3]));
        });
    }

    #[test]
    fn a_panic_behind_the_judgement_leaves_the_books_balanced_and_goes_no_further() {
        with_turn(|turn, events| {
            let plan = Plan { xdp: None, responder: Addresses::numbered(1), fuel: FUEL_DEFAULT };
            for round in 1..=2 {
                assert_eq!(turn.turn(&plan, &mut NoProbe, || false), 3);
                assert_eq!((turn.tally.rx, turn.tally.pass, turn.tally.aborted), (3 * round, 3 * round, 0));
                assert!(turn.tally.is_balanced(), "{:?}", turn.tally);
                assert_eq!(events.take().len(), 3);
            }
        });
    }
}
