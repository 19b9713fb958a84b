//! Calls of helpers and subprograms, returns, and tail calls.
//!
//! Invariant: at most [`CALL_FRAMES_MAX`] frames; a tail call adds none.

use super::{Linked, Machine, Next};
use crate::helpers::{self, TAIL_CALL};
use crate::isa::{Insn, Reg};
use crate::limits::{CALL_FRAMES_MAX, FRAME_STACK_LEN, TAIL_CALLS_MAX};
use crate::maps::Errno;
use crate::run::{Callback, Step};
use crate::trap::TrapKind;
use crate::vm::Loaded;

/// Callers' frames that can lie below the one that is executing.
const CALLERS_MAX: usize = CALL_FRAMES_MAX as usize - 1;

/// What a caller finds again after its callee returns.
#[derive(Clone, Copy)]
struct Caller<'m> {
    linked: &'m Linked,
    /// Where it goes on.
    pc: usize,
    /// r6 to r9.
    saved: [u64; 4],
    returns: Returns,
}

/// Who called a function.
#[derive(Clone, Copy)]
enum Returns {
    /// The program, by a local call.
    ToCode,
    /// A helper that the program called.
    ToHelper,
}

/// What a run began with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Bottom {
    /// A program.
    #[default]
    Program,
    /// A function of one, such as a timer's.
    Callback,
}

/// The callers of the function that is executing, outermost first.
#[derive(Default)]
pub(super) struct Frames<'m> {
    pub(super) bottom: Bottom,
    callers: Vec<Caller<'m>>,
}

