//! `struct bpf_spin_lock`, a word in a map's value: 0 is free, 1 is taken.
//!
//! The word lies in the cage, so a program can spoil it at any time. Whoever waits for it gives up after a bounded number of
//! attempts, and nothing but the value's bytes depends on it.
//!
//! Source: `kernel/bpf/helpers.c`.
//!
//! Invariant: every wait ends.

use std::sync::atomic::Ordering;

use crate::cage::Cage;
use crate::limits::{LOCK_SPINS, LOCK_YIELDS_MAX};
use crate::trap::{Access, Fault};

/// Bytes of a lock.
pub(super) const LOCK_LEN: u32 = 4;

/// What became of an attempt to take a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is taken.
    Taken,
    /// Its holder did not release it in time, or it is no lock.
    Busy,
}

/// Takes the lock at a guest address, which is a multiple of four.
///
/// # Errors
/// The fault, where the word is not writable.
///
/// # Panics
/// If the address is misaligned: the caller asks first.
pub fn take_lock(cage: &Cage, addr: u32) -> Result<Attempt, Fault> {
    cage.check(addr.into(), LOCK_LEN.into(), Access::Write)?;
    let cell = cage.atomic_u32(addr.into())?;
    for _ in 0..LOCK_YIELDS_MAX {
        for _ in 0..LOCK_SPINS {
            if cell.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Ok(Attempt::Taken);
            }
            std::hint::spin_loop();
        }
        // The holder may not be running. Whoever runs instead may do so for milliseconds, so this is done a few times only.
        std::thread::yield_now();
    }
    Ok(Attempt::Busy)
}

/// Releases the lock at a guest address where [`take_lock`] took one. Where the memory has gone, so has the lock.
pub fn release_lock(cage: &Cage, addr: u32) {
    if let Ok(cell) = cage.atomic_u32(addr.into()) {
        cell.store(0, Ordering::Release);
    }
}
