//! Kumite's rows under criterion, so that a baseline can be saved and compared with.

use std::time::{Duration, Instant};

use criterion::Criterion;
use kumite::vm::Mode;

use crate::arguments::Statistics;
use crate::bench::Lane;
use crate::machine::Machine;

/// Measures every lane in every mode.
pub(crate) fn run(lanes: &[Lane], asked: &Statistics) {
    let criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(30)
        .without_plots();
    let mut criterion = match asked {
        Statistics::No => return,
        Statistics::Yes => criterion,
        Statistics::Save(name) => criterion.save_baseline(name.clone()),
        Statistics::Compare(name) => criterion.retain_baseline(name.clone(), false),
    };
    for lane in lanes {
        let mut group = criterion.benchmark_group(lane.row.name);
        for mode in Mode::ALL {
            let Ok(mut machine) = Machine::new(lane.row, &lane.instance, mode) else { continue };
            group.bench_function(mode.name(), |bencher| {
                bencher.iter_custom(|runs| {
                    let began = Instant::now();
                    machine.run(runs);
                    began.elapsed()
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
