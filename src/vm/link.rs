//! Binds a well-formed program to the maps and helpers that it names.
//!
//! Invariant: what leaves here names no map or helper that does not exist.

use std::any::Any;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::helpers;
use crate::isa::{Does, Insn};
use crate::maps::{Map, MapId, MapTable};
use crate::program::{Need, Program};
use crate::run::{World, code_handle, code_start};

/// A program names something that kumite does not have, or may not use it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LinkError {
    /// No helper has the number.
    #[error("{program} insn {pc}{line}: helper {id}{} is not supported; see `kumite helpers` for those that are", .kernel_name.map(|name| format!(" (bpf_{name})")).unwrap_or_default())]
    UnknownHelper {
        /// Name of the program.
        program: String,
        /// Slot index.
        pc: usize,
        /// Where that is in the source, in parentheses; empty where the object does not say.
        line: String,
        /// Its name in the kernel, without `bpf_`, where the kernel has one of this number.
        kernel_name: Option<&'static str>,
        /// `enum bpf_func_id`.
        id: i64,
    },
    /// The helper is for other kinds of program.
    #[error("{program} insn {pc}{line}: helper {helper} is not for {kind} programs; use it in another hook")]
    HelperKind {
        /// Name of the program.
        program: String,
        /// Slot index.
        pc: usize,
        /// Where that is in the source, in parentheses; empty where the object does not say.
        line: String,
        /// Name of the helper.
        helper: &'static str,
        /// Kind of the program.
        kind: &'static str,
    },
    /// No kernel function has the name.
    #[error("{program} insn {pc}{line}: kernel function {kfunc} is not supported{}; declare it weak and test for it", .reason.map(|reason| format!(": {reason}")).unwrap_or_default())]
    UnknownKfunc {
        /// Name of the program.
        program: String,
        /// Slot index.
        pc: usize,
        /// Where that is in the source, in parentheses; empty where the object does not say.
        line: String,
        /// Name of the kernel function.
        kfunc: String,
        /// Why there is none, where there is more to say.
        reason: Option<&'static str>,
    },
    /// The kernel function is for other kinds of program.
    #[error(
        "{program} insn {pc}{line}: kernel function bpf_{kfunc} is not for {kind} programs; use it in another hook"
    )]
    KfuncKind {
        /// Name of the program.
        program: String,
        /// Slot index.
        pc: usize,
        /// Where that is in the source, in parentheses; empty where the object does not say.
        line: String,
        /// Name of the kernel function, without `bpf_`.
        kfunc: &'static str,
        /// Kind of the program.
        kind: &'static str,
    },
    /// The instruction refers to something of the kernel.
    #[error("{program} insn {pc}{line}: {what} is not supported; build the program without it")]
    Unsupported {
        /// Name of the program.
        program: String,
        /// Slot index.
        pc: usize,
        /// Where that is in the source, in parentheses; empty where the object does not say.
        line: String,
        /// What it refers to.
        what: &'static str,
    },
    /// A map reference counts past the object's maps, or to a value that the map does not have.
    #[error("{program} insn {pc}: map reference {index} with offset {offset} leads nowhere; rebuild the object")]
    Map {
        /// Name of the program.
        program: String,
        /// Slot index.
        pc: usize,
        /// Index into the object's maps.
        index: u32,
        /// Offset into the map's first value.
        offset: u32,
    },
}

/// A program bound to its maps and helpers.
///
/// Its instructions are the program's, but for four kinds: a map reference is a [`Does::LoadImm64`] of the map's handle or
/// of the value's guest address, a code address one of the function's handle, and each call of a helper or kernel function
/// is a [`Does::CallHelper`] whose `imm` is an index for [`helpers::at`].
#[derive(Debug)]
pub struct Linked {
    id: u32,
    program: Arc<Program>,
    world: Arc<World>,
    insns: Box<[Insn]>,
    /// What the slots before each are worth in fuel; one more than slots.
    prices: Box<[u64]>,
    maps: Box<[(MapId, Arc<dyn Map>)]>,
    /// Where functions begin whose address the program takes, ascending.
    callbacks: Box<[usize]>,
    _kept: Option<Arc<dyn Any + Send + Sync>>,
}

