//! How fast and how long a source sends.
//!
//! Invariant: the number of frames due never falls as time goes on.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::SourceError;
use crate::limits::SOURCE_RATE_MAX;

/// Frames per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// This many, from 1 to [`SOURCE_RATE_MAX`].
    PerSecond(u64),
    /// As many as the host accepts.
    Max,
}

impl Rate {
    /// Frames that are due after this time.
    #[must_use]
    pub fn due(self, elapsed: Duration) -> u64 {
        match self {
            Self::PerSecond(rate) => {
                let due = elapsed.as_nanos() * u128::from(rate) / 1_000_000_000;
                // The first frame is due at once.
                u64::try_from(due).unwrap_or(u64::MAX).saturating_add(1)
            }
            Self::Max => u64::MAX,
        }
    }
}

impl FromStr for Rate {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let rate = text.parse().ok().filter(|rate| (1..=SOURCE_RATE_MAX).contains(rate));
        rate.map(Self::PerSecond).ok_or_else(|| SourceError::Rate { text: text.to_owned() })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(rate) => write!(f, "{rate}"),
            Self::Max => f.write_str("max"),
        }
    }
}

/// How fast and how long a source sends; it ends at whichever limit comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How fast.
    pub rate: Rate,
    /// How many frames at most.
    pub count: Option<u64>,
    /// How long at most.
    pub time: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_or_refused() {
        for text in ["1", "100000000", "max"] {
            assert_eq!(text.parse::<Rate>().expect("a rate").to_string(), text);
        }
        for text in ["0", "100000001", "-1", "fast", ""] {
            assert_eq!(
                text.parse::<Rate>().expect_err("no rate").to_string(),
                format!("rate {text:?}: not frames per second; write a number from 1 to 100000000, or max")
            );
        }
    }

    #[test]
    fn frames_fall_due_evenly_and_the_first_at_once() {
        let rate = Rate::PerSecond(1000);
        let due = |micros| rate.due(Duration::from_micros(micros));
        assert_eq!([due(0), due(999), due(1000), due(1_000_000)], [1, 1, 2, 1001]);
        assert_eq!(Rate::PerSecond(SOURCE_RATE_MAX).due(Duration::MAX), u64::MAX);
    }
}
