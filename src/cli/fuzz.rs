//! `kumite fuzz`: random programs in every engine and in the kernel, compared; and a user's program on random frames.
//!
//! Invariant: changes nothing on the machine but the folder that it is told to write to.

use std::collections::BTreeSet;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::given::{self, PresetPlace};
use super::table::{counted, grouped};
use super::{CliError, Exit, Out, object_file, one_line};
use crate::fuzz::{
    self, AsksKernel, BenchError, Campaign, CampaignError, Case, Differential, Hostile, Hunt, KernelUse, Listener,
    Oracle, Progress, Tally,
};
use crate::limits::{FUEL_HOST, TRANSLATE_SLOTS_MAX};
use crate::report::{Capture, CapturedFrame, RunRequest};
use crate::verdict::Verdict;
use crate::vm::Mode;

/// Most bytes of a case file.
const CASE_LEN_MAX: u64 = 16 << 20;
/// From one word on the progress to the next.
const PROGRESS: Duration = Duration::from_secs(10);
/// Seconds where nothing is said.
const SECONDS: u64 = 10;
/// Divergences after which it ends.
const CATCHES_MAX: usize = 8;
/// Reasons for refusals that are told.
const REASONS_MAX: usize = 12;

/// Run random programs in every mode and in the kernel and compare, or a program of yours on random frames
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(super) struct Args {
    /// Object file whose program is run on random frames
    #[arg(conflicts_with_all = ["case", "kernel", "jobs"])]
    object: Option<PathBuf>,
    /// Program of the object; may be left out where it has one
    #[arg(long, value_name = "NAME", requires = "object")]
    prog: Option<String>,
    /// Frames to begin with, pcap or pcapng; some of each usual protocol where it is left out
    #[arg(long, value_name = "FILE", requires = "object")]
    pcap: Option<PathBuf>,
    /// Put elements into a map first, or into all that a dump has
    #[arg(long, value_name = "[NAME=]FILE.json", requires = "object")]
    map: Vec<PresetPlace>,
    #[command(flatten)]
    said: object_file::Said,
    /// How long; 10 where --count is not given either
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Verdicts that your program must not give: pass, drop, tx, redirect, aborted
    #[arg(long, value_name = "VERDICT,...", requires = "object", value_delimiter = ',', value_parser = verdict)]
    forbid: Vec<Verdict>,
    /// The only verdicts that it may give
    #[arg(long, value_name = "VERDICT,...", requires = "object", value_delimiter = ',', value_parser = verdict, conflicts_with = "forbid")]
    allow: Vec<Verdict>,
    /// How many programs, or frames of yours
    #[arg(long, value_name = "N", visible_alias = "programs")]
    count: Option<u64>,
    /// The first seed; by the clock where it is left out
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Whether the kernel is asked: auto, on or off
    #[arg(long, value_name = "auto|on|off", value_enum, default_value_t = Kernel::Auto)]
    kernel: Kernel,
    /// Threads; as many as processors where it is left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: Option<u32>,
    /// Folder for case files of divergences and captures of catches
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Run so many programs that try to harm the host, with a whole run's fuel, and look whether anything of it changed
    #[arg(long, value_name = "N", conflicts_with_all = ["object", "case", "seconds", "count", "jobs"])]
    hostile: Option<u64>,
    /// Run this case file instead, and hold it against what it says
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seconds", "count", "seed", "jobs"])]
    case: Option<PathBuf>,
    /// Plant each of twenty-one mistakes in the translator in turn, and tell which are found within --seconds each
    #[cfg(feature = "mutants")]
    #[arg(long, conflicts_with = "case")]
    mutants: bool,
    /// Tell why the kernel refused programs
    #[arg(long)]
    refusals: bool,
    /// Tell every ten seconds how far it is, on standard error, as is done where that is a terminal
    #[arg(long)]
    progress: bool,
    /// Write one object of JSON
    #[arg(long)]
    json: bool,
}

