//! What commands that run programs on frames are given alike: frames, and what maps hold before.
//!
//! Invariant: everything is read and checked for form before any program runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::{CliError, object_file};
use crate::limits::{CAPTURE_LEN_MAX, OBJECT_LEN_MAX, PRESET_LEN_MAX};
use crate::report::{Capture, CapturedFrame, Preset, RunError, from_hex};

/// Most bytes of a file with a context.
const CONTEXT_LEN_MAX: u64 = 1 << 12;

/// Where the frames come from.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Input {
    /// One frame as a file of its bytes
    #[arg(long, value_name = "FILE")]
    data_in: Option<PathBuf>,
    /// One frame in hexadecimal
    #[arg(long, value_name = "DIGITS")]
    hex: Option<String>,
    /// Frames of a capture, pcap or pcapng; those that no program takes are left out and counted
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
}

/// What `--map` names.
#[derive(Clone, Debug)]
pub(super) struct PresetPlace {
    /// None where the file says it.
    map: Option<String>,
    path: PathBuf,
}

impl fmt::Display for PresetPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.map.as_ref().map_or(Ok(()), |map| write!(f, "{map}="))?;
        write!(f, "{}", self.path.display())
    }
}

/// A text that names no map and file.
#[derive(Debug, thiserror::Error)]
#[error("map {text:?}: no file is named; write NAME=FILE.json, or FILE.json for a dump of all maps")]
pub(super) struct NoPresetPlace {
    text: String,
}

impl FromStr for PresetPlace {
    type Err = NoPresetPlace;

    fn from_str(text: &str) -> Result<Self, NoPresetPlace> {
        let (map, path) = text.split_once('=').map_or((None, text), |(map, path)| (Some(map), path));
        if map == Some("") || path.is_empty() {
            return Err(NoPresetPlace { text: text.to_owned() });
        }
        Ok(Self { map: map.map(str::to_owned), path: path.into() })
    }
}

/// Reads what maps are to hold before.
///
/// # Errors
/// [`CliError`] where a file cannot be read or is no text.
pub(super) fn presets(places: &[PresetPlace]) -> Result<Vec<Preset>, CliError> {
    let mut presets = Vec::new();
    for PresetPlace { map, path } in places {
        let place = path.display();
        let text = String::from_utf8(object_file::bytes(path, PRESET_LEN_MAX)?);
        let json = text.map_err(|_| CliError::refused(format!("{place}: not UTF-8; write JSON")))?;
        match map {
            Some(map) => presets.push(Preset { map: map.clone(), json }),
            None => presets.extend(Preset::all(&json).ok_or_else(|| {
                CliError::refused(format!("{place}: no dump of all maps; say NAME={place} for the elements of one"))
            })?),
        }
    }
    Ok(presets)
}

impl Input {
    /// Whether the frames are those of a capture, which may hold some that no program takes.
    pub(super) fn is_capture(&self) -> bool {
        self.pcap.is_some()
    }

    /// Reads the frames.
    ///
    /// # Errors
    /// [`CliError`].
    pub(super) fn frames(&self) -> Result<Vec<CapturedFrame>, CliError> {
        let one = |bytes| vec![CapturedFrame { at: Duration::ZERO, bytes }];
        if let Some(digits) = &self.hex {
            let wrong = || CliError::usage(format!("--hex {digits:?}: not hexadecimal; write two digits a byte"));
            return Ok(one(from_hex(digits).ok_or_else(wrong)?));
        }
        if let Some(path) = &self.data_in {
            return Ok(one(object_file::bytes(path, OBJECT_LEN_MAX)?));
        }
        captured(self.pcap.as_ref().expect("clap asks for one of the group"))
    }
}

/// The bytes of `--ctx-in`: digits where there are no others, a file else.
pub(super) fn context_bytes(text: &str) -> Result<Vec<u8>, CliError> {
    if let Some(bytes) = from_hex(text).filter(|_| !Path::new(text).exists()) {
        return Ok(bytes);
    }
    if text.bytes().all(|byte| byte.is_ascii_hexdigit()) && !Path::new(text).exists() {
        return Err(CliError::usage(format!("--ctx-in {text:?}: an odd number of digits; write two digits a byte")));
    }
    object_file::bytes(Path::new(text), CONTEXT_LEN_MAX)
}

/// Reads the frames of a capture.
///
/// # Errors
/// [`CliError`].
pub(super) fn captured(path: &Path) -> Result<Vec<CapturedFrame>, CliError> {
    let frames = Capture::read(&object_file::bytes(path, CAPTURE_LEN_MAX)?);
    frames.map_err(|error| CliError::refused(format!("{}: {error}", path.display())))
}

/// The exit code that belongs to a run that could not be.
pub(super) fn failed(error: RunError) -> CliError {
    match error {
        RunError::Cage(_) => CliError::host_failed(error),
        RunError::Ambiguous { .. } => CliError::usage(error),
        RunError::Load(_)
        | RunError::NoProgram { .. }
        | RunError::Preset(_)
        | RunError::Frame { .. }
        | RunError::Context(_)
        | RunError::FrameContext { .. } => CliError::refused(error),
    }
}
