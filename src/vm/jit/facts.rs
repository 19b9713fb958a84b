//! What is known of the registers and the stack before each instruction of a function, without running it.
//!
//! Uses: calls with a known map are compiled inline; accesses to known places of the stack, and by registers whose upper half is
//! zero, need no mask; places of the frame become locals; stack bytes that nobody can see unwritten need not be zeroed.
//!
//! A *wild* function lets a pointer into the stack out of sight (stores it, computes with it, hands it to another
//! function) or reaches outside its frame by it. Where a program has one, every function zeroes its whole frame.
//!
//! Invariant: a fact holds on every path that leads there; giving up is always allowed and makes everything unknown.

use std::collections::{BTreeMap, BTreeSet};

use super::bytes::Bytes;
use super::outline::{Outline, call_target, helper, is_tail_call, jump_target};
use crate::helpers::{Arg, Ret};
use crate::isa::{Alu, Cond, Does, Fetch, Insn, Operand, Reg, Sign, Size, Width};
use crate::limits::FRAME_STACK_LEN;
use crate::maps::MapDef;
use crate::program::Function;
use crate::vm::Linked;

/// Blocks are visited this often on average before the analysis gives up.
const VISITS_MAX: usize = 12;
/// How far from r10 a stack pointer is tracked.
const REACH: i64 = 1 << 20;
/// r1 to r5 as bits.
pub(super) const ARGUMENTS: u8 = 0b11_1110;

/// What is known of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// Nothing, but that it was not made from r10.
    Clean,
    /// Nothing, but that it was not made from r10 and that its upper half is zero: as an address it needs no mask.
    Word,
    /// Its value.
    Const(u64),
    /// r10 plus this.
    Stack(i64),
    /// Perhaps made from r10.
    Tainted,
}

impl Fact {
    fn join(self, other: Self) -> Self {
        match (self, other) {
            _ if self == other => self,
            (Self::Stack(_) | Self::Tainted, _) | (_, Self::Stack(_) | Self::Tainted) => Self::Tainted,
            _ if self.is_word() && other.is_word() => Self::Word,
            (Self::Clean | Self::Word | Self::Const(_), Self::Clean | Self::Word | Self::Const(_)) => Self::Clean,
        }
    }

    /// Whether the upper half is zero.
    pub(super) fn is_word(self) -> bool {
        match self {
            Self::Word => true,
            Self::Const(value) => value <= u64::from(u32::MAX),
            Self::Clean | Self::Stack(_) | Self::Tainted => false,
        }
    }

    /// The result of an operation at a width.
    fn of_width(width: Width) -> Self {
        match width {
            Width::W32 => Self::Word,
            Width::W64 => Self::Clean,
        }
    }

    /// What a load gives.
    fn loaded(size: Size, sign: Sign) -> Self {
        match (size, sign) {
            (Size::B | Size::H | Size::W, Sign::Zero) => Self::Word,
            (Size::D, _) | (_, Sign::Extend) => Self::Clean,
        }
    }

    fn is_stack(self) -> bool {
        matches!(self, Self::Stack(_) | Self::Tainted)
    }
}

/// What is known before an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    regs: [Fact; Reg::COUNT - 1],
    /// Stack bytes that were written on every path.
    written: Bytes,
    /// Of r1 to r5, those that may still hold what the caller passed.
    passed: u8,
}

/// A way on from a branch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Taken,
    Next,
}

/// How a function is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Role {
    /// By the host or a tail call.
    Program,
    /// By a local call.
    Subprogram,
    /// By a helper that calls back.
    Callback,
}

impl State {
    fn entry(role: Role) -> Self {
        let mut regs = [Fact::Const(0); Reg::COUNT - 1];
        let unknown = match role {
            Role::Program => 1..=2,
            Role::Subprogram | Role::Callback => 1..=5,
        };
        regs[unknown].fill(Fact::Clean);
        Self { regs, written: Bytes::NONE, passed: ARGUMENTS }
    }

    /// Nothing is known.
    pub(super) fn unknown() -> Self {
        Self { regs: [Fact::Tainted; Reg::COUNT - 1], written: Bytes::NONE, passed: ARGUMENTS }
    }

