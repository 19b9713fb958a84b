//! Translates one function.
//!
//! Registers are variables of Cranelift's SSA builder; run, cage base and frame pointer are values of the whole function.
//!
//! Cranelift's analysis of memory cannot be switched off in 0.135 and takes memory for its own: it would drop a store of
//! what was just loaded (which must trap on read-only pages), keep only the second of two stores to a place, hoist a load
//! out of a loop that waits for another worker, and fold a load into its user (which then traps at the user's pc). A
//! `sequence_point`, which is no machine code, before each store, behind each 64-bit load and at each loop's head keeps
//! it from all four.
//!
//! Invariant: effects happen in program order, and whatever may trap carries its own pc.

mod arithmetic;
mod call;
mod jump;
mod lookup;
mod memory;
mod update;

use std::collections::BTreeMap;
use std::ops::Range;

use cranelift_codegen::ir::types::{I8X16, I64};
use cranelift_codegen::ir::{self, Block, FuncRef, InstBuilder, SourceLoc, Type, Value};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

use super::bytes::Bytes;
use super::callbacks::Callbacks;
use super::facts::{ARGUMENTS, Effects, Fact, Facts, Role, State};
use super::hooks::{Fuel, Hooks};
use super::locals::{self, Local};
use super::mutant::{Mutant, either};
use super::outline::Outline;
use super::stop;
use super::target;
use super::translate::Room;
use crate::isa::{Does, Insn, Operand, Reg};
use crate::program::Function;
use crate::vm::Linked;

/// A function of a program in one of its roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    /// Slot index of its first instruction.
    pub(super) start: usize,
    /// How it is entered.
    pub(super) role: Role,
}

/// What the translation of one function looks at.
pub(super) struct Source<'a, H> {
    pub(super) linked: &'a Linked,
    pub(super) outline: &'a Outline,
    pub(super) hooks: &'a H,
    /// All parts of the program, by their order in the code.
    pub(super) parts: &'a BTreeMap<Part, Facts>,
    /// Stack bytes to zero in every function instead of what its facts say.
    pub(super) zero: Option<Bytes>,
    /// The functions that helpers call back.
    pub(super) callbacks: &'a Callbacks,
}

impl<H> Source<'_, H> {
    pub(super) fn function(&self, part: Part) -> &Function {
        self.linked.program().function_at(part.start).expect("a part begins a function")
    }

    /// Arguments that a part is passed: those of r1 to r5 that it reads.
    fn passed(&self, part: Part) -> impl Iterator<Item = Reg> + use<H> {
        let args = match part.role {
            // The host knows one shape for all.
            Role::Callback => ARGUMENTS,
            Role::Program | Role::Subprogram => self.parts.get(&part).map_or(0, |facts| facts.effects.args),
        };
        (1..=5).filter(move |number| args >> number & 1 != 0).filter_map(Reg::new)
    }

    /// The shape of a part.
    pub(super) fn signature(&self, part: Part) -> ir::Signature {
        match part.role {
            Role::Program => target::entry_signature(),
            Role::Subprogram | Role::Callback => target::subprogram_signature(self.passed(part).count()),
        }
    }

    /// Its place in the order of the code, by which calls name it.
    fn index(&self, part: Part) -> u32 {
        let index = self.parts.keys().position(|other| *other == part);
        u32::try_from(index.expect("every called part is translated")).expect("at most as many as slots")
    }
}

/// Translates one part into `function`. Where that would be more than there is room for, the slot at which it would.
pub(super) fn translate<H: Hooks>(
    source: &Source<'_, H>,
    part: Part,
    function: &mut ir::Function,
    context: &mut FunctionBuilderContext,
    room: Room,
) -> Result<(), usize> {
    function.signature = source.signature(part);
    let mut builder = FunctionBuilder::new(function, context);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    builder.seal_block(entry);
    builder.set_srcloc(location(part.start));
    let params = builder.block_params(entry).to_vec();
    let (run, cage, fp, spent, tail_calls) = match part.role {
        Role::Program => (params[0], params[1], params[3], params[4], params[5]),
        Role::Subprogram | Role::Callback => (params[0], params[1], params[2], params[3], params[4]),
    };
    let regs = std::array::from_fn(|_| builder.declare_var(I64));
    let variables = [(builder.declare_var(I64), spent), (builder.declare_var(ir::types::I32), tail_calls)];
    for (variable, value) in variables {
        builder.def_var(variable, value);
    }
    let facts = &source.parts[&part];
    // Where a function lets a pointer into the stack out of sight, its frames are what it may point to.
    let found =
        if source.zero.is_none() { locals::find(source.linked, source.outline, facts) } else { BTreeMap::new() };
    let locals = found.into_iter().map(|(at, local)| (at, (local, builder.declare_var(I64)))).collect();
    let kept = source.hooks.function(&mut builder, run);
    let bounds = source.function(part);
    let mut body = Body {
        source,
        facts,
        locals,
        fresh: None,
        done: bounds.start,
        state: State::unknown(),
        effects: Effects::NONE,
        start: bounds.start,
        end: bounds.end,
        blocks: BTreeMap::new(),
        callees: BTreeMap::new(),
        regs,
        spent: variables[0].0,
        tail_calls: variables[1].0,
        run,
        cage,
        fp,
        kept,
        role: part.role,
        builder,
    };
    body.enter(part, &params);
    body.insns(room)?;
    body.builder.seal_all_blocks();
    body.builder.finalize(target::isa().frontend_config());
    Ok(())
}

