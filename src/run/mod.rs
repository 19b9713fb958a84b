//! One run: what a program reaches while it judges one frame.
//!
//! A [`World`] is what all programs of a host share; a [`Run`] is one worker's activation of a program, used again frame
//! after frame. The head of a run ([`Head`]) is what generated code reads and writes by offset; the rest is for helpers.
//!
//! Invariant: nothing here is in the cage, so no program can change a bound, a budget or a pointer of the host.

mod callback;
mod context;
mod cookies;
mod copies;
mod dynptrs;
mod finding;
mod ports;
mod programs;
mod records;
mod redirect;
pub mod routes;
mod siphash;
mod skb;
pub mod sockets;
mod timers;
mod window;
mod world;

pub use callback::{Callback, Iteration, Step, code_handle, code_start};
pub use context::Context;
pub use cookies::{Cookies, Ends};
pub use copies::{Copies, FrameCopy};
pub use dynptrs::{Dynptr, Dynptrs};
pub use finding::{Finding, Severity, SourceLine};
pub use ports::Ports;
pub use programs::Programs;
pub use records::{Record, Records};
pub use redirect::Redirect;
pub use skb::{Checksum, PacketType, Skb, TunnelKey, Vlan};
pub use timers::{Code, Due, TimerClock, TimerPlace, Timers};
pub use window::Window;
pub use world::{Clock, TraceSink, World};

use crossbeam::epoch::{self, Guard};
use sockets::References;

use crate::limits::{FRAME_STACK_LEN, FUEL_DEFAULT, PROGRAM_SLOTS_MAX, STACK_LEN, TUNNEL_OPTIONS_LEN_MAX};
use crate::maps::{WorkerIndex, release_lock};
use crate::trap::{Fault, TrapKind};
use crate::verdict::ProgramKind;

/// The part of a run that generated code reads and writes. Offsets are taken with `offset_of!`, never written down.
#[repr(C)]
#[derive(Debug)]
pub struct Head {
    /// Host address of guest address 0.
    pub cage_base: *mut u8,
    /// What the run may still spend, in slots (see `vm`): set before, left over after.
    pub fuel: u64,
    /// Tail calls so far, as of the entry of the last program.
    pub tail_calls: u32,
    /// Guest address of the context: r1 at entry.
    pub ctx: u32,
    /// Second argument at entry, r2: the length of the memory in conformance programs, else 0.
    pub arg2: u64,
    /// r10 of the first call frame: the end of the worker's stack.
    pub stack_top: u32,
    /// Which worker, for per-CPU values.
    pub worker: u32,
    /// Call in progress, written by generated code before each call of a helper.
    pub call_site: CallSite,
    /// r0 at the end.
    pub r0: u64,
    /// Where the entry shim saved its stack pointer: a trap continues from there.
    pub recover: usize,
    /// Program that is running, as `vm` numbers it: changed by tail calls in modes that watch.
    pub program: u64,
    /// Instructions executed, in modes that count them as they go.
    pub insns: u64,
    /// Where the key lies of a lookup that generated code makes itself, and how long it is: for the trap, if it cannot be read.
    pub key_addr: u64,
    /// Its length in bytes.
    pub key_len: u64,
    /// r10 of the deepest call frame: a function there cannot call another.
    pub deepest_frame: u64,
    /// r10 where a helper is called that calls back, written by generated code before such a call; r10 of the function that
    /// is called back, where it is entered.
    pub frame: u64,
    /// The functions of the running program that can be called back, as its generated code knows them; written with
    /// `frame`.
    pub callbacks: *const (),
    /// r1 to r5 of the function that is called back.
    pub callback_args: [u64; 5],
    /// Above zero once a tail call was taken out of a subprogram.
    pub left_subprogram: u64,
}

/// Where a helper is called, packed so that generated code stores it with one instruction.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallSite(pub u64);

impl CallSite {
    /// Bits that hold the pc; the helper's index lies above.
    pub const PC_BITS: u32 = 20;

