//! Generated programs: every mode and the kernel agree on all that can be seen. `KUMITE_SEEDS` asks for more of them.

use std::collections::BTreeMap;

use kumite::fuzz::{AsksKernel, Campaign, Differential, Form, KernelUse, Oracle, Tally, generate};

use crate::kernel;

/// Programs of the smoke test.
const SEEDS: u64 = 2_000;
/// Those of the kernel's.
const KERNEL_SEEDS: u64 = 300;

fn count(usual: u64) -> u64 {
    std::env::var("KUMITE_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

fn divergences(tally: &Tally) -> Vec<String> {
    tally.catches.iter().map(|catch| format!("seed {}: {}\n{}", catch.seed, catch.divergence, catch.case)).collect()
}

#[test]
fn generated_programs_end_alike_in_every_mode() {
    let count = count(SEEDS);
    let campaign = Campaign { seed: 0, count, time: None, jobs: 2, kernel: KernelUse::Off, catches_max: 1 };
    let tally = campaign.run(None).expect("address space");
    assert_eq!(divergences(&tally), Vec::<String>::new());
    assert_eq!((tally.programs, &tally.unfit), (count, &BTreeMap::new()));
    assert!(tally.traps > count / 8, "only {} of {count} trap: the wild ones are tame", tally.traps);
}

#[test]
fn tame_programs_neither_trap_nor_read_what_they_never_wrote() {
    let mut differential = Differential::new(None).expect("address space");
    for seed in (0..400).filter(|seed| matches!(Form::of(*seed), Form::Kernel | Form::Kumite)) {
        let judgement = differential.judge(&generate(seed), AsksKernel::No).expect("it runs");
        assert_eq!(judgement.verify.findings, [], "seed {seed}");
        // The depth of calls is that of the run, tail-called programs included.
        let text = judgement.verify.trap_text();
        assert!(text.is_empty() || text.contains("calls nest deeper"), "seed {seed}: {text}");
    }
}

#[test]
fn generated_programs_do_in_the_kernel_what_they_do_here() {
    if !kernel::available() {
        return;
    }
    let oracle = Oracle::new(0).expect("the kernel can be asked");
    let mut differential = Differential::new(Some(oracle)).expect("address space");
    let (mut asked, mut accepted) = (0, 0);
    for seed in
        (0..).filter(|seed| Form::of(*seed) == Form::Kernel).take(usize::try_from(count(KERNEL_SEEDS)).expect("few"))
    {
        let case = generate(seed);
        let judgement = differential.judge(&case, AsksKernel::Yes).expect("it runs");
        assert_eq!(judgement.divergence, None, "seed {seed}\n{case}");
        asked += 1;
        accepted += u32::from(judgement.kernel == Some(true));
    }
    assert!(accepted * 10 >= asked * 9, "the kernel accepted {accepted} of {asked}");
}
