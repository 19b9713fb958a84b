//! Memory of generated code, and traps of several threads.

use std::sync::Barrier;

use crossbeam::epoch;

use super::*;
use crate::elf::{Object, ObjectMap};
use crate::vm::Instance;
use crate::vm::jit::code;

#[test]
fn regression_60_hundreds_of_loads_leave_no_code_behind() {
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
fn a_loop_that_waits_for_another_worker_sees_its_stores() {
    // So often that the loop goes round between a store and its answer at least once.
    const ROUNDS: u64 = 10_000;
    let world = world();
    let memory = world.cage.alloc(64, "shared").expect("room");
    let text = format!(
        "r6 = {} ll\nr7 = 0\nloop:\nr0 = *(u64 *)(r6 + 0)\nif r0 == r7 goto loop\nr7 = r0\n*(u64 *)(r6 + 8) = r7\n\
         if r7 != {ROUNDS} goto loop\nexit",
        memory.addr()
    );
    let loaded = Loaded::new(link(&world, "main", &text, &Maps::new()));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let place = Place::new(&world);
            // A loop that looks once only ends by fuel.
            loaded.run(Mode::Fast, &mut place.new_run(1 << 34))
        });
        let answer = || {
            let mut bytes = [0; 8];
            memory.read(8, &mut bytes);
            u64::from_le_bytes(bytes)
        };
        for round in 1..=ROUNDS {
            memory.write(0, &round.to_le_bytes());
            while answer() != round && !waiter.is_finished() {
                std::hint::spin_loop();
            }
        }
        let outcome = waiter.join().expect("no panic");
        assert!(outcome.trap.is_none(), "{outcome:?}");
        assert_eq!((outcome.r0, answer()), (ROUNDS, ROUNDS));
    });
}

#[test]
fn an_object_whose_program_is_in_an_array_that_it_uses_leaves_nothing_behind() {
    const LEAK: usize = 1 << 20;
    const LOADS: usize = 1000;
    let world = world();
    let stores: String = (0..200).map(|word| format!("*(u64 *)(r1 + {}) = r1\n", 8 * word)).collect();
    let text = format!("{stores}r2 = map_by_idx(0)\nr3 = 0\ncall 12\nr0 = 0\nexit");
    let raw = RawProgram { name: "main".to_owned(), slots: slots(&text), ..RawProgram::default() };
    let program = Arc::new(Program::check(raw, ProgramKind::Raw).unwrap_or_else(|rejection| panic!("{rejection}")));
    let map = |name: &str, kind, value_len, max_entries| {
        ObjectMap::new(MapDef { name: name.to_owned(), kind, key_len: 4, value_len, max_entries, ..MapDef::default() })
    };
    let mut jumps = map("jumps", MapKind::PROGRAM_ARRAY, 4, 1024);
    jumps.slots = vec![(0, "main".to_owned()), (1023, "main".to_owned())];
    let object = Object {
        name: "circle.o".to_owned(),
        programs: vec![program],
        refused: Vec::new(),
        // A thousand of these do not fit into the cage.
        maps: vec![jumps, map("large", MapKind::ARRAY, 8, 1 << 20), map("flows", MapKind::HASH, 8, 1000)],
        refused_maps: Vec::new(),
        license: None,
        btf: None,
    };
    for load in 0..LOADS {
        let instance = Instance::load(&world, &object).unwrap_or_else(|error| panic!("{load}: {error}"));
        let array = instance.map("jumps").expect("it has one").as_program_array().expect("a program array");
        assert!(array.slot(1023, &epoch::pin()).is_some());
        let program = Arc::downgrade(&instance.programs()[0]);
        assert!(world.maps.budget().used() > 0);
        drop(instance);
        // Other tests hold guards for as long as their runs take.
        while world.maps.budget().used() > 0 || program.upgrade().is_some() {
            epoch::pin().flush();
            std::thread::yield_now();
        }
    }
    let maps: Maps = object.maps.iter().map(|own| map_of(&world, &own.def)).collect();
    let code_len = Native::<NoHooks>::translate(&link(&world, "main", &text, &maps)).expect("translated").code_len();
    assert!(code_len * LOADS > LEAK, "{code_len} bytes a load and more are enough to see a leak");
    let (used, regions) = code::usage();
    assert!(used < LEAK && regions <= 2, "{used} bytes in {regions} regions");
}

#[test]
fn machine_code_is_read_as_it_was_translated() {
    let world = world();
    let text = "r0 = 0x12345678\nexit";
    let native = Native::<NoHooks>::translate(&link(&world, "main", text, &Maps::new())).expect("translated");
    let code = native.machine_code();
    assert_eq!(code.len(), native.code_len());
    let constant = 0x1234_5678u32.to_le_bytes();
    assert!(code.windows(4).any(|bytes| bytes == constant), "{code:x?}");
}
