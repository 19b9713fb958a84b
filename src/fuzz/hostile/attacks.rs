//! What hostile programs try, a function each in one list: they write assembler text.
//!
//! r9 holds the context, r8 the address of a value of map 0, r7 a record of the ring buffer or NULL, r6 an address out of the
//! packet, a map or nowhere.
//!
//! Invariant: every text is a well-formed program; the same dice and lures give the same.

use std::fmt::Write;

use super::arena::{ARRAY, CHAIN, HASH, LOCKED, MAPS, PROGRAMS, RING, TIMED, VALUE};
use super::lures::Lures;
use crate::helpers::{Arg, HELPERS, Helper, KFUNCS, TAIL_CALL};
use crate::isa::random::Dice;
use crate::verdict::ProgramKind;

/// What a hostile case is: programs, the first of which runs on worker 0 and the last on worker 1 at the same time, where
/// `is_race`. All are in the program array.
pub(super) struct Plan {
    pub(super) kind: ProgramKind,
    pub(super) texts: Vec<String>,
    pub(super) is_race: bool,
}

/// One thing that hostile programs try.
pub(super) struct Attack {
    pub(super) name: &'static str,
    write: fn(&mut Dice, &Lures, ProgramKind) -> Vec<String>,
    is_race: bool,
}

const fn attack(name: &'static str, write: fn(&mut Dice, &Lures, ProgramKind) -> Vec<String>) -> Attack {
    Attack { name, write, is_race: false }
}

const fn race(name: &'static str, write: fn(&mut Dice, &Lures, ProgramKind) -> Vec<String>) -> Attack {
    Attack { name, write, is_race: true }
}

/// All of them.
pub(super) const ATTACKS: &[Attack] = &[
    attack("wild pointers", wild_pointers),
    attack("addresses from packet, map and context", handed_addresses),
    attack("forged context", forged_context),
    attack("helpers with wild arguments", wild_helper),
    attack("helpers called for ever", endless_helper),
    attack("forged ring positions", forged_ring),
    attack("recursion", recursion),
    attack("loops without end", endless_loops),
    attack("tail calls without end", endless_tail_calls),
    attack("callbacks without end", endless_callbacks),
    attack("timers", timers),
    attack("locks", locks),
    race("races on a map", race_on_map),
    race("races on the program array", race_on_programs),
];

impl Attack {
    /// The programs of one attempt.
    pub(super) fn plan(&self, dice: &mut Dice, lures: &Lures) -> Plan {
        let kind = dice.pick(&[ProgramKind::Xdp, ProgramKind::Xdp, ProgramKind::Tc, ProgramKind::SocketFilter]);
        Plan { kind, texts: (self.write)(dice, lures, kind), is_race: self.is_race }
    }
}

const SIZES: [&str; 4] = ["u8", "u16", "u32", "u64"];
/// Bytes of the packet that lures begin behind.
pub(super) const LURES_AT: usize = 16;

/// Sets r9 and r8, and r6 to an address that was handed in.
fn opening(dice: &mut Dice, kind: ProgramKind) -> String {
    let data = if kind == ProgramKind::Xdp { 0 } else { 76 };
    let mut text = format!("r9 = r1\nr8 = map_val(map_by_idx({VALUE})) + {}\n", 8 * dice.below(8));
    let _ = match dice.below(4) {
        0 if kind != ProgramKind::SocketFilter => {
            let at = LURES_AT + 8 * dice.below(6);
            writeln!(text, "r6 = *(u32 *)(r9 + {data})\nr6 = *(u64 *)(r6 + {at})")
        }
        1 if kind != ProgramKind::Xdp => writeln!(text, "r6 = *(u64 *)(r9 + {})", 48 + 8 * dice.below(2)),
        _ => writeln!(text, "r6 = *(u64 *)(r8 + 0)"),
    };
    text.push_str("r7 = 0\n");
    text
}

fn register_with_lure(dice: &mut Dice, lures: &Lures, register: &str) -> String {
    let lure = lures.pick(dice).cast_signed();
    match dice.below(6) {
        0 => format!("{register} = r6\n"),
        1 => format!("{register} = r10\n{register} += {}\n", dice.pick(&[-512, -8, 0, 8, 512, -513, 4096, -70000])),
        2 => format!("{register} = r8\n{register} += {}\n", dice.pick(&[-8, 0, 60, 4096, 1 << 20, -(1 << 20)])),
        _ => format!("{register} = {lure} ll\n"),
    }
}