/// An element that was just looked up without a call.
#[derive(Clone, Copy)]
struct Fresh {
    /// Its address, or zero: what r0 holds.
    r0: Value,
    /// Whether it is there.
    is_there: Value,
    /// Its address where it is.
    addr: Value,
}

/// A function under translation.
struct Body<'a, 'b, H: Hooks> {
    source: &'a Source<'a, H>,
    facts: &'a Facts,
    /// What is known before the instruction under translation.
    state: State,
    /// Ignored here: the analysis has added them up.
    effects: Effects,
    start: usize,
    end: usize,
    /// Blocks by their leaders.
    blocks: BTreeMap<usize, Block>,
    callees: BTreeMap<usize, FuncRef>,
    /// Places of the frame that are variables.
    locals: BTreeMap<i32, (Local, Variable)>,
    /// The element that the last instruction looked up.
    fresh: Option<Fresh>,
    /// Slots before this one are translated.
    done: usize,
    regs: [Variable; Reg::COUNT - 1],
    /// Fuel, as what is missing to `u64::MAX`.
    spent: Variable,
    tail_calls: Variable,
    run: Value,
    cage: Value,
    fp: Value,
    kept: H::Kept,
    role: Role,
    builder: FunctionBuilder<'b>,
}

impl<H: Hooks> Body<'_, '_, H> {
    /// Pays for the function, zeroes its stack and its registers, goes to its first instruction.
    fn enter(&mut self, part: Part, params: &[Value]) {
        self.pay(self.price(self.start..self.end), stop::ENTRY_FUEL);
        let zero = self.source.zero.unwrap_or(self.facts.effects.zero);
        self.zero(&zero);
        let none = self.number(0);
        let locals: Vec<_> = self.locals.values().map(|(_, variable)| *variable).collect();
        for variable in self.regs.into_iter().chain(locals) {
            self.builder.def_var(variable, none);
        }
        match part.role {
            Role::Program => {
                self.note_tail_calls(params[5]);
                self.source.hooks.program(&mut self.builder, self.run);
                self.source.hooks.entered(&mut self.builder, self.kept, params[5]);
                self.set(Reg::R1, params[2]);
                // Cranelift would keep the load though nobody reads it.
                if self.source.passed(part).any(|reg| reg.index() == 2) {
                    let arg2 = self.head_arg2();
                    self.builder.def_var(self.regs[2], arg2);
                }
            }
            Role::Subprogram | Role::Callback => {
                for (reg, value) in self.source.passed(part).zip(&params[target::FIXED_PARAMS..]) {
                    self.set(reg, *value);
                }
            }
        }
        let first = self.block(self.start);
        self.builder.ins().jump(first, &[]);
    }

    /// Zeroes words of the stack.
    fn zero(&mut self, bytes: &Bytes) {
        let mut words = bytes.words().peekable();
        let mut wide = None;
        while let Some(offset) = words.next() {
            let flags = stop::flags(stop::WRITE);
            let at = self.builder.ins().iadd(self.cage, self.fp);
            if words.next_if_eq(&(offset + 8)).is_some() {
                let zeros = *wide.get_or_insert_with(|| {
                    let constant = self.builder.func.dfg.constants.insert([0u8; 16].as_slice().into());
                    self.builder.ins().vconst(I8X16, constant)
                });
                self.builder.ins().store(flags, zeros, at, offset);
            } else {
                let zero = self.number(0);
                self.builder.ins().store(flags, zero, at, offset);
            }
        }
    }

    /// Translates every instruction that can be reached.
    fn insns(&mut self, room: Room) -> Result<(), usize> {
        let source = self.source;
        let mut open = false;
        for (pc, insn) in source.linked.insns().iter().enumerate().take(self.end).skip(self.start) {
            if pc < self.done {
                continue;
            }
            if source.outline.is_leader(pc) {
                open = self.lead(pc, open);
            }
            if !open {
                continue;
            }
            if !room.holds(self.builder.func) {
                return Err(pc);
            }
            self.builder.set_srcloc(location(pc));
            if insn.does != Does::SecondSlot {
                source.hooks.insn(&mut self.builder, self.run, self.kept, pc);
            }
            let fresh = self.fresh.take();
            open = self.insn(pc, insn, fresh);
            self.state.step(source.linked, insn, &mut self.effects);
        }
        assert!(!open, "no function falls off its end: the program was checked");
        Ok(())
    }

    /// Begins the block at a leader, if it can be reached.
    fn lead(&mut self, pc: usize, open: bool) -> bool {
        let Some(state) = self.facts.leaders.get(&pc) else {
            assert!(!open, "what falls through to a leader was seen by the analysis");
            return false;
        };
        self.state = state.clone();
        let block = self.block(pc);
        if open {
            self.builder.ins().jump(block, &[]);
        }
        self.builder.switch_to_block(block);
        if self.source.outline.is_loop(pc) {
            self.builder.ins().sequence_point();
        } else {
            self.builder.seal_block(block);
        }
        true
    }

