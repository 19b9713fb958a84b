//! Which places of a function's frame need not lie in memory.
//!
//! A *local* is a place that the function loads and stores always whole, by its own instructions. Its value is a variable of
//! the translator. What helpers read of it is stored as well, but for the index of an array's element, which is looked up
//! or updated without a call; a place that helpers or atomic operations write is none.
//!
//! Invariant: only in programs none of whose functions lets a pointer into the stack out of sight.

use std::collections::BTreeMap;

use super::bytes::Bytes;
use super::elements;
use super::facts::{Effects, Fact, Facts, State, frame_offset};
use super::outline::{Outline, helper, is_tail_call};
use crate::helpers::Arg;
use crate::isa::{Does, Insn, Reg, Size};
use crate::vm::Linked;

/// Most locals of one function: each is a variable that every block may carry.
const LOCALS_MAX: usize = 64;

/// What is known of a local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Local {
    /// Its length.
    pub(super) size: Size,
    /// Whether a helper reads it, so that memory must hold it too.
    pub(super) is_read: bool,
}

/// The locals of a function by their offsets from r10.
pub(super) fn find(linked: &Linked, outline: &Outline, facts: &Facts) -> BTreeMap<i32, Local> {
    let mut places = Places::default();
    for (leader, state) in &facts.leaders {
        let (mut state, mut known) = (state.clone(), Effects::NONE);
        let mut pc = *leader;
        loop {
            let insn = &linked.insns()[pc];
            places.note(linked, &state, insn);
            state.step(linked, insn, &mut known);
            pc += 1;
            if matches!(insn.does, Does::Exit | Does::Goto | Does::GotoLong) || outline.is_leader(pc) {
                break;
            }
        }
    }
    places.locals()
}

/// What a function does with its frame.
struct Places {
    /// Places of plain loads and stores; `None` where those differ in length.
    plain: BTreeMap<i32, Option<Size>>,
    /// Bytes that helpers read.
    read: Bytes,
    /// Bytes that something else than a plain store writes.
    written: Bytes,
}

impl Default for Places {
    fn default() -> Self {
        Self { plain: BTreeMap::new(), read: Bytes::NONE, written: Bytes::NONE }
    }
}

impl Places {
    fn note(&mut self, linked: &Linked, state: &State, insn: &Insn) {
        match insn.does {
            Does::Load(size, _) => self.plainly(state, insn.src, insn.off, size),
            Does::Store(size, _) => self.plainly(state, insn.dst, insn.off, size),
            Does::LoadAcquire(size) => self.otherwise(state, insn.src, insn, size),
            Does::Atomic(size, ..) | Does::Exchange(size) | Does::CompareExchange(size) | Does::StoreRelease(size) => {
                self.otherwise(state, insn.dst, insn, size);
            }
            Does::CallHelper => {
                if is_tail_call(insn) {
                    return;
                }
                let helper = helper(insn);
                let is_arithmetic = elements::updated(linked, state, helper).is_some()
                    || elements::looked_up(linked, state, helper).and_then(elements::array).is_some();
                for (reg, arg, len) in state.touched(linked, helper.args) {
                    let Fact::Stack(offset) = state.reg(reg) else { continue };
                    if is_arithmetic && let Some(size) = len.and_then(size_of) {
                        self.plainly(state, reg, 0, size);
                        continue;
                    }
                    let bytes = len.and_then(|len| Bytes::range(offset, len)).unwrap_or(Bytes::ALL);
                    let reads = [Arg::MapKey, Arg::MapValue, Arg::MemRead, Arg::MemReadOrNull].contains(&arg);
                    let touched =
                        if reads || matches!(arg, Arg::Bytes(_)) { &mut self.read } else { &mut self.written };
                    touched.add(&bytes);
                }
            }
            Does::Alu(..)
            | Does::MovSigned(..)
            | Does::Neg(_)
            | Does::Swap(..)
            | Does::LoadImm64
            | Does::SecondSlot
            | Does::LoadPacket(..)
            | Does::Goto
            | Does::GotoLong
            | Does::Branch(..)
            | Does::MayGoto
            | Does::CallLocal
            | Does::CallReg
            | Does::Exit => {}
            Does::LoadMap
            | Does::LoadMapValue
            | Does::LoadMapByIndex
            | Does::LoadMapValueByIndex
            | Does::LoadVarAddr
            | Does::LoadCodeAddr
            | Does::CallKfunc
            | Does::GotoReg
            | Does::AddrSpaceCast => unreachable!("linking binds or refuses what refers outside the program"),
        }
    }