    /// The call at slot `pc` of the helper with this index for [`crate::helpers::at`].
    #[must_use]
    pub fn new(pc: usize, helper: usize) -> Self {
        Self((helper as u64) << Self::PC_BITS | pc as u64)
    }

    /// Slot index of the call.
    #[must_use]
    pub fn pc(self) -> usize {
        usize::try_from(self.0 & ((1 << Self::PC_BITS) - 1)).expect("20 bits")
    }

    /// Index of the helper for [`crate::helpers::at`].
    #[must_use]
    pub fn helper(self) -> usize {
        usize::try_from(self.0 >> Self::PC_BITS).expect("usize has 64 bits on every host that kumite builds for")
    }
}

const _: () = assert!(PROGRAM_SLOTS_MAX <= 1 << CallSite::PC_BITS, "every slot of a program has a pc that fits");

/// One worker's activation of a program.
#[repr(C)]
#[derive(Debug)]
pub struct Run<'w> {
    /// What generated code touches. First, so that the run's address is the head's.
    pub head: Head,
    /// What all programs of the host share.
    pub world: &'w World,
    /// Kind of the program that was entered.
    pub kind: ProgramKind,
    /// The frame under judgement.
    pub window: Window,
    /// What is known of the packet beyond its bytes, for tc and socket filter programs.
    pub skb: Skb,
    /// Options of the tunnel that `skb.tunnel` names; as long as that says.
    pub tunnel_options: [u8; TUNNEL_OPTIONS_LEN_MAX],
    /// Index of the interface (port) that the frame came in by; what `ctx->ingress_ifindex` says.
    pub ifindex: u32,
    /// Receive queue; what `ctx->rx_queue_index` says.
    pub queue: u32,
    /// Where the last redirect helper sent the frame.
    pub redirect: Option<Redirect>,
    /// Copies of the frame that are to be sent beside it, once it is judged.
    pub copies: Copies,
    /// Ring-buffer records that were reserved and not yet ended.
    pub records: Records,
    /// Guest address of the lock that the run holds.
    pub lock: Option<u32>,
    /// Sockets that were looked up and not yet released.
    pub sockets: References,
    /// Guest address of the socket that the packet was assigned to.
    pub assigned: Option<u32>,
    /// Dynamic pointers that the program has made.
    pub dynptrs: Dynptrs,
    /// The timer whose function is being called.
    pub timer: Option<TimerPlace>,
    /// Calls that the helper's body asks for; the engine takes them at once.
    pub callback: Option<Callback>,
    /// Helpers that are calling back, one inside the other.
    pub callback_depth: u32,
    /// Why the last run stopped early.
    pub trap: Option<TrapKind>,
    /// Work that helpers may still do in this run, in slots of equal time; see [`Run::work`].
    pub work_left: u64,
    /// State of the pseudo-random generator behind `bpf_get_prandom_u32`.
    pub random: u64,
    /// What verify mode noticed.
    pub findings: Vec<Finding>,
    /// Whether anything but the head may have been written since the run was made ready.
    used: Used,
    /// Held from the first frame of a burst to its last.
    burst: Option<Guard>,
}

/// Whether a run has left something to clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Used {
    /// Generated code alone ran, and called no helper.
    No,
    /// A helper was called, or the interpreter ran.
    Yes,
}

impl<'w> Run<'w> {
    /// A run for one worker. `stack_top` is the end of [`STACK_LEN`] bytes in the cage that are this worker's alone.
    #[must_use]
    pub fn new(world: &'w World, worker: WorkerIndex, kind: ProgramKind, stack_top: u32) -> Self {
        Self {
            head: Head {
                cage_base: world.cage.base(),
                fuel: FUEL_DEFAULT,
                tail_calls: 0,
                ctx: 0,
                arg2: 0,
                stack_top,
                worker: worker.0,
                call_site: CallSite::default(),
                r0: 0,
                recover: 0,
                program: 0,
                insns: 0,
                key_addr: 0,
                key_len: 0,
                deepest_frame: u64::from(stack_top - STACK_LEN + FRAME_STACK_LEN),
                frame: 0,
                callbacks: std::ptr::null(),
                callback_args: [0; 5],
                left_subprogram: 0,
            },
            world,
            kind,
            window: Window::default(),
            skb: Skb::default(),
            tunnel_options: [0; TUNNEL_OPTIONS_LEN_MAX],
            ifindex: 1,
            queue: 0,
            redirect: None,
            copies: Copies::default(),
            callback: None,
            callback_depth: 0,
            records: Records::default(),
            lock: None,
            sockets: References::default(),
            dynptrs: Dynptrs::default(),
            timer: None,
            assigned: None,
            trap: None,
            work_left: FUEL_DEFAULT,
            random: 0x9e37_79b9_7f4a_7c15 ^ u64::from(worker.0),
            findings: Vec::new(),
            used: Used::Yes,
            burst: None,
        }
    }

