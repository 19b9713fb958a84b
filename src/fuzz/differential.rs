//! One case in every engine and in the kernel, compared.

use std::fmt;

use super::bench::{Bench, BenchError, Elements, Ran};
use super::{Case, Oracle};
use crate::isa::random::Dice;
use crate::kernel::KernelError;
use crate::limits::FUEL_DEFAULT;
use crate::report::to_hex;
use crate::trap::TrapKind;
use crate::vm::Mode;

/// Runs with less fuel beside the first, for each case.
const SHORT_RUNS: usize = 3;

/// Something that two sides did differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// What: `r0`, `trap`, `memory`, a map's element, ...
    pub part: String,
    /// The fuel of the runs, where it is not the case's.
    pub fuel: Option<u64>,
    /// Who is held to be right, and what it has.
    pub reference: (&'static str, String),
    /// Who differs, and what it has.
    pub other: (&'static str, String),
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(reference, theirs), (other, ours)] = [&self.reference, &self.other];
        write!(f, "{}: {reference} has {theirs}, {other} has {ours}", self.part)?;
        self.fuel.map_or(Ok(()), |fuel| write!(f, " (fuel {fuel})"))
    }
}

/// What came of a case.
#[derive(Debug)]
pub struct Judgement {
    /// Verify mode's run with the case's fuel.
    pub verify: Ran,
    /// Whether the kernel accepted and ran it; `None` where it was not asked.
    pub kernel: Option<bool>,
    /// Why the kernel refused it, where it did.
    pub refusal: Option<String>,
    /// The first thing that differs.
    pub divergence: Option<Divergence>,
}

/// Compares.
#[derive(Debug)]
pub struct Differential {
    bench: Bench,
    oracle: Option<Oracle>,
}

/// How the kernel is called among the sides.
pub(super) const KERNEL: &str = "kernel";

/// The mode that the others are compared with.
const REFERENCE: Mode = Mode::Verify;

impl Differential {
    /// A differential with a bench of its own, and the kernel where there is an oracle.
    ///
    /// # Errors
    /// [`BenchError::Cage`].
    pub fn new(oracle: Option<Oracle>) -> Result<Self, BenchError> {
        Ok(Self { bench: Bench::new()?, oracle })
    }

    /// Runs a case in every mode, again with less fuel, and in the kernel where `asks_kernel`.
    ///
    /// What engines do differently on one bench they must do differently on benches of their own as well: where an element
    /// of a map lies, and what a wild program left elsewhere, depends on the runs before.
    ///
    /// # Errors
    /// [`BenchError`] where the case cannot be run here.
    pub fn judge(&mut self, case: &Case, asks_kernel: AsksKernel) -> Result<Judgement, BenchError> {
        let scene = self.bench.set(case)?;
        let (mut verify, mut divergence) = compare(case, &mut |mode, fuel| scene.run(mode, fuel))?;
        if divergence.is_some() {
            (verify, divergence) = compare(case, &mut |mode, fuel| Bench::new()?.set(case)?.run(mode, fuel))?;
        }
        let mut judgement = Judgement { verify, kernel: None, refusal: None, divergence };
        let oracle = self.oracle.as_mut().filter(|_| asks_kernel == AsksKernel::Yes && Oracle::takes(case));
        if let Some(oracle) = oracle.filter(|_| judgement.divergence.is_none()) {
            match oracle.ask(case, scene.programs()) {
                Ok(answer) => {
                    judgement.kernel = Some(true);
                    let found = answer.differs(case, &judgement.verify);
                    judgement.divergence = found.map(|(part, theirs, ours)| Divergence {
                        part,
                        fuel: None,
                        reference: (KERNEL, theirs),
                        other: (REFERENCE.name(), ours),
                    });
                }
                Err(error @ (KernelError::Program { .. } | KernelError::Run { .. })) => {
                    judgement.kernel = Some(false);
                    judgement.refusal = Some(error.to_string());
                }
                Err(
                    error @ (KernelError::Unavailable { .. }
                    | KernelError::Map { .. }
                    | KernelError::Types { .. }
                    | KernelError::Kind { .. }),
                ) => judgement.refusal = Some(error.to_string()),
            }
        }
        Ok(judgement)
    }
}

/// Runs a case by mode and fuel.
type Runner<'a> = &'a mut dyn FnMut(Mode, Option<u64>) -> Result<Ran, BenchError>;

