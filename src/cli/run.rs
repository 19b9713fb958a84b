//! `kumite run`: a program on given frames, as `bpftool prog run` does it in the kernel.
//!
//! Invariant: each frame is one line of JSON or one paragraph, and in the tally once.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::given::{self, Input, PresetPlace, failed};
use super::surroundings::Surroundings;
use super::table::{counted, grouped};
use super::{CliError, Exit, Out, object_file, one_line};
use crate::report::{Capture, CapturedFrame, FrameReport, RunError, RunRequest, RunTally, TestRun, dump_all, from_hex};
use crate::vm::Mode;

/// Run a program of an object on given frames
#[derive(Debug, clap::Args)]
#[command(after_help = FORMS)]
pub(super) struct Args {
    /// Object file
    object: PathBuf,
    #[command(flatten)]
    said: object_file::Said,
    /// Program of the object; may be left out where it has one
    #[arg(long, value_name = "NAME")]
    prog: Option<String>,
    /// fast, instrumented or verify
    #[arg(long, default_value_t = Mode::Verify)]
    mode: Mode,
    #[command(flatten)]
    input: Input,
    /// What the context says before, as a file of its bytes or in hexadecimal: xdp_md, __sk_buff or bpf_flow_keys (below)
    #[arg(long, value_name = "FILE|DIGITS")]
    ctx_in: Option<String>,
    /// Write the context as the program left it for the last frame
    #[arg(long, value_name = "FILE")]
    ctx_out: Option<PathBuf>,
    /// Write the last frame as the program left it
    #[arg(long, value_name = "FILE")]
    data_out: Option<PathBuf>,
    /// Write all frames as the program left them, as pcap, or pcapng where the name ends so
    #[arg(long, value_name = "FILE")]
    pcap_out: Option<PathBuf>,
    /// Put elements into a map first, or into all that a dump has
    #[arg(long, value_name = "[NAME=]FILE.json")]
    map: Vec<PresetPlace>,
    #[command(flatten)]
    surroundings: Surroundings,
    /// Write the contents of all maps afterwards, in the form that --map takes
    #[arg(long, value_name = "FILE")]
    dump_maps: Option<PathBuf>,
    /// Run each frame so often, restored each time, and tell the mean time
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// What makes the exit code 1: a trap, or a finding of verify mode too
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = FailOn::Trap)]
    fail_on: FailOn,
    /// Write a line of JSON a frame; behind several frames, a last line {"tally": {"frames": N, "pass": N, ...}}
    #[arg(long)]
    json: bool,
}

/// From which weight on what a run brought to light makes the exit code 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// Something that verify mode noticed, or a trap
    Finding,
    /// A run that stopped early
    Trap,
}

const FORMS: &str = "Elements of maps: [{\"key\": \"0a000001\", \"value\": 7}, {\"key\": 0, \"values\": [1, 2]}, \
                     {\"key\": 0, \"program\": \"backend\"}]; bytes are hexadecimal digits, a little-endian number, or a \
                     list of bytes. What bpftool map dump -j prints is taken too, of other numbers of processors the values of the first; and \
                     what --dump-maps writes, without NAME= for all maps of it.\n\n\
                     Frames: 14 to 3520 bytes, for tc programs 3712, for XDP programs that take fragments 73152; what a capture has of
                     other lengths is skipped and counted.\n\n\
                     Contexts are little-endian fields of 4 bytes; fewer bytes are taken with zeros behind them. xdp_md: \
                     data (bytes of metadata before the frame), data_end (bytes of the input, 0 for its length), \
                     data_meta (0), ingress_ifindex, rx_queue_index. __sk_buff (struct in linux/bpf.h): mark, priority, \
                     ingress_ifindex, ifindex, cb, tstamp, wire_len, gso_segs, gso_size, hwtstamp; all else 0. \
                     bpf_flow_keys: flags.\n\n\
                     Exit code: 0, or 1 where a run trapped or --fail-on says so. A file named - is standard input, or output \
                     where it is written.";

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    if args.fail_on == FailOn::Finding && args.mode != Mode::Verify {
        let mode = args.mode;
        return Err(CliError::usage(format!(
            "--fail-on finding: {mode} mode notices strange return values alone; leave --mode out or say verify"
        )));
    }
    let frames = args.input.frames()?;
    let object = object_file::read(&args.object, &args.said)?;
    let presets = given::presets(&args.map)?;
    let request = RunRequest { object: &object, program: args.prog.as_deref(), presets: &presets };
    let mut run = TestRun::new(&request).map_err(failed)?;
    args.surroundings.furnish(run.world())?;
    if args.ctx_in.is_some() || args.ctx_out.is_some() {
        let context = args.ctx_in.as_deref().map_or(Ok(Vec::new()), given::context_bytes)?;
        run.give_context(&context).map_err(failed)?;
    }
    if let Some(why) = run.untranslated(args.mode).filter(|_| !args.json) {
        writeln!(out, "interpreted in {} mode: {why}", args.mode)?;
    }
    let (frames, skipped) = fitting(&run, args.input.is_capture(), frames)?;
    for (number, why) in &skipped {
        if args.json {
            writeln!(out, "{}", json!({ "skipped": { "frame": number, "why": why } }))?;
        } else {
            writeln!(out, "skipped: {why}")?;
        }
    }
    let mut tally = RunTally { skipped: skipped.len() as u64, ..RunTally::default() };
    let mut left = Vec::new();
    let mut context_left = None;
    let kind = run.program().linked().program().kind();
    let inputs = frames.iter().map(|(_, frame)| frame.bytes.as_slice());
    for ((number, frame), report) in frames.iter().zip(run.reports(args.mode, args.repeat, inputs)) {
        let mut report = report.map_err(failed)?;
        report.findings.extend(report.unknown_verdict(kind));
        tally.count(&report);
        if args.json {
            let line = serde_json::to_string(&report).expect("a report is plain data");
            writeln!(out, "{line}")?;
        } else {
            write_text(*number, frame, &report, out)?;
        }
        if args.ctx_out.is_some() {
            context_left = report.ctx_out.as_deref().and_then(from_hex);
        }
        if args.data_out.is_some() || args.pcap_out.is_some() {
            let bytes = from_hex(&report.data_out).expect("a report's digits");
            left.push(CapturedFrame { at: frame.at, bytes });
        }
    }
    if let (Some(path), Some(last)) = (&args.data_out, left.last()) {
        write_file(path, &last.bytes, out)?;
    }
    if let (Some(path), Some(last)) = (&args.ctx_out, context_left) {
        write_file(path, &last, out)?;
    }
    if let Some(path) = &args.pcap_out {
        write_file(path, &Capture::by_name(&path.to_string_lossy()).write(&left), out)?;
    }
    if let Some(path) = &args.dump_maps {
        write_file(path, format!("{:#}\n", dump_all(run.instance())).as_bytes(), out)?;
    }
    if frames.len() + skipped.len() > 1 {
        if args.json {
            writeln!(out, "{}", json!({ "tally": tally }))?;
        } else {
            write_tally(&tally, out)?;
        }
    }
    let fails = tally.traps > 0 || args.fail_on == FailOn::Finding && tally.findings > 0;
    Ok(if fails { Exit::Refused } else { Exit::Done })
}

