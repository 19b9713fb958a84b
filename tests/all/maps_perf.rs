//! Perf event arrays: against the kernel's and a plain collection.

use std::collections::VecDeque;
use std::sync::Arc;

use kumite::cage::Cage;
use kumite::limits::PERF_BUFFER_LEN;
use kumite::maps::{self, Errno, MapDef, MapEnv, MapKind, WorkerIndex};
use kumite::vm::Mode;

use crate::kernel::{self, KernelMap, KernelPerf};
use crate::maps_kernel_runs::Both;
use crate::random::Random;

const OPERATIONS: u32 = 10_000;
const CURRENT: u64 = 0xffff_ffff;

fn def(max_entries: u32) -> MapDef {
    let kind = MapKind::PERF_EVENT_ARRAY;
    MapDef { name: "m".to_owned(), kind, key_len: 4, value_len: 4, max_entries, ..MapDef::default() }
}

#[test]
fn a_perf_event_array_does_as_a_queue_for_each_worker() {
    let cage = Cage::new().expect("address space");
    let map = maps::create(&def(5), MapEnv { cage: &cage, worker_count: 3, budget: &Arc::default() })
        .expect("a good definition");
    let buffer = map.as_perf_buffer().expect("it is one");
    let mut model: [VecDeque<Vec<u8>>; 3] = Default::default();
    let (mut open, mut used, mut lost) = ([true; 3], [0; 3], 0);
    let mut random = Random::new(4);
    for operation in 0..OPERATIONS {
        let at = format!("operation {operation}");
        let worker = random.below(3);
        let place = worker as usize;
        match random.below(16) {
            0 => {
                let index = random.below(7);
                let expected = match open.get_mut(index as usize) {
                    Some(open) if *open => {
                        *open = false;
                        Ok(())
                    }
                    _ if index < 5 => Err(Errno::ENOENT),
                    _ => Err(Errno::E2BIG),
                };
                assert_eq!(map.delete(&index.to_ne_bytes()), expected, "{at}");
            }
            1..=3 => {
                let index = random.below(7);
                let expected = match open.get_mut(index as usize) {
                    Some(open) => {
                        *open = true;
                        Ok(())
                    }
                    None if index < 5 => Err(Errno::ENODEV),
                    None => Err(Errno::E2BIG),
                };
                assert_eq!(buffer.open(index), expected, "{at}");
            }
            4 if random.below(64) == 0 => {
                let mut records: [VecDeque<Vec<u8>>; 3] = Default::default();
                let count = buffer.read(|worker, record| records[worker.0 as usize].push_back(record.to_vec()));
                assert_eq!(records, model, "{at}");
                assert_eq!(count, model.iter().map(VecDeque::len).sum::<usize>(), "{at}");
                model = Default::default();
                used = [0; 3];
            }
            _ => {
                let index = random.pick(&[CURRENT, CURRENT, CURRENT, 0, 1, 2, 3, 4, 5, 1 << 31]);
                let bytes = random.bytes(random.clone().below(6000) as usize);
                let to = if index == CURRENT { u64::from(worker) } else { index };
                let full = used[place] + 4 + bytes.len() as u64 > PERF_BUFFER_LEN;
                let expected = match to {
                    5.. => Err(Errno::E2BIG),
                    3.. => Err(Errno::ENOENT),
                    to if !open[usize::try_from(to).expect("few")] => Err(Errno::ENOENT),
                    to if to != u64::from(worker) => Err(Errno::EOPNOTSUPP),
                    _ if full => Err(Errno::ENOSPC),
                    _ => Ok(()),
                };
                let sent = buffer.output(WorkerIndex(worker), index, bytes.len(), |into| {
                    into.copy_from_slice(&bytes);
                    Ok(())
                });
                assert_eq!(sent, Ok(expected), "{at}");
                lost += u64::from(expected == Err(Errno::ENOSPC));
                if expected.is_ok() {
                    used[place] += 4 + bytes.len() as u64;
                    model[place].push_back(bytes);
                }
            }
        }
    }
    assert!(lost > 10, "{lost} found no room");
    assert_eq!(buffer.lost(), lost);
}

