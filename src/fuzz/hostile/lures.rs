//! Numbers that hostile programs take for addresses: of the host, of the cage and its edges, and the way from one to the
//! other.
//!
//! Invariant: only numbers; nobody here follows one.

use crate::isa::random::Dice;
use crate::limits::{CAGE_FIRST_ADDR, CAGE_LEN, CODE_HANDLE_BASE, MAP_HANDLE_BASE, MAP_HANDLE_STEP};

/// Numbers that programs are given as addresses.
pub(super) struct Lures {
    /// Host address of guest address 0.
    pub(super) base: u64,
    /// Addresses of the host's memory: canaries and bookkeeping.
    pub(super) host: Vec<u64>,
    /// Guest addresses of what programs may touch: stacks, contexts, chunks, values of maps.
    pub(super) guest: Vec<u64>,
}

impl Lures {
    /// One of them, or near one.
    pub(super) fn pick(&self, dice: &mut Dice) -> u64 {
        let lure = match dice.below(8) {
            0 | 1 => dice.pick(&self.host),
            // What leads there from the cage's base, in 64 bits and as its lower half.
            2 => dice.pick(&self.host).wrapping_sub(self.base),
            3 => dice.pick(&self.host).wrapping_sub(self.base) & 0xffff_ffff,
            4 => dice.pick(&self.guest),
            5 => dice.pick(&self.guest) | dice.bits() << 32,
            6 => {
                let handle = u64::from(MAP_HANDLE_BASE) + u64::from(MAP_HANDLE_STEP) * dice.below(24) as u64;
                dice.pick(&[
                    0,
                    1,
                    handle,
                    CODE_HANDLE_BASE,
                    CODE_HANDLE_BASE + 3,
                    u64::from(CAGE_FIRST_ADDR),
                    CAGE_LEN - 8,
                    CAGE_LEN - 1,
                    CAGE_LEN,
                    u64::MAX,
                    1 << 63,
                    1 << 47,
                ])
            }
            _ => dice.bits(),
        };
        lure.wrapping_add(dice.pick(&[0, 0, 0, 8, u64::MAX, 1, 4, 4088, 0u64.wrapping_sub(8), 0x7fff]))
    }
}
