//! The three modes in which a program runs.

use std::fmt;
use std::str::FromStr;

/// How a program runs. Maps are kept when the mode changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mode {
    /// Generated code, caged, with fuel.
    Fast,
    /// The same with hooks: counters, coverage.
    Instrumented,
    /// The interpreter that watches every access.
    Verify,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Instrumented, Self::Verify];

    /// Its name in options and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Instrumented => "instrumented",
            Self::Verify => "verify",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no mode.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("mode {word:?}: no such mode; use fast, instrumented or verify")]
pub struct UnknownMode {
    /// The word.
    pub word: String,
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(word: &str) -> Result<Self, UnknownMode> {
        Self::ALL.into_iter().find(|mode| mode.name() == word).ok_or_else(|| UnknownMode { word: word.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_is_read_by_its_own_name_and_others_are_refused() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        let error = "turbo".parse::<Mode>().expect_err("no such mode");
        assert_eq!(error.to_string(), "mode \"turbo\": no such mode; use fast, instrumented or verify");
    }
}
