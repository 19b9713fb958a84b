//! Each kind of trap, at its slot.

use super::*;
use crate::limits::{CALL_FRAMES_MAX, FUEL_MAY_GOTO, PAGE_LEN};
use crate::trap::{Access, Fault, TrapKind};

fn memory_trap(pc: usize, addr: i64, len: u64, access: Access) -> Trap {
    Trap { kind: TrapKind::Memory(Fault { addr, len, access }), pc }
}

#[test]
fn a_load_or_store_outside_memory_tells_address_length_and_slot() {
    for (size, len) in [("u8", 1), ("u16", 2), ("u32", 4), ("u64", 8)] {
        let load = format!("r3 = 100\nr0 = *({size} *)(r3 + 23)\nexit");
        assert_eq!(trap(&load), memory_trap(1, 123, len, Access::Read));
        let store = format!("r3 = 100\n*({size} *)(r3 - 23) = r3\nr0 = 0\nexit");
        assert_eq!(trap(&store), memory_trap(1, 77, len, Access::Write));
        let store = format!("r3 = 100\n*({size} *)(r3 + 0) = 7\nr0 = 0\nexit");
        assert_eq!(trap(&store), memory_trap(1, 100, len, Access::Write));
    }
    for (size, len) in [("s8", 1), ("s16", 2), ("s32", 4)] {
        let load = format!("r3 = 100\nr0 = *({size} *)(r3 + 0)\nexit");
        assert_eq!(trap(&load), memory_trap(1, 100, len, Access::Read));
    }
    assert_eq!(
        run("r0 = *(u8 *)(r0 + 0)\nexit").trap.expect("a trap").to_string(),
        "main insn 0: read at guest address 0x0: not mapped for this"
    );
}

#[test]
fn pointers_at_the_cages_edges_trap_and_never_leave_it() {
    for pointer in [0i64, 1, 0x7fff, 0x8000, 0xffff_ffff, 0xffff_fff8, 0xffff_8000, -1, -8, i64::MIN] {
        for off in [-32768i64, -8, -1, 0, 1, 8, 32767] {
            let addr = (pointer & 0xffff_ffff) + off;
            let text = format!("r3 = {pointer} ll\nr0 = *(u64 *)(r3 {off:+})\nexit");
            assert_eq!(trap(&text), memory_trap(2, addr, 8, Access::Read), "{text}");
            let text = format!("r3 = {pointer} ll\n*(u8 *)(r3 {off:+}) = 1\nr0 = 0\nexit");
            assert_eq!(trap(&text), memory_trap(2, addr, 1, Access::Write), "{text}");
        }
    }
}

#[test]
fn the_upper_half_of_a_pointer_does_not_count() {
    let text = "r3 = 0x100000000 ll\nr1 += r3\n*(u32 *)(r1 + 4) = 9\nr0 = *(u32 *)(r1 + 4)\nexit";
    assert_eq!(run(text).r0, 9);
}

#[test]
fn an_access_across_the_end_of_memory_tells_its_first_byte() {
    let world = world();
    let place = Place::new(&world);
    let end = i64::from(place.memory.addr() + PAGE_LEN);
    for (text, back, len, access) in [
        ("r0 = *(u64 *)(r1 + 4093)", 3, 8, Access::Read),
        ("r0 = *(u32 *)(r1 + 4095)", 1, 4, Access::Read),
        ("r0 = *(s16 *)(r1 + 4095)", 1, 2, Access::Read),
        ("*(u64 *)(r1 + 4089) = r1", 7, 8, Access::Write),
        ("*(u32 *)(r1 + 4094) = 1", 2, 4, Access::Write),
        ("r0 = *(u64 *)(r1 + 4096)", 0, 8, Access::Read),
    ] {
        let text = format!("{text}\nr0 += 1\nexit");
        let loaded = Loaded::new(link(&world, "main", &text, &Maps::new()));
        let outcome = place.agree(&loaded, FUEL_DEFAULT);
        assert_eq!(outcome.trap.expect("a trap").trap, memory_trap(0, end - back, len, access), "{text}");
    }
}

