//! Files by path: objects, captures, elements of maps.
//!
//! Invariant: nothing that could block for ever is read, and nothing beyond a bound; `-` alone is standard input.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::CliError;
use crate::elf::Object;
use crate::limits::OBJECT_LEN_MAX;

/// Reads and parses an object file.
///
/// # Errors
/// [`super::Exit::HostFailed`] where it cannot be read, [`super::Exit::Refused`] where it is no object.
pub(super) fn read(path: &Path) -> Result<Object, CliError> {
    let bytes = bytes(path, OBJECT_LEN_MAX)?;
    Object::parse(&path.display().to_string(), &bytes).map_err(CliError::refused)
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
