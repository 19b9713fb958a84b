//! `bpf_map_lookup_elem` of maps that are known when the program is translated, without a call.
//!
//! An array's element is a matter of arithmetic. A hash is searched as [`HashLayout`] says, for the first elements of a
//! chain; who needs more (a longer chain, a writer at work, a mark to set) calls the helper.
//!
//! Invariant: an answer is what the helper would have given at one moment of the search, and so is a trap.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{Block, BlockArg, InstBuilder, TrapCode, Value};

use super::call::{HOST, field};
use super::{Body, Fresh};
use crate::helpers::Helper;
use crate::isa::{Insn, Reg};
use crate::maps::{ArrayLayout, HashLayout};
use crate::run::Head;
use crate::vm::jit::elements;
use crate::vm::jit::facts::frame_offset;
use crate::vm::jit::hooks::Hooks;
use crate::vm::jit::mutant::{Mutant, either};
use crate::vm::jit::stop;

/// Longest key that is read here, in words.
const KEY_WORDS_MAX: usize = 5;
/// Elements of a chain that are looked at here.
const HOPS: usize = 2;

/// How an element is found.
enum Way {
    Element(ArrayLayout),
    Search(HashLayout),
}

impl<H: Hooks> Body<'_, '_, H> {
    /// r0 of a lookup, if it can be compiled inline.
    pub(super) fn inline_lookup(&mut self, pc: usize, insn: &Insn, helper: &Helper) -> Option<Value> {
        let map = elements::looked_up(self.source.linked, &self.state, helper)?;
        let key_len = map.def().key_len;
        let way = match (elements::array(map), map.hash_layout()) {
            (Some(layout), _) => Way::Element(layout),
            (_, Some(layout)) if key_len.div_ceil(8) as usize <= KEY_WORDS_MAX => Way::Search(layout),
            _ => return None,
        };
        let key = self.key(key_len);
        Some(match way {
            Way::Element(layout) => self.element(&key, layout),
            Way::Search(layout) => {
                let (slow, done) = (self.builder.create_block(), self.builder.create_block());
                let r0 = self.builder.append_block_param(done, I64);
                self.search(&key, &layout, slow, done);
                self.builder.switch_to_block(slow);
                self.builder.seal_block(slow);
                self.builder.set_cold_block(slow);
                let called = self.call_body(pc, insn, helper);
                self.builder.ins().jump(done, &[BlockArg::Value(called)]);
                self.builder.switch_to_block(done);
                self.builder.seal_block(done);
                r0
            }
        })
    }

    /// The words of the key at r2, the last one filled up with zeros.
    fn key(&mut self, len: u32) -> Vec<Value> {
        let reg = Reg::new(2).expect("a register");
        let lens = (0..len).step_by(8).map(|start| (start.cast_signed(), (len - start).min(8)));
        if let Some(at) = frame_offset(self.fact(reg), 0, len) {
            let base = self.builder.ins().iadd(self.cage, self.fp);
            return lens.map(|(start, len)| self.frame_word(base, at + start, len)).collect();
        }
        let value = self.reg(reg);
        let whole = self.number(len.into());
        self.builder.ins().store(HOST, value, self.run, field(offset_of!(Head, key_addr)));
        self.builder.ins().store(HOST, whole, self.run, field(offset_of!(Head, key_len)));
        let index = if self.fact(reg).is_word() {
            value
        } else {
            // A helper takes addresses whole.
            let upper = self.builder.ins().ushr_imm_u(value, 32);
            self.trap_if(upper, stop::KEY_ADDRESS);
            self.zext32(value)
        };
        let base = self.builder.ins().iadd(self.cage, index);
        lens.map(|(start, len)| self.word(base, start, len, stop::KEY)).collect()
    }

    /// `len` bytes of the frame, 8 at most: from the locals that make them up, where they all are such.
    pub(super) fn frame_word(&mut self, base: Value, at: i32, len: u32) -> Value {
        let mut parts = Vec::new();
        let mut next = at;
        while next < at + len.cast_signed() {
            let Some((local, variable)) = self.locals.get(&next) else { break };
            parts.push((next - at, *variable));
            next += local.size.len().cast_signed();
        }
        if next != at + len.cast_signed() {
            return self.word(base, at, len, stop::READ);
        }
        let parts = parts.into_iter().map(|(start, variable)| (start, self.builder.use_var(variable)));
        let parts: Vec<_> = parts.collect();
        self.joined(parts)
    }

