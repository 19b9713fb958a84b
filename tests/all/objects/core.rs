//! Instructions that depend on the kernel's types are rewritten as libbpf rewrites them.

use std::sync::Arc;

use kumite::elf::core::{TypeSources, Types};
use kumite::elf::{Object, Settings};
use kumite::isa::{Does, Insn};
use kumite::vm::Mode;

use super::definitions::objects_with;
use crate::programs::clang;
use crate::stage::Stage;

/// Shorthands of the snippets; the types are not the UAPI's own, so that each may differ from it.
const HEAD: &str = "
#define CORE __attribute__((preserve_access_index))
#define exists(field) __builtin_preserve_field_info(field, 2)
#define first_of(type) (*(type *)0)
";

fn with(name: &str, text: &str, types: &TypeSources) -> Vec<Object> {
    let settings = Settings { types: types.clone(), ..Settings::default() };
    objects_with(name, &format!("{HEAD}{text}"), &settings)
}

fn embedded(name: &str, text: &str) -> Vec<Object> {
    with(name, text, &TypeSources::default())
}

/// The types of a C text, for objects to be fitted to.
fn types_of(name: &str, text: &str) -> TypeSources {
    let path = clang::build_text("clang-14", name, text);
    let bytes = std::fs::read(path).expect("the compiler wrote it");
    let section = section(&bytes, ".BTF").expect("built with -g");
    let types = Types::read(name, section).expect("BTF");
    TypeSources { given: Some(Arc::new(types)), kernel: None }
}

/// The contents of a section.
fn section<'a>(bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let elf = goblin::elf::Elf::parse(bytes).ok()?;
    let header = elf.section_headers.iter().find(|header| elf.shdr_strtab.get_at(header.sh_name) == Some(name))?;
    bytes.get(header.file_range()?)
}

/// What a program without surroundings returns in every mode, or why it traps.
fn results(object: &Object, program: &str) -> Result<u64, String> {
    let program = object.expect_program(program).unwrap_or_else(|error| panic!("{error}"));
    let stage = Stage::new();
    let loaded = stage.load("test", kumite::verdict::ProgramKind::Raw, kumite::isa::encode(program.insns()), &[]);
    let [verify, fast, instrumented] =
        [Mode::Verify, Mode::Fast, Mode::Instrumented].map(|mode| stage.run_raw(mode, &loaded, &[0; 64]));
    assert_eq!(fast.essence(), verify.essence());
    assert_eq!(instrumented.essence(), verify.essence());
    if verify.trap.is_some() { Err(verify.trap_text()) } else { Ok(verify.r0) }
}

fn loads(object: &Object, program: &str) -> Vec<Insn> {
    let program = object.expect_program(program).unwrap_or_else(|error| panic!("{error}"));
    program.insns().iter().filter(|insn| matches!(insn.does, Does::Load(..) | Does::Store(..))).copied().collect()
}

