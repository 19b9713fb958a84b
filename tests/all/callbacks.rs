//! Functions that helpers call back, in every mode: arguments, stack, early ends, traps inside.

use kumite::limits::{CALL_FRAMES_MAX, FUEL_DEFAULT};
use kumite::maps::{Errno, Map, MapDef, MapKind, WorkerIndex};
use kumite::trap::TrapKind;
use kumite::verdict::ProgramKind;

use crate::regressions::on;
use crate::stage::{Ran, Stage, slots};

fn run(stage: &Stage, text: &str, memory: &[u8]) -> Ran {
    on(stage, &stage.load_raw(text), memory)
}

/// A loop of `count` calls of the function `f`, with the caller's last eight stack bytes as its context; r6 is what the
/// helper gave, r0 what is in those bytes afterwards.
fn looping(count: &str, rest: &str, f: &str) -> String {
    format!(
        "r7 = r1\n*(u64 *)(r10 - 8) = 0\nr1 = {count}\nr2 = code_addr(f)\nr3 = r10\nr3 += -8\nr4 = 0\ncall 181\nr6 = r0
         r0 = *(u64 *)(r10 - 8)\n{rest}exit\nf: {f}"
    )
}

const ADD_INDEX: &str = "r3 = *(u64 *)(r2 + 0)\nr3 += r1\n*(u64 *)(r2 + 0) = r3\nr0 = 0\nexit";

#[test]
fn a_loop_calls_with_each_number_and_the_callers_stack() {
    let stage = Stage::new();
    let sum = run(&stage, &looping("10", "", ADD_INDEX), &[]);
    assert_eq!((sum.trap, sum.r0), (None, 45));
    let count = run(&stage, &looping("10", "r0 = r6\n", ADD_INDEX), &[]);
    assert_eq!(count.r0, 10);
    assert_eq!(run(&stage, &looping("0", "r0 = r6\n", ADD_INDEX), &[]).r0, 0);
}

#[test]
fn a_loop_ends_where_the_function_says_so_and_counts_that_call() {
    let stage = Stage::new();
    let until_three = "r0 = 0\nif r1 != 3 goto +1\nr0 = 1\nexit";
    assert_eq!(run(&stage, &looping("10", "r0 = r6\n", until_three), &[]).r0, 4);
}

#[test]
fn a_loop_refuses_flags_and_absurd_counts_as_the_kernel_does() {
    let stage = Stage::new();
    let with = |count: &str, flags: &str| {
        let text = format!("r1 = {count} ll\nr2 = code_addr(f)\nr3 = 0\nr4 = {flags}\ncall 181\nexit\nf: r0 = 1\nexit");
        run(&stage, &text, &[]).r0
    };
    assert_eq!(with("8388608", "0"), 1);
    assert_eq!(with("8388609", "0"), Errno::E2BIG.to_r0());
    assert_eq!(with("8388609", "1"), Errno::EINVAL.to_r0());
    // The count is 32 bits of its register.
    assert_eq!(with("0x100000002", "0"), 1);
}

#[test]
fn registers_of_the_caller_are_kept_and_those_of_the_function_are_its_own() {
    let stage = Stage::new();
    let text = "r6 = 6\nr7 = 7\nr8 = 8\nr9 = 9\nr1 = 3\nr2 = code_addr(f)\nr3 = 0\nr4 = 0\ncall 181\nr0 = r6\nr0 <<= 4
                r0 |= r7\nr0 <<= 4\nr0 |= r8\nr0 <<= 4\nr0 |= r9\nexit
                f: r6 = 1\nr7 = 1\nr8 = 1\nr9 = 1\n*(u64 *)(r10 - 512) = 5\nr0 = 0\nexit";
    assert_eq!(run(&stage, text, &[]).r0, 0x6789);
}