impl Linked {
    /// Binds `program` to `maps`, the object's maps in order, entered in the world's table under their numbers.
    ///
    /// # Errors
    /// [`LinkError`] at the first instruction that cannot be bound.
    pub fn link(
        program: Arc<Program>,
        world: Arc<World>,
        maps: Box<[(MapId, Arc<dyn Map>)]>,
    ) -> Result<Self, LinkError> {
        static NEXT_ID: AtomicU32 = AtomicU32::new(1);
        let insns = program.insns().iter().enumerate().map(|(pc, insn)| bind(&program, pc, insn, &maps));
        let insns: Box<[Insn]> = insns.collect::<Result<_, _>>()?;
        let prices = prices(&insns);
        let pcs = program.insns().iter().enumerate().filter(|(_, insn)| insn.does == Does::LoadCodeAddr);
        let callbacks: BTreeSet<usize> = pcs.map(|(pc, _)| code_target(&program, pc)).collect();
        let callbacks = callbacks.into_iter().collect();
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            program,
            world,
            insns,
            prices,
            maps,
            callbacks,
            _kept: None,
        })
    }

    /// Keeps something for as long as this program lives: its maps' places in the world's table.
    #[must_use]
    pub fn keeping(self, kept: Arc<dyn Any + Send + Sync>) -> Self {
        Self { _kept: Some(kept), ..self }
    }

    /// Number of this linked program, unique in the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The program as it was loaded.
    #[must_use]
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The world that it was linked in.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// Its bound instructions, one a slot.
    #[must_use]
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// What the slots of a range are worth in fuel: one each, and the costs of the helpers that they call by number.
    ///
    /// # Panics
    /// If the range is not one of the program's slots.
    #[must_use]
    pub fn price(&self, slots: Range<usize>) -> u64 {
        self.prices[slots.end] - self.prices[slots.start]
    }

    /// Its maps with their numbers, in the object's order.
    #[must_use]
    pub fn maps(&self) -> &[(MapId, Arc<dyn Map>)] {
        &self.maps
    }

    /// Where the functions begin that can be called back, ascending: those whose address the program takes.
    #[must_use]
    pub fn callbacks(&self) -> &[usize] {
        &self.callbacks
    }

    /// Which of [`Linked::callbacks`] a handle means.
    #[must_use]
    pub fn callback(&self, handle: u64) -> Option<usize> {
        self.callbacks.binary_search(&code_start(handle)?).ok()
    }

    /// The map of this program that a handle means; lives as long as the program.
    #[must_use]
    pub fn own_map(&self, handle: u64) -> Option<&Arc<dyn Map>> {
        self.maps.iter().find(|(id, _)| MapTable::handle(*id) == handle).map(|(_, map)| map)
    }
}

/// What the slots before each one are worth.
fn prices(insns: &[Insn]) -> Box<[u64]> {
    let mut sum = 0;
    let after = insns.iter().map(|insn| {
        let index = usize::try_from(insn.imm).ok().filter(|_| insn.does == Does::CallHelper);
        sum += 1 + index.map_or(0, |index| u64::from(helpers::at(index).cost));
        sum
    });
    [0].into_iter().chain(after).collect()
}