    /// What is known of a register.
    pub(super) fn reg(&self, reg: Reg) -> Fact {
        self.regs.get(reg.index()).copied().unwrap_or(Fact::Stack(0))
    }

    fn set(&mut self, reg: Reg, fact: Fact) {
        self.passed &= !1u8.checked_shl(u32::from(reg.number())).unwrap_or(0);
        self.regs[reg.index()] = fact;
    }

    fn clobber_arguments(&mut self) {
        self.regs[1..=5].fill(Fact::Const(0));
        self.passed = 0;
    }

    /// Whether it says less after learning of another path.
    fn join(&mut self, other: &Self) -> bool {
        let before = self.clone();
        self.regs.iter_mut().zip(other.regs).for_each(|(fact, other)| *fact = fact.join(other));
        self.written.keep(&other.written);
        self.passed |= other.passed;
        *self != before
    }

    /// What a branch says of the registers that it compared.
    fn learn(&mut self, insn: &Insn, edge: Edge) {
        let Does::Branch(Width::W64, cond, operand) = insn.does else { return };
        let (dst, src) = (
            self.reg(insn.dst),
            match operand {
                Operand::Imm => Fact::Const(insn.imm.cast_unsigned()),
                Operand::Reg => self.reg(insn.src),
            },
        );
        // Which is the smaller one, or as large.
        let (dst_is_less, src_is_less) = match (cond, edge) {
            (Cond::Eq, Edge::Taken) | (Cond::Ne, Edge::Next) => (true, true),
            (Cond::Lt | Cond::Le, Edge::Taken) | (Cond::Gt | Cond::Ge, Edge::Next) => (true, false),
            (Cond::Gt | Cond::Ge, Edge::Taken) | (Cond::Lt | Cond::Le, Edge::Next) => (false, true),
            _ => return,
        };
        if dst_is_less && src.is_word() && dst == Fact::Clean {
            self.regs[insn.dst.index()] = Fact::Word;
        }
        if src_is_less && operand == Operand::Reg && dst.is_word() && src == Fact::Clean {
            self.regs[insn.src.index()] = Fact::Word;
        }
    }

