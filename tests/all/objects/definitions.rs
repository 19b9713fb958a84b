//! What C says of maps, functions and symbols is what the object holds, by every compiler that is there.

use std::path::Path;
use std::sync::Arc;

use kumite::elf::btf::Kind;
use kumite::elf::{Object, ObjectMap, Pinning, Settings};
use kumite::isa::Does;
use kumite::maps::{MapDef, MapKind};

use crate::programs::clang;

/// Headers and shorthands of the snippets.
pub(super) const HEAD: &str = "\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define own static __attribute__((noinline))
char _license[] SEC(\"license\") = \"GPL\";
";

/// The object of a snippet, by each compiler.
fn objects(name: &str, text: &str) -> Vec<Object> {
    objects_with(name, text, &Settings::default())
}

/// The same, with what is said of them from outside.
pub(super) fn objects_with(name: &str, text: &str, settings: &Settings) -> Vec<Object> {
    let compilers = clang::COMPILERS.iter().map(|(compiler, _)| *compiler);
    compilers
        .filter(|compiler| clang::available(compiler))
        .map(|compiler| build_with(compiler, name, text, settings))
        .collect()
}

pub(super) fn build_with(compiler: &str, name: &str, text: &str, settings: &Settings) -> Object {
    let path = clang::build_text(compiler, name, &format!("{HEAD}{text}"));
    let bytes = std::fs::read(&path).expect("the compiler wrote it");
    Object::parse_with("test.o", &bytes, settings).unwrap_or_else(|error| panic!("{error}"))
}

pub(super) fn map<'a>(object: &'a Object, name: &str) -> &'a ObjectMap {
    object
        .maps
        .iter()
        .chain(&object.refused_maps)
        .find(|map| map.def.name == name)
        .unwrap_or_else(|| panic!("no map {name}"))
}

fn reasons(object: &Object) -> Vec<String> {
    object.refused.iter().map(|refused| refused.reason.to_string()).collect()
}