    /// Translates one instruction. Returns whether the block goes on behind it.
    fn insn(&mut self, pc: usize, insn: &Insn, fresh: Option<Fresh>) -> bool {
        match insn.does {
            Does::Alu(width, op, operand) => self.alu(insn, width, op, operand),
            Does::MovSigned(width, size) => self.mov_signed(insn, width, size),
            Does::Neg(width) => self.neg(insn, width),
            Does::Swap(endian, size) => self.swap(insn, endian, size),
            Does::LoadImm64 => {
                let value = self.number(insn.imm);
                self.set(insn.dst, value);
            }
            Does::SecondSlot => {}

            Does::Load(size, sign) => self.load(insn, size, sign),
            Does::Store(size, operand) => self.store(insn, size, operand),
            Does::Atomic(size, op, fetch) => self.atomic(insn, size, op, fetch),
            Does::Exchange(size) => self.exchange(insn, size),
            Does::CompareExchange(size) => self.compare_exchange(insn, size),
            Does::LoadAcquire(size) => self.load_acquire(insn, size),
            Does::StoreRelease(size) => self.store_release(insn, size),
            Does::LoadPacket(size, operand) => self.load_packet(insn, size, operand),

            Does::Goto | Does::GotoLong => {
                self.goto(pc, insn);
                return false;
            }
            Does::Branch(width, cond, operand) => return self.branch(pc, insn, (width, cond, operand), fresh),
            Does::MayGoto => {
                self.may_goto(pc, insn);
                return false;
            }

            Does::CallHelper => self.call_helper(pc, insn),
            Does::CallLocal => self.call_local(pc, insn),
            Does::CallReg => self.call_reg(pc, insn),
            Does::Exit => {
                let r0 = self.reg(Reg::R0);
                self.leave(r0);
                return false;
            }

            Does::LoadMap
            | Does::LoadMapValue
            | Does::LoadMapByIndex
            | Does::LoadMapValueByIndex
            | Does::LoadVarAddr
            | Does::LoadCodeAddr
            | Does::CallKfunc
            | Does::GotoReg
            | Does::AddrSpaceCast => unreachable!("linking binds or refuses what refers outside the program"),
        }
        true
    }

    /// The value of a register.
    fn reg(&mut self, reg: Reg) -> Value {
        match self.regs.get(reg.index()) {
            Some(variable) => self.builder.use_var(*variable),
            None => self.fp,
        }
    }

    fn set(&mut self, reg: Reg, value: Value) {
        self.builder.def_var(self.regs[reg.index()], value);
    }

    /// What is known of a register.
    fn fact(&self, reg: Reg) -> Fact {
        self.state.reg(reg)
    }

    /// The second operand at 64 bits.
    fn operand(&mut self, insn: &Insn, operand: Operand) -> Value {
        match operand {
            Operand::Imm => self.number(insn.imm),
            Operand::Reg => self.reg(insn.src),
        }
    }

    fn number(&mut self, value: i64) -> Value {
        self.builder.ins().iconst(I64, value)
    }

    /// A value cut off to a narrower type.
    fn narrow(&mut self, ty: Type, value: Value) -> Value {
        if ty == I64 { value } else { self.builder.ins().ireduce(ty, value) }
    }

    /// A value widened with zeros to 64 bits.
    fn widen(&mut self, value: Value) -> Value {
        if self.builder.func.dfg.value_type(value) == I64 { value } else { self.builder.ins().uextend(I64, value) }
    }

    /// What slots are worth.
    fn price(&self, slots: Range<usize>) -> u64 {
        let price = self.source.linked.price(slots.clone());
        price - either(Mutant::HelperCost, u64::from(price > slots.len() as u64), 0)
    }

    /// Takes fuel; what cannot be paid is a trap.
    fn pay(&mut self, slots: u64, code: ir::TrapCode) {
        if slots == 0 || H::SAFETY.fuel != Fuel::Charged {
            return;
        }
        let spent = self.builder.use_var(self.spent);
        let price = self.number(slots.cast_signed());
        let spent = self.builder.ins().uadd_overflow_trap(spent, price, code);
        self.builder.def_var(self.spent, spent);
    }

    /// r1 to r5 hold nothing of the callee's after a call.
    fn clobber_arguments(&mut self) {
        let none = self.number(0);
        for reg in (1..=either(Mutant::ArgumentsKept, 4, 5)).filter_map(Reg::new) {
            self.set(reg, none);
        }
    }

    /// Returns from the function.
    fn leave(&mut self, r0: Value) {
        let spent = self.builder.use_var(self.spent);
        self.builder.ins().return_(&[r0, spent]);
    }
}

/// A slot index as Cranelift carries it to the machine code.
fn location(pc: usize) -> SourceLoc {
    SourceLoc::new(u32::try_from(pc).expect("a translated program is short"))
}
