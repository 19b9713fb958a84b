//! The call that stands where an object needs a type or field that is not known here.
//!
//! Source: libbpf puts a call of this number, which no kernel has, where a CO-RE relocation has no answer; the verifier
//! refuses the program unless it proves that the call is not reached. Here it traps when it is reached.

use super::{Frame, Helper, Ret};
use crate::run::Run;
use crate::trap::TrapKind;

fn unresolved(_: &mut Run<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Err(TrapKind::Unresolved)
}

/// Never returns.
pub(super) static UNRESOLVED: Helper = Helper {
    id: super::UNRESOLVED,
    name: "unresolved",
    args: &[],
    ret: Ret::Integer,
    cost: 0,
    frame: Frame::Keeps,
    kinds: &[],
    body: unresolved,
};