#[test]
fn every_question_about_the_uapi_types_has_the_kernels_answer() {
    let text = "
struct iphdr___mine { int ttl; unsigned char protocol; int nothing_like_it; } CORE;
struct tcphdr { int pad; unsigned short fin : 1, syn : 1; unsigned short doff : 4; } CORE;
struct xdp_md___short { int data_end; } CORE;
struct nobody_has { int x; } CORE;
enum bpf_func_id___mine { BPF_FUNC_loop___mine = 1, BPF_FUNC_nonsense = 2 };
#define P ((struct tcphdr *)ctx)
#define I ((struct iphdr___mine *)ctx)
#define info(field, kind) __builtin_preserve_field_info(field, kind)
#define program(name, expression) SEC(\"xdp\") int name(void *ctx) { return expression; }
program(offset, info(I->protocol, 0))
program(bytes, info(I->ttl, 1))
program(here, info(I->ttl, 2))
program(missing, info(I->nothing_like_it, 2))
program(sign, info(I->ttl, 3))
program(bit_offset, info(P->doff, 0))
program(bit_bytes, info(P->doff, 1))
program(left, info(P->doff, 4))
program(right, info(P->doff, 5))
program(type_here, __builtin_preserve_type_info(first_of(struct xdp_md___short), 0))
program(type_missing, __builtin_preserve_type_info(first_of(struct nobody_has), 0))
program(type_bytes, __builtin_preserve_type_info(first_of(struct xdp_md___short), 1))
program(type_no_bytes, __builtin_preserve_type_info(first_of(struct nobody_has), 1))
program(value_here, __builtin_preserve_enum_value(*(enum bpf_func_id___mine *)BPF_FUNC_loop___mine, 0))
program(value_missing, __builtin_preserve_enum_value(*(enum bpf_func_id___mine *)BPF_FUNC_nonsense, 0))
program(value, __builtin_preserve_enum_value(*(enum bpf_func_id___mine *)BPF_FUNC_loop___mine, 1))
program(no_value, __builtin_preserve_enum_value(*(enum bpf_func_id___mine *)BPF_FUNC_nonsense, 1))
program(no_field, info(I->nothing_like_it, 0))
program(local_id, __builtin_btf_type_id(first_of(struct nobody_has), 0) > 0)
program(target_id, __builtin_btf_type_id(first_of(struct nobody_has), 1))
";
    for object in embedded("core_questions", text) {
        assert!(object.refused.is_empty(), "{:?}", object.refused);
        for (program, expected) in [
            ("offset", 9),
            ("bytes", 1),
            ("here", 1),
            ("missing", 0),
            ("sign", 0),
            ("bit_offset", 12),
            ("bit_bytes", 2),
            ("left", 64 - 8),
            ("right", 60),
            ("type_here", 1),
            ("type_missing", 0),
            ("type_bytes", 24),
            ("type_no_bytes", 0),
            ("value_here", 1),
            ("value_missing", 0),
            ("value", 181),
            ("local_id", 1),
            ("target_id", 0),
        ] {
            assert_eq!(results(&object, program), Ok(expected), "{program}");
        }
        for (program, what) in [
            ("no_value", "enum value of bpf_func_id___mine::BPF_FUNC_nonsense"),
            ("no_field", "field offset of iphdr___mine.nothing_like_it"),
        ] {
            let expected = "it needs a type or field that this kernel does not have; `kumite inspect` names it";
            assert!(results(&object, program).expect_err(program).ends_with(expected), "{program}");
            let unresolved = object.program(program).expect("it is loaded").unresolved();
            assert_eq!(unresolved[0].what.as_ref(), what);
        }
    }
}

