//! Somebody else's engine tried in a process of its own first, as it may take its process down.

use crate::engine::{Absent, Engine};

/// Runs an engine once in a child.
///
/// # Errors
/// [`Absent`] where the child ends by a signal.
pub(crate) fn survives(engine: &mut dyn Engine) -> Result<(), Absent> {
    // SAFETY: the bench has one thread, so the child has all of them; it runs the engine and exits at once.
    let child = unsafe { libc::fork() };
    match child {
        -1 => return Err(Absent::because("there is no process to try it in")),
        0 => {
            // What it answers is looked at later, here.
            let _ = engine.answer();
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(0) }
        }
        _ => {}
    }
    let mut status = 0;
    // SAFETY: the child is ours; the status is a live local.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "a child can be waited for");
    if libc::WIFSIGNALED(status) {
        return Err(Absent::because(format!("takes its process down with signal {}", libc::WTERMSIG(status))));
    }
    Ok(())
}
