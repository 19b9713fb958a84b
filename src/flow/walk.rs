//! The way of a frame through a host, from the hook where it enters to the port where it leaves.
//!
//! Invariant: each stage counts the frame before it hands it on; ways end, since redirects and copies are bounded.

use std::collections::VecDeque;

use super::Hook;
use super::carried::Carried;
use super::counters::Fate;
use super::plan::Plan;
use super::relay::{Entry, Way};
use super::turn::{IN_PLACE, Probe, Turn};
use crate::limits::{BURST_MAX, FRAME_DESCENDANTS_MAX, FRAME_LEN_MAX, HOPS_MAX, PORTS_MAX};
use crate::maps::Target;
use crate::port::Frame;
use crate::run::Redirect;

/// `BPF_F_INGRESS`: to the ingress of the target.
const BPF_F_INGRESS: u64 = 1;
/// A frame goes only to ports that the plan has.
const IN_PLAN: &str = "frames go to ports of the plan";

/// Where a frame is counted if kumite fails.
#[derive(Clone, Copy)]
pub(super) struct Stand {
    pub(super) slot: usize,
    pub(super) hook: Hook,
}

impl Default for Stand {
    fn default() -> Self {
        Self { slot: 0, hook: Hook::Xdp }
    }
}

/// What comes next on a frame's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Xdp,
    Ingress,
    /// Behind the hooks of the port that it came in by.
    Passed,
    Egress,
    Out,
}

/// Copies that a frame led to and that are yet to go their way.
#[derive(Default)]
pub(super) struct Descendants {
    waiting: VecDeque<(Frame, Way)>,
    /// Those of the received frame so far.
    count: usize,
}

