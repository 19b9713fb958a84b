//! Every defect of an object is named with its place and a way to mend it.

use kumite::elf::Object;

use super::builder::{Builder, Names};
use super::{error_of, refusal_of};

/// `.BTF` of these types (words) and strings.
pub(super) fn btf(types: &[u32], strings: &str) -> Vec<u8> {
    let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
    let len = |bytes: usize| u32::try_from(bytes).expect("short").to_le_bytes();
    let header =
        [&[0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0][..], &len(types.len()), &len(types.len()), &len(strings.len())];
    [&header.concat()[..], &types, strings.as_bytes()].concat()
}

/// An object with one program whose text is given, and relocations of it.
fn program(text: &str, relocations: &[(u64, u32, u32)]) -> Builder {
    let mut builder = Builder::new();
    let xdp = builder.text("xdp", text);
    let len = kumite::isa::assemble(text).expect("text of the test").len() as u64 * 8;
    builder.symbol("main", Names::Function, xdp, 0, len);
    builder.relocations(xdp, relocations);
    builder
}

#[test]
fn what_is_no_bpf_object_is_refused() {
    let build = "build it with `clang -target bpf -c`";
    assert_eq!(error_of(b""), format!("not a BPF object: it does not begin as an ELF file does; {build}"));
    assert_eq!(error_of(b"\x7fELF"), "damaged object: the ELF header is cut off; rebuild it");
    let patched = |at: usize, byte: u8| {
        let mut bytes = Builder::new().finish();
        bytes[at] = byte;
        error_of(&bytes)
    };
    assert_eq!(patched(4, 1), format!("not a BPF object: it is not a 64-bit little-endian ELF file; {build}"));
    assert_eq!(patched(5, 2), format!("not a BPF object: it is not a 64-bit little-endian ELF file; {build}"));
    assert_eq!(patched(18, 62), format!("not a BPF object: it was built for another machine; {build}"));
    assert_eq!(patched(16, 3), format!("not a BPF object: it is linked, not relocatable; {build}"));
    assert_eq!(patched(60, 0), "damaged object: it has no section; rebuild it");
    assert_eq!(patched(61, 0xff), "damaged object: the section table lies outside the file; rebuild it");
    assert_eq!(patched(47, 0xff), "damaged object: the section table lies outside the file; rebuild it");
    let long = vec![0; (64 << 20) + 1];
    assert_eq!(error_of(&long), "67108865 bytes are more than 67108864; strip it with `llvm-strip -g`");
}

#[test]
fn an_object_without_programs_is_an_object() {
    let object = Object::parse("test.o", &Builder::new().finish()).expect("nothing is wrong with it");
    assert!(object.programs.is_empty() && object.maps.is_empty() && object.license.is_none() && object.btf.is_none());
    let error = object.expect_program("main").expect_err("there is none");
    assert_eq!(error.to_string(), "test.o: no program is called main; it has none");
}

#[test]
fn functions_outside_their_section_are_refused() {
    let refused = |value, len| {
        let mut builder = Builder::new();
        let xdp = builder.text("xdp", "r0 = 2\nexit");
        builder.symbol("main", Names::Function, xdp, value, len);
        error_of(&builder.finish())
    };
    let past = "function main in xdp: it reaches past the end of its section; rebuild the object";
    assert_eq!(refused(0, 24), past);
    assert_eq!(refused(8, u64::MAX - 7), past);
    assert_eq!(refused(24, 0), past);
    assert_eq!(refused(0, 12), "function main in xdp: it is no whole number of 8-byte slots; rebuild the object");
    assert_eq!(refused(4, 8), "function main in xdp: it is no whole number of 8-byte slots; rebuild the object");

    let mut builder = Builder::new();
    let xdp = builder.text("xdp", "r0 = 2\nexit\nexit");
    builder.symbol("main", Names::Function, xdp, 0, 24);
    builder.symbol("other", Names::Function, xdp, 8, 8);
    let expected = "function other in xdp: it overlaps the function before it; rebuild the object";
    assert_eq!(error_of(&builder.finish()), expected);

    let mut builder = Builder::new();
    let xdp = builder.text("xdp", "exit");
    builder.symbol("", Names::Function, xdp, 0, 8);
    let expected = "function xdp in xdp: it has no name that can be read; rebuild the object";
    assert_eq!(error_of(&builder.finish()), expected);
}

