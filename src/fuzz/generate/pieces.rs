//! Pieces of program that need a context, maps or helpers: one list, a line each.
//!
//! A piece may use r0 to r5; behind it they hold numbers. Between pieces, the stack holds numbers in its upper bytes and
//! the context at [`CONTEXT_SLOT`].
//!
//! Invariant: no piece's result depends on an address, on time or on chance.

use super::furniture::{ARRAY, ENTRIES, HASH, KEYS, MEMORY, MEMORY_LEN, PERCPU_ARRAY, PERCPU_HASH};
use super::furniture::{PROGRAM_SLOTS, PROGRAMS, QUEUE, RING, STACK, TRIE};
use super::writer::{Aligned, Atomics, Bytes, Compared, Writer, number, stack_place};
use crate::isa::random::{Dialect, Dice, immediate, wide_immediate};
use crate::isa::{Alu, Cond, Does, Operand, Reg, Size};
use crate::run::Context;
use crate::verdict::ProgramKind;

/// Where each function keeps the context, from its frame pointer.
pub(super) const CONTEXT_SLOT: i16 = -72;
/// Where a piece may keep a pointer.
const POINTER_SLOT: i16 = -80;
const FP: u8 = 10;
/// Data registers that pieces read and never write.
const KEPT: [u8; 3] = [6, 7, 8];

/// Who writes a piece, and where.
pub(super) struct Site {
    pub(super) kind: ProgramKind,
    pub(super) dialect: Dialect,
    /// Function, 0 for the main one.
    pub(super) function: usize,
    /// Number of the function that helpers call back.
    pub(super) functions: usize,
}

/// A kind of piece.
pub(super) struct Piece {
    /// Whether it can be written there.
    pub(super) fits: fn(&Site) -> bool,
    /// Writes it.
    pub(super) write: fn(&mut Writer, &mut Dice, &Site),
    /// Whether packet pointers from before are good behind it.
    pub(super) moves: bool,
    /// Whether it names the function that helpers call back.
    pub(super) needs_callback: bool,
}

const fn piece(fits: fn(&Site) -> bool, write: fn(&mut Writer, &mut Dice, &Site)) -> Piece {
    Piece { fits, write, moves: false, needs_callback: false }
}

const fn moving(fits: fn(&Site) -> bool, write: fn(&mut Writer, &mut Dice, &Site)) -> Piece {
    Piece { fits, write, moves: true, needs_callback: false }
}

const fn calling_back(fits: fn(&Site) -> bool, write: fn(&mut Writer, &mut Dice, &Site)) -> Piece {
    Piece { fits, write, moves: false, needs_callback: true }
}

/// All pieces.
pub(super) const PIECES: &[Piece] = &[
    piece(anywhere, stack_by_pointer),
    piece(anywhere, stack_by_register),
    piece(anywhere, wide_number),
    piece(anywhere, array_element),
    piece(anywhere, array_element),
    piece(anywhere, hash_element),
    piece(anywhere, percpu_element),
    piece(anywhere, update),
    piece(anywhere, delete),
    piece(anywhere, trie_element),
    piece(anywhere, queue),
    piece(anywhere, memory_value),
    piece(anywhere, memory_value),
    piece(off_sockets, checksum_difference),
    piece(on_a_hook, tail_call),
    calling_back(anywhere, loop_by_helper),
    piece(on_a_hook, context_read),
    piece(on_sk_buffs, context_written),
    piece(with_packet, packet_by_register),
    piece(with_packet, packet_by_register),
    piece(on_xdp, packet_bytes_out),
    moving(main_of_xdp, packet_bytes_in),
    moving(main_of_xdp, bounds_moved),
    piece(on_redirecting, redirect),
    piece(main_of_sk_buffs, legacy_load),
    piece(of_kumite, call_by_register),
    piece(of_kumite, unsteady),
    piece(of_kumite, ring_record),
];

fn anywhere(_: &Site) -> bool {
    true
}

fn off_sockets(site: &Site) -> bool {
    site.kind != ProgramKind::SocketFilter
}

fn on_a_hook(site: &Site) -> bool {
    site.kind != ProgramKind::Raw
}

fn on_xdp(site: &Site) -> bool {
    site.kind == ProgramKind::Xdp
}

fn on_sk_buffs(site: &Site) -> bool {
    matches!(site.kind, ProgramKind::Tc | ProgramKind::SocketFilter)
}

fn with_packet(site: &Site) -> bool {
    matches!(site.kind, ProgramKind::Xdp | ProgramKind::Tc)
}

fn on_redirecting(site: &Site) -> bool {
    with_packet(site)
}

fn main_of_xdp(site: &Site) -> bool {
    site.kind == ProgramKind::Xdp && site.function == 0
}

