//! From a linked program to its code.
//!
//! Invariant: bounded by the program's length; what Cranelift refuses is an error with one clear line.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{self, ExternalName};
use cranelift_codegen::{CompiledCode, Context, FinalizedRelocTarget};
use cranelift_frontend::FunctionBuilderContext;

use super::bytes::Bytes;
use super::callbacks::Callbacks;
use super::code::{Code, CodeError};
use super::facts::{self, Facts, Role};
use super::function::{self, Part, Source};
use super::hooks::Hooks;
use super::outline::{Outline, jump_target};
use super::stop::Site;
use super::{activation, fault, target};
use crate::limits::{
    NATIVE_FRAME_LEN_MAX, TRANSLATE_BLOCKS_MAX, TRANSLATE_INNER_BLOCKS_MAX, TRANSLATE_INSTS_MAX,
    TRANSLATE_LOOPS_DEEP_MAX, TRANSLATE_SLOTS_MAX,
};
use crate::vm::Linked;

/// Functions begin at multiples of this.
const ALIGN: usize = 16;

/// A program could not be translated; verify mode still runs it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TranslateError {
    /// It is longer than the translator takes.
    #[error("{program}: {count} slots are more than the translator takes ({max}); run it in verify mode or split it")]
    TooLong {
        /// Name of the program.
        program: String,
        /// Its slots.
        count: usize,
        /// [`TRANSLATE_SLOTS_MAX`].
        max: usize,
    },
    /// A function has more blocks than the translator takes.
    #[error(
        "{program} insn {pc}: {count} blocks in its function are more than the translator takes ({max}); run it in verify \
         mode or split it"
    )]
    TooBranchy {
        /// Name of the program.
        program: String,
        /// First slot of the function.
        pc: usize,
        /// Its blocks.
        count: usize,
        /// [`TRANSLATE_BLOCKS_MAX`].
        max: usize,
    },
    /// Loops are deeper in one another than the translator takes.
    #[error(
        "{program} insn {pc}: {count} loops in one another are more than the translator takes ({max}); run it in verify mode"
    )]
    TooNested {
        /// Name of the program.
        program: String,
        /// Slot in so many loops.
        pc: usize,
        /// That many.
        count: usize,
        /// [`TRANSLATE_LOOPS_DEEP_MAX`].
        max: usize,
    },
    /// It becomes more than the translator takes.
    #[error(
        "{program} insn {pc}: translated, it has more than {max} {what} up to here; run it in verify mode or split it"
    )]
    TooLarge {
        /// Name of the program.
        program: String,
        /// Slot where that was.
        pc: usize,
        /// Of which it has too many.
        what: &'static str,
        /// [`TRANSLATE_INSTS_MAX`] or [`TRANSLATE_INNER_BLOCKS_MAX`].
        max: usize,
    },
    /// Cranelift refused a function.
    #[error("{program} insn {pc}: its function cannot be translated ({reason}); run it in verify mode")]
    Refused {
        /// Name of the program.
        program: String,
        /// First slot of the function.
        pc: usize,
        /// What Cranelift says.
        reason: String,
    },
    /// A function needs more of the host's stack than it may.
    #[error(
        "{program} insn {pc}: its function needs {len} bytes of host stack, more than {max}; run it in verify mode"
    )]
    Frame {
        /// Name of the program.
        program: String,
        /// First slot of the function.
        pc: usize,
        /// Bytes that it needs.
        len: u32,
        /// [`NATIVE_FRAME_LEN_MAX`].
        max: u32,
    },
    /// There is no memory for its code.
    #[error("{program}: {source}")]
    Code {
        /// Name of the program.
        program: String,
        /// Why.
        source: CodeError,
    },
    /// The process cannot be made ready for generated code.
    #[error("{program}: cannot {what}: {reason}; run it in verify mode")]
    Host {
        /// Name of the program.
        program: String,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        reason: String,
    },
}

/// Slots of the longest program whose working memory is kept for the next.
const MEMORY_SLOTS_MAX: usize = 4096;

/// Cranelift's working memory: to make it anew takes longer than to translate a short program.
struct Memory {
    context: Context,
    functions: FunctionBuilderContext,
}

impl Default for Memory {
    fn default() -> Self {
        Self { context: Context::new(), functions: FunctionBuilderContext::new() }
    }
}

