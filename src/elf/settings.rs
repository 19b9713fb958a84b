//! What is said of an object from outside.

use super::core::TypeSources;
use crate::verdict::ProgramKind;

/// What is said of an object from outside.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where the kernel's types are taken from.
    pub types: TypeSources,
    /// Kinds of programs, whatever their sections say.
    pub kinds: Vec<KindSetting>,
}

/// The kind of a program, or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindSetting {
    /// Name of the program; none means all that are not named.
    pub program: Option<String>,
    /// Its kind.
    pub kind: ProgramKind,
}

impl Settings {
    /// The kind that was said of a program.
    pub(super) fn kind_of(&self, program: &str) -> Option<ProgramKind> {
        let said = |name: Option<&str>| self.kinds.iter().rfind(|setting| setting.program.as_deref() == name);
        said(Some(program)).or_else(|| said(None)).map(|setting| setting.kind)
    }
}