#[test]
fn loads_and_stores_move_and_change_their_length() {
    let local = "
struct pair { unsigned int a, b; } CORE;
struct thing { unsigned int wide; struct pair pairs[4]; unsigned char *pointer; int signed_one; unsigned short far; } CORE;
SEC(\"xdp\") int wide(struct thing *thing) { return thing->wide; }
SEC(\"xdp\") int element(struct thing *thing) { return thing->pairs[2].b; }
SEC(\"xdp\") int pointer(struct thing *thing) { return thing->pointer != 0; }
SEC(\"xdp\") int signed_one(struct thing *thing) { return thing->signed_one; }
SEC(\"xdp\") int store(struct thing *thing) { thing->wide = 5; return 0; }
SEC(\"xdp\") int far(struct thing *thing) { return thing->far; }
SEC(\"xdp\") int tested(struct thing *thing) { return exists(thing->far) ? thing->far : 7; }
";
    let target = "
struct pair { unsigned long before; unsigned int a, b; };
struct thing { unsigned char head[3]; union { struct { unsigned char pad[6]; unsigned short wide; }; long other; }; struct pair pairs[3]; void *pointer; long signed_one; };
struct thing one;
";
    if !clang::available("clang-14") {
        return;
    }
    let types = types_of("core_target", target);
    for object in with("core_loads", local, &types) {
        assert!(object.refused.is_empty(), "{:?}", object.refused);
        let only = |program: &str| {
            let loads = loads(&object, program);
            assert_eq!(loads.len(), 1, "{program}: {loads:?}");
            let (Does::Load(size, _) | Does::Store(size, _)) = loads[0].does else { panic!("{loads:?}") };
            (loads[0].off, size.len())
        };
        assert_eq!(only("wide"), (8 + 6, 2));
        assert_eq!(only("element"), (16 + 2 * 16 + 12, 4));
        assert_eq!(only("pointer"), (16 + 3 * 16, 8));
        assert_eq!(only("store"), (8 + 6, 2));
        for program in ["signed_one", "far"] {
            assert_eq!(loads(&object, program), [], "{program}");
            assert_eq!(object.program(program).expect("loaded").unresolved().len(), 1, "{program}");
        }
        assert_eq!(results(&object, "tested"), Ok(7), "a program that asks first goes its other way");
    }
}

#[test]
fn types_that_do_not_match_are_told_from_those_that_do() {
    let local = "
struct other;
struct exact { int a; struct other *next; } CORE;
struct fewer { int a; } CORE;
struct differs { unsigned int a; } CORE;
enum colour { red___x, green = 7 };
#define program(name, type) SEC(\"xdp\") int name(void *ctx) \\
    { return __builtin_preserve_type_info(first_of(type), 2); }
program(match_exact, struct exact)
program(match_fewer, struct fewer)
program(match_differs, struct differs)
program(match_colour, enum colour)
";
    let target = "
struct other { int z; };
struct exact { int a; struct other *next; };
struct fewer { int b; int a; };
struct differs { int a; };
enum colour { blue, green, red };
struct exact one; struct fewer two; struct differs three; enum colour four;
";
    if !clang::available("clang-14") || !clang::available("clang-19") {
        return;
    }
    let types = types_of("core_match_target", target);
    let settings = Settings { types, ..Settings::default() };
    let object = super::definitions::build_with("clang-19", "core_match", &format!("{HEAD}{local}"), &settings);
    for (program, expected) in [("match_exact", 1), ("match_fewer", 1), ("match_differs", 0), ("match_colour", 1)] {
        assert_eq!(results(&object, program), Ok(expected), "{program}");
    }
}

#[test]
fn the_embedded_types_are_the_running_kernels() {
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        return crate::shared::skipped("the kernel shows no types");
    };
    let kernel = Types::read("vmlinux", &bytes).expect("BTF");
    let (ours, theirs) = (Types::embedded().btf(), kernel.btf());
    use kumite::elf::btf::Kind;
    let mut compared = 0;
    for (id, found) in ours.types() {
        let name = ours.name(id);
        let mut candidates = kernel.named(name).iter().map(|id| (*id, theirs.kind(*id)));
        if let Kind::Struct { len, members } = &found.kind
            && !name.is_empty()
            && !name.starts_with("bpf_lpm")
        {
            let same = |kind: &Kind| {
                let Kind::Struct { len: other, members: others } = kind else { return false };
                let text = |btf: &kumite::elf::btf::Btf,
                            members: &[kumite::elf::btf::Member]|
                 -> Vec<(String, u32, u32, Option<u32>)> {
                    members
                        .iter()
                        .map(|at| (btf.text(at.name).to_owned(), at.bit_offset, at.bit_len, btf.len_of(at.member_type)))
                        .collect()
                };
                len == other && text(ours, members) == text(theirs, others)
            };
            assert!(candidates.any(|(_, kind)| same(kind)), "{name}");
            compared += 1;
        } else if let Kind::Enum { values, .. } = &found.kind {
            let same = |kind: &Kind| {
                let Kind::Enum { values: others, .. } = kind else { return false };
                values.iter().all(|value| {
                    others
                        .iter()
                        .any(|other| ours.text(value.name) == theirs.text(other.name) && value.value == other.value)
                })
            };
            assert!(candidates.any(|(_, kind)| same(kind)), "{name}");
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
}

#[test]
fn types_made_to_be_compared_for_ever_use_up_the_objects_budget() {
    // Structures that each hold the next one twice, in both: names alike, so that each level doubles the work.
    let level = |number: u32| format!("struct s{number} {{ struct s{} a, b; }};\n", number + 1);
    let deep: String = (0..28).rev().map(level).collect();
    let text = format!(
        "struct s28 {{ int a; }};\n{deep}
SEC(\"xdp\") int main_of(void *ctx) {{ return __builtin_preserve_type_info(first_of(struct s0), 2); }}
"
    );
    if !clang::available("clang-14") || !clang::available("clang-19") {
        return;
    }
    let types = types_of("core_deep_target", &format!("struct s28 {{ int a; }};\n{deep}struct s0 *one;"));
    let settings = Settings { types, ..Settings::default() };
    let object = super::definitions::build_with("clang-19", "core_deep", &format!("{HEAD}{text}"), &settings);
    assert_eq!(
        object.expect_program("main_of").expect_err("a billion comparisons").to_string(),
        "test.o: main_of insn 0: CO-RE relocation (type match of s0): the object's relocations take too long to compare \
         with the types; rebuild the object"
    );
}
