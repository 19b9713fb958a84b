//! An object as libbpf loads it into the kernel, by bpftool: a loader that shares nothing with ours.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use kumite::maps::MapDef;

use super::clang;
use crate::kernel::{self, KernelMap, KernelProgram};
use crate::shared::skipped;

/// An object in the kernel; what it made goes when this is dropped.
#[derive(Debug)]
pub(crate) struct KernelObject {
    /// A file system of pinned programs and maps that is this object's alone.
    folder: PathBuf,
    stem: String,
}

fn command(program: &str, args: &[&Path]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

impl KernelObject {
    /// Whether objects can be loaded into the kernel here; where not, says that the part of a test is skipped.
    pub(crate) fn available() -> bool {
        if !clang::has("bpftool") {
            skipped("no bpftool");
            return false;
        }
        kernel::available()
    }

    /// Loads all programs of an object.
    ///
    /// # Panics
    /// If libbpf or the verifier refuses it.
    pub(crate) fn load(object: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bpffs_{}_{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the target folder can be written");
        let mounted = command("mount", &[Path::new("-t"), Path::new("bpf"), Path::new("bpf"), &folder]);
        mounted.expect("where bpf(2) is allowed, so is its file system");
        let stem = object.file_name().expect("a file").to_string_lossy();
        let stem = stem.split_once('.').map_or(&*stem, |(stem, _)| stem).to_owned();
        let loaded = Self { folder, stem };
        let maps = loaded.folder.join("maps");
        std::fs::create_dir(&maps).expect("a folder of the file system");
        let [prog, loadall, pinmaps] = ["prog", "loadall", "pinmaps"].map(Path::new);
        let programs = loaded.folder.join("programs");
        let answer = command("bpftool", &[prog, loadall, object, &programs, pinmaps, &maps]);
        if let Err(text) = answer {
            panic!("{}: {text}", object.display());
        }
        loaded
    }

    /// The program with this name.
    pub(crate) fn program(&self, name: &str) -> KernelProgram {
        KernelProgram::open(&self.folder.join("programs").join(name)).expect("every program is pinned")
    }

    /// The map that our definition describes. libbpf puts as many letters of the object's name as fit before those of the
    /// three usual sections, and an underscore for each point in paths.
    pub(crate) fn map(&self, def: &MapDef) -> KernelMap {
        let folder = self.folder.join("maps");
        let prefix: String = self.stem.chars().take(15 - def.name.len().clamp(7, 15)).collect();
        let names = [def.name.clone(), format!("{prefix}{}", def.name)].map(|name| name.replace('.', "_"));
        let path = names.iter().map(|name| folder.join(name)).find(|path| path.exists());
        let path = path.unwrap_or_else(|| panic!("no pinned map {names:?} in {}", folder.display()));
        KernelMap::open(&path, def.kind.0, def.key_len, def.value_len).expect("every map is pinned")
    }
}

impl Drop for KernelObject {
    fn drop(&mut self) {
        // What is left behind at worst is an empty file system below the target folder.
        let _ = command("umount", &[&self.folder]);
        let _ = std::fs::remove_dir(&self.folder);
    }
}
