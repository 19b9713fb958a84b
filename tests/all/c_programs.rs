//! C programs as clang builds them: all modes must agree, and verify mode must find nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use kumite::elf::Object;
use kumite::isa::random::Dice;
use kumite::vm::{Instance, Mode};

use crate::shared::skipped;
use crate::stage::{Ran, Stage};

/// Frames that each program judges.
const FRAMES: u64 = 300;

/// Builds a program of `tests/programs` for a version of the instruction set; `None` where it cannot be built for it.
fn build(source: &Path, cpu: &str) -> Option<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let stem = source.file_stem().expect("a name").to_string_lossy();
    let object = folder.join(format!("findings_{stem}_{cpu}.o"));
    let built = Command::new("clang-19")
        .args(["-O2", "-g", "-target", "bpf", "-I/usr/include/x86_64-linux-gnu", &format!("-mcpu={cpu}"), "-c"])
        .arg(source)
        .arg("-o")
        .arg(&object)
        .output()
        .expect("clang was found");
    built.status.success().then(|| std::fs::read(&object).expect("clang wrote it"))
}

/// A frame that is Ethernet, mostly IPv4 or IPv6, often whole, never interesting twice.
fn frame(seed: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let len = 14 + dice.below(200);
    let mut frame: Vec<u8> = (0..len).map(|_| u8::try_from(dice.below(256)).expect("a byte")).collect();
    let ether_type = dice.pick(&[[0x08, 0x00], [0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x08, 0x06]]);
    frame[12..14].copy_from_slice(&ether_type);
    match ether_type {
        [0x08, 0x00] if len > 60 => {
            frame[14] = if dice.once_in(5) { 0x46 } else { 0x45 };
            frame[16..18].copy_from_slice(&u16::try_from(len - 14).expect("short").to_be_bytes());
            frame[20..22].fill(0);
            frame[23] = dice.pick(&[1, 4, 6, 17]);
        }
        [0x86, 0xdd] if len > 60 => {
            frame[14] = 0x60;
            frame[20] = dice.pick(&[6, 17, 58]);
        }
        [0x81, 0x00] if len > 60 => frame[16..19].copy_from_slice(&[0x08, 0x00, 0x45]),
        _ => {}
    }
    frame
}

/// All programs of an object on the same frames, with maps of their own.
fn run(mode: Mode, object: &Object) -> Vec<(String, Ran, Vec<String>)> {
    let stage = Stage::new();
    let instance = Instance::load(&stage.world, object).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(instance.refused().len(), 0, "{:?}", instance.refused());
    let mut all = Vec::new();
    for program in instance.programs() {
        for seed in 0..FRAMES {
            let name = format!("{} frame {seed}", program.linked().program().name());
            let ran = stage.run_frame(mode, program, &frame(seed));
            all.push((name, ran, std::mem::take(&mut *stage.lines.lock().expect("no panic"))));
        }
    }
    all
}

#[test]
fn c_programs_end_alike_in_every_mode_and_have_no_findings() {
    if Command::new("clang-19").arg("--version").output().is_err() {
        return skipped("no clang-19");
    }
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs"));
    let sources = std::fs::read_dir(folder).expect("C programs").map(|entry| entry.expect("an entry").path());
    let mut sources: Vec<_> =
        sources.filter(|path| path.extension().is_some_and(|extension| extension == "c")).collect();
    sources.sort();
    let mut count = 0;
    for source in &sources {
        for cpu in ["v1", "v2", "v3", "v4"] {
            let Some(bytes) = build(source, cpu) else { continue };
            let object = Object::parse(&source.display().to_string(), &bytes).unwrap_or_else(|error| panic!("{error}"));
            let verify = run(Mode::Verify, &object);
            for (name, ran, _) in &verify {
                assert_eq!((ran.trap, ran.findings.as_slice()), (None, &[][..]), "{} {cpu} {name}", source.display());
            }
            for mode in [Mode::Fast, Mode::Instrumented] {
                for ((name, theirs, lines), (_, ours, expected)) in run(mode, &object).iter().zip(&verify) {
                    assert_eq!(theirs.essence(), ours.essence(), "{} {cpu} {name} {mode}", source.display());
                    assert_eq!(lines, expected, "{} {cpu} {name} {mode}", source.display());
                }
            }
            count += 1;
        }
    }
    assert!(count >= 3 * sources.len(), "{count} objects of {} sources were built", sources.len());
}
