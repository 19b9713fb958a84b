//! Elements of maps by their types: of every kind, as bpftool shows them, and of types that no compiler makes.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use kumite::elf::btf::{Btf, TypeId};
use kumite::elf::{Object, Settings};
use kumite::report::{by_type, dump, from_hex};
use kumite::run::{Clock, World};
use kumite::vm::Instance;
use serde_json::{Value, json};

use super::definitions::{map, objects_with};
use crate::kernel;
use crate::programs::clang;
use crate::shared::skipped;

/// A value of every kind, by its map's value type.
fn shown(object: &Object, digits: &str) -> Value {
    let btf = object.btf.as_ref().expect("built with -g");
    let id = map(object, "typed").value_type.expect("said by __type");
    by_type(btf, id, &from_hex(digits).expect("digits"))
}

fn objects_of(name: &str, definition: &str) -> Vec<Object> {
    let text = format!(
        "{definition}
struct {{
    __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, value_t);
}} typed SEC(\".maps\");
SEC(\"xdp\") int pass(void *ctx) {{ return 2; }}
"
    );
    objects_with(name, &text, &Settings::default())
}

#[test]
fn every_kind_of_value_is_shown_by_its_type() {
    let cases = [
        ("typedef const volatile int value_t;", "feffffff", json!(-2)),
        ("typedef unsigned int value_t;", "feffffff", json!(4_294_967_294u32)),
        ("typedef long long value_t;", "0000000000000080", json!(i64::MIN)),
        ("typedef unsigned short value_t;", "0102", json!(0x0201)),
        ("typedef unsigned __int128 value_t;", "01000000000000000200000000000000", json!("0x20000000000000001")),
        ("typedef _Bool value_t;", "01", json!(true)),
        ("typedef char value_t;", "41", json!(0x41)),
        ("typedef char value_t[8];", "6869207468657265", json!([104, 105, 32, 116, 104, 101, 114, 101])),
        ("typedef char value_t[8];", "6869000000000000", json!("hi")),
        ("typedef char value_t[4];", "07000000", json!([7, 0, 0, 0])),
        ("typedef unsigned char value_t[4];", "68690000", json!([104, 105, 0, 0])),
        ("typedef short value_t[2][3];", "0100020003000400ffff0600", json!([[1, 2, 3], [4, -1, 6]])),
        ("typedef void *value_t;", "1000000000000080", json!("0x8000000000000010")),
        ("typedef int (*value_t)(int);", "0000000000000000", json!("0x0")),
        ("typedef double value_t;", "000000000000f83f", json!(1.5)),
        ("typedef float value_t;", "0000807f", json!("inf")),
        ("typedef enum { RED, GREEN = 5 } value_t;", "05000000", json!("GREEN")),
        ("typedef enum { RED, GREEN = 5 } value_t;", "ffffffff", json!(-1)),
        ("typedef enum { LOW = -3, HIGH } value_t;", "fdffffff", json!("LOW")),
        ("typedef enum { LOW = -3, HIGH } value_t;", "fcffffff", json!(-4)),
        ("typedef __be16 value_t;", "0050", json!(0x5000)),
        (
            "typedef struct { union { int a; unsigned char b[4]; }; struct { short c; }; union { int e; } d; } value_t;",
            "01020304ffff000009000000",
            json!({"a": 0x0403_0201, "b": [1, 2, 3, 4], "c": -1, "d": {"e": 9}}),
        ),
        (
            "typedef struct { int a : 3; unsigned b : 5; int : 4; _Bool c : 1; unsigned long d : 40; } value_t;",
            "fff03f0000000000",
            json!({"a": -1, "b": 31, "c": true, "d": 0x1ff}),
        ),
        ("struct ahead; typedef struct { int n; int more[]; } value_t;", "07000000", json!({"n": 7, "more": []})),
    ];
    for (number, (definition, digits, expected)) in cases.iter().enumerate() {
        for object in objects_of(&format!("typed_kind_{number}"), definition) {
            assert_eq!(shown(&object, digits), *expected, "{definition}");
        }
    }
    let wide = "typedef enum { SMALL = 1, LARGE = 0x123456789aULL } value_t;";
    for object in objects_of("typed_wide", wide) {
        // Compilers before 15 say nothing of enumerators of 64 bits.
        let first = shown(&object, "0100000000000000");
        assert!(first == json!("SMALL"), "{first}");
    }
    // Values with the highest bit are not negative where the type says so.
    for (number, (definition, digits, expected)) in [
        ("typedef enum { TOP = 0xffffffffffffffff } value_t;", "ffffffffffffffff", json!("TOP")),
        ("typedef enum { TOP = 0x8000000000000001 } value_t;", "0200000000000080", json!(0x8000_0000_0000_0002u64)),
        ("typedef enum { TOP = 0x8000000000000001 } value_t;", "0500000000000000", json!(5)),
        ("typedef enum { LOW = -3, HIGH = 0x7fffffffffffffff } value_t;", "fcffffffffffffff", json!(-4)),
    ]
    .iter()
    .enumerate()
    {
        // Compilers before 15 cut their bits off.
        if clang::available("clang-19") {
            let objects = objects_of(&format!("typed_wide_{number}"), definition);
            let object = objects.last().expect("that of the newest compiler");
            assert_eq!(shown(object, digits), *expected, "{definition}");
        }
    }
    for object in objects_of("typed_wrong_len", "typedef struct { int a; } value_t;") {
        assert_eq!(shown(&object, "0102"), json!("0102"), "bytes that are not of the type");
    }
}

const VARIED: &str = "
enum color { RED, GREEN = 5 };
struct flow { __u32 from; __be16 ports[2]; __u8 protocol; char name[7]; };
struct stats { __u64 packets; long delta; enum color color; union { __u32 word; __u16 halves[2]; } either; _Bool seen; };
struct {
    __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, struct flow); __type(value, struct stats);
} flows SEC(\".maps\");
int counter = 5;
static volatile short pair[2] = { 1, -2 };
long other = 6;
SEC(\"xdp\") int pass(void *ctx) { counter += pair[1]; other++; return bpf_map_lookup_elem(&flows, ctx) ? 1 : 2; }
";

/// Key and value of an element of `flows`.
const FLOW: [&str; 2] =
    ["0a0000010050005106746370000000ff", "0700000000000000ffffffffffffffff050000000102030401000000000000"];

fn dumped(object: &Object, name: &str, element: Option<[&str; 2]>) -> Value {
    let world = Arc::new(World::new(2, Clock::Fixed(0), Box::new(|_| {})).expect("address space"));
    let instance = Instance::load(&world, object).expect("an object");
    let (id, map) = instance.maps().iter().find(|(_, map)| map.def().name == name).expect("a map");
    if let Some([key, value]) = element {
        let [key, mut value] = [key, value].map(|digits| from_hex(digits).expect("digits"));
        value.resize(map.def().value_len as usize, 0);
        map.host_update(&key, &value, 0).expect("room");
    }
    dump(map.as_ref(), instance.map_types(*id))["elements"].clone()
}

#[test]
fn dumps_show_elements_and_variables_by_their_types() {
    for object in objects_with("typed_dump", VARIED, &Settings::default()) {
        let elements = dumped(&object, "flows", Some(FLOW));
        let key =
            json!({"from": 0x0100_000a, "ports": [0x5000, 0x5100], "protocol": 6, "name": [116, 99, 112, 0, 0, 0, -1]});
        let key_text = json!({"from": 0x0100_000a, "ports": [0x5000, 0x5100], "protocol": 6, "name": "tcp"});
        let either = json!({"word": 0x0403_0201, "halves": [0x0201, 0x0403]});
        let value = json!({"packets": 7, "delta": -1, "color": "GREEN", "either": either, "seen": true});
        let formatted = &elements[0]["formatted"];
        assert!(formatted["key"] == key || formatted["key"] == key_text, "{formatted}");
        assert_eq!(formatted["value"], value);
        assert_eq!(elements[0]["key"], FLOW[0], "the digits stay");
        let variables = dumped(&object, ".data", None)[0]["formatted"].clone();
        let list = variables["value"][".data"].as_array().expect("a list").clone();
        for variable in [json!({"counter": 5}), json!({"other": 6}), json!({"pair": [1, -2]})] {
            assert!(list.contains(&variable), "{variable} in {variables}");
        }
        assert_eq!(list.len(), 3);
    }
}

#[test]
fn values_of_each_worker_are_a_list() {
    let text = "
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u16[3]); }
counts SEC(\".maps\");
SEC(\"xdp\") int pass(void *ctx) { return 2; }
";
    for object in objects_with("typed_workers", text, &Settings::default()) {
        let elements = dumped(&object, "counts", None);
        assert_eq!(elements[0]["formatted"], json!({"key": 0, "values": [[0, 0, 0], [0, 0, 0]]}));
    }
}

/// What bpftool says, as JSON.
fn bpftool(words: &[&str]) -> Value {
    let output = Command::new("bpftool").arg("-j").args(words).output().expect("it was found");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "bpftool {words:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// A folder of the BPF file system that goes with the test.
struct Pins(String);

impl Drop for Pins {
    fn drop(&mut self) {
        // Where the test fails halfway there may be none.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn bpftool_shows_the_same() {
    if !kernel::available() || !clang::available("clang-19") {
        return;
    }
    if !clang::has("bpftool") || !Path::new("/sys/fs/bpf").exists() {
        return skipped("no bpftool");
    }
    // The name without garbage behind its zero: bpftool of some versions shows the rest.
    let flow = [&FLOW[0].replace("ff", "00"), FLOW[1]];
    let path = clang::build_text(
        "clang-19",
        "typed_bpftool",
        &format!("{}{VARIED}", super::definitions::HEAD).replace(
            "bpf_map_lookup_elem(&flows, ctx)",
            "({ struct flow flow = {}; bpf_map_lookup_elem(&flows, &flow); })",
        ),
    );
    let object = Object::parse("test.o", &std::fs::read(&path).expect("written")).expect("an object");
    let pins = Pins(format!("/sys/fs/bpf/kumite_typed_{}", std::process::id()));
    std::fs::create_dir(&pins.0).expect("the BPF file system is mounted");
    let program = format!("{}/program", pins.0);
    bpftool(&["prog", "load", path.to_str().expect("text"), &program, "type", "xdp", "pinmaps", &pins.0]);
    let flows = format!("{}/flows", pins.0);
    let spread = |digits: &str, len: usize| {
        let mut bytes = from_hex(digits).expect("digits");
        bytes.resize(len, 0);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>()
    };
    let [key, value] = [spread(flow[0], 16), spread(flow[1], 32)];
    let mut words = vec!["map", "update", "pinned", &flows, "key", "hex"];
    words.extend(key.iter().map(String::as_str));
    words.extend(["value", "hex"]);
    words.extend(value.iter().map(String::as_str));
    bpftool(&words);
    let theirs = bpftool(&["map", "dump", "pinned", &flows]);
    // They show members without a name as an object of the name "", which is not so here; there are none.
    assert_eq!(dumped(&object, "flows", Some(flow))[0]["formatted"], theirs[0]["formatted"]);
    let ids = bpftool(&["prog", "show", "pinned", &program]);
    let maps = ids["map_ids"].as_array().expect("a list").iter().map(|id| id.as_u64().expect("a number").to_string());
    let is_variables =
        |id: &String| bpftool(&["map", "show", "id", id])["name"].as_str().is_some_and(|name| name.ends_with(".data"));
    let variables = maps.into_iter().find(is_variables).expect("the kernel has the variables");
    let theirs = bpftool(&["map", "dump", "id", &variables]);
    assert_eq!(dumped(&object, ".data", None)[0]["formatted"], theirs[0]["formatted"]);
}

/// Types as bytes: words of each type, strings behind one zero.
fn btf(types: &[&[u32]], strings: &str) -> Btf {
    let types: Vec<u8> = types.concat().iter().flat_map(|word| word.to_le_bytes()).collect();
    let strings = format!("\0{strings}");
    let [type_len, string_len] = [types.len(), strings.len()].map(|len| u32::try_from(len).expect("short"));
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    for word in [24, 0, type_len, type_len, string_len] {
        bytes.extend(u32::to_le_bytes(word));
    }
    bytes.extend(types);
    bytes.extend(strings.bytes());
    Btf::read(&bytes).expect("well-formed")
}

const INT: u32 = 1 << 24;
const ARRAY: u32 = 3 << 24;
const STRUCT: u32 = 4 << 24;
const TYPEDEF: u32 = 8 << 24;

#[test]
fn hostile_types_are_digits_or_small() {
    let one = TypeId(1);
    let digits = |btf: &Btf, bytes: &[u8]| assert_eq!(by_type(btf, one, bytes), kumite::report::to_hex(bytes));
    // Structures within themselves, at offset 0, twice.
    digits(&btf(&[&[1, STRUCT | 2, 8, 1, 1, 0, 3, 1, 0]], "s\0m\0"), &[7; 8]);
    // The same without names, which are folded.
    digits(&btf(&[&[1, STRUCT | 2, 8, 0, 1, 0, 0, 1, 0]], "s\0"), &[7; 8]);
    // A typedef of itself; an array of itself; types that are not there; no type.
    digits(&btf(&[&[1, TYPEDEF, 1]], "t\0"), &[7; 4]);
    digits(&btf(&[&[0, ARRAY, 0, 1, 1, 1]], ""), &[7; 4]);
    digits(&btf(&[&[1, TYPEDEF, 77]], "t\0"), &[7; 4]);
    digits(&btf(&[], ""), &[7; 4]);
    // An array of more elements without length than can be shown.
    digits(&btf(&[&[0, ARRAY, 0, 2, 2, u32::MAX], &[1, STRUCT, 0]], "e\0"), &[]);
    // Members and bit fields outside, an integer of an odd length, one of half a gigabyte.
    let int: &[u32] = &[1, INT, 4, 32];
    digits(&btf(&[&[1, STRUCT | 1, 4, 1, 2, 8], int], "i\0"), &[7; 4]);
    digits(&btf(&[&[1, STRUCT | 1 | 1 << 31, 4, 1, 2, 0xff00_0000 | 24], int], "i\0"), &[7; 4]);
    digits(&btf(&[&[1, INT, 17, 32]], "i\0"), &[7; 17]);
    digits(&btf(&[&[1, INT, 1 << 29, 32]], "i\0"), &[7; 17]);
    // A member whose name is no text, or has no end.
    digits(&btf(&[&[1, STRUCT | 1, 4, 900, 2, 0], int], "i\0"), &[7; 4]);

    // Sixteen levels of sixteen members over each other.
    let level = |next: u32| {
        let mut words = vec![1, STRUCT | 16, 64];
        (0..16u32).for_each(|_| words.extend([1, next, 0]));
        words
    };
    let mut types: Vec<Vec<u32>> = (2..=17).map(level).collect();
    types.push(vec![0, ARRAY, 0, 18, 18, 16]);
    types.push(int.to_vec());
    let types: Vec<&[u32]> = types.iter().map(Vec::as_slice).collect();
    let text = by_type(&btf(&types, "m\0"), one, &[7; 64]).to_string();
    assert!(text.len() < 1 << 20, "{}", text.len());

    // A large array beside a counter: the counter is shown, the array is digits.
    let large: &[&[u32]] = &[&[1, STRUCT | 2, 400_004, 1, 2, 0, 3, 3, 32], int, &[0, ARRAY, 0, 2, 2, 100_000]];
    let shown = by_type(&btf(large, "n\0a\0"), one, &[1; 400_004]);
    assert_eq!(shown["n"], 0x0101_0101);
    assert_eq!(shown["a"].as_str().map(str::len), Some(800_000));
}
