//! Error numbers that helpers and bpf(2) answer with.
//!
//! Invariant: numbers are positive; a program sees them negative.

use std::fmt;

/// A positive error number of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! errno {
    ($($name:ident $text:literal,)*) => {
        impl Errno {
            $(
                #[doc = $text]
                pub const $name: Self = Self(libc::$name);
            )*

            /// Its name, or `None` for one that no helper answers with.
            #[must_use]
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    Self::ENOTSUPP => Some("ENOTSUPP"),
                    _ => None,
                }
            }
        }
    };
}

errno! {
    EPERM "Not permitted.",
    ENOENT "No such element.",
    E2BIG "Too big, or the map is full.",
    EBADF "Not a map or program.",
    EAGAIN "Not now.",
    ENOMEM "No memory.",
    EACCES "Not allowed.",
    EFAULT "Bad address.",
    EBUSY "In use.",
    EEXIST "The element exists.",
    ENODEV "No such interface.",
    EINVAL "Invalid argument.",
    ENOSPC "No room.",
    ERANGE "Out of range.",
    EOVERFLOW "Too large.",
    EDEADLK "Would deadlock.",
    EOPNOTSUPP "Not supported.",
    EPROTO "Protocol error.",
    EPROTONOSUPPORT "The protocol is not supported.",
    ESOCKTNOSUPPORT "The type of socket is not supported.",
    EAFNOSUPPORT "The address family is not supported.",
    ENETUNREACH "The network is not reached.",
    EALREADY "Done already.",
}

impl Errno {
    /// Not supported, by the kernel's own number (`include/linux/errno.h`), which user space never sees.
    pub const ENOTSUPP: Self = Self(524);

    /// What a helper returns for it: the negated number, sign-extended.
    #[must_use]
    pub fn to_r0(self) -> u64 {
        i64::from(-self.0).cast_unsigned()
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}