#[test]
fn loops_nest_as_deep_as_calls_do() {
    let stage = Stage::new();
    let nested = |depth: usize| {
        let mut text = "r1 = 1\nr2 = code_addr(f1)\nr3 = r10\nr3 += -8\n*(u64 *)(r3 + 0) = 0\nr4 = 0\ncall 181
                        r0 = *(u64 *)(r10 - 8)\nexit\n"
            .to_owned();
        for level in 1..depth {
            let next = level + 1;
            text += &format!("f{level}: r1 = 1\nr3 = r2\nr2 = code_addr(f{next})\nr4 = 0\ncall 181\nr0 = 0\nexit\n");
        }
        text + &format!("f{depth}: r1 = *(u64 *)(r2 + 0)\nr1 += 1\n*(u64 *)(r2 + 0) = r1\nr0 = 0\nexit")
    };
    let deepest = CALL_FRAMES_MAX as usize - 1;
    let ran = run(&stage, &nested(deepest), &[]);
    assert_eq!((ran.trap, ran.r0), (None, 1));
    let too_deep = run(&stage, &nested(deepest + 1), &[]);
    assert_eq!(too_deep.trap.map(|trap| trap.kind), Some(TrapKind::CallDepth));
}

#[test]
fn a_trap_inside_names_the_instruction_that_trapped() {
    let stage = Stage::new();
    let text = looping("10", "", "if r1 != 2 goto +2\nr1 = 0\nr0 = *(u64 *)(r1 + 64)\nr0 = 0\nexit");
    let ran = run(&stage, &text, &[]);
    let pc = slots(&text).len() - 3;
    assert_eq!(ran.trap.map(|trap| trap.pc), Some(pc), "{}", ran.trap_text());
    assert!(matches!(ran.trap.map(|trap| trap.kind), Some(TrapKind::Memory(_))));
}

#[test]
fn the_run_goes_on_safely_after_a_trap_inside() {
    let stage = Stage::new();
    let trapping = stage.load_raw(&looping("1", "", "r1 = 0\nr0 = *(u64 *)(r1 + 64)\nr0 = 0\nexit"));
    let clean = stage.load_raw(&looping("10", "", ADD_INDEX));
    for _ in 0..3 {
        assert!(on(&stage, &trapping, &[]).trap.is_some());
        assert_eq!(on(&stage, &clean, &[]).r0, 45);
    }
}

#[test]
fn regression_42_fuel_ends_loops_of_callbacks_and_is_counted_alike() {
    let mut stage = Stage::new();
    let loaded = stage.load_raw(&looping("8388608", "", ADD_INDEX));
    let ran = on(&stage, &loaded, &[]);
    assert_eq!(ran.trap.map(|trap| trap.kind), Some(TrapKind::Fuel));
    // Calls are metered as work too; the slots behind them give the run enough of it.
    let short = stage.load_raw(&looping("20", &"r5 = 1\n".repeat(500), ADD_INDEX));
    let used = FUEL_DEFAULT - on(&stage, &short, &[]).fuel_left;
    for fuel in 0..used {
        stage.fuel = fuel;
        let ran = on(&stage, &short, &[]);
        assert_eq!(ran.trap.map(|trap| trap.kind), Some(TrapKind::Fuel), "{fuel} of {used}");
    }
    stage.fuel = used;
    assert_eq!(on(&stage, &short, &[]).trap, None);
}

#[test]
fn what_is_no_function_of_the_program_is_refused() {
    let stage = Stage::new();
    for code in ["0", "1", "r10", "0xc0de00000001 ll", "0xc0deffffffff ll"] {
        let text = format!("r2 = {code}\nr1 = 1\nr3 = 0\nr4 = 0\nr5 = code_addr(f)\ncall 181\nexit\nf: r0 = 0\nexit");
        let ran = run(&stage, &text, &[]);
        let expected = TrapKind::HelperArg { helper: 181, arg: 2, expected: "a function of the program" };
        assert_eq!(ran.trap.map(|trap| trap.kind), Some(expected), "{code}");
    }
}

#[test]
fn a_code_address_is_no_memory() {
    let stage = Stage::new();
    let ran = run(&stage, "r1 = code_addr(f)\nr0 = *(u64 *)(r1 + 0)\nexit\nf: r0 = 0\nexit", &[]);
    assert!(matches!(ran.trap.map(|trap| trap.kind), Some(TrapKind::Memory(_))), "{}", ran.trap_text());
}

#[test]
fn a_helper_that_calls_back_cannot_be_called_by_register() {
    let stage = Stage::new();
    let ran = run(&stage, "r6 = 181\nr1 = 1\nr2 = code_addr(f)\nr3 = 0\nr4 = 0\ncallx r6\nexit\nf: r0 = 0\nexit", &[]);
    assert_eq!(ran.trap.map(|trap| trap.kind), Some(TrapKind::NoHelper { number: 181 }));
}

