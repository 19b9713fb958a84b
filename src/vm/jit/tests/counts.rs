//! What instrumented mode counts.

use super::*;
use crate::vm::jit::{HelperCount, TailCallCount};

#[test]
fn every_slot_is_counted_by_every_worker() {
    let world = world();
    let text =
        "r6 = 3\nloop:\nr6 += -1\nif r6 != 0 goto loop\nif r1 == 0 goto never\nr0 = 1 ll\nexit\nnever:\nr0 = 2\nexit";
    let loaded = Loaded::new(link(&world, "main", text, &Maps::new()));
    for worker in [0, 1, 1] {
        let place = Place { worker: WorkerIndex(worker), ..Place::new(&world) };
        place.run(&loaded, Mode::Instrumented, FUEL_DEFAULT);
        place.run(&loaded, Mode::Fast, FUEL_DEFAULT);
    }
    let counts = loaded.counts().expect("translated");
    assert_eq!(counts.executed, [3, 9, 9, 3, 3, 0, 3, 0, 0]);
}

#[test]
fn workers_that_run_at_once_lose_no_count() {
    const ROUNDS: u64 = 5_000;
    let world = world();
    let loaded = Loaded::new(link(&world, "main", "r0 = 0\nexit", &Maps::new()));
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (world, loaded) = (&world, &loaded);
            scope.spawn(move || {
                let place = Place { worker: WorkerIndex(worker), ..Place::new(world) };
                let mut run = place.new_run(FUEL_DEFAULT);
                for _ in 0..ROUNDS {
                    run.reset(FUEL_DEFAULT);
                    loaded.run(Mode::Instrumented, &mut run);
                }
            });
        }
    });
    assert_eq!(loaded.counts().expect("translated").executed, [2 * ROUNDS; 2]);
}

#[test]
fn a_worker_beyond_the_world_counts_as_its_last() {
    let world = world();
    let loaded = Loaded::new(link(&world, "main", "r0 = 0\nexit", &Maps::new()));
    let place = Place { worker: WorkerIndex(u32::MAX), ..Place::new(&world) };
    place.run(&loaded, Mode::Instrumented, FUEL_DEFAULT);
    assert_eq!(loaded.counts().expect("translated").executed, [1, 1]);
}

#[test]
fn helpers_and_tail_calls_are_counted_at_their_slots() {
    let world = world();
    let place = Place::new(&world);
    let maps = vec![map(&world, MapKind::PROGRAM_ARRAY, 4, 2)];
    let leaf = Arc::new(Loaded::new(link(&world, "leaf", "call 7\nr0 = 0\nexit", &maps)));
    maps[0].1.as_program_array().expect("a program array").replace(1, Some(leaf.slot())).expect("a slot");
    let text = "r3 = *(u64 *)(r1 + 0)\nr2 = map_by_idx(0)\ncall 12\nr0 = 0\nexit";
    let caller = Loaded::new(link(&world, "caller", text, &maps));
    for index in [0, 1, 1, 7] {
        place.memory.write(0, &u64::to_le_bytes(index));
        let mut run = place.new_run(FUEL_DEFAULT);
        let outcome = caller.run(Mode::Instrumented, &mut run);
        let taken = index == 1;
        assert_eq!(outcome.insns, Some(if taken { 3 + 3 } else { 5 }));
        let last = if taken { leaf.linked().id() } else { caller.linked().id() };
        assert_eq!(run.head.program, u64::from(last));
    }
    let counts = caller.counts().expect("translated");
    assert_eq!(counts.tail_calls, [TailCallCount { pc: 3, taken: 2, fell_through: 2 }]);
    assert_eq!(counts.executed, [4, 4, 0, 4, 2, 2]);
    assert_eq!(leaf.counts().expect("translated").helpers, [HelperCount { pc: 0, helper: 7, count: 2 }]);
}

#[test]
fn fast_mode_counts_nothing() {
    let world = world();
    let native = Native::<NoHooks>::translate(&link(&world, "main", "r0 = 0\nexit", &Maps::new()));
    let native = native.expect("translated");
    let counting = Native::<Counting>::translate(&link(&world, "main", "r0 = 0\nexit", &Maps::new()));
    assert!(native.code_len() < counting.expect("translated").code_len());
    let place = Place::new(&world);
    assert_eq!(native.run(&mut place.new_run(FUEL_DEFAULT)).insns, None);
}

#[test]
fn runs_that_a_tail_call_leads_to_are_counted_where_the_mode_counts() {
    let world = world();
    let place = Place::new(&world);
    let maps = vec![map(&world, MapKind::PROGRAM_ARRAY, 4, 1)];
    // Goes on in itself twice.
    let text = "r3 = 0\nr2 = map_by_idx(0)\nr0 = *(u64 *)(r1 + 0)\nr0 += 1\n*(u64 *)(r1 + 0) = r0\nif r0 > 2 goto +1\n\
                call 12\nr0 = 0\nexit";
    let leaf = Arc::new(Loaded::new(link(&world, "leaf", text, &maps)));
    maps[0].1.as_program_array().expect("a program array").replace(0, Some(leaf.slot())).expect("a slot");
    let text = "r3 = 0\nr2 = map_by_idx(0)\ncall 12\nr0 = 0\nexit";
    let caller = Loaded::new(link(&world, "caller", text, &maps));
    let mut expected = 0;
    for (mode, counts) in [(Mode::Fast, 0), (Mode::Instrumented, 1), (Mode::Verify, 1)] {
        let tail_calls = place.run(&caller, mode, FUEL_DEFAULT).tail_calls;
        assert_eq!(tail_calls, 3);
        expected += counts * 3;
        assert_eq!((leaf.tail_runs(), caller.tail_runs()), (expected, 0), "{mode}");
        // A run that begins in it is none of a tail call, and one that cannot pay for its entry does not begin.
        assert_eq!(place.run(&leaf, mode, FUEL_DEFAULT).tail_calls, 2);
        expected += counts * 2;
        assert!(place.run(&caller, mode, 7).trap.is_some());
        assert_eq!(leaf.tail_runs(), expected, "{mode}");
    }
}
