//! What the translator weaves into the code of a mode.
//!
//! Invariant: a mode is a type. A hook that a mode lacks is an empty function at translation; nothing of it is in the code.

use cranelift_codegen::ir::Value;
use cranelift_frontend::FunctionBuilder;

use crate::run::Head;
use crate::vm::{Linked, Mode};

/// What a mode weaves into its code. The methods are called while a program is translated and emit code.
pub trait Hooks: Sized + Send + Sync + 'static {
    /// The mode.
    const MODE: Mode;
    /// Its place among the code tables of program arrays.
    const CODE_TABLE: usize;

    /// What its code is kept safe by.
    const SAFETY: Safety = Safety::WHOLE;

    /// Values that the hooks of one function keep.
    type Kept: Copy;

    /// The state behind the hooks of one program.
    fn new(linked: &Linked) -> Self;

    /// At the entry of a function; `run` is the address of the run.
    fn function(&self, builder: &mut FunctionBuilder<'_>, run: Value) -> Self::Kept;

    /// Where the program becomes the one that runs: at its entry, and when a subprogram has returned.
    fn program(&self, builder: &mut FunctionBuilder<'_>, run: Value);

    /// At the entry of the program, which is paid for; `tail_calls` says how many led there.
    fn entered(&self, builder: &mut FunctionBuilder<'_>, kept: Self::Kept, tail_calls: Value);

    /// Before the instruction at `pc`.
    fn insn(&self, builder: &mut FunctionBuilder<'_>, run: Value, kept: Self::Kept, pc: usize);

    /// Before the tail call at `pc` jumps.
    fn tail_call(&self, builder: &mut FunctionBuilder<'_>, kept: Self::Kept, pc: usize);

    /// Instructions that the run has executed, in modes that count them. `stops`: where it stopped early, and the calls of
    /// helpers that had called back there.
    fn executed(head: &Head, stops: &[Stop<'_>]) -> Option<u64>;
}

/// What code is kept safe by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Safety {
    /// Whether what is executed is paid for.
    pub fuel: Fuel,
    /// Whether addresses are kept in the cage.
    pub addresses: Addresses,
}

impl Safety {
    /// All that every mode has.
    pub const WHOLE: Self = Self { fuel: Fuel::Charged, addresses: Addresses::Masked };
}

/// Whether what is executed is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fuel {
    /// It is; what cannot be paid is a trap.
    Charged,
    /// It is not: a loop without end has none. For benches.
    #[cfg(feature = "unguarded")]
    Free,
}

/// Whether addresses are kept in the cage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// They are cut off to the cage's 32 bits.
    Masked,
    /// They are taken as they come, and lead anywhere. For benches.
    #[cfg(feature = "unguarded")]
    Trusted,
}

/// Where a run stopped early.
#[derive(Clone, Copy, Debug)]
pub struct Stop<'p> {
    /// The program that was executing.
    pub linked: &'p Linked,
    /// The instruction, or the first one of a function that could not be entered.
    pub pc: usize,
    /// Whether the instruction began.
    pub at: StopAt,
}

/// Whether the instruction at a stop began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopAt {
    /// It began and trapped.
    Insn,
    /// The function that begins there was not entered.
    Entry,
}

/// No hooks: fast mode.
#[derive(Debug)]
pub struct NoHooks;

impl Hooks for NoHooks {
    const MODE: Mode = Mode::Fast;
    const CODE_TABLE: usize = 0;
    type Kept = ();

    fn new(_: &Linked) -> Self {
        Self
    }

    fn function(&self, _: &mut FunctionBuilder<'_>, _: Value) {}

    fn program(&self, _: &mut FunctionBuilder<'_>, _: Value) {}

    fn entered(&self, _: &mut FunctionBuilder<'_>, (): (), _: Value) {}

    fn insn(&self, _: &mut FunctionBuilder<'_>, _: Value, (): (), _: usize) {}

    fn tail_call(&self, _: &mut FunctionBuilder<'_>, (): (), _: usize) {}

    fn executed(_: &Head, _: &[Stop<'_>]) -> Option<u64> {
        None
    }
}
