//! One turn of a worker: receive a burst from each port, judge each frame where it lies, send, count.
//!
//! Invariant: every received frame is counted exactly once, whatever a program does and even if kumite itself fails
//! while it judges. Nothing here allocates, locks or waits while frames go well, beyond what the helpers of a program do, but
//! for a timer that is due: it costs a lock and the key that its function is given. A trap, a finding or a trace line that is
//! told costs its text.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::Hook;
use super::bay::{Bay, Order};
use super::counters::Fate;
use super::events::{Event, Events};
use super::hook::Step;
use super::plan::{Attached, Chain, Plan};
use super::walk::{Descendants, Stage, Stand};
use crate::limits::{BURST_MAX, DROPS_EVERY_TURNS, FRAME_LEN_MAX, LONG_RUN_SLOTS, TURN_TIMERS_MAX};
use crate::port::{Burst, Frame, Outbox, Pool, Sleep, Wake};
use crate::run::{Context, Run};
use crate::verdict::Verdict;
use crate::vm::{Outcome, fire};

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
pub(super) const IN_PLACE: &str = "a frame stays in place until it is handed on";
/// Why a context can be written.
const CONTEXT: &str = "a worker's context area is writable for as long as the worker lives";

/// Traps and findings of a turn so far: one run's are told.
#[derive(Clone, Copy, Default)]
struct Told {
    traps: u64,
    findings: u64,
    /// Returns that are no answer of the hook.
    strange: u64,
}

/// What a worker turns with.
pub(super) struct Turn<'w> {
    /// The ports by their places in the plan.
    pub(super) bays: Vec<Bay>,
    pub(super) pool: Pool,
    outbox: Arc<Outbox>,
    pub(super) run: Run<'w>,
    pub(super) events: &'w Events,
    /// Frames from one worker to another, by who gets them.
    pub(super) relays: &'w [super::relay::Relay],
    /// Workers that were handed frames and are to be woken, a bit each.
    pub(super) handed_to: u64,
    /// Where the stack behind PASS looks at a frame: outside the cage, where no program can change it meanwhile.
    pub(super) copy: Box<[u8; FRAME_LEN_MAX as usize]>,
    /// The frame under judgement, from when it is taken out of the burst until it is counted and handed on, so that a
    /// panic does not lose it.
    pub(super) current: Option<Frame>,
    /// Where the frame in `current` is counted if kumite fails now.
    pub(super) stand: Stand,
    /// The program of the hook that judges it.
    judging: Option<usize>,
    /// Port that it came in by; 0 where the host made it.
    pub(super) came_by: u32,
    /// What tc programs left beside it.
    pub(super) carried: Option<super::carried::Carried>,
    pub(super) descendants: Descendants,
    /// Makes frames of bytes.
    pub(super) scratch: Burst,
    /// Slots that the programs of a received frame have used.
    spent: u64,
    told: Told,
    sleep: Sleep,
    turns: u64,
}

impl<'w> Turn<'w> {
    pub(super) fn new(pool: Pool, run: Run<'w>, events: &'w Events, relays: &'w [super::relay::Relay]) -> Self {
        let outbox = Arc::clone(pool.outbox());
        Self {
            bays: Vec::new(),
            pool,
            outbox,
            run,
            events,
            relays,
            handed_to: 0,
            copy: Box::new([0; FRAME_LEN_MAX as usize]),
            current: None,
            stand: Stand::default(),
            judging: None,
            came_by: 0,
            carried: None,
            descendants: Descendants::default(),
            scratch: Burst::new(),
            spent: 0,
            told: Told::default(),
            sleep: Sleep::new(),
            turns: 0,
        }
    }

    /// Which worker turns.
    pub(super) fn worker(&self) -> usize {
        self.run.head.worker as usize
    }