/// Whether the kernel is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kernel {
    /// Where it lets us
    Auto,
    /// It must let us
    On,
    /// Never
    Off,
}

impl From<Kernel> for KernelUse {
    fn from(kernel: Kernel) -> Self {
        match kernel {
            Kernel::Auto => Self::Auto,
            Kernel::On => Self::On,
            Kernel::Off => Self::Off,
        }
    }
}

/// A word is no verdict.
#[derive(Debug, thiserror::Error)]
#[error("{word:?}: no such verdict; use pass, drop, tx, redirect or aborted")]
struct NoVerdict {
    word: String,
}

fn verdict(word: &str) -> Result<Verdict, NoVerdict> {
    let word = word.to_ascii_lowercase();
    let known = Verdict::ALL.into_iter().find(|verdict| verdict.name() == word);
    known.ok_or(NoVerdict { word })
}

/// The verdicts that are catches.
fn forbidden(args: &Args) -> BTreeSet<Verdict> {
    if args.allow.is_empty() {
        return args.forbid.iter().copied().collect();
    }
    Verdict::ALL.into_iter().filter(|verdict| !args.allow.contains(verdict)).collect()
}

const NOTES: &str = "A quarter of the programs is made so that the kernel's verifier mostly accepts them; these run in the kernel too, \
                     by BPF_PROG_TEST_RUN (needs root, or CAP_BPF and CAP_NET_ADMIN). Compared are r0, traps with their place, fuel, \
                     tail calls, packet, context, redirection and maps, in which programs leave their registers.\n\n\
                     A divergence is made small and written as a case file, which --case runs again.\n\n\
                     With an object, frames and contents of its maps are changed at random, guided by the instructions that are \
                     reached, and by the numbers that the program compares with. What traps, what verify mode finds, what the hook does not know \
                     as a return value and what --forbid or --allow rule out is made small and written as catch_N.pcap, with \
                     catch_N.json where it takes contents of maps; no file is overwritten. The command that shows it again is told.\n\n\
                     With --hostile, programs try to reach the host: by wild pointers, by addresses of the host in packets, maps and \
                     contexts, by helpers with wild arguments, by loops, calls, jumps and timers without end, by races of two \
                     workers. Pages beside the cage, on the heap and in stacks are watched, and the longest run is told.\n\n\
                     Exit code: 0 where all is well, 1 where something differs or was caught, 3 where the kernel is to be asked and \
                     cannot be.";

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    if let Some(path) = &args.case {
        return one_case(args, path, out);
    }
    if let Some(path) = &args.object {
        return hunt(args, path, out);
    }
    if let Some(count) = args.hostile {
        return hostile(args, count, out);
    }
    let campaign = Campaign {
        seed: seed(args),
        count: args.count.unwrap_or(u64::MAX),
        time: time(args),
        jobs: args
            .jobs
            .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), |jobs| jobs as usize),
        kernel: args.kernel.into(),
        catches_max: CATCHES_MAX,
    };
    #[cfg(feature = "mutants")]
    if args.mutants {
        return each_mutant(campaign, out);
    }
    let is_told = args.progress || std::io::stderr().is_terminal();
    let listener = is_told.then_some(Listener { every: PROGRESS, tell: &progress });
    let tally = campaign.run(listener).map_err(campaign_failed)?;
    let mut files = Vec::new();
    for catch in &tally.catches {
        let path = args.output.join(format!("fuzz_{}.case", catch.seed));
        write_file(&path, catch.case.to_string().as_bytes())?;
        files.push(path);
    }
    if args.json {
        write_json(&campaign, &tally, &files, out)?;
    } else {
        write_text(args, &campaign, &tally, &files, out)?;
    }
    Ok(if tally.catches.is_empty() { Exit::Done } else { Exit::Refused })
}

