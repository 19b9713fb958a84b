//! Calls of helpers, subprograms and programs.
//!
//! Invariant: a tail call that is taken leaves nothing of its function behind.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{
    Block, ExtFuncData, ExternalName, FuncRef, InstBuilder, MemFlagsData, UserExternalName, Value,
};

use super::{Body, Part};
use crate::helpers::{Helper, Ret, TAIL_CALL};
use crate::isa::{Insn, Operand, Reg, Size};
use crate::limits::{FRAME_STACK_LEN, TAIL_CALLS_MAX};
use crate::maps::{Errno, ProgramArray};
use crate::run::{CallSite, Head};
use crate::verdict::ProgramKind;
use crate::vm::jit::facts::{Fact, Role};
use crate::vm::jit::hooks::Hooks;
use crate::vm::jit::mutant::{Mutant, either, planted};
use crate::vm::jit::outline::{call_target, helper};
use crate::vm::jit::routines::{self, Routine};
use crate::vm::jit::{stop, target};

/// Loads and stores of the host's memory.
pub(super) const HOST: MemFlagsData = MemFlagsData::trusted();

impl<H: Hooks> Body<'_, '_, H> {
    pub(super) fn call_helper(&mut self, pc: usize, insn: &Insn) {
        let helper = helper(insn);
        if helper.id == TAIL_CALL {
            return self.tail_call(pc);
        }
        let inline = self.inline_lookup(pc, insn, helper).or_else(|| self.inline_update(pc, insn, helper));
        let r0 = inline.unwrap_or_else(|| self.call_body(pc, insn, helper));
        self.set(Reg::R0, r0);
        self.clobber_arguments();
    }

    /// Calls the body of a helper; gives r0.
    pub(super) fn call_body(&mut self, pc: usize, insn: &Insn, helper: &Helper) -> Value {
        let index = usize::try_from(insn.imm).expect("linking made the index");
        let site = self.number(CallSite::new(pc, index).0.cast_signed());
        self.builder.ins().store(HOST, site, self.run, field(offset_of!(Head, call_site)));
        let args: Vec<Value> = self.arguments().take(helper.args.len()).collect();
        let routine = routines::helper(helper.args.len());
        let r0 = if helper.calls_back() {
            self.routine_that_calls_back(routine, &args)
        } else {
            self.routine(routine, &args)
        };
        // What is known of an address does not rest on the helper's word.
        if helper.ret == Ret::MapValueOrNull { self.zext32(r0) } else { r0 }
    }

    /// r1 to r5.
    fn arguments(&mut self) -> impl Iterator<Item = Value> {
        (1..=5).filter_map(Reg::new).map(|reg| self.reg(reg))
    }

    /// Calls the helper whose number dst holds.
    pub(super) fn call_reg(&mut self, pc: usize, insn: &Insn) {
        let number = self.reg(insn.dst);
        let found = self.routine(routines::HELPER_BY_NUMBER, &[number]);
        let price = self.builder.ins().band_imm_u(found, i64::from(u32::MAX));
        let spent = self.builder.use_var(self.spent);
        let spent = self.builder.ins().uadd_overflow_trap(spent, price, stop::FUEL);
        self.builder.def_var(self.spent, spent);
        let index = self.builder.ins().ushr_imm_u(found, 32);
        let index = self.builder.ins().ishl_imm_u(index, i64::from(CallSite::PC_BITS));
        let site = self.builder.ins().bor_imm_u(index, CallSite::new(pc, 0).0.cast_signed());
        self.builder.ins().store(HOST, site, self.run, field(offset_of!(Head, call_site)));
        let args: Vec<Value> = self.arguments().collect();
        let r0 = self.routine(routines::helper(args.len()), &args);
        self.set(Reg::R0, r0);
        self.clobber_arguments();
    }

    /// Calls a routine of the host; where it says so, the run traps.
    fn routine(&mut self, routine: Routine, args: &[Value]) -> Value {
        let [value, trapped] = self.call_host(routine, args);
        self.trap_if(trapped, stop::ROUTINE);
        value
    }

    /// Calls a helper that calls back: fuel and tail calls are handed over with the stack, and taken back.
    fn routine_that_calls_back(&mut self, routine: Routine, args: &[Value]) -> Value {
        let spent = self.builder.use_var(self.spent);
        let fuel = self.builder.ins().bnot(spent);
        let callbacks = self.number((std::ptr::from_ref(self.source.callbacks).addr() as u64).cast_signed());
        for (value, offset) in [
            (fuel, offset_of!(Head, fuel)),
            (self.fp, offset_of!(Head, frame)),
            (callbacks, offset_of!(Head, callbacks)),
        ] {
            self.builder.ins().store(HOST, value, self.run, field(offset));
        }
        let r0 = self.routine(routine, args);
        let fuel = self.builder.ins().load(I64, HOST, self.run, field(offset_of!(Head, fuel)));
        let spent = self.builder.ins().bnot(fuel);
        self.builder.def_var(self.spent, spent);
        self.reread_tail_calls();
        self.source.hooks.program(&mut self.builder, self.run);
        r0
    }

