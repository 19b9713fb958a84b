//! Timers of programs: what their functions leave in maps, in every mode and in the kernel.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use kumite::flow::{Hook, Host, HostConfig, ModeTarget};
use kumite::port::udp::WireConfig;
use kumite::report::{RunRequest, TestRun};
use kumite::vm::Mode;

use super::kernel_object::KernelObject;
use super::{Elements, clang, elements_in_kernel, elements_of, parse, table};
use crate::kernel::{self, TestInput};
use crate::ports::free_addresses;

/// How long the kernel may take to call functions that are due at once.
const PATIENCE: Duration = Duration::from_secs(10);
const MAPS: [(&str, &str); 2] = [("start_slots", "slots"), ("start_flows", "flows")];

/// Elements without what they hold of their timers, which the kernel does not show.
fn without_timers(mut elements: Elements) -> Elements {
    elements.values_mut().for_each(|value| value[8..24].fill(0));
    elements
}

fn calls(elements: &Elements) -> u64 {
    let count = |value: &Vec<u8>| u64::from_ne_bytes(*value.first_chunk().expect("a struct element"));
    elements.values().map(count).sum()
}

#[test]
fn timers_call_functions_as_in_the_kernel() {
    if !clang::available("clang-19") {
        return;
    }
    for cpu in ["v1", "v3"] {
        let path = clang::build("clang-19", cpu, "tests/programs/timer.c");
        let object = parse(&path);
        for (program, map) in MAPS {
            table::expect(&path, program, 1);
            let mut answers = Vec::new();
            for mode in Mode::ALL {
                let run = TestRun::new(&RunRequest { object: &object, program: Some(program), presets: &[] });
                let run = run.unwrap_or_else(|error| panic!("{error}"));
                assert!(run.untranslated(mode).is_none(), "{program} is interpreted in {mode} mode");
                let report = run.reports(mode, 1, [&[0; 64][..]]).next().expect("one frame").expect("an ordinary one");
                assert!(report.trap.is_none() && report.findings.is_empty(), "{report:?}");
                for timer in &report.timers {
                    assert!(timer.trap.is_none() && timer.findings.is_empty(), "{timer:?}");
                }
                let elements = elements_of(run.instance().map(map).expect("a map of the object").as_ref());
                assert_eq!(report.timers.len() as u64, calls(&elements));
                assert!(run.world().timers.soonest_ns() == u64::MAX, "none waits");
                answers.push((report.retval, without_timers(elements)));
            }
            assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{program}: {answers:?}");
            let (retval, ours) = &answers[0];
            if !KernelObject::available() {
                continue;
            }
            kernel::stay_on_processor_0();
            let kernel = KernelObject::load(&path);
            let output = kernel.program(program).test_run(&TestInput { packet: &[0; 64], ctx: &[], repeat: 1 });
            assert_eq!(output.expect("runs").retval, *retval, "{program}");
            let def = object.maps.iter().map(|map| &map.def).find(|def| def.name == map).expect("a map of the object");
            let theirs = kernel.map(def);
            let until = Instant::now() + PATIENCE;
            let value_len = def.value_len as usize;
            let mut left = elements_in_kernel(&theirs, value_len);
            while calls(&left) < calls(ours) && Instant::now() < until {
                left = elements_in_kernel(&theirs, value_len);
            }
            assert_eq!(without_timers(left), *ours, "{program}");
        }
    }
}

#[test]
fn a_worker_calls_the_functions_of_timers_between_its_turns() {
    if !clang::available("clang-19") {
        return;
    }
    let object = parse(&clang::build("clang-19", "v3", "tests/programs/timer.c"));
    for mode in Mode::ALL {
        let [a, b] = free_addresses();
        let peer = UdpSocket::bind(a).expect("free");
        let config = HostConfig { mode, ..HostConfig::new("host", WireConfig { local: b, peer: a }) };
        let host = Host::start(config).expect("loopback");
        host.load(&object).expect("well-formed");
        host.attach(&host.program("start_slots").expect("loaded"), Hook::Xdp).expect("a hook");
        peer.send_to(&[0; 64], b).expect("loopback");
        let slots = host.map("slots").expect("loaded");
        let until = Instant::now() + PATIENCE;
        while calls(&elements_of(slots.as_ref())) < 3 {
            assert!(Instant::now() < until, "{mode}: {:?}", host.events());
        }
        host.stop();
        assert_eq!(host.world().timers.soonest_ns(), u64::MAX, "none waits");
        let left = elements_of(slots.as_ref());
        assert_eq!(calls(&left), 3, "{left:?}");
    }
}

/// Sixty-four timers that start themselves again at once, and never come to an end otherwise.
const STORM: &str = "#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct element { struct bpf_timer timer; __u64 rest; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 64); __type(key, __u32); __type(value, struct element); } storm SEC(\".maps\");
static int busy(void *map, __u32 *key, struct element *element)
{
	bpf_timer_start(&element->timer, 0, 0);
	for (volatile __u64 i = 0;; i++)
		;
	return 0;
}
SEC(\"xdp\") int start(struct xdp_md *ctx)
{
	for (__u32 i = 0; i < 64; i++) {
		__u32 key = i;
		struct element *element = bpf_map_lookup_elem(&storm, &key);
		if (!element || bpf_timer_init(&element->timer, &storm, 1))
			continue;
		bpf_timer_set_callback(&element->timer, busy);
		bpf_timer_start(&element->timer, 0, 0);
	}
	return XDP_PASS;
}
char _license[] SEC(\"license\") = \"GPL\";";

#[test]
fn a_storm_of_timers_keeps_a_worker_neither_from_changes_nor_from_frames() {
    if !clang::available("clang-19") {
        return;
    }
    let object = parse(&clang::build_text("clang-19", "storm", STORM));
    let [a, b] = free_addresses();
    let peer = UdpSocket::bind(a).expect("free");
    let config = HostConfig { mode: Mode::Fast, ..HostConfig::new("host", WireConfig { local: b, peer: a }) };
    let host = Host::start(config).expect("loopback");
    host.load(&object).expect("well-formed");
    host.attach(&host.program("start").expect("loaded"), Hook::Xdp).expect("a hook");
    let until = Instant::now() + PATIENCE;
    for sent in 1..=3 {
        peer.send_to(&[0; 64], b).expect("loopback");
        while host.stats().ports[0].rx < sent {
            assert!(Instant::now() < until, "{:?}", host.events());
        }
        // The host says so where a worker does not get to it in time.
        host.set_mode(&ModeTarget::All, Mode::Verify).expect("the worker takes the change");
        host.set_mode(&ModeTarget::All, Mode::Fast).expect("the worker takes the change");
    }
    host.stop();
    assert_eq!(host.stats().ports[0].pass, 3);
}
