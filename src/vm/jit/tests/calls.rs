//! Subprograms, tail calls, lookups and packet loads.

use super::*;
use crate::limits::TAIL_CALLS_MAX;
use crate::maps::Errno;
use crate::run::Window;
use crate::trap::TrapKind;

/// A world with a program array at map 0.
fn with_array(slots: u32) -> (Arc<World>, Place, Maps) {
    let world = world();
    let place = Place::new(&world);
    let maps = vec![map(&world, MapKind::PROGRAM_ARRAY, 4, slots)];
    (world, place, maps)
}

fn loaded(world: &Arc<World>, name: &str, text: &str, maps: &Maps) -> Arc<Loaded> {
    Arc::new(Loaded::new(link(world, name, text, maps)))
}

fn put(maps: &Maps, index: u32, program: Option<&Arc<Loaded>>) {
    let array = maps[0].1.as_program_array().expect("a program array");
    array.replace(index, program.map(Loaded::slot)).expect("a slot of the array");
}

/// A tail call to the slot that r3 says.
const TAIL_CALL: &str = "r2 = map_by_idx(0)\ncall 12\n";

#[test]
fn a_tail_call_goes_on_in_another_program_with_its_context_only() {
    let (world, place, maps) = with_array(4);
    let target = loaded(&world, "target", "r0 = r1\nr0 += r2\nr0 += r6\nexit", &maps);
    put(&maps, 2, Some(&target));
    let caller = loaded(&world, "caller", &format!("r6 = 9\nr5 = 5\nr3 = 2\n{TAIL_CALL}r0 = 1\nexit"), &maps);
    let outcome = place.agree(&caller, FUEL_DEFAULT);
    assert_eq!((outcome.r0, outcome.tail_calls), (u64::from(place.memory.addr()), 1));
    assert_eq!(outcome.fuel_left, FUEL_DEFAULT - 8 - 4, "both programs pay for their slots, the call for nothing");
    let mut run = place.new_run(FUEL_DEFAULT);
    caller.run(Mode::Fast, &mut run);
    assert_eq!(run.head.arg2, 64, "the next run finds its second argument");
}

#[test]
fn a_tail_call_to_nothing_falls_through() {
    let (world, place, maps) = with_array(4);
    for index in ["0", "4", "-1", "0x7fffffff"] {
        let caller = loaded(&world, "caller", &format!("r3 = {index}\n{TAIL_CALL}exit"), &maps);
        let outcome = place.agree(&caller, FUEL_DEFAULT);
        assert_eq!((outcome.r0, outcome.tail_calls), (Errno::ENOENT.to_r0(), 0), "{index}");
    }
}

#[test]
fn the_index_of_a_tail_call_has_32_bits() {
    let (world, place, maps) = with_array(4);
    put(&maps, 1, Some(&loaded(&world, "target", "r0 = 8\nexit", &maps)));
    let caller = loaded(&world, "caller", &format!("r3 = 0x700000001 ll\n{TAIL_CALL}r0 = 1\nexit"), &maps);
    assert_eq!(place.agree(&caller, FUEL_DEFAULT).r0, 8);
}

#[test]
fn tail_calls_stop_at_thirty_three() {
    let (world, place, maps) = with_array(1);
    let text = format!(
        "r0 = *(u64 *)(r1 + 0)\nr0 += 1\n*(u64 *)(r1 + 0) = r0\nr6 = r1\nr3 = 0\n{TAIL_CALL}r0 = *(u64 *)(r6 + 0)\nexit"
    );
    let program = loaded(&world, "again", &text, &maps);
    put(&maps, 0, Some(&program));
    let outcome = place.agree(&program, FUEL_DEFAULT);
    assert_eq!((outcome.r0, outcome.tail_calls), (u64::from(TAIL_CALLS_MAX) + 1, TAIL_CALLS_MAX));
    put(&maps, 0, None);
}

#[test]
fn the_count_of_tail_calls_is_shared_with_subprograms() {
    let (world, place, maps) = with_array(2);
    // Each pass tail-calls from a subprogram, which returns here, until the limit.
    put(&maps, 0, Some(&loaded(&world, "leaf", "r0 = 1\nexit", &maps)));
    let text = format!(
        "r6 = r1\nr7 = 0\nr8 = 50\nloop:\nr1 = r6\ncall f\nif r0 != 1 goto +1\nr7 += 1\nr8 += -1\nif r8 != 0 goto loop\nr0 = r7\nexit\n\
         f:\nr3 = 0\n{TAIL_CALL}exit"
    );
    let program = loaded(&world, "main", &text, &maps);
    let outcome = place.agree(&program, FUEL_DEFAULT);
    assert_eq!((outcome.r0, outcome.tail_calls), (33, TAIL_CALLS_MAX));
}

