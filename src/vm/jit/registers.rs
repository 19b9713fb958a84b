//! The processor's registers at a stop.
//!
//! Invariant: plain numbers in the order in which machine code counts registers: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi,
//! r8 to r15.

/// The general registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registers(pub(super) [u64; 16]);

impl Registers {
    /// Of the context that a signal handler is given.
    pub(super) fn of(context: &libc::ucontext_t) -> Self {
        let order = [
            libc::REG_RAX,
            libc::REG_RCX,
            libc::REG_RDX,
            libc::REG_RBX,
            libc::REG_RSP,
            libc::REG_RBP,
            libc::REG_RSI,
            libc::REG_RDI,
            libc::REG_R8,
            libc::REG_R9,
            libc::REG_R10,
            libc::REG_R11,
            libc::REG_R12,
            libc::REG_R13,
            libc::REG_R14,
            libc::REG_R15,
        ];
        Self(order.map(|index| context.uc_mcontext.gregs[index.unsigned_abs() as usize].cast_unsigned()))
    }
}
