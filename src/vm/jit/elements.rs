//! Which lookups and updates are a matter of arithmetic: those of arrays that are known when the program is translated.
//!
//! Invariant: asked of the same state, the answer is the same when locals are found and when the call is compiled.

use super::facts::{Fact, State, frame_offset};
use crate::helpers::Helper;
use crate::isa::{Reg, Size};
use crate::maps::{ArrayLayout, Map};
use crate::vm::Linked;

/// Number of `bpf_map_lookup_elem`.
const MAP_LOOKUP_ELEM: u32 = 1;
/// Number of `bpf_map_update_elem`.
const MAP_UPDATE_ELEM: u32 = 2;
/// Longest value that is copied without a call, in bytes.
const VALUE_LEN_MAX: u32 = 64;

/// The map that a call looks up in, if that is what it does, in a map that is known.
pub(super) fn looked_up<'l>(linked: &'l Linked, state: &State, helper: &Helper) -> Option<&'l dyn Map> {
    if helper.id != MAP_LOOKUP_ELEM {
        return None;
    }
    known(linked, state).filter(|map| map.lookup_work() == 0)
}

/// The map of a call, if it is known.
fn known<'l>(linked: &'l Linked, state: &State) -> Option<&'l dyn Map> {
    let Fact::Const(handle) = state.reg(argument(1)) else { return None };
    linked.own_map(handle).map(|map| &**map)
}

fn argument(number: u8) -> Reg {
    Reg::new(number).expect("a register")
}

/// An update of an array's element, the same for all workers, whose key and value lie in the frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Updated {
    /// Where the elements lie.
    pub(super) layout: ArrayLayout,
    /// Host address of the byte that says that they may not change.
    pub(super) frozen: u64,
    /// Offset of the key from r10.
    pub(super) key_at: i32,
    /// Offset of the value from r10.
    pub(super) value_at: i32,
    /// Bytes of the value: eights and at most one four, or fewer than four.
    pub(super) value_len: u32,
}

/// The update that a call makes, if it is such.
pub(super) fn updated(linked: &Linked, state: &State, helper: &Helper) -> Option<Updated> {
    if helper.id != MAP_UPDATE_ELEM || state.reg(argument(4)) != Fact::Const(0) {
        return None;
    }
    let map = known(linked, state).filter(|map| map.lookup_work() + map.update_work() == 0)?;
    let value_len = map.def().value_len;
    if value_len > VALUE_LEN_MAX || !(value_len.is_multiple_of(4) || value_len <= 2) {
        return None;
    }
    let layout = array(map).filter(|layout| layout.worker_stride == 0)?;
    Some(Updated {
        layout,
        frozen: layout.frozen?,
        key_at: frame_offset(state.reg(argument(2)), 0, Size::W.len())?,
        value_at: frame_offset(state.reg(argument(3)), 0, value_len)?,
        value_len,
    })
}

/// Where the elements of an array lie that a map is.
pub(super) fn array(map: &dyn Map) -> Option<ArrayLayout> {
    map.array_layout().filter(|_| map.def().key_len == Size::W.len())
}
