//! The instruction set: one table of rows ([`ROWS`]), many readers.
//!
//! Decoder, encoder, assembler, disassembler, form checks and the random-program generator are all derived from the
//! rows; the engines match on [`Does`], what an instruction does, without wildcard arms, so that the compiler names
//! every arm a new row lacks.
//!
//! Source: RFC 9669, and `kernel/bpf/{core,verifier}.c` for the Linux extensions.
//!
//! Invariant: knows nothing of memory, maps, helpers' bodies or engines.

mod assemble;
mod decode;
mod does;
mod insn;
mod print;
pub mod random;
mod reference;
mod row;
mod table;
mod text;

pub use assemble::{AsmError, Assembled, assemble, assemble_with_labels};
pub use decode::{FormError, decode, encode};
pub use does::{Alu, Atomic, Cond, Does, Endian, Fetch, Operand, Sign, Size, Width};
pub use insn::{Insn, Reg};
pub use print::{Printed, print};
pub use reference::reference;
pub use row::{Field, Group, Part, Row, Support};
pub use table::ROWS;
