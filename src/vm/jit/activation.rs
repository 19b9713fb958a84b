//! One thread's activation of generated code.
//!
//! Entering is a call of one of two functions that cranelift-jit compiles once for the process: it saves what the host's calling
//! convention asks for, notes its stack pointer in the run, and calls the program's entry with an exception handler. A
//! trap continues at that handler, in the state in which the call would have returned: nothing of the generated code's
//! frames has a destructor.
//!
//! What the fault handler needs of an activation is in thread-local cells without initialiser or destructor, which a signal
//! handler may touch and which cost an entry next to nothing. The rest is touched by runs that stop alone.
//!
//! Invariant: while generated code runs in a thread, and only then, the thread's [`current`] activation is set.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::mem::offset_of;
use std::panic;
use std::ptr;
use std::sync::{Arc, OnceLock};

use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{
    AbiParam, BlockArg, BlockCall, ExceptionTableData, ExceptionTableItem, InstBuilder, MemFlagsData, Signature,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module, ModuleError};

use super::hooks::{Stop, StopAt};
use super::registers::Registers;
use super::{code, stop, target};
use crate::run::{Head, Run};
use crate::trap::Trap;
use crate::vm::Linked;

/// A thread's activation, as the fault handler finds it.
#[derive(Clone, Copy)]
pub(super) struct Activation {
    /// The run that was entered.
    pub(super) head: *const Head,
    /// Where a trap continues.
    pub(super) landing: &'static Landing,
}

/// What waits until generated code is left.
#[derive(Default)]
struct Waiting {
    panic: Option<Box<dyn Any + Send>>,
    /// Where a function that a helper called back stopped, innermost first.
    within: Vec<Stopped>,
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

/// Where and why generated code stopped.
#[derive(Debug)]
pub(super) struct Stopped {
    /// The program that was executing.
    pub(super) linked: Arc<Linked>,
    /// Why and where.
    pub(super) trap: Trap,
    /// Whether the instruction there began.
    pub(super) at: StopAt,
}

impl Stopped {
    /// The same for hooks.
    pub(super) fn stop(&self) -> Stop<'_> {
        Stop { linked: &self.linked, pc: self.trap.pc, at: self.at }
    }

    /// What the fault handler saw, in words of the program.
    ///
    /// # Safety
    /// The program that stopped has not been dropped since.
    unsafe fn read(run: &Run<'_>, seen: &Seen) -> Self {
        // SAFETY: as above.
        let table = unsafe { code::table_at(seen.at) }.expect("only registered code is diverted");
        let site = table.site(seen.at).expect("only places that may trap are diverted");
        let kind = site.kind(&table.linked, run, seen.addr, table.bytes_at(seen.at), &seen.registers);
        let at = if site.code == stop::ENTRY_FUEL { StopAt::Entry } else { StopAt::Insn };
        Self { linked: Arc::clone(&table.linked), trap: Trap { kind, pc: site.pc as usize }, at }
    }
}

thread_local! {
    static CURRENT: Cell<Option<Activation>> = const { Cell::new(None) };
    static SEEN: Cell<Option<Seen>> = const { Cell::new(None) };
    static WAITING: RefCell<Waiting> = const { RefCell::new(Waiting { panic: None, within: Vec::new() }) };
}

/// The activation of this thread. Safe to call in a signal handler: the variable has no initialiser to run.
pub(super) fn current() -> Option<Activation> {
    CURRENT.get()
}

/// Notes what the fault handler saw, before it continues at the landing. Safe to call there, as [`current`].
pub(super) fn has_seen(seen: Seen) {
    SEEN.set(Some(seen));
}

/// Keeps a panic until generated code is left.
pub(super) fn keep_panic(payload: Box<dyn Any + Send>) {
    WAITING.with_borrow_mut(|waiting| waiting.panic = Some(payload));
}

/// Keeps where a function that a helper called back stopped: the run stops there, not at the helper's call.
pub(super) fn keep_stops(within: Vec<Stopped>) {
    WAITING.with_borrow_mut(|waiting| waiting.within = within);
}