/// A frame and its number in the input, from 1.
type Numbered = (usize, CapturedFrame);
/// The number of a frame that is left out, and why.
type Skipped = (usize, String);

/// The frames that the program takes, and why others are left out: of a capture those of a wrong length.
fn fitting(
    run: &TestRun,
    is_capture: bool,
    frames: Vec<CapturedFrame>,
) -> Result<(Vec<Numbered>, Vec<Skipped>), CliError> {
    let (mut taken, mut skipped) = (Vec::new(), Vec::new());
    for (number, frame) in (1..).zip(frames) {
        match run.check_one(number, &frame.bytes) {
            Ok(()) => taken.push((number, frame)),
            Err(error @ RunError::Frame { .. }) if is_capture => skipped.push((number, error.to_string())),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok((taken, skipped))
}

fn write_tally(tally: &RunTally, out: Out<'_>) -> Result<(), CliError> {
    let verdicts = tally.verdicts().map(|(verdict, count)| format!("{} {}", verdict.name(), grouped(count)));
    let (traps, findings) = (counted(tally.traps, "trap"), counted(tally.findings, "finding"));
    let verdicts = verdicts.collect::<Vec<_>>().join(", ");
    write!(out, "{}: {verdicts}; {traps}, {findings}", counted(tally.frames, "frame"))?;
    if tally.skipped > 0 {
        write!(out, "; {} skipped", counted(tally.skipped, "frame"))?;
    }
    writeln!(out)?;
    Ok(())
}

/// Writes a file, or to standard output for `-`.
fn write_file(path: &Path, bytes: &[u8], out: Out<'_>) -> Result<(), CliError> {
    if path == Path::new("-") {
        return Ok(out.write_all(bytes)?);
    }
    fs::write(path, bytes).map_err(|error| {
        CliError::host_failed(format!("{}: cannot write it: {error}; name another place", path.display()))
    })
}

fn write_text(number: usize, frame: &CapturedFrame, report: &FrameReport, out: Out<'_>) -> Result<(), CliError> {
    let len_out = report.data_out.len() / 2;
    write!(
        out,
        "frame {number}: {} (retval {}), {} in, {len_out} out",
        report.verdict.name(),
        report.retval,
        counted(frame.bytes.len() as u64, "byte")
    )?;
    if let Some(insns) = report.insns {
        write!(out, ", {}", counted(insns, "insn"))?;
    }
    if report.tail_calls > 0 {
        write!(out, ", {}", counted(report.tail_calls.into(), "tail call"))?;
    }
    if let Some(mean_ns) = report.mean_ns {
        write!(out, ", {mean_ns:.1} ns a run")?;
    }
    writeln!(out)?;
    if let Some(trap) = &report.trap {
        writeln!(out, "  trap: {trap}")?;
    }
    for finding in &report.findings {
        writeln!(out, "  finding: {finding}")?;
    }
    for line in &report.trace {
        writeln!(out, "  trace: {}", one_line(line))?;
    }
    if let Some(redirect) = &report.redirect {
        match &redirect.target {
            Some(target) => writeln!(out, "  redirect: to {target}, flags {:#x}", redirect.flags)?,
            None => writeln!(out, "  redirect: to interface {}, flags {:#x}", redirect.ifindex, redirect.flags)?,
        }
    }
    for copy in &report.copies {
        writeln!(out, "  copy: {} to interface {}", counted(copy.data.len() as u64 / 2, "byte"), copy.target.ifindex)?;
    }
    if len_out <= 1 << 12 && report.trap.is_none() {
        writeln!(out, "  {}", report.data_out)?;
    }
    Ok(())
}
