//! Exceptions: a run ends at once, from however deep. `kernel/bpf/helpers.c`.
//!
//! There is nothing to clean up: what a run holds goes with it.

use super::{Arg, Frame, Helper, KFUNC, Ret};
use crate::run::Run;
use crate::trap::TrapKind;

fn throw(run: &mut Run<'_>, [cookie, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    if run.head.left_subprogram == 0 { Err(TrapKind::Thrown { cookie }) } else { Err(TrapKind::ThrownBehindCall) }
}

/// `void bpf_throw(cookie)`: ends the run, whose answer is `cookie`.
pub(super) static THROW: Helper = Helper {
    id: KFUNC + 24,
    name: "throw",
    args: &[Arg::Any],
    ret: Ret::Void,
    cost: 4,
    frame: Frame::Keeps,
    kinds: &[],
    body: throw,
};