fn bind(program: &Program, pc: usize, insn: &Insn, maps: &[(MapId, Arc<dyn Map>)]) -> Result<Insn, LinkError> {
    let name = || program.name().to_owned();
    let line = || line_of(program, pc);
    let unsupported = |what| Err(LinkError::Unsupported { program: name(), pc, line: line(), what });
    match insn.does {
        Does::LoadMapByIndex | Does::LoadMapValueByIndex => {
            let [index, offset] = halves(insn.imm);
            let place = maps.get(index as usize);
            let value = if insn.does == Does::LoadMapByIndex {
                place.map(|(id, _)| MapTable::handle(*id))
            } else {
                place.and_then(|(_, map)| map.value_addr(offset)).map(u64::from)
            };
            let value = value.ok_or_else(|| LinkError::Map { program: name(), pc, index, offset })?;
            Ok(Insn { does: Does::LoadImm64, imm: value.cast_signed(), ..*insn })
        }
        Does::CallHelper => {
            let id = u32::try_from(insn.imm).ok();
            let Some((index, helper)) = id.and_then(helpers::by_id) else {
                let kernel_name = id.and_then(helpers::kernel_name);
                return Err(LinkError::UnknownHelper { program: name(), pc, line: line(), kernel_name, id: insn.imm });
            };
            let kind = program.kind();
            if !helper.serves(kind) {
                let (helper, kind) = (helper.name, kind.name());
                return Err(LinkError::HelperKind { program: name(), pc, line: line(), helper, kind });
            }
            Ok(call(insn, index))
        }
        Does::LoadMap | Does::LoadMapValue => unsupported("a map by file descriptor"),
        Does::LoadVarAddr | Does::CallKfunc => bind_kfunc(program, pc, insn),
        Does::LoadCodeAddr => {
            let start = code_target(program, pc);
            Ok(Insn { does: Does::LoadImm64, imm: code_handle(start).cast_signed(), ..*insn })
        }
        Does::GotoReg => unsupported("an indirect jump"),
        Does::AddrSpaceCast => unsupported("an arena"),
        Does::Alu(..)
        | Does::MovSigned(..)
        | Does::Neg(_)
        | Does::Swap(..)
        | Does::LoadImm64
        | Does::SecondSlot
        | Does::Load(..)
        | Does::Store(..)
        | Does::Atomic(..)
        | Does::Exchange(_)
        | Does::CompareExchange(_)
        | Does::LoadAcquire(_)
        | Does::StoreRelease(_)
        | Does::LoadPacket(..)
        | Does::Goto
        | Does::GotoLong
        | Does::Branch(..)
        | Does::MayGoto
        | Does::CallLocal
        | Does::CallReg
        | Does::Exit => Ok(*insn),
    }
}

/// Where the slot is in the source, in parentheses behind a space; empty where the object does not say.
fn line_of(program: &Program, pc: usize) -> String {
    program.line_at(pc).map(|line| format!(" ({}:{})", line.file, line.line)).unwrap_or_default()
}

/// Slot index of the function whose address the instruction at `pc` loads.
fn code_target(program: &Program, pc: usize) -> usize {
    let target = program.insns()[pc].function_target(pc).and_then(|target| usize::try_from(target).ok());
    target.expect("a code address is that of a function: the program was checked")
}

/// Binds a call of a kernel function, or a load of its address: a number that nothing can be done with but to see that it
/// is not NULL. One that is not there and that the program can do without is NULL, and a call of it is not reached; libbpf
/// does the same.
fn bind_kfunc(program: &Program, pc: usize, insn: &Insn) -> Result<Insn, LinkError> {
    let name = program.name().to_owned();
    let found = usize::try_from(insn.imm).ok().and_then(|index| program.kfuncs().get(index));
    let Some(kfunc) = found else {
        let (line, what) = (line_of(program, pc), "a kernel function or variable by number");
        return Err(LinkError::Unsupported { program: name, pc, line, what });
    };
    let line = || line_of(program, pc);
    if let Some((index, helper)) = helpers::kfunc_by_name(&kfunc.name) {
        let kind = program.kind();
        if insn.does == Does::LoadVarAddr {
            return Ok(Insn { does: Does::LoadImm64, imm: helper.id.into(), ..*insn });
        }
        if !helper.serves(kind) {
            let (kfunc, kind) = (helper.name, kind.name());
            return Err(LinkError::KfuncKind { program: name, pc, line: line(), kfunc, kind });
        }
        return Ok(call(insn, index));
    }
    if kfunc.need == Need::Required {
        let line = line();
        return Err(LinkError::UnknownKfunc {
            program: name,
            pc,
            line,
            reason: helpers::kfunc_reason(&kfunc.name),
            kfunc: kfunc.name.clone(),
        });
    }
    if insn.does == Does::LoadVarAddr {
        return Ok(Insn { does: Does::LoadImm64, imm: 0, ..*insn });
    }
    let (index, _) = helpers::by_id(helpers::UNRESOLVED).expect("the list has it");
    Ok(call(insn, index))
}

/// The call of the helper or kernel function with this index for [`helpers::at`].
fn call(insn: &Insn, index: usize) -> Insn {
    Insn { does: Does::CallHelper, imm: i64::try_from(index).expect("short lists"), ..*insn }
}

/// Low and high half of a two-slot immediate.
fn halves(imm: i64) -> [u32; 2] {
    let bytes = imm.to_le_bytes();
    let half = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [half(0), half(4)]
}