#[test]
fn a_tail_call_in_a_subprogram_keeps_its_frame_and_returns_to_its_caller() {
    let (world, place, maps) = with_array(1);
    put(&maps, 0, Some(&loaded(&world, "leaf", "r0 = r10\nexit", &maps)));
    let text = format!("call f\nr1 = r10\nr1 -= r0\nr0 = r1\nexit\nf:\nr3 = 0\n{TAIL_CALL}exit");
    assert_eq!(place.agree(&loaded(&world, "main", &text, &maps), FUEL_DEFAULT).r0, 512);
}

#[test]
fn an_unknown_map_is_asked_at_run_time() {
    let (world, place, maps) = with_array(2);
    put(&maps, 1, Some(&loaded(&world, "target", "r0 = 8\nexit", &maps)));
    let handle = MapTable::handle(maps[0].0);
    let text = |handle: u64| {
        format!(
            "*(u64 *)(r1 + 0) = 0\nr2 = {handle} ll\nr3 = *(u64 *)(r1 + 0)\nr2 += r3\nr3 = 1\ncall 12\nr0 = 1\nexit"
        )
    };
    assert_eq!(place.agree(&loaded(&world, "main", &text(handle), &maps), FUEL_DEFAULT).r0, 8);
    let trap = place.agree(&loaded(&world, "main", &text(handle + 1), &maps), FUEL_DEFAULT).trap.expect("a trap");
    let expected = TrapKind::HelperArg { helper: 12, arg: 2, expected: "a program array" };
    assert_eq!((trap.trap.kind, trap.trap.pc), (expected, 6));
    let mut maps = maps;
    maps.push(map(&world, MapKind::ARRAY, 8, 1));
    let text = "r2 = map_by_idx(1)\nr3 = 0\ncall 12\nr0 = 1\nexit";
    let trap = place.agree(&loaded(&world, "main", text, &maps), FUEL_DEFAULT).trap.expect("a trap");
    assert_eq!(trap.trap.kind, expected, "an array of values is none");
}

#[test]
fn a_trap_after_a_tail_call_names_the_program_that_trapped() {
    let (world, place, maps) = with_array(1);
    put(&maps, 0, Some(&loaded(&world, "leaf", "r1 = 0\nr0 = *(u8 *)(r1 + 4)\nexit", &maps)));
    let caller = loaded(&world, "caller", &format!("r3 = 0\n{TAIL_CALL}r0 = 1\nexit"), &maps);
    let trap = place.agree(&caller, FUEL_DEFAULT).trap.expect("a trap");
    assert_eq!(trap.to_string(), "leaf insn 1: read at guest address 0x4: not mapped for this");
    let trap = place.agree(&caller, 6).trap.expect("a trap");
    assert_eq!(trap.to_string(), "leaf insn 0: fuel used up: the program ran too long");
}

#[test]
fn a_slot_is_swapped_while_programs_run() {
    let (world, place, maps) = with_array(1);
    let caller = loaded(&world, "caller", &format!("r3 = 0\n{TAIL_CALL}r0 = 3\nexit"), &maps);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..200 {
                let text = format!("r0 = {}\nexit", round % 2 + 1);
                put(&maps, 0, Some(&loaded(&world, "target", &text, &maps)));
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            for mode in [Mode::Fast, Mode::Instrumented] {
                let outcome = place.run(&caller, mode, FUEL_DEFAULT);
                assert!(outcome.trap.is_none() && (1..=3).contains(&outcome.r0), "{outcome:?}");
            }
        }
    });
}

#[test]
fn subprograms_get_their_arguments_and_keep_the_callers_registers() {
    let text = "r1 = 1\nr2 = 2\nr3 = 4\nr4 = 8\nr5 = 16\nr6 = 32\nr7 = 64\nr8 = 128\nr9 = 256\ncall f\n\
                r0 += r6\nr0 += r7\nr0 += r8\nr0 += r9\nr0 += r1\nr0 += r5\nexit\n\
                f:\nr0 += r1\nr0 += r2\nr0 += r3\nr0 += r4\nr0 += r5\nr0 += r6\nr0 += r9\nr6 = 1000\nr9 = 1000\nexit";
    assert_eq!(run(text).r0, 511);
}

#[test]
fn a_subprogram_reaches_its_callers_stack_by_a_pointer_only() {
    let text = "*(u64 *)(r10 - 8) = 5\nr1 = r10\nr1 += -8\ncall f\nr0 += *(u64 *)(r10 - 8)\nexit\n\
                f:\nr2 = *(u64 *)(r1 + 0)\nr2 += 1\n*(u64 *)(r1 + 0) = r2\nr0 = *(u64 *)(r10 - 8)\nexit";
    let text = text.replace("r0 += *(u64 *)(r10 - 8)", "r1 = *(u64 *)(r10 - 8)\nr0 += r1");
    assert_eq!(run(&text).r0, 6, "its own frame is zero");
}

