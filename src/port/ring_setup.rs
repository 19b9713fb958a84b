//! Making a ring with what the kernel has, and saying why there is none.
//!
//! Invariant: knows nothing of sockets and frames.

use std::fmt;
use std::io;

use io_uring::{IoUring, opcode};

/// Requests that wait for submission at most.
const SQ_ENTRIES: u32 = 256;

/// Why there is no ring.
#[derive(Debug)]
pub(super) struct Refusal {
    what: &'static str,
    errno: i32,
}

impl Refusal {
    /// The process has no descriptor left.
    pub(super) fn no_bell() -> Self {
        Self { what: "an eventfd", errno: libc::EMFILE }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.errno {
            libc::EPERM => "EPERM",
            libc::ENOSYS => "ENOSYS",
            libc::EINVAL => "EINVAL",
            libc::ENOMEM => "ENOMEM",
            libc::EMFILE => "EMFILE",
            libc::EACCES => "EACCES",
            errno => return write!(f, "{} refused (errno {errno})", self.what),
        };
        write!(f, "{} refused ({name})", self.what)
    }
}

/// The refusal that an error of the kernel is.
pub(super) fn refused(what: &'static str) -> impl Fn(io::Error) -> Refusal {
    move |source| Refusal { what, errno: source.raw_os_error().unwrap_or(libc::EINVAL) }
}

/// Whether the kernel has multishot receives. They cannot be asked for, but came with zero-copy sends in Linux 6.0; to try one
/// out on the wire would take frames from it.
pub(super) fn know_multishot(ring: &IoUring) -> Result<(), Refusal> {
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(refused("a probe"))?;
    if probe.is_supported(opcode::SendZc::CODE) {
        return Ok(());
    }
    Err(Refusal { what: "a multishot receive", errno: libc::EINVAL })
}

/// When the kernel does what it put off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TaskWork {
    /// When the thread that owns the ring asks.
    Deferred,
    /// When the thread enters the kernel anyhow; before 6.1.
    Cooperative,
}

/// A ring with what the kernel has of: one thread issues, task work waits for it, a bad request does not stop others.
pub(super) fn setup(cq_entries: u32) -> Result<(IoUring, &'static str), Refusal> {
    match build(cq_entries, TaskWork::Deferred) {
        Ok(ring) => Ok((ring, "multishot receive")),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build(cq_entries, TaskWork::Cooperative)
            .map(|ring| (ring, "multishot receive, without deferred task work"))
            .map_err(refused("io_uring_setup")),
        Err(error) => Err(refused("io_uring_setup")(error)),
    }
}

fn build(cq_entries: u32, task_work: TaskWork) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_clamp().setup_cqsize(cq_entries.next_power_of_two());
    builder.setup_submit_all().setup_taskrun_flag();
    match task_work {
        TaskWork::Deferred => builder.setup_single_issuer().setup_defer_taskrun(),
        TaskWork::Cooperative => builder.setup_coop_taskrun(),
    };
    builder.build(SQ_ENTRIES)
}