impl<'m> Machine<'m, '_> {
    /// Calls the helper or kernel function with this index for [`helpers::at`].
    pub(super) fn call_helper(&mut self, index: i64) -> Result<Next, TrapKind> {
        let index = usize::try_from(index).expect("linking made the index");
        let helper = helpers::at(index);
        if helper.id == TAIL_CALL {
            return self.tail_call(helper);
        }
        self.call_body(helper)
    }

    /// Calls the helper whose number dst holds.
    pub(super) fn call_reg(&mut self, insn: &Insn) -> Result<Next, TrapKind> {
        let number = self.reg(insn.dst);
        let (_, helper) = helpers::by_register(number, self.run.kind).ok_or(TrapKind::NoHelper { number })?;
        self.pay(u64::from(helper.cost))?;
        self.call_body(helper)
    }

    fn call_body(&mut self, helper: &helpers::Helper) -> Result<Next, TrapKind> {
        let args = [self.regs[1], self.regs[2], self.regs[3], self.regs[4], self.regs[5]];
        self.watch.before_helper(helper, &self.regs, self.run);
        let result = (helper.body)(self.run, args)?;
        let result = match self.run.callback.take() {
            None => result,
            Some(callback) => self.call_back(callback)?,
        };
        self.watch.after_helper(helper, args, result, self.run);
        self.set(Reg::R0, result);
        self.clobber_arguments();
        Ok(Next::Forward)
    }

    /// r1 to r5 hold nothing of the callee's after a call.
    pub(super) fn clobber_arguments(&mut self) {
        self.regs[1..=5].fill(0);
    }

    pub(super) fn call_local(&mut self, insn: &Insn) -> Result<Next, TrapKind> {
        let target = insn.target(self.pc).and_then(|target| usize::try_from(target).ok());
        let target = target.expect("a local call lands on a subprogram: the program was checked");
        self.push_caller(Returns::ToCode)?;
        self.pc = target;
        self.enter_function()?;
        Ok(Next::At(target))
    }

    /// Makes the calls that a helper asked for; gives its r0.
    fn call_back(&mut self, callback: Callback) -> Result<u64, TrapKind> {
        let Callback { helper, arg, code, mut iteration } = callback;
        let not_a_function = TrapKind::HelperArg { helper, arg, expected: "a function of the program" };
        let index = self.linked.callback(code).ok_or(not_a_function)?;
        let (linked, call) = (self.linked, self.pc);
        iteration.set_program(linked.id());
        let mut returned = None;
        self.run.callback_depth += 1;
        loop {
            match helpers::resume(&mut iteration, self.run, returned)? {
                Step::Done(r0) => {
                    self.run.callback_depth -= 1;
                    return Ok(r0);
                }
                Step::Call(args) => {
                    self.push_caller(Returns::ToHelper)?;
                    self.regs[1..=5].copy_from_slice(&args);
                    self.watch.is_called_back();
                    self.pc = linked.callbacks()[index];
                    self.enter_function()?;
                    self.execute()?;
                    self.pc = call;
                    returned = Some(self.regs[0]);
                }
            }
        }
    }

    /// Notes where the function that is executing goes on, and makes the registers those of one that it calls.
    fn push_caller(&mut self, returns: Returns) -> Result<(), TrapKind> {
        let [.., r6, r7, r8, r9, fp] = self.regs;
        if self.frames.callers.len() == CALLERS_MAX {
            return Err(TrapKind::CallDepth);
        }
        self.frames.callers.push(Caller { linked: self.linked, pc: self.pc + 1, saved: [r6, r7, r8, r9], returns });
        self.watch.calls();
        self.regs[0] = 0;
        self.regs[6..=9].fill(0);
        self.set(Reg::FP, fp - u64::from(FRAME_STACK_LEN));
        Ok(())
    }

    /// Returns to the caller, or ends the run or the call of a helper.
    pub(super) fn exit(&mut self) -> Next {
        self.watch.leaves(self.reg(Reg::FP));
        let Some(caller) = self.frames.callers.pop() else { return Next::End };
        self.linked = caller.linked;
        self.run.head.program = u64::from(caller.linked.id());
        self.regs[6..=9].copy_from_slice(&caller.saved);
        let fp = self.reg(Reg::FP) + u64::from(FRAME_STACK_LEN);
        self.set(Reg::FP, fp);
        self.clobber_arguments();
        match caller.returns {
            Returns::ToCode => Next::At(caller.pc),
            Returns::ToHelper => Next::End,
        }
    }

    /// `bpf_tail_call(ctx, program array, index)`: goes on in another program with this call frame, or falls through.
    /// The index is 32 bits. Only a call that is taken counts, as in the kernel since 6.10.
    fn tail_call(&mut self, helper: &helpers::Helper) -> Result<Next, TrapKind> {
        self.watch.before_helper(helper, &self.regs, self.run);
        let [_, ctx, handle, index, ..] = self.regs;
        helpers::check_tail_call(self.run, ctx)?;
        let map = self.run.world.maps.map_by_handle(handle, self.guard).and_then(|map| map.as_program_array());
        let array = map.ok_or(TrapKind::HelperArg { helper: TAIL_CALL, arg: 2, expected: "a program array" })?;
        #[expect(clippy::cast_possible_truncation, reason = "the kernel's index is 32 bits of r3")]
        let index = index as u32;
        let allowed = self.run.head.tail_calls < TAIL_CALLS_MAX;
        let slot = if allowed { array.slot(index, self.guard) } else { None };
        let Some(slot) = slot else {
            let missed = Errno::ENOENT.to_r0();
            self.watch.after_helper(helper, [0; 5], missed, self.run);
            self.set(Reg::R0, missed);
            self.clobber_arguments();
            return Ok(Next::Forward);
        };
        let target = slot.program.downcast_ref::<Loaded>().expect("a program array holds loaded programs");
        self.run.head.tail_calls += 1;
        let is_below = !self.frames.callers.is_empty() || self.frames.bottom == Bottom::Callback;
        self.run.head.left_subprogram += u64::from(is_below);
        self.watch.jumps_to_program();
        let fp = self.reg(Reg::FP);
        self.regs.fill(0);
        self.set(Reg::R1, ctx);
        self.set(Reg::FP, fp);
        self.enter_program(target.linked())?;
        target.count_tail_run();
        Ok(Next::At(0))
    }
}
