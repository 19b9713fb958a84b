//! Programs of packet work on kumite's three modes, the kernel's translator, rbpf's three engines and as native code.
//!
//! Every engine must leave the same value and the same frame before any is timed. Rounds go from engine to engine; what
//! counts are medians, net of the empty program on the same engine, over windows in which the thread had its processor.
//! The table is printed and written as JSON to `target/jit/table.json`. See [`arguments::USAGE`] for the options.

mod arguments;
mod bench;
mod build;
mod clock;
mod dump;
mod engine;
mod entry;
mod kernel_engine;
mod loads;
mod low_memory;
mod machine;
mod native;
mod probe;
mod rbpf_engines;
mod reach;
mod rows;
mod statistics;
mod table;
mod tables;
mod translation;
#[cfg(feature = "unguarded")]
mod unguarded;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kumite::vm::Mode;
use serde_json::json;

use arguments::{Arguments, Care, Task, USAGE};
use bench::{Effort, Lane};
use engine::Absent;
use machine::Machine;
use rows::{EMPTY, ROWS};
use table::{Measured, Table};

/// Loads and unloads.
const LOADS: u32 = 10_000;
const LOADS_QUICK: u32 = 500;
/// The program that is loaded again and again.
const LOADED: &str = "parse";

fn main() -> ExitCode {
    let Some(arguments) = Arguments::read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let Some(clang) = build::clang() else {
        println!("nothing is measured: there is no clang to build the programs with; install clang-19");
        return ExitCode::SUCCESS;
    };
    match bench(&arguments, clang) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments, clang: &str) -> Result<(), Absent> {
    let loads = || -> Result<loads::Loads, Absent> {
        let row = ROWS.iter().find(|row| row.name == LOADED).expect("it is in the list");
        let count = if arguments.care == Care::Quick { LOADS_QUICK } else { LOADS };
        Ok(loads::run(&build::build(clang, row)?.object, count))
    };
    if arguments.task == Task::Loads {
        loads()?.print();
        return Ok(());
    }
    let mut lanes = Vec::new();
    for row in ROWS.iter().filter(|row| row.name == EMPTY || arguments.wants(row.name)) {
        let mut lane = Lane::new(row, build::build(clang, row)?)?;
        lane.check();
        lanes.push(lane);
    }
    match arguments.task {
        Task::Check | Task::Loads => {
            println!("{} programs do the same on every engine", lanes.len());
            return Ok(());
        }
        Task::Dump => return lanes.iter().try_for_each(|lane| dump::write(lane, &folder())),
        Task::Measure => {}
    }

    let effort = Effort::of(arguments.care);
    let mut table = Table::default();
    let (empty, rest) = lanes.split_first_mut().expect("the empty program is always there");
    // Beside a lane of its own, as it is compared with itself.
    let mut beside = Lane::new(empty.row, build::build(clang, empty.row)?)?;
    for lane in std::iter::once(&mut *empty).chain(rest) {
        eprint!("\r{:<20}", lane.row.name);
        let cells = bench::measure(lane, &mut beside, effort).into_iter().collect();
        let steps = Machine::new(lane.row, &lane.instance, Mode::Verify)?.steps();
        table.rows.push(Measured { row: lane.row, cells, steps });
    }
    eprint!("\r{:<20}\r", "");
    let entry = entry::measure(&lanes[0], arguments.care);
    let translations: Vec<_> = lanes.iter().map(translation::of).collect();
    let loads = arguments.wants_all().then(loads).transpose()?;
    let goals = reach::goals(&reach::Measurements {
        table: &table,
        entry: entry.as_ref().ok().copied(),
        per_insn: translation::per_insn(&translations),
        loads,
    });

    table.print();
    match &entry {
        Ok(entry) => entry.print(),
        Err(why) => println!("entry: {why}"),
    }
    translation::print(&translations);
    if let Some(loads) = &loads {
        loads.print();
    }
    reach::print(&goals);
    let all = json!({
        "table": table.json(),
        "entry": entry.as_ref().ok().map(entry::Entry::json),
        "translation": translation::json(&translations),
        "loads": loads.as_ref().map(loads::Loads::json),
        "goals": reach::json(&goals),
    });
    write(&all)?;
    statistics::run(&lanes, &arguments.statistics);
    Ok(())
}

/// Where results go.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("jit")
}

/// Writes the JSON beside the other files of the build.
fn write(all: &serde_json::Value) -> Result<(), Absent> {
    let folder = folder();
    std::fs::create_dir_all(&folder).map_err(Absent::because)?;
    let path = folder.join("table.json");
    let text = serde_json::to_string_pretty(all).map_err(Absent::because)?;
    std::fs::write(&path, text + "\n").map_err(Absent::because)?;
    println!("\n{}", path.display());
    Ok(())
}