fn main_of_sk_buffs(site: &Site) -> bool {
    on_sk_buffs(site) && site.function == 0
}

fn of_kumite(site: &Site) -> bool {
    site.dialect == Dialect::Kumite
}

fn context(w: &mut Writer, dst: u8) {
    w.load(Size::D, dst, FP, CONTEXT_SLOT);
}

/// The stack through a copy of the frame pointer.
fn stack_by_pointer(w: &mut Writer, dice: &mut Dice, site: &Site) {
    let start = stack_place(dice, 16);
    w.fill_arguments(dice);
    w.mov(0, immediate(dice));
    w.stack(1, start);
    w.accesses(dice, 1, Bytes { start: 0, len: 16, atomics: Atomics::Yes, aligned: aligned(site) });
    w.mov(1, immediate(dice));
}

fn aligned(site: &Site) -> Aligned {
    if site.dialect == Dialect::Kernel { Aligned::Yes } else { Aligned::No }
}

/// The stack at a place that a register says.
fn stack_by_register(w: &mut Writer, dice: &mut Dice, site: &Site) {
    w.fill_arguments(dice);
    w.mov(0, immediate(dice));
    w.copy(2, dice.pick(&KEPT));
    w.alu_imm(Alu::And, 2, 0x38);
    w.stack(1, -64);
    w.alu_reg(Alu::Add, 1, 2);
    w.accesses(dice, 1, Bytes { start: 0, len: 8, atomics: Atomics::No, aligned: aligned(site) });
    w.mov(1, immediate(dice));
}

fn wide_number(w: &mut Writer, dice: &mut Dice, _: &Site) {
    w.put_wide(Does::LoadImm64, dice.pick(&[0, 1, 2, 3, 4, 5]), wide_immediate(dice));
}

/// A key of 4 or 8 bytes on the stack: a small number, or one that a register says. Where it is.
fn key(w: &mut Writer, dice: &mut Dice, size: Size, bound: usize) -> i16 {
    let off = stack_place(dice, 8);
    if dice.once_in(3) {
        w.copy(1, dice.pick(&KEPT));
        w.alu_imm(Alu::And, 1, 7);
        w.store(size, FP, off, 1);
    } else {
        w.store_imm(size, FP, off, number(dice.below(bound)));
    }
    off
}

/// Looks the key at `off` up and uses the value, where there is one.
fn look_up(w: &mut Writer, dice: &mut Dice, map: usize, off: i16, value_len: u32) {
    w.map(1, map);
    w.stack(2, off);
    w.helper(1);
    w.fill_arguments(dice);
    let value = Bytes { start: 0, len: value_len, atomics: Atomics::Yes, aligned: Aligned::No };
    if dice.once_in(3) {
        w.store(Size::D, FP, POINTER_SLOT, 0);
        w.load(Size::D, 3, FP, POINTER_SLOT);
        w.unless(Cond::Eq, 3, Compared::Number(0), |w| {
            w.mov(0, immediate(dice));
            w.accesses(dice, 3, value);
        });
        w.mov(3, immediate(dice));
    } else {
        w.unless(Cond::Eq, 0, Compared::Number(0), |w| {
            w.accesses(dice, 0, value);
        });
    }
    w.mov(0, immediate(dice));
}

fn array_element(w: &mut Writer, dice: &mut Dice, _: &Site) {
    let off = key(w, dice, Size::W, ENTRIES as usize + 1);
    look_up(w, dice, ARRAY, off, 24);
}

fn hash_element(w: &mut Writer, dice: &mut Dice, _: &Site) {
    let off = key(w, dice, Size::D, KEYS);
    look_up(w, dice, HASH, off, 16);
}

fn percpu_element(w: &mut Writer, dice: &mut Dice, _: &Site) {
    let (map, bound) = dice.pick(&[(PERCPU_ARRAY, ENTRIES as usize + 1), (PERCPU_HASH, KEYS)]);
    let off = key(w, dice, Size::W, bound);
    look_up(w, dice, map, off, 16);
}

/// A prefix of up to 32 bits of few different addresses. Where it is.
fn prefix(w: &mut Writer, dice: &mut Dice) -> i16 {
    let off = stack_place(dice, 8);
    w.store_imm(Size::W, FP, off, number(dice.below(34)));
    w.store_imm(Size::W, FP, off + 4, number(dice.below(KEYS)) << 6);
    off
}

fn trie_element(w: &mut Writer, dice: &mut Dice, _: &Site) {
    let off = prefix(w, dice);
    look_up(w, dice, TRIE, off, 16);
}