    /// Notes how many tail calls led to the entry of a program.
    pub(super) fn note_tail_calls(&mut self, tail_calls: Value) {
        self.builder.ins().store(HOST, tail_calls, self.run, field(offset_of!(Head, tail_calls)));
    }

    /// Whether any function of the program makes tail calls: if not, nobody asks how many there were.
    fn makes_tail_calls(&self) -> bool {
        !self.source.outline.tail_calls().is_empty()
    }

    /// After a call that may have made tail calls.
    fn reread_tail_calls(&mut self) {
        if self.makes_tail_calls() {
            let tail_calls = self.builder.ins().load(I32, HOST, self.run, field(offset_of!(Head, tail_calls)));
            self.builder.def_var(self.tail_calls, tail_calls);
        }
    }

    fn call_host(&mut self, routine: Routine, args: &[Value]) -> [Value; 2] {
        let signature = self.builder.import_signature(target::routine_signature(args.len()));
        let address = self.number((routine.0.addr() as u64).cast_signed());
        let args: Vec<Value> = [self.run].into_iter().chain(args.iter().copied()).collect();
        let call = self.builder.ins().call_indirect(signature, address, &args);
        let [value, trapped] = self.builder.inst_results(call) else { unreachable!("a routine has two results") };
        [*value, *trapped]
    }

    pub(super) fn call_local(&mut self, pc: usize, insn: &Insn) {
        let deepest = self.builder.ins().load(I64, HOST, self.run, field(offset_of!(Head, deepest_frame)));
        let deepest = self.builder.ins().icmp(IntCC::Equal, self.fp, deepest);
        self.trap_if(deepest, stop::CALL_DEPTH);
        let start = call_target(insn, pc);
        let callee = self.callee(start);
        let fp = self.builder.ins().iadd_imm_s(self.fp, -i64::from(FRAME_STACK_LEN));
        let spent = self.builder.use_var(self.spent);
        let tail_calls = if self.makes_tail_calls() {
            self.builder.use_var(self.tail_calls)
        } else {
            self.builder.ins().iconst(I32, 0)
        };
        let mut args = vec![self.run, self.cage, fp, spent, tail_calls];
        for reg in self.source.passed(Part { start, role: Role::Subprogram }) {
            args.push(self.reg(reg));
        }
        let call = self.builder.ins().call(callee, &args);
        let [r0, spent] = *self.builder.inst_results(call) else { unreachable!("a function has two results") };
        self.set(Reg::R0, r0);
        self.builder.def_var(self.spent, spent);
        self.reread_tail_calls();
        self.source.hooks.program(&mut self.builder, self.run);
        self.clobber_arguments();
        if planted(Mutant::SavedRegister) {
            let r6 = self.reg(Reg::R6);
            self.set(Reg::new(7).expect("a register"), r6);
        }
    }

    fn callee(&mut self, start: usize) -> FuncRef {
        if let Some(callee) = self.callees.get(&start) {
            return *callee;
        }
        let part = Part { start, role: Role::Subprogram };
        let signature = self.builder.import_signature(self.source.signature(part));
        let name = UserExternalName { namespace: 0, index: self.source.index(part) };
        let name = ExternalName::user(self.builder.func.declare_imported_user_function(name));
        let callee = self.builder.import_function(ExtFuncData { name, signature, colocated: true, patchable: false });
        self.callees.insert(start, callee);
        callee
    }

    /// `bpf_tail_call(ctx, program array, index)`: jumps, or falls through.
    fn tail_call(&mut self, pc: usize) {
        let [ctx, handle, index] = [1, 2, 3].map(|number| self.reg(Reg::new(number).expect("a register")));
        self.check_context(ctx);
        let index = self.builder.ins().ireduce(I32, index);
        let tail_calls = self.builder.use_var(self.tail_calls);
        let miss = self.builder.create_block();
        let linked = self.source.linked;
        let map = match self.fact(Reg::new(2).expect("a register")) {
            Fact::Const(handle) => linked.own_map(handle),
            Fact::Clean | Fact::Word | Fact::Stack(_) | Fact::Tainted => None,
        };
        let code = match map.and_then(|map| map.as_program_array()) {
            Some(array) => self.slot(array, index, tail_calls, miss),
            None => {
                let index = self.widen(index);
                let code = self.routine(routines::tail_target::<H>(), &[handle, index]);
                let allowed = self.allowed(tail_calls);
                let none = self.number(0);
                self.builder.ins().select(allowed, code, none)
            }
        };
        let hit = self.builder.create_block();
        self.builder.ins().brif(code, hit, &[], miss, &[]);
        self.builder.switch_to_block(hit);
        self.builder.seal_block(hit);
        self.source.hooks.tail_call(&mut self.builder, self.kept, pc);
        if self.role != Role::Program {
            let left = self.number(1);
            self.builder.ins().store(HOST, left, self.run, field(offset_of!(Head, left_subprogram)));
        }
        if linked.program().kind() == ProgramKind::Raw {
            let none = self.number(0);
            self.builder.ins().store(HOST, none, self.run, field(offset_of!(Head, arg2)));
        }
        let signature = self.builder.import_signature(target::entry_signature());
        let spent = self.builder.use_var(self.spent);
        let tail_calls = self.builder.ins().iadd_imm_u(tail_calls, 1);
        let args = [self.run, self.cage, ctx, self.fp, spent, tail_calls];
        self.builder.ins().return_call_indirect(signature, code, &args);
        self.builder.switch_to_block(miss);
        self.builder.seal_block(miss);
        let r0 = self.number(Errno::ENOENT.to_r0().cast_signed());
        self.set(Reg::R0, r0);
        self.clobber_arguments();
    }

