//! Windows of time that can be trusted.
//!
//! Machines here are noisy: a window is made of pieces, and a piece counts only where the wall and the thread's own clock agree.

use std::time::Instant;

/// How far wall and thread may differ.
const DIFFERENCE_MAX: f64 = 0.10;

/// What a window showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Nanoseconds a run.
    pub(crate) ns: f64,
    /// Whether nothing else had the processor meanwhile.
    pub(crate) steady: Steady,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steady {
    Yes,
    No,
}

impl Steady {
    /// Whether two clocks agree.
    pub(crate) fn of(wall_ns: f64, thread_ns: f64) -> Self {
        if (wall_ns - thread_ns).abs() <= DIFFERENCE_MAX * wall_ns { Self::Yes } else { Self::No }
    }
}

/// Times something that does `runs` runs.
pub(crate) fn sample(runs: u64, work: impl FnOnce()) -> Sample {
    let thread = thread_ns();
    let began = Instant::now();
    work();
    let wall_ns = began.elapsed().as_secs_f64() * 1e9;
    let thread_ns = thread_ns() - thread;
    Sample { ns: wall_ns / float(runs), steady: Steady::of(wall_ns, thread_ns) }
}

/// What the calling thread has had of a processor, in nanoseconds.
pub(crate) fn thread_ns() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is a live local of the right type.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(answer, 0, "every Linux has the clock");
    signed(time.tv_sec) * 1e9 + signed(time.tv_nsec)
}

/// Makes pieces until so many are steady, or four times as many were made; their median, and how many were not steady.
pub(crate) fn window(pieces: usize, mut piece: impl FnMut() -> Sample) -> (Option<f64>, usize) {
    const TRIES: usize = 4;
    let mut steady = Vec::with_capacity(pieces);
    let mut discarded = 0;
    while steady.len() < pieces && steady.len() + discarded < pieces * TRIES {
        let sample = piece();
        match sample.steady {
            Steady::Yes => steady.push(sample.ns),
            Steady::No => discarded += 1,
        }
    }
    (median(&steady), discarded)
}

/// The middle one; of an even count the mean of both. `None` of none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some(sorted[middle - 1].midpoint(sorted[middle])),
    }
}

/// The geometric mean; `None` of none.
pub(crate) fn geometric_mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().map(|value| value.ln()).sum();
    (!values.is_empty()).then(|| (sum / float(values.len() as u64)).exp())
}

pub(crate) fn float(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^53")]
    let float = count as f64;
    float
}

fn signed(count: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "times of a bench are far below 2^53 nanoseconds")]
    let float = count as f64;
    float
}

/// How many runs fill a window, where one takes `ns`.
pub(crate) fn runs_in(window_ns: f64, ns: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and below 2^53")]
    let runs = (window_ns / ns.max(0.1)) as u64;
    runs.max(1)
}