impl Turn<'_> {
    /// Leads the frame in `current` along its way. Its bounds are in the run's window.
    pub(super) fn walk<B: Probe>(
        &mut self,
        plan: &Plan,
        probe: &mut B,
        mut slot: usize,
        mut stage: Stage,
        mut hops: u32,
    ) {
        loop {
            let (hook, next) = match stage {
                Stage::Xdp => (Hook::Xdp, Stage::Ingress),
                Stage::Ingress => (Hook::TcIngress, Stage::Passed),
                Stage::Egress => (Hook::TcEgress, Stage::Out),
                Stage::Passed => match self.pass(plan, slot, hops) {
                    Some(onward) => {
                        (slot, stage) = onward;
                        continue;
                    }
                    None => return,
                },
                Stage::Out => return self.leave(slot),
            };
            let port = plan.port(slot).expect(IN_PLAN);
            let Some(chain) = port.chain(hook) else {
                stage = next;
                continue;
            };
            self.stand = Stand { slot, hook };
            let fate = self.run_chain(chain, hook, port.ifindex, plan, probe, hops);
            self.pool.follow(self.current.as_mut().expect(IN_PLACE), &self.run.window);
            match fate {
                Fate::Pass => {
                    self.count(slot, hook, Fate::Pass);
                    stage = next;
                }
                Fate::Tx => {
                    self.count(slot, hook, Fate::Tx);
                    return self.leave(slot);
                }
                Fate::Redirect => {
                    hops += 1;
                    match self.redirect(plan, slot, hook, hops) {
                        Some(onward) => (slot, stage) = onward,
                        None => return,
                    }
                }
                Fate::Drop | Fate::Trap | Fate::Verdict | Fate::Target | Fate::Panic | Fate::Room | Fate::Hops => {
                    return self.end(slot, hook, fate);
                }
            }
        }
    }

    fn count(&mut self, slot: usize, hook: Hook, fate: Fate) {
        self.bays[slot].tally.hooks[hook.index()].count(fate);
    }

    /// The way of the frame in `current` ends at a hook.
    fn end(&mut self, slot: usize, hook: Hook, fate: Fate) {
        self.count(slot, hook, fate);
        self.release();
    }

    fn release(&mut self) {
        let frame = self.current.take().expect(IN_PLACE);
        self.pool.release(frame);
    }

    /// Whether this worker drives the port.
    fn drives(&self, plan: &Plan, slot: usize) -> bool {
        self.worker() < plan.port(slot).expect(IN_PLAN).driver_count
    }

    /// The frame in `current` leaves by a port of this worker.
    fn leave(&mut self, slot: usize) {
        if let Some(carried) = self.carried.as_mut().filter(|carried| carried.has_tag()) {
            if !carried.insert_tag(&mut self.run) {
                self.bays[slot].tally.given_up += 1;
                return self.release();
            }
            self.pool.follow(self.current.as_mut().expect(IN_PLACE), &self.run.window);
        }
        let frame = self.current.take().expect(IN_PLACE);
        self.bays[slot].out.push_back(frame);
    }

    /// Counts a frame at the port where it enters, and says what comes next.
    fn arrive(&mut self, slot: usize, entry: Entry) -> Stage {
        let tally = &mut self.bays[slot].tally;
        match entry {
            Entry::Ingress => {
                tally.reentered += 1;
                self.stand = Stand { slot, hook: Hook::TcIngress };
                Stage::Ingress
            }
            Entry::Redirected | Entry::Out => {
                tally.redirected += 1;
                self.stand = Stand { slot, hook: Hook::TcEgress };
                if entry == Entry::Out { Stage::Out } else { Stage::Egress }
            }
            Entry::Forwarded => {
                tally.forwarded += 1;
                self.stand = Stand { slot, hook: Hook::TcEgress };
                Stage::Egress
            }
        }
    }

    /// Hands the frame in `current` to the worker that drives a port; says whether there was room.
    fn hand_over(&mut self, plan: &Plan, way: Way) -> bool {
        let driver = self.worker() % plan.port(way.slot).expect(IN_PLAN).driver_count;
        let frame = self.current.as_ref().expect(IN_PLACE);
        let fits = frame.len() <= FRAME_LEN_MAX;
        if !fits || !self.relays[driver].put(way, |into| self.pool.read(frame, into)) {
            return false;
        }
        self.handed_to |= 1 << driver;
        true
    }

    fn way(&self, slot: usize, entry: Entry, hops: u32) -> Way {
        Way { slot, entry, hops, carried: self.carried.unwrap_or_else(|| Carried::new(self.came_by)) }
    }

    /// A program sent the frame in `current` to a port, or to several.
    fn redirect(&mut self, plan: &Plan, slot: usize, hook: Hook, hops: u32) -> Option<(usize, Stage)> {
        if hops > HOPS_MAX {
            self.end(slot, hook, Fate::Hops);
            return None;
        }
        let Redirect { target, flags } = self.run.redirect.unwrap_or_else(|| Redirect::to_port(0, 0));
        let entry = match hook {
            Hook::TcIngress | Hook::TcEgress if flags & BPF_F_INGRESS != 0 => Entry::Ingress,
            Hook::TcIngress | Hook::TcEgress if flags & Redirect::PEER == 0 => Entry::Redirected,
            Hook::Xdp | Hook::TcIngress | Hook::TcEgress => Entry::Out,
        };
        let to = match target {
            Target::Port(ifindex) => plan.slot_of(ifindex),
            Target::Ports { .. } => self.broadcast(plan, slot, entry, hops),
            Target::Processor(_) | Target::Socket(_) => None,
        };
        let Some(to) = to else {
            self.end(slot, hook, Fate::Target);
            return None;
        };
        if self.drives(plan, to) {
            self.count(slot, hook, Fate::Redirect);
            let stage = self.arrive(to, entry);
            return Some((to, stage));
        }
        let handed = self.hand_over(plan, self.way(to, entry, hops));
        self.end(slot, hook, if handed { Fate::Redirect } else { Fate::Room });
        None
    }

    /// Sends copies to all ports that the redirect means but the last one, which is the answer.
    fn broadcast(&mut self, plan: &Plan, from: usize, entry: Entry, hops: u32) -> Option<usize> {
        let mut targets = [0; PORTS_MAX];
        let mut count = 0;
        for (slot, port) in plan.ports.iter().enumerate() {
            if port.as_ref().is_some_and(|port| self.run.redirects_to(port.ifindex)) {
                targets[count] = slot;
                count += 1;
            }
        }
        let (last, others) = targets[..count].split_last()?;
        for &slot in others {
            let way = self.way(slot, entry, hops);
            let frame = self.current.as_ref().expect(IN_PLACE);
            let len = frame.len();
            self.pool.read(frame, &mut self.copy[..]);
            let copied = if len > FRAME_LEN_MAX { false } else { self.descend(plan, way, len as usize) };
            self.count_copy(from, copied);
        }
        Some(*last)
    }

    fn count_copy(&mut self, from: usize, is_sent: bool) {
        let tally = &mut self.bays[from].tally;
        if is_sent { tally.copies += 1 } else { tally.copies_lost += 1 }
    }

    /// Sends the copies that a program made on their way (`bpf_clone_redirect`).
    #[cold]
    pub(super) fn send_copies(&mut self, plan: &Plan, hops: u32) {
        for index in 0..self.run.copies.held().len() {
            let copy = &self.run.copies.held()[index];
            let len = copy.bytes.len();
            let slot = match copy.target.target {
                Target::Port(ifindex) => plan.slot_of(ifindex),
                Target::Ports { .. } | Target::Processor(_) | Target::Socket(_) => None,
            };
            let entry = if copy.target.flags & BPF_F_INGRESS != 0 { Entry::Ingress } else { Entry::Redirected };
            let is_sent = match slot {
                Some(slot) if len <= self.copy.len() && hops < HOPS_MAX => {
                    self.copy[..len].copy_from_slice(&copy.bytes);
                    self.descend(plan, self.way(slot, entry, hops + 1), len)
                }
                Some(_) | None => false,
            };
            self.count_copy(self.stand.slot, is_sent);
        }
    }

    /// Sends the first `len` bytes of `copy` on a way of their own; says whether there was room.
    fn descend(&mut self, plan: &Plan, way: Way, len: usize) -> bool {
        if !self.drives(plan, way.slot) {
            let driver = self.worker() % plan.port(way.slot).expect(IN_PLAN).driver_count;
            let bytes = &self.copy[..len];
            let is_put = self.relays[driver].put(way, |into| {
                into[..len].copy_from_slice(bytes);
                len
            });
            self.handed_to |= u64::from(is_put) << driver;
            return is_put;
        }
        if self.descendants.count == FRAME_DESCENDANTS_MAX {
            return false;
        }
        self.scratch.copied(&mut self.pool, &self.copy[..len]);
        self.scratch.take_refused();
        let Some(frame) = self.scratch.take() else { return false };
        self.descendants.count += 1;
        self.descendants.waiting.push_back((frame, way));
        true
    }

    /// Leads copies along their ways until none waits.
    #[inline]
    pub(super) fn walk_descendants<B: Probe>(&mut self, plan: &Plan, probe: &mut B) {
        while let Some((frame, way)) = self.descendants.waiting.pop_front() {
            self.enter(plan, probe, frame, way);
        }
        self.descendants.count = 0;
    }

    /// Leads a frame along a way that begins at a port of this worker.
    fn enter<B: Probe>(&mut self, plan: &Plan, probe: &mut B, frame: Frame, way: Way) {
        self.run.window = self.pool.window(&frame);
        self.current = Some(frame);
        self.came_by = way.carried.ingress;
        self.carried = Some(way.carried);
        let stage = self.arrive(way.slot, way.entry);
        if plan.port(way.slot).is_some() {
            return self.walk(plan, probe, way.slot, stage, way.hops);
        }
        // The port was taken out of the plan after another worker had sent the frame.
        match way.entry {
            Entry::Ingress => self.end(way.slot, Hook::TcIngress, Fate::Target),
            Entry::Redirected | Entry::Forwarded | Entry::Out => {
                self.bays[way.slot].tally.given_up += 1;
                self.release();
            }
        }
    }

    /// Takes what other workers handed over, and says how many frames that were.
    pub(super) fn take_relayed<B: Probe>(&mut self, plan: &Plan, probe: &mut B) -> usize {
        let relays = self.relays;
        let relay = &relays[self.worker()];
        if !relay.has_ready() {
            return 0;
        }
        let mut count = 0;
        self.guarded(plan, |turn| {
            loop {
                turn.walk_descendants(plan, probe);
                if count == BURST_MAX {
                    return;
                }
                let Some(handed) = relay.take() else { return };
                count += 1;
                let way = handed.way;
                turn.scratch.copied(&mut turn.pool, &handed.bytes[..handed.len]);
                turn.scratch.take_refused();
                relay.give(handed);
                match turn.scratch.take() {
                    Some(frame) => turn.enter(plan, probe, frame, way),
                    None => turn.bays[way.slot].tally.lose_way(way.entry),
                }
            }
        });
        count
    }

    /// Hands the frame in `current` on behind the hooks: the stack port's to the wire, all others to the stack.
    fn pass(&mut self, plan: &Plan, slot: usize, hops: u32) -> Option<(usize, Stage)> {
        let to = match plan.stack {
            Some(stack) if stack == slot => 0,
            Some(stack) => stack,
            None => return self.answer(plan, slot),
        };
        if self.drives(plan, to) {
            self.bays[slot].tally.pass += 1;
            let stage = self.arrive(to, Entry::Forwarded);
            return Some((to, stage));
        }
        if self.hand_over(plan, self.way(to, Entry::Forwarded, hops)) {
            self.bays[slot].tally.pass += 1;
            self.release();
        } else {
            self.end(slot, Hook::TcIngress, Fate::Room);
        }
        None
    }

    /// Shows the frame in `current` to the built-in responder, whose answer leaves by the port that it came in by.
    fn answer(&mut self, plan: &Plan, slot: usize) -> Option<(usize, Stage)> {
        let frame = self.current.as_mut().expect(IN_PLACE);
        let is_tagged = self.carried.as_ref().is_some_and(Carried::has_tag);
        let answer = if frame.len() > FRAME_LEN_MAX || is_tagged {
            None
        } else {
            let len = self.pool.read(frame, &mut self.copy[..]);
            plan.responder.answer(&mut self.copy[..], len)
        };
        if let Some(len) = answer {
            self.pool.rewrite(frame, &self.copy[..len]);
        }
        let tally = &mut self.bays[slot].tally;
        tally.pass += 1;
        if answer.is_none() {
            self.release();
            return None;
        }
        tally.replies += 1;
        self.run.window = self.pool.window(self.current.as_ref().expect(IN_PLACE));
        self.stand = Stand { slot, hook: Hook::TcEgress };
        self.came_by = 0;
        self.carried = None;
        Some((slot, Stage::Egress))
    }
}
