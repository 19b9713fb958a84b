//! Places where programs judge frames, and in which order the programs of one place do.
//!
//! Source: run priorities and chain-call actions are libxdp's (`libxdp(3)`); what tc programs answer is the direct action of
//! `net/sched/cls_bpf.c`.
//!
//! Invariant: plain values; nothing here runs a program.

use std::fmt;
use std::str::FromStr;

use super::WIRE_PORT;
use crate::verdict::{ProgramKind, Verdict};

/// A place of a port where programs judge frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// Frames from the port, before anything else.
    Xdp,
    /// Frames from the port that XDP passed.
    TcIngress,
    /// Frames that are to leave by the port, but those that XDP programs sent.
    TcEgress,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Xdp, Self::TcIngress, Self::TcEgress];

    /// Its name in options and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::TcIngress => "tc-ingress",
            Self::TcEgress => "tc-egress",
        }
    }

    /// The kind of programs that it takes.
    #[must_use]
    pub const fn kind(self) -> ProgramKind {
        match self {
            Self::Xdp => ProgramKind::Xdp,
            Self::TcIngress | Self::TcEgress => ProgramKind::Tc,
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Xdp => 0,
            Self::TcIngress => 1,
            Self::TcEgress => 2,
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no hook.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("hook {word:?}: no such hook; use xdp, tc-ingress or tc-egress")]
pub struct UnknownHook {
    /// The word.
    pub word: String,
}

impl FromStr for Hook {
    type Err = UnknownHook;

    fn from_str(word: &str) -> Result<Self, UnknownHook> {
        Self::ALL.into_iter().find(|hook| hook.name() == word).ok_or_else(|| UnknownHook { word: word.to_owned() })
    }
}

/// A hook of a port. Printed as `xdp` on the wire and as `lan/xdp` elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the port.
    pub port: String,
    /// The hook.
    pub hook: Hook,
}

impl Place {
    /// A hook of the wire.
    #[must_use]
    pub fn wire(hook: Hook) -> Self {
        Self::new(WIRE_PORT, hook)
    }

    /// A hook of this port.
    #[must_use]
    pub fn new(port: &str, hook: Hook) -> Self {
        Self { port: port.to_owned(), hook }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.port == WIRE_PORT { self.hook.fmt(f) } else { write!(f, "{}/{}", self.port, self.hook) }
    }
}

/// Names of `enum xdp_action`, by number.
const ACTIONS: [&str; 5] = ["aborted", "drop", "pass", "tx", "redirect"];

/// Verdicts of an XDP program after which the next program of its hook runs: libxdp's chain-call actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actions(u8);

impl Default for Actions {
    /// XDP_PASS alone.
    fn default() -> Self {
        Self(1 << 2)
    }
}

impl Actions {
    /// Whether the next program runs after this return value.
    #[must_use]
    pub fn holds(self, retval: u32) -> bool {
        retval < 5 && self.0 >> retval & 1 == 1
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = (0u32..).zip(ACTIONS).filter(|(number, _)| self.holds(*number)).map(|(_, name)| name);
        let names: Vec<&str> = held.collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(","))
    }
}

/// Text that names no chain-call actions.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("actions {text:?}: no list of XDP verdicts; use some of aborted,drop,pass,redirect,tx, or none")]
pub struct BadActions {
    /// The text.
    pub text: String,
}

impl FromStr for Actions {
    type Err = BadActions;

    fn from_str(text: &str) -> Result<Self, BadActions> {
        if text == "none" {
            return Ok(Self(0));
        }
        let bit = |word: &str| ACTIONS.iter().position(|name| *name == word).map(|number| 1u8 << number);
        let bits = text.split(',').map(bit).try_fold(0, |bits, bit| Some(bits | bit?));
        bits.map(Self).ok_or_else(|| BadActions { text: text.to_owned() })
    }
}

/// When a program of a hook runs, and when the next one does after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Lower ones run first; of equals, the one that was attached first.
    pub priority: u32,
    /// On xdp: after which verdicts the next program runs.
    pub actions: Actions,
}

impl Rank {
    /// libxdp's default.
    pub const PRIORITY_DEFAULT: u32 = 50;
}

impl Default for Rank {
    fn default() -> Self {
        Self { priority: Self::PRIORITY_DEFAULT, actions: Actions::default() }
    }
}

/// What a program's answer means for the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next program of the hook judges; after the last one the frame goes on.
    Next,
    /// This becomes of the frame.
    End(Verdict),
}

impl Step {
    /// Of an XDP program the actions say. Of a tc program all but `TC_ACT_OK`, `SHOT`, `STOLEN`, `TRAP` and `REDIRECT` is
    /// `TC_ACT_UNSPEC` (`cls_bpf_exec_opcode`).
    pub(super) fn of(hook: Hook, actions: Actions, retval: u32) -> Self {
        match hook {
            Hook::Xdp if actions.holds(retval) => Self::Next,
            Hook::Xdp => Self::End(Verdict::of(ProgramKind::Xdp, retval)),
            Hook::TcIngress | Hook::TcEgress => match retval {
                0 | 2 | 4 | 7 | 8 => Self::End(Verdict::of(ProgramKind::Tc, retval)),
                _ => Self::Next,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_is_read_by_its_own_name_and_others_are_refused() {
        for hook in Hook::ALL {
            assert_eq!(hook.to_string().parse(), Ok(hook));
        }
        let error = "tc".parse::<Hook>().expect_err("two are tc");
        assert_eq!(error.to_string(), "hook \"tc\": no such hook; use xdp, tc-ingress or tc-egress");
        assert_eq!(Place::wire(Hook::Xdp).to_string(), "xdp");
        assert_eq!(Place::new("lan", Hook::TcEgress).to_string(), "lan/tc-egress");
    }

    #[test]
    fn actions_are_read_as_they_are_printed() {
        for text in ["none", "pass", "drop,pass", "aborted,drop,pass,tx,redirect"] {
            assert_eq!(text.parse::<Actions>().expect("actions").to_string(), text);
        }
        assert_eq!(Actions::default().to_string(), "pass");
        let error = "pass,".parse::<Actions>().expect_err("an empty word");
        assert_eq!(
            error.to_string(),
            "actions \"pass,\": no list of XDP verdicts; use some of aborted,drop,pass,redirect,tx, or none"
        );
    }

    #[test]
    fn answers_of_tc_programs_are_those_of_direct_action() {
        let step = |retval| Step::of(Hook::TcEgress, Actions::default(), retval);
        let unspecified = u32::MAX;
        for next in [unspecified, 1, 3, 5, 6, 9, 1 << 28] {
            assert_eq!(step(next), Step::Next, "{next}");
        }
        assert_eq!(step(0), Step::End(Verdict::Pass));
        for drop in [2, 4, 8] {
            assert_eq!(step(drop), Step::End(Verdict::Drop));
        }
        assert_eq!(step(7), Step::End(Verdict::Redirect));
        let xdp = |retval| Step::of(Hook::Xdp, "drop".parse().expect("an action"), retval);
        assert_eq!((xdp(1), xdp(2)), (Step::Next, Step::End(Verdict::Pass)));
        assert_eq!((xdp(0), xdp(5), xdp(u32::MAX)), (Step::End(Verdict::Aborted), xdp(0), xdp(0)));
    }
}