thread_local! {
    /// What the last translation of this thread left. One that fails leaves nothing: it may have broken off anywhere.
    static MEMORY: Cell<Option<Box<Memory>>> = const { Cell::new(None) };
}

/// Translates a program for a mode.
pub(super) fn translate<H: Hooks>(linked: &Arc<Linked>, hooks: &H) -> Result<Code, TranslateError> {
    let program = || linked.program().name().to_owned();
    let count = linked.insns().len();
    if count > TRANSLATE_SLOTS_MAX {
        return Err(TranslateError::TooLong { program: program(), count, max: TRANSLATE_SLOTS_MAX });
    }
    let host = |what, reason| TranslateError::Host { program: program(), what, reason };
    fault::install().map_err(|error| host("install a signal handler", error.to_string()))?;
    activation::prepare().map_err(|error| host("get executable memory", error.to_string()))?;

    let outline = Outline::new(linked.program(), linked.insns());
    for function in linked.program().functions() {
        let count = (function.start..function.end).filter(|pc| outline.is_leader(*pc)).count();
        if count > TRANSLATE_BLOCKS_MAX {
            let (pc, max) = (function.start, TRANSLATE_BLOCKS_MAX);
            return Err(TranslateError::TooBranchy { program: program(), pc, count, max });
        }
    }
    let (pc, count) = deepest_loops(linked);
    if count > TRANSLATE_LOOPS_DEEP_MAX {
        return Err(TranslateError::TooNested { program: program(), pc, count, max: TRANSLATE_LOOPS_DEEP_MAX });
    }
    let parts = parts(linked, &outline);
    let wild = parts.values().any(|facts| facts.effects.wild);
    let callbacks = Box::new(Callbacks::new(linked.id(), linked.callbacks()));
    let zero = wild.then_some(Bytes::ALL);
    let source = Source { linked, outline: &outline, hooks, parts: &parts, zero, callbacks: &callbacks };
    let mut assembly = Assembly::default();
    let mut memory = MEMORY.take().unwrap_or_default();
    let Memory { context, functions } = &mut *memory;
    let mut room = Room { insts: TRANSLATE_INSTS_MAX, blocks: TRANSLATE_INNER_BLOCKS_MAX };
    for part in parts.keys() {
        context.clear();
        let refused = |reason| TranslateError::Refused { program: program(), pc: part.start, reason };
        // A panic of the translator is a mistake of ours or of Cranelift's, but no reason to take the host down.
        let compiled = panic::catch_unwind(AssertUnwindSafe(|| {
            if let Err(pc) = function::translate(&source, *part, &mut context.func, functions, room) {
                return Ok(Some(pc));
            }
            room.take(&context.func);
            let compiled = context.compile(&**target::isa(), &mut ControlPlane::default());
            compiled.map(|_| None).map_err(|error| error.inner.to_string())
        }));
        match compiled {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(pc))) => {
                let is_insts = context.func.dfg.num_insts() > room.insts;
                let (what, max) = if is_insts {
                    ("instructions", TRANSLATE_INSTS_MAX)
                } else {
                    ("blocks", TRANSLATE_INNER_BLOCKS_MAX)
                };
                return Err(TranslateError::TooLarge { program: program(), pc, what, max });
            }
            Ok(Err(reason)) => return Err(refused(reason)),
            Err(_) => return Err(refused("the translator failed".to_owned())),
        }
        let compiled = context.compiled_code().expect("it was just compiled");
        let len = compiled.buffer.frame_layout().map_or(0, |layout| layout.frame_to_fp_offset);
        if len > NATIVE_FRAME_LEN_MAX {
            let max = NATIVE_FRAME_LEN_MAX;
            return Err(TranslateError::Frame { program: program(), pc: part.start, len, max });
        }
        assembly.add(compiled, &context.func);
    }
    if count <= MEMORY_SLOTS_MAX {
        MEMORY.set(Some(memory));
    }
    let called_back = parts.keys().zip(&assembly.starts).filter(|(part, _)| part.role == Role::Callback);
    let called_back: Vec<_> = called_back.map(|(part, offset)| (part.start, *offset)).collect();
    let (bytes, sites) = assembly.finish();
    let code = Code::publish(&bytes, sites, Arc::clone(linked), callbacks);
    let code = code.map_err(|source| TranslateError::Code { program: program(), source })?;
    for (start, offset) in called_back {
        code.callbacks().set(start, code.start().wrapping_add(offset));
    }
    Ok(code)
}