    /// `len` bytes of guest memory, 8 at most, as a number.
    fn word(&mut self, base: Value, at: i32, len: u32, code: TrapCode) -> Value {
        let flags = stop::flags(code);
        let mut parts = Vec::new();
        let mut start = 0;
        while start < len {
            let place = at + start.cast_signed();
            let rest = len - start;
            let ins = self.builder.ins();
            let (value, step) = match rest {
                8.. => (ins.load(I64, flags, base, place), 8),
                4..8 => (ins.uload32(flags, base, place), 4),
                2..4 => (ins.uload16(I64, flags, base, place), 2),
                _ => (ins.uload8(I64, flags, base, place), 1),
            };
            // A load is not to be done where its value is used.
            self.builder.ins().sequence_point();
            parts.push((start.cast_signed(), value));
            start += step;
        }
        self.joined(parts)
    }

    /// Parts of a word, each with the byte at which it begins.
    fn joined(&mut self, parts: Vec<(i32, Value)>) -> Value {
        let shifted = parts.into_iter().map(|(start, value)| {
            if start == 0 { value } else { self.builder.ins().ishl_imm_u(value, i64::from(start) * 8) }
        });
        let shifted: Vec<_> = shifted.collect();
        let joined = shifted.into_iter().reduce(|one, other| self.builder.ins().bor(one, other));
        joined.expect("a key has bytes")
    }

    /// An element of an array.
    fn element(&mut self, key: &[Value], layout: ArrayLayout) -> Value {
        let [index] = *key else { unreachable!("an array has keys of four bytes") };
        let count = i64::from(layout.count) + either(Mutant::ArrayBound, 1, 0);
        let is_there = self.builder.ins().icmp_imm_u(IntCC::UnsignedLessThan, index, count);
        let addr = self.value_addr(index, (layout.addr, layout.stride, layout.worker_stride));
        let none = self.number(0);
        let r0 = self.builder.ins().select(is_there, addr, none);
        self.fresh = Some(Fresh { r0, is_there, addr });
        r0
    }

    /// Guest address of a value: below 4 GiB for an index that the map has.
    pub(super) fn value_addr(&mut self, index: Value, (addr, stride, worker_stride): (u32, u32, u32)) -> Value {
        let stride = self.number(stride.into());
        let offset = self.builder.ins().imul(index, stride);
        let first = self.builder.ins().iadd_imm_u(offset, i64::from(addr));
        if worker_stride == 0 {
            return first;
        }
        let worker = self.head_worker();
        let stride = self.number(worker_stride.into());
        let values = self.builder.ins().imul(worker, stride);
        let addr = self.builder.ins().iadd(first, values);
        // A worker that the world does not have.
        self.zext32(addr)
    }

