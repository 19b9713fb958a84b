//! Why generated code stops early: the trap codes that the translator puts at each place that may trap, and what they mean.
//!
//! Invariant: a code says why; slot and program come from the table of the code that was executing.

use cranelift_codegen::ir::{MemFlagsData, TrapCode};

use super::operand;
use super::outline;
use super::registers::Registers;
use crate::helpers;
use crate::isa::{Does, Insn, Size};
use crate::run::Run;
use crate::trap::{Access, Fault, TrapKind};
use crate::vm::Linked;

/// A load that may fault.
pub(super) const READ: TrapCode = TrapCode::unwrap_user(1);
/// A store or atomic operation that may fault.
pub(super) const WRITE: TrapCode = TrapCode::unwrap_user(2);
/// Entering the function cannot be paid.
pub(super) const ENTRY_FUEL: TrapCode = TrapCode::unwrap_user(3);
/// A jump or call cannot be paid.
pub(super) const FUEL: TrapCode = TrapCode::unwrap_user(4);
/// The deepest frame calls.
pub(super) const CALL_DEPTH: TrapCode = TrapCode::unwrap_user(5);
/// An atomic operation is misaligned; its address is in `Head::r0`.
pub(super) const MISALIGNED: TrapCode = TrapCode::unwrap_user(6);
/// A routine of the host said so; the reason is in `Run::trap`.
pub(super) const ROUTINE: TrapCode = TrapCode::unwrap_user(7);

/// The key of a lookup that was compiled inline cannot be read; where it is and how long is in the head.
pub(super) const KEY: TrapCode = TrapCode::unwrap_user(8);
/// Its address is none of a guest's.
pub(super) const KEY_ADDRESS: TrapCode = TrapCode::unwrap_user(9);

/// A tail call was given something else than the context.
pub(super) const NO_CONTEXT: TrapCode = TrapCode::unwrap_user(10);

/// Flags of an access to guest memory.
pub(super) const fn flags(code: TrapCode) -> MemFlagsData {
    MemFlagsData::new().with_trap_code(Some(code))
}

/// A place in generated code that may trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// Bytes from the start of the program's code.
    pub(super) offset: u32,
    /// Slot index.
    pub(super) pc: u32,
    /// Why.
    pub(super) code: TrapCode,
}

impl Site {
    /// Whether it traps by touching memory rather than by an instruction made for it.
    pub(super) fn touches_memory(self) -> bool {
        matches!(self.code, READ | WRITE | KEY)
    }

    /// The trap that a stop here means. `addr` is the host address that could not be touched, `code` the machine code
    /// from the stopped instruction on.
    pub(super) fn kind(
        self,
        linked: &Linked,
        run: &Run<'_>,
        addr: usize,
        code: &[u8],
        registers: &Registers,
    ) -> TrapKind {
        if self.code == READ || self.code == WRITE {
            let insn = &linked.insns()[self.pc as usize];
            let access = if self.code == READ { Access::Read } else { Access::Write };
            // An access across the end of a page faults at the second page: its first byte is in the operand.
            let addr = operand::address(code, registers).filter(|start| addr.wrapping_sub(*start) < 16).unwrap_or(addr);
            let guest = addr.wrapping_sub(run.head.cage_base.addr()).cast_signed() as i64;
            return memory(insn, guest, access);
        }
        match self.code {
            KEY | KEY_ADDRESS => {
                let helper = outline::helper(&linked.insns()[self.pc as usize]).id;
                let (addr, len) = (run.head.key_addr.cast_signed(), run.head.key_len);
                TrapKind::HelperMemory { helper, fault: Fault { addr, len, access: Access::Read } }
            }
            MISALIGNED => TrapKind::Misaligned { addr: run.head.r0.cast_signed() },
            CALL_DEPTH => TrapKind::CallDepth,
            NO_CONTEXT => helpers::TAIL_CALL_WITHOUT_CONTEXT,
            ROUTINE => run.trap.expect("a routine that asks for a trap says which"),
            _ => TrapKind::Fuel,
        }
    }
}

/// The trap of an instruction whose access to guest memory faulted.
fn memory(insn: &Insn, addr: i64, access: Access) -> TrapKind {
    let fault = |len: u32| Fault { addr, len: len.into(), access };
    if let Does::Load(size, _)
    | Does::Store(size, _)
    | Does::Atomic(size, ..)
    | Does::Exchange(size)
    | Does::CompareExchange(size)
    | Does::LoadAcquire(size)
    | Does::StoreRelease(size) = insn.does
    {
        TrapKind::Memory(fault(size.len()))
    } else if insn.does == Does::CallHelper {
        // The key of a lookup that was compiled inline, or the element of an update while its array is being frozen.
        TrapKind::HelperMemory { helper: outline::helper(insn).id, fault: fault(Size::W.len()) }
    } else {
        // Zeroing the stack, where the caller gave no page for it.
        TrapKind::Memory(fault(0))
    }
}
