//! What Cranelift is told of the machine and of the shapes of functions.
//!
//! Invariant: the same for every program and mode, so that any entry can jump to any other.

use std::sync::{Arc, OnceLock};

use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{AbiParam, Signature};
use cranelift_codegen::isa::{self, CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};

/// Values that every function takes: run, cage base, frame pointer, fuel spent, tail calls. A program's entry takes r1
/// between the base and the frame pointer; a subprogram takes the arguments it reads behind them.
pub(super) const FIXED_PARAMS: usize = 5;

/// The instruction set of this machine.
///
/// # Panics
/// If Cranelift does not know the host: kumite builds for x86-64 alone.
pub(super) fn isa() -> &'static OwnedTargetIsa {
    static ISA: OnceLock<OwnedTargetIsa> = OnceLock::new();
    ISA.get_or_init(|| {
        let verify = if cfg!(debug_assertions) { "true" } else { "false" };
        let mut flags = settings::builder();
        for (name, value) in [
            ("opt_level", "speed"),
            ("enable_verifier", verify),
            ("preserve_frame_pointers", "true"),
            ("unwind_info", "false"),
            ("enable_probestack", "true"),
            ("probestack_strategy", "inline"),
        ] {
            flags.set(name, value).expect("a setting of Cranelift 0.135");
        }
        let mut builder = isa::lookup_by_name("x86_64-unknown-linux-gnu").expect("x86-64 is compiled in");
        for (name, present) in [
            ("has_sse3", is_x86_feature_detected!("sse3")),
            ("has_ssse3", is_x86_feature_detected!("ssse3")),
            ("has_sse41", is_x86_feature_detected!("sse4.1")),
            ("has_sse42", is_x86_feature_detected!("sse4.2")),
            ("has_popcnt", is_x86_feature_detected!("popcnt")),
            ("has_bmi1", is_x86_feature_detected!("bmi1")),
            ("has_bmi2", is_x86_feature_detected!("bmi2")),
            ("has_lzcnt", is_x86_feature_detected!("lzcnt")),
        ] {
            if present {
                builder.enable(name).expect("a feature of Cranelift's x86-64");
            }
        }
        builder.finish(settings::Flags::new(flags)).expect("the settings agree with each other")
    })
}

/// The shape of a program's entry: run, cage base, r1, frame pointer, fuel spent, tail calls; gives r0 and fuel spent.
///
/// An entry notes its tail calls in the run's head, where whoever needs them after a call reads them.
///
/// Fuel travels as what is missing to `u64::MAX`, so that paying is an addition whose carry is the trap.
pub(super) fn entry_signature() -> Signature {
    let mut signature = Signature::new(CallConv::Tail);
    signature.params.extend([I64, I64, I64, I64, I64, I32].map(AbiParam::new));
    signature.returns.extend([I64, I64].map(AbiParam::new));
    signature
}

/// The shape of a subprogram that reads `arg_count` of r1 to r5.
pub(super) fn subprogram_signature(arg_count: usize) -> Signature {
    let mut signature = Signature::new(CallConv::Tail);
    signature.params.extend([I64, I64, I64, I64, I32].map(AbiParam::new));
    signature.params.extend((0..arg_count).map(|_| AbiParam::new(I64)));
    signature.returns.extend([I64, I64].map(AbiParam::new));
    signature
}

/// The shape of a routine of the host: takes the run and `arg_count` numbers, gives [`super::routines::Answer`].
pub(super) fn routine_signature(arg_count: usize) -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend((0..=arg_count).map(|_| AbiParam::new(I64)));
    signature.returns.extend([I64, I64].map(AbiParam::new));
    signature
}

/// The instruction set, shared with a module of cranelift-jit.
pub(super) fn shared_isa() -> OwnedTargetIsa {
    Arc::clone(isa())
}
