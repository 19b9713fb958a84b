//! One thread's activation of generated code.
//!
//! Entering is a call of a function that cranelift-jit compiles once for the process: it saves what the host's calling
//! convention asks for, notes its stack pointer in the run, and calls the program's entry with an exception handler. A
//! trap continues at that handler, in the state in which the call would have returned: nothing of the generated code's
//! frames has a destructor.
//!
//! Invariant: while generated code runs in a thread, and only then, the thread's [`current`] activation is set.

use std::any::Any;
use std::cell::Cell;
use std::mem::{MaybeUninit, offset_of};
use std::panic;
use std::ptr;
use std::sync::OnceLock;

use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{
    AbiParam, BlockArg, BlockCall, ExceptionTableData, ExceptionTableItem, InstBuilder, MemFlagsData, Signature,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, ModuleError};

use super::registers::Registers;
use super::target;
use crate::run::{Head, Run};

/// A thread's activation, as the fault handler finds it.
pub(super) struct Activation {
    /// The run that was entered.
    pub(super) head: *const Head,
    /// Where a trap continues.
    pub(super) landing: Landing,
    /// What the fault handler saw; written by it before it continues at the landing.
    pub(super) seen: MaybeUninit<Seen>,
    /// A panic that waits until generated code is left.
    panic: Option<Box<dyn Any + Send>>,
}

/// Where a trap continues: the exception handler of the entering function, and how far above the stack pointer there its
/// frame pointer is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Landing {
    pub(super) address: usize,
    pub(super) frame: usize,
}

/// What the fault handler saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Address of the instruction.
    pub(super) at: usize,
    /// Address that could not be touched, or of the instruction.
    pub(super) addr: usize,
    /// The registers.
    pub(super) registers: Registers,
}

thread_local! {
    static CURRENT: Cell<*mut Activation> = const { Cell::new(ptr::null_mut()) };
}

/// The activation of this thread, or null. Safe to call in a signal handler: the variable has no initialiser to run.
pub(super) fn current() -> *mut Activation {
    CURRENT.get()
}

/// Keeps a panic until generated code is left.
pub(super) fn keep_panic(payload: Box<dyn Any + Send>) {
    let current = current();
    assert!(!current.is_null(), "routines are called by generated code");
    // SAFETY: set by `enter`, which is still on the stack below and touches it only when generated code has been left.
    let place = unsafe { &mut (*current).panic };
    *place = Some(payload);
}

/// How generated code was left.
#[derive(Debug)]
pub(super) enum Left {
    /// It returned; results are in the head.
    Returned,
    /// It stopped.
    Stopped(Box<Seen>),
}

