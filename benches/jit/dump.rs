//! The machine code of a row, to be read: as a file, and through objdump where there is one.

use std::path::Path;
use std::process::Command;

use kumite::vm::jit::{Native, NoHooks};

use crate::bench::Lane;
use crate::engine::Absent;

/// Writes the code of each of a lane's programs in fast mode into a folder, and its listing beside it.
pub(crate) fn write(lane: &Lane, folder: &Path) -> Result<(), Absent> {
    std::fs::create_dir_all(folder).map_err(Absent::because)?;
    for loaded in lane.instance.programs() {
        let native = Native::<NoHooks>::translate(loaded.linked()).map_err(Absent::because)?;
        let path = folder.join(format!("{}.bin", loaded.linked().program().name()));
        std::fs::write(&path, native.machine_code()).map_err(Absent::because)?;
        let objdump = Command::new("objdump")
            .args(["-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", "--no-show-raw-insn"])
            .arg(&path)
            .output();
        match objdump {
            Ok(output) if output.status.success() => {
                let listing = path.with_extension("s");
                std::fs::write(&listing, output.stdout).map_err(Absent::because)?;
                println!("{}", listing.display());
            }
            Ok(_) | Err(_) => println!("{} (no objdump to list it with)", path.display()),
        }
    }
    Ok(())
}