/// Runs a case in every mode, and again with less fuel. Verify mode's run, and the first thing that differs.
fn compare(case: &Case, run: Runner<'_>) -> Result<(Ran, Option<Divergence>), BenchError> {
    let verify = run(REFERENCE, None)?;
    for mode in [Mode::Fast, Mode::Instrumented] {
        let other = run(mode, None)?;
        if let Some(found) = differ(&verify, mode, &other, case, None) {
            return Ok((verify, Some(found)));
        }
    }
    let full = case.fuel.unwrap_or(FUEL_DEFAULT);
    let used = full - verify.fuel_left;
    let mut dice = Dice::new(used);
    let ran_dry = verify.trap.is_some_and(|trap| trap.kind == TrapKind::Fuel);
    if ran_dry || dice.once_in(2) {
        return Ok((verify, None));
    }
    // After another trap, what was used is not known.
    let (exact, bound) = match verify.trap {
        Some(_) => (Vec::new(), full.min(512)),
        None => (vec![used, used.saturating_sub(1)], used),
    };
    let bound = usize::try_from(bound).expect("the most fuel of a run fits a usize") + 1;
    let chosen: Vec<u64> = (0..SHORT_RUNS).map(|_| dice.below(bound) as u64).collect();
    for fuel in exact.into_iter().chain(chosen) {
        let short = run(REFERENCE, Some(fuel))?;
        let mode = dice.pick(&[Mode::Fast, Mode::Instrumented]);
        let other = run(mode, Some(fuel))?;
        if let Some(found) = differ(&short, mode, &other, case, Some(fuel)) {
            return Ok((verify, Some(found)));
        }
    }
    Ok((verify, None))
}

/// Whether the kernel is to be asked about a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsksKernel {
    /// Where there is an oracle.
    Yes,
    /// It would refuse it anyway, or it is not worth its time.
    No,
}

/// The first thing that a mode did otherwise than verify mode.
fn differ(verify: &Ran, mode: Mode, other: &Ran, case: &Case, fuel: Option<u64>) -> Option<Divergence> {
    let (part, theirs, ours) = first_difference(verify, other, case)?;
    Some(Divergence { part, fuel, reference: (REFERENCE.name(), theirs), other: (mode.name(), ours) })
}

fn first_difference(verify: &Ran, other: &Ran, case: &Case) -> Option<(String, String, String)> {
    let trap = |ran: &Ran| ran.trap.map(|trap| (trap, ran.trapped_in.clone()));
    let told = |part: &str, theirs: String, ours: String| Some((part.to_owned(), theirs, ours));
    if trap(verify) != trap(other) {
        let text = |ran: &Ran| Some(ran.trap_text()).filter(|text| !text.is_empty()).unwrap_or("none".to_owned());
        return told("trap", text(verify), text(other));
    }
    for (part, theirs, ours) in [
        ("r0", verify.r0, other.r0),
        ("fuel left", verify.fuel_left, other.fuel_left),
        ("tail calls", verify.tail_calls.into(), other.tail_calls.into()),
    ] {
        if theirs != ours {
            return told(part, format!("{theirs:#x}"), format!("{ours:#x}"));
        }
    }
    for (part, theirs, ours) in
        [("memory", &verify.memory, &other.memory), ("context", &verify.context, &other.context)]
    {
        if theirs != ours {
            return told(part, to_hex(theirs), to_hex(ours));
        }
    }
    if verify.redirect != other.redirect {
        return told("redirect", format!("{:?}", verify.redirect), format!("{:?}", other.redirect));
    }
    if verify.lines != other.lines {
        return told("lines", verify.lines.join("; "), other.lines.join("; "));
    }
    let maps = verify.maps.iter().zip(&other.maps).zip(&case.maps);
    maps.into_iter().find_map(|((theirs, ours), map)| elements_differ(&map.def.name, theirs, ours))
}

/// The first element that two sides of a map do not share.
pub(super) fn elements_differ(map: &str, theirs: &Elements, ours: &Elements) -> Option<(String, String, String)> {
    let text = |element: Option<&(Vec<u8>, Vec<u8>)>| {
        element.map_or("nothing".to_owned(), |(key, value)| format!("{}={}", to_hex(key), to_hex(value)))
    };
    (0..theirs.len().max(ours.len()))
        .map(|at| (theirs.get(at), ours.get(at)))
        .find(|(theirs, ours)| theirs != ours)
        .map(|(theirs, ours)| (format!("map {map}"), text(theirs), text(ours)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_element_lies_is_no_divergence() {
        let case = Case::parse(
            "-- map hash hash 8 16 6\n-- element hash 0400000000000000\n00*16\n-- asm main\n*(u64 *)(r10 - 8) = 4\n\
             r1 = map_by_idx(0)\nr2 = r10\nr2 += -8\ncall 1\nexit",
        );
        let case = case.expect("a case");
        let mut differential = Differential::new(None).expect("address space");
        let judgement = differential.judge(&case, AsksKernel::No).expect("it runs");
        assert_eq!(judgement.divergence, None);
        assert_ne!(judgement.verify.r0, 0, "an address");
    }
}
