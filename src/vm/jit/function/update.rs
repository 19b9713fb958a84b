//! `bpf_map_update_elem` of an array that is known when the program is translated, without a call.
//!
//! What the helper refuses (an index behind the last, an array that is frozen) it is called for, with key and value put where
//! it reads them.
//!
//! Invariant: an answer is what the helper would have given. Nothing here traps, as key and value lie in the frame, but beside
//! somebody who freezes the array at that moment: where the helper would have been refused, the write traps.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{BlockArg, InstBuilder, Value};

use super::Body;
use super::call::HOST;
use crate::helpers::Helper;
use crate::isa::Insn;
use crate::vm::jit::elements::{self, Updated};
use crate::vm::jit::hooks::Hooks;
use crate::vm::jit::stop;

impl<H: Hooks> Body<'_, '_, H> {
    /// r0 of an update, if it can be compiled inline.
    pub(super) fn inline_update(&mut self, pc: usize, insn: &Insn, helper: &Helper) -> Option<Value> {
        let Updated { layout, frozen, key_at, value_at, value_len } =
            elements::updated(self.source.linked, &self.state, helper)?;
        let frame = self.builder.ins().iadd(self.cage, self.fp);
        let index = self.frame_word(frame, key_at, 4);
        let lens = (0..value_len).step_by(8).map(|start| (start.cast_signed(), (value_len - start).min(8)));
        let words: Vec<_> =
            lens.map(|(start, len)| (start, len, self.frame_word(frame, value_at + start, len))).collect();
        let [there, free, slow, done] = std::array::from_fn(|_| self.builder.create_block());
        let r0 = self.builder.append_block_param(done, I64);

        let is_there = self.builder.ins().icmp_imm_u(IntCC::UnsignedLessThan, index, i64::from(layout.count));
        self.builder.ins().brif(is_there, there, &[], slow, &[]);
        self.builder.switch_to_block(there);
        self.builder.seal_block(there);
        let frozen = self.number(frozen.cast_signed());
        let is_frozen = self.builder.ins().uload8(I64, HOST, frozen, 0);
        self.builder.ins().brif(is_frozen, slow, &[], free, &[]);
        self.builder.switch_to_block(free);
        self.builder.seal_block(free);
        let addr = self.value_addr(index, (layout.addr, layout.stride, layout.worker_stride));
        let element = self.builder.ins().iadd(self.cage, addr);
        for (start, len, word) in &words {
            self.put(element, *start, *len, *word);
        }
        let none = self.number(0);
        self.builder.ins().jump(done, &[BlockArg::Value(none)]);

        self.builder.switch_to_block(slow);
        self.builder.seal_block(slow);
        self.builder.set_cold_block(slow);
        self.put(frame, key_at, 4, index);
        for (start, len, word) in words {
            self.put(frame, value_at + start, len, word);
        }
        let called = self.call_body(pc, insn, helper);
        self.builder.ins().jump(done, &[BlockArg::Value(called)]);
        self.builder.switch_to_block(done);
        self.builder.seal_block(done);
        Some(r0)
    }

    /// Stores the low bytes of a word, 1, 2, 4 or 8 of them.
    fn put(&mut self, base: Value, at: i32, len: u32, word: Value) {
        let flags = stop::flags(stop::WRITE);
        self.builder.ins().sequence_point();
        let ins = self.builder.ins();
        match len {
            8 => ins.store(flags, word, base, at),
            4 => ins.istore32(flags, word, base, at),
            2 => ins.istore16(flags, word, base, at),
            _ => ins.istore8(flags, word, base, at),
        };
    }
}