    /// Which worker runs this.
    #[must_use]
    pub fn worker(&self) -> WorkerIndex {
        WorkerIndex(self.head.worker)
    }

    /// Makes the run ready for the next frame: budgets full, nothing redirected, nothing found.
    #[inline]
    pub fn reset(&mut self, fuel: u64) {
        self.head.fuel = fuel;
        self.work_left = fuel;
        self.head.tail_calls = 0;
        self.head.left_subprogram = 0;
        self.head.r0 = 0;
        self.trap = None;
        if self.used == Used::Yes {
            self.clear();
            self.used = Used::No;
        }
    }

    fn clear(&mut self) {
        self.redirect = None;
        self.copies.clear();
        self.callback = None;
        self.callback_depth = 0;
        self.findings.clear();
        self.assigned = None;
        self.sockets.clear();
        self.dynptrs.clear();
        self.discard_records();
    }

    /// Notes that more than generated code runs now: engines say so before they call a helper.
    #[inline]
    pub fn touch(&mut self) {
        self.used = Used::Yes;
    }

    /// Begins a burst: until its end, runs need not ask each for maps and programs to stay.
    pub fn begin_burst(&mut self) {
        self.burst = Some(epoch::pin());
    }

    /// Ends a burst: what was deleted or unloaded during it may go now.
    pub fn end_burst(&mut self) {
        self.burst = None;
    }

    /// Whether maps and programs stay until the end of a burst.
    #[must_use]
    #[inline]
    pub fn is_in_burst(&self) -> bool {
        self.burst.is_some()
    }

    /// Zeroes the whole stack, so that a program that forges addresses of it finds nothing of those that ran before.
    ///
    /// # Panics
    /// If the stack is not writable guest memory: our mistake.
    pub fn clear_stack(&self) {
        let start = self.head.stack_top - STACK_LEN;
        let cleared = self.world.cage.fill(start.into(), STACK_LEN.into(), 0);
        cleared.expect("the caller of a run gives it a stack");
    }

    /// Discards the ring-buffer records that the last program left unfinished, and releases the lock that it holds. Engines
    /// call it at the end of a run.
    #[inline]
    pub fn discard_records(&mut self) {
        if self.used == Used::Yes {
            self.records.discard(self.world);
            self.release_lock();
        }
    }

    /// Releases the lock that the run holds, if it holds one.
    pub fn release_lock(&mut self) {
        if let Some(lock) = self.lock.take() {
            release_lock(&self.world.cage, lock);
        }
    }

    /// Pays for work whose size depends on the arguments of a helper: bytes copied, nodes walked. It is metered beside the
    /// fuel, in bodies alone, so that every engine counts the same; a run may do as much of it as it has fuel.
    ///
    /// # Errors
    /// [`TrapKind::Fuel`] when it is used up.
    pub fn work(&mut self, slots: u64) -> Result<(), TrapKind> {
        self.work_left = self.work_left.checked_sub(slots).ok_or(TrapKind::Fuel)?;
        Ok(())
    }

    /// Turns a fault of helper number `helper` into the trap that it means.
    pub fn helper_fault(helper: u32) -> impl Fn(Fault) -> TrapKind {
        move |fault| TrapKind::HelperMemory { helper, fault }
    }
}
