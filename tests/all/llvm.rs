//! The instruction table against LLVM's disassembler, which shares nothing with it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use kumite::isa::{self, Does, Group, ROWS, Row};

use crate::isa::extremes;
use crate::shared::skipped;

/// Runs an LLVM tool of version 19 with this input; `None`, with the reason printed, where it is not installed.
fn llvm(tool: &str, arguments: &[&str], input: &str) -> Option<String> {
    let spawned = Command::new(format!("{tool}-19"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = spawned else {
        skipped(&format!("{tool}-19 is not installed"));
        return None;
    };
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("the tool ends");
    // A tool that fails early closes its input; its output then says so.
    let _ = writer.join();
    Some(String::from_utf8(output.stdout).expect("the tool writes UTF-8"))
}

/// Instructions that LLVM 19 lacks.
fn is_unknown(row: &Row) -> bool {
    matches!(row.does, Does::LoadAcquire(_) | Does::StoreRelease(_) | Does::GotoReg | Does::SecondSlot)
}

/// Instructions whose text LLVM does not tell apart from others': all calls are `call 5`, all loads of addresses
/// `ld_pseudo r1, 2, 5` without the second slot, and an indirect packet load hides its immediate.
fn is_ambiguous(row: &Row, slots: &[[u8; 8]]) -> bool {
    let is_address = row.does.is_wide() && row.does != Does::LoadImm64;
    let is_negative = slots[0][7] & 0x80 != 0;
    let hides_immediate = matches!(row.does, Does::LoadPacket(_, isa::Operand::Reg)) && slots[0][4..] != [0; 4];
    is_address
        || hides_immediate
        || matches!(row.does, Does::CallLocal | Does::CallKfunc)
        || row.does == Does::CallHelper && is_negative
}

/// Our text as LLVM would write it.
fn as_llvm_writes(row: &Row, slots: &[[u8; 8]]) -> String {
    let insn = isa::decode(slots).expect("an instance of the row")[0];
    let mut text = isa::print(&insn, 0);
    if insn.jump_target(0).is_some() {
        text.truncate(text.rfind(" <").expect("a jump shows its target"));
    }
    if matches!(row.does, Does::LoadPacket(..)) {
        text = text.replace(" + 0]", "]");
    }
    if row.does == Does::LoadImm64 {
        let (register, _) = text.split_once(' ').expect("a register first");
        return format!("{register} = {} ll", insn.imm);
    }
    text
}

/// Operands of narrow accesses are `w` registers in LLVM and `r` in ours.
fn without_widths(row: &Row, text: &str) -> String {
    if row.text.contains("xdst") || row.text.contains("xsrc") { text.replace('w', "r") } else { text.to_owned() }
}

#[test]
fn llvm_reads_every_row_as_we_do() {
    let cases: Vec<(&Row, Vec<[u8; 8]>)> = ROWS
        .iter()
        .filter(|row| !is_unknown(row))
        .flat_map(|row| extremes(row).into_iter().map(move |slots| (row, slots)))
        .collect();
    // A line that LLVM cannot read leaves no trace in its output, so each is followed by one that says its number.
    let mut input = String::new();
    for (index, (_, slots)) in cases.iter().enumerate() {
        let bytes: Vec<String> = slots.iter().flatten().map(|byte| format!("{byte:#x}")).collect();
        let mark = i32::try_from(index).expect("some thousand cases").to_le_bytes().map(|byte| format!("{byte:#x}"));
        input += &format!("{}\n0xb7,0,0,0,{}\n", bytes.join(","), mark.join(","));
    }
    let arguments = ["-triple", "bpfel", "-mcpu=v4", "--disassemble"];
    let Some(output) = llvm("llvm-mc", &arguments, &input) else { return };
    let mut lines = output.lines().map(str::trim).filter(|line| *line != ".text");
    let mut compared = 0;
    for (index, (row, slots)) in cases.iter().enumerate() {
        let mark = format!("r0 = {index}");
        let read: Vec<&str> = lines.by_ref().take_while(|line| **line != mark).collect();
        let [text] = read.as_slice() else { panic!("{}: LLVM reads {slots:x?} as {read:?}", row.name) };
        if is_ambiguous(row, slots) {
            continue;
        }
        compared += 1;
        assert_eq!(isa::assemble(text).as_ref(), Ok(slots), "{}: LLVM writes {text}", row.name);
        let ours = as_llvm_writes(row, slots);
        assert_eq!(without_widths(row, &ours), without_widths(row, text), "{}", row.name);
    }
    assert!(compared > 5000, "only {compared} compared");
}

#[test]
fn llvm_knows_no_instruction_that_we_refuse_as_unknown() {
    let opcodes: Vec<u8> = (0..=255).filter(|opcode| !ROWS.iter().any(|row| row.opcode == *opcode)).collect();
    let input: String = opcodes.iter().map(|opcode| format!("{opcode:#x},0,0,0,0,0,0,0\n")).collect();
    let Some(output) = llvm("llvm-mc", &["-triple", "bpfel", "-mcpu=v4", "--disassemble"], &input) else { return };
    let read: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty() && *line != ".text").collect();
    assert!(read.is_empty(), "LLVM reads {read:?}");
}

const SOURCE: &str = r#"
static __attribute__((noinline)) long scale(long x, int y) { return x * y + 0x123456789abcdefL; }
__attribute__((section("xdp"))) int xdp_main(unsigned *ctx) {
    long sum = 0;
    for (int i = 0; i < ctx[0]; i++) {
        sum += scale(i, ctx[1]);
        __sync_fetch_and_add(&ctx[2], sum);
    }
    return __builtin_bswap32(sum) % 3;
}
"#;

#[test]
fn a_listing_of_a_compiled_object_assembles_to_its_bytes() {
    let folder = std::env::temp_dir().join(format!("kumite-listing-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let path = |name: &str| folder.join(name).to_str().expect("a UTF-8 path").to_owned();
    let (object, bytes) = (path("a.o"), path("xdp.bin"));
    for cpu in ["v1", "v2", "v3", "v4"] {
        let cpu = format!("-mcpu={cpu}");
        let compile = ["-O2", "-g", "-target", "bpf", &cpu, "-x", "c", "-c", "-", "-o", &object];
        // Below v3 there is no fetch; without use of the result none is needed.
        let Some(_) = llvm("clang", &compile, SOURCE) else { return };
        let Some(listing) = llvm("llvm-objdump", &["-d", "-S", &object], "") else { return };
        let dump = format!("--dump-section=xdp={bytes}");
        let Some(_) = llvm("llvm-objcopy", &[&dump, &object, "/dev/null"], "") else { return };
        let section = std::fs::read(Path::new(&bytes)).expect("the section's bytes");
        let listed = listing.split("section xdp:").nth(1).expect("the section is listed");
        let slots = isa::assemble(listed).unwrap_or_else(|error| panic!("{cpu}: {error}\n{listed}"));
        // Before linking, a local call holds -1 and its relocation says where it goes.
        assert!(!section.is_empty());
        assert_eq!(slots.concat(), section, "{cpu}: {listed}");
    }
    std::fs::remove_dir_all(&folder).expect("the temporary folder");
}

#[test]
fn groups_follow_the_rfc() {
    let count = |group| ROWS.iter().filter(|row| row.group == group).count();
    assert_eq!((count(Group::Base32), count(Group::Base64), count(Group::Packet)), (67, 58, 6));
    assert_eq!((count(Group::DivMul32), count(Group::DivMul64)), (10, 10));
    assert_eq!((count(Group::Atomic32), count(Group::Atomic64)), (10, 10));
}
