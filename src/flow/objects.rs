//! The objects that a host has brought to life, and how their programs and maps are found by name.
//!
//! Names are looked for in the newest object first, so that an object loaded again stands before its older self.
//!
//! Invariant: workers never see it; numbers of objects are not used again.

use std::sync::Arc;

use super::{HostError, Judge};
use crate::maps::{Errno, Map, ProgramArray};
use crate::run::Run;
use crate::verdict::ProgramKind;
use crate::vm::{Instance, Loaded, Mode, Outcome};

impl Judge for Loaded {
    fn name(&self) -> &str {
        self.linked().program().name()
    }

    fn id(&self) -> u32 {
        self.linked().id()
    }

    fn kind(&self) -> ProgramKind {
        self.linked().program().kind()
    }

    fn tail_runs(&self) -> u64 {
        self.tail_runs()
    }

    #[inline]
    fn judge(&self, mode: Mode, run: &mut Run<'_>) -> Outcome {
        self.run(mode, run)
    }
}

/// Number of a loaded object on its host; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub u32);

/// The objects that a host has brought to life.
#[derive(Debug, Default)]
pub(super) struct Objects {
    loaded: Vec<(InstanceId, Arc<Instance>)>,
    last_id: u32,
}

impl Objects {
    pub(super) fn insert(&mut self, instance: Arc<Instance>) -> InstanceId {
        self.last_id += 1;
        let id = InstanceId(self.last_id);
        self.loaded.push((id, instance));
        id
    }

    pub(super) fn find(&self, id: InstanceId) -> Result<&Arc<Instance>, HostError> {
        let found = self.loaded.iter().find(|(own, _)| *own == id);
        found.map(|(_, instance)| instance).ok_or(HostError::NoInstance { id: id.0 })
    }

    pub(super) fn remove(&mut self, id: InstanceId) {
        self.loaded.retain(|(own, _)| *own != id);
    }

    pub(super) fn all(&self) -> &[(InstanceId, Arc<Instance>)] {
        &self.loaded
    }

    pub(super) fn map(&self, name: &str) -> Option<&Arc<dyn Map>> {
        self.loaded.iter().rev().find_map(|(_, instance)| instance.map(name))
    }

    /// The program with this name, or why it was refused.
    pub(super) fn program(&self, name: &str) -> Result<&Arc<Loaded>, HostError> {
        if let Some(program) = self.loaded.iter().rev().find_map(|(_, instance)| instance.program(name)) {
            return Ok(program);
        }
        let refused = |instance: &&Arc<Instance>| instance.refused().iter().any(|refused| refused.name == name);
        match self.loaded.iter().rev().map(|(_, instance)| instance).find(refused) {
            Some(instance) => Ok(instance.expect_program(name)?),
            None => Err(HostError::NoProgram { program: name.to_owned() }),
        }
    }

    /// Puts a program into a slot of a program array, or empties it. The next frame sees it; emptying an empty slot is
    /// no mistake.
    pub(super) fn set_slot(&self, map: &str, index: u32, program: Option<&str>) -> Result<(), HostError> {
        let found = self.map(map).ok_or_else(|| HostError::NoMap { map: map.to_owned() })?;
        let array = found.as_program_array();
        let array: &ProgramArray = array
            .ok_or_else(|| HostError::NotProgramArray { map: map.to_owned(), kind: found.def().kind.to_string() })?;
        let program = program.map(|name| self.program(name)).transpose()?;
        match replace(found.as_ref(), array, index, program) {
            Err(HostError::Slot { errno: Errno::ENOENT, .. }) if program.is_none() => Ok(()),
            done => done,
        }
    }

    /// Puts a program that was found before into a slot, or empties it, where map and program are loaded still: what was
    /// unloaded meanwhile would be kept by the slot, and would keep its maps, for ever.
    pub(super) fn replace_slot(
        &self,
        map: &Arc<dyn Map>,
        index: u32,
        program: Option<&Arc<Loaded>>,
    ) -> Result<(), HostError> {
        let name = || map.def().name.clone();
        let has_map = |instance: &Instance| instance.maps().iter().any(|(_, own)| Arc::ptr_eq(own, map));
        if !self.loaded.iter().any(|(_, instance)| has_map(instance)) {
            return Err(HostError::NoMap { map: name() });
        }
        if let Some(program) = program
            && !self.has(program)
        {
            return Err(HostError::NoProgram { program: program.name().to_owned() });
        }
        let array = map.as_program_array();
        let array =
            array.ok_or_else(|| HostError::NotProgramArray { map: name(), kind: map.def().kind.to_string() })?;
        replace(map.as_ref(), array, index, program)
    }

    /// Whether the program is of an object that is loaded.
    pub(super) fn has(&self, program: &Arc<Loaded>) -> bool {
        let mut own = self.loaded.iter().flat_map(|(_, instance)| instance.programs());
        own.any(|own| Arc::ptr_eq(own, program))
    }
}

fn replace(map: &dyn Map, array: &ProgramArray, index: u32, program: Option<&Arc<Loaded>>) -> Result<(), HostError> {
    array.replace(index, program.map(|program| program.slot())).map_err(|errno| HostError::Slot {
        map: map.def().name.clone(),
        index,
        slot_count: array.slot_count(),
        errno,
    })
}
