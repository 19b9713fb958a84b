//! Tail calls: mistakes that other virtual machines shipped, one test each, in every mode.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kumite::maps::{MapDef, MapKind};
use kumite::trap::TrapKind;
use kumite::verdict::ProgramKind;
use kumite::vm::{Loaded, Mode};

use crate::regressions::on;
use crate::stage::{Stage, slots};

/// A program array with these programs in its slots, 0 on, and the first of them.
fn tail_calls(stage: &Stage, programs: &[&str], slots_of: &[(u32, usize)]) -> Arc<Loaded> {
    let def = MapDef {
        name: "jumps".to_owned(),
        kind: MapKind::PROGRAM_ARRAY,
        key_len: 4,
        value_len: 4,
        max_entries: 4,
        flags: 0,
        ..MapDef::default()
    };
    let (id, map) = stage.map(&def);
    let maps = [(id, Arc::clone(&map))];
    let load =
        |(index, text): (usize, &&str)| stage.load(&format!("program_{index}"), ProgramKind::Raw, slots(text), &maps);
    let loaded: Vec<_> = programs.iter().enumerate().map(load).collect();
    let array = map.as_program_array().expect("a program array");
    for (slot, program) in slots_of {
        array.replace(*slot, Some(loaded[*program].slot())).expect("a slot");
    }
    Arc::clone(&loaded[0])
}

const JUMP: &str = "r2 = map_by_idx(0)\ncall 12\n";

#[test]
fn regression_43_tail_calls_stop_at_33_and_the_count_is_kept_across_subprograms() {
    let stage = Stage::new();
    // The memory counts entries.
    let count = "r6 = r1\nr0 = *(u64 *)(r6 + 0)\nr0 += 1\n*(u64 *)(r6 + 0) = r0\n";
    let straight = format!("{count}r1 = r6\nr3 = 0\n{JUMP}r0 = *(u64 *)(r6 + 0)\nexit");
    let ran = on(&stage, &tail_calls(&stage, &[&straight], &[(0, 0)]), &[0; 8]);
    assert_eq!((ran.trap, ran.r0, ran.tail_calls), (None, 34, 33));

    // The jump is in a subprogram, twice: each returns here, and all share the count.
    let nested = format!(
        "{count}r1 = r6\ncall sub\nr1 = r6\ncall sub\nr0 = *(u64 *)(r6 + 0)\nexit
         sub: r6 = r1\nr3 = 0\n{JUMP}r0 = 0\nexit"
    );
    let ran = on(&stage, &tail_calls(&stage, &[&nested], &[(0, 0)]), &[0; 8]);
    assert_eq!((ran.trap, ran.r0, ran.tail_calls), (None, 34, 33));

    // Where the jump is two calls deep, each activation opens two call frames, and the depth ends the run before the count does.
    let deep = format!(
        "{count}r1 = r6\ncall sub\nr0 = *(u64 *)(r6 + 0)\nexit
         sub: call jump\nexit
         jump: r6 = r1\nr3 = 0\n{JUMP}r0 = 0\nexit"
    );
    let ran = on(&stage, &tail_calls(&stage, &[&deep], &[(0, 0)]), &[0; 8]);
    assert_eq!(ran.trap.map(|trap| trap.kind), Some(TrapKind::CallDepth));

    // A tail-called program returns to the caller of the function that made the jump.
    let main = format!("r6 = r1\ncall sub\nr0 += 1000\nexit\nsub: r3 = 1\n{JUMP}r0 = 0\nexit");
    let callee = "r0 = 7\nexit";
    let ran = on(&stage, &tail_calls(&stage, &[&main, callee], &[(1, 1)]), &[0; 8]);
    assert_eq!((ran.trap, ran.r0, ran.tail_calls), (None, 1007, 1));

    // One hop a subprogram call: the 34th hop of the loop falls through.
    let main = format!(
        "r6 = r1\nr7 = 40\nr8 = 0\nloop: r1 = r6\ncall sub\nr8 += r0\nr7 += -1\nif r7 != 0 goto loop\nr0 = r8\nexit
         sub: r3 = 1\n{JUMP}r0 = 0\nexit"
    );
    let ran = on(&stage, &tail_calls(&stage, &[&main, "r0 = 1\nexit"], &[(1, 1)]), &[0; 8]);
    assert_eq!((ran.trap, ran.r0, ran.tail_calls), (None, 33, 33));
}

#[test]
fn regression_42_an_endless_loop_of_tail_calls_with_loops_between_ends() {
    let stage = Stage::new();
    let spin = format!("r6 = r1\nr7 = 10\nloop: r7 += -1\nif r7 != 0 goto loop\nr1 = r6\nr3 = 0\n{JUMP}goto loop");
    let ran = on(&stage, &tail_calls(&stage, &[&spin], &[(0, 0)]), &[0; 8]);
    assert_eq!(ran.trap.map(|trap| trap.kind), Some(TrapKind::Fuel));
}

#[test]
fn regression_44_a_tail_call_index_is_32_bits() {
    let stage = Stage::new();
    let main = format!("r3 = 0xffffffff00000001 ll\n{JUMP}r0 = 0\nexit");
    let ran = on(&stage, &tail_calls(&stage, &[&main, "r0 = 7\nexit"], &[(1, 1)]), &[0; 8]);
    assert_eq!((ran.trap, ran.r0), (None, 7));
}

