//! Hostile programs: whatever they try, no byte of the host changes, they end by fuel or a trap, and the process lives.
//! `KUMITE_HOSTILE` asks for more of them, `kumite fuzz --hostile N` for as many as one likes with a whole run's fuel.

use kumite::fuzz::Hostile;
use kumite::vm::Mode;

/// Programs of the smoke test.
const COUNT: u64 = 1000;
/// Fuel of their runs: verify mode takes its time.
const FUEL: u64 = 1 << 15;
/// Slots of programs that are long to translate.
const BULK: usize = 1 << 11;

#[test]
fn hostile_programs_change_nothing_of_the_host_and_end() {
    let count = std::env::var("KUMITE_HOSTILE").ok().and_then(|count| count.parse().ok()).unwrap_or(COUNT);
    let tally = Hostile { seed: 0, count, fuel: FUEL, bulk: BULK }.run().expect("address space");
    assert_eq!(tally.breaches, Vec::<String>::new());
    assert_eq!(tally.programs, count);
    assert!(tally.runs >= 3 * count);
    assert!(tally.traps > tally.runs / 4, "{} of {} trap: they are tame", tally.traps, tally.runs);
    assert!(tally.out_of_fuel > tally.runs / 50, "only {} of {} use their fuel up", tally.out_of_fuel, tally.runs);
    assert!(tally.translations.len() >= 18, "{:?}", tally.translations);
    assert!(tally.attacks.len() >= 14, "{:?}", tally.attacks);
    for mode in Mode::ALL {
        println!("{mode} mode: {:?}", tally.longest(mode));
    }
}
