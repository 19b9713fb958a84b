//! Mistakes that can be planted in the translator on purpose, to show that fuzzing finds such.
//!
//! Each is asked for where it would be made, in one line. The mistakes are those that translators of BPF have shipped.
//!
//! Invariant: without the feature `mutants` none can be planted, and asking is a constant.

macro_rules! mutants {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// A mistake of the translator.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mutant {
            $($(#[doc = $what])+ $name,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];
        }
    };
}

mutants! {
    /// Counts of 64-bit shifts are masked as those of 32-bit ones.
    ShiftMask,
    /// Results of 32-bit operations are extended with their sign.
    UpperHalf,
    /// A signed comparison is made unsigned.
    SignedCompare,
    /// An array's element behind the last is found.
    ArrayBound,
    /// Negative offsets of accesses are off by one.
    Displacement,
    /// `be32` swaps nothing.
    ByteOrder,
    /// Signed bytes are loaded without sign.
    LoadSign,
    /// Signed moves move without sign.
    MoveSign,
    /// What is divided by zero stays.
    DivideByZero,
    /// What is divided by -1 stays.
    MinusOne,
    /// An atomic addition hands back the new value.
    FetchNew,
    /// A jump back over more than itself costs a slot too little.
    BackwardFuel,
    /// One tail call too many is taken.
    TailCallLimit,
    /// r7 is r6 behind a local call.
    SavedRegister,
    /// The old value of a 32-bit compare-and-exchange is extended with its sign.
    ExchangeUpperHalf,
    /// Branches compare with immediates without sign.
    ImmediateSign,
    /// r5 survives a call.
    ArgumentsKept,
    /// A helper costs a slot too little.
    HelperCost,
    /// Atomic operations are not checked for their alignment.
    Alignment,
    /// Two bytes are stored as four.
    StoreWidth,
    /// A tail call passes on what r1 holds.
    TailCallContext,
}

/// Number of the mistake that is planted; 0 for none.
#[cfg(feature = "mutants")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Plants a mistake, for all that is translated from now on, instead of the one before.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.store(mutant.map_or(0, |mutant| mutant as u8 + 1), std::sync::atomic::Ordering::SeqCst);
}

/// Whether a mistake is planted.
#[cfg(feature = "mutants")]
pub(super) fn planted(mutant: Mutant) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == mutant as u8 + 1
}

/// Whether a mistake is planted: never.
#[cfg(not(feature = "mutants"))]
pub(super) const fn planted(_: Mutant) -> bool {
    false
}

/// `mistaken` where a mistake is planted, else `right`.
pub(super) fn either<T>(mutant: Mutant, mistaken: T, right: T) -> T {
    if planted(mutant) { mistaken } else { right }
}
