//! What verify mode sees beyond what a run does: values that nothing wrote, pointers that leave their object, packet
//! pointers from before the packet's bounds moved.
//!
//! A shadow of registers and stack is kept beside the run. What the shadow cannot know it does not report: a program as
//! compilers write it has no findings, and a finding never stops a run.
//!
//! Invariant: reads the run, never changes it; findings aside, a watched run is the same as an unwatched one.

mod access;
mod helper;
mod log;
mod stack;
mod value;

use super::arithmetic;
use crate::cage::Cage;
use crate::isa::{Alu, Does, Fetch, Insn, Operand, Reg, Sign, Size, Width};
use crate::limits::FRAME_STACK_LEN;
use crate::program::Program;
use crate::run::{Finding, Run};
use crate::trap::Access;
use crate::verdict::ProgramKind;
use crate::vm::Linked;
use access::{bounds_field, context_len};
use log::{Log, Problem};
use stack::Stack;
use value::{Kind, Origin, Value, upward};

/// The register file of the run.
type Regs = [u64; Reg::COUNT];

/// The shadow of a run.
pub(super) struct Watch<'m> {
    linked: &'m Linked,
    pc: usize,
    regs: [Value; Reg::COUNT],
    /// r6 to r9 of the callers, outermost first.
    callers: Vec<[Value; 4]>,
    stack: Stack,
    /// Times that the packet's bounds may have moved.
    moves: u32,
    log: Log,
}

impl<'m> Watch<'m> {
    /// The shadow of a run that is about to begin.
    pub(super) fn new(linked: &'m Linked, run: &Run<'_>) -> Self {
        let mut watch = Self {
            linked,
            pc: 0,
            regs: [Value::UNWRITTEN; Reg::COUNT],
            callers: Vec::new(),
            stack: Stack::new(run.head.stack_top),
            moves: 0,
            log: Log::default(),
        };
        watch.regs[1] = match (run.kind, context_len(run.kind)) {
            (ProgramKind::Raw, _) => u32::try_from(run.head.arg2)
                .map_or(Value::NUMBER, |len| Value::pointer(Kind::Memory, run.head.ctx, len)),
            (_, len) => Value::pointer(Kind::Context, run.head.ctx, len),
        };
        if run.kind == ProgramKind::Raw {
            watch.regs[2] = Value::NUMBER;
        }
        watch
    }

    /// What was found.
    pub(super) fn take_findings(&mut self) -> Vec<Finding> {
        self.log.take()
    }

