//! Dialects: what objects written for a particular loader mean by sections and maps.
//!
//! They are told apart by what they hold and not by a name, since one object may mix them: maps defined by types are
//! libbpf's, maps defined by numbers are older, with as many words as their loader had; sections called `2/7` are
//! iproute2's.
//!
//! Invariant: knows names and definitions, nothing of instructions.

mod section;

pub(super) use section::{Meaning, meaning};

use super::btf::{Btf, Kind, TypeId};
use super::{Defect, Settings};
use crate::verdict::ProgramKind;

/// Contexts by the name of their type. A tc program and a socket filter look alike; the former are more.
const CONTEXTS: [(&str, ProgramKind); 2] = [("xdp_md", ProgramKind::Xdp), ("__sk_buff", ProgramKind::Tc)];

/// Says of which kind programs are.
#[derive(Debug)]
pub(super) struct Kinds<'a> {
    settings: &'a Settings,
    btf: Option<&'a Btf>,
    /// By name, functions as the types describe them.
    functions: std::collections::HashMap<&'a str, TypeId>,
}

impl<'a> Kinds<'a> {
    pub(super) fn new(settings: &'a Settings, btf: Option<&'a Btf>) -> Self {
        let mut functions = std::collections::HashMap::new();
        for (id, found) in btf.into_iter().flat_map(Btf::types) {
            if let (Kind::Func(_), Some(btf)) = (&found.kind, btf) {
                functions.entry(btf.text(found.name)).or_insert(id);
            }
        }
        Self { settings, btf, functions }
    }

    /// The kind of a program: what was said from outside, else what its section says, else what its context is.
    pub(super) fn of(&self, program: &str, section: &str) -> Result<ProgramKind, Defect> {
        if let Some(kind) = self.settings.kind_of(program) {
            return Ok(kind);
        }
        let (program, section) = (program.to_owned(), section.to_owned());
        match meaning(&section) {
            Meaning::Kind(kind) => Ok(kind),
            Meaning::Refused { what, because } => Err(Defect::ProgramKind { program, section, what, because }),
            Meaning::Slot { .. } => Ok(self.by_context(&program).unwrap_or(ProgramKind::Tc)),
            Meaning::Unknown => self.by_context(&program).ok_or(Defect::SectionName { program, section }),
        }
    }

    fn by_context(&self, program: &str) -> Option<ProgramKind> {
        let btf = self.btf?;
        let Kind::Func(prototype) = btf.kind(*self.functions.get(program)?) else { return None };
        let Kind::FuncProto { params, .. } = btf.kind(*prototype) else { return None };
        let Kind::Ptr(context) = btf.kind(btf.resolve(*params.first()?)?) else { return None };
        let name = btf.name(btf.resolve(*context)?);
        CONTEXTS.iter().find(|(context, _)| *context == name).map(|(_, kind)| *kind)
    }
}