    /// Searches a hash: goes on at `done` with r0, or at `slow`.
    fn search(&mut self, key: &[Value], layout: &HashLayout, slow: Block, done: Block) {
        let hash = self.hash(key, layout.seed);
        let index = self.builder.ins().band_imm_u(hash, i64::from(layout.bucket_mask));
        let offset = self.builder.ins().ishl_imm_u(index, 3);
        let buckets = self.number(layout.buckets.cast_signed());
        let bucket = self.builder.ins().iadd(buckets, offset);
        let seen = self.builder.ins().atomic_load(I64, HOST, bucket);
        let checked = self.builder.create_block();
        let link_found = self.builder.append_block_param(checked, I64);
        let absent = self.builder.create_block();
        let mut link = self.zext32(seen);
        for _ in 0..HOPS {
            let (look, on) = (self.builder.create_block(), self.builder.create_block());
            self.builder.ins().brif(link, look, &[], absent, &[]);
            self.builder.switch_to_block(look);
            self.builder.seal_block(look);
            let node_len = self.number(layout.node_len.into());
            let offset = self.builder.ins().imul(link, node_len);
            let nodes = self.number(layout.nodes.cast_signed());
            let node = self.builder.ins().iadd(nodes, offset);
            let head = self.builder.ins().atomic_load(I64, HOST, node);
            let other = self.builder.ins().ushr_imm_u(head, 32);
            let mut differs = self.builder.ins().bxor(other, hash);
            for (word, at) in key.iter().zip((8..).step_by(8)) {
                let theirs = self.builder.ins().load(I64, HOST, node, at);
                let differ = self.builder.ins().bxor(theirs, *word);
                differs = self.builder.ins().bor(differs, differ);
            }
            self.builder.ins().brif(differs, on, &[], checked, &[BlockArg::Value(link)]);
            self.builder.switch_to_block(on);
            self.builder.seal_block(on);
            self.builder.set_cold_block(on);
            link = self.zext32(head);
        }
        self.builder.ins().brif(link, slow, &[], absent, &[]);

        self.builder.switch_to_block(checked);
        self.builder.seal_block(checked);
        self.unless_unlinked(bucket, seen, layout, slow);
        if let Some(marks) = layout.marks {
            let marks = self.number(marks.cast_signed());
            let mark = self.builder.ins().iadd(marks, link_found);
            let mark = self.builder.ins().uload8(I64, HOST, mark, 0);
            let used = self.builder.ins().band_imm_u(mark, i64::from(layout.used));
            let marked = self.builder.create_block();
            self.builder.ins().brif(used, marked, &[], slow, &[]);
            self.builder.switch_to_block(marked);
            self.builder.seal_block(marked);
        }
        let addr = self.value_addr(link_found, (layout.addr, layout.stride, layout.worker_stride));
        self.builder.ins().jump(done, &[BlockArg::Value(addr)]);

        self.builder.switch_to_block(absent);
        self.builder.seal_block(absent);
        self.unless_unlinked(bucket, seen, layout, slow);
        let none = self.number(0);
        self.builder.ins().jump(done, &[BlockArg::Value(none)]);
    }

    /// Goes on here if nothing was unlinked from the bucket since it was seen.
    fn unless_unlinked(&mut self, bucket: Value, seen: Value, layout: &HashLayout, slow: Block) {
        // Keeps Cranelift from moving the loads before it; the processor (x86-64) does not.
        self.builder.ins().sequence_point();
        let now = self.builder.ins().atomic_load(I64, HOST, bucket);
        let changed = self.builder.ins().bxor(now, seen);
        let mask = self.number(layout.count_mask.cast_signed());
        let changed = self.builder.ins().band(changed, mask);
        let same = self.builder.create_block();
        self.builder.ins().brif(changed, slow, &[], same, &[]);
        self.builder.switch_to_block(same);
        self.builder.seal_block(same);
    }

    /// The hash of a key: `Seed::hash`.
    fn hash(&mut self, key: &[Value], [first, even, odd, last]: [u64; 4]) -> Value {
        let [even, odd_word, last] = [even, odd, last].map(|word| self.number(word.cast_signed()));
        let mut hash = None;
        for pair in key.chunks(2) {
            let one = self.builder.ins().bxor(pair[0], even);
            let before = match hash {
                None => self.number((odd ^ first).cast_signed()),
                Some(hash) => self.builder.ins().bxor(odd_word, hash),
            };
            let other = match pair.get(1) {
                Some(word) => self.builder.ins().bxor(*word, before),
                None => before,
            };
            hash = Some(self.fold(one, other));
        }
        let hash = hash.expect("a key has bytes");
        let mixed = self.builder.ins().bxor(hash, last);
        let folded = self.fold(mixed, odd_word);
        let upper = self.builder.ins().ushr_imm_u(folded, 32);
        let both = self.builder.ins().bxor(folded, upper);
        self.zext32(both)
    }

    /// The halves of a product, joined.
    fn fold(&mut self, one: Value, other: Value) -> Value {
        let low = self.builder.ins().imul(one, other);
        let high = self.builder.ins().umulhi(one, other);
        self.builder.ins().bxor(low, high)
    }
}