#[test]
fn where_no_symbol_has_a_type_the_global_ones_are_functions() {
    let (untyped, local) = (1 << 4, 0);
    let old = |named: u8| {
        let mut builder = Builder::new();
        let xdp = builder.text("xdp", "r0 = 1\nlabel: exit\nr0 = 2\nexit");
        builder.symbol_bound("first", named, xdp, 0, 0);
        builder.symbol_bound("LBB0_1", local, xdp, 8, 0);
        builder.symbol_bound("second", untyped, xdp, 16, 0);
        Object::parse("test.o", &builder.finish()).expect("an object")
    };
    let programs = |object: &Object| -> Vec<(String, usize)> {
        let programs = object.programs.iter();
        programs.map(|program| (program.name().to_owned(), program.insns().len())).collect()
    };
    assert_eq!(programs(&old(untyped)), [("first".to_owned(), 2), ("second".to_owned(), 2)]);
    // A label in the section of a function that says what it is.
    assert_eq!(programs(&old(untyped | 2)), [("first".to_owned(), 4)]);
}

#[test]
fn a_function_symbol_without_length_reaches_to_the_next() {
    let mut builder = Builder::new();
    let xdp = builder.text("xdp", "r0 = 1\nexit\nr0 = 2\nr0 = 3\nexit");
    builder.symbol("first", Names::Function, xdp, 0, 0);
    builder.symbol("second", Names::Function, xdp, 16, 0);
    let object = Object::parse("test.o", &builder.finish()).expect("assembler writes such files");
    let lens: Vec<usize> = object.programs.iter().map(|program| program.insns().len()).collect();
    assert_eq!(lens, [2, 3]);
}

#[test]
fn a_program_of_no_hook_is_kept_by_name_with_the_reason() {
    for (section, name) in [("from-netdev", "main"), (".text", "main")] {
        let mut builder = Builder::new();
        let text = builder.text(section, "r0 = 2\nexit");
        builder.symbol(name, Names::Function, text, 0, 16);
        let expected =
            format!("main: section {section:?} names no hook; name it xdp, tc or socket, or say `--type main=KIND`");
        assert_eq!(refusal_of(&builder.finish()), expected);
    }
}

#[test]
fn a_malformed_program_is_refused_and_the_others_are_not() {
    let mut builder = Builder::new();
    let xdp = builder.text("xdp", "r0 = 2\nexit\nr0 = 2");
    builder.symbol("good", Names::Function, xdp, 0, 16);
    builder.symbol("bad", Names::Function, xdp, 16, 8);
    let object = Object::parse("test.o", &builder.finish()).expect("one is good");
    assert_eq!(object.programs.len(), 1);
    let error = object.expect_program("bad").expect_err("it is refused");
    assert_eq!(error.to_string(), "test.o: bad insn 0: bad falls off its end; end it with `exit` or `goto`");
    assert!(object.expect_program("good").is_ok());
    let error = object.expect_program("ugly").expect_err("there is none");
    assert_eq!(error.to_string(), "test.o: no program is called ugly; it has good");
}