fn access(dice: &mut Dice, base: &str) -> String {
    let size = dice.pick(&SIZES);
    let off = dice.pick(&[0, 1, -1, 8, -8, 4095, i16::MIN, i16::MAX]);
    let off = if off < 0 { format!("- {}", i32::from(off).abs()) } else { format!("+ {off}") };
    match dice.below(7) {
        0 => format!("r1 = *({size} *)({base} {off})\n"),
        1 | 2 => format!("*({size} *)({base} {off}) = r4\n"),
        3 => format!("*({size} *)({base} {off}) = -1\n"),
        4 => format!("lock *(u64 *)({base} {off}) += r4\n"),
        5 => format!("r4 = xchg_64({base} {off}, r4)\n"),
        _ => format!("r0 = cmpxchg_64({base} {off}, r0, r4)\n"),
    }
}

fn wild_pointers(dice: &mut Dice, lures: &Lures, kind: ProgramKind) -> Vec<String> {
    let mut text = opening(dice, kind);
    for _ in 0..1 + dice.below(4) {
        text.push_str(&register_with_lure(dice, lures, "r2"));
        if dice.once_in(3) {
            text.push_str(&register_with_lure(dice, lures, "r3"));
            let op = dice.pick(&["+=", "-=", "^=", "|=", "*="]);
            let _ = writeln!(text, "r2 {op} r3");
        }
        text.push_str("r4 = -1\nr0 = 0\n");
        text.push_str(&access(dice, "r2"));
    }
    text.push_str("r0 = 2\nexit\n");
    vec![text]
}

/// Every word that was handed in, as a pointer; what faults is left for the next run.
fn handed_addresses(dice: &mut Dice, _: &Lures, kind: ProgramKind) -> Vec<String> {
    let mut text = opening(dice, kind);
    text.push_str("r4 = -1\nr0 = 0\n");
    for _ in 0..1 + dice.below(3) {
        let off = 8 * dice.below(8);
        let _ = writeln!(text, "r2 = *(u64 *)(r8 + {off})");
        if dice.once_in(2) {
            text.push_str("r2 ^= r6\n");
        }
        let base = dice.pick(&["r2", "r6"]);
        text.push_str(&access(dice, base));
    }
    // Into its own stack and back, whole and as halves.
    text.push_str("*(u64 *)(r10 - 8) = r6\nr3 = *(u32 *)(r10 - 8)\nr5 = *(u64 *)(r10 - 8)\n");
    let base = dice.pick(&["r3", "r5"]);
    text.push_str(&access(dice, base));
    text.push_str("r0 = 2\nexit\n");
    vec![text]
}

/// The context's bounds overwritten, then helpers that go by the packet's.
fn forged_context(dice: &mut Dice, lures: &Lures, kind: ProgramKind) -> Vec<String> {
    let mut text = opening(dice, kind);
    for _ in 0..1 + dice.below(4) {
        text.push_str(&register_with_lure(dice, lures, "r2"));
        let _ = writeln!(text, "*(u32 *)(r9 + {}) = r2", 4 * dice.below(40));
    }
    for _ in 0..1 + dice.below(3) {
        let movers: Vec<&Helper> = served(kind).filter(|helper| helper.args.first() == Some(&Arg::Ctx)).collect();
        let helper = dice.pick(&movers);
        call(&mut text, dice, lures, helper);
    }
    let data = if kind == ProgramKind::Xdp { 0 } else { 76 };
    let _ = writeln!(text, "r2 = *(u32 *)(r9 + {data})\nr4 = -1\nr0 = 0");
    text.push_str(&access(dice, "r2"));
    text.push_str("r0 = 2\nexit\n");
    vec![text]
}

/// Helpers and kernel functions that such programs may call, tail calls left out.
fn served(kind: ProgramKind) -> impl Iterator<Item = &'static Helper> {
    let all = HELPERS.iter().chain(KFUNCS).copied();
    all.filter(move |helper| helper.serves(kind) && helper.id != TAIL_CALL)
}

