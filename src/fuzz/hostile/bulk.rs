//! Programs that are long to translate: each shape as large as is asked for, and what its translation took.
//!
//! Invariant: every shape is a well-formed program of about as many slots as is asked for.

use std::fmt::Write;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::arena::{ARRAY, Arena, HASH, PROGRAMS, PlanError, VALUE};
use super::cpu_time;
use crate::limits::TRANSLATE_LOOPS_DEEP_MAX;
use crate::verdict::ProgramKind;
use crate::vm::jit::TranslateError;
use crate::vm::{Loaded, Mode};

/// Slots of the shortest program that is tried.
const SLOTS_MIN: usize = 2048;

/// A way to be long.
pub(super) struct Shape {
    pub(super) name: &'static str,
    write: fn(usize) -> String,
}

const fn shape(name: &'static str, write: fn(usize) -> String) -> Shape {
    Shape { name, write }
}

/// All of them.
pub(super) const SHAPES: &[Shape] = &[
    shape("one block", one_block),
    shape("a block an instruction", branches),
    shape("a block an instruction in each of many functions", branches_of_functions),
    shape("calls of subprograms", calls),
    shape("many functions", functions),
    shape("loads that all live", loads),
    shape("lookups in an array", array_lookups),
    shape("lookups in a hash", hash_lookups),
    shape("loops in one another", nested_loops),
    shape("nests of loops", many_nests),
    shape("loops one behind the other", loops),
    shape("stack places in every block", stack_places),
    shape("divisions", divisions),
    shape("atomic operations", atomics),
    shape("tail calls", tail_calls),
    shape("packet loads", packet_loads),
    shape("calls of helpers", helper_calls),
    shape("jumps across everything", far_jumps),
];

/// What a translation took, of both modes that have one.
#[derive(Clone, Debug)]
pub struct Translation {
    /// What the program is made of.
    pub shape: &'static str,
    /// Its slots.
    pub slots: usize,
    /// Time on a processor.
    pub time: Duration,
    /// Bytes that the process had resident beyond those before, at most; `None` where the system does not say.
    pub peak: Option<u64>,
    /// Why it is interpreted, where it is.
    pub refusal: Option<TranslateError>,
}

impl Shape {
    /// Translates programs of this shape: of this length, and shorter ones until one is taken. The one that is, and the shortest
    /// that was not.
    pub(super) fn translate(&self, arena: &Arena, slots: usize) -> Result<Vec<Translation>, PlanError> {
        let mut all = vec![self.translate_one(arena, slots)?];
        let mut slots = slots;
        while let Some(refusal) = &all[all.len() - 1].refusal {
            slots = match refusal {
                TranslateError::TooBranchy { count, max, .. } | TranslateError::TooNested { count, max, .. } => {
                    (slots * max / count).min(slots - slots / 64)
                }
                TranslateError::TooLarge { pc, .. } => (*pc).min(slots - slots / 16),
                TranslateError::TooLong { .. }
                | TranslateError::Refused { .. }
                | TranslateError::Frame { .. }
                | TranslateError::Code { .. }
                | TranslateError::Host { .. } => slots - slots / 4,
            };
            if slots < SLOTS_MIN {
                break;
            }
            all.push(self.translate_one(arena, slots)?);
        }
        Ok(all.split_off(all.len().saturating_sub(2)))
    }

    fn translate_one(&self, arena: &Arena, slots: usize) -> Result<Translation, PlanError> {
        let text = (self.write)(slots);
        let kind = if self.name == "packet loads" { ProgramKind::Tc } else { ProgramKind::Xdp };
        let linked = arena.link(kind, self.name.to_owned(), &text)?;
        drop(text);
        let slots = linked.insns().len();
        let before = resident();
        let start = cpu_time::of_this_thread();
        let loaded = Loaded::new(Arc::clone(&linked));
        let time = cpu_time::of_this_thread() - start;
        let peak = resident().zip(before).map(|((_, peak), (before, _))| peak.saturating_sub(before));
        let refusal = [Mode::Fast, Mode::Instrumented].into_iter().find_map(|mode| loaded.translated(mode).err());
        Ok(Translation { shape: self.name, slots, time, peak, refusal: refusal.cloned() })
    }
}

/// Bytes that are resident, and the most that were since the last call.
fn resident() -> Option<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
    };
    // The most begins anew; an old kernel that cannot only tells too much.
    let _ = fs::write("/proc/self/clear_refs", "5");
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "{}", line(number));
        text
    })
}

const END: &str = "r0 = 2\nexit\n";

fn one_block(slots: usize) -> String {
    lines(slots - 2, |number| format!("r{} += r{}", number % 8, (number + 3) % 9)) + END
}

fn branches(slots: usize) -> String {
    lines(slots - 2, |number| format!("if r{} == {number} goto +0", number % 6)) + END
}