/// The function that enters generated code.
struct Enter {
    function: unsafe extern "C" fn(*mut Run<'_>, *const u8) -> u64,
    landing: Landing,
}

// SAFETY: the address is of immutable code that is never freed.
unsafe impl Send for Enter {}
// SAFETY: as above.
unsafe impl Sync for Enter {}

static ENTER: OnceLock<Enter> = OnceLock::new();

/// Makes sure that [`enter`] can be called.
///
/// # Errors
/// What cranelift-jit says, in practice that it gets no executable memory.
pub(super) fn prepare() -> Result<(), Box<ModuleError>> {
    if ENTER.get().is_none() {
        let enter = compile()?;
        // Another thread may have been first; then its function is used and this one lies idle.
        let _ = ENTER.set(enter);
    }
    Ok(())
}

/// Runs generated code from a program's entry.
///
/// # Safety
/// `entry` is the entry of a program that stays alive, with everything that it can jump to, until this returns; the run's
/// cage base is that of its world; [`prepare`] and the installation of the fault handler have succeeded.
///
/// # Panics
/// With the panic of a helper's body, if one did.
pub(super) unsafe fn enter(run: &mut Run<'_>, entry: *const u8) -> Left {
    let enter = ENTER.get().expect("whoever translated has prepared");
    let run = ptr::from_mut(run);
    let mut activation =
        Activation { head: run.cast(), landing: enter.landing, seen: MaybeUninit::uninit(), panic: None };
    let outer = CURRENT.replace(&raw mut activation);
    // SAFETY: the caller vouches for `entry`; the run is borrowed for as long.
    let stopped = unsafe { (enter.function)(run, entry) };
    CURRENT.set(outer);
    if stopped == 0 {
        return Left::Returned;
    }
    if let Some(payload) = activation.panic.take() {
        panic::resume_unwind(payload);
    }
    // SAFETY: only the fault handler continues at the landing, and it writes this first.
    Left::Stopped(Box::new(unsafe { activation.seen.assume_init() }))
}

fn compile() -> Result<Enter, Box<ModuleError>> {
    let builder = JITBuilder::with_isa(target::shared_isa(), cranelift_module::default_libcall_names());
    let mut module = JITModule::new(builder);
    let mut context = module.make_context();
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend([I64, I64].map(AbiParam::new));
    signature.returns.push(AbiParam::new(I64));
    context.func.signature = signature.clone();
    let mut functions = FunctionBuilderContext::new();
    build(FunctionBuilder::new(&mut context.func, &mut functions));
    let id = module.declare_function("enter", Linkage::Export, &signature).map_err(Box::new)?;
    module.define_function(id, &mut context).map_err(Box::new)?;
    let buffer = &context.compiled_code().expect("it was just compiled").buffer;
    let site = buffer.call_sites().find(|site| !site.exception_handlers.is_empty()).expect("one call has a handler");
    let handler = match site.exception_handlers {
        [cranelift_codegen::FinalizedMachExceptionHandler::Default(offset)] => *offset as usize,
        other => unreachable!("one default handler was asked for, not {other:?}"),
    };
    let frame = site.frame_offset.expect("x86-64 says it") as usize;
    module.finalize_definitions().map_err(Box::new)?;
    let address = module.get_finalized_function(id);
    let landing = Landing { address: address.addr() + handler, frame };
    // The module owns the code, which is needed as long as the process lives.
    std::mem::forget(module);
    // SAFETY: the function was compiled with this signature, and its code stays.
    let function =
        unsafe { std::mem::transmute::<*const u8, unsafe extern "C" fn(*mut Run<'_>, *const u8) -> u64>(address) };
    Ok(Enter { function, landing })
}

/// Builds the entering function: takes the run and an entry, gives 0 after a return and 1 after a trap.
fn build(mut builder: FunctionBuilder<'_>) {
    const HOST: MemFlagsData = MemFlagsData::trusted();
    let field = |offset: usize| i32::try_from(offset).expect("a head is small");
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    let [run, entry] = *builder.block_params(block) else { unreachable!("two parameters were declared") };
    let cage = builder.ins().load(I64, HOST, run, field(offset_of!(Head, cage_base)));
    let ctx = builder.ins().uload32(HOST, run, field(offset_of!(Head, ctx)));
    let fp = builder.ins().uload32(HOST, run, field(offset_of!(Head, stack_top)));
    let fuel = builder.ins().load(I64, HOST, run, field(offset_of!(Head, fuel)));
    let spent = builder.ins().bnot(fuel);
    let tail_calls = builder.ins().load(I32, HOST, run, field(offset_of!(Head, tail_calls)));
    let stack = builder.ins().get_stack_pointer(I64);
    builder.ins().store(HOST, stack, run, field(offset_of!(Head, recover)));

    let (returned, trapped) = (builder.create_block(), builder.create_block());
    let [r0, spent_after, tail_calls_after] = [I64, I64, I32].map(|ty| builder.append_block_param(returned, ty));
    let signature = builder.import_signature(target::entry_signature());
    let pool = &mut builder.func.dfg.value_lists;
    let normal = BlockCall::new(returned, (0..3).map(BlockArg::TryCallRet), pool);
    let handler = BlockCall::new(trapped, [], pool);
    let table = ExceptionTableData::new(signature, normal, [ExceptionTableItem::Default(handler)]);
    let table = builder.func.dfg.exception_tables.push(table);
    builder.ins().try_call_indirect(entry, &[run, cage, ctx, fp, spent, tail_calls], table);

    builder.switch_to_block(returned);
    let fuel = builder.ins().bnot(spent_after);
    builder.ins().store(HOST, r0, run, field(offset_of!(Head, r0)));
    builder.ins().store(HOST, fuel, run, field(offset_of!(Head, fuel)));
    builder.ins().store(HOST, tail_calls_after, run, field(offset_of!(Head, tail_calls)));
    let done = builder.ins().iconst(I64, 0);
    builder.ins().return_(&[done]);

    builder.switch_to_block(trapped);
    builder.set_cold_block(trapped);
    let done = builder.ins().iconst(I64, 1);
    builder.ins().return_(&[done]);
    builder.seal_all_blocks();
    builder.finalize(target::isa().frontend_config());
}