/// An argument: what the prototype asks for, or a lure.
fn argument(text: &mut String, dice: &mut Dice, lures: &Lures, number: usize, arg: Arg) {
    let register = format!("r{number}");
    if dice.once_in(6) {
        text.push_str(&register_with_lure(dice, lures, &register));
        return;
    }
    let stack = -8 * (1 + i64::try_from(dice.below(64)).expect("small"));
    let line = match arg {
        Arg::Ctx => format!("{register} = r9"),
        Arg::Map => format!("{register} = map_by_idx({})", dice.below(MAPS.len())),
        Arg::Len | Arg::LenOrZero => {
            let len = dice.pick(&[0, 1, 4, 8, 16, 64, 512, 513, 65536, 65537, i64::from(u32::MAX), -1, i64::MIN]);
            format!("{register} = {len} ll")
        }
        Arg::Timer | Arg::SpinLock => format!("{register} = r8\n{register} += {}", dice.pick(&[0, 8, 16, 4])),
        Arg::Socket | Arg::RingRecord => format!("{register} = r7"),
        Arg::Callback => format!("{register} = code_addr(callback)"),
        Arg::Any | Arg::Optional => {
            let number = dice.pick(&[0, 1, 2, -1, 8, 64, 4096, i64::from(i32::MIN), i64::MAX]);
            format!("{register} = {number} ll")
        }
        Arg::MapKey
        | Arg::MapValue
        | Arg::MapValueOut
        | Arg::MemRead
        | Arg::MemReadOrNull
        | Arg::MemWrite
        | Arg::MemInOut
        | Arg::Text
        | Arg::Probed
        | Arg::Bytes(_)
        | Arg::BytesOut(_)
        | Arg::BytesInOut(_)
        | Arg::BytesPerhapsOut(_)
        | Arg::Iterator(_)
        | Arg::SliceBuffer
        | Arg::CallbackCtx => match dice.below(4) {
            0 => format!("{register} = r8"),
            1 => format!("{register} = r7"),
            _ => format!("{register} = r10\n{register} += {stack}"),
        },
    };
    let _ = writeln!(text, "{line}");
}

/// A call with arguments; its answer may be kept in r7.
fn call(text: &mut String, dice: &mut Dice, lures: &Lures, helper: &Helper) {
    for (number, arg) in (1..).zip(helper.args) {
        argument(text, dice, lures, number, *arg);
    }
    let _ = match KFUNCS.iter().position(|kfunc| kfunc.id == helper.id) {
        Some(index) => writeln!(text, "call kfunc {index}"),
        None => writeln!(text, "call {}", helper.id),
    };
    if dice.once_in(2) {
        text.push_str("r7 = r0\n");
    }
    if dice.once_in(3) {
        text.push_str("r4 = -1\nr2 = r7\nr0 = 0\n");
        text.push_str(&access(dice, "r2"));
    }
}

/// The function that is called back: touches what it is given, and calls a helper.
fn callback(dice: &mut Dice, lures: &Lures, kind: ProgramKind) -> String {
    let mut text = format!("callback: r9 = r1\nr8 = r2\nr6 = r3\nr7 = r4\nr4 = r1\n{}", "r0 = 0\n");
    if dice.once_in(2) {
        let base = dice.pick(&["r2", "r3", "r10"]);
        text.push_str(&access(dice, base));
    }
    if dice.once_in(2) {
        let all: Vec<&Helper> = served(kind).filter(|helper| !helper.calls_back()).collect();
        let helper = dice.pick(&all);
        call(&mut text, dice, lures, helper);
    }
    text.push_str("r0 = 0\nexit\n");
    text
}

fn wild_helper(dice: &mut Dice, lures: &Lures, kind: ProgramKind) -> Vec<String> {
    let all: Vec<&Helper> = served(kind).collect();
    let mut text = opening(dice, kind);
    for _ in 0..1 + dice.below(6) {
        let helper = dice.pick(&all);
        call(&mut text, dice, lures, helper);
    }
    text.push_str("r0 = 2\nr1 = code_addr(callback)\nexit\n");
    text.push_str(&callback(dice, lures, kind));
    vec![text]
}