/// Tells how far a campaign is, where its results are not written to.
fn progress(progress: Progress) {
    let Progress { programs, accepted, divergences, elapsed } = progress;
    #[expect(clippy::cast_precision_loss, reason = "far fewer programs than 2^52")]
    let (all, ran) = (programs as f64, accepted as f64);
    eprintln!(
        "{:.0} s: {}, {:.0} a second, {:.0} % in the kernel too, {}",
        elapsed.as_secs_f64(),
        counted(programs, "program"),
        all / elapsed.as_secs_f64(),
        100.0 * ran / all.max(1.0),
        counted(divergences, "divergence")
    );
}

/// Plants each mistake in turn.
#[cfg(feature = "mutants")]
fn each_mutant(campaign: Campaign, out: Out<'_>) -> Result<Exit, CliError> {
    use crate::vm::jit::{Mutant, plant};
    let (campaign, mut found) = (Campaign { catches_max: 1, kernel: KernelUse::Off, ..campaign }, 0);
    for mutant in Mutant::ALL.iter().copied() {
        plant(Some(mutant));
        let tally = campaign.run(None);
        plant(None);
        let tally = tally.map_err(campaign_failed)?;
        found += usize::from(!tally.catches.is_empty());
        let (seconds, programs) = (tally.elapsed.as_secs_f64(), counted(tally.programs, "program"));
        let how = tally.catches.first().map_or("not found".to_owned(), |catch| {
            format!("found by {} of {} insns", catch.divergence.part, catch.case.programs[0].slots.len())
        });
        writeln!(out, "{mutant:?}: {how} in {seconds:.1} s, {programs}")?;
        out.flush()?;
    }
    writeln!(out, "{found} of {} found", Mutant::ALL.len())?;
    Ok(if found == Mutant::ALL.len() { Exit::Done } else { Exit::Refused })
}

fn campaign_failed(error: CampaignError) -> CliError {
    match error {
        CampaignError::Bench(error) => bench_failed(error),
        CampaignError::Kernel(error) => CliError::host_failed(error),
    }
}

fn bench_failed(error: BenchError) -> CliError {
    match error {
        BenchError::Cage(_) => CliError::host_failed(error),
        BenchError::Map(_)
        | BenchError::Element { .. }
        | BenchError::Rejected(_)
        | BenchError::Link(_)
        | BenchError::Untranslated { .. }
        | BenchError::Sockets(_)
        | BenchError::Len { .. } => CliError::refused(error),
    }
}

/// The first seed: by the clock where none is said.
fn seed(args: &Args) -> u64 {
    args.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| now.as_secs()) << 24
    })
}

