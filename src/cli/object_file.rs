//! Files by path: objects with what is said of them on the command line, captures, elements of maps.
//!
//! Invariant: nothing that could block for ever is read, and nothing beyond a bound; `-` alone is standard input.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use super::CliError;
use crate::control::escape;
use crate::elf::core::{Types, kernel_types};
use crate::elf::{Object, SettingError, Settings};
use crate::limits::OBJECT_LEN_MAX;

/// What is said of an object.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Said {
    /// Kind of all programs, or of one, whatever sections say: xdp, tc, socket or flow_dissector; several times
    #[arg(long = "type", value_name = "[NAME=]KIND")]
    kinds: Vec<String>,
    /// Entries of a map, in place of what the object says; several times
    #[arg(long = "map-size", value_name = "NAME=COUNT")]
    map_sizes: Vec<String>,
    /// Value of a global variable: a number, true or false, text in quotes, hexadecimal digits; several times
    #[arg(long = "const", value_name = "NAME=VALUE")]
    constants: Vec<String>,
    /// Value of the kernel's configuration: y, m, n, a number, text in quotes; several times
    #[arg(long = "kconfig", value_name = "NAME=VALUE")]
    configuration: Vec<String>,
    /// BTF with the kernel's types for CO-RE, `kernel` for the running one's; else the embedded ones come first
    #[arg(long, value_name = "FILE")]
    btf: Option<String>,
}

impl Said {
    /// The same as a host takes it in the query of a request.
    pub(super) fn query(&self) -> Result<String, CliError> {
        if self.btf.is_some() {
            return Err(CliError::usage("--btf: a running host takes none; start it with --load and --btf"));
        }
        Ok(self.texts().map(|(name, text)| format!("&{name}={}", escape(text))).collect())
    }

    /// Each option that was given, with its text.
    pub(super) fn options(&self) -> impl Iterator<Item = (&'static str, &String)> {
        self.texts().chain(self.btf.iter().map(|text| ("btf", text)))
    }

    fn texts(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let all = [
            ("type", &self.kinds),
            ("map-size", &self.map_sizes),
            ("const", &self.constants),
            ("kconfig", &self.configuration),
        ];
        all.into_iter().flat_map(|(name, texts)| texts.iter().map(move |text| (name, text)))
    }

    fn settings(&self) -> Result<Settings, CliError> {
        let mut settings = Settings::new();
        let mut say = |texts: &[String], add: fn(&mut Settings, &str) -> Result<(), SettingError>| {
            texts
                .iter()
                .try_for_each(|text| add(&mut settings, text))
                .map_err(|error| CliError::usage(format!("--{error}")))
        };
        say(&self.kinds, Settings::say_type)?;
        say(&self.map_sizes, Settings::say_map_size)?;
        say(&self.constants, Settings::say_constant)?;
        say(&self.configuration, Settings::say_configuration)?;
        settings.types.given = match self.btf.as_deref() {
            None => None,
            Some("kernel") => Some(kernel_types().ok_or_else(|| {
                CliError::host_failed("--btf kernel: the kernel shows no types; name a file with them")
            })?),
            Some(file) => {
                let path = Path::new(file);
                let bytes = bytes(path, OBJECT_LEN_MAX)?;
                Some(Arc::new(Types::read(file, &bytes).map_err(CliError::refused)?))
            }
        };
        Ok(settings)
    }
}

/// Reads and parses an object file.
///
/// # Errors
/// [`super::Exit::HostFailed`] where it cannot be read, [`super::Exit::Refused`] where it is no object,
/// [`super::Exit::Usage`] where what is said of it has a wrong form.
pub(super) fn read(path: &Path, said: &Said) -> Result<Object, CliError> {
    let settings = said.settings()?;
    let bytes = bytes(path, OBJECT_LEN_MAX)?;
    Object::parse_with(&path.display().to_string(), &bytes, &settings).map_err(CliError::refused)
}

/// The bytes of a regular file of at most `len_max`, or of standard input for `-`.
///
/// # Errors
/// [`super::Exit::HostFailed`] where it cannot be read, [`super::Exit::Refused`] where it is too long.
pub(super) fn bytes(path: &Path, len_max: u64) -> Result<Vec<u8>, CliError> {
    let place = path.display();
    let unreadable = |error: io::Error| CliError::file(path, &error);
    let too_long = || CliError::refused(format!("{place}: longer than {len_max} bytes; name a shorter file"));
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(len_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        // Opening a FIFO would wait for its writer otherwise.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
        let found = file.metadata().map_err(unreadable)?;
        if !found.is_file() {
            let mend = "name a file, or - for standard input";
            return Err(CliError::host_failed(format!("{place}: it is no regular file; {mend}")));
        }
        if found.len() > len_max {
            return Err(too_long());
        }
        file.take(len_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    if bytes.len() as u64 > len_max { Err(too_long()) } else { Ok(bytes) }
}