#[test]
fn a_load_traps_at_its_own_slot_even_where_its_user_comes_later() {
    let text = "r3 = 8\nr4 = *(u64 *)(r3 + 0)\nr5 = 1\nr5 += 2\nr0 = 7\nr0 += r4\nexit";
    assert_eq!(trap(text).pc, 1);
    let text = "r3 = 8\nr4 = *(u64 *)(r3 + 0)\nr4 += 1\n*(u64 *)(r3 + 0) = r4\nr0 = 0\nexit";
    assert_eq!(trap(text), memory_trap(1, 8, 8, Access::Read));
    let text = "r3 = 8\nr4 = *(u64 *)(r3 + 0)\nr0 = 0\nexit";
    assert_eq!(trap(text).pc, 1, "though nobody uses it");
}

#[test]
fn of_two_stores_to_one_place_the_first_traps() {
    let text = "r3 = 8\n*(u64 *)(r3 + 0) = 1\n*(u64 *)(r3 + 0) = 2\nr0 = 0\nexit";
    assert_eq!(trap(text).pc, 1);
}

#[test]
fn a_store_of_what_was_just_loaded_still_traps_on_a_read_only_page() {
    let world = world();
    let place = Place::new(&world);
    let page = world.cage.alloc(8, "constants").expect("room");
    page.protect(crate::cage::Protect::ReadOnly).expect("protection");
    let addr = page.addr();
    for (text, pc, len) in [
        ("r0 = *(u64 *)(r3 + 0)\n*(u64 *)(r3 + 0) = r0", 3, 8),
        ("r0 = *(u32 *)(r3 + 0)\n*(u32 *)(r3 + 0) = r0", 3, 4),
        ("r0 = *(u64 *)(r3 + 0)\nr0 += 1\n*(u64 *)(r3 + 0) = r0", 4, 8),
        ("r0 = 0\nlock *(u64 *)(r3 + 0) += r0", 3, 8),
        ("r0 = 0\nw0 = atomic_fetch_or((u32 *)(r3 + 0), w0)", 3, 4),
        ("r0 = 5\nr0 = cmpxchg_64(r3 + 0, r0, r3)", 3, 8),
    ] {
        let text = format!("r3 = {addr} ll\n{text}\nexit");
        let loaded = Loaded::new(link(&world, "main", &text, &Maps::new()));
        let trap = place.agree(&loaded, FUEL_DEFAULT).trap.expect("a trap").trap;
        assert_eq!(trap, memory_trap(pc, addr.into(), len, Access::Write), "{text}");
    }
}

#[test]
fn misaligned_atomic_operations_tell_their_address() {
    let world = world();
    let place = Place::new(&world);
    for (text, off) in [
        ("lock *(u64 *)(r1 + 4) += r0", 4),
        ("lock *(u32 *)(r1 + 2) |= w0", 2),
        ("r0 = xchg_64(r1 + 1, r0)", 1),
        ("r0 = cmpxchg_64(r1 + 12, r0, r3)", 12),
        ("r0 = load_acquire((u64 *)(r1 + 4))", 4),
        ("store_release((u32 *)(r1 + 6), w0)", 6),
    ] {
        let text = format!("r0 = 1\n{text}\nexit");
        let loaded = Loaded::new(link(&world, "main", &text, &Maps::new()));
        let trap = place.agree(&loaded, FUEL_DEFAULT).trap.expect("a trap").trap;
        let addr = i64::from(place.memory.addr()) + off;
        assert_eq!(trap, Trap { kind: TrapKind::Misaligned { addr }, pc: 1 }, "{text}");
    }
    let stack = i64::from(place.stack.addr() + STACK_LEN);
    for (text, off) in [("lock *(u64 *)(r10 - 12) += r0", -12), ("r2 = r10\nlock *(u32 *)(r2 - 3) += w0", -3)] {
        let loaded = Loaded::new(link(&world, "main", &format!("{text}\nr0 = 0\nexit"), &Maps::new()));
        let trap = place.agree(&loaded, FUEL_DEFAULT).trap.expect("a trap").trap;
        assert_eq!(trap.kind, TrapKind::Misaligned { addr: stack + off }, "{text}");
    }
}