fn branches_of_functions(slots: usize) -> String {
    const COUNT: usize = 8;
    let each = slots / COUNT - 3;
    let mut text = (1..COUNT).fold(String::new(), |text, number| text + &format!("call f{number}\n"));
    text.push_str(END);
    for number in 1..COUNT {
        let _ = writeln!(text, "f{number}: r6 = r1");
        text += &lines(each, |at| format!("if r{} == {at} goto +0", at % 6));
        text.push_str(END);
    }
    text
}

fn calls(slots: usize) -> String {
    lines(slots - 4, |_| "call f".to_owned()) + END + "f: r0 = r1\nexit\n"
}

fn functions(slots: usize) -> String {
    const COUNT: usize = 255;
    let each = (slots / COUNT).saturating_sub(5).max(1);
    let mut text = lines(COUNT - 1, |number| format!("call f{}", number + 1)) + END;
    for number in 1..COUNT {
        let _ = writeln!(text, "f{number}: r6 = r1");
        text += &lines(each, |at| format!("if r{} > {at} goto +0", at % 6));
        text.push_str(END);
    }
    text
}

/// Each load is used at the end, across blocks.
fn loads(slots: usize) -> String {
    lines(slots / 10, |number| {
        let fields = (0..8).map(|at| format!("r{} = *(u32 *)(r9 + {})", at, 4 * ((at + number) % 5)));
        fields.collect::<Vec<_>>().join("\n") + "\nif r1 > r2 goto +1\nr3 ^= r7"
    })
    .replacen("", "r9 = r1\n", 1)
        + END
}

fn lookups(slots: usize, map: usize) -> String {
    let body = lines(slots / 7, |number| {
        format!(
            "*(u64 *)(r10 - 8) = {}\nr1 = map_by_idx({map})\nr2 = r10\nr2 += -8\ncall 1\nif r0 == 0 goto +0",
            number % 7
        )
    });
    body + END
}

fn array_lookups(slots: usize) -> String {
    lookups(slots, ARRAY)
}

fn hash_lookups(slots: usize) -> String {
    lookups(slots, HASH)
}

fn nested_loops(slots: usize) -> String {
    // A jump reaches back 32,767 slots.
    nest((slots / 2 - 1).min(16_000)) + END
}

/// Nests as deep as are taken, one behind the other.
fn many_nests(slots: usize) -> String {
    let nest = nest(TRANSLATE_LOOPS_DEEP_MAX);
    nest.repeat(slots / 2 / TRANSLATE_LOOPS_DEEP_MAX) + END
}

fn nest(depth: usize) -> String {
    lines(depth, |number| format!("r{} += 1", number % 8))
        + &lines(depth, |number| format!("if r{} < {number} goto -{}", number % 8, 2 * (number + 1)))
}

fn loops(slots: usize) -> String {
    lines(slots / 2 - 1, |number| format!("r{0} += 1\nif r{0} < r{1} goto -2", number % 8, (number + 1) % 8)) + END
}

fn stack_places(slots: usize) -> String {
    lines(slots / 4 - 1, |number| {
        let (to, from) = (8 * (1 + number % 64), 8 * (1 + (number * 7 + 3) % 64));
        format!("r1 = *(u64 *)(r10 - {from})\nr1 += 1\n*(u64 *)(r10 - {to}) = r1\nif r1 == {number} goto +0")
    }) + END
}

fn divisions(slots: usize) -> String {
    lines(slots - 2, |number| {
        format!("r{} {} r{}", number % 8, ["s/=", "s%=", "/=", "%="][number % 4], (number + 1) % 8)
    }) + END
}

fn atomics(slots: usize) -> String {
    let body = lines(slots - 4, |number| {
        ["r4 = atomic_fetch_xor((u64 *)(r3 + 0), r4)", "r4 = atomic_fetch_and((u64 *)(r3 + 8), r4)"][number % 2]
            .to_owned()
    });
    format!("r3 = map_val(map_by_idx({VALUE})) + 0\n") + &body + END
}

fn tail_calls(slots: usize) -> String {
    let body = lines(slots / 5 - 1, |number| format!("r1 = r6\nr2 = map_by_idx({PROGRAMS})\nr3 = {number}\ncall 12"));
    "r6 = r1\n".to_owned() + &body + END
}

fn packet_loads(slots: usize) -> String {
    "r6 = r1\n".to_owned() + &lines(slots - 3, |number| format!("r0 = *(u32 *)skb[{}]", number % 60)) + END
}

fn helper_calls(slots: usize) -> String {
    lines(slots / 3 - 1, |number| format!("r1 = r10\nr2 = {number}\ncall 5")) + END
}

/// Branches that lead half of the program ahead.
fn far_jumps(slots: usize) -> String {
    let half = (slots / 4).min(16_000);
    lines(half, |number| format!("if r{} == {number} goto +{half}", number % 6))
        + &lines(2 * half, |number| format!("r{} ^= r{}", number % 6, (number + 1) % 6))
        + END
}