#[test]
fn regression_45_a_failed_tail_call_falls_through() {
    let stage = Stage::new();
    for index in ["0", "3", "4", "-1"] {
        let main = format!("r3 = {index}\n{JUMP}r0 += 100\nexit");
        let ran = on(&stage, &tail_calls(&stage, &[&main], &[]), &[0; 8]);
        assert_eq!((ran.trap, ran.r0, ran.tail_calls), (None, 98, 0), "r0 is -ENOENT");
    }
    let loaded = stage.load_raw("r2 = 77\nr3 = 0\ncall 12\nexit");
    assert_eq!(on(&stage, &loaded, &[0; 8]).trap_text(), "insn 2: helper 12: argument 2 is not a program array");
}

#[test]
fn a_tail_call_takes_the_context_alone_whether_or_not_it_falls_through() {
    let stage = Stage::new();
    let text = "insn 5: helper 12: argument 1 is not the context";
    for wrong in ["r1 = r10", "r1 += 8", "r1 = 0", "r1 = 1", "r1 = r2"] {
        for slots_of in [&[(1, 1)][..], &[]] {
            let main = format!("r0 = 0\n{wrong}\nr3 = 1\n{JUMP}r0 = 3\nexit");
            let ran = on(&stage, &tail_calls(&stage, &[&main, "r0 = *(u8 *)(r1 + 0)\nexit"], slots_of), &[0; 8]);
            assert_eq!((ran.trap_text().as_str(), ran.fuel_left, ran.tail_calls), (text, 0, 0), "{wrong}");
        }
    }
    // It is asked for before the array is.
    let loaded = stage.load_raw("r1 = r10\nr2 = 77\nr3 = 0\ncall 12\nexit");
    assert_eq!(on(&stage, &loaded, &[0; 8]).trap_text(), "insn 3: helper 12: argument 1 is not the context");
    // The upper half counts; in a subprogram and in what a helper calls back, it is the context of the run.
    let text = "insn 6: helper 12: argument 1 is not the context";
    let main = format!("r0 = 0\nr4 = 1\nr4 <<= 32\nr1 |= r4\n{JUMP}exit");
    assert_eq!(on(&stage, &tail_calls(&stage, &[&main], &[]), &[0; 8]).trap_text(), text);
    let main = format!("call sub\nr0 += 100\nexit\nsub: r3 = 1\n{JUMP}r0 = 0\nexit");
    let ran = on(&stage, &tail_calls(&stage, &[&main, "r0 = 7\nexit"], &[(1, 1)]), &[0; 8]);
    assert_eq!((ran.trap, ran.r0, ran.tail_calls), (None, 107, 1));
    // Memory of a raw program may be NULL.
    let main = format!("r3 = 1\n{JUMP}r0 = 0\nexit");
    let ran = on(&stage, &tail_calls(&stage, &[&main, "r0 = r1\nexit"], &[(1, 1)]), &[]);
    assert_eq!((ran.trap, ran.r0, ran.tail_calls), (None, 0, 1));
}

#[test]
fn the_function_of_a_timer_has_no_context_to_pass_on() {
    let stage = Stage::new();
    let loaded = stage.load(
        "main",
        ProgramKind::Xdp,
        slots("r2 = code_addr(f)\nr0 = 0\nexit\nf: r1 = 0\nr2 = 77\nr3 = 0\ncall 12\nexit"),
        &[],
    );
    for mode in Mode::ALL {
        let mut run = stage.new_run(ProgramKind::Xdp);
        run.reset(stage.fuel);
        let trap = loaded.run_callback(mode, &mut run, 4, [0; 5]).trap.map(|at| at.trap.to_string());
        assert_eq!(trap.as_deref(), Some("insn 7: helper 12: argument 1 is not the context"), "{mode}");
    }
}

#[test]
fn regression_61_a_slot_that_is_replaced_holds_one_program_or_the_other_whole() {
    const ROUNDS: u32 = 600;
    let stage = Stage::new();
    let main = format!("r3 = 1\n{JUMP}r0 = 3\nexit");
    let loaded = tail_calls(&stage, &[&main, "r0 = 7\nexit"], &[(1, 1)]);
    let map = &loaded.linked().maps()[0].1;
    let array = map.as_program_array().expect("a program array");
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Each is the only one of its kind, so that its code goes when it leaves the slot.
            for round in 0..ROUNDS {
                let other =
                    stage.load("other", ProgramKind::Raw, slots(&format!("r0 = {}\nexit", 10 + round % 2)), &[]);
                let slot = if round % 3 == 0 { None } else { Some(other.slot()) };
                array.replace(1, slot).expect("a slot");
            }
            ended.store(true, Ordering::Release);
        });
        let mut runs = 0;
        while !ended.load(Ordering::Acquire) || runs < ROUNDS {
            for mode in [Mode::Fast, Mode::Instrumented] {
                let ran = stage.run_raw(mode, &loaded, &[]);
                assert_eq!(ran.trap, None);
                assert!([3, 7, 10, 11].contains(&ran.r0), "{mode}: {}", ran.r0);
                runs += 1;
            }
        }
    });
}
