//! Fast mode's code with parts of its safety left out: what they cost is the difference. Built for benches alone, as such code
//! is for programs that the kernel's verifier has passed.

use std::marker::PhantomData;

use cranelift_codegen::ir::Value;
use cranelift_frontend::FunctionBuilder;

use super::hooks::{Addresses, Fuel, Hooks, NoHooks, Safety, Stop};
use crate::run::Head;
use crate::vm::{Linked, Mode};

/// Which safety is kept.
pub trait Kept: Send + Sync + 'static {
    /// That.
    const SAFETY: Safety;
}

/// Fuel is not charged.
#[derive(Debug)]
pub struct Unfueled;

/// Addresses are not cut off to the cage's 32 bits; its base is still added to them.
#[derive(Debug)]
pub struct Unmasked;

/// Neither.
#[derive(Debug)]
pub struct Bare;

impl Kept for Unfueled {
    const SAFETY: Safety = Safety { fuel: Fuel::Free, ..Safety::WHOLE };
}

impl Kept for Unmasked {
    const SAFETY: Safety = Safety { addresses: Addresses::Trusted, ..Safety::WHOLE };
}

impl Kept for Bare {
    const SAFETY: Safety = Safety { fuel: Fuel::Free, addresses: Addresses::Trusted };
}

/// No hooks, and less safety. Tail calls lead to guarded code.
#[derive(Debug)]
pub struct Unguarded<K>(PhantomData<K>);

impl<K: Kept> Hooks for Unguarded<K> {
    const MODE: Mode = Mode::Fast;
    const CODE_TABLE: usize = NoHooks::CODE_TABLE;
    const SAFETY: Safety = K::SAFETY;
    type Kept = ();

    fn new(_: &Linked) -> Self {
        Self(PhantomData)
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
