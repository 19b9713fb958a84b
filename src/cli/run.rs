//! `kumite run`: a program on given frames, as `bpftool prog run` does it in the kernel.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use super::{CliError, Exit, Out, object_file};
use crate::limits::OBJECT_LEN_MAX;
use crate::report::{Capture, CapturedFrame, FrameReport, Preset, RunError, RunRequest, TestRun, dump_all, from_hex};
use crate::vm::Mode;

/// Most bytes of a file with frames.
const FRAMES_LEN_MAX: u64 = 1 << 30;
/// Most bytes of a file with elements of a map.
const PRESET_LEN_MAX: u64 = 256 << 20;

/// Run a program of an object on given frames
#[derive(Debug, clap::Args)]
#[command(after_help = FORMS)]
pub(super) struct Args {
    /// Object file
    object: PathBuf,
    /// Program of the object; may be left out where it has one
    #[arg(long, value_name = "NAME")]
    prog: Option<String>,
    /// fast, instrumented or verify
    #[arg(long, default_value_t = Mode::Verify)]
    mode: Mode,
    #[command(flatten)]
    input: Input,
    /// Write the last frame as the program left it
    #[arg(long, value_name = "FILE")]
    data_out: Option<PathBuf>,
    /// Write all frames as the program left them, as pcap, or pcapng where the name ends so
    #[arg(long, value_name = "FILE")]
    pcap_out: Option<PathBuf>,
    /// Put elements into a map first
    #[arg(long, value_name = "NAME=FILE.json", value_parser = preset_place)]
    map: Vec<(String, PathBuf)>,
    /// Write the contents of all maps afterwards
    #[arg(long, value_name = "FILE")]
    dump_maps: Option<PathBuf>,
    /// Run each frame so often, restored each time, and tell the mean time
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Write a line of JSON a frame
    #[arg(long)]
    json: bool,
}

const FORMS: &str = "Elements of maps: [{\"key\": \"0a000001\", \"value\": 7}, {\"key\": 0, \"values\": [1, 2]}, \
                     {\"key\": 0, \"program\": \"backend\"}]; bytes are hexadecimal digits, a little-endian number, or a \
                     list of bytes. What bpftool map dump -j prints is taken too.";

/// Where the frames come from.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Input {
    /// One frame as a file of its bytes
    #[arg(long, value_name = "FILE")]
    data_in: Option<PathBuf>,
    /// One frame in hexadecimal
    #[arg(long, value_name = "DIGITS")]
    hex: Option<String>,
    /// Frames of a capture, pcap or pcapng
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
}

fn preset_place(text: &str) -> Result<(String, PathBuf), String> {
    let parts = text.split_once('=').filter(|(name, path)| !name.is_empty() && !path.is_empty());
    let (name, path) = parts.ok_or_else(|| format!("map {text:?}: no file is named; write NAME=FILE.json"))?;
    Ok((name.to_owned(), path.into()))
}

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let frames = args.input.frames()?;
    let object = object_file::read(&args.object)?;
    let presets = args.map.iter().map(|(map, path)| {
        let text = object_file::bytes(path, PRESET_LEN_MAX)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData)));
        let json = text.map_err(|error| CliError::file(path, &error))?;
        Ok(Preset { map: map.clone(), json })
    });
    let presets = presets.collect::<Result<Vec<_>, CliError>>()?;
    let request = RunRequest { object: &object, program: args.prog.as_deref(), presets: &presets };
    let run = TestRun::new(&request).map_err(failed)?;
    if let Some(why) = run.untranslated(args.mode).filter(|_| !args.json) {
        writeln!(out, "interpreted in {} mode: {why}", args.mode)?;
    }
    TestRun::check(frames.iter().map(|frame| frame.bytes.as_slice())).map_err(failed)?;
    let mut exit = Exit::Done;
    let mut left = Vec::new();
    let inputs = frames.iter().map(|frame| frame.bytes.as_slice());
    for ((number, frame), report) in (1..).zip(&frames).zip(run.reports(args.mode, args.repeat, inputs)) {
        let report = report.map_err(failed)?;
        if report.trap.is_some() {
            exit = Exit::Refused;
        }
        if args.json {
            let line = serde_json::to_string(&report).expect("a report is plain data");
            writeln!(out, "{line}")?;
        } else {
            write_text(number, frame, &report, out)?;
        }
        if args.data_out.is_some() || args.pcap_out.is_some() {
            let bytes = from_hex(&report.data_out).expect("a report's digits");
            left.push(CapturedFrame { at: frame.at, bytes });
        }
    }
    if let (Some(path), Some(last)) = (&args.data_out, left.last()) {
        write_file(path, &last.bytes)?;
    }
    if let Some(path) = &args.pcap_out {
        write_file(path, &Capture::by_name(&path.to_string_lossy()).write(&left))?;
    }
    if let Some(path) = &args.dump_maps {
        write_file(path, format!("{:#}\n", dump_all(run.instance())).as_bytes())?;
    }
    Ok(exit)
}

impl Input {
    fn frames(&self) -> Result<Vec<CapturedFrame>, CliError> {
        let one = |bytes| vec![CapturedFrame { at: Duration::ZERO, bytes }];
        if let Some(digits) = &self.hex {
            let wrong = || CliError::usage(format!("--hex {digits:?}: not hexadecimal; write two digits a byte"));
            return Ok(one(from_hex(digits).ok_or_else(wrong)?));
        }
        let read =
            |path: &Path, len_max| object_file::bytes(path, len_max).map_err(|error| CliError::file(path, &error));
        if let Some(path) = &self.data_in {
            return Ok(one(read(path, OBJECT_LEN_MAX)?));
        }
        let path = self.pcap.as_ref().expect("clap asks for one of the group");
        let frames = Capture::read(&read(path, FRAMES_LEN_MAX)?);
        frames.map_err(|error| CliError::refused(format!("{}: {error}", path.display())))
    }
}

fn failed(error: RunError) -> CliError {
    match error {
        RunError::Cage(_) => CliError::host_failed(error),
        RunError::Ambiguous { .. } => CliError::usage(error),
        RunError::Load(_) | RunError::Preset(_) | RunError::Frame { .. } => CliError::refused(error),
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    fs::write(path, bytes).map_err(|error| {
        CliError::host_failed(format!("{}: cannot write it: {error}; name another place", path.display()))
    })
}

fn write_text(number: usize, frame: &CapturedFrame, report: &FrameReport, out: Out<'_>) -> Result<(), CliError> {
    let len_out = report.data_out.len() / 2;
    write!(
        out,
        "frame {number}: {} (retval {}), {} bytes in, {len_out} out",
        report.verdict,
        report.retval,
        frame.bytes.len()
    )?;
    if let Some(insns) = report.insns {
        write!(out, ", {insns} insns")?;
    }
    if report.tail_calls > 0 {
        write!(out, ", {} tail calls", report.tail_calls)?;
    }
    if let Some(mean_ns) = report.mean_ns {
        write!(out, ", {mean_ns:.1} ns a run")?;
    }
    writeln!(out)?;
    if let Some(trap) = &report.trap {
        writeln!(out, "  trap: {trap}")?;
    }
    for finding in &report.findings {
        writeln!(out, "  finding: {} insn {}: {} ({})", finding.prog, finding.insn, finding.what, finding.id)?;
    }
    for line in &report.trace {
        writeln!(out, "  trace: {line}")?;
    }
    if len_out <= 1 << 12 && report.trap.is_none() {
        writeln!(out, "  {}", report.data_out)?;
    }
    Ok(())
}
