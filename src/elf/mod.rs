//! Objects: what a BPF compiler writes, read into programs, maps and types.
//!
//! [`Object::parse`] takes the bytes of an ELF file as clang wrote it. What a program refers to (maps, variables,
//! subprograms) is resolved here, so that a program leaves as a whole, its maps said by index. Whether kumite can run it is
//! decided later, when it is linked in a world.
//!
//! What loaders differ in is in `dialect`, and in the files of the two ways to define maps.
//!
//! Invariant: reads no file but the running kernel's types where it is let, and creates no map; any bytes give an object or an error, in time and memory bounded by their
//! length and `limits`.

mod assemble;
pub mod btf;
mod btf_ext;
mod btf_maps;
mod constants;
pub mod core;
mod dialect;
mod error;
mod externs;
mod file;
mod legacy_maps;
mod map;
mod settings;
mod text;
mod value;
mod variables;

pub use error::{Defect, ObjectError};
pub use map::{MapTypes, ObjectMap, Pinning};
pub use settings::{KindSetting, SettingError, Settings};
pub use variables::Variable;

use std::collections::HashMap;
use std::sync::Arc;

use crate::limits::{MAPS_MAX, OBJECT_PROGRAMS_MAX};
use crate::maps::{MapKind, is_supported};
use crate::program::Program;
use assemble::Assembler;
use btf::Btf;
use btf_ext::BtfExt;
use dialect::{Kinds, Meaning, meaning};
use externs::Externs;
use file::{Binding, ElfFile};
use map::PlacedMap;
use text::{MapPlaces, SHARED_SECTION, Text};

/// Section with the licence.
const LICENSE_SECTION: &str = "license";

/// An object file, read.
#[derive(Clone, Debug)]
pub struct Object {
    /// How the caller named it.
    pub name: String,
    /// Its programs, in the order of the file.
    pub programs: Vec<Arc<Program>>,
    /// Functions that should have been programs.
    pub refused: Vec<Refused>,
    /// Its maps: those that it defines, then those behind its variables. Programs refer to them by index.
    pub maps: Vec<ObjectMap>,
    /// Maps of types that kumite does not have; programs that refer to one are refused.
    pub refused_maps: Vec<ObjectMap>,
    /// What its section `license` says.
    pub license: Option<String>,
    /// Its types, where it was built with them.
    pub btf: Option<Arc<Btf>>,
}

/// A function that should have been a program, and why it is none. The object's other programs are not concerned.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Name of the function.
    pub name: String,
    /// Its section.
    pub section: String,
    /// Why.
    pub reason: ObjectError,
}

impl Object {
    /// Reads an object. `name` is how messages call it.
    ///
    /// A program that is not well-formed, refers to something that the object does not define, or is for no hook that
    /// kumite has, is listed in [`Object::refused`]; the rest of the object is read all the same.
    ///
    /// # Errors
    /// [`ObjectError`] where the object as a whole cannot be read, or a map's definition is wrong.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, ObjectError> {
        Self::parse_with(name, bytes, &Settings::default())
    }

    /// Reads an object as [`Object::parse`] does, with what is said of it from outside.
    ///
    /// # Errors
    /// As [`Object::parse`].
    pub fn parse_with(name: &str, bytes: &[u8], settings: &Settings) -> Result<Self, ObjectError> {
        Self::read(name, bytes, settings).map_err(|defect| defect.in_file(name))
    }

    /// The program with this name.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<&Arc<Program>> {
        self.programs.iter().find(|program| program.name() == name)
    }

    /// The program with this name, or why there is none.
    ///
    /// # Errors
    /// Why it was refused, or [`Defect::NoProgram`].
    pub fn expect_program(&self, name: &str) -> Result<&Arc<Program>, ObjectError> {
        if let Some(program) = self.program(name) {
            return Ok(program);
        }
        let refused = self.refused.iter().find(|refused| refused.name == name);
        Err(refused.map(|refused| refused.reason.clone()).unwrap_or_else(|| {
            let names = self.programs.iter().map(|program| program.name().to_owned()).collect();
            Defect::NoProgram { program: name.to_owned(), names }.in_file(&self.name)
        }))
    }

    fn read(name: &str, bytes: &[u8], settings: &Settings) -> Result<Self, Defect> {
        let file = ElfFile::read(bytes)?;
        let mut btf = file.section(".BTF").map(|(_, section)| Btf::read(section.bytes)).transpose()?;
        if let Some(btf) = &mut btf {
            variables::place(&file, btf);
            externs::place(btf);
        }
        let mut placed = btf_maps::maps(&file, btf.as_ref())?;
        placed.extend(legacy_maps::maps(&file)?);
        placed.extend(variables::maps(&file, btf.as_ref())?);
        let externs = Externs::read(btf.as_ref(), settings)?;
        placed.extend(externs.map());
        let Numbered { mut maps, refused_maps, places } = number(placed)?;
        constants::size_maps(&mut maps, &refused_maps, settings)?;
        constants::set(&file, btf.as_ref(), &places, &mut maps, settings)?;
        let ext = read_ext(&file, btf.as_ref())?;
        let text = Text::read(&file, externs, &places)?;
        let mains = mains(&file, &text)?;
        let names = || mains.iter().map(|main| text.functions()[*main].name.to_owned());
        for named in settings.kinds.iter().filter_map(|setting| setting.program.as_ref()) {
            if !names().any(|name| name == *named) {
                return Err(Defect::NoProgram { program: named.clone(), names: names().collect() });
            }
        }
        let mut assembler = Assembler::new(&text, btf.as_ref(), &ext, &settings.types, &refused_maps);
        let kinds = Kinds::new(settings, btf.as_ref());
        let mut programs = Vec::new();
        let mut refused = Vec::new();
        for main in mains {
            let function = &text.functions()[main];
            let section = file.section_name(function.section);
            let made = program(&mut assembler, &kinds, main, function.name, &section);
            match made.and_then(|program| fill_slot(program, &places, &mut maps)) {
                Ok(program) => programs.push(Arc::new(program)),
                Err(defect) => {
                    refused.push(Refused { name: function.name.to_owned(), section, reason: defect.in_file(name) });
                }
            }
        }
        let license = file.section(LICENSE_SECTION).and_then(|(_, section)| file::text(section.bytes, 0));
        Ok(Self {
            name: name.to_owned(),
            programs,
            refused,
            maps,
            refused_maps,
            license: license.map(str::to_owned),
            btf: btf.map(Arc::new),
        })
    }
}