/// The slot that the most loops hold, and how many those are.
fn deepest_loops(linked: &Linked) -> (usize, usize) {
    let insns = linked.insns();
    let back = insns.iter().enumerate().filter_map(|(pc, insn)| Some((jump_target(insn, pc)?, pc)));
    let (mut begin, mut end) = (vec![0_usize; insns.len()], vec![0_usize; insns.len()]);
    let mut lasts = BTreeMap::new();
    for (target, pc) in back.filter(|(target, pc)| target <= pc) {
        // However many jumps lead back to a slot, they are one loop, which ends with the last of them.
        let last: &mut usize = lasts.entry(target).or_insert(pc);
        *last = pc;
    }
    for (target, last) in lasts {
        begin[target] += 1;
        end[last] += 1;
    }
    let mut depth = 0;
    let depths = begin.iter().zip(&end).enumerate().map(|(pc, (begin, end))| {
        depth += begin;
        let here = depth;
        depth -= end;
        (pc, here)
    });
    depths.max_by_key(|(_, depth)| *depth).unwrap_or_default()
}

/// What a program may still become.
#[derive(Clone, Copy)]
pub(super) struct Room {
    insts: usize,
    blocks: usize,
}

impl Room {
    /// Whether a function under translation is within it.
    pub(super) fn holds(self, function: &ir::Function) -> bool {
        function.dfg.num_insts() <= self.insts && function.dfg.num_blocks() <= self.blocks
    }

    /// Takes what a function has become.
    fn take(&mut self, function: &ir::Function) {
        self.insts = self.insts.saturating_sub(function.dfg.num_insts());
        self.blocks = self.blocks.saturating_sub(function.dfg.num_blocks());
    }
}

/// Every function that can be reached, in each role that it is entered in, with what is known of it.
fn parts(linked: &Linked, outline: &Outline) -> BTreeMap<Part, Facts> {
    let mut parts = BTreeMap::new();
    let called_back = linked.callbacks().iter().map(|start| Part { start: *start, role: Role::Callback });
    let mut waiting: BTreeSet<Part> = called_back.chain([Part { start: 0, role: Role::Program }]).collect();
    while let Some(part) = waiting.pop_first() {
        let function = linked.program().function_at(part.start).expect("functions cover all slots");
        let facts = facts::analyse(linked, outline, function, part.role);
        let called = facts.calls.iter().map(|start| Part { start: *start, role: Role::Subprogram });
        waiting.extend(called.filter(|called| *called != part && !parts.contains_key(called)));
        parts.insert(part, facts);
    }
    parts
}

/// The functions of a program, one behind the other.
#[derive(Default)]
struct Assembly {
    bytes: Vec<u8>,
    /// Where each function begins, by its index.
    starts: Vec<usize>,
    /// Calls: where the distance is written, and the index of the function called.
    calls: Vec<(usize, u32)>,
    sites: Vec<Site>,
}

impl Assembly {
    /// Adds a compiled function.
    fn add(&mut self, compiled: &CompiledCode, function: &ir::Function) {
        const NOP: u8 = 0x90;
        let align = ALIGN.max(compiled.buffer.alignment as usize);
        self.bytes.resize(self.bytes.len().next_multiple_of(align), NOP);
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(compiled.code_buffer());
        for reloc in compiled.buffer.relocs() {
            assert_eq!(
                (reloc.kind, reloc.addend),
                (Reloc::X86CallPCRel4, -4),
                "only functions of the program are named"
            );
            let FinalizedRelocTarget::ExternalName(ExternalName::User(name)) = &reloc.target else {
                unreachable!("only functions of the program are named");
            };
            let index = function.params.user_named_funcs()[*name].index;
            self.calls.push((start + reloc.offset as usize, index));
        }
        let locations = compiled.buffer.get_srclocs_sorted();
        for trap in compiled.buffer.traps() {
            let behind = locations.partition_point(|location| location.start <= trap.offset);
            let location = behind.checked_sub(1).map(|index| &locations[index]);
            let location = location.filter(|location| trap.offset < location.end);
            // Probes of the host's stack have no slot; a fault there is nobody's trap.
            let Some(location) = location else { continue };
            let offset = u32::try_from(start).expect("code is shorter than 4 GiB") + trap.offset;
            self.sites.push(Site { offset, pc: location.loc.bits(), code: trap.code });
        }
    }