    /// Goes past an instruction, noting what it does beyond registers.
    pub(super) fn step(&mut self, linked: &Linked, insn: &Insn, effects: &mut Effects) {
        let (dst, src) = (self.reg(insn.dst), self.reg(insn.src));
        match insn.does {
            Does::Alu(width, op, operand) => {
                let second = match operand {
                    Operand::Imm => Fact::Const(insn.imm.cast_unsigned()),
                    Operand::Reg => src,
                };
                if op != Alu::Mov {
                    effects.reads(self, insn.dst);
                }
                if operand == Operand::Reg {
                    effects.reads(self, insn.src);
                }
                let fact = alu(width, op, dst, second, effects);
                self.set(insn.dst, fact);
            }
            Does::MovSigned(width, _) => {
                effects.reads(self, insn.src);
                effects.uses(src);
                self.set(insn.dst, Fact::of_width(width));
            }
            Does::Neg(width) => {
                effects.reads(self, insn.dst);
                effects.uses(dst);
                self.set(insn.dst, Fact::of_width(width));
            }
            Does::Swap(_, size) => {
                effects.reads(self, insn.dst);
                effects.uses(dst);
                self.set(insn.dst, Fact::loaded(size, Sign::Zero));
            }
            Does::LoadImm64 => self.set(insn.dst, Fact::Const(insn.imm.cast_unsigned())),
            Does::Load(size, sign) => {
                effects.reads(self, insn.src);
                effects.loads(self, src, insn.off, size);
                self.set(insn.dst, Fact::loaded(size, sign));
            }
            Does::LoadAcquire(size) => {
                effects.reads(self, insn.src);
                effects.loads(self, src, insn.off, size);
                self.set(insn.dst, Fact::loaded(size, Sign::Zero));
            }
            Does::Store(size, operand) => {
                effects.reads(self, insn.dst);
                if operand == Operand::Reg {
                    effects.reads(self, insn.src);
                    effects.uses(src);
                }
                self.stores(dst, insn.off, size, effects);
            }
            Does::StoreRelease(size) => {
                effects.reads(self, insn.dst);
                effects.reads(self, insn.src);
                effects.uses(src);
                self.stores(dst, insn.off, size, effects);
            }
            Does::Atomic(size, _, fetch) => {
                self.updates(insn, size, effects);
                if fetch == Fetch::Old {
                    self.set(insn.src, Fact::loaded(size, Sign::Zero));
                }
            }
            Does::Exchange(size) => {
                self.updates(insn, size, effects);
                self.set(insn.src, Fact::loaded(size, Sign::Zero));
            }
            Does::CompareExchange(size) => {
                effects.uses(self.reg(Reg::R0));
                self.updates(insn, size, effects);
                self.set(Reg::R0, Fact::loaded(size, Sign::Zero));
            }
            Does::LoadPacket(_, operand) => {
                if operand == Operand::Reg {
                    effects.reads(self, insn.src);
                    effects.uses(src);
                }
                self.set(Reg::R0, Fact::Clean);
                self.clobber_arguments();
            }
            Does::Branch(_, _, operand) => {
                effects.reads(self, insn.dst);
                if operand == Operand::Reg {
                    effects.reads(self, insn.src);
                }
            }
            Does::CallHelper => {
                if is_tail_call(insn) {
                    self.gives_away(effects, 1..=3);
                } else {
                    self.calls(linked, helper(insn).args, effects);
                }
                let is_address = !is_tail_call(insn) && helper(insn).ret == Ret::MapValueOrNull;
                self.set(Reg::R0, if is_address { Fact::Word } else { Fact::Clean });
                self.clobber_arguments();
            }
            Does::CallLocal | Does::CallReg => {
                effects.reads(self, insn.dst);
                self.gives_away(effects, 1..=5);
                self.set(Reg::R0, Fact::Clean);
                self.clobber_arguments();
            }
            Does::Exit => effects.uses(self.reg(Reg::R0)),
            Does::Goto | Does::GotoLong | Does::MayGoto | Does::SecondSlot => {}
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
    }

    fn stores(&mut self, base: Fact, off: i16, size: Size, effects: &mut Effects) {
        if let Some(bytes) = effects.place(base, off, size) {
            self.written.add(&bytes);
        }
    }

    fn updates(&mut self, insn: &Insn, size: Size, effects: &mut Effects) {
        effects.reads(self, insn.dst);
        effects.reads(self, insn.src);
        effects.uses(self.reg(insn.src));
        let base = self.reg(insn.dst);
        effects.loads(self, base, insn.off, size);
        self.stores(base, insn.off, size, effects);
    }

    /// Registers leave for where nobody looks.
    fn gives_away(&self, effects: &mut Effects, args: std::ops::RangeInclusive<u8>) {
        for reg in args.filter_map(Reg::new) {
            effects.reads(self, reg);
            effects.uses(self.reg(reg));
        }
    }

    /// A helper reads memory as its prototype says, and keeps no pointer.
    fn calls(&self, linked: &Linked, args: &[Arg], effects: &mut Effects) {
        for reg in (1..=5).filter_map(Reg::new).take(args.len()) {
            effects.reads(self, reg);
        }
        for (reg, arg, len) in self.touched(linked, args) {
            match (self.reg(reg), len) {
                (Fact::Clean | Fact::Word | Fact::Const(_), _) => {}
                (Fact::Stack(offset), Some(len)) => match Bytes::range(offset, len) {
                    Some(_) if matches!(arg, Arg::MemWrite | Arg::BytesOut(_)) => {}
                    Some(bytes) => effects.zero.add(&bytes.without(&self.written)),
                    None => effects.wild = true,
                },
                (Fact::Stack(_), None) | (Fact::Tainted, _) => effects.wild = true,
            }
        }
    }

    /// The arguments of a helper that are pointers into memory, with how many bytes it touches there; `None` where that is not
    /// known.
    pub(super) fn touched(&self, linked: &Linked, args: &[Arg]) -> impl Iterator<Item = (Reg, Arg, Option<u64>)> {
        let regs = (1..=5).filter_map(Reg::new);
        let map = regs.clone().zip(args).find(|(_, arg)| **arg == Arg::Map).and_then(|(reg, _)| match self.reg(reg) {
            Fact::Const(handle) => linked.own_map(handle).map(|map| map.def()),
            Fact::Clean | Fact::Word | Fact::Stack(_) | Fact::Tainted => None,
        });
        regs.zip(args.iter().enumerate()).filter_map(move |(reg, (index, arg))| {
            let len_of = |len: fn(&MapDef) -> u32| map.map(|def| u64::from(len(def)));
            let len = match arg {
                // A format decides what is memory, and of what length.
                Arg::Optional | Arg::Text | Arg::Probed => None,
                Arg::MapKey => len_of(|def| def.key_len),
                Arg::SpinLock => Some(4),
                Arg::MapValue | Arg::MapValueOut => len_of(|def| def.value_len),
                Arg::MemRead | Arg::MemReadOrNull | Arg::MemWrite | Arg::MemInOut => match self.argument(index + 1) {
                    Fact::Const(len) => Some(len),
                    Fact::Clean | Fact::Word | Fact::Stack(_) | Fact::Tainted => None,
                },
                Arg::Bytes(len) | Arg::BytesOut(len) | Arg::BytesInOut(len) | Arg::BytesPerhapsOut(len) => {
                    Some(u64::from(*len))
                }
                // The function that is called back may do with it as it likes, and so may who gets a pointer into it.
                Arg::CallbackCtx | Arg::SliceBuffer | Arg::Iterator(_) => None,
                Arg::Any
                | Arg::Ctx
                | Arg::Map
                | Arg::Len
                | Arg::LenOrZero
                | Arg::Timer
                | Arg::Socket
                | Arg::RingRecord
                | Arg::Callback => return None,
            };
            Some((reg, *arg, len))
        })
    }

    /// The fact of argument `index`, from 0.
    fn argument(&self, index: usize) -> Fact {
        self.regs[1..=5].get(index).copied().unwrap_or(Fact::Clean)
    }
}

fn alu(width: Width, op: Alu, a: Fact, b: Fact, effects: &mut Effects) -> Fact {
    let moved = |offset: Option<i64>, effects: &mut Effects| match offset {
        Some(offset) if (-REACH..=REACH).contains(&offset) => Fact::Stack(offset),
        _ => {
            effects.wild = true;
            Fact::Tainted
        }
    };
    match (width, op, a, b) {
        (Width::W64, Alu::Mov, _, _) => b,
        (Width::W32, Alu::Mov, _, Fact::Const(value)) => Fact::Const(value & u64::from(u32::MAX)),
        (Width::W64, Alu::Add, Fact::Const(a), Fact::Const(b)) => Fact::Const(a.wrapping_add(b)),
        (Width::W64, Alu::Add, Fact::Stack(offset), Fact::Const(value))
        | (Width::W64, Alu::Add, Fact::Const(value), Fact::Stack(offset)) => {
            moved(offset.checked_add(value.cast_signed()), effects)
        }
        (Width::W64, Alu::Sub, Fact::Stack(offset), Fact::Const(value)) => {
            moved(offset.checked_sub(value.cast_signed()), effects)
        }
        _ => {
            if op != Alu::Mov {
                effects.uses(a);
            }
            effects.uses(b);
            let small = match (op, b) {
                (Alu::And, _) => a.is_word() || b.is_word(),
                (Alu::Rsh, Fact::Const(count)) => count & 63 >= 32,
                _ => false,
            };
            if small { Fact::Word } else { Fact::of_width(width) }
        }
    }
}

/// What instructions do beyond registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Effects {
    /// Stack bytes that may be read before they are written.
    pub(super) zero: Bytes,
    /// A stack pointer was lost sight of.
    pub(super) wild: bool,
    /// Of r1 to r5, those whose passed value may be read.
    pub(super) args: u8,
}