/// One helper over and over: its fuel must be what its time is worth.
fn endless_helper(dice: &mut Dice, lures: &Lures, kind: ProgramKind) -> Vec<String> {
    let all: Vec<&Helper> = served(kind).collect();
    let helper = dice.pick(&all);
    let mut text = opening(dice, kind);
    let _ = writeln!(text, "again:");
    call(&mut text, dice, lures, helper);
    text.push_str("goto again\nr1 = code_addr(callback)\nexit\n");
    text.push_str(&callback(dice, lures, kind));
    vec![text]
}

/// Records reserved, written around, ended twice, ended where none begins.
fn forged_ring(dice: &mut Dice, lures: &Lures, kind: ProgramKind) -> Vec<String> {
    let mut text = opening(dice, kind);
    let len = dice.pick(&[0, 1, 8, 16, 100, 2000, 4080, 4088, 8192, i64::from(u32::MAX)]);
    let _ = writeln!(
        text,
        "again: r1 = map_by_idx({RING})\nr2 = {len} ll\nr3 = 0\ncall 131\nif r0 == 0 goto none\nr7 = r0"
    );
    for _ in 0..1 + dice.below(4) {
        let lure = lures.pick(dice).cast_signed();
        let off = dice.pick(&[-8, -4, -16, -4096, 0, 8, 4088, 4096, 8184, -32768]);
        let (sign, off) = if off < 0 { ("-", -off) } else { ("+", off) };
        let _ = writeln!(text, "r4 = {lure} ll\n*(u64 *)(r7 {sign} {off}) = r4");
    }
    for _ in 0..1 + dice.below(3) {
        let moved = dice.pick(&[0, 0, 8, -8, 4096, -4096, 1]);
        let _ = writeln!(text, "r1 = r7\nr1 += {moved}\nr2 = {}\ncall {}", dice.below(4), dice.pick(&[132, 133]));
    }
    let _ = writeln!(text, "r1 = map_by_idx({RING})\nr2 = {}\ncall 134", dice.below(5));
    if dice.once_in(2) {
        text.push_str("goto again\n");
    }
    text.push_str("none: ");
    text.push_str(&register_with_lure(dice, lures, "r1"));
    let _ = writeln!(text, "r2 = 0\ncall {}\nr0 = 2\nexit", dice.pick(&[132, 133]));
    vec![text]
}

fn recursion(dice: &mut Dice, lures: &Lures, kind: ProgramKind) -> Vec<String> {
    let mut text = opening(dice, kind);
    let deeper = match dice.below(4) {
        0 => "call f\n".to_owned(),
        1 => "call g\n".to_owned(),
        2 => "r1 = 2\nr2 = code_addr(f)\nr3 = r10\nr4 = 0\ncall 181\n".to_owned(),
        _ => format!("r1 = map_by_idx({HASH})\nr2 = code_addr(f)\nr3 = r10\nr4 = 0\ncall 164\n"),
    };
    let _ = write!(text, "r1 = r10\ncall f\nr0 = 2\nexit\nf: r6 = r1\nr4 = -1\nr0 = 0\n");
    if dice.once_in(2) {
        text.push_str(&register_with_lure(dice, lures, "r2"));
        text.push_str("*(u64 *)(r10 - 512) = r2\n");
    }
    if dice.once_in(4) {
        text.push_str(&access(dice, "r10"));
    }
    let _ = write!(text, "r1 = r10\n{deeper}r1 = r10\n{deeper}r0 = 0\nexit\ng: r1 = r10\ncall f\nr0 = 0\nexit\n");
    vec![text]
}