    fn program(&self) -> &'m Program {
        self.linked.program()
    }

    fn report(&mut self, problem: Problem, what: impl FnOnce() -> String) {
        let program = self.program();
        self.log.report(problem, program, self.pc, what);
    }

    /// A function was entered: its frame ends at `frame_top`.
    pub(super) fn entered(&mut self, frame_top: u64) {
        let top = u32::try_from(frame_top).expect("r10 never leaves the stack");
        self.stack.enter(top);
        self.regs[10] = Value::pointer(Kind::Frame, top - FRAME_STACK_LEN, FRAME_STACK_LEN);
    }

    /// A subprogram is called.
    pub(super) fn calls(&mut self) {
        let [.., r6, r7, r8, r9, _] = self.regs;
        self.callers.push([r6, r7, r8, r9]);
        self.regs[0] = Value::UNWRITTEN;
        self.regs[6..=9].fill(Value::UNWRITTEN);
    }

    /// The function that was just called was called by a helper: what it is given is known to the helper alone.
    pub(super) fn is_called_back(&mut self) {
        self.regs[1..=5].fill(Value::NUMBER);
    }

    /// A function is left. The verdict must be written; what a subprogram returns may be nothing.
    pub(super) fn leaves(&mut self, frame_top: u64) {
        let Some(saved) = self.callers.pop() else {
            let verdict = self.read(Reg::R0);
            self.uses(verdict, "the return value");
            return;
        };
        self.regs[6..=9].copy_from_slice(&saved);
        self.regs[1..=5].fill(Value::UNWRITTEN);
        let top = u32::try_from(frame_top).expect("r10 never leaves the stack") + FRAME_STACK_LEN;
        self.regs[10] = Value::pointer(Kind::Frame, top - FRAME_STACK_LEN, FRAME_STACK_LEN);
    }

    /// A tail call is taken: only r1 is passed on.
    pub(super) fn jumps_to_program(&mut self) {
        let context = self.regs[1];
        self.regs = [Value::UNWRITTEN; Reg::COUNT];
        self.regs[1] = context;
    }

    /// The run is over, and nothing trapped.
    pub(super) fn ends(&mut self, run: &Run<'_>) {
        for record in run.records.held() {
            self.report(Problem::RecordLeak, || {
                format!("a record of {} bytes was reserved, and neither submitted nor discarded", record.len)
            });
        }
        if run.lock.is_some() {
            self.report(Problem::LockLeak, || "a lock was taken and not released".to_owned());
        }
        for _ in run.sockets.held() {
            self.report(Problem::SocketLeak, || "a socket was looked up and not released".to_owned());
        }
    }

    /// An instruction is about to execute. Calls and exits only have their operands read here; the rest of them are the
    /// events above.
    pub(super) fn before(&mut self, linked: &'m Linked, pc: usize, insn: &Insn, regs: &Regs, run: &Run<'_>) {
        self.linked = linked;
        self.pc = pc;
        match insn.does {
            Does::Alu(width, op, operand) => self.alu(insn, width, op, operand, regs),
            Does::MovSigned(width, size) => {
                let unset = self.read(insn.src).unset;
                self.set(insn.dst, Value::number(arithmetic::mov_signed(width, size, unset)));
            }
            Does::Neg(width) => {
                let unset = upward(self.read(insn.dst).unset);
                self.set(insn.dst, Value::number(arithmetic::alu(width, Alu::Mov, 0, unset)));
            }
            Does::Swap(endian, size) => {
                let unset = self.read(insn.dst).unset;
                self.set(insn.dst, Value::number(arithmetic::swap(endian, size, unset)));
            }
            Does::LoadImm64 => {
                let value = self.constant(insn);
                self.set(insn.dst, value);
            }
            Does::Load(size, sign) => {
                let value = self.loads(insn.src, insn, size, regs, run);
                let value = match sign {
                    Sign::Zero => value,
                    Sign::Extend => Value::number(arithmetic::sign_extend(size, value.unset)),
                };
                self.set(insn.dst, value);
            }
            Does::LoadAcquire(size) => {
                let value = self.loads(insn.src, insn, size, regs, run);
                self.set(insn.dst, value);
            }
            Does::Store(size, operand) => {
                let value = match operand {
                    Operand::Imm => Value::NUMBER,
                    Operand::Reg => self.read(insn.src),
                };
                self.stores(insn, size, value, regs, run);
            }
            Does::StoreRelease(size) => {
                let value = self.read(insn.src);
                self.stores(insn, size, value, regs, run);
            }
            Does::Atomic(size, _, fetch) => {
                self.updates(insn, size, regs, run);
                if fetch == Fetch::Old {
                    self.set(insn.src, Value::NUMBER);
                }
            }
            Does::Exchange(size) => {
                self.updates(insn, size, regs, run);
                self.set(insn.src, Value::NUMBER);
            }
            Does::CompareExchange(size) => {
                let expected = self.read(Reg::R0);
                self.uses(expected, "an atomic comparison");
                self.updates(insn, size, regs, run);
                self.set(Reg::R0, Value::NUMBER);
            }
            Does::LoadPacket(_, operand) => {
                if operand == Operand::Reg {
                    let index = self.read(insn.src);
                    self.uses(index, "a packet offset");
                }
                self.set(Reg::R0, Value::NUMBER);
                self.regs[1..=5].fill(Value::UNWRITTEN);
            }
            Does::Branch(width, _, operand) => {
                let mut depends = self.read(insn.dst).unset;
                if operand == Operand::Reg {
                    depends |= self.read(insn.src).unset;
                }
                if depends != 0 {
                    let depends = arithmetic::alu(width, Alu::Mov, 0, depends);
                    self.uses(Value::number(depends), "a branch");
                }
            }
            Does::CallReg => {
                let number = self.read(insn.dst);
                self.uses(number, "a helper's number");
            }
            Does::Goto
            | Does::GotoLong
            | Does::MayGoto
            | Does::CallHelper
            | Does::CallLocal
            | Does::Exit
            | Does::SecondSlot
            | Does::LoadMap
            | Does::LoadMapValue
            | Does::LoadMapByIndex
            | Does::LoadMapValueByIndex
            | Does::LoadVarAddr
            | Does::LoadCodeAddr
            | Does::CallKfunc
            | Does::GotoReg
            | Does::AddrSpaceCast => {}
        }
    }

    fn alu(&mut self, insn: &Insn, width: Width, op: Alu, operand: Operand, regs: &Regs) {
        let same = operand == Operand::Reg && insn.src == insn.dst;
        if same && matches!(op, Alu::Xor | Alu::Sub) {
            self.read(insn.dst);
            self.set(insn.dst, Value::NUMBER);
            return;
        }
        let a = if op == Alu::Mov { Value::NUMBER } else { self.read(insn.dst) };
        let (b, b_is) = match operand {
            Operand::Imm => (Value::NUMBER, insn.imm.cast_unsigned()),
            Operand::Reg => (self.read(insn.src), regs[insn.src.index()]),
        };
        // Most are numbers made of numbers.
        let value = if a.is_number() && b.is_number() {
            Value::NUMBER
        } else {
            Value::alu(width, op, (a, regs[insn.dst.index()]), (b, b_is))
        };
        self.set(insn.dst, value);
    }

    /// What a two-slot load gives: linking has made a number of what may have been a map's value.
    fn constant(&self, insn: &Insn) -> Value {
        let loaded = &self.program().insns()[self.pc];
        if loaded.does != Does::LoadMapValueByIndex {
            return Value::NUMBER;
        }
        let [index, offset] = [loaded.imm & 0xffff_ffff, loaded.imm >> 32 & 0xffff_ffff];
        let map = usize::try_from(index).ok().and_then(|index| self.linked.maps().get(index));
        let addr = u32::try_from(insn.imm - offset).ok();
        map.zip(addr)
            .map_or(Value::NUMBER, |((_, map), addr)| Value::pointer(Kind::MapValue, addr, map.def().value_len))
    }

    /// Reads a register; one that nothing wrote is reported, once.
    fn read(&mut self, reg: Reg) -> Value {
        let value = self.regs[reg.index()];
        if value.origin != Origin::Unwritten {
            return value;
        }
        self.report(Problem::UninitialisedRegister, || format!("r{} is read and was never written", reg.number()));
        self.set(reg, Value::NUMBER);
        Value::NUMBER
    }

    fn set(&mut self, reg: Reg, value: Value) {
        self.regs[reg.index()] = value;
    }

    /// Something depends on a value.
    fn uses(&mut self, value: Value, what: &str) {
        if value.unset != 0 {
            self.report(Problem::UninitialisedStack, || {
                format!("{what} depends on stack bytes that were never written")
            });
        }
    }

    /// Whether a register that is accessed through holds an address of the cage as it is. Every engine goes by the low half
    /// alone, which then means some other place than the program computed.
    fn is_an_address(&mut self, register: u64) -> bool {
        let fits = u32::try_from(register).is_ok();
        if !fits {
            self.report(Problem::AddressUpperHalf, || {
                format!(
                    "the address {register:#x} lies outside of all memory; what is accessed is {:#x}",
                    register & 0xffff_ffff
                )
            });
        }
        fits
    }

    fn loads(&mut self, base: Reg, insn: &Insn, size: Size, regs: &Regs, run: &Run<'_>) -> Value {
        let addr = Cage::effective(regs[base.index()], insn.off);
        let len = u64::from(size.len());
        let pointer = self.read(base);
        if self.is_an_address(regs[base.index()]) {
            self.accesses(pointer, addr, len, Access::Read, run);
        }
        if let Some(place) = self.stack.place(addr, len) {
            return self.stack.load(place, size.len() as usize);
        }
        let is_bound = size == Size::W && bounds_field(run.kind, addr - i64::from(run.head.ctx));
        let origin = if is_bound { Origin::Packet { moves: self.moves } } else { Origin::Unknown };
        Value { origin, unset: 0 }
    }

    fn stores(&mut self, insn: &Insn, size: Size, value: Value, regs: &Regs, run: &Run<'_>) {
        let addr = Cage::effective(regs[insn.dst.index()], insn.off);
        let len = u64::from(size.len());
        let pointer = self.read(insn.dst);
        if self.is_an_address(regs[insn.dst.index()]) {
            self.accesses(pointer, addr, len, Access::Write, run);
        }
        if let Some(place) = self.stack.place(addr, len) {
            self.stack.store(place, size.len() as usize, value);
        }
    }

    /// An atomic operation reads and writes.
    fn updates(&mut self, insn: &Insn, size: Size, regs: &Regs, run: &Run<'_>) {
        let operand = self.read(insn.src);
        let old = self.loads(insn.dst, insn, size, regs, run);
        self.uses(old, "an atomic operation");
        self.stores(insn, size, Value::number(operand.unset), regs, run);
    }
}