impl Effects {
    pub(super) const NONE: Self = Self { zero: Bytes::NONE, wild: false, args: 0 };

    fn reads(&mut self, state: &State, reg: Reg) {
        self.args |= 1u8.checked_shl(reg.number().into()).unwrap_or(0) & state.passed;
    }

    /// A value is used for more than an address or a comparison.
    fn uses(&mut self, fact: Fact) {
        self.wild |= fact.is_stack();
    }

    /// The stack bytes that an access touches; `None` where it is no access to a known place of the frame.
    fn place(&mut self, base: Fact, off: i16, size: Size) -> Option<Bytes> {
        if !base.is_stack() {
            return None;
        }
        // The same question that decides how the access is compiled: an access by a pointer that lies outside the frame is
        // made in memory, wherever it leads, so nothing may live elsewhere.
        let at = frame_offset(base, off, size.len());
        let bytes = at.and_then(|at| Bytes::range(at.into(), size.len().into()));
        self.wild |= bytes.is_none();
        bytes
    }

    fn loads(&mut self, state: &State, base: Fact, off: i16, size: Size) {
        if let Some(bytes) = self.place(base, off, size) {
            self.zero.add(&bytes.without(&state.written));
        }
    }
}

/// Where in the frame an access lies, as an offset from r10, if that is known and inside.
pub(super) fn frame_offset(base: Fact, off: i16, len: u32) -> Option<i32> {
    let Fact::Stack(offset) = base else { return None };
    let at = i32::try_from(offset.checked_add(off.into())?).ok()?;
    let bottom = -FRAME_STACK_LEN.cast_signed();
    (at >= bottom && at + len.cast_signed() <= 0 && offset >= bottom.into() && offset <= 0).then_some(at)
}

