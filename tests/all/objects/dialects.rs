//! Objects written for other loaders than libbpf, and what is said of an object from outside.

use kumite::elf::{KindSetting, Object, Pinning, Settings};
use kumite::maps::MapKind;
use kumite::verdict::ProgramKind;

use super::builder::{Builder, Names};
use super::definitions::{map, objects_with};

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn sections_with_numbers_fill_slots_of_iproute2s_arrays() {
    let mut builder = Builder::new();
    let array = [3, 4, 4, 8, 0, 7, 2, 0, 0];
    let outer = [12, 4, 4, 2, 0, 5, 0, 9, 0];
    let inner = [2, 4, 8, 1, 0, 9, 0, 0, 1];
    let maps = builder.data("maps", &[words(&array), words(&outer), words(&inner)].concat());
    for (number, name) in (0..).zip(["jumps", "outer", "inner"]) {
        builder.symbol(name, Names::Variable, maps, number * 36, 36);
    }
    for (section, name) in [("classifier", "entry"), ("7/5", "five"), ("7/0", "zero"), ("8/0", "lost")] {
        let text = builder.text(section, "r0 = 0\nexit");
        builder.symbol(name, Names::Function, text, 0, 16);
    }
    let object = Object::parse("test.o", &builder.finish()).expect("iproute2 writes such objects");
    assert_eq!(object.maps[0].slots, [(5, "five".to_owned()), (0, "zero".to_owned())]);
    assert_eq!(object.maps[0].pinning, Pinning::ByName);
    let outer = map(&object, "outer");
    assert_eq!(outer.inner_maps, [(1, "inner".to_owned())]);
    assert_eq!(outer.def.inner.as_deref(), Some(&map(&object, "inner").def));
    assert_eq!(object.program("five").expect("a program").kind(), ProgramKind::Tc);
    let error = object.expect_program("lost").expect_err("no array has this number");
    let expected = "section \"8/0\" names a program array that the object does not have; correct its number";
    assert_eq!(error.to_string(), format!("test.o: lost: {expected}"));
}

#[test]
fn definitions_of_every_length_are_read_in_their_dialect() {
    for (len, pinning) in [(16, Pinning::Own), (20, Pinning::Own), (24, Pinning::Own), (28, Pinning::ByName)] {
        let mut builder = Builder::new();
        let all = words(&[1, 4, 8, 16, 1, 0, 1]);
        let maps = builder.data("maps", &all[..len].repeat(2));
        builder.symbol("first", Names::Variable, maps, 0, len as u64);
        builder.symbol("second", Names::Variable, maps, len as u64, len as u64);
        let object = Object::parse("test.o", &builder.finish()).expect("two maps");
        assert_eq!(object.maps.len(), 2);
        for map in &object.maps {
            let def = &map.def;
            assert_eq!((def.kind, def.key_len, def.value_len, def.max_entries), (MapKind::HASH, 4, 8, 16), "{len}");
            assert_eq!((def.flags, map.pinning), (u32::from(len > 16), pinning), "{len}");
        }
    }
}

#[test]
fn programs_of_hooks_that_are_not_run_are_refused_with_the_reason() {
    let mut builder = Builder::new();
    for (section, name) in [("cgroup_skb/egress", "first"), ("kprobe/x", "second"), ("xdp", "third")] {
        let text = builder.text(section, "r0 = 0\nexit");
        builder.symbol(name, Names::Function, text, 0, 16);
    }
    let object = Object::parse("test.o", &builder.finish()).expect("one can be run");
    assert_eq!(object.programs.len(), 1);
    let reasons: Vec<String> = object.refused.iter().map(|refused| refused.reason.to_string()).collect();
    assert_eq!(
        reasons,
        [
            "test.o: first: section \"cgroup_skb/egress\" holds control group programs, which are not run: a host has no \
             control groups; build it for another hook",
            "test.o: second: section \"kprobe/x\" holds tracing programs, which are not run: there is no kernel to trace; \
             build it for another hook",
        ]
    );
}

#[test]
fn a_strange_section_is_for_the_hook_of_its_context_or_for_what_is_said_outside() {
    let text = "
SEC(\"from-netdev\") int cilium(struct __sk_buff *skb) { return 0; }
SEC(\"prog\") int drop(struct xdp_md *ctx) { return 1; }
SEC(\"else\") int neither(void *ctx) { return 1; }
SEC(\"filter\") int said(struct __sk_buff *skb) { return 1; }
";
    let kind = |program: &str, kind| KindSetting { program: Some(program.to_owned()), kind };
    let kinds = vec![kind("said", ProgramKind::SocketFilter), kind("drop", ProgramKind::Xdp)];
    for object in objects_with("contexts", text, &Settings { kinds, ..Settings::default() }) {
        let kinds: Vec<_> = object.programs.iter().map(|program| (program.name(), program.kind())).collect();
        let expected = [("cilium", ProgramKind::Tc), ("drop", ProgramKind::Xdp), ("said", ProgramKind::SocketFilter)];
        assert_eq!(kinds, expected);
        assert_eq!(object.refused.len(), 1);
        assert_eq!(object.refused[0].name, "neither");
    }
    let all = vec![KindSetting { program: None, kind: ProgramKind::FlowDissector }, kind("drop", ProgramKind::Xdp)];
    for object in objects_with("contexts", text, &Settings { kinds: all, ..Settings::default() }) {
        assert!(object.refused.is_empty());
        let xdp = object.programs.iter().filter(|program| program.kind() == ProgramKind::Xdp);
        assert_eq!(xdp.map(|program| program.name()).collect::<Vec<_>>(), ["drop"]);
    }
}