fn program(
    assembler: &mut Assembler<'_>,
    kinds: &Kinds<'_>,
    main: usize,
    name: &str,
    section: &str,
) -> Result<Program, Defect> {
    let kind = kinds.of(name, section)?;
    let raw = assembler.assemble(main, section)?;
    Program::check(raw, kind).map_err(|rejection| Defect::Rejected(Box::new(rejection)))
}

/// Puts a program into the slot that its section names, where it names one.
fn fill_slot(program: Program, places: &MapPlaces, maps: &mut [ObjectMap]) -> Result<Program, Defect> {
    let Meaning::Slot { id, index } = meaning(program.section()) else { return Ok(program) };
    let map = places.by_id.get(&id).map(|map| &mut maps[*map as usize]);
    let map = map.filter(|map| map.def.kind == MapKind::PROGRAM_ARRAY).ok_or_else(|| Defect::SlotArray {
        program: program.name().to_owned(),
        section: program.section().to_owned(),
    })?;
    map.slots.push((index, program.name().to_owned()));
    Ok(program)
}

/// The maps of an object, and where they are.
#[derive(Default)]
struct Numbered {
    maps: Vec<ObjectMap>,
    refused_maps: Vec<ObjectMap>,
    places: MapPlaces,
}

/// Gives the maps their indices: those of types that kumite has, and the others.
fn number(placed: Vec<PlacedMap>) -> Result<Numbered, Defect> {
    if placed.len() > MAPS_MAX as usize {
        return Err(Defect::TooMany { what: "maps", count: placed.len(), max: MAPS_MAX as usize });
    }
    let mut numbered = Numbered::default();
    let Numbered { maps, refused_maps, places } = &mut numbered;
    for PlacedMap { section, offset, id, map } in placed {
        let index = u32::try_from(maps.len()).expect("below the limit");
        let inner = map.def.inner.as_deref().map(|inner| inner.kind);
        let is_supported = is_supported(map.def.kind) && inner.is_none_or(is_supported);
        match offset {
            Some(offset) if !is_supported => {
                places.refused.insert((section, offset), refused_maps.len());
                refused_maps.push(map);
                continue;
            }
            Some(offset) => places.defined.insert((section, offset), index),
            None => places.variables.insert(section, index),
        };
        if let Some(id) = id {
            places.by_id.entry(id).or_insert(index);
        }
        maps.push(map);
    }
    Ok(numbered)
}

fn read_ext(file: &ElfFile<'_>, btf: Option<&Btf>) -> Result<BtfExt, Defect> {
    let (Some(btf), Some((_, section))) = (btf, file.section(".BTF.ext")) else { return Ok(BtfExt::default()) };
    let text = file.sections.iter().enumerate().filter(|(_, section)| section.is_text());
    let sections: HashMap<&str, usize> = text.map(|(index, section)| (section.name, index)).collect();
    BtfExt::read(section.bytes, btf, &sections)
}

/// The functions that are programs: those of every section but the shared one that others see, and static ones that
/// nobody calls (Cilium's tail calls). An object with the shared section alone has its visible functions refused by name.
fn mains(file: &ElfFile<'_>, text: &Text<'_>) -> Result<Vec<usize>, Defect> {
    let functions = text.functions();
    let is_shared = |index: usize| file.sections[functions[index].section].name == SHARED_SECTION;
    let mut mains: Vec<usize> = (0..functions.len()).filter(|index| !is_shared(*index)).collect();
    if mains.iter().any(|index| functions[*index].binding == Binding::Local) {
        let referred = text.referred();
        mains.retain(|index| functions[*index].binding != Binding::Local || !referred.contains(index));
    }
    if mains.is_empty() {
        let visible = |index: &usize| functions[*index].binding != Binding::Local;
        mains = (0..functions.len()).filter(visible).collect();
    }
    if mains.len() > OBJECT_PROGRAMS_MAX {
        return Err(Defect::TooMany { what: "programs", count: mains.len(), max: OBJECT_PROGRAMS_MAX });
    }
    Ok(mains)
}
