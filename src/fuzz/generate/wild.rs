//! Well-formed programs changed at random into others: wild pointers, endless loops, arguments that no helper takes.
//!
//! Invariant: what comes out is well-formed.

use crate::fuzz::{Case, CaseProgram, Input};
use crate::helpers::{HELPERS, TAIL_CALL};
use crate::isa::random::{Dice, immediate, wide_immediate};
use crate::isa::{Alu, Does, Insn, Operand, ROWS, Reg, Support, Width, decode, encode};
use crate::limits::FUEL_MAY_GOTO;
use crate::program::{Program, RawProgram};
use crate::verdict::ProgramKind;

/// Changes of one program at most.
const CHANGES_MAX: usize = 5;
/// Numbers of helpers that leave something for later runs: those of timers.
const LASTING: std::ops::RangeInclusive<u32> = 169..=172;

/// Changes the programs of a case, and the fuel that it gets.
pub(super) fn change(case: &mut Case, dice: &mut Dice) {
    let kind = case.kind;
    for program in &mut case.programs {
        for _ in 0..1 + dice.below(CHANGES_MAX) {
            change_one(program, kind, dice);
        }
    }
    if dice.once_in(4) {
        let program = dice.below(case.programs.len());
        without_context(&mut case.programs[program], kind, dice);
    }
    // Endless loops are short, and some runs end just where `may_goto` looks.
    let fuel = if dice.once_in(4) { FUEL_MAY_GOTO + dice.below(400) as u64 } else { 1 << (6 + dice.below(8)) };
    let loops_long = fuel > FUEL_MAY_GOTO && !case.programs.iter().any(has_may_goto);
    case.fuel = Some(if loops_long { 1 << 13 } else { fuel });
    if let Input::Memory { offset, .. } = &mut case.input
        && dice.once_in(3)
    {
        *offset = u32::try_from(dice.below(4096)).expect("a page is small");
    }
}

/// Gives a tail call something else than the context.
fn without_context(program: &mut CaseProgram, kind: ProgramKind, dice: &mut Dice) {
    let Ok(mut insns) = decode(&program.slots) else { return };
    let is_tail_call = |insn: &Insn| insn.does == Does::CallHelper && insn.imm == i64::from(TAIL_CALL);
    let calls: Vec<usize> = (0..insns.len()).filter(|pc| is_tail_call(&insns[*pc])).collect();
    if calls.is_empty() {
        return;
    }
    let call = dice.pick(&calls);
    let r1 = Reg::new(1).expect("a register");
    let Some(load) = (0..call).rev().find(|pc| insns[*pc].dst == r1 && matches!(insns[*pc].does, Does::Load(..)))
    else {
        return;
    };
    let copy = Does::Alu(Width::W64, Alu::Mov, Operand::Reg);
    insns[load] = match dice.below(3) {
        0 => Insn { does: copy, dst: r1, src: Reg::FP, off: 0, imm: 0 },
        1 => Insn { does: copy, dst: r1, src: register(dice), off: 0, imm: 0 },
        _ => Insn { does: Does::Alu(Width::W64, Alu::Mov, Operand::Imm), dst: r1, src: Reg::R0, off: 0, imm: 0 },
    };
    put(program, kind, &insns);
}

/// Makes these the program's instructions, if they are well-formed.
fn put(program: &mut CaseProgram, kind: ProgramKind, insns: &[Insn]) {
    let slots = encode(insns);
    let raw = RawProgram { name: program.name.clone(), slots: slots.clone(), ..RawProgram::default() };
    if Program::check(raw, kind).is_ok() {
        program.slots = slots;
    }
}

fn has_may_goto(program: &CaseProgram) -> bool {
    decode(&program.slots).is_ok_and(|insns| insns.iter().any(|insn| insn.does == Does::MayGoto))
}

/// Changes one instruction, if what comes of it is well-formed.
fn change_one(program: &mut CaseProgram, kind: ProgramKind, dice: &mut Dice) {
    let Ok(mut insns) = decode(&program.slots) else { return };
    let at = dice.below(insns.len());
    let insn = &mut insns[at];
    if insn.does == Does::SecondSlot {
        return;
    }
    match dice.below(6) {
        0 => insn.dst = register(dice),
        1 => insn.src = register(dice),
        2 => insn.imm = new_immediate(insn, dice),
        3 => insn.off = offset(dice),
        4 => {
            let runs = ROWS.iter().filter(|row| row.support == Support::Runs && !row.does.is_wide());
            let rows: Vec<Does> = runs.map(|row| row.does).filter(|does| *does != Does::SecondSlot).collect();
            if !insn.does.is_wide() {
                insn.does = dice.pick(&rows);
                if insn.does == Does::CallHelper {
                    insn.imm = helper(kind, dice);
                }
            }
        }
        _ => {
            let other = insns[dice.below(insns.len())];
            if !other.does.is_wide() && other.does != Does::SecondSlot && !insns[at].does.is_wide() {
                insns[at] = other;
            }
        }
    }
    if insns[at].does == Does::CallHelper && u32::try_from(insns[at].imm).map_or(true, |id| !may_call(kind, id)) {
        insns[at].imm = helper(kind, dice);
    }
    clear_unused(&mut insns[at]);
    put(program, kind, &insns);
}

/// Zeroes the fields that the row does not have, as form wants it.
fn clear_unused(insn: &mut Insn) {
    use crate::isa::Field;
    let Some(row) = insn.row() else { return };
    if row.dst != Field::Any {
        insn.dst = Reg::R0;
    }
    if row.src != Field::Any {
        insn.src = Reg::R0;
    }
    if row.off != Field::Any {
        insn.off = 0;
    }
    if row.imm != Field::Any {
        insn.imm = 0;
    }
}

fn new_immediate(insn: &Insn, dice: &mut Dice) -> i64 {
    // What these name is made by the loader.
    if matches!(insn.does, Does::LoadMapByIndex | Does::LoadMapValueByIndex | Does::LoadCodeAddr) {
        return insn.imm;
    }
    if matches!(insn.does, Does::CallLocal | Does::GotoLong) {
        return insn.imm + i64::try_from(dice.below(9)).expect("small") - 4;
    }
    if insn.does == Does::LoadImm64 { wide_immediate(dice) } else { immediate(dice) }
}

fn register(dice: &mut Dice) -> Reg {
    Reg::new(u8::try_from(dice.below(Reg::COUNT)).expect("a register")).expect("there are as many")
}

fn offset(dice: &mut Dice) -> i16 {
    match dice.below(4) {
        0 => dice.pick(&[0, 1, -1, i16::MIN, i16::MAX, -512, -513, -520, 512, 4096]),
        1 => i16::from_le_bytes([dice.bits().to_le_bytes()[0], dice.bits().to_le_bytes()[0]]),
        _ => i16::try_from(dice.below(17)).expect("small") - 8,
    }
}

/// Whether such programs may call the helper with this number.
fn may_call(kind: ProgramKind, id: u32) -> bool {
    !LASTING.contains(&id) && HELPERS.iter().any(|helper| helper.id == id && helper.serves(kind))
}

/// The number of a helper that such programs may call.
fn helper(kind: ProgramKind, dice: &mut Dice) -> i64 {
    let served: Vec<u32> = HELPERS.iter().map(|helper| helper.id).filter(|id| may_call(kind, *id)).collect();
    dice.pick(&served).into()
}