#[test]
fn stack_bytes_that_were_never_written_are_zero_whatever_lay_there() {
    for text in [
        "r0 = *(u64 *)(r10 - 8)\nexit",
        "r0 = *(u64 *)(r10 - 512)\nexit",
        "*(u32 *)(r10 - 8) = 0\nr0 = *(u64 *)(r10 - 8)\nexit",
        "r1 = r10\nr1 += -500\nr1 |= 0\nr0 = *(u64 *)(r1 + 0)\nexit",
        "call f\nexit\nf:\nr0 = *(u64 *)(r10 - 16)\nexit",
        "r1 = r10\ncall f\nexit\nf:\nr0 = *(u64 *)(r1 - 16)\nexit",
    ] {
        assert_eq!(run(text).r0, 0, "{text}");
    }
}

#[test]
fn a_stack_pointer_that_left_the_frame_finds_there_what_was_stored() {
    for (text, expected) in [
        ("*(u64 *)(r10 - 8) = 42\nr3 = r10\nr3 += 8\nr0 = *(u64 *)(r3 - 16)\nexit", 42),
        ("*(u64 *)(r10 - 8) = 42\nr3 = r10\nr3 += -600\n*(u64 *)(r3 + 592) = 7\nr0 = *(u64 *)(r10 - 8)\nexit", 7),
        (
            "*(u64 *)(r10 - 8) = 42\nr3 = r10\nr3 += 8\nr4 = 1\nlock *(u64 *)(r3 - 16) += r4\nr0 = *(u64 *)(r10 - 8)\nexit",
            43,
        ),
    ] {
        assert_eq!(run(text).r0, expected, "{text}");
    }
}

#[test]
fn lookups_in_arrays_give_what_the_helper_gives() {
    for kind in [MapKind::ARRAY, MapKind::PERCPU_ARRAY] {
        let world = world();
        let maps = vec![map(&world, kind, 12, 5)];
        for worker in 0..2 {
            let place = Place { worker: WorkerIndex(worker), ..Place::new(&world) };
            for index in [0u32, 1, 4, 5, u32::MAX] {
                let before = format!("*(u32 *)(r10 - 4) = {}\nr2 = r10\nr2 += -4\n", index.cast_signed());
                let known = loaded(&world, "main", &format!("r1 = map_by_idx(0)\n{before}call 1\nexit"), &maps);
                let found = place.agree(&known, FUEL_DEFAULT).r0;
                let expected = maps[0].1.lookup(WorkerIndex(worker), &index.to_le_bytes()).expect("an array");
                assert_eq!(found, expected.map_or(0, u64::from), "{kind} of worker {worker} at {index}");
            }
        }
    }
}

#[test]
fn a_lookup_compiled_inline_costs_what_a_call_costs_and_clears_the_arguments() {
    let world = world();
    let place = Place::new(&world);
    let maps = vec![map(&world, MapKind::ARRAY, 8, 5)];
    let text = "r2 = r10\nr2 += -4\nr1 = map_by_idx(0)\nr3 = 3\nr4 = 4\nr5 = 5\ncall 1\n\
                r0 = r1\nr0 |= r2\nr0 |= r3\nr0 |= r4\nr0 |= r5\nexit";
    let known = loaded(&world, "main", text, &maps);
    let outcome = place.agree(&known, FUEL_DEFAULT);
    assert_eq!(outcome.r0, 0);
    let used = FUEL_DEFAULT - outcome.fuel_left;
    let trap = place.agree(&known, used - 1).trap.expect("a trap").trap;
    assert_eq!((trap.kind, trap.pc), (TrapKind::Fuel, 0), "at the entry of the function");
}

#[test]
fn packet_loads_are_in_network_order_and_leave_the_function_outside_the_frame() {
    let world = world();
    let place = Place::new(&world);
    let frame: Vec<u8> = (1..=32).collect();
    for (text, expected) in [
        ("r0 = *(u8 *)skb[3]", 4),
        ("r0 = *(u16 *)skb[3]", 0x0405),
        ("r0 = *(u32 *)skb[28]", 0x1d1e_1f20),
        ("r7 = 2\nr0 = *(u16 *)skb[r7 + 3]", 0x0607),
        ("r7 = -2\nr0 = *(u16 *)skb[r7 + 3]", 0x0203),
        ("r0 = *(u8 *)skb[31]\nr0 += r3", 32),
        ("r0 = *(u32 *)skb[29]\nr0 = 9", 0),
        ("r0 = *(u8 *)skb[-1]\nr0 = 9", 0),
        ("call f\nr0 += 3\nexit\nf:\nr0 = *(u8 *)skb[32]\nr0 = 9", 3),
    ] {
        let loaded = loaded(&world, "main", &format!("{text}\nexit"), &Maps::new());
        for mode in Mode::ALL {
            place.memory.write(0, &frame);
            let mut run = place.new_run(FUEL_DEFAULT);
            run.window = Window::new(place.memory.addr(), 4096, 0, 32);
            assert_eq!(loaded.run(mode, &mut run).r0, expected, "{mode}: {text}");
        }
    }
}