fn endless_loops(dice: &mut Dice, lures: &Lures, kind: ProgramKind) -> Vec<String> {
    let mut text = opening(dice, kind);
    let body = match dice.below(6) {
        0 => "goto again\n".to_owned(),
        1 => "r2 += 1\nr3 ^= r2\nr3 *= r2\ngoto again\n".to_owned(),
        2 => "r2 = *(u64 *)(r8 + 0)\nr2 += 1\n*(u64 *)(r8 + 0) = r2\nif r2 != 0 goto again\n".to_owned(),
        3 => "lock *(u64 *)(r8 + 0) += r2\ngoto again\n".to_owned(),
        4 => "r2 /= r3\nr3 s%= r2\nif r2 s> -1 goto again\ngoto again\n".to_owned(),
        _ => format!(
            "r2 += 1\nif r2 & 1 goto odd\nr3 = {} ll\ngoto again\nodd: call f\ngoto again\nr0 = 0\nexit\nf: r0 = 1\nexit\n",
            lures.pick(dice).cast_signed()
        ),
    };
    let _ = write!(text, "r2 = 0\nr3 = 3\nagain: {body}");
    text.push_str("r0 = 2\nexit\n");
    if text.contains("f: ") {
        text.truncate(text.len() - "r0 = 2\nexit\n".len());
    }
    vec![text]
}

/// A chain that leads back to itself, with work between, out of subprograms, and with contexts of its own making.
fn endless_tail_calls(dice: &mut Dice, lures: &Lures, kind: ProgramKind) -> Vec<String> {
    let jump = |dice: &mut Dice| {
        let index = dice.pick(&[0, 1, 2, 3, -1, 1 << 31]);
        let ctx = if dice.once_in(6) { register_with_lure(dice, lures, "r1") } else { "r1 = r9\n".to_owned() };
        let map = if dice.once_in(8) { dice.below(MAPS.len()) } else { PROGRAMS };
        format!("{ctx}r2 = map_by_idx({map})\nr3 = {index} ll\ncall {TAIL_CALL}\n")
    };
    let program = |dice: &mut Dice| {
        let mut text = opening(dice, kind);
        if dice.once_in(3) {
            let _ = writeln!(text, "r6 = {}\nspin: r6 -= 1\nif r6 != 0 goto spin", dice.pick(&[10, 1000, 100_000]));
        }
        let mut sub = String::new();
        for _ in 0..1 + dice.below(3) {
            if dice.once_in(2) {
                text.push_str(&jump(dice));
            } else {
                text.push_str("r1 = r9\ncall jump\n");
                if sub.is_empty() {
                    sub = format!("jump: r9 = r1\n{}r0 = 0\nexit\n", jump(dice));
                }
            }
        }
        let end = if dice.once_in(2) { "again: goto again\n" } else { "r0 = 2\nexit\n" };
        text + end + &sub
    };
    (0..1 + dice.below(3)).map(|_| program(dice)).collect()
}

/// Loops of loops by helpers, iterators, and `may_goto`.
fn endless_callbacks(dice: &mut Dice, lures: &Lures, kind: ProgramKind) -> Vec<String> {
    let mut text = opening(dice, kind);
    let count = dice.pick(&[8 << 20, 1 << 20, 100_000, 1000]);
    let inner = match dice.below(4) {
        0 => "r0 = 0\n".to_owned(),
        1 => format!("r1 = {count}\nr2 = code_addr(g)\nr3 = r10\nr4 = 0\ncall 181\nr0 = 0\n"),
        2 => format!(
            "r1 = map_by_idx({})\nr2 = code_addr(g)\nr3 = r10\nr4 = 0\ncall 164\nr0 = 0\n",
            dice.pick(&[ARRAY, HASH])
        ),
        _ => "goto -1\n".to_owned(),
    };
    let own = dice.once_in(2);
    let handle = if own { "code_addr(f)".to_owned() } else { format!("{} ll", lures.pick(dice).cast_signed()) };
    let handle = if dice.once_in(4) { handle } else { "code_addr(f)".to_owned() };
    let _ = write!(
        text,
        "r1 = {count}\nr2 = {handle}\nr3 = r8\nr4 = 0\ncall 181\nr1 = code_addr(f)\nr1 = code_addr(g)\nr0 = 2\nexit\n\
         f: {inner}exit\ng: r0 = 0\nexit\n"
    );
    vec![text]
}