fn map(kind: MapKind, max_entries: u32) -> MapDef {
    MapDef { name: "elements".to_owned(), kind, key_len: 4, value_len: 8, max_entries, ..MapDef::default() }
}

/// Walks over the map: r0 is the helper's answer; the function adds `key << 32 | value` up in the memory's first word, and
/// then does `more`.
fn walk(more: &str) -> String {
    format!(
        "r6 = r1\nr1 = map_by_idx(0)\nr2 = code_addr(f)\nr3 = r6\nr4 = 0\ncall 164\nexit
         f: r6 = *(u32 *)(r2 + 0)\nr6 <<= 32\nr7 = *(u64 *)(r3 + 0)\nr6 |= r7\nr7 = *(u64 *)(r4 + 0)\nr7 += r6
         *(u64 *)(r4 + 0) = r7\nr0 = 0\n{more}exit"
    )
}

fn walked(stage: &Stage, def: &MapDef, elements: &[(u32, u64)], more: &str) -> (Ran, std::sync::Arc<dyn Map>) {
    let (id, map) = stage.map(def);
    for (key, value) in elements {
        map.update(WorkerIndex(0), &key.to_le_bytes(), &value.to_le_bytes(), 0).expect("room");
    }
    let loaded = stage.load("walk", ProgramKind::Raw, slots(&walk(more)), &[(id, std::sync::Arc::clone(&map))]);
    (on(stage, &loaded, &[0; 8]), map)
}

fn total(ran: &Ran) -> u64 {
    u64::from_le_bytes(ran.memory[..8].try_into().expect("eight bytes"))
}

#[test]
fn a_walk_sees_each_element_once() {
    let stage = Stage::new();
    let elements: Vec<(u32, u64)> = (0..200).map(|key| (key, u64::from(key) * 3 + 1)).collect();
    let sum = elements.iter().map(|(key, value)| (u64::from(*key) << 32) + value).sum::<u64>();
    for kind in [
        MapKind::HASH,
        MapKind::LRU_HASH,
        MapKind::PERCPU_HASH,
        MapKind::LRU_PERCPU_HASH,
        MapKind::ARRAY,
        MapKind::PERCPU_ARRAY,
    ] {
        let (ran, _) = walked(&stage, &map(kind, 200), &elements, "");
        assert_eq!((ran.trap, ran.r0, total(&ran)), (None, 200, sum), "{kind}");
    }
}

#[test]
fn a_walk_ends_where_the_function_says_so() {
    let stage = Stage::new();
    let (ran, _) = walked(&stage, &map(MapKind::ARRAY, 100), &[], "r0 = 1\n");
    assert_eq!(ran.r0, 1);
}

#[test]
fn a_walk_over_a_map_that_has_none_is_refused() {
    let stage = Stage::new();
    let def = MapDef { key_len: 0, ..map(MapKind::QUEUE, 4) };
    let (id, queue) = stage.map(&def);
    let loaded = stage.load("walk", ProgramKind::Raw, slots(&walk("")), &[(id, queue)]);
    assert_eq!(on(&stage, &loaded, &[0; 8]).r0, Errno::EINVAL.to_r0());
}

#[test]
fn a_tail_call_inside_returns_to_the_helper() {
    let stage = Stage::new();
    let def = MapDef { kind: MapKind::PROGRAM_ARRAY, value_len: 4, ..map(MapKind::PROGRAM_ARRAY, 1) };
    let (id, jumps) = stage.map(&def);
    let maps = [(id, std::sync::Arc::clone(&jumps))];
    let main = "r6 = 5\nr1 = 4\nr2 = code_addr(f)\nr3 = 0\nr4 = 0\ncall 181\nr0 += r6\nexit
                f: r1 = 0\nr2 = map_by_idx(0)\nr3 = 0\ncall 12\nr0 = 0\nexit";
    let main = stage.load("main", ProgramKind::Raw, slots(main), &maps);
    let target = stage.load("target", ProgramKind::Raw, slots("r6 = 77\nr0 = 1\nexit"), &maps);
    assert_eq!(on(&stage, &main, &[]).r0, 9, "four calls that miss");
    jumps.as_program_array().expect("a program array").replace(0, Some(target.slot())).expect("a slot");
    let ran = on(&stage, &main, &[]);
    assert_eq!((ran.trap, ran.r0, ran.tail_calls), (None, 6, 1), "the target ends the loop");
}