#[test]
fn maps_are_what_their_types_say() {
    let text = "
struct pair { __u32 a; __u16 b[3]; };
typedef const struct pair pair_t;
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 77);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(pinning, LIBBPF_PIN_BY_NAME);
    __type(key, pair_t);
    __type(value, __u64[5]);
} typed SEC(\".maps\");
static struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 3);
    __uint(key_size, 6);
    __uint(value_size, 9);
} sized SEC(\".maps\");
struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, int); __type(value, long); };
struct inner first SEC(\".maps\"), second SEC(\".maps\");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 4);
    __type(key, int);
    __array(values, struct inner);
} outer SEC(\".maps\") = { .values = { [1] = &second, [3] = &first } };
int one(struct xdp_md *ctx), two(struct xdp_md *ctx);
struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, 8);
    __uint(key_size, 4);
    __array(values, int (struct xdp_md *));
} jumps SEC(\".maps\") = { .values = { [2] = (void *)&two, [7] = (void *)&one } };
SEC(\"xdp\") int one(struct xdp_md *ctx) { __u8 key[12] = {}; return !bpf_map_lookup_elem(&sized, key); }
SEC(\"xdp\") int two(struct xdp_md *ctx) { bpf_tail_call(ctx, &jumps, 7); return 0; }
";
    for object in objects("typed_maps", text) {
        assert_eq!(reasons(&object), [""; 0]);
        let def = |name: &str, kind, key_len, value_len, max_entries, flags| MapDef {
            name: name.to_owned(),
            kind: MapKind(kind),
            key_len,
            value_len,
            max_entries,
            flags,
            ..MapDef::default()
        };
        assert_eq!(map(&object, "typed").def, def("typed", 1, 12, 40, 77, 1));
        assert_eq!(map(&object, "typed").pinning, Pinning::ByName);
        assert_eq!(map(&object, "sized").def, def("sized", 9, 6, 9, 3, 0));
        assert_eq!(map(&object, "sized").pinning, Pinning::Own);
        let outer = map(&object, "outer");
        let inner = Some(Arc::new(def("outer", 2, 4, 8, 2, 0)));
        assert_eq!(outer.def, MapDef { inner, ..def("outer", 12, 4, 4, 4, 0) });
        assert_eq!(outer.inner_maps, [(1, "second".to_owned()), (3, "first".to_owned())]);
        let jumps = map(&object, "jumps");
        assert_eq!(jumps.def, def("jumps", 3, 4, 4, 8, 0));
        assert_eq!(jumps.slots, [(2, "two".to_owned()), (7, "one".to_owned())]);
        assert!(jumps.def.inner.is_none() && jumps.inner_maps.is_empty());

        let btf = object.btf.as_ref().expect("built with -g");
        let key = map(&object, "typed").key_type.and_then(|id| btf.resolve(id)).expect("a type");
        assert_eq!(btf.name(key), "pair");
        let Kind::Struct { len: 12, members } = btf.kind(key) else { panic!("{:?}", btf.kind(key)) };
        let members: Vec<(&str, u32)> = members.iter().map(|at| (btf.text(at.name), at.bit_offset)).collect();
        assert_eq!(members, [("a", 0), ("b", 32)]);
    }
}

#[test]
fn maps_by_numbers_are_read_with_any_stride() {
    for (name, more) in [("legacy_20", ""), ("legacy_36", "unsigned id, pinning, inner_id, inner_index;")] {
        let text = format!(
            "
struct old_def {{ unsigned type, key_size, value_size, max_entries, map_flags; {more} }};
struct old_def SEC(\"maps\") first = {{ .type = 2, .key_size = 4, .value_size = 8, .max_entries = 3 }};
struct old_def SEC(\"maps\") second = {{ 1, 2, 3, 4, 1 }};
SEC(\"xdp\") int main_of(struct xdp_md *ctx) {{ int key = 1; return !bpf_map_lookup_elem(&second, &key); }}
"
        );
        for object in objects(name, &text) {
            assert_eq!(reasons(&object), [""; 0]);
            let defs: Vec<_> = object.maps.iter().map(|map| (map.def.name.as_str(), map.def.kind.0)).collect();
            assert_eq!(defs, [("first", 2), ("second", 1)]);
            let second = &map(&object, "second").def;
            assert_eq!((second.key_len, second.value_len, second.max_entries, second.flags), (2, 3, 4, 1));
            let loads = object.programs[0].insns().iter().filter(|insn| insn.does == Does::LoadMapByIndex);
            assert_eq!(loads.map(|insn| insn.imm).collect::<Vec<_>>(), [1]);
        }
    }
}

#[test]
fn variables_of_every_section_are_maps_with_their_contents() {
    let text = "
int counter = 5;
static volatile int hidden[3] = { 1, 2, 3 };
const volatile short table[2] = { 0x1122, 0x3344 };
long zero[4];
int tuned SEC(\".data.tuned\") = 9;
SEC(\"xdp\") int main_of(struct xdp_md *ctx)
{
    counter += hidden[2] + table[1] + tuned;
    zero[3] = counter;
    return 2;
}
";
    for object in objects("variables", text) {
        assert_eq!(reasons(&object), [""; 0]);
        assert_eq!(map(&object, ".data").contents, [5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]);
        assert!(!map(&object, ".data").frozen);
        let rodata = map(&object, ".rodata");
        assert_eq!((rodata.contents.as_slice(), rodata.frozen), (&[0x22, 0x11, 0x44, 0x33][..], true));
        assert_eq!((rodata.def.kind, rodata.def.key_len, rodata.def.max_entries), (MapKind::ARRAY, 4, 1));
        let bss = map(&object, ".bss");
        assert_eq!((bss.contents.len(), bss.def.value_len), (0, 32));
        assert_eq!(map(&object, ".data.tuned").contents, [9, 0, 0, 0]);
        let places = object.programs[0].insns().iter().filter(|insn| insn.does == Does::LoadMapValueByIndex);
        let mut places: Vec<(String, i64)> = places
            .map(|insn| {
                let index = usize::try_from(insn.imm & 0xffff_ffff).expect("32 bits");
                (object.maps[index].def.name.clone(), insn.imm >> 32)
            })
            .collect();
        places.sort();
        places.dedup();
        let expected = [(".bss", 0..32), (".data", 0..1), (".data", 4..16), (".data.tuned", 0..1), (".rodata", 0..4)];
        assert_eq!(places.len(), expected.len(), "{places:?}");
        for ((map, offset), (name, range)) in places.iter().zip(expected) {
            assert!(map == name && range.contains(offset), "{places:?}");
        }
    }
}

#[test]
fn functions_are_appended_to_each_program_that_calls_them() {
    let text = "
own int deep(int x) { volatile int y = x; return y * 3; }
own int middle(int x) { return deep(x) + deep(x + 1); }
__attribute__((noinline)) int shown(int x) { volatile int y = x; return middle(y); }
static __attribute__((noinline, section(\"xdp\"))) int beside(int x) { volatile int y = x; return y + 7; }
SEC(\"xdp\") int first(struct xdp_md *ctx) { return shown(ctx->data) + beside(1); }
SEC(\"xdp\") int second(struct xdp_md *ctx) { return beside(ctx->data); }
static __attribute__((used, section(\"xdp\"))) int tail(struct xdp_md *ctx) { return deep(ctx->data); }
SEC(\"tc\") int third(struct __sk_buff *skb) { return skb->len; }
";
    for object in objects("functions_of_programs", text) {
        assert_eq!(reasons(&object), [""; 0]);
        let functions = |program: &str| {
            let program = object.program(program).unwrap_or_else(|| panic!("no program {program}"));
            let names: Vec<&str> = program.functions().iter().map(|function| function.name.as_str()).collect();
            names.join(" ")
        };
        let first = functions("first");
        assert!(first.starts_with("first ") && first.split(' ').count() == 5, "{first}");
        assert_eq!(functions("second"), "second beside");
        assert_eq!(functions("tail"), "tail deep");
        assert_eq!(functions("third"), "third");
        assert_eq!(object.programs.len(), 4);
        for program in &object.programs {
            let line = program.line_at(0).expect("built with -g");
            assert!(line.file.ends_with("functions_of_programs.c") && line.text.contains(program.name()), "{line:?}");
            for function in program.functions() {
                assert!(program.line_at(function.start).expect("a line").text.contains(&function.name));
            }
        }
        assert_eq!(object.license.as_deref(), Some("GPL"));
    }
}

#[test]
fn a_function_whose_address_is_taken_is_appended_too() {
    let text = "
own int each(__u32 index, void *ctx) { return index > 3; }
SEC(\"xdp\") int main_of(struct xdp_md *ctx) { return bpf_loop(10, each, 0, 0); }
";
    for object in objects("callback", text) {
        assert_eq!(reasons(&object), [""; 0]);
        let program = &object.programs[0];
        assert_eq!(program.functions()[1].name, "each");
        let (pc, load) = program
            .insns()
            .iter()
            .enumerate()
            .find(|(_, insn)| insn.does == Does::LoadCodeAddr)
            .expect("the address of the function");
        let target = i64::try_from(pc).expect("short") + 1 + load.imm;
        assert_eq!(target, i64::try_from(program.functions()[1].start).expect("short"));
    }
}

#[test]
fn symbols_that_are_defined_nowhere_are_named_with_their_instruction() {
    let text = "
extern int missing(int x);
extern int CONFIG_NOBODY_SAYS __kconfig;
extern const int bpf_prog_active __ksym;
extern const int perhaps __ksym __weak;
extern int elsewhere;
SEC(\"xdp\") int calls(struct xdp_md *ctx) { return missing(1); }
SEC(\"xdp\") int asks(struct xdp_md *ctx) { return CONFIG_NOBODY_SAYS; }
SEC(\"xdp\") int reads(struct xdp_md *ctx) { return bpf_prog_active; }
SEC(\"xdp\") int tests(struct xdp_md *ctx) { return &perhaps ? 1 : 2; }
SEC(\"xdp\") int uses(struct xdp_md *ctx) { return elsewhere; }
";
    for object in objects("externs", text) {
        assert_eq!(
            reasons(&object),
            [
                "test.o: calls insn 1: missing is defined nowhere; link the object that defines it",
                "test.o: asks insn 0: CONFIG_NOBODY_SAYS is defined nowhere; say its value with `--kconfig`, or declare \
                 it weak",
                "test.o: reads insn 0: bpf_prog_active is defined nowhere; the kernel's variables are not supported: \
                 declare it weak and test it",
                "test.o: uses insn 0: elsewhere is defined nowhere; link the object that defines it",
            ]
        );
        let tests = object.program("tests").expect("a weak symbol may be missing");
        let load = tests.insns().iter().find(|insn| insn.does == Does::LoadImm64).expect("its address");
        assert_eq!(load.imm, 0);
    }
}

#[test]
fn wrong_properties_of_maps_are_refused_by_name() {
    let wrong = |name: &str, text: &str| -> Vec<String> {
        let compilers = clang::COMPILERS.iter().map(|(compiler, _)| *compiler);
        let built = compilers.filter(|compiler| clang::available(compiler));
        built
            .map(|compiler| {
                let path = clang::build_text(compiler, name, &format!("{HEAD}{text}"));
                error(&path)
            })
            .collect()
    };
    for (name, text, expected) in [
        ("no_type", "struct { __uint(max_entries, 1); } m SEC(\".maps\");", "map m: it has no `type`; correct its definition"),
        (
            "strange",
            "struct { __uint(type, 1); __uint(colour, 1); } m SEC(\".maps\");",
            "map m: it has a member that is no property of a map; correct its definition",
        ),
        (
            "number",
            "struct { int type; } m SEC(\".maps\");",
            "map m: a property is no number: use `__uint`; correct its definition",
        ),
        (
            "no_key",
            "struct { __uint(type, 1); int key; } m SEC(\".maps\");",
            "map m: its key or value is no type: use `__type`; correct its definition",
        ),
        (
            "no_len",
            "struct hidden; struct { __uint(type, 1); __type(key, struct hidden); } m SEC(\".maps\");",
            "map m: its key or value has no length; correct its definition",
        ),
        (
            "pinned",
            "struct { __uint(type, 1); __uint(pinning, 9); } m SEC(\".maps\");",
            "map m: its `pinning` is neither none nor by name; correct its definition",
        ),
        (
            "values",
            "struct { __uint(type, 3); __array(values, int); } m SEC(\".maps\");",
            "map m: its `values` are neither maps nor functions; correct its definition",
        ),
        (
            "slots",
            "extern int gone(void *ctx);
             struct { __uint(type, 3); __array(values, int (void *)); } m SEC(\".maps\") = { .values = { (void *)&gone } };",
            "map m: initial value at 0x8: its symbol is defined nowhere; correct its `values`",
        ),
    ] {
        for error in wrong(name, text) {
            assert_eq!(error, format!("test.o: {expected}"));
        }
    }
}

fn error(path: &Path) -> String {
    let bytes = std::fs::read(path).expect("the compiler wrote it");
    Object::parse("test.o", &bytes).expect_err("a wrong definition").to_string()
}

#[test]
fn objects_linked_by_bpftool_are_read_like_others() {
    if !clang::available("clang-14") {
        return;
    }
    if !clang::has("bpftool") {
        return crate::shared::skipped("no bpftool");
    }
    let one = "
extern int shared_number;
int helper_of_both(int x);
SEC(\"xdp\") int first(struct xdp_md *ctx) { shared_number++; return helper_of_both(ctx->data); }
";
    let other = "
int shared_number = 7;
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 3); __type(key, int); __type(value, long); } counts SEC(\".maps\");
__attribute__((noinline)) int helper_of_both(int x)
{
    int key = 1;
    long *count = bpf_map_lookup_elem(&counts, &key);
    return count ? *count + x : 0;
}
SEC(\"tc\") int second(struct __sk_buff *skb) { return helper_of_both(skb->len); }
";
    let head = HEAD.replace("char _license", "__attribute__((weak)) char _license");
    let paths = [("linked_one", one), ("linked_other", other)]
        .map(|(name, text)| clang::build_text("clang-14", name, &format!("{head}{text}")));
    let linked = Path::new(env!("CARGO_TARGET_TMPDIR")).join("linked.o");
    let output = std::process::Command::new("bpftool").args(["gen", "object"]).arg(&linked).args(&paths).output();
    let output = output.expect("it was found");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(&linked).expect("bpftool wrote it");
    let object = Object::parse("linked.o", &bytes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(reasons(&object), [""; 0]);
    for (program, functions) in [("first", ["first", "helper_of_both"]), ("second", ["second", "helper_of_both"])] {
        let program = object.program(program).expect("both are there");
        let names: Vec<&str> = program.functions().iter().map(|function| function.name.as_str()).collect();
        assert_eq!(names, functions);
    }
    assert_eq!(map(&object, "counts").def.max_entries, 3);
    assert_eq!(map(&object, ".data").contents, [7, 0, 0, 0]);
}

#[test]
fn locks_and_timers_in_values_are_found_by_their_types() {
    let text = "
struct guarded { __u64 count; struct bpf_spin_lock lock; __u32 rest; };
struct timed { struct bpf_timer timer; struct bpf_spin_lock lock; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, int); __type(value, struct guarded); }
    guarded SEC(\".maps\");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 8); __type(key, int); __type(value, struct timed); }
    timed SEC(\".maps\");
struct holder { __u32 first; struct { __u32 second; struct timed timed; } inner; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 8); __type(key, int); __type(value, struct holder); }
    nested SEC(\".maps\");
static int before SEC(\".data.A\");
static struct bpf_spin_lock lock SEC(\".data.A\");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 8); __type(key, int); __type(value, __u64); }
    plain SEC(\".maps\");
SEC(\"xdp\") int one(struct xdp_md *ctx)
{
    int key = 0;
    bpf_spin_lock(&lock);
    before++;
    bpf_spin_unlock(&lock);
    return !bpf_map_lookup_elem(&guarded, &key);
}
";
    for object in objects("locks", text) {
        let fields = |name| {
            let def = &map(&object, name).def;
            (def.lock_offset, def.timer_offset)
        };
        assert_eq!(fields("guarded"), (Some(8), None));
        assert_eq!(fields("timed"), (Some(16), Some(0)));
        assert_eq!(fields("plain"), (None, None));
        assert_eq!(fields("nested"), (Some(8 + 8 + 16), Some(8 + 8)));
        let variables = map(&object, ".data.A");
        let lock = variables.def.lock_offset.expect("it has one");
        assert!(lock == 0 || lock == 4, "{lock}");
    }
}
