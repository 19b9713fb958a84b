//! Why a program is not well-formed: the guest's fault, as a value.
//!
//! Invariant: each text names the program, the instruction, what is wrong and how to mend it.

use crate::isa::FormError;

/// Why [`super::Program::check`] refused a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It has no instruction.
    #[error("{program}: it has no instruction; end it with `exit` at least")]
    Empty {
        /// Name of the main function.
        program: String,
    },
    /// It is longer than [`crate::limits::PROGRAM_SLOTS_MAX`].
    #[error("{program}: {count} slots are more than {max}; split it with tail calls")]
    TooLong {
        /// Name of the main function.
        program: String,
        /// Its slots.
        count: usize,
        /// Most that are allowed.
        max: usize,
    },
    /// It has more functions than [`crate::limits::FUNCTIONS_MAX`].
    #[error("{program}: {count} functions are more than {max}; inline some, or split it with tail calls")]
    TooManyFunctions {
        /// Name of the main function.
        program: String,
        /// Its functions.
        count: usize,
        /// Most that are allowed.
        max: usize,
    },
    /// A slot is no instruction.
    #[error("{program} {error}")]
    Form {
        /// Name of the main function.
        program: String,
        /// What is wrong with the slot.
        error: FormError,
    },
    /// An instruction that kumite does not run.
    #[error("{program} insn {pc}: {name} is not supported: {because}; rebuild the object without it")]
    Unsupported {
        /// Name of the main function.
        program: String,
        /// Slot index.
        pc: usize,
        /// The instruction.
        name: &'static str,
        /// Why it is not supported.
        because: &'static str,
    },
    /// A legacy packet load in a program of a kind that has none.
    #[error("{program} insn {pc}: {kind} programs have no legacy packet loads; read the packet through the context")]
    PacketLoad {
        /// Name of the main function.
        program: String,
        /// Slot index.
        pc: usize,
        /// Name of the program's kind.
        kind: &'static str,
    },
    /// An instruction writes r10.
    #[error("{program} insn {pc}: the frame pointer r10 is read-only; copy it to another register first")]
    WritesFramePointer {
        /// Name of the main function.
        program: String,
        /// Slot index.
        pc: usize,
    },
    /// A jump leaves the function that it is in.
    #[error("{program} insn {pc}: jump to {target} leaves {function} ({start} to {last}); rebuild the object")]
    JumpLeavesFunction {
        /// Name of the main function.
        program: String,
        /// Slot index of the jump.
        pc: usize,
        /// Where it goes.
        target: i64,
        /// Name of the function.
        function: String,
        /// First slot of the function.
        start: usize,
        /// Last slot of the function.
        last: usize,
    },
    /// A jump to the second slot of a wide instruction.
    #[error("{program} insn {pc}: jump lands inside a two-slot load at {target}; rebuild the object")]
    JumpIntoSecondSlot {
        /// Name of the main function.
        program: String,
        /// Slot index of the jump.
        pc: usize,
        /// Where it goes.
        target: usize,
    },
    /// A local call or code address outside the program.
    #[error("{program} insn {pc}: call of {target} leaves the program (0 to {last}); link the object's functions")]
    CallLeavesProgram {
        /// Name of the main function.
        program: String,
        /// Slot index of the call.
        pc: usize,
        /// Where it goes.
        target: i64,
        /// Last slot of the program.
        last: usize,
    },
    /// A local call or code address to the second slot of a wide instruction.
    #[error("{program} insn {pc}: call lands inside a two-slot load at {target}; rebuild the object")]
    CallIntoSecondSlot {
        /// Name of the main function.
        program: String,
        /// Slot index of the call.
        pc: usize,
        /// Where it goes.
        target: usize,
    },
    /// A function's last instruction goes on to the next slot.
    #[error("{program} insn {pc}: {function} falls off its end; end it with `exit` or `goto`")]
    FallsOffEnd {
        /// Name of the main function.
        program: String,
        /// Slot index of the function's last instruction.
        pc: usize,
        /// Name of the function.
        function: String,
    },
    /// A function is said to begin where no instruction does.
    #[error(
        "{program}: function {function} is said to begin at {start}, where no instruction does; rebuild the object"
    )]
    FunctionStart {
        /// Name of the main function.
        program: String,
        /// Name of the function.
        function: String,
        /// Where it is said to begin.
        start: usize,
    },
}