fn update(w: &mut Writer, dice: &mut Dice, _: &Site) {
    let (map, size) = dice.pick(&[
        (ARRAY, Size::W),
        (HASH, Size::D),
        (HASH, Size::D),
        (PERCPU_HASH, Size::W),
        (PERCPU_ARRAY, Size::W),
        (TRIE, Size::D),
    ]);
    let off = if map == TRIE { prefix(w, dice) } else { key(w, dice, size, KEYS) };
    w.map(1, map);
    w.stack(2, off);
    w.stack(3, stack_place(dice, 24));
    w.mov(4, dice.pick(&[0, 0, 0, 1, 2]));
    w.helper(2);
    w.fill_arguments(dice);
}

fn delete(w: &mut Writer, dice: &mut Dice, _: &Site) {
    let (map, size) = dice.pick(&[(HASH, Size::D), (PERCPU_HASH, Size::W), (TRIE, Size::D)]);
    let off = if map == TRIE { prefix(w, dice) } else { key(w, dice, size, KEYS) };
    w.map(1, map);
    w.stack(2, off);
    w.helper(3);
    w.fill_arguments(dice);
}

fn queue(w: &mut Writer, dice: &mut Dice, _: &Site) {
    w.map(1, dice.pick(&[QUEUE, STACK]));
    w.stack(2, stack_place(dice, 16));
    w.mov(3, dice.pick(&[0, 0, 2]));
    w.helper(dice.pick(&[87, 87, 88, 89]));
    w.fill_arguments(dice);
}

/// The value of an array of one, by its address.
fn memory_value(w: &mut Writer, dice: &mut Dice, _: &Site) {
    w.fill_arguments(dice);
    w.mov(0, immediate(dice));
    let start = 8 * u32::try_from(dice.below(8)).expect("small");
    w.map_value(2, MEMORY, start.into());
    let len = MEMORY_LEN - start;
    w.accesses(dice, 2, Bytes { start: 0, len, atomics: Atomics::Yes, aligned: Aligned::No });
    w.mov(2, immediate(dice));
}

fn checksum_difference(w: &mut Writer, dice: &mut Dice, _: &Site) {
    let lens = [0, 4, 8, 20, 32];
    let [from, to] = [dice.pick(&lens), dice.pick(&lens)];
    for (pointer, len) in [(1, from), (3, to)] {
        w.stack(pointer, stack_place(dice, 32));
        w.mov(pointer + 1, len);
    }
    w.copy(5, dice.pick(&KEPT));
    w.helper(28);
    w.fill_arguments(dice);
}

/// A tail call; where it falls through, the kernel says nothing of r0.
fn tail_call(w: &mut Writer, dice: &mut Dice, _: &Site) {
    context(w, 1);
    w.map(2, PROGRAMS);
    if dice.once_in(3) {
        w.copy(3, dice.pick(&KEPT));
        w.alu_imm(Alu::And, 3, 3);
    } else {
        w.mov(3, dice.pick(&[0, 1, i64::from(PROGRAM_SLOTS) - 1, PROGRAM_SLOTS.into(), -1]));
    }
    w.helper(12);
    w.mov(0, immediate(dice));
    w.fill_arguments(dice);
}

/// `bpf_loop` of a few rounds.
fn loop_by_helper(w: &mut Writer, dice: &mut Dice, site: &Site) {
    w.mov(1, dice.pick(&[0, 1, 2, 5]));
    w.put_wide(Does::LoadCodeAddr, 2, number(site.functions));
    w.stack(3, stack_place(dice, 8));
    w.mov(4, 0);
    w.helper(181);
    w.fill_arguments(dice);
}

fn context_read(w: &mut Writer, dice: &mut Dice, site: &Site) {
    let fields: &[u32] = match site.kind {
        ProgramKind::Xdp => &[12, 16],
        ProgramKind::Tc => &[Context::SKB_LEN, Context::SKB_MARK, Context::SKB_PRIORITY, 48, 52, 56, 60, 64],
        ProgramKind::SocketFilter => &[Context::SKB_LEN, Context::SKB_MARK, 48, 52, 56, 60, 64],
        ProgramKind::FlowDissector | ProgramKind::Raw => return,
    };
    let field = i16::try_from(dice.pick(fields)).expect("a context is short");
    let dst = dice.pick(&[1, 2, 3, 4, 5]);
    context(w, dst);
    w.load(Size::W, dst, dst, field);
}

fn context_written(w: &mut Writer, dice: &mut Dice, site: &Site) {
    let fields: &[u32] = match site.kind {
        ProgramKind::Tc => &[Context::SKB_MARK, Context::SKB_PRIORITY, 48, 52, 56, 60, 64],
        ProgramKind::SocketFilter | ProgramKind::Xdp | ProgramKind::FlowDissector | ProgramKind::Raw => {
            &[48, 52, 56, 60, 64]
        }
    };
    let field = i16::try_from(dice.pick(fields)).expect("a context is short");
    context(w, 2);
    w.store(Size::W, 2, field, dice.pick(&KEPT));
    w.mov(2, immediate(dice));
}

