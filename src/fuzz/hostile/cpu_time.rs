//! How long a thread has computed: what a hostile program costs, whoever else is on the machine.
//!
//! Invariant: only reads a clock.

use std::time::Duration;

/// Time that the calling thread has spent on a processor.
#[must_use]
pub(super) fn of_this_thread() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local of the right type.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert!(answer == 0, "Linux has the clock of a thread");
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).expect("less than a second"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_while_the_thread_computes() {
        let start = of_this_thread();
        while of_this_thread() == start {
            std::hint::spin_loop();
        }
    }
}