    /// Opens or closes ports. Frames that others handed over for a port that closes leave before.
    pub(super) fn obey(&mut self, order: Order, wake: &Arc<Wake>) {
        match order {
            Order::Open(opening) => {
                let (slot, answer) = (opening.slot, opening.answer.clone());
                let opened = Bay::open(*opening, wake, &mut self.pool).map(|bay| {
                    let report = bay.report();
                    if self.bays.len() <= slot {
                        self.bays.resize_with(slot + 1, Bay::default);
                    }
                    self.bays[slot] = bay;
                    report
                });
                // Whoever asked may have gone away.
                let _ = answer.send(opened);
            }
            Order::Close { slot, done } => {
                if let Some(mut bay) = self.bays.get_mut(slot).map(std::mem::take) {
                    bay.close(&mut self.pool);
                    bay.publish(self.worker());
                }
                let _ = done.send(());
            }
        }
    }

    /// Receives a burst from each port, judges it, queues what is to be sent, and says how many frames moved.
    ///
    /// After a frame that took long, asks `called` whether the worker is wanted elsewhere, and leaves the frames behind it
    /// to the next turn then: a frame is counted as received when it is judged.
    pub(super) fn turn<B: Probe>(&mut self, plan: &Plan, probe: &mut B, called: impl Fn() -> bool) -> usize {
        // One pin a burst: whoever deletes a map element or swaps a program waits for this turn at most.
        self.run.begin_burst();
        self.told = Told::default();
        let mut moved = 0;
        for slot in 0..plan.ports.len() {
            moved += self.turn_port(slot, plan, probe, &called);
        }
        moved += self.take_relayed(plan, probe);
        moved += self.send_from_outbox(plan, probe);
        self.flush(plan);
        self.run.end_burst();
        self.turns += 1;
        if self.turns.is_multiple_of(DROPS_EVERY_TURNS) && moved > 0 {
            self.copy_drops();
        }
        moved
    }

    fn turn_port<B: Probe>(&mut self, slot: usize, plan: &Plan, probe: &mut B, called: &impl Fn() -> bool) -> usize {
        let Some(bay) = self.bays.get_mut(slot) else { return 0 };
        let (Some(port), Some(planned)) = (&mut bay.port, plan.port(slot)) else { return 0 };
        port.recv(&mut self.pool, &mut bay.burst);
        let refused = bay.burst.take_refused();
        bay.tally.runt += refused.runt;
        bay.tally.oversize += refused.oversize;
        bay.tally.rx += refused.total();
        let waiting = bay.burst.count();
        if waiting > 0 {
            self.judge_burst(slot, planned.ifindex, plan, probe, called);
        }
        let bay = &mut self.bays[slot];
        let moved = waiting - bay.burst.count() + usize::from(refused.total() > 0);
        bay.tally.turns += u64::from(moved > 0);
        if let Some(name) = bay.went() {
            self.events.tell(Event::PortGone { port: name.to_owned(), worker: self.run.head.worker });
        }
        moved
    }

    fn judge_burst<B: Probe>(
        &mut self,
        slot: usize,
        ifindex: u32,
        plan: &Plan,
        probe: &mut B,
        called: &impl Fn() -> bool,
    ) {
        self.guarded(plan, |turn| {
            loop {
                turn.walk_descendants(plan, probe);
                if turn.spent >= LONG_RUN_SLOTS && called() {
                    turn.spent = 0;
                    return;
                }
                turn.spent = 0;
                let bay = &mut turn.bays[slot];
                let Some(frame) = bay.burst.take() else { return };
                bay.tally.rx += 1;
                bay.tally.rx_bytes += u64::from(frame.len());
                turn.run.window = turn.pool.window(&frame);
                turn.current = Some(frame);
                turn.stand = Stand { slot, hook: Hook::Xdp };
                turn.came_by = ifindex;
                turn.carried = None;
                turn.walk(plan, probe, slot, Stage::Xdp, 0);
            }
        });
    }