fn time(args: &Args) -> Option<Duration> {
    let seconds = args.seconds.or(if args.count.is_none() { Some(SECONDS) } else { None });
    seconds.map(Duration::from_secs)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Runs programs that try to harm the host.
fn hostile(args: &Args, count: u64, out: Out<'_>) -> Result<Exit, CliError> {
    let hostile = Hostile { seed: seed(args), count, fuel: FUEL_HOST, bulk: TRANSLATE_SLOTS_MAX };
    let tally = hostile.run().map_err(bench_failed)?;
    if args.json {
        let attacks = tally.attacks.iter().map(|(attack, attempts)| {
            let longest = attempts.longest.iter().map(|(mode, longest)| {
                json!({ "mode": mode.name(), "cpu_ms": milliseconds(longest.time), "seed": longest.seed })
            });
            json!({ "attack": attack, "programs": attempts.programs, "longest": longest.collect::<Vec<_>>() })
        });
        let translations = tally.translations.iter().map(|translation| {
            json!({
                "shape": translation.shape,
                "slots": translation.slots,
                "cpu_ms": milliseconds(translation.time),
                "peak_bytes": translation.peak,
                "refusal": translation.refusal.as_ref().map(ToString::to_string),
            })
        });
        let report = json!({
            "seed": hostile.seed,
            "seconds": tally.elapsed.as_secs_f64(),
            "programs": tally.programs,
            "runs": tally.runs,
            "traps": tally.traps,
            "out_of_fuel": tally.out_of_fuel,
            "attacks": attacks.collect::<Vec<_>>(),
            "translations": translations.collect::<Vec<_>>(),
            "breaches": tally.breaches,
        });
        writeln!(out, "{report}")?;
    } else {
        writeln!(
            out,
            "{} from seed {} in {:.1} s: {}, {} ended by traps, {} of these by fuel",
            counted(tally.programs, "hostile program"),
            hostile.seed,
            tally.elapsed.as_secs_f64(),
            counted(tally.runs, "run"),
            grouped(tally.traps),
            grouped(tally.out_of_fuel),
        )?;
        for (attack, attempts) in &tally.attacks {
            let times =
                attempts.longest.iter().map(|(mode, longest)| format!("{mode} {:.1}", milliseconds(longest.time)));
            let times = times.collect::<Vec<_>>().join(", ");
            writeln!(out, "  {attack}: {}; longest run in ms: {times}", counted(attempts.programs, "program"))?;
        }
        for mode in Mode::ALL {
            if let Some(longest) = tally.longest(mode) {
                writeln!(
                    out,
                    "longest run in {mode} mode: {:.1} ms (seed {})",
                    milliseconds(longest.time),
                    longest.seed
                )?;
            }
        }
        for translation in &tally.translations {
            let (slots, ms) = (grouped(translation.slots as u64), milliseconds(translation.time));
            let peak = translation.peak.map_or("?".to_owned(), |peak| grouped(peak >> 20));
            let end = if translation.refusal.is_some() { "refused" } else { "translated" };
            writeln!(out, "{slots} slots of {}: {end} twice in {ms:.0} ms, {peak} MiB", translation.shape)?;
        }
        writeln!(out, "{}", counted(tally.breaches.len() as u64, "breach").replace("breachs", "breaches"))?;
        tally.breaches.iter().try_for_each(|breach| writeln!(out, "  {breach}"))?;
    }
    Ok(if tally.breaches.is_empty() { Exit::Done } else { Exit::Refused })
}

/// Runs a program of an object on random frames.
fn hunt(args: &Args, path: &Path, out: Out<'_>) -> Result<Exit, CliError> {
    let object = object_file::read(path, &args.said)?;
    let presets = given::presets(&args.map)?;
    let seeds = match &args.pcap {
        None => fuzz::seeds(),
        Some(pcap) => given::captured(pcap)?.into_iter().map(|frame| frame.bytes).collect(),
    };
    let request = RunRequest { object: &object, program: args.prog.as_deref(), presets: &presets };
    let count = args.count.unwrap_or(u64::MAX);
    let hunt = Hunt {
        request,
        seeds,
        seed: seed(args),
        count,
        time: time(args),
        catches_max: CATCHES_MAX,
        forbidden: forbidden(args),
    };
    let bag = hunt.run().map_err(given::failed)?;
    let mut told = Vec::new();
    let mut number = 0;
    for prey in &bag.prey {
        let place = |number: usize, extension: &str| args.output.join(format!("catch_{number}.{extension}"));
        number = (number + 1..)
            .find(|number| !place(*number, "pcap").exists() && !place(*number, "json").exists())
            .expect("a folder has room for names");
        let frames: Vec<CapturedFrame> =
            prey.frames.iter().map(|bytes| CapturedFrame { at: Duration::ZERO, bytes: bytes.clone() }).collect();
        write_file(&place(number, "pcap"), &Capture::Pcap.write(&frames))?;
        if let Some(maps) = &prey.maps {
            write_file(&place(number, "json"), maps.as_bytes())?;
        }
        let maps = prey.maps.as_ref().map(|_| place(number, "json"));
        let pcap = place(number, "pcap");
        let again = again(args, path, &pcap, maps.as_deref());
        told.push((prey, pcap, maps, again));
    }
    let seconds = bag.elapsed.as_secs_f64();
    let (reached, all) = bag.reached;
    if args.json {
        let catches = told.iter().map(|(prey, pcap, maps, again)| {
            json!({
                "what": prey.what,
                "frames": prey.frames.len(),
                "pcap": pcap.display().to_string(),
                "maps": maps.as_ref().map(|maps| maps.display().to_string()),
                "command": again,
            })
        });
        let unreached = bag
            .unreached
            .iter()
            .map(|unreached| json!({ "program": unreached.program, "insn": unreached.pc, "line": unreached.line }));
        let report = json!({
            "seed": hunt.seed,
            "seconds": seconds,
            "frames": bag.runs,
            "corpus": bag.corpus,
            "insns": { "reached": reached, "all": all },
            "unreached": unreached.collect::<Vec<_>>(),
            "catches": catches.collect::<Vec<_>>(),
            "lost": bag.lost,
        });
        writeln!(out, "{report}")?;
    } else {
        writeln!(
            out,
            "{} from seed {} in {seconds:.1} s; {} kept, {} of {all} insns reached",
            counted(bag.runs, "frame"),
            hunt.seed,
            grouped(bag.corpus as u64),
            grouped(reached as u64)
        )?;
        if !bag.unreached.is_empty() {
            let lines: BTreeSet<&String> =
                bag.unreached.iter().filter_map(|unreached| unreached.line.as_ref()).collect();
            let lines =
                if lines.is_empty() { String::new() } else { format!(" of {}", counted(lines.len() as u64, "line")) };
            writeln!(out, "never reached: {}{lines}; --json lists them", counted(bag.unreached.len() as u64, "insn"))?;
        }
        for lost in &bag.lost {
            writeln!(out, "seen once: {}", one_line(lost))?;
        }
        writeln!(out, "{}", counted(told.len() as u64, "catch").replace("catchs", "catches"))?;
        for (prey, .., again) in &told {
            writeln!(out, "  {} ({})", one_line(&prey.what), counted(prey.frames.len() as u64, "frame"))?;
            writeln!(out, "    {again}")?;
        }
    }
    Ok(if told.is_empty() { Exit::Done } else { Exit::Refused })
}

/// The command that shows a catch again.
fn again(args: &Args, object: &Path, pcap: &Path, maps: Option<&Path>) -> String {
    let mut words = vec!["kumite run".to_owned(), quoted_path(object)];
    if let Some(program) = &args.prog {
        words.push(format!("--prog {}", quoted(program)));
    }
    words.extend(args.said.options().map(|(name, text)| format!("--{name} {}", quoted(text))));
    words.extend(args.map.iter().map(|preset| format!("--map {}", quoted(&preset.to_string()))));
    words.push(format!("--pcap {}", quoted_path(pcap)));
    words.extend(maps.map(|maps| format!("--map {}", quoted_path(maps))));
    words.push("--fail-on finding".to_owned());
    words.join(" ")
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// A word as a shell reads it.
fn quoted(text: &str) -> String {
    let is_plain = text.chars().all(|c| c.is_alphanumeric() || "/._-+:@%=,".contains(c));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    fs::write(path, bytes).map_err(|error| {
        CliError::host_failed(format!("{}: cannot write it: {error}; name another folder", path.display()))
    })
}

fn rate(tally: &Tally) -> f64 {
    let seconds = tally.elapsed.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far fewer programs than 2^52")]
    let programs = tally.programs as f64;
    if seconds > 0.0 { programs / seconds } else { 0.0 }
}

fn write_json(campaign: &Campaign, tally: &Tally, files: &[PathBuf], out: Out<'_>) -> Result<(), CliError> {
    let catches = tally.catches.iter().zip(files);
    let catches = catches.map(|(catch, file)| {
        let divergence = &catch.divergence;
        let side = |(name, value): &(&str, String)| json!({ "name": name, "value": value });
        json!({
            "seed": catch.seed,
            "part": divergence.part,
            "reference": side(&divergence.reference),
            "other": side(&divergence.other),
            "fuel": divergence.fuel,
            "file": file.display().to_string(),
        })
    });
    let report = json!({
        "seed": campaign.seed,
        "jobs": campaign.jobs,
        "seconds": tally.elapsed.as_secs_f64(),
        "programs": tally.programs,
        "programs_per_second": rate(tally),
        "traps": tally.traps,
        "unfit": tally.unfit.values().sum::<u64>(),
        "kernel": { "asked": tally.asked, "accepted": tally.accepted },
        "divergences": catches.collect::<Vec<_>>(),
    });
    writeln!(out, "{report}")?;
    Ok(())
}

fn write_text(
    args: &Args,
    campaign: &Campaign,
    tally: &Tally,
    files: &[PathBuf],
    out: Out<'_>,
) -> Result<(), CliError> {
    let (seconds, jobs) = (tally.elapsed.as_secs_f64(), counted(campaign.jobs as u64, "thread"));
    writeln!(
        out,
        "{} from seed {} in {seconds:.1} s ({:.0} a second, {jobs}): {} trapped",
        counted(tally.programs, "program"),
        campaign.seed,
        rate(tally),
        grouped(tally.traps)
    )?;
    if tally.asked > 0 {
        #[expect(clippy::cast_precision_loss, reason = "far fewer programs than 2^52")]
        let share = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
        writeln!(
            out,
            "kernel: asked about {} ({:.0} %), accepted {} of them ({:.0} %)",
            grouped(tally.asked),
            share(tally.asked, tally.programs),
            grouped(tally.accepted),
            share(tally.accepted, tally.asked)
        )?;
    } else {
        writeln!(out, "kernel: not asked")?;
    }
    let told = [("left out", &tally.unfit, true), ("refused", &tally.refusals, args.refusals)];
    for (what, reasons, _) in told.into_iter().filter(|(.., wanted)| *wanted) {
        let mut reasons: Vec<_> = reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (reason, count) in reasons.into_iter().take(REASONS_MAX) {
            writeln!(out, "{what}: {}: {reason}", counted(*count, "program"))?;
        }
    }
    writeln!(out, "{}", counted(tally.catches.len() as u64, "divergence"))?;
    for (catch, file) in tally.catches.iter().zip(files) {
        writeln!(out, "  seed {}: {} -> {}", catch.seed, catch.divergence, file.display())?;
    }
    Ok(())
}

/// Runs one case file.
fn one_case(args: &Args, path: &Path, out: Out<'_>) -> Result<Exit, CliError> {
    let place = path.display();
    let text = String::from_utf8(object_file::bytes(path, CASE_LEN_MAX)?);
    let text = text.map_err(|_| CliError::refused(format!("{place}: not UTF-8; write text")))?;
    let case = Case::parse(&text).map_err(|error| CliError::refused(format!("{place}: {error}")))?;
    let oracle = Oracle::wanted(args.kernel.into(), 0).map_err(CliError::host_failed)?;
    let mut differential = Differential::new(oracle).map_err(bench_failed)?;
    let judgement = differential.judge(&case, AsksKernel::Yes).map_err(bench_failed)?;
    let mut wrong = case.differences(Mode::Verify, &judgement.verify);
    wrong.extend(judgement.divergence.iter().map(ToString::to_string));
    if args.json {
        let refusal = &judgement.refusal;
        let report =
            json!({ "case": place.to_string(), "kernel": judgement.kernel, "refusal": refusal, "differences": wrong });
        writeln!(out, "{report}")?;
    } else {
        let kernel = match (judgement.kernel, &judgement.refusal) {
            (Some(true), _) => "the kernel agrees".to_owned(),
            (_, Some(why)) => why.clone(),
            (_, None) => "the kernel was not asked".to_owned(),
        };
        let kernel = if wrong.is_empty() { kernel } else { counted(wrong.len() as u64, "difference") };
        writeln!(out, "{place}: {kernel}")?;
        wrong.iter().try_for_each(|what| writeln!(out, "  {what}"))?;
    }
    Ok(if wrong.is_empty() { Exit::Done } else { Exit::Refused })
}