    fn plainly(&mut self, state: &State, base: Reg, off: i16, size: Size) {
        if let Some(at) = frame_offset(state.reg(base), off, size.len()) {
            let known = self.plain.entry(at).or_insert(Some(size));
            *known = known.filter(|known| *known == size);
        }
    }

    fn otherwise(&mut self, state: &State, base: Reg, insn: &Insn, size: Size) {
        if let Some(at) = frame_offset(state.reg(base), insn.off, size.len()) {
            self.written.add(&range(at, size));
        }
    }

    fn locals(self) -> BTreeMap<i32, Local> {
        // Bytes of more than one place.
        let (mut once, mut twice) = (Bytes::NONE, Bytes::NONE);
        for (at, size) in &self.plain {
            let bytes = range(*at, size.unwrap_or(Size::D));
            twice.add(&once.both(&bytes));
            once.add(&bytes);
        }
        let found = self.plain.iter().filter_map(|(at, size)| {
            let size = (*size)?;
            let bytes = range(*at, size);
            let is_local = !bytes.meets(&twice) && !bytes.meets(&self.written);
            is_local.then(|| (*at, Local { size, is_read: bytes.meets(&self.read) }))
        });
        found.take(LOCALS_MAX).collect()
    }
}

/// The size of so many bytes, if there is one.
fn size_of(len: u64) -> Option<Size> {
    [Size::B, Size::H, Size::W, Size::D].into_iter().find(|size| u64::from(size.len()) == len)
}

/// The bytes of a place; where it would leave the frame, up to its end.
fn range(at: i32, size: Size) -> Bytes {
    let len = u64::from(size.len()).min(u64::from(at.unsigned_abs()));
    Bytes::range(at.into(), len).expect("an access to a known place lies in the frame")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::jit::facts::{Role, analyse};
    use crate::vm::jit::tests::linked;

    fn locals(text: &str) -> Vec<(i32, u32, bool)> {
        let linked = linked(text);
        let outline = Outline::new(linked.program(), linked.insns());
        let facts = analyse(&linked, &outline, &linked.program().functions()[0], Role::Program);
        find(&linked, &outline, &facts).iter().map(|(at, local)| (*at, local.size.len(), local.is_read)).collect()
    }

    #[test]
    fn a_place_that_is_loaded_and_stored_whole_is_a_local() {
        assert_eq!(locals("*(u64 *)(r10 - 8) = r1\nr0 = *(u64 *)(r10 - 8)\nexit"), [(-8, 8, false)]);
        assert_eq!(locals("r2 = r10\nr2 += -16\n*(u32 *)(r2 + 4) = r1\nr0 = 0\nexit"), [(-12, 4, false)]);
    }

    #[test]
    fn places_that_overlap_are_none() {
        assert_eq!(locals("*(u64 *)(r10 - 8) = r1\nr0 = *(u32 *)(r10 - 8)\nexit"), []);
        assert_eq!(locals("*(u64 *)(r10 - 8) = r1\nr0 = *(u32 *)(r10 - 4)\nexit"), []);
        assert_eq!(
            locals("*(u16 *)(r10 - 8) = 1\nr0 = *(u8 *)(r10 - 7)\n*(u8 *)(r10 - 1) = 3\nexit"),
            [(-1, 1, false)]
        );
        assert_eq!(locals("*(u8 *)(r10 - 12) = 1\n*(u64 *)(r10 - 12) = 1\nr0 = 1\nexit"), []);
    }

    #[test]
    fn a_place_of_an_atomic_operation_is_none() {
        assert_eq!(locals("*(u64 *)(r10 - 8) = r1\nlock *(u64 *)(r10 - 8) += r1\nr0 = 0\nexit"), []);
    }

    #[test]
    fn what_helpers_read_is_in_memory_too_and_what_they_write_is_no_local() {
        // bpf_csum_diff reads from r1, r2 bytes; bpf_strtoul writes eight bytes at r4.
        let reads = "*(u32 *)(r10 - 4) = r1\nr1 = r10\nr1 += -4\nr2 = 4\nr3 = 0\nr4 = 0\nr5 = 0\ncall 28\nexit";
        assert_eq!(locals(reads), [(-4, 4, true)]);
        let writes = "*(u64 *)(r10 - 8) = r1\n*(u8 *)(r10 - 9) = 0\nr1 = r10\nr1 += -9\nr2 = 1\nr3 = 0\nr4 = r10\n\
                      r4 += -8\ncall 106\nexit";
        assert_eq!(locals(writes), [(-9, 1, true)]);
    }
}