/// What is known of one function.
#[derive(Debug)]
pub(super) struct Facts {
    /// Before each leader that can be reached.
    pub(super) leaders: BTreeMap<usize, State>,
    /// Of the whole function.
    pub(super) effects: Effects,
    /// Starts of the subprograms that it calls.
    pub(super) calls: BTreeSet<usize>,
}

/// Analyses a function.
pub(super) fn analyse(linked: &Linked, outline: &Outline, function: &Function, role: Role) -> Facts {
    let insns = linked.insns();
    let leader_count = (function.start..function.end).filter(|pc| outline.is_leader(*pc)).count();
    let mut leaders = BTreeMap::from([(function.start, State::entry(role))]);
    let mut waiting = BTreeSet::from([function.start]);
    let mut visits = 0;
    let mut gave_up = false;
    while let Some(leader) = waiting.pop_first() {
        visits += 1;
        if visits > leader_count * VISITS_MAX {
            gave_up = true;
            break;
        }
        let state = leaders[&leader].clone();
        // What the instructions do is added up once, when what is known has settled.
        let mut ignored = Effects::NONE;
        walk(linked, outline, leader, state, &mut ignored, |target, state| {
            let news = match leaders.get_mut(&target) {
                Some(known) => known.join(state),
                None => leaders.insert(target, state.clone()).is_none(),
            };
            if news {
                waiting.insert(target);
            }
        });
    }
    let mut effects = Effects::NONE;
    if gave_up {
        let all = (function.start..function.end).filter(|pc| outline.is_leader(*pc));
        leaders = all.map(|pc| (pc, State::unknown())).collect();
        effects = Effects { zero: Bytes::ALL, wild: true, args: ARGUMENTS };
    }
    let mut calls = BTreeSet::new();
    for (leader, state) in &leaders {
        let end = walk(linked, outline, *leader, state.clone(), &mut effects, |_, _| {});
        let called = (*leader..end).filter(|pc| insns[*pc].does == Does::CallLocal);
        calls.extend(called.map(|pc| call_target(&insns[pc], pc)));
    }
    Facts { leaders, effects, calls }
}