/// Timers that start themselves, whose functions trap, loop or jump, and whose words in the value are forged.
fn timers(dice: &mut Dice, lures: &Lures, kind: ProgramKind) -> Vec<String> {
    let lure = lures.pick(dice).cast_signed();
    let forge = if dice.once_in(2) {
        format!("r4 = {lure} ll\n*(u64 *)(r6 + {}) = r4\n", 8 * dice.below(3))
    } else {
        String::new()
    };
    let body = match dice.below(4) {
        0 => "again: goto again\n".to_owned(),
        1 => format!("r1 = 0\nr2 = map_by_idx({PROGRAMS})\nr3 = 0\ncall {TAIL_CALL}\n"),
        2 => format!("r1 = r3\nr2 = 0\nr3 = 0\ncall 171\n{}", access(dice, "r10")),
        _ => format!("r4 = -1\nr2 = r3\n{}", access(dice, "r2")),
    };
    let text = opening(dice, kind);
    let text = format!(
        "{text}*(u32 *)(r10 - 4) = {}\nr1 = map_by_idx({TIMED})\nr2 = r10\nr2 += -4\ncall 1\nif r0 == 0 goto out\nr6 = r0\n\
         r1 = r6\nr2 = map_by_idx({TIMED})\nr3 = 1\ncall 169\nr1 = r6\nr2 = code_addr(f)\ncall 170\n{forge}\
         r1 = r6\nr2 = 0\nr3 = 0\ncall 171\n{forge}out: r0 = 2\nexit\nf: r0 = 0\n{body}r0 = 0\nexit\n",
        dice.below(4)
    );
    vec![text]
}

/// Locks that are never released, taken twice, forged, and updates that wait for them.
fn locks(dice: &mut Dice, lures: &Lures, kind: ProgramKind) -> Vec<String> {
    let text = opening(dice, kind);
    let word = lures.pick(dice).cast_signed();
    let forge = if dice.once_in(2) { format!("r4 = {word} ll\n*(u32 *)(r6 + 0) = r4\n") } else { String::new() };
    let then = match dice.below(4) {
        0 => "r1 = r6\ncall 93\n".to_owned(),
        1 => "r1 = r6\ncall 94\nr1 = r6\ncall 94\n".to_owned(),
        2 => {
            format!("r1 = map_by_idx({LOCKED})\nr2 = r10\nr2 += -4\nr3 = r10\nr3 += -64\nr4 = 4\ncall 2\ngoto again\n")
        }
        _ => "again2: goto again2\n".to_owned(),
    };
    let text = format!(
        "{text}*(u32 *)(r10 - 4) = 1\nagain: r1 = map_by_idx({LOCKED})\nr2 = r10\nr2 += -4\ncall 1\nif r0 == 0 goto out\nr6 = r0\n\
         {forge}r1 = r6\ncall 93\n{forge}{then}out: r0 = 2\nexit\n"
    );
    vec![text]
}

/// Two programs that insert, look up, delete and write through what they found.
fn race_on_map(dice: &mut Dice, lures: &Lures, _: ProgramKind) -> Vec<String> {
    let program = |dice: &mut Dice| {
        let map = dice.pick(&[ARRAY, HASH, HASH, HASH, CHAIN, RING]);
        let mut text = format!("r9 = r1\nr8 = 0\nr6 = {}\nagain: r8 += 1\n", dice.pick(&[500, 5000]));
        for _ in 0..2 + dice.below(4) {
            let lure = lures.pick(dice).cast_signed();
            let _ =
                write!(text, "r3 = r8\nr3 &= 7\n*(u64 *)(r10 - 8) = r3\nr1 = map_by_idx({map})\nr2 = r10\nr2 += -8\n");
            let _ = match dice.below(4) {
                0 => write!(text, "r3 = r10\nr3 += -128\nr4 = 0\ncall 2\n"),
                1 => writeln!(text, "call 3"),
                _ => {
                    let skip = text.lines().count();
                    write!(
                        text,
                        "call 1\nif r0 == 0 goto skip{skip}\nr4 = {lure} ll\n*(u64 *)(r0 + {}) = r4\nskip{skip}: r0 = 0\n",
                        8 * dice.below(8)
                    )
                }
            };
        }
        text + "r6 -= 1\nif r6 != 0 goto again\nr0 = 2\nexit\n"
    };
    vec![program(dice), program(dice)]
}

/// Programs that jump to one another while the host replaces them.
fn race_on_programs(dice: &mut Dice, lures: &Lures, kind: ProgramKind) -> Vec<String> {
    let mut all = endless_tail_calls(dice, lures, kind);
    all.extend(endless_tail_calls(dice, lures, kind));
    all
}