/// The packet's bounds in two registers.
pub(super) fn bounds(w: &mut Writer, site: &Site, data: u8, end: u8) {
    let at = if site.kind == ProgramKind::Xdp { Context::XDP_DATA } else { Context::SKB_DATA };
    let at = i16::try_from(at).expect("a context is short");
    context(w, end);
    w.load(Size::W, data, end, at);
    w.load(Size::W, end, end, at + 4);
}

/// The packet at a place that a register says, behind a compare with its end.
fn packet_by_register(w: &mut Writer, dice: &mut Dice, site: &Site) {
    w.fill_arguments(dice);
    w.mov(0, immediate(dice));
    bounds(w, site, 2, 3);
    w.copy(4, dice.pick(&KEPT));
    w.alu_imm(Alu::And, 4, dice.pick(&[7, 15, 63, 127, 255]));
    w.alu_reg(Alu::Add, 2, 4);
    w.copy(5, 2);
    let len = dice.pick(&[1, 2, 4, 8, 13]);
    w.alu_imm(Alu::Add, 5, len.into());
    w.unless(Cond::Gt, 5, Compared::Reg(3), |w| {
        for number in [3, 4, 5] {
            w.mov(number, immediate(dice));
        }
        w.accesses(dice, 2, Bytes { start: 0, len, atomics: Atomics::No, aligned: Aligned::No });
    });
    w.fill_arguments(dice);
}

/// A buffer on the stack and a length for a helper that copies, and an offset in the packet.
fn copied(w: &mut Writer, dice: &mut Dice, helper: i64) {
    context(w, 1);
    if dice.once_in(2) {
        w.copy(2, dice.pick(&KEPT));
        w.alu_imm(Alu::And, 2, 127);
    } else {
        w.mov(2, number(dice.below(80)));
    }
    w.stack(3, stack_place(dice, 32));
    w.mov(4, number(1 + dice.below(32)));
    w.helper(helper);
    w.fill_arguments(dice);
}

fn packet_bytes_out(w: &mut Writer, dice: &mut Dice, _: &Site) {
    copied(w, dice, 189);
}

fn packet_bytes_in(w: &mut Writer, dice: &mut Dice, _: &Site) {
    copied(w, dice, 190);
}

fn bounds_moved(w: &mut Writer, dice: &mut Dice, _: &Site) {
    context(w, 1);
    w.mov(2, dice.pick(&[-64, -16, -8, -4, 0, 4, 8, 14, 20, 300, -300]));
    w.helper(dice.pick(&[44, 44, 54, 65, 65]));
    w.fill_arguments(dice);
}

fn redirect(w: &mut Writer, dice: &mut Dice, site: &Site) {
    w.mov(1, dice.pick(&[1, 2, 7]));
    // Other flags are refused alike; in tc programs one means the way in.
    w.mov(2, if site.kind == ProgramKind::Xdp { dice.pick(&[0, 1, 8]) } else { dice.pick(&[0, 1, 2]) });
    w.helper(23);
    w.fill_arguments(dice);
}

/// The legacy packet load: outside the packet it ends the program.
fn legacy_load(w: &mut Writer, dice: &mut Dice, _: &Site) {
    w.store(Size::D, FP, POINTER_SLOT, 6);
    context(w, Reg::R6.number());
    let size = dice.pick(&[Size::B, Size::H, Size::W]);
    if dice.once_in(2) {
        w.put(Does::LoadPacket(size, Operand::Imm), 0, 0, 0, number(dice.below(66)));
    } else {
        w.copy(1, dice.pick(&[7, 8]));
        w.alu_imm(Alu::And, 1, 63);
        w.put(Does::LoadPacket(size, Operand::Reg), 0, 1, 0, number(dice.below(4)));
    }
    w.load(Size::D, 6, FP, POINTER_SLOT);
    w.fill_arguments(dice);
}

/// The worker's number, by a register that holds the helper's.
fn call_by_register(w: &mut Writer, dice: &mut Dice, _: &Site) {
    let holder = dice.pick(&[0, 1, 5]);
    w.mov(holder, 8);
    w.put(Does::CallReg, holder, 0, 0, 0);
    w.fill_arguments(dice);
}

/// What the bench keeps steady and no kernel does: time, chance, the processor.
fn unsteady(w: &mut Writer, dice: &mut Dice, _: &Site) {
    w.helper(dice.pick(&[5, 7, 8]));
    w.fill_arguments(dice);
}

fn ring_record(w: &mut Writer, dice: &mut Dice, _: &Site) {
    w.map(1, RING);
    w.stack(2, stack_place(dice, 32));
    w.mov(3, number(1 + dice.below(32)));
    w.mov(4, 0);
    w.helper(130);
    w.fill_arguments(dice);
}