    /// Traps unless r1 of a tail call is the context of the run.
    fn check_context(&mut self, ctx: Value) {
        if planted(Mutant::TailCallContext) {
            return;
        }
        let own = self.builder.ins().uload32(HOST, self.run, field(offset_of!(Head, ctx)));
        let differs = self.builder.ins().icmp(IntCC::NotEqual, ctx, own);
        self.trap_if(differs, stop::NO_CONTEXT);
        // The function of a timer, and what it calls, has no context; a program that was entered has one.
        if self.role != Role::Program && self.source.linked.program().kind() != ProgramKind::Raw {
            self.builder.ins().trapz(ctx, stop::NO_CONTEXT);
        }
    }

    fn allowed(&mut self, tail_calls: Value) -> Value {
        self.builder.ins().icmp_imm_u(
            IntCC::UnsignedLessThan,
            tail_calls,
            i64::from(TAIL_CALLS_MAX) + either(Mutant::TailCallLimit, 1, 0),
        )
    }

    /// The code in a slot of a known program array, or null.
    fn slot(&mut self, array: &ProgramArray, index: Value, tail_calls: Value, miss: Block) -> Value {
        let count = i64::from(array.slot_count());
        let inside = self.builder.ins().icmp_imm_u(IntCC::UnsignedLessThan, index, count);
        let allowed = self.allowed(tail_calls);
        let both = self.builder.ins().band(inside, allowed);
        let look = self.builder.create_block();
        self.builder.ins().brif(both, look, &[], miss, &[]);
        self.builder.switch_to_block(look);
        self.builder.seal_block(look);
        let table = self.number((array.code_table(H::CODE_TABLE).addr() as u64).cast_signed());
        let index = self.builder.ins().uextend(I64, index);
        let offset = self.builder.ins().ishl_imm_u(index, 3);
        let at = self.builder.ins().iadd(table, offset);
        self.builder.ins().load(I64, HOST, at, 0)
    }

    /// The legacy packet load. Outside the frame it leaves the function with r0 = 0.
    pub(super) fn load_packet(&mut self, insn: &Insn, size: Size, operand: Operand) {
        let mut offset = self.builder.ins().iconst(I32, insn.imm & i64::from(u32::MAX));
        if operand == Operand::Reg {
            let index = self.reg(insn.src);
            let index = self.builder.ins().ireduce(I32, index);
            offset = self.builder.ins().iadd(offset, index);
        }
        let offset = self.builder.ins().sextend(I64, offset);
        let len = self.number(i64::from(size.len()));
        let [value, state] = self.call_host(routines::LOAD_PACKET, &[offset, len]);
        let trapped = self.builder.ins().icmp_imm_u(IntCC::Equal, state, routines::TRAPPED.cast_signed());
        self.trap_if(trapped, stop::ROUTINE);
        let (outside, inside) = (self.builder.create_block(), self.builder.create_block());
        self.builder.set_cold_block(outside);
        self.builder.ins().brif(state, outside, &[], inside, &[]);
        self.builder.switch_to_block(outside);
        self.builder.seal_block(outside);
        let none = self.number(0);
        self.leave(none);
        self.builder.switch_to_block(inside);
        self.builder.seal_block(inside);
        self.set(Reg::R0, value);
        self.clobber_arguments();
    }

    /// Which worker runs this.
    pub(super) fn head_worker(&mut self) -> Value {
        self.builder.ins().uload32(HOST, self.run, field(offset_of!(Head, worker)))
    }

    /// Second argument at the entry of a run.
    pub(super) fn head_arg2(&mut self) -> Value {
        self.builder.ins().load(I64, HOST, self.run, field(offset_of!(Head, arg2)))
    }

    /// Leaves a number where a trap is read.
    pub(super) fn set_head_r0(&mut self, value: Value) {
        self.builder.ins().store(HOST, value, self.run, field(offset_of!(Head, r0)));
    }
}

/// An offset in the run as the instruction holds it.
pub(super) fn field(offset: usize) -> i32 {
    i32::try_from(offset).expect("a run is small")
}