#[test]
fn regression_50_wrong_relocations_are_refused_with_symbol_and_instruction() {
    let with = |text: &str, place: (u64, u32), symbol: fn(&mut Builder) -> u32| {
        let mut builder = program(text, &[]);
        let symbol = symbol(&mut builder);
        builder.relocations(1, &[(place.0, place.1, symbol)]);
        refusal_of(&builder.finish())
    };
    let load = "r0 = 1\nr1 = 0 ll\nexit";
    let in_data = |builder: &mut Builder| {
        let section = builder.data(".data", &[0; 8]);
        builder.symbol("count", Names::Variable, section, 0, 8)
    };
    let in_note = |builder: &mut Builder| {
        let section = builder.data("notes", &[0; 8]);
        builder.symbol("note", Names::Variable, section, 0, 8)
    };
    let mend = "rebuild the object";
    for (text, place, symbol, expected) in [
        (
            load,
            (8, 77),
            in_data as fn(&mut Builder) -> u32,
            "main insn 1: relocation 77 against count: kumite knows no such relocation of instructions",
        ),
        (load, (8, 10), in_data, "main insn 1: relocation 10 against count: the instruction is of another kind"),
        (load, (0, 1), in_data, "main insn 0: relocation 1 against count: the instruction is of another kind"),
        (load, (12, 1), in_data, "main insn 2: relocation 1 against count: it is not at the start of an instruction"),
        (load, (16, 1), in_data, "main insn 2: relocation 1 against count: it is not at the start of an instruction"),
        (load, (8, 1), |_| 99, "main insn 1: relocation 1 against #99: the symbol does not exist"),
        (load, (8, 1), in_note, "main insn 1: relocation 1 against note: neither a map nor a variable is there"),
        (
            load,
            (8, 1),
            |builder| builder.symbol("absolute", Names::Variable, 0xfff1, 0, 8),
            "main insn 1: relocation 1 against absolute: the symbol is in no section",
        ),
        (
            load,
            (8, 1),
            |builder| {
                let section = builder.data(".data", &[0; 8]);
                builder.symbol("far", Names::Variable, section, 1 << 33, 8)
            },
            "main insn 1: relocation 1 against far: it leads out of the variables",
        ),
        (
            load,
            (8, 1),
            |builder| builder.symbol("inside", Names::Function, 1, 8, 0),
            "main insn 1: relocation 1 against inside: no function begins there",
        ),
        (
            "call -1\nexit",
            (0, 10),
            |builder| {
                let section = builder.data(".data", &[0; 8]);
                builder.symbol("odd", Names::Variable, section, 4, 4)
            },
            "main insn 0: relocation 10 against odd: the symbol is at no instruction",
        ),
    ] {
        // A function symbol inside another function is refused as such.
        let got = if expected.contains("inside") {
            let mut builder = program(text, &[]);
            let section = builder.text("tail", "exit\nexit");
            let symbol = builder.symbol_bound("inside", 1 | 1 << 4, section, 8, 0);
            builder.relocations(1, &[(place.0, place.1, symbol)]);
            refusal_of(&builder.finish())
        } else {
            with(text, place, symbol)
        };
        assert_eq!(got, format!("{expected}; {mend}"));
    }
}

#[test]
fn calls_to_where_no_function_begins_are_refused() {
    for (call, target) in [("call +5", "6"), ("call -9", "-8"), ("call +0", "1"), ("call +2147483647", "2147483648")] {
        let expected =
            format!("main insn 0: the call leads to xdp slot {target}, where no function begins; rebuild the object");
        assert_eq!(refusal_of(&program(&format!("{call}\nexit"), &[]).finish()), expected);
    }
}

#[test]
fn relocation_sections_of_another_form_are_refused() {
    let mut builder = program("r0 = 2\nexit", &[]);
    builder.relocations(1, &[(0, 1, 1)]);
    builder.of_type(4);
    let expected = "section .rel: relocations with addends are not supported; rebuild the object";
    assert_eq!(error_of(&builder.finish()), expected);
}

#[test]
fn regression_52_garbage_for_types_is_refused_with_its_place() {
    let refused = |bytes: &[u8]| {
        let mut builder = Builder::new();
        builder.note(".BTF", bytes);
        error_of(&builder.finish())
    };
    let mend = "rebuild the object with `-g`";
    assert_eq!(refused(b"what"), format!("section .BTF at 0x0: it does not begin as BTF does; {mend}"));
    assert_eq!(refused(&[0x9f, 0xeb, 1, 0]), format!("section .BTF at 0x0: the header is cut off; {mend}"));
    let mut outside = btf(&[], "\0");
    outside[12] = 4;
    assert_eq!(refused(&outside), format!("section .BTF at 0x8: the types lie outside the section; {mend}"));
    let mut outside = btf(&[], "\0");
    outside[23] = 0xff;
    assert_eq!(refused(&outside), format!("section .BTF at 0x10: the strings lie outside the section; {mend}"));
    for types in [&[0, 31 << 24, 0][..], &[0, 1 << 24, 4], &[0, 4 << 24 | 0xffff, 4, 0, 0, 0], &[0, 2 << 24]] {
        let expected = format!("section .BTF at 0x18: a type is cut off or of an unknown kind; {mend}");
        assert_eq!(refused(&btf(types, "\0")), expected);
    }
}

