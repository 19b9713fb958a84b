//! Checks of arguments against prototypes, shared by the bodies.
//!
//! Keys and values are copied out of the cage before a map sees them, so that another worker cannot change them midway;
//! those of more than 512 bytes to the heap.
//!
//! Invariant: no more than [`HELPER_MEMORY_LEN_MAX`] bytes are touched for a length that a program gave.

use crossbeam::epoch::Guard;

use crate::cage::GuestRange;
use crate::limits::HELPER_MEMORY_LEN_MAX;
use crate::maps::Map;
use crate::run::Run;
use crate::trap::{Access, Fault, TrapKind};
use crate::verdict::ProgramKind;

/// Longest byte string that is copied without the heap.
const INLINE_LEN: usize = 512;
/// Most keys are no longer, and clearing more costs time.
const SHORT_LEN: usize = 16;

/// An argument in question: which helper or kernel function, which register.
#[derive(Clone, Copy)]
pub(super) struct Place {
    callee: Callee,
    arg: u8,
}

/// What is called: helpers have numbers that everyone knows, kernel functions have names.
#[derive(Clone, Copy)]
enum Callee {
    Helper(u32),
    Kfunc(&'static str),
}

/// Argument `arg`, 1 to 5, of helper number `helper`.
pub(super) const fn place(helper: u32, arg: u8) -> Place {
    Place { callee: Callee::Helper(helper), arg }
}

/// Argument `arg`, 1 to 5, of the kernel function of this name, without `bpf_`.
pub(super) const fn kfunc_place(kfunc: &'static str, arg: u8) -> Place {
    Place { callee: Callee::Kfunc(kfunc), arg }
}

impl Place {
    /// The trap of an argument that is not what the prototype says.
    pub(super) fn not(self, expected: &'static str) -> TrapKind {
        let arg = self.arg;
        match self.callee {
            Callee::Helper(helper) => TrapKind::HelperArg { helper, arg, expected },
            Callee::Kfunc(kfunc) => TrapKind::KfuncArg { kfunc, arg, expected },
        }
    }

    /// The trap of memory that the program may not touch.
    pub(super) fn fault(self, fault: Fault) -> TrapKind {
        match self.callee {
            Callee::Helper(helper) => TrapKind::HelperMemory { helper, fault },
            Callee::Kfunc(kfunc) => TrapKind::KfuncMemory { kfunc, fault },
        }
    }

    /// The argument behind it: the length of its memory.
    fn next(self) -> Self {
        Self { arg: self.arg + 1, ..self }
    }

    /// The context, as r1 held it at entry. The function of a timer has none, and neither has NULL; of a raw program r1 may be
    /// NULL.
    pub(super) fn context(self, run: &Run<'_>, value: u64) -> Result<(), TrapKind> {
        let is_there = run.head.ctx != 0 || run.kind == ProgramKind::Raw;
        if is_there && value == u64::from(run.head.ctx) { Ok(()) } else { Err(self.not("the context")) }
    }

    /// A map, by its handle.
    pub(super) fn map<'g>(self, run: &Run<'g>, handle: u64, guard: &'g Guard) -> Result<&'g dyn Map, TrapKind> {
        run.world.maps.map_by_handle(handle, guard).ok_or_else(|| self.not("a map"))
    }

    /// Memory of a length that the program gave. An empty range may begin anywhere, NULL included.
    pub(super) fn memory(self, run: &Run<'_>, addr: u64, len: u64, access: Access) -> Result<GuestRange, TrapKind> {
        if len > HELPER_MEMORY_LEN_MAX {
            return Err(self.next().not("a length of at most 64 KiB"));
        }
        let addr = if len == 0 { 0 } else { addr };
        run.world.cage.check(addr, len, access).map_err(|fault| self.fault(fault))
    }

    /// Memory of a length above zero that the program gave.
    pub(super) fn some_memory(
        self,
        run: &Run<'_>,
        addr: u64,
        len: u64,
        access: Access,
    ) -> Result<GuestRange, TrapKind> {
        if len == 0 {
            return Err(self.next().not("a length above zero"));
        }
        self.memory(run, addr, len, access)
    }

    /// Hands a copy of guest memory to `take`.
    pub(super) fn copied<T>(
        self,
        run: &Run<'_>,
        addr: u64,
        len: u32,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, TrapKind> {
        let cage = &run.world.cage;
        let fault = |fault| self.fault(fault);
        let count = len as usize;
        let read = |bytes: &mut [u8]| cage.read(addr, bytes).map_err(fault);
        if count <= SHORT_LEN {
            let mut bytes = [0; SHORT_LEN];
            read(&mut bytes[..count])?;
            Ok(take(&bytes[..count]))
        } else if count <= INLINE_LEN {
            let mut bytes = [0; INLINE_LEN];
            read(&mut bytes[..count])?;
            Ok(take(&bytes[..count]))
        } else {
            cage.check(addr, u64::from(len), Access::Read).map_err(fault)?;
            let mut bytes = vec![0; count];
            read(&mut bytes)?;
            Ok(take(&bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::STACK_LEN;
    use crate::maps::WorkerIndex;
    use crate::run::{Clock, World};

    #[test]
    fn null_is_no_context_where_there_is_none() {
        let world = World::new(1, Clock::Fixed(0), Box::new(|_| {})).expect("address space");
        let mut run = Run::new(&world, WorkerIndex(0), ProgramKind::Xdp, STACK_LEN);
        let refused = Err(TrapKind::HelperArg { helper: 44, arg: 1, expected: "the context" });
        assert_eq!(place(44, 1).context(&run, 0), refused);
        run.head.ctx = 0x1000;
        assert_eq!((place(44, 1).context(&run, 0x1000), place(44, 1).context(&run, 0)), (Ok(()), refused));
        run.head.ctx = 0;
        run.kind = ProgramKind::Raw;
        assert_eq!(place(44, 1).context(&run, 0), Ok(()), "a raw program without memory");
    }
}