#[test]
fn alignment_is_checked_before_the_address() {
    assert_eq!(trap("r3 = 9\nlock *(u64 *)(r3 + 0) += r0\nr0 = 0\nexit").kind, TrapKind::Misaligned { addr: 9 });
    assert_eq!(trap("r3 = 16\nlock *(u64 *)(r3 + 0) += r0\nr0 = 0\nexit"), memory_trap(1, 16, 8, Access::Write));
    assert_eq!(trap("r3 = 16\nr0 = load_acquire((u8 *)(r3 + 1))\nexit"), memory_trap(1, 17, 1, Access::Read));
}

/// Runs with every amount of fuel up to what the program needs, and says where it stopped.
fn stops(text: &str) -> Vec<usize> {
    let world = world();
    let place = Place::new(&world);
    let loaded = Loaded::new(link(&world, "main", text, &Maps::new()));
    let needed = FUEL_DEFAULT - place.agree(&loaded, FUEL_DEFAULT).fuel_left;
    let outcome = place.agree(&loaded, needed);
    assert!(outcome.trap.is_none() && outcome.fuel_left == 0, "{needed} is enough and no more than that");
    let stops = (0..needed).map(|fuel| {
        let trap = place.agree(&loaded, fuel).trap.expect("not enough").trap;
        assert_eq!(trap.kind, TrapKind::Fuel);
        trap.pc
    });
    stops.collect()
}

#[test]
fn fuel_is_exact_at_entries_loops_calls_and_helpers() {
    let text = "r6 = 3\nloop:\nr6 += -1\nif r6 != 0 goto loop\nr0 = 0\nexit";
    assert_eq!(stops(text), [0, 0, 0, 0, 0, 2, 2, 2, 2]);
    let text = "r0 = 0\ngoto over\nback:\nr0 = 1\nexit\nover:\nr1 = 0\ngoto back";
    assert_eq!(stops(text), [0, 0, 0, 0, 0, 0, 5, 5, 5, 5]);
    let text = "call f\nr0 += 1\nexit\nf:\nr0 = 1\nexit";
    assert_eq!(stops(text), [0, 0, 0, 3, 3]);
    let helper = stops("call 7\nr0 = 0\nexit");
    assert_eq!(&helper[..3], [0, 0, 0]);
    assert!(helper[3..].iter().all(|pc| *pc == 0), "the helper's cost");
    let text = "r7 = 7\nr1 = 1\ncallx r7\nr0 = 0\nexit";
    assert!(stops(text)[5..].iter().all(|pc| *pc == 2));
}

#[test]
fn endless_loops_end() {
    for text in ["loop:\ngoto loop", "loop:\ngotol loop", "r0 = 0\nif r0 == 0 goto -1\nexit"] {
        let outcome = run(text);
        assert_eq!(outcome.trap.expect("a trap").trap.kind, TrapKind::Fuel, "{text}");
        assert_eq!(outcome.fuel_left, 0);
    }
}

#[test]
fn may_goto_leaves_its_loop_when_fuel_is_short() {
    let text = "r0 = 0\nloop:\nmay_goto done\nr0 += 1\ngoto loop\ndone:\nexit";
    let outcome = run(text);
    assert!(outcome.trap.is_none());
    assert_eq!(outcome.r0, (FUEL_DEFAULT - FUEL_MAY_GOTO - 5) / 3 + 1);
    assert_eq!(run_with(text, FUEL_MAY_GOTO + 4).r0, 0, "short from the start");
    assert_eq!(run_with(text, FUEL_MAY_GOTO + 5).r0, 1);
    let text = "r0 = 0\nr0 += 1\nif r0 > 3 goto done\nmay_goto -3\nr0 = 100\ndone:\nexit";
    assert_eq!(run_with(text, FUEL_MAY_GOTO).r0, 4, "backwards it pays like any jump");
}

