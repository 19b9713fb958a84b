//! The instruction set: one table of rows ([`table`]), many readers.
//!
//! Decoder, encoder, assembler, disassembler, form checks and the random-program generator are all derived from the
//! rows; the engines match on [`Does`], what an instruction does, without wildcard arms, so that the compiler names
//! every arm a new row lacks.
//!
//! Source: RFC 9669, and `kernel/bpf/{core,verifier}.c` for the Linux extensions.
//!
//! Invariant: knows nothing of memory, maps, helpers' bodies or engines.

mod does;
mod insn;

pub use does::{Alu, Atomic, Cond, Does, Endian, Fetch, Operand, Sign, Size, Width};
pub use insn::{Insn, Reg};