#[test]
fn a_perf_event_array_answers_as_the_kernels() {
    if !kernel::available() {
        return;
    }
    let cage = Cage::new().expect("address space");
    let processors =
        u32::try_from(KernelMap::possible_processors().expect("sysfs is mounted")).expect("few processors");
    let def = def(processors + 2);
    let ours = maps::create(&def, MapEnv { cage: &cage, worker_count: processors, budget: &Arc::default() })
        .expect("a good definition");
    let theirs = KernelMap::of(&def, None).expect("a good definition");
    let events: Vec<_> = (0..processors).map(|cpu| KernelPerf::open(cpu.cast_signed())).collect();
    for (cpu, event) in (0..processors).zip(&events) {
        theirs.update(&cpu.to_ne_bytes(), &event.fd().to_ne_bytes(), 0).expect("a good event");
    }
    let mut random = Random::new(6);
    for operation in 0..OPERATIONS {
        let index = random.below(processors + 4);
        let key = index.to_ne_bytes();
        let at = format!("operation {operation} index {index}");
        match random.below(4) {
            0 => assert_eq!(ours.host_lookup(&key), theirs.lookup(&key), "lookup, {at}"),
            1 if operation % 20 == 0 => assert_eq!(ours.delete(&key), theirs.delete(&key), "delete, {at}"),
            2 => {
                if let Some(event) = events.get(index as usize) {
                    let opened = ours.as_perf_buffer().expect("it is one").open(index);
                    assert_eq!(opened, theirs.update(&key, &event.fd().to_ne_bytes(), 0), "open, {at}");
                }
                let flags = random.pick(&[0, 1, 2, 3]);
                let [bad, bad_theirs] =
                    [ours.host_update(&key, &[0xff; 4], flags), theirs.update(&key, &[0xff; 4], flags)];
                assert_eq!(bad, bad_theirs, "no event, flags {flags}, {at}");
            }
            _ => assert_eq!(ours.next_key(Some(&key)), theirs.next_key(Some(&key)), "next key, {at}"),
        }
    }
}

#[test]
fn programs_send_events_as_in_the_kernel() {
    if !kernel::available() {
        return;
    }
    kernel::stay_on_processor_0();
    // The frame: flags, length of the record; the record is the frame's first bytes.
    let text = "r6 = r1
        r2 = 0\nr3 = r10\nr3 += -200\nr4 = 200\ncall 189\nif r0 != 0 goto out
        r1 = r6\nr2 = map_by_idx(0)\nr3 = *(u64 *)(r10 - 200)\nr4 = r10\nr4 += -200\nr5 = *(u64 *)(r10 - 192)
        if r5 > 200 goto out
        call 25\nexit
        out: r0 = -1\nexit";
    let def = def(4);
    let theirs = KernelMap::of(&def, None).expect("a good definition");
    let event = KernelPerf::open(0);
    theirs.update(&[0; 4], &event.fd().to_ne_bytes(), 0).expect("a good event");
    let both = Both::load(text, &def, theirs.fd());
    let mut random = Random::new(8);
    let (mut delivered, mut refused) = (0, 0);
    for operation in 0..OPERATIONS {
        let index = random.pick(&[CURRENT, CURRENT, CURRENT, 0, 1, 3, 4, 1 << 31]);
        let packet_len = random.pick(&[0u64, 0, 1, 64, 200, 201, 300, 0xf_ffff]);
        let unknown = random.pick(&[0, 0, 0, 0, 0, 1 << 52, 1 << 63]);
        let frame_len = 200 + random.below(100) as usize;
        let mut frame = (index | packet_len << 32 | unknown).to_ne_bytes().to_vec();
        frame.extend(u64::from(random.below(201)).to_ne_bytes());
        frame.extend(random.bytes(frame_len - 16));
        let mode = random.pick(&Mode::ALL);
        let answer = both.compare(mode, &frame, &(operation, index, packet_len, unknown));
        refused += u32::from(answer != 0);
        if random.below(8) == 0 {
            let mut ours = Vec::new();
            both.map.as_perf_buffer().expect("it is one").read(|worker, record| {
                assert_eq!(worker, WorkerIndex(0));
                ours.push(record.to_vec());
            });
            let theirs = event.read();
            assert_eq!(ours.len(), theirs.len(), "operation {operation}");
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!(ours[..], theirs[..ours.len()], "operation {operation}");
                assert_eq!((ours.len() + 4).next_multiple_of(8) - 4, theirs.len(), "the kernel pads");
            }
            delivered += ours.len();
        }
    }
    assert!(delivered > 1000 && refused > 1000, "{delivered} delivered, {refused} refused");
}
