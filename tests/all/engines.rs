//! Random programs: all modes must agree on result, memory, fuel, trap and pc.

use kumite::isa::random::{Dice, Shape, program};
use kumite::isa::{encode, print};
use kumite::limits::{FUEL_DEFAULT, RUN_CHUNK_LEN};
use kumite::verdict::ProgramKind;
use kumite::vm::{Loaded, Mode};

use crate::stage::{Ran, Stage};

/// Programs of the smoke test; `KUMITE_SEEDS` asks for more.
const SEEDS: u64 = 2_000;

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("KUMITE_SEEDS").ok().and_then(|count| count.parse().ok());
    0..count.unwrap_or(SEEDS)
}

fn shape(seed: u64) -> Shape {
    let mut dice = Dice::new(!seed);
    let functions = 1 + dice.below(4);
    Shape { seed, insns: 10 + dice.below(80), functions, memory_len: 64, ..Shape::default() }
}

/// Runs in every mode and compares; the verify run.
fn agree(stage: &Stage, loaded: &Loaded, offset: u32, memory: &[u8], about: &str) -> Ran {
    let run = |mode| stage.run_raw_at(mode, loaded, offset, memory);
    let verify = run(Mode::Verify);
    for mode in [Mode::Fast, Mode::Instrumented] {
        let other = run(mode);
        if other.essence() != verify.essence() {
            let insns = loaded.linked().program().insns().iter().enumerate();
            let text: Vec<String> = insns.map(|(pc, insn)| format!("{pc}: {}", print(insn, pc))).collect();
            panic!(
                "{about}, fuel {}:\nverify {:x?}\n{mode} {:x?}\n{}",
                stage.fuel,
                verify.essence(),
                other.essence(),
                text.join("\n")
            );
        }
    }
    verify
}

fn memory(dice: &mut Dice, len: usize) -> Vec<u8> {
    (0..len).map(|_| u8::try_from(dice.below(256)).expect("a byte")).collect()
}

#[test]
fn random_programs_end_alike_in_every_mode() {
    let mut stage = Stage::new();
    for seed in seeds() {
        let shape = shape(seed);
        let loaded = stage.load("random", ProgramKind::Raw, encode(&program(&shape)), &[]);
        let mut dice = Dice::new(seed);
        let memory = memory(&mut dice, 64);
        let about = format!("seed {seed}");
        stage.fuel = FUEL_DEFAULT;
        let whole = agree(&stage, &loaded, 0, &memory, &about);
        assert_eq!(whole.trap, None, "{about}: random programs end");
        assert_eq!(whole.findings, [], "{about}: random programs read nothing that was not written");
        let used = FUEL_DEFAULT - whole.fuel_left;
        stage.fuel = used;
        let exact = agree(&stage, &loaded, 0, &memory, &about);
        // `may_goto` looks at the fuel, so with less of it the program may take another way.
        let looks_at_fuel = loaded.linked().insns().iter().any(|insn| insn.does == kumite::isa::Does::MayGoto);
        assert!(exact.trap.is_none() || looks_at_fuel, "{about}: {used} is enough");
        for _ in 0..3 {
            stage.fuel = dice.below(usize::try_from(used).expect("small") + 1) as u64;
            agree(&stage, &loaded, 0, &memory, &about);
        }
    }
}

#[test]
fn random_programs_trap_alike_where_memory_ends_or_is_misaligned() {
    let stage = Stage::new();
    let mut traps = 0;
    for seed in seeds().step_by(4) {
        let loaded = stage.load("random", ProgramKind::Raw, encode(&program(&shape(seed))), &[]);
        let mut dice = Dice::new(seed);
        let memory = memory(&mut dice, 64);
        let short = RUN_CHUNK_LEN - 8 * u32::try_from(dice.below(8)).expect("small");
        for offset in [short, short - 3, 1 + u32::try_from(dice.below(7)).expect("small")] {
            let ran = agree(&stage, &loaded, offset, &memory, &format!("seed {seed} at offset {offset}"));
            traps += u32::from(ran.trap.is_some());
        }
    }
    assert!(traps > 0, "some of them trap");
}