    /// Calls `work` until it returns without a panic; each panic costs the frame in `current`.
    pub(super) fn guarded(&mut self, plan: &Plan, mut work: impl FnMut(&mut Self)) {
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            self.lose(&*panic, plan);
        }
    }

    /// Lets the programs of a hook judge the frame in `current`, whose bounds are in the run's window, one after the other
    /// until one ends its way.
    pub(super) fn run_chain<B: Probe>(
        &mut self,
        chain: &Chain,
        hook: Hook,
        ifindex: u32,
        plan: &Plan,
        probe: &mut B,
        hops: u32,
    ) -> Fate {
        self.run.kind = hook.kind();
        self.run.ifindex = ifindex;
        for (index, attached) in chain.iter().enumerate() {
            self.judging = Some(index);
            let run = &mut self.run;
            run.reset(plan.fuel);
            Context::write(run).expect(CONTEXT);
            if hook != Hook::Xdp {
                let came_by = self.came_by;
                let carried = self.carried.get_or_insert_with(|| super::carried::Carried::new(came_by));
                carried.put(run).expect(CONTEXT);
            }
            probe.arrived(run);
            let outcome = attached.judge.judge(attached.mode, run);
            // The low half of r0 counts.
            let retval = u32::try_from(outcome.r0 & 0xffff_ffff).expect("masked");
            let verdict = if outcome.trap.is_some() { Verdict::Aborted } else { Verdict::of(run.kind, retval) };
            probe.judged(run, &outcome, verdict);
            if outcome.trap.is_some() || !run.findings.is_empty() {
                self.tell(attached, &outcome);
            }
            self.spent += plan.fuel - outcome.fuel_left.min(plan.fuel);
            self.judging = None;
            attached.runs.count(self.worker(), attached.mode, verdict);
            if outcome.trap.is_some() {
                return Fate::Trap;
            }
            if hook != Hook::Xdp
                && let Some(carried) = &mut self.carried
            {
                carried.take(&self.run).expect(CONTEXT);
            }
            if !self.run.copies.held().is_empty() {
                self.send_copies(plan, hops);
            }
            match Step::of(hook, attached.actions, retval) {
                Step::Next => {}
                Step::End(Verdict::Pass) => return Fate::Pass,
                Step::End(Verdict::Drop) => return Fate::Drop,
                Step::End(Verdict::Tx) => return Fate::Tx,
                Step::End(Verdict::Redirect) => return Fate::Redirect,
                Step::End(Verdict::Aborted) => {
                    if !self.run.kind.answers(retval) {
                        self.tell_of_verdict(attached, retval);
                    }
                    return Fate::Verdict;
                }
            }
        }
        Fate::Pass
    }

    /// XDP's set alone has an answer that means what a strange one does: of other hooks none is aborted.
    #[cold]
    fn tell_of_verdict(&mut self, attached: &Attached, retval: u32) {
        if self.told.strange == 0 {
            let program = attached.judge.name().to_owned();
            self.events.tell(Event::Verdict { program, text: self.run.kind.no_answer(retval) });
        }
        self.told.strange += 1;
    }

    #[cold]
    fn tell(&mut self, attached: &Attached, outcome: &Outcome) {
        let program = || attached.judge.name().to_owned();
        let worker = self.worker();
        if let Some(trap) = &outcome.trap {
            if self.told.traps == 0 {
                self.events.tell(Event::Trap { program: program(), text: trap.to_string() });
            } else {
                self.events.leave_untold(1);
            }
            self.told.traps += 1;
            attached.runs.count_trap(worker);
        }
        if self.run.findings.is_empty() {
            return;
        }
        if self.told.findings == 0 {
            for finding in &self.run.findings {
                self.events.tell(Event::Finding { program: program(), text: finding.to_string() });
            }
        } else {
            self.events.leave_untold(self.run.findings.len());
        }
        let count = self.run.findings.len() as u64;
        self.told.findings += count;
        attached.runs.count_findings(worker, count);
    }

    /// After a panic: gives up the frame that was not handed on yet.
    #[cold]
    fn lose(&mut self, panic: &(dyn Any + Send), plan: &Plan) {
        let worker = self.run.head.worker;
        self.events.tell(Event::Panic { worker, text: panic_text(panic) });
        let Stand { slot, hook } = self.stand;
        let judging = self.judging.take();
        let chain = plan.port(slot).and_then(|port| port.chain(hook));
        if let Some(attached) = judging.and_then(|index| chain?.get(index)) {
            attached.runs.count(self.worker(), attached.mode, Verdict::Aborted);
        }
        if let Some(frame) = self.current.take() {
            self.bays[slot].tally.hooks[hook.index()].count(Fate::Panic);
            self.pool.release(frame);
        }
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
        let mode = plan.timer_mode;
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

    /// Frames of the traffic source leave by the wire.
    fn send_from_outbox<B: Probe>(&mut self, plan: &Plan, probe: &mut B) -> usize {
        if !self.outbox.has_ready() {
            return 0;
        }
        let mut count = 0;
        self.guarded(plan, |turn| {
            loop {
                turn.walk_descendants(plan, probe);
                if count == BURST_MAX {
                    return;
                }
                let Some(frame) = turn.outbox.take() else { return };
                count += 1;
                turn.bays[0].tally.sent += 1;
                turn.run.window = turn.pool.window(&frame);
                turn.current = Some(frame);
                turn.stand = Stand { slot: 0, hook: Hook::TcEgress };
                turn.came_by = 0;
                turn.carried = None;
                turn.walk(plan, probe, 0, Stage::Egress, 0);
            }
        });
        self.spent = 0;
        count
    }

    /// Gives the ports what is to leave.
    fn flush(&mut self, plan: &Plan) {
        for slot in 0..self.bays.len() {
            self.guarded(plan, |turn| {
                let bay = &mut turn.bays[slot];
                if let Some(port) = &mut bay.port {
                    if !bay.out.is_empty() {
                        port.send_all(&mut turn.pool, &mut bay.out);
                    }
                    bay.copy_counts();
                }
            });
        }
    }

    /// Takes over what was lost before each port.
    pub(super) fn copy_drops(&mut self) {
        self.bays.iter_mut().for_each(Bay::copy_drops);
    }

    /// Shows others what is counted.
    pub(super) fn publish(&mut self) {
        let worker = self.worker();
        self.bays.iter_mut().for_each(|bay| bay.publish(worker));
    }

    /// Leaves nothing of the programs so far where another could find it.
    pub(super) fn clear_stack(&self) {
        self.run.clear_stack();
    }

    /// Whether other threads handed over frames that are not taken yet.
    pub(super) fn has_handed(&self) -> bool {
        self.outbox.has_ready() || self.relays[self.worker()].has_ready()
    }

    /// Blocks until a port has something, `wake` is notified, or `timeout` is over.
    pub(super) fn wait(&mut self, wake: &Wake, timeout: Duration) {
        self.sleep.begin();
        for bay in &mut self.bays {
            // What is gone would end each sleep at once.
            if let (false, Some(port)) = (bay.is_gone(), &mut bay.port) {
                self.sleep.watch(&mut **port, &mut self.pool);
            }
        }
        self.sleep.block(wake, timeout);
    }

    /// Takes nothing from the wires any more.
    pub(super) fn end_receiving(&mut self) {
        self.bays.iter_mut().filter_map(|bay| bay.port.as_mut()).for_each(|port| port.end_receiving());
    }

    /// Whether frames were received that are not judged yet, or may still come.
    pub(super) fn is_receiving(&mut self) -> bool {
        let mut bays = self.bays.iter_mut();
        bays.any(|bay| bay.burst.count() > 0 || bay.port.as_mut().is_some_and(|port| port.is_receiving()))
    }

    /// Sends what is queued and closes the ports.
    pub(super) fn close(&mut self) {
        for bay in &mut self.bays {
            bay.close(&mut self.pool);
        }
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
    use crate::flow::counters::ProgramRuns;
    use crate::flow::plan::PlanPort;
    use crate::flow::relay::Relay;
    use crate::flow::{Actions, Addresses, Judge};
    use crate::limits::{FUEL_DEFAULT, STACK_LEN};
    use crate::maps::WorkerIndex;
    use crate::port::{Interest, Port, PortCounts};
    use crate::run::{Clock, World};
    use crate::verdict::ProgramKind;
    use crate::vm::Mode;
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

    /// Fails whenever it is to judge.
    #[derive(Debug)]
    struct Broken;

    impl Judge for Broken {
        fn name(&self) -> &'static str {
            "broken"
        }

        fn id(&self) -> u32 {
            7
        }

        fn kind(&self) -> ProgramKind {
            ProgramKind::Xdp
        }

        fn judge(&self, _: Mode, _: &mut Run<'_>) -> Outcome {
            panic!("the program fails")
        }
    }

    fn plan(judge: Option<Attached>) -> Plan {
        let hooks = [judge.map(|judge| vec![judge].into()), None, None];
        Plan {
            ports: vec![Some(PlanPort { ifindex: 1, driver_count: 1, hooks })],
            stack: None,
            responder: Addresses::numbered(1),
            fuel: FUEL_DEFAULT,
            timer_mode: Mode::Fast,
        }
    }

    fn with_turn(test: impl FnOnce(&mut Turn<'_>, &Events)) {
        let world = World::new(1, Clock::Fixed(0), Box::new(|_| {})).expect("address space");
        let cage = &world.cage;
        let stack = cage.alloc_apart(STACK_LEN.into(), "a stack").expect("room");
        let context = cage.alloc(Context::LEN.into(), "a context").expect("room");
        let pool = Pool::new(cage, 4, 1).expect("room");
        let mut run = Run::new(&world, WorkerIndex(0), ProgramKind::Xdp, stack.addr() + STACK_LEN);
        run.head.ctx = context.addr();
        let events = Events::new();
        let relays = [Relay::new(1)];
        let mut turn = Turn::new(pool, run, &events, &relays);
        turn.bays.push(Bay::of(Box::new(Failing { frame: question(), counts: PortCounts::default() })));
        test(&mut turn, &events);
    }

    #[test]
    fn a_program_that_panics_costs_its_frame_alone() {
        with_turn(|turn, events| {
            let runs = Arc::new(ProgramRuns::new(1));
            let (judge, mode) = (Arc::new(Broken), Mode::Verify);
            let attached = Attached { judge, mode, actions: Actions::default(), runs: Arc::clone(&runs) };
            assert_eq!(turn.turn(&plan(Some(attached)), &mut NoProbe, || false), 3);
            assert_eq!(turn.pool.free_count(), 4);
            let tally = &turn.bays[0].tally;
            assert_eq!((tally.rx, tally.inward(Fate::Panic)), (3, 3));
            assert!(tally.is_balanced(), "{tally:?}");
            assert_eq!(runs.verdicts(Mode::Verify, Verdict::Aborted), 3);
            let told = Event::Panic { worker: 0, text: "the program fails".to_owned() };
            assert!(events.take().iter().map(|happened| &happened.event).eq([&told; 3]));
        });
    }

    #[test]
    fn a_panic_behind_the_judgement_leaves_the_books_balanced_and_goes_no_further() {
        with_turn(|turn, events| {
            let plan = plan(None);
            for round in 1..=2 {
                assert_eq!(turn.turn(&plan, &mut NoProbe, || false), 3);
                let tally = &turn.bays[0].tally;
                assert_eq!((tally.rx, tally.pass, tally.replies), (3 * round, 3 * round, 3 * round));
                assert!(tally.is_balanced(), "{tally:?}");
                assert_eq!(events.take().len(), 3);
            }
        });
    }
}