/// How generated code was left.
#[derive(Debug)]
pub(super) enum Left {
    /// It returned; results are in the head.
    Returned,
    /// It stopped: there, and at the calls of helpers that had called back, innermost first.
    Stopped(Vec<Stopped>),
}

/// What is entered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    /// A program: r1 is the context, r10 the top of the stack, fuel and tail calls as the head says.
    Program,
    /// A function that a helper calls back: arguments and r10 as the head says, the rest likewise.
    Callback,
}

/// A function that enters generated code.
#[derive(Clone, Copy)]
struct Way {
    function: unsafe extern "C" fn(*mut Run<'_>, *const u8) -> u64,
    landing: Landing,
}

/// The functions that enter generated code.
struct Enter {
    program: Way,
    callback: Way,
}

// SAFETY: the addresses are of immutable code that is never freed.
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

/// Runs generated code from the entry of a program, or of a function that can be called back.
///
/// # Safety
/// `code` is such an entry, of a program that stays alive, with everything that it can jump to, until this returns; the run's
/// cage base is that of its world; [`prepare`] and the installation of the fault handler have succeeded.
///
/// # Panics
/// With the panic of a helper's body, if one did.
#[inline]
pub(super) unsafe fn enter(run: &mut Run<'_>, entry: Entry, code: *const u8) -> Left {
    let enter = ENTER.get().expect("whoever translated has prepared");
    let way = match entry {
        Entry::Program => &enter.program,
        Entry::Callback => &enter.callback,
    };
    let recover = run.head.recover;
    let outer = CURRENT.replace(Some(Activation { head: ptr::from_mut(run).cast(), landing: &way.landing }));
    // SAFETY: the caller vouches for `code`; the run is borrowed for as long.
    let stopped = unsafe { (way.function)(run, code) };
    CURRENT.set(outer);
    run.head.recover = recover;
    if stopped == 0 {
        return Left::Returned;
    }
    // SAFETY: the caller keeps the program, and guards what it jumped to.
    Left::Stopped(unsafe { stops(run) })
}

/// Where generated code just stopped.
///
/// # Safety
/// The program that stopped has not been dropped since.
#[cold]
unsafe fn stops(run: &Run<'_>) -> Vec<Stopped> {
    let Waiting { panic, mut within } = WAITING.take();
    if let Some(payload) = panic {
        panic::resume_unwind(payload);
    }
    let seen = SEEN.take().expect("only the fault handler continues at the landing, and it notes this first");
    // SAFETY: the caller vouches for it.
    within.push(unsafe { Stopped::read(run, &seen) });
    within
}

fn compile() -> Result<Enter, Box<ModuleError>> {
    let builder = JITBuilder::with_isa(target::shared_isa(), cranelift_module::default_libcall_names());
    let mut module = JITModule::new(builder);
    let program = define(&mut module, Entry::Program)?;
    let callback = define(&mut module, Entry::Callback)?;
    module.finalize_definitions().map_err(Box::new)?;
    let enter = Enter { program: way(&module, program), callback: way(&module, callback) };
    // The module owns the code, which is needed as long as the process lives.
    std::mem::forget(module);
    Ok(enter)
}

/// A function of the module, and where in it a trap continues.
type Defined = (FuncId, usize, usize);

fn define(module: &mut JITModule, entry: Entry) -> Result<Defined, Box<ModuleError>> {
    let mut context = module.make_context();
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend([I64, I64].map(AbiParam::new));
    signature.returns.push(AbiParam::new(I64));
    context.func.signature = signature.clone();
    let mut functions = FunctionBuilderContext::new();
    build(entry, FunctionBuilder::new(&mut context.func, &mut functions));
    let name = match entry {
        Entry::Program => "enter_program",
        Entry::Callback => "enter_callback",
    };
    let id = module.declare_function(name, Linkage::Export, &signature).map_err(Box::new)?;
    module.define_function(id, &mut context).map_err(Box::new)?;
    let buffer = &context.compiled_code().expect("it was just compiled").buffer;
    let site = buffer.call_sites().find(|site| !site.exception_handlers.is_empty()).expect("one call has a handler");
    let handler = match site.exception_handlers {
        [cranelift_codegen::FinalizedMachExceptionHandler::Default(offset)] => *offset as usize,
        other => unreachable!("one default handler was asked for, not {other:?}"),
    };
    let frame = site.frame_offset.expect("x86-64 says it") as usize;
    Ok((id, handler, frame))
}

fn way(module: &JITModule, (id, handler, frame): Defined) -> Way {
    let address = module.get_finalized_function(id);
    let landing = Landing { address: address.addr() + handler, frame };
    // SAFETY: the function was compiled with this signature, and its code stays.
    let function =
        unsafe { std::mem::transmute::<*const u8, unsafe extern "C" fn(*mut Run<'_>, *const u8) -> u64>(address) };
    Way { function, landing }
}

/// Builds an entering function: takes the run and the code to enter, gives 0 after a return and 1 after a trap.
fn build(entry: Entry, mut builder: FunctionBuilder<'_>) {
    const HOST: MemFlagsData = MemFlagsData::trusted();
    let field = |offset: usize| i32::try_from(offset).expect("a head is small");
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    let [run, code] = *builder.block_params(block) else { unreachable!("two parameters were declared") };
    let cage = builder.ins().load(I64, HOST, run, field(offset_of!(Head, cage_base)));
    let fuel = builder.ins().load(I64, HOST, run, field(offset_of!(Head, fuel)));
    let spent = builder.ins().bnot(fuel);
    let tail_calls = builder.ins().load(I32, HOST, run, field(offset_of!(Head, tail_calls)));
    let (signature, args) = match entry {
        Entry::Program => {
            let ctx = builder.ins().uload32(HOST, run, field(offset_of!(Head, ctx)));
            let fp = builder.ins().uload32(HOST, run, field(offset_of!(Head, stack_top)));
            (target::entry_signature(), vec![run, cage, ctx, fp, spent, tail_calls])
        }
        Entry::Callback => {
            let fp = builder.ins().load(I64, HOST, run, field(offset_of!(Head, frame)));
            let passed = (0..5).map(|index| offset_of!(Head, callback_args) + index * size_of::<u64>());
            let passed = passed.map(|offset| builder.ins().load(I64, HOST, run, field(offset)));
            let args = [run, cage, fp, spent, tail_calls].into_iter().chain(passed.collect::<Vec<_>>()).collect();
            (target::subprogram_signature(5), args)
        }
    };
    let stack = builder.ins().get_stack_pointer(I64);
    builder.ins().store(HOST, stack, run, field(offset_of!(Head, recover)));

    let (returned, trapped) = (builder.create_block(), builder.create_block());
    let [r0, spent_after] = [I64, I64].map(|ty| builder.append_block_param(returned, ty));
    let signature = builder.import_signature(signature);
    let pool = &mut builder.func.dfg.value_lists;
    let normal = BlockCall::new(returned, (0..2).map(BlockArg::TryCallRet), pool);
    let handler = BlockCall::new(trapped, [], pool);
    let table = ExceptionTableData::new(signature, normal, [ExceptionTableItem::Default(handler)]);
    let table = builder.func.dfg.exception_tables.push(table);
    builder.ins().try_call_indirect(code, &args, table);

    builder.switch_to_block(returned);
    let fuel = builder.ins().bnot(spent_after);
    builder.ins().store(HOST, r0, run, field(offset_of!(Head, r0)));
    builder.ins().store(HOST, fuel, run, field(offset_of!(Head, fuel)));
    let done = builder.ins().iconst(I64, 0);
    builder.ins().return_(&[done]);

    builder.switch_to_block(trapped);
    builder.set_cold_block(trapped);
    let done = builder.ins().iconst(I64, 1);
    builder.ins().return_(&[done]);
    builder.seal_all_blocks();
    builder.finalize(target::isa().frontend_config());
}
