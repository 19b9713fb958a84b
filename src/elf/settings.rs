//! What is said of an object from outside.

use super::core::{TypeSources, kernel_types};
use crate::verdict::ProgramKind;

/// What is said of an object from outside.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where the kernel's types are taken from.
    pub types: TypeSources,
    /// Kinds of programs, whatever their sections say.
    pub kinds: Vec<KindSetting>,
    /// Entries of maps by name, in place of those that the object says.
    pub map_sizes: Vec<(String, u32)>,
    /// Values of global variables by name: numbers, `true` or `false`, text in quotes, or hexadecimal digits.
    pub constants: Vec<(String, String)>,
    /// Values of the kernel's configuration by name, `y`, `m`, `n`, numbers, or text in quotes.
    pub configuration: Vec<(String, String)>,
}

/// The kind of a program, or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindSetting {
    /// Name of the program; none means all that are not named.
    pub program: Option<String>,
    /// Its kind.
    pub kind: ProgramKind,
}

/// What is said of an object is not of the form that it must have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// It has no name or no value.
    #[error("{what} {text:?}: names no thing or no value; write NAME=VALUE")]
    Form {
        /// What was said.
        what: &'static str,
        /// The words.
        text: String,
    },
    /// It names no kind of program.
    #[error("type {text:?}: no such kind of program; write [NAME=]xdp, tc, socket or flow_dissector")]
    Kind {
        /// The words.
        text: String,
    },
    /// It is no number of entries.
    #[error("map-size {text:?}: not a number of entries; write NAME=COUNT")]
    Size {
        /// The words.
        text: String,
    },
}

fn parts(what: &'static str, text: &str) -> Result<(String, String), SettingError> {
    let found = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty());
    let (name, value) = found.ok_or_else(|| SettingError::Form { what, text: text.to_owned() })?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Settings {
    /// Nothing said, and the running kernel's types for those that kumite does not bring along.
    #[must_use]
    pub fn new() -> Self {
        Self { types: TypeSources { given: None, kernel: Some(kernel_types) }, ..Self::default() }
    }

    /// Adds `KIND`, or `NAME=KIND` for one program.
    ///
    /// # Errors
    /// [`SettingError::Kind`].
    pub fn say_type(&mut self, text: &str) -> Result<(), SettingError> {
        let (program, word) = text.split_once('=').map_or((None, text), |(name, word)| (Some(name), word));
        let kind = ProgramKind::by_name(word).filter(|kind| *kind != ProgramKind::Raw);
        let kind = kind.ok_or_else(|| SettingError::Kind { text: text.to_owned() })?;
        self.kinds.push(KindSetting { program: program.map(str::to_owned), kind });
        Ok(())
    }

    /// Adds `NAME=COUNT`, the entries of a map.
    ///
    /// # Errors
    /// [`SettingError::Form`] or [`SettingError::Size`].
    pub fn say_map_size(&mut self, text: &str) -> Result<(), SettingError> {
        let (name, count) = parts("map-size", text)?;
        let count = count.parse().map_err(|_| SettingError::Size { text: text.to_owned() })?;
        self.map_sizes.push((name, count));
        Ok(())
    }

    /// Adds `NAME=VALUE`, the value of a global variable.
    ///
    /// # Errors
    /// [`SettingError::Form`].
    pub fn say_constant(&mut self, text: &str) -> Result<(), SettingError> {
        self.constants.push(parts("const", text)?);
        Ok(())
    }

    /// Adds `NAME=VALUE`, of the kernel's configuration.
    ///
    /// # Errors
    /// [`SettingError::Form`].
    pub fn say_configuration(&mut self, text: &str) -> Result<(), SettingError> {
        self.configuration.push(parts("kconfig", text)?);
        Ok(())
    }

    /// The kind that was said of a program.
    pub(super) fn kind_of(&self, program: &str) -> Option<ProgramKind> {
        let said = |name: Option<&str>| self.kinds.iter().rfind(|setting| setting.program.as_deref() == name);
        said(Some(program)).or_else(|| said(None)).map(|setting| setting.kind)
    }
}
