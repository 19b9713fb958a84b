//! The functions of a program that helpers call back, in its generated code.
//!
//! Invariant: filled in before the code can run, never changed afterwards.

use std::sync::atomic::{AtomicPtr, Ordering};

use crate::run::code_start;

/// Where the functions of a program that can be called back are entered.
#[derive(Debug)]
pub(super) struct Callbacks {
    /// Number of the program.
    program: u32,
    /// Slot indexes, ascending.
    starts: Box<[usize]>,
    entries: Box<[AtomicPtr<u8>]>,
}

impl Callbacks {
    /// Those that begin at these slots, ascending; their entries are not known yet.
    pub(super) fn new(program: u32, starts: &[usize]) -> Self {
        Self { program, starts: starts.into(), entries: starts.iter().map(|_| AtomicPtr::default()).collect() }
    }

    /// Number of the program.
    pub(super) fn program(&self) -> u32 {
        self.program
    }

    /// Says where the function that begins at `start` is entered.
    pub(super) fn set(&self, start: usize, entry: *const u8) {
        let index = self.starts.binary_search(&start).expect("only functions of the list are entered so");
        self.entries[index].store(entry.cast_mut(), Ordering::Release);
    }

    /// Where the function that a handle means is entered.
    pub(super) fn entry(&self, handle: u64) -> Option<*const u8> {
        let index = self.starts.binary_search(&code_start(handle)?).ok()?;
        Some(self.entries[index].load(Ordering::Acquire).cast_const())
    }
}
