//! What a run costs, by mode: an empty program, and a loop over 64 bytes of memory.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kumite::isa;
use kumite::limits::{FUEL_DEFAULT, STACK_LEN};
use kumite::maps::WorkerIndex;
use kumite::program::{Program, RawProgram};
use kumite::run::{Clock, Run, World};
use kumite::verdict::ProgramKind;
use kumite::vm::{Linked, Loaded, Mode};

const PROGRAMS: [(&str, &str); 2] = [
    ("empty", "r0 = 2\nexit"),
    ("sum", "r0 = 0\nr2 = 64\nnext:\nr3 = *(u8 *)(r1 + 0)\nr0 += r3\nr1 += 1\nr2 += -1\nif r2 != 0 goto next\nexit"),
];

fn modes(criterion: &mut Criterion) {
    let world = Arc::new(World::new(1, Clock::Fixed(0), Box::new(|_| {})).expect("address space"));
    let stack = world.cage.alloc_apart(u64::from(STACK_LEN), "a stack").expect("room");
    let memory = world.cage.alloc(64, "memory").expect("room");
    for (name, text) in PROGRAMS {
        let slots = isa::assemble(text).expect("the programs above are well-formed");
        let raw = RawProgram { name: name.to_owned(), slots, ..RawProgram::default() };
        let program = Arc::new(Program::check(raw, ProgramKind::Raw).expect("as above"));
        let linked = Linked::link(program, Arc::clone(&world), Box::default()).expect("it names nothing");
        let loaded = Loaded::new(Arc::new(linked));
        let mut run = Run::new(&world, WorkerIndex(0), ProgramKind::Raw, stack.addr() + STACK_LEN);
        let mut group = criterion.benchmark_group(name);
        for mode in Mode::ALL {
            loaded.translated(mode).expect("small programs are translated");
            group.bench_function(BenchmarkId::from_parameter(mode), |bench| {
                bench.iter(|| {
                    run.reset(FUEL_DEFAULT);
                    run.head.ctx = memory.addr();
                    black_box(loaded.run(mode, &mut run).r0)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, modes);
criterion_main!(benches);