#[test]
fn the_deepest_frame_cannot_call() {
    let chain = |calls: usize| {
        let functions: String = (0..calls).map(|index| format!("call f{index}\nexit\nf{index}:\n")).collect();
        format!("{functions}r0 = 77\nexit")
    };
    let deepest = CALL_FRAMES_MAX as usize - 1;
    assert_eq!(run(&chain(deepest)).r0, 77);
    assert_eq!(trap(&chain(deepest + 1)), Trap { kind: TrapKind::CallDepth, pc: 2 * deepest });
    let text = "call f\nexit\nf:\nr0 = 1\ncall f\nexit";
    assert_eq!(trap(text), Trap { kind: TrapKind::CallDepth, pc: 3 });
    assert_eq!(trap("r0 = 0\ncall -2\nexit"), Trap { kind: TrapKind::CallDepth, pc: 1 }, "main calls itself");
}

#[test]
fn helpers_trap_with_their_reason_at_the_call() {
    let expected = Trap { kind: TrapKind::HelperArg { helper: 1, arg: 1, expected: "a map" }, pc: 3 };
    assert_eq!(trap("r1 = 5\nr2 = r10\nr2 += -4\ncall 1\nr0 = 0\nexit"), expected);
    assert_eq!(trap("r6 = 9999\ncallx r6\nexit"), Trap { kind: TrapKind::NoHelper { number: 9999 }, pc: 1 });
    assert_eq!(trap("r6 = 12\ncallx r6\nexit").kind, TrapKind::NoHelper { number: 12 });
    assert_eq!(trap("r6 = -1\ncallx r6\nexit").kind, TrapKind::NoHelper { number: u64::MAX });
}

#[test]
fn a_trap_in_a_subprogram_is_told_at_its_slot() {
    assert_eq!(trap("r6 = 1\ncall f\nexit\nf:\nr3 = 1\nr0 = *(u8 *)(r3 + 0)\nexit").pc, 4);
}

#[test]
fn a_run_after_a_trap_is_as_good_as_before() {
    let world = world();
    let place = Place::new(&world);
    let text = "r0 = *(u8 *)(r1 + 0)\nif r0 == 0 goto bad\nexit\nbad:\nr0 = *(u8 *)(r0 + 0)\nexit";
    let native = Native::<NoHooks>::translate(&link(&world, "main", text, &Maps::new())).expect("translated");
    let mut run = place.new_run(FUEL_DEFAULT);
    for round in 0..1000 {
        let good = round % 3 != 0;
        place.memory.write(0, &[u8::from(good)]);
        run.reset(FUEL_DEFAULT);
        let outcome = native.run(&mut run);
        assert_eq!((outcome.r0, outcome.trap.is_none()), (u64::from(good), good));
    }
}

#[test]
fn a_helper_that_panics_panics_the_run_and_not_the_process() {
    let world = world();
    let place = Place::new(&world);
    let text = "r1 = 0x63696e6170 ll\n*(u64 *)(r10 - 8) = r1\nr1 = r10\nr1 += -8\nr2 = 6\ncall 6\nr0 = 1\nexit";
    let loaded = Loaded::new(link(&world, "main", text, &Maps::new()));
    for mode in Mode::ALL {
        let run = std::panic::AssertUnwindSafe(|| place.run(&loaded, mode, FUEL_DEFAULT));
        let panic = std::panic::catch_unwind(run).expect_err("the sink panics");
        assert_eq!(*panic.downcast_ref::<&str>().expect("its words"), "a sink that fails", "{mode}");
    }
    let fine = Loaded::new(link(&world, "main", "r0 = 3\nexit", &Maps::new()));
    assert_eq!(place.agree(&fine, FUEL_DEFAULT).r0, 3, "the thread runs programs as before");
}
