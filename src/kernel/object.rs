//! Kumite's objects in the kernel: maps made and filled alike, programs loaded from the same instructions.
//!
//! Invariant: nothing is pinned or attached; what was made goes when the value is dropped.

use super::types::Types;
use super::{FunctionInfo, KernelBtf, KernelMap, KernelProgram, LoadOptions, Refused};
use crate::elf::btf::Kind;
use crate::elf::core::kernel_types;
use crate::elf::{Object, ObjectMap};
use crate::helpers::UNRESOLVED;
use crate::isa::{self, Does, Insn};
use crate::maps::{Errno, MapKind};
use crate::program::Program;
use crate::verdict::ProgramKind;

/// An object cannot be brought into the kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// bpf(2) is not ours to use, or not there.
    #[error("kernel: bpf(2) answers {errno}; run as root where the kernel has BPF")]
    Unavailable {
        /// Its answer.
        errno: Errno,
    },
    /// A map cannot be made or filled.
    #[error("kernel: map {map}: {what} ({errno}); see the type of the map")]
    Map {
        /// Name of the map.
        map: String,
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The verifier refused the program.
    #[error("kernel: {program}: {errno}: {reason}; the kernel cannot be compared with")]
    Program {
        /// Name of the program.
        program: String,
        /// The kernel's answer.
        errno: Errno,
        /// What of the verifier's log tells why.
        reason: String,
    },
    /// The kernel does not take the types of the program's functions.
    #[error("kernel: {program}: the types of its functions are refused ({errno}); the kernel cannot be compared with")]
    Types {
        /// Name of the program.
        program: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel does not run the program on a packet.
    #[error("kernel: {program}: it cannot be run on a packet ({errno}); choose another program or other packets")]
    Run {
        /// Name of the program.
        program: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel has no programs of this kind.
    #[error("kernel: {program}: it has no programs of kind {kind}; choose another program")]
    Kind {
        /// Name of the program.
        program: String,
        /// Its kind.
        kind: &'static str,
    },
}

/// A program of the same object that is to be in a slot of a program array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedSlot {
    /// The array, counting the object's maps.
    pub map: usize,
    /// Which slot.
    pub slot: u32,
    /// Name of the program.
    pub program: String,
}

/// Types of maps whose elements bpf(2) walks and gives out as the bytes that programs see.
pub const HAS_ELEMENTS: [MapKind; 7] = [
    MapKind::HASH,
    MapKind::ARRAY,
    MapKind::PERCPU_HASH,
    MapKind::PERCPU_ARRAY,
    MapKind::LRU_HASH,
    MapKind::LRU_PERCPU_HASH,
    MapKind::LPM_TRIE,
];

/// An object in the kernel.
#[derive(Debug)]
pub struct KernelObject {
    maps: Vec<KernelMap>,
    /// Programs in slots of program arrays: kept for as long as the arrays.
    _linked: Vec<KernelProgram>,
    program: KernelProgram,
}

impl KernelObject {
    /// Loads a program of an object with all the object's maps, and the programs that are to be in slots of its program arrays.
    ///
    /// # Errors
    /// [`KernelError`].
    pub fn load(object: &Object, program: &Program, slots: &[LinkedSlot]) -> Result<Self, KernelError> {
        super::available().map_err(|errno| KernelError::Unavailable { errno })?;
        let maps = object.maps.iter().map(make).collect::<Result<Vec<_>, _>>()?;
        for (index, map) in object.maps.iter().enumerate() {
            for (slot, name) in &map.inner_maps {
                let inner = object.maps.iter().position(|map| map.def.name == *name);
                let inner = inner.ok_or_else(|| failed(map, "an inner map is not there", Errno::ENOENT))?;
                let put = maps[index].update(&slot.to_ne_bytes(), &maps[inner].fd().to_ne_bytes(), 0);
                put.map_err(|errno| failed(map, "an inner map cannot be put in", errno))?;
            }
        }
        let license = object.license.as_deref().unwrap_or("GPL");
        let fds: Vec<i32> = maps.iter().map(KernelMap::fd).collect();
        let mut linked = Vec::new();
        for LinkedSlot { map, slot, program } in slots {
            let place = &object.maps[*map];
            let target = object.program(program);
            let target = target.ok_or_else(|| failed(place, "a program of its slots is not there", Errno::ENOENT))?;
            let loaded = load_program(target, &fds, license)?;
            let put = maps[*map].update(&slot.to_ne_bytes(), &loaded.fd().to_ne_bytes(), 0);
            put.map_err(|errno| failed(place, "a program cannot be put in", errno))?;
            linked.push(loaded);
        }
        let program = load_program(program, &fds, license)?;
        Ok(Self { maps, _linked: linked, program })
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &KernelProgram {
        &self.program
    }

    /// The maps, in the object's order.
    #[must_use]
    pub fn maps(&self) -> &[KernelMap] {
        &self.maps
    }
}

fn failed(map: &ObjectMap, what: &'static str, errno: Errno) -> KernelError {
    KernelError::Map { map: map.def.name.clone(), what, errno }
}

/// Makes one map and gives it its contents.
fn make(map: &ObjectMap) -> Result<KernelMap, KernelError> {
    let processors =
        KernelMap::possible_processors().map_err(|errno| failed(map, "the processors are unknown", errno))?;
    let def = &map.def.sized(u32::try_from(processors).unwrap_or(u32::MAX));
    let inner = def.inner.as_ref().map(|inner| KernelMap::of(inner, None)).transpose();
    let inner = inner.map_err(|errno| failed(map, "its inner map cannot be made", errno))?;
    let made = KernelMap::of(def, inner.as_ref());
    let made = made.map_err(|errno| failed(map, "it cannot be made", errno))?;
    if !map.contents.is_empty() {
        made.update(&[0; 4], &map.contents, 0).map_err(|errno| failed(map, "it cannot be filled", errno))?;
    }
    if map.frozen {
        made.freeze().map_err(|errno| failed(map, "it cannot be frozen", errno))?;
    }
    Ok(made)
}

/// Loads a program whose maps have these descriptors, in the object's order.
///
/// # Errors
/// [`KernelError`] where the kernel refuses it.
pub fn load_program(program: &Program, maps: &[i32], license: &str) -> Result<KernelProgram, KernelError> {
    let kind = match program.kind() {
        ProgramKind::Xdp => KernelProgram::XDP,
        ProgramKind::Tc => KernelProgram::TC,
        ProgramKind::SocketFilter => KernelProgram::SOCKET_FILTER,
        ProgramKind::FlowDissector => KernelProgram::FLOW_DISSECTOR,
        ProgramKind::Raw => {
            return Err(KernelError::Kind { program: program.name().to_owned(), kind: program.kind().name() });
        }
    };
    let insns: Vec<Insn> = program.insns().iter().map(|insn| bind(insn, program, maps)).collect();
    let mut types = Types::new();
    let functions: Vec<FunctionInfo> = program
        .functions()
        .iter()
        .map(|function| FunctionInfo {
            insn_off: u32::try_from(function.start).expect("programs are short"),
            type_id: types.function(&function.name).0,
        })
        .collect();
    let refused = |refused: &Refused| KernelError::Program {
        program: program.name().to_owned(),
        errno: refused.errno,
        reason: refused.reason(),
    };
    let types =
        KernelBtf::load(&types).map_err(|errno| KernelError::Types { program: program.name().to_owned(), errno })?;
    let flags = if program.takes_fragments() { KernelProgram::HAS_FRAGMENTS } else { 0 };
    let options = LoadOptions { flags, functions: &functions, types: Some(&types) };
    KernelProgram::load_with(kind, &isa::encode(&insns), license, &options).map_err(|error| refused(&error))
}

/// Names maps by descriptor, kernel functions by their number among the kernel's types.
fn bind(insn: &Insn, program: &Program, maps: &[i32]) -> Insn {
    if matches!(insn.does, Does::CallKfunc | Does::LoadVarAddr) {
        return bind_kfunc(insn, program);
    }
    let [index, offset] = [insn.imm & 0xffff_ffff, insn.imm >> 32 & 0xffff_ffff];
    let fd = usize::try_from(index).ok().and_then(|index| maps.get(index)).copied().unwrap_or(-1);
    let fd = i64::from(fd) & 0xffff_ffff;
    if insn.does == Does::LoadMapByIndex {
        Insn { does: Does::LoadMap, imm: fd, ..*insn }
    } else if insn.does == Does::LoadMapValueByIndex {
        Insn { does: Does::LoadMapValue, imm: offset << 32 | fd, ..*insn }
    } else {
        *insn
    }
}

/// As libbpf: one that the kernel lacks is NULL, and a call of it is one that the verifier must not reach.
fn bind_kfunc(insn: &Insn, program: &Program) -> Insn {
    let kfunc = usize::try_from(insn.imm).ok().and_then(|index| program.kfuncs().get(index));
    let id = kfunc.zip(kernel_types()).and_then(|(kfunc, types)| {
        let name = kfunc.name.split_once("___").map_or(&*kfunc.name, |(name, _)| name);
        let ids = types.named(name).iter();
        ids.copied().find(|id| matches!(types.btf().kind(*id), Kind::Func(_)))
    });
    match (id, insn.does) {
        (Some(id), _) => Insn { imm: id.0.into(), ..*insn },
        (None, Does::CallKfunc) => Insn { does: Does::CallHelper, imm: UNRESOLVED.into(), ..*insn },
        (None, _) => Insn { does: Does::LoadImm64, imm: 0, ..*insn },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_is_wrong_and_what_to_do() {
        let (map, program, errno) = (|| "flows".to_owned(), || "xdp_main".to_owned(), Errno::EINVAL);
        for (error, text) in [
            (
                KernelError::Unavailable { errno: Errno::EPERM },
                "kernel: bpf(2) answers EPERM; run as root where the kernel has BPF",
            ),
            (
                KernelError::Map { map: map(), what: "it cannot be made", errno },
                "kernel: map flows: it cannot be made (EINVAL); see the type of the map",
            ),
            (
                KernelError::Types { program: program(), errno },
                "kernel: xdp_main: the types of its functions are refused (EINVAL); the kernel cannot be compared with",
            ),
            (
                KernelError::Run { program: program(), errno },
                "kernel: xdp_main: it cannot be run on a packet (EINVAL); choose another program or other packets",
            ),
            (
                KernelError::Kind { program: program(), kind: "raw" },
                "kernel: xdp_main: it has no programs of kind raw; choose another program",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
