//! Verify mode: the interpreter.
//!
//! One of two independent statements of what instructions mean (the other is the translator, `jit`); tests compare them.
//! It matches on [`Does`] without wildcard arms, so a new row of the instruction table does not compile without an arm
//! here.
//!
//! Invariant: all safe code; every access goes through the checks of the cage. Every run ends, by fuel.

mod arithmetic;
mod call;
mod memory;
mod watch;

use std::sync::Arc;

use crossbeam::epoch::{self, Guard};

use super::{Linked, Outcome, TrapAt};
use crate::isa::{Does, Insn, Operand, Reg, Sign};
use crate::limits::{FRAME_STACK_LEN, FUEL_MAY_GOTO};
use crate::run::Run;
use crate::trap::{Trap, TrapKind};
use call::{Bottom, Frames};
use watch::Watch;

/// Runs a program to its end or its trap.
///
/// The caller has made the run ready: [`Run::reset`], frame bounds, context, stack.
///
/// # Panics
/// If the stack below `head.stack_top` is not writable guest memory: our mistake.
pub fn run(linked: &Linked, run: &mut Run<'_>) -> Outcome {
    // Keeps maps and tail-called programs alive to the end of the run.
    let guard = epoch::pin();
    let mut machine = Machine::new(linked, run, &guard);
    let end = machine.enter_program(linked).and_then(|()| machine.execute());
    machine.finish(end.err())
}

/// Runs one of the program's functions, the one that begins at `start`, to its end or its trap.
///
/// # Panics
/// As [`run`].
pub fn run_callback(linked: &Linked, run: &mut Run<'_>, start: usize, args: [u64; 5]) -> Outcome {
    let guard = epoch::pin();
    let mut machine = Machine::new(linked, run, &guard);
    machine.regs[1..=5].copy_from_slice(&args);
    machine.watch.is_called_back();
    machine.frames.bottom = Bottom::Callback;
    machine.run.head.program = u64::from(linked.id());
    machine.pc = start;
    let end = machine.enter_function().and_then(|()| machine.execute());
    machine.finish(end.err())
}

/// A run in progress.
struct Machine<'m, 'w> {
    /// The program that is executing: after a tail call, another than at the start.
    linked: &'m Linked,
    run: &'m mut Run<'w>,
    guard: &'m Guard,
    pc: usize,
    regs: [u64; Reg::COUNT],
    frames: Frames<'m>,
    watch: Watch<'m>,
    insns: u64,
}

/// What an instruction leaves to do.
enum Next {
    /// Go on behind it.
    Forward,
    /// Go on at this slot, of this program or another; already paid for.
    At(usize),
    /// The run is over.
    End,
}

impl<'m, 'w> Machine<'m, 'w> {
    fn new(linked: &'m Linked, run: &'m mut Run<'w>, guard: &'m Guard) -> Self {
        let mut regs = [0; Reg::COUNT];
        regs[Reg::R1.index()] = u64::from(run.head.ctx);
        regs[2] = run.head.arg2;
        regs[Reg::FP.index()] = u64::from(run.head.stack_top);
        run.touch();
        let watch = Watch::new(linked, run);
        Self { linked, run, guard, pc: 0, regs, frames: Frames::default(), watch, insns: 0 }
    }

    fn execute(&mut self) -> Result<(), TrapKind> {
        loop {
            let linked = self.linked;
            let insn = &linked.insns()[self.pc];
            self.insns += 1;
            self.watch.before(linked, self.pc, insn, &self.regs, self.run);
            match self.step(insn)? {
                Next::Forward => self.pc += 1,
                Next::At(pc) => self.pc = pc,
                Next::End => return Ok(()),
            }
        }
    }

