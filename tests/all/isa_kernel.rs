//! Random programs and the kernel: the same verdicts on what needs no data flow.

use kumite::isa::random::{Dialect, Dice, Shape, program};
use kumite::isa::{Does, Row, encode};
use kumite::program::{Program, RawProgram, Rejection, disassemble};
use kumite::verdict::ProgramKind;

use crate::kernel::{self, KernelProgram};

/// Programs of the test.
const SEEDS: u64 = 500;

fn shape(seed: u64, insns: usize) -> Shape {
    let functions = 1 + usize::try_from(seed % 3).expect("below 3");
    Shape { seed, insns, functions, memory_len: 0, dialect: Dialect::Kernel, ..Shape::default() }
}

fn load(slots: &[[u8; 8]]) -> Result<KernelProgram, kernel::Refused> {
    KernelProgram::load(KernelProgram::SOCKET_FILTER, 0, slots, "GPL")
}

/// What the verifier says of programs that have the wrong form, whatever their data.
const FORM_MESSAGES: [&str; 7] = [
    "reserved fields",
    "unknown opcode",
    "jump out of range",
    "not an exit or jmp",
    "is invalid",
    "frame pointer is read only",
    "into the middle of ldimm64",
];

/// Whether a rejection speaks of one instruction only. The verifier does not look at instructions that it proves dead.
fn is_of_one_instruction(rejection: &Rejection) -> bool {
    matches!(rejection, Rejection::Form { .. } | Rejection::Unsupported { .. } | Rejection::WritesFramePointer { .. })
}

#[test]
fn damaged_programs_are_refused_for_their_form_where_the_kernel_refuses_them_for_it() {
    if !kernel::available() {
        return;
    }
    let mut dice = Dice::new(3);
    let mut both = 0;
    for seed in 0..SEEDS {
        // A damaged loop can cost the verifier a second, so there are none.
        let rows = |row: &Row| !matches!(row.does, Does::Goto | Does::GotoLong);
        let mut slots = encode(&program(&Shape { rows, ..shape(seed, 12) }));
        let (slot, byte) = (dice.below(slots.len()), dice.below(8));
        slots[slot][byte] ^= 1 << dice.below(8);
        let raw = RawProgram { name: "damaged".into(), slots: slots.clone(), ..RawProgram::default() };
        match (Program::check(raw, ProgramKind::SocketFilter), load(&slots)) {
            (Ok(_), Ok(_)) => both += 1,
            (Err(rejection), Ok(_)) => assert!(is_of_one_instruction(&rejection), "seed {seed}: {rejection}"),
            (Ok(program), Err(refused)) => {
                let form = FORM_MESSAGES.iter().find(|message| refused.log.contains(**message));
                assert_eq!(form, None, "seed {seed}: {}\n{}", refused.log, disassemble(&program));
            }
            (Err(_), Err(_)) => {}
        }
    }
    assert!(both > 100, "only {both} damaged programs were accepted by both: the test tests little");
}
