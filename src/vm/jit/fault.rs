//! Signals that generated code raises.
//!
//! A load or store outside mapped guest memory raises SIGSEGV (SIGBUS where the system lacks memory), an instruction made
//! for trapping SIGILL. Where the thread runs generated code, the instruction is one that may trap, and the address is one
//! that it can form, the handler notes what it saw and continues at the landing of the activation. Everything else is
//! nobody's trap and goes to the handler that was there before, Rust's own for stack overflows among them.
//!
//! Invariant: the handler takes no lock, allocates nothing, and touches only its thread's activation.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use super::activation::{self, Seen};
use super::code;
use super::registers::Registers;
use crate::limits::{CAGE_GUARD_LEN, CAGE_LEN};

const SIGNALS: [libc::c_int; 3] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL];

/// What was installed before, written once before our handler is.
struct Before(UnsafeCell<[MaybeUninit<libc::sigaction>; SIGNALS.len()]>);

// SAFETY: written under `INSTALLED`'s lock before the handler that reads it is installed, never afterwards.
unsafe impl Sync for Before {}

static BEFORE: Before = Before(UnsafeCell::new([const { MaybeUninit::uninit() }; SIGNALS.len()]));

/// Installs the handler, once for the process.
///
/// # Errors
/// What sigaction answers.
pub(super) fn install() -> Result<(), io::Error> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        for (index, signal) in SIGNALS.into_iter().enumerate() {
            install_one(index, signal).map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))?;
        }
        Ok(())
    });
    (*installed).map_err(io::Error::from_raw_os_error)
}

fn install_one(index: usize, signal: libc::c_int) -> Result<(), io::Error> {
    // SAFETY: only the first caller gets here, and no handler of ours reads the place yet.
    let place = unsafe { &mut (*BEFORE.0.get())[index] };
    // SAFETY: asks for the present action; the place is ours.
    if unsafe { libc::sigaction(signal, std::ptr::null(), place.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all-zero is a valid action.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_signal as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the action names a function of the right shape that is safe to call at any time.
    if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn on_signal(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes it, for us alone.
    let about = unsafe { &*info };
    // SAFETY: as above.
    let machine = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    if !divert(signal, about, machine) {
        pass_on(signal, info, context);
    }
}

/// Continues at the activation's landing, if the signal is a trap of generated code.
fn divert(signal: libc::c_int, info: &libc::siginfo_t, machine: &mut libc::ucontext_t) -> bool {
    let Some(activation) = activation::current().filter(|_| info.si_code > 0) else { return false };
    let Ok(at) = usize::try_from(machine.uc_mcontext.gregs[index(libc::REG_RIP)].cast_unsigned()) else { return false };
    // SAFETY: this thread is executing at the address.
    let site = unsafe { code::table_at(at) }.and_then(|table| table.site(at));
    let Some(site) = site else { return false };
    // SAFETY: the kernel fills the address in for these signals.
    let addr = unsafe { info.si_addr() }.addr();
    // SAFETY: set by this thread's `enter`, which is still on the stack below; the run outlives its activation.
    let head = unsafe { &*activation.head };
    let expected = if site.touches_memory() {
        let offset = (addr as u64).wrapping_sub(head.cage_base.addr() as u64).wrapping_add(CAGE_GUARD_LEN);
        signal != libc::SIGILL && offset < CAGE_LEN + 2 * CAGE_GUARD_LEN
    } else {
        signal == libc::SIGILL
    };
    if !expected {
        return false;
    }
    activation::has_seen(Seen { at, addr, registers: Registers::of(machine) });
    let landing = activation.landing;
    let mut set = |register: libc::c_int, value: usize| {
        machine.uc_mcontext.gregs[index(register)] = (value as u64).cast_signed();
    };
    set(libc::REG_RIP, landing.address);
    set(libc::REG_RSP, head.recover);
    set(libc::REG_RBP, head.recover + landing.frame);
    true
}

/// Lets the handler of before have the signal.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(place) = SIGNALS.iter().position(|other| *other == signal) else { return };
    // SAFETY: written before this handler was installed, never afterwards.
    let before = unsafe { &(*BEFORE.0.get())[place] };
    // SAFETY: as above.
    let before = unsafe { before.assume_init_ref() };
    if before.sa_sigaction == libc::SIG_DFL || before.sa_sigaction == libc::SIG_IGN {
        // Back in the program, the instruction raises the signal again; one that somebody sent is raised here.
        // SAFETY: puts back what was there.
        unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) };
        // SAFETY: the kernel passed it.
        if unsafe { (*info).si_code } <= 0 {
            // SAFETY: blocked until this handler returns, then ends the process.
            unsafe { libc::raise(signal) };
        }
    } else if before.sa_flags & libc::SA_SIGINFO != 0 {
        // SAFETY: whoever installed it said that it is a function of this shape.
        let handler = unsafe {
            std::mem::transmute::<usize, extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void)>(
                before.sa_sigaction,
            )
        };
        handler(signal, info, context);
    } else {
        // SAFETY: as above, of the older shape.
        let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(before.sa_sigaction) };
        handler(signal);
    }
}

/// The place of a register in the kernel's list.
fn index(register: libc::c_int) -> usize {
    register.unsigned_abs() as usize
}
