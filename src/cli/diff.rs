//! `kumite diff`: a program on given frames here and in the kernel, compared.
//!
//! Invariant: changes nothing on the machine; what is loaded into the kernel goes when the command ends.

use std::path::PathBuf;

use super::given::{self, Input, PresetPlace};
use super::surroundings::Surroundings;
use super::table::counted;
use super::{CliError, Exit, Out, object_file};
use crate::kernel::KernelError;
use crate::report::{Diff, DiffError, Given, RunRequest, diff};
use crate::vm::Mode;

/// Compare a program with the kernel: return values, packets and maps
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(super) struct Args {
    /// Object file
    object: PathBuf,
    /// Program of the object; may be left out where it has one
    #[arg(long, value_name = "NAME")]
    prog: Option<String>,
    /// fast, instrumented or verify; all three where it is left out
    #[arg(long)]
    mode: Option<Mode>,
    #[command(flatten)]
    input: Input,
    /// What the context says before, on both sides, as a file of its bytes or in hexadecimal: as kumite run takes it
    #[arg(long, value_name = "FILE|DIGITS")]
    ctx_in: Option<String>,
    /// Put elements into a map first, on both sides
    #[arg(long, value_name = "NAME=FILE.json")]
    map: Vec<PresetPlace>,
    #[command(flatten)]
    surroundings: Surroundings,
    #[command(flatten)]
    said: object_file::Said,
    /// Write one object of JSON
    #[arg(long)]
    json: bool,
}

const NOTES: &str = "Needs the privilege to load BPF programs (root, or CAP_BPF and CAP_NET_ADMIN). The kernel runs the program \
                     by BPF_PROG_TEST_RUN, on no interface. What depends on time or chance differs by nature. Routes and \
                     sockets are given to kumite alone: the kernel asks its own, those of the network namespace that the \
                     command runs in, so lay the same there or look at what differs. An interface that a context names \
                     must be one of that namespace.\n\n\
                     Exit code: 0 where all is equal, 1 where something differs or a side refuses the program, 3 where \
                     the kernel cannot be asked.";

pub(super) fn execute(args: &Args, out: Out<'_>) -> Result<Exit, CliError> {
    let frames = args.input.frames()?;
    let object = object_file::read(&args.object, &args.said)?;
    let presets = given::presets(&args.map)?;
    let known = args.surroundings.read()?;
    let context = args.ctx_in.as_deref().map(given::context_bytes).transpose()?;
    let given = Given { context: context.as_deref(), routes: known.routes.as_ref(), sockets: known.sockets.as_deref() };
    let request = RunRequest { object: &object, program: args.prog.as_deref(), presets: &presets };
    let frames: Vec<&[u8]> = frames.iter().map(|frame| frame.bytes.as_slice()).collect();
    let modes = args.mode.map_or(Mode::ALL.to_vec(), |mode| vec![mode]);
    let found = diff(&request, given, &frames, &modes).map_err(|error| match error {
        DiffError::Run(error) => given::failed(error),
        DiffError::Kernel(KernelError::Unavailable { .. }) => CliError::host_failed(error),
        DiffError::Kernel(_) | DiffError::Preset { .. } => CliError::refused(error),
    })?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&found).expect("a report is plain data"))?;
    } else {
        write_text(&found, out)?;
    }
    Ok(if found.is_equal() { Exit::Done } else { Exit::Refused })
}

fn write_text(found: &Diff, out: Out<'_>) -> Result<(), CliError> {
    let frames = counted(found.frames as u64, "frame");
    for mode in &found.modes {
        let verdict = match mode.different {
            0 if found.frames == 0 => "nothing to compare".to_owned(),
            0 => "equal to the kernel".to_owned(),
            count => counted(count as u64, "difference"),
        };
        writeln!(out, "{} in {} mode: {frames}: {verdict}", found.prog, mode.mode)?;
        for difference in &mode.differences {
            let frame = difference.frame.map(|frame| format!("frame {frame}, ")).unwrap_or_default();
            writeln!(out, "  {frame}{}:", difference.part)?;
            writeln!(out, "    kernel {}", difference.kernel)?;
            writeln!(out, "    kumite {}", difference.kumite)?;
        }
    }
    if !found.kernels_own.is_empty() {
        writeln!(out, "given to kumite alone, the kernel asks its own: {}", found.kernels_own.join(", "))?;
    }
    if !found.unseen.is_empty() {
        writeln!(out, "not compared, by size or type: {}", found.unseen.join(", "))?;
    }
    if found.refused > 0 {
        writeln!(out, "left out, too short or too long: {}", counted(found.refused as u64, "frame"))?;
    }
    Ok(())
}