    /// The code, with its calls filled in, and the places that may trap, by ascending offset.
    fn finish(mut self) -> (Vec<u8>, Box<[Site]>) {
        for (at, index) in &self.calls {
            let distance = self.starts[*index as usize].wrapping_sub(at + 4);
            let distance = i32::try_from(distance.cast_signed()).expect("code is shorter than 2 GiB");
            self.bytes[*at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        self.sites.sort_by_key(|site| site.offset);
        (self.bytes, self.sites.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::jit::NoHooks;
    use std::io;

    /// Why a program cannot be translated.
    fn refusal(text: &str) -> String {
        translate(&crate::vm::jit::tests::linked(text), &NoHooks).map(drop).expect_err("it is refused").to_string()
    }

    fn is_taken(text: &str) -> bool {
        translate(&crate::vm::jit::tests::linked(text), &NoHooks).is_ok()
    }

    #[test]
    fn loops_that_are_too_deep_in_one_another_are_refused() {
        let nest = |depth: usize| {
            let ends = (0..depth).map(|number| format!("if r{} < 9 goto -{}\n", number % 8, 2 * (number + 1)));
            "r0 += 1\n".repeat(depth) + &ends.collect::<String>() + "exit"
        };
        assert!(is_taken(&nest(TRANSLATE_LOOPS_DEEP_MAX)));
        assert_eq!(
            refusal(&nest(TRANSLATE_LOOPS_DEEP_MAX + 1)),
            "main insn 65: 65 loops in one another are more than the translator takes (64); run it in verify mode"
        );
        // However many jumps lead back to it, it is one loop.
        let again = (0..100).map(|number| format!("if r{} == 9 goto -{}\n", number % 8, number + 2));
        assert!(is_taken(&("r0 += 1\n".to_owned() + &again.collect::<String>() + "exit")));
        // One behind the other they are not in one another.
        assert!(is_taken(&("r0 += 1\nif r0 < 9 goto -2\n".repeat(200) + "exit")));
    }

    #[test]
    fn programs_that_become_too_much_are_refused() {
        let text = refusal(&("r0 s/= r1\n".repeat(TRANSLATE_SLOTS_MAX - 1) + "exit"));
        let (start, end) = (
            "main insn ",
            ": translated, it has more than 196608 instructions up to here; run it in verify mode or split it",
        );
        assert!(text.starts_with(start) && text.ends_with(end), "{text}");
        let function = |number: usize| format!("f{number}: {}exit\n", "if r1 == 3 goto +0\n".repeat(6000));
        let calls: String = (0..4).map(|number| format!("call f{number}\n")).collect();
        let text = refusal(&(calls + "exit\n" + &(0..4).map(function).collect::<String>()));
        let end = ": translated, it has more than 32768 blocks up to here; run it in verify mode or split it";
        assert!(text.starts_with(start) && text.ends_with(end), "{text}");
    }

    #[test]
    fn errors_say_what_is_wrong_and_what_to_do() {
        let program = || "xdp_main".to_owned();
        let refused =
            TranslateError::Refused { program: program(), pc: 4, reason: "Code for function is too large".into() };
        let frame = TranslateError::Frame { program: program(), pc: 4, len: 20_000, max: NATIVE_FRAME_LEN_MAX };
        let full = CodeError::Full { len: 100, max: 1 << 30 };
        let system = CodeError::from(io::Error::from_raw_os_error(libc::EPERM));
        let host = TranslateError::Host { program: program(), what: "get executable memory", reason: "denied".into() };
        for (error, text) in [
            (
                refused,
                "xdp_main insn 4: its function cannot be translated (Code for function is too large); run it in verify mode",
            ),
            (
                frame,
                "xdp_main insn 4: its function needs 20000 bytes of host stack, more than 8192; run it in verify mode",
            ),
            (
                TranslateError::Code { program: program(), source: full },
                "xdp_main: no room for 100 bytes among 1073741824 of code; unload programs",
            ),
            (
                TranslateError::Code { program: program(), source: system },
                "xdp_main: no executable memory: Operation not permitted (os error 1); allow memory files \
                 (vm.memfd_noexec) or raise vm.max_map_count",
            ),
            (host, "xdp_main: cannot get executable memory: denied; run it in verify mode"),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
