//! Object files by path.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::CliError;
use crate::elf::Object;
use crate::limits::OBJECT_LEN_MAX;

/// Reads and parses an object file.
///
/// # Errors
/// [`super::Exit::HostFailed`] where it cannot be read, [`super::Exit::Refused`] where it is no object.
pub(super) fn read(path: &Path) -> Result<Object, CliError> {
    let bytes = bytes(path, OBJECT_LEN_MAX).map_err(|error| CliError::file(path, &error))?;
    Object::parse(&path.display().to_string(), &bytes).map_err(CliError::refused)
}

/// The bytes of a file, and no more than one above `len_max`.
pub(super) fn bytes(path: &Path, len_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(len_max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