    /// Executes one instruction.
    fn step(&mut self, insn: &Insn) -> Result<Next, TrapKind> {
        match insn.does {
            Does::Alu(width, op, operand) => {
                let (a, b) = (self.reg(insn.dst), self.operand(insn, operand));
                self.set(insn.dst, arithmetic::alu(width, op, a, b));
            }
            Does::MovSigned(width, size) => {
                self.set(insn.dst, arithmetic::mov_signed(width, size, self.reg(insn.src)));
            }
            Does::Neg(width) => self.set(insn.dst, arithmetic::neg(width, self.reg(insn.dst))),
            Does::Swap(endian, size) => self.set(insn.dst, arithmetic::swap(endian, size, self.reg(insn.dst))),

            Does::LoadImm64 => {
                self.set(insn.dst, insn.imm.cast_unsigned());
                return Ok(Next::At(self.pc + 2));
            }

            Does::Load(size, sign) => {
                let value = self.load(self.address(insn.src, insn), size)?;
                let value = match sign {
                    Sign::Zero => value,
                    Sign::Extend => arithmetic::sign_extend(size, value),
                };
                self.set(insn.dst, value);
            }
            Does::Store(size, operand) => {
                self.store(self.address(insn.dst, insn), size, self.operand(insn, operand))?;
            }
            Does::Atomic(size, op, fetch) => self.atomic(insn, size, op, fetch)?,
            Does::Exchange(size) => self.exchange(insn, size)?,
            Does::CompareExchange(size) => self.compare_exchange(insn, size)?,
            Does::LoadAcquire(size) => self.load_acquire(insn, size)?,
            Does::StoreRelease(size) => self.store_release(insn, size)?,
            Does::LoadPacket(size, operand) => return self.load_packet(insn, size, operand),

            Does::Goto | Does::GotoLong => return self.jump(insn),
            Does::Branch(width, cond, operand) => {
                if arithmetic::holds(width, cond, self.reg(insn.dst), self.operand(insn, operand)) {
                    return self.jump(insn);
                }
            }
            Does::MayGoto => {
                if self.run.head.fuel < FUEL_MAY_GOTO {
                    return self.jump(insn);
                }
            }

            Does::CallHelper => return self.call_helper(insn.imm),
            Does::CallLocal => return self.call_local(insn),
            Does::CallReg => return self.call_reg(insn),
            Does::Exit => return Ok(self.exit()),

            Does::LoadMap
            | Does::LoadMapValue
            | Does::LoadMapByIndex
            | Does::LoadMapValueByIndex
            | Does::LoadVarAddr
            | Does::LoadCodeAddr
            | Does::CallKfunc
            | Does::GotoReg
            | Does::AddrSpaceCast => unreachable!("linking binds or refuses what refers outside the program"),
            Does::SecondSlot => unreachable!("no jump leads into a two-slot instruction: the program was checked"),
        }
        Ok(Next::Forward)
    }

    fn reg(&self, reg: Reg) -> u64 {
        self.regs[reg.index()]
    }

    fn set(&mut self, reg: Reg, value: u64) {
        self.regs[reg.index()] = value;
    }

    /// The second operand: the sign-extended immediate or src.
    fn operand(&self, insn: &Insn, operand: Operand) -> u64 {
        match operand {
            Operand::Imm => insn.imm.cast_unsigned(),
            Operand::Reg => self.reg(insn.src),
        }
    }

    /// Takes a jump; one that leads backwards, or to itself, costs what the slots are worth that it repeats.
    fn jump(&mut self, insn: &Insn) -> Result<Next, TrapKind> {
        let target = insn.target(self.pc).and_then(|target| usize::try_from(target).ok());
        let target = target.expect("a jump lands in its subprogram: the program was checked");
        if target <= self.pc {
            self.pay(self.linked.price(target..self.pc + 1))?;
        }
        Ok(Next::At(target))
    }

    /// Takes fuel; what cannot be paid ends the run.
    fn pay(&mut self, slots: u64) -> Result<(), TrapKind> {
        self.run.head.fuel = self.run.head.fuel.checked_sub(slots).ok_or(TrapKind::Fuel)?;
        Ok(())
    }

    /// Pays for a function's slots and zeroes its stack. The function begins at `self.pc`.
    fn enter_function(&mut self) -> Result<(), TrapKind> {
        let functions = self.linked.program().functions();
        let function = &functions[functions.partition_point(|function| function.start <= self.pc) - 1];
        self.pay(self.linked.price(function.start..function.end))?;
        let stack = self.reg(Reg::FP) - u64::from(FRAME_STACK_LEN);
        let zeroed = self.run.world.cage.fill(stack, u64::from(FRAME_STACK_LEN), 0);
        zeroed.expect("the caller of a run gives it a stack");
        self.watch.entered(self.reg(Reg::FP));
        Ok(())
    }

    /// Enters the main function of a program: the first, or a tail call's.
    fn enter_program(&mut self, linked: &'m Linked) -> Result<(), TrapKind> {
        self.linked = linked;
        self.pc = 0;
        self.run.head.program = u64::from(linked.id());
        self.enter_function()
    }

    fn finish(mut self, trap: Option<TrapKind>) -> Outcome {
        let mut trap = trap;
        if let Some(TrapKind::Thrown { cookie }) = trap {
            self.regs[0] = cookie;
            (self.run.head.fuel, self.run.head.tail_calls) = (0, 0);
            trap = None;
        }
        if trap.is_none() {
            self.watch.ends(self.run);
        }
        self.run.findings = self.watch.take_findings();
        self.run.discard_records();
        self.run.trap = trap;
        let head = &mut self.run.head;
        if trap.is_some() {
            head.fuel = 0;
        }
        head.r0 = if trap.is_none() { self.regs[0] } else { 0 };
        let at = |kind| TrapAt { program: Arc::clone(self.linked.program()), trap: Trap { kind, pc: self.pc } };
        Outcome {
            r0: head.r0,
            fuel_left: head.fuel,
            tail_calls: head.tail_calls,
            insns: Some(self.insns),
            trap: trap.map(at),
        }
    }
}
