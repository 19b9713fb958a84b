//! The programs as clang builds them: for BPF, for this machine, and for this machine without vectors.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::Command;

use kumite::elf::Object;

use crate::engine::Absent;
use crate::rows::Row;

/// What kumite's users build with.
const BPF: [&str; 6] = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-c"];
const NATIVE: [&str; 3] = ["-O2", "-fPIC", "-shared"];
/// Code that does one thing after the other, as generated code does.
const SCALAR: [&str; 6] = ["-O2", "-fPIC", "-shared", "-fno-vectorize", "-fno-slp-vectorize", "-fno-unroll-loops"];

/// A program in its three shapes.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) object: Object,
    pub(crate) native: Library,
    pub(crate) scalar: Library,
}

/// The compiler, if there is one that knows BPF.
pub(crate) fn clang() -> Option<&'static str> {
    let runs = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    ["clang-19", "clang-20", "clang-18", "clang"].into_iter().find(runs)
}

/// Builds a row's program.
pub(crate) fn build(clang: &str, row: &Row) -> Result<Built, Absent> {
    let object = compile(clang, row, "o", &BPF)?;
    let bytes = std::fs::read(&object).map_err(Absent::because)?;
    Ok(Built {
        object: Object::parse(&object.display().to_string(), &bytes).map_err(Absent::because)?,
        native: Library::open(&compile(clang, row, "native.so", &NATIVE)?)?,
        scalar: Library::open(&compile(clang, row, "scalar.so", &SCALAR)?)?,
    })
}

fn compile(clang: &str, row: &Row, extension: &str, options: &[&str]) -> Result<PathBuf, Absent> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("jit");
    std::fs::create_dir_all(&folder).map_err(Absent::because)?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/programs/{}.c", row.name));
    let path = folder.join(format!("{}.{extension}", row.name));
    let output = Command::new(clang).args(options).arg(&source).arg("-o").arg(&path).output();
    let output = output.map_err(Absent::because)?;
    if !output.status.success() {
        return Err(Absent::because(String::from_utf8_lossy(&output.stderr)));
    }
    Ok(path)
}

/// A shared object in this process; it stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Library(*mut libc::c_void);

impl Library {
    fn open(path: &Path) -> Result<Self, Absent> {
        let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(Absent::because)?;
        // SAFETY: the library is ours, built a moment ago; it has no constructors.
        let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() {
            Err(Absent::because(format!("{}: dlopen fails", path.display())))
        } else {
            Ok(Self(library))
        }
    }

    /// The address of a symbol.
    pub(crate) fn symbol(self, name: &str) -> Option<*mut libc::c_void> {
        let name = CString::new(name).ok()?;
        // SAFETY: the library stays open.
        let symbol = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!symbol.is_null()).then_some(symbol)
    }
}
