//! `bpf_tail_call`: a jump to another program.
//!
//! Invariant: the body is never called; engines know the number and jump themselves.

use super::check::place;
use super::{Arg, Frame, Helper, Ret, TAIL_CALL};
use crate::run::Run;
use crate::trap::TrapKind;

/// The trap of a tail call whose r1 is not what the run began with: the called program would take it for its context.
pub const TAIL_CALL_WITHOUT_CONTEXT: TrapKind =
    TrapKind::HelperArg { helper: TAIL_CALL, arg: 1, expected: "the context" };

/// Checks r1 of a tail call, for engines that ask when it is made.
///
/// # Errors
/// [`TAIL_CALL_WITHOUT_CONTEXT`].
pub fn check_tail_call(run: &Run<'_>, ctx: u64) -> Result<(), TrapKind> {
    place(TAIL_CALL, 1).context(run, ctx)
}

fn tail_call(_: &mut Run<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    unreachable!("engines jump themselves, and `by_register` hands it out to nobody")
}

/// `long bpf_tail_call(ctx, program array, index)`: returns only where nothing was called. A call that falls through
/// costs nothing beyond its own slot.
pub(super) static TAIL_CALL_HELPER: Helper = Helper {
    id: TAIL_CALL,
    name: "tail_call",
    args: &[Arg::Ctx, Arg::Map, Arg::Any],
    ret: Ret::Integer,
    cost: 0,
    frame: Frame::Keeps,
    kinds: &[],
    body: tail_call,
};
