//! One instruction on any operands: the same in every engine.
#![no_main]

use std::cell::RefCell;

use kumite::fuzz::{AsksKernel, Differential, Single, single};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static DIFFERENTIAL: RefCell<Differential> = RefCell::new(Differential::new(None).expect("address space"));
}

fuzz_target!(|given: (u16, u8, u8, i16, i64, [u64; 9])| {
    let (row, dst, src, off, imm, operands) = given;
    let case = single(&Single { row, dst, src, off, imm, operands });
    let judgement = DIFFERENTIAL.with_borrow_mut(|differential| differential.judge(&case, AsksKernel::No));
    assert_eq!(judgement.expect("it is well-formed").divergence, None, "{case}");
});
