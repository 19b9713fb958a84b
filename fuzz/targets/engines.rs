//! A generated case with slots of its first program changed: refused for its form, or the same in every engine.
#![no_main]

use std::cell::RefCell;

use kumite::fuzz::{AsksKernel, Differential, generate};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static DIFFERENTIAL: RefCell<Differential> = RefCell::new(Differential::new(None).expect("address space"));
}

fuzz_target!(|given: (u32, Vec<(u16, [u8; 8])>)| {
    let (seed, changes) = given;
    let mut case = generate(seed.into());
    case.fuel = Some(1 << 14);
    let slots = &mut case.programs[0].slots;
    let count = slots.len();
    changes.iter().for_each(|(at, slot)| slots[usize::from(*at) % count] = *slot);
    if let Ok(judgement) = DIFFERENTIAL.with_borrow_mut(|differential| differential.judge(&case, AsksKernel::No)) {
        assert_eq!(judgement.divergence, None, "{case}");
    }
});
