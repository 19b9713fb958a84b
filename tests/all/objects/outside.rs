//! Maps, constants, configuration and kernel functions that are said from outside, or not at all.

use std::sync::Arc;

use kumite::elf::{Object, Settings};
use kumite::isa::Does;
use kumite::program::{Kfunc, Need};
use kumite::vm::Instance;

use super::definitions::objects_with;
use super::instances::world;

fn contents<'a>(object: &'a Object, map: &str) -> &'a [u8] {
    &object.maps.iter().find(|found| found.def.name == map).expect("the map").contents
}

fn failure(object_text: &str, name: &str, settings: &Settings) -> Vec<String> {
    let compilers = crate::programs::clang::COMPILERS.iter().map(|(compiler, _)| *compiler);
    let there = compilers.filter(|compiler| crate::programs::clang::available(compiler));
    let text = format!("{}{object_text}", super::definitions::HEAD);
    there
        .map(|compiler| {
            let path = crate::programs::clang::build_text(compiler, name, &text);
            let bytes = std::fs::read(path).expect("the compiler wrote it");
            Object::parse_with("test.o", &bytes, settings).expect_err("a wrong setting").to_string()
        })
        .collect()
}

const VARIABLES: &str = "
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1); __type(key, int); __type(value, int); } m SEC(\".maps\");
const volatile __u32 number = 5;
const volatile signed char small = 0;
const volatile _Bool flag = 0;
const volatile __u8 mac[6] = {};
static volatile const __u64 hidden = 7;
int later;
SEC(\"xdp\") int main_of(struct xdp_md *ctx)
{
    int key = number;
    bpf_map_lookup_elem(&m, &key);
    return number + small + flag + mac[ctx->data & 3] + hidden + later;
}
";

#[test]
fn maps_and_constants_take_what_is_said_of_them() {
    let mut settings = Settings::default();
    for text in ["number=0x01020304", "small=-2", "flag=true", "mac=0a0b0c0d0e0f", "hidden=99", "later=-7"] {
        settings.say_constant(text).expect("name and value");
    }
    settings.say_map_size("m=4096").expect("name and count");
    for object in objects_with("said", VARIABLES, &settings) {
        let map = object.maps.iter().find(|map| map.def.name == "m").expect("the map");
        assert_eq!(map.def.max_entries, 4096);
        assert_eq!(contents(&object, ".bss"), (-7i32).to_le_bytes());
        let rodata = contents(&object, ".rodata");
        for part in [&[4, 3, 2, 1][..], &[0xfe], &[10, 11, 12, 13, 14, 15], &99u64.to_le_bytes()] {
            assert!(rodata.windows(part.len()).any(|window| window == part), "{part:?} in {rodata:?}");
        }
    }
}

#[test]
fn what_does_not_fit_the_object_is_refused_by_name() {
    let mend = "see `kumite inspect` for the object's variables";
    for (text, what) in [
        ("number=-1", "it does not fit the variable's type (__u32, 4 bytes)"),
        ("flag=2", "it does not fit the variable's type (_Bool, 1 byte)"),
        ("mac=0a0b", "it does not fit the variable's type (__u8[6], 6 bytes)"),
        ("nobody=1", "the object has no such variable"),
        ("main_of=1", "the object has no such variable"),
    ] {
        let mut settings = Settings::default();
        settings.say_constant(text).expect("name and value");
        for error in failure(VARIABLES, "said_wrong", &settings) {
            assert_eq!(error, format!("test.o: {text}: {what}; {mend}"));
        }
    }
    let mut settings = Settings::default();
    settings.say_map_size("nobody=1").expect("name and count");
    for error in failure(VARIABLES, "said_wrong", &settings) {
        assert_eq!(error, "test.o: no map is called nobody; take a name that `kumite inspect` shows");
    }
    let mut settings = Settings::default();
    for (error, expected) in [
        (settings.say_constant("x"), "const \"x\": names no thing or no value; write NAME=VALUE"),
        (settings.say_configuration("=y"), "kconfig \"=y\": names no thing or no value; write NAME=VALUE"),
        (settings.say_map_size("m=many"), "map-size \"m=many\": not a number of entries; write NAME=COUNT"),
        (
            settings.say_type("main_of=raw"),
            "type \"main_of=raw\": no such kind of program; write [NAME=]xdp, tc, socket or flow_dissector",
        ),
    ] {
        assert_eq!(error.expect_err("a wrong form").to_string(), expected);
    }
}

#[test]
fn the_kernels_configuration_is_a_map_that_is_filled() {
    let text = "
extern int LINUX_KERNEL_VERSION __kconfig;
extern unsigned long CONFIG_HZ __kconfig;
extern _Bool CONFIG_BPF_SYSCALL __kconfig;
extern enum libbpf_tristate CONFIG_SAID __kconfig __weak;
extern char CONFIG_LETTER __kconfig __weak;
extern char CONFIG_TEXT[8] __kconfig __weak;
extern int CONFIG_UNSAID __kconfig __weak;
SEC(\"xdp\") int main_of(struct xdp_md *ctx)
{
    return LINUX_KERNEL_VERSION + CONFIG_HZ + CONFIG_BPF_SYSCALL + CONFIG_SAID + CONFIG_LETTER + CONFIG_TEXT[1] + CONFIG_UNSAID;
}
";
    let mut settings = Settings::default();
    for text in ["CONFIG_SAID=m", "CONFIG_LETTER=y", "CONFIG_TEXT=\"abc\""] {
        settings.say_configuration(text).expect("name and value");
    }
    for object in objects_with("configuration", text, &settings) {
        assert!(object.refused.is_empty(), "{:?}", object.refused);
        let map = object.maps.last().expect("the configuration");
        assert_eq!((map.def.name.as_str(), map.frozen), (".kconfig", true));
        for part in [&0x61200u32.to_le_bytes()[..], &250u64.to_le_bytes(), &[2, 0, 0, 0], b"y", b"abc\0"] {
            assert!(map.contents.windows(part.len()).any(|window| window == part), "{part:?} in {:?}", map.contents);
        }
        let instance = Instance::load(&world(), &object).expect("a map like others");
        assert_eq!(instance.programs().len(), 1, "{:?}", instance.refused());
    }
    settings.say_configuration("CONFIG_HZ=many").expect("name and value");
    let mend = "correct its declaration, or its value in `--kconfig`";
    for error in failure(text, "configuration", &settings) {
        let expected = "test.o: variable CONFIG_HZ of .kconfig: its value does not fit its type";
        assert_eq!(error, format!("{expected}; {mend}"));
    }
}

#[test]
fn kernel_functions_are_named_and_those_that_a_program_can_do_without_may_lack() {
    let text = "
extern int nobody_has(void *ctx) __ksym;
extern int perhaps(void *ctx) __ksym __weak;
SEC(\"xdp\") int needs(struct xdp_md *ctx) { return nobody_has(ctx); }
SEC(\"xdp\") int tests(struct xdp_md *ctx) { return (void *)perhaps ? perhaps(ctx) : 2; }
";
    for object in objects_with("kfuncs", text, &Settings::default()) {
        assert!(object.refused.is_empty(), "{:?}", object.refused);
        let kfunc = |name: &str, need| Kfunc { name: name.to_owned(), need };
        assert_eq!(object.programs[0].kfuncs(), [kfunc("nobody_has", Need::Required)]);
        let tests = Arc::clone(&object.programs[1]);
        assert_eq!(tests.kfuncs(), [kfunc("perhaps", Need::Optional)]);
        let names_it = |does| tests.insns().iter().any(|insn| insn.does == does && insn.imm == 0);
        assert!(names_it(Does::CallKfunc) && names_it(Does::LoadVarAddr));
        let instance = Instance::load(&world(), &object).expect("no map");
        assert_eq!(instance.programs().len(), 1);
        let error = instance.expect_program("needs").expect_err("no such kernel function").to_string();
        let expected = "kernel function nobody_has is not supported; declare it weak and test for it";
        assert!(
            error.starts_with("test.o: needs insn ") && error.ends_with(&format!("kfuncs.c:8): {expected}")),
            "{error}"
        );
    }
}

#[test]
fn a_map_of_a_type_that_is_not_there_is_refused_with_its_programs_and_nothing_else() {
    let text = "
struct { __uint(type, BPF_MAP_TYPE_SK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, int); __type(value, int); } storage SEC(\".maps\");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, int); } array SEC(\".maps\");
static __attribute__((noinline)) void *below(struct __sk_buff *skb) { return bpf_sk_storage_get(&storage, (void *)skb, 0, 0); }
SEC(\"tc\") int stores(struct __sk_buff *skb) { return !below(skb); }
SEC(\"tc\") int counts(struct __sk_buff *skb) { int key = 0; return !bpf_map_lookup_elem(&array, &key); }
";
    for object in objects_with("refused_map", text, &Settings::default()) {
        let instance = Instance::load(&world(), &object).expect("the other map can be made");
        assert_eq!(instance.programs().len(), 1, "{:?}", instance.refused());
        assert_eq!(instance.maps().len(), 1);
        assert_eq!(object.refused_maps[0].def.name, "storage");
        let error = object.expect_program("stores").expect_err("its map is not there").to_string();
        let expected = "map storage: type sk_storage is not supported; use another map type";
        assert!(error.starts_with("test.o: below insn ") && error.ends_with(expected), "{error}");
    }
}
