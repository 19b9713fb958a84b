//! Memory of generated code, and traps of several threads.

use std::sync::Barrier;

use super::*;
use crate::vm::jit::code;

#[test]
fn hundreds_of_loads_leave_no_code_behind() {
    // Other tests hold some code meanwhile, but not this much.
    const LEAK: usize = 1 << 20;
    let world = world();
    let text = format!("{}exit", "*(u64 *)(r1 + 0) = r1\n".repeat(800));
    let linked = link(&world, "main", &text, &Maps::new());
    let place = Place::new(&world);
    let mut loaded = 0;
    for _ in 0..400 {
        let native = Native::<NoHooks>::translate(&linked).expect("translated");
        native.run(&mut place.new_run(FUEL_DEFAULT));
        loaded += native.code_len();
    }
    let (used, regions) = code::usage();
    assert!(loaded > LEAK, "{loaded} bytes are enough to see a leak");
    assert!(used < LEAK && regions <= 2, "{used} bytes in {regions} regions");
}

#[test]
fn programs_lie_side_by_side() {
    let world = world();
    let short =
        || Native::<NoHooks>::translate(&link(&world, "main", "r0 = 0\nexit", &Maps::new())).expect("translated");
    let programs: Vec<_> = (0..50).map(|_| short()).collect();
    let mut near = 0;
    for pair in programs.windows(2) {
        near += usize::from(pair[1].entry().addr().wrapping_sub(pair[0].entry().addr()) <= 128);
    }
    assert!(near > 25, "most of them share pages: {near} of 49");
}

#[test]
fn threads_that_trap_at_once_tell_each_their_own_trap() {
    const THREADS: usize = 4;
    let world = world();
    let barrier = Barrier::new(THREADS);
    let text = "r0 = *(u64 *)(r2 + 0)\nexit";
    let shared = Loaded::new(link(&world, "main", text, &Maps::new()));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (world, shared, barrier) = (&world, &shared, &barrier);
            scope.spawn(move || {
                let place = Place::new(world);
                let own = Loaded::new(link(world, "own", "r3 = 1\nlock *(u64 *)(r3 + 0) += r3\nexit", &Maps::new()));
                let mut run = place.new_run(FUEL_DEFAULT);
                barrier.wait();
                for round in 0..500 {
                    let addr = thread as u64 * 1000 + round;
                    run.reset(FUEL_DEFAULT);
                    run.head.arg2 = addr;
                    let trap = shared.run(Mode::Fast, &mut run).trap.expect("a trap").to_string();
                    assert_eq!(trap, format!("main insn 0: read at guest address {addr:#x}: not mapped for this"));
                    run.reset(FUEL_DEFAULT);
                    let trap = own.run(Mode::Instrumented, &mut run).trap.expect("a trap").to_string();
                    assert_eq!(trap, "own insn 1: atomic operation at misaligned guest address 0x1");
                }
            });
        }
    });
}

#[test]
fn atomic_operations_of_several_threads_lose_nothing() {
    const ROUNDS: u64 = 20_000;
    let world = world();
    let memory = world.cage.alloc(64, "shared").expect("room");
    let text = format!(
        "r6 = {} ll\nr7 = {ROUNDS}\nloop:\nr1 = 1\nlock *(u64 *)(r6 + 0) += r1\nr1 = 1\nr1 = atomic_fetch_add((u64 *)(r6 + 8), r1)\n\
         retry:\nr8 = *(u64 *)(r6 + 16)\nr0 = r8\nr8 += 1\nr9 = r0\nr0 = cmpxchg_64(r6 + 16, r0, r8)\nif r0 != r9 goto retry\n\
         r7 += -1\nif r7 != 0 goto loop\nr0 = 0\nexit",
        memory.addr()
    );
    let loaded = Loaded::new(link(&world, "main", &text, &Maps::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let place = Place::new(&world);
                let outcome = loaded.run(Mode::Fast, &mut place.new_run(u64::MAX));
                assert!(outcome.trap.is_none(), "{outcome:?}");
            });
        }
    });
    let mut after = [0; 24];
    memory.read(0, &mut after);
    assert_eq!(
        after.as_chunks::<8>().0.iter().map(|cell| u64::from_le_bytes(*cell)).collect::<Vec<_>>(),
        [2 * ROUNDS; 3]
    );
}

#[test]
fn a_loop_that_waits_for_another_worker_sees_its_store() {
    let world = world();
    let memory = world.cage.alloc(64, "shared").expect("room");
    let waits = format!("r6 = {} ll\nloop:\nr0 = *(u64 *)(r6 + 0)\nif r0 == 0 goto loop\nexit", memory.addr());
    let loaded = Loaded::new(link(&world, "main", &waits, &Maps::new()));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let place = Place::new(&world);
            loaded.run(Mode::Fast, &mut place.new_run(u64::MAX))
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        memory.write(0, &7u64.to_le_bytes());
        assert_eq!(waiter.join().expect("no panic").r0, 7);
    });
}