#[test]
fn garbage_for_source_lines_is_refused_with_its_place() {
    let refused = |bytes: &[u8]| {
        let mut builder = Builder::new();
        builder.note(".BTF", &btf(&[], "\0xdp\0"));
        builder.note(".BTF.ext", bytes);
        error_of(&builder.finish())
    };
    let ext = |line_len: u32, words: &[u32]| {
        let header = [0, 0, 0, line_len].map(u32::to_le_bytes).concat();
        let words: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        [&[0x9f, 0xeb, 1, 0, 24, 0, 0, 0][..], &header, &words].concat()
    };
    let mend = "rebuild the object with `-g`";
    assert_eq!(refused(b"what"), format!("section .BTF.ext at 0x0: it does not begin as BTF does; {mend}"));
    assert_eq!(refused(&[0x9f, 0xeb]), format!("section .BTF.ext at 0x0: the header is cut off; {mend}"));
    assert_eq!(refused(&ext(99, &[])), format!("section .BTF.ext at 0x0: a part lies outside the section; {mend}"));
    for len in [0, 12, 18] {
        let expected = format!("section .BTF.ext at 0x18: its records have a wrong length; {mend}");
        assert_eq!(refused(&ext(4, &[len])), expected);
    }
    let expected = format!("section .BTF.ext at 0x20: a section has no record; {mend}");
    assert_eq!(refused(&ext(12, &[16, 1, 0])), expected);
    let expected = format!("section .BTF.ext at 0x24: a record is cut off; {mend}");
    assert_eq!(refused(&ext(12, &[16, 1, u32::MAX])), expected);
}

#[test]
fn types_in_circles_end() {
    // A typedef of itself, a variable of that type, and a section of maps that holds the variable.
    let types = [1, 8 << 24, 1, 1, 14 << 24, 1, 0, 3, 15 << 24 | 1, 8, 2, 0, 8];
    let mut builder = Builder::new();
    builder.note(".BTF", &btf(&types, "\0m\0.maps\0"));
    let maps = builder.data(".maps", &[0; 8]);
    builder.symbol("m", Names::Variable, maps, 0, 8);
    assert_eq!(error_of(&builder.finish()), "map m: its type goes in a circle; correct its definition");
}

#[test]
fn wrong_definitions_of_maps_are_refused() {
    let mut builder = Builder::new();
    builder.data(".maps", &[0; 8]);
    let expected = "section .maps: its maps are defined by types, and the object has no .BTF; rebuild the object";
    assert_eq!(error_of(&builder.finish()), expected);

    let mut builder = Builder::new();
    builder.note(".BTF", &btf(&[], "\0"));
    builder.data(".maps", &[0; 8]);
    assert_eq!(
        error_of(&builder.finish()),
        "section .maps: the object's .BTF does not describe it; rebuild the object"
    );

    // An integer as a map; then without its symbol.
    let types = [1, 1 << 24, 4, 32, 1, 14 << 24, 1, 0, 3, 15 << 24 | 1, 8, 2, 0, 8];
    for (symbol, expected) in [("m", "its type is no structure"), ("n", "no symbol says where it is")] {
        let mut builder = Builder::new();
        builder.note(".BTF", &btf(&types, "\0m\0.maps\0"));
        let maps = builder.data(".maps", &[0; 8]);
        builder.symbol(symbol, Names::Variable, maps, 0, 8);
        assert_eq!(error_of(&builder.finish()), format!("map m: {expected}; correct its definition"));
    }

    let mut builder = Builder::new();
    let maps = builder.data("maps", &[0; 15]);
    builder.symbol("short", Names::Variable, maps, 0, 15);
    let expected = "map short: its definition has fewer than 16 bytes; correct its definition";
    assert_eq!(error_of(&builder.finish()), expected);
}

#[test]
fn more_of_anything_than_an_object_may_hold_is_refused() {
    let mut builder = Builder::new();
    let xdp = builder.text("xdp", &"exit\n".repeat(4097));
    for number in 0..4097 {
        builder.symbol(&format!("f{number}"), Names::Function, xdp, number * 8, 8);
    }
    assert_eq!(error_of(&builder.finish()), "4097 programs are more than 4096; split the object");

    let mut builder = Builder::new();
    let maps = builder.data("maps", &[0; 20 * 4097]);
    for number in 0..4097 {
        builder.symbol(&format!("m{number}"), Names::Variable, maps, number * 20, 20);
    }
    assert_eq!(error_of(&builder.finish()), "4097 maps are more than 4096; split the object");
}