/// Goes through the block at `leader`, naming each successor with what is known there. Returns the slot behind it.
fn walk(
    linked: &Linked,
    outline: &Outline,
    leader: usize,
    mut state: State,
    effects: &mut Effects,
    mut successor: impl FnMut(usize, &State),
) -> usize {
    let insns = linked.insns();
    let mut pc = leader;
    loop {
        let insn = &insns[pc];
        state.step(linked, insn, effects);
        let target = jump_target(insn, pc);
        if let Some(target) = target {
            let mut taken = state.clone();
            taken.learn(insn, Edge::Taken);
            successor(target, &taken);
            state.learn(insn, Edge::Next);
        }
        pc += 1;
        if matches!(insn.does, Does::Exit | Does::Goto | Does::GotoLong) {
            return pc;
        }
        if outline.is_leader(pc) {
            successor(pc, &state);
            return pc;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::jit::tests::linked;

    fn facts(text: &str) -> Facts {
        let linked = linked(text);
        let outline = Outline::new(linked.program(), linked.insns());
        analyse(&linked, &outline, &linked.program().functions()[0], Role::Program)
    }

    fn zeroed(text: &str) -> Vec<i32> {
        facts(text).effects.zero.words().collect()
    }

    #[test]
    fn bytes_written_before_they_are_read_need_no_zeroing() {
        assert!(zeroed("*(u64 *)(r10 - 8) = 1\nr0 = *(u32 *)(r10 - 4)\nexit").is_empty());
        assert_eq!(zeroed("*(u32 *)(r10 - 8) = 1\nr0 = *(u64 *)(r10 - 8)\nexit"), [-8]);
        assert_eq!(zeroed("r2 = r10\nr2 += -16\nr0 = *(u8 *)(r2 + 3)\nexit"), [-16]);
    }

    #[test]
    fn a_byte_counts_as_written_only_if_it_is_on_every_path() {
        let text = "if r1 == 0 goto skip\n*(u64 *)(r10 - 8) = 1\nskip:\nr0 = *(u64 *)(r10 - 8)\nexit";
        assert_eq!(zeroed(text), [-8]);
    }

    #[test]
    fn a_stack_pointer_that_is_stored_or_leaves_the_frame_is_wild() {
        for text in [
            "*(u64 *)(r10 - 8) = r10\nr0 = 0\nexit",
            "r1 = r10\nr1 *= 2\nr0 = 0\nexit",
            "r0 = *(u8 *)(r10 - 513)\nexit",
            "r0 = *(u32 *)(r10 - 2)\nexit",
            "r0 = r10\nexit",
            "r1 = r10\ncall f\nexit\nf:\nr0 = 0\nexit",
            "*(u64 *)(r10 - 8) = 42\nr3 = r10\nr3 += 8\nr0 = *(u64 *)(r3 - 16)\nexit",
            "r3 = r10\nr3 += -600\n*(u64 *)(r3 + 592) = 7\nr0 = *(u64 *)(r10 - 8)\nexit",
            "if r1 == 0 goto skip\nr1 = r10\nskip:\nr0 = *(u8 *)(r1 - 1)\nexit",
        ] {
            assert!(facts(text).effects.wild, "{text}");
        }
    }

    #[test]
    fn a_stack_pointer_that_is_lost_unused_is_not_wild() {
        let text = "if r1 == 0 goto skip\nr1 = r10\nskip:\nr0 = 0\nexit";
        assert!(!facts(text).effects.wild);
    }

    #[test]
    fn constants_survive_branches_that_agree() {
        let text = "r6 = 7\nif r1 == 0 goto join\nr6 = 7\njoin:\nr0 = r6\nexit";
        let facts = facts(text);
        assert_eq!(facts.leaders[&3].reg(Reg::new(6).expect("a register")), Fact::Const(7));
    }

    #[test]
    fn only_arguments_that_are_read_count_as_passed() {
        let linked = linked("call f\nexit\nf:\nr2 = 5\nr0 = r3\nr0 += r2\nexit");
        let outline = Outline::new(linked.program(), linked.insns());
        let facts = analyse(&linked, &outline, &linked.program().functions()[1], Role::Subprogram);
        assert_eq!(facts.effects.args, 0b1000);
    }
}
