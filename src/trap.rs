//! Why a run stopped early: the guest's fault, as a value.
//!
//! Invariant: a trap is never an `Err` of the world and never a panic; the host goes on.

use std::fmt;

/// What a guest access wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Read,
    /// To write (atomic operations included).
    Write,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

/// A range of guest memory that may not be accessed like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Guest address of the first byte of the access. Outside `0..2^32` when an offset left the cage.
    pub addr: i64,
    /// Bytes; 0 where the generated code's fault does not tell.
    pub len: u64,
    /// What was wanted.
    pub access: Access,
}

/// Kind of a trap. Every engine reports the same kind and pc for the same run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrapKind {
    /// A load or store outside mapped guest memory, or a store to read-only memory.
    Memory(Fault),
    /// An atomic operation at an address that is not a multiple of its size.
    Misaligned {
        /// Guest address.
        addr: i64,
    },
    /// The fuel of the run is used up.
    Fuel,
    /// A call would nest deeper than [`crate::limits::CALL_FRAMES_MAX`].
    CallDepth,
    /// `callx` with a register that holds no helper's number.
    NoHelper {
        /// The number.
        number: u64,
    },
    /// The instruction needs a type or field of the kernel that is not known here.
    Unresolved,
    /// A helper was given an argument against its prototype.
    HelperArg {
        /// Helper number (`enum bpf_func_id`).
        helper: u32,
        /// Argument, 1 to 5.
        arg: u8,
        /// What it should have been.
        expected: &'static str,
    },
    /// A helper was given memory that the program may not touch.
    HelperMemory {
        /// Helper number (`enum bpf_func_id`).
        helper: u32,
        /// The range.
        fault: Fault,
    },
    /// An exception of the program (`bpf_throw`): the run ends, and this is its answer. Engines turn it into an ordinary
    /// end, so that no outcome has it.
    Thrown {
        /// What the run answers.
        cookie: u64,
    },
    /// An exception behind a tail call out of a subprogram, which ends the called program alone: nobody knows here where that
    /// began.
    ThrownBehindCall,
    /// A kernel function was given an argument that it does not take.
    KfuncArg {
        /// Its name, without `bpf_`.
        kfunc: &'static str,
        /// Argument, 1 to 5.
        arg: u8,
        /// What it should have been.
        expected: &'static str,
    },
    /// A kernel function was given memory that the program may not touch.
    KfuncMemory {
        /// Its name, without `bpf_`.
        kfunc: &'static str,
        /// The range.
        fault: Fault,
    },
}

impl From<Fault> for TrapKind {
    fn from(fault: Fault) -> Self {
        Self::Memory(fault)
    }
}

/// Why and where a run stopped early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Why.
    pub kind: TrapKind,
    /// Slot index of the instruction, in the program that was executing (after tail calls: the last one).
    pub pc: usize,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "insn {}: ", self.pc)?;
        match self.kind {
            TrapKind::Memory(fault) => {
                write!(f, "{} at guest address {:#x}: not mapped for this", fault.access, fault.addr)
            }
            TrapKind::Misaligned { addr } => write!(f, "atomic operation at misaligned guest address {addr:#x}"),
            TrapKind::Fuel => f.write_str("fuel used up: the program ran too long"),
            TrapKind::CallDepth => write!(f, "calls nest deeper than {}", crate::limits::CALL_FRAMES_MAX),
            TrapKind::NoHelper { number } => write!(f, "no helper has number {number}"),
            TrapKind::Unresolved => {
                f.write_str("it needs a type or field that this kernel does not have; `kumite inspect` names it")
            }
            TrapKind::HelperArg { helper, arg, expected } => {
                write!(f, "helper {helper}: argument {arg} is not {expected}")
            }
            TrapKind::HelperMemory { helper, fault } => {
                write!(
                    f,
                    "helper {helper}: cannot {} {} bytes at guest address {:#x}",
                    fault.access, fault.len, fault.addr
                )
            }
            TrapKind::Thrown { cookie } => write!(f, "exception {cookie}"),
            TrapKind::ThrownBehindCall => {
                f.write_str("an exception behind a tail call out of a subprogram is not supported; return instead")
            }
            TrapKind::KfuncArg { kfunc, arg, expected } => {
                write!(f, "kernel function bpf_{kfunc}: argument {arg} is not {expected}")
            }
            TrapKind::KfuncMemory { kfunc, fault } => {
                write!(
                    f,
                    "kernel function bpf_{kfunc}: cannot {} {} bytes at guest address {:#x}",
                    fault.access, fault.len, fault.addr
                )
            }
        }
    }
}
