//! Lookups that were compiled inline, beside the helper: every kind of map, key and place of a key.

use std::sync::Barrier;

use super::*;
use crate::run::CallSite;
use crate::trap::{Access, Fault, TrapKind};

/// Every hash.
const HASHES: [MapKind; 4] = [MapKind::HASH, MapKind::LRU_HASH, MapKind::PERCPU_HASH, MapKind::LRU_PERCPU_HASH];

/// The key of a number: its bytes are all used, and two numbers share all words but one.
fn key_of(number: u32, len: u32) -> Vec<u8> {
    let last = len.saturating_sub(4) as usize;
    let mut key = vec![0x5a; len as usize];
    let bytes = number.to_le_bytes();
    let count = bytes.len().min(key.len());
    key[last..last + count].copy_from_slice(&bytes[..count]);
    key
}

/// Instructions that write a key to the frame, in pieces of this many bytes.
fn to_frame(key: &[u8], piece: usize) -> String {
    let start = key.len().next_multiple_of(8);
    let stores = key.chunks(piece).enumerate().map(|(index, bytes)| {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let at = start - index * piece;
        match bytes.len() {
            8 => format!("r3 = {} ll\n*(u64 *)(r10 - {at}) = r3\n", i64::from_le_bytes(wide)),
            4 => format!("r3 = {} ll\n*(u32 *)(r10 - {at}) = r3\n", i64::from_le_bytes(wide)),
            _ => {
                let one = |(offset, byte): (usize, &u8)| format!("*(u8 *)(r10 - {}) = {byte}\n", at - offset);
                bytes.iter().enumerate().map(one).collect()
            }
        }
    });
    let stores: String = stores.collect();
    format!("{stores}r2 = r10\nr2 += -{start}\n")
}

#[test]
fn lookups_in_hashes_give_what_the_helper_gives() {
    for kind in HASHES {
        for key_len in [1, 3, 4, 6, 8, 12, 16, 20, 36, 40] {
            let world = world();
            let def =
                MapDef { name: "m".to_owned(), kind, key_len, value_len: 8, max_entries: 64, ..MapDef::default() };
            let maps = vec![map_of(&world, &def)];
            // A crowd, so that chains have several elements.
            for number in 0..60 {
                maps[0].1.update(WorkerIndex(0), &key_of(number, key_len), &[7; 8], 0).expect("room");
            }
            let place = Place { worker: WorkerIndex(1), ..Place::new(&world) };
            for number in [0, 1, 2, 30, 59, 60, 200] {
                let key = key_of(number, key_len);
                let expected = maps[0].1.lookup(WorkerIndex(1), &key).expect("a hash").map_or(0, u64::from);
                for piece in [8, 4, 1] {
                    let text = format!("{}r1 = map_by_idx(0)\ncall 1\nexit", to_frame(&key, piece));
                    let known = Loaded::new(link(&world, "main", &text, &maps));
                    assert_eq!(place.agree(&known, FUEL_DEFAULT).r0, expected, "{kind} {key_len} {number} {piece}");
                }
                // In memory of the guest, where r1 points.
                let stores = to_frame(&key, 1).replace("r10 - ", "r6 + 64 - ");
                let (stores, _) = stores.rsplit_once("r2 = r10").expect("the last lines");
                let stores: String = stores
                    .lines()
                    .map(|line| {
                        let (head, rest) = line.split_once("64 - ").expect("a store");
                        let (at, value) = rest.split_once(')').expect("a store");
                        let at = 64 - at.parse::<i32>().expect("an offset");
                        format!("{head}{at}){value}\n")
                    })
                    .collect();
                let start = 64 - key.len().next_multiple_of(8);
                let text = format!("r6 = r1\n{stores}r2 = r6\nr2 += {start}\nr1 = map_by_idx(0)\ncall 1\nexit");
                let known = Loaded::new(link(&world, "main", &text, &maps));
                assert_eq!(place.agree(&known, FUEL_DEFAULT).r0, expected, "{kind} {key_len} {number} in memory");
            }
        }
    }
}

#[test]
fn a_short_chain_is_searched_without_a_call_and_a_long_one_by_the_helper() {
    let world = world();
    // One bucket for all: the chain is as long as there are elements.
    let maps = vec![map(&world, MapKind::HASH, 8, 1)];
    let mut found = Vec::new();
    for number in [7u32, 8] {
        let text = format!("{}r1 = map_by_idx(0)\ncall 1\nexit", to_frame(&number.to_le_bytes(), 4));
        let known = Loaded::new(link(&world, "main", &text, &maps));
        let place = Place::new(&world);
        maps[0].1.update(WorkerIndex(0), &7u32.to_le_bytes(), &[1; 8], 0).expect("room");
        let mut run = place.new_run(FUEL_DEFAULT);
        let never = CallSite(u64::MAX);
        run.head.call_site = never;
        found.push((known.run(Mode::Fast, &mut run).r0 != 0, run.head.call_site == never));
    }
    assert_eq!(found, [(true, true), (false, true)], "found or not, and without a call");

    let maps = vec![map(&world, MapKind::HASH, 8, 512)];
    for number in 0..512u32 {
        maps[0].1.update(WorkerIndex(0), &number.to_le_bytes(), &[1; 8], 0).expect("room");
    }
    let calls = (0..512u32).filter(|number| {
        let text = format!("{}r1 = map_by_idx(0)\ncall 1\nexit", to_frame(&number.to_le_bytes(), 4));
        let known = Loaded::new(link(&world, "main", &text, &maps));
        let place = Place::new(&world);
        let mut run = place.new_run(FUEL_DEFAULT);
        let never = CallSite(u64::MAX);
        run.head.call_site = never;
        assert_ne!(known.run(Mode::Fast, &mut run).r0, 0, "key {number}");
        run.head.call_site != never
    });
    let calls = calls.count();
    assert!((1..256).contains(&calls), "{calls} of 512 keys lie deep in a chain");
}

#[test]
fn a_key_that_cannot_be_read_traps_as_the_helper_does() {
    let world = world();
    let place = Place::new(&world);
    let of = |kind, key_len| {
        let def = MapDef { name: "m".to_owned(), kind, key_len, value_len: 8, max_entries: 4, ..MapDef::default() };
        map_of(&world, &def)
    };
    for (kind, key_len) in [(MapKind::ARRAY, 4), (MapKind::HASH, 4), (MapKind::HASH, 20), (MapKind::LRU_HASH, 40)] {
        let maps = vec![of(kind, key_len)];
        let end = i64::from(place.memory.addr()) + 4096;
        for addr in [0, 64, 0xffff_fffe, 0xffff_ffff, 1 << 32, -8, i64::MAX, end - 2, end] {
            let text = format!("r2 = {addr} ll\nr1 = map_by_idx(0)\ncall 1\nexit");
            let known = Loaded::new(link(&world, "main", &text, &maps));
            let trap = place.agree(&known, FUEL_DEFAULT).trap.expect("a trap").trap;
            let fault = Fault { addr, len: key_len.into(), access: Access::Read };
            assert_eq!((trap.kind, trap.pc), (TrapKind::HelperMemory { helper: 1, fault }, 4), "{kind} {addr:#x}");
        }
    }
}

#[test]
fn a_branch_on_what_was_looked_up_goes_the_right_way() {
    let world = world();
    let maps = vec![map(&world, MapKind::ARRAY, 8, 4)];
    let place = Place::new(&world);
    for (cond, there, absent) in [("==", 2, 1), ("!=", 1, 2)] {
        for (index, expected) in [(3, there), (4, absent)] {
            let text = format!(
                "*(u32 *)(r10 - 4) = {index}\nr2 = r10\nr2 += -4\nr1 = map_by_idx(0)\ncall 1\nif r0 {cond} 0 goto to\n\
                 r6 = 2\ngoto end\nto:\nr6 = 1\nend:\nif r0 == 0 goto out\n*(u64 *)(r0 + 0) = r6\nout:\nr0 = r6\nexit"
            );
            let known = Loaded::new(link(&world, "main", &text, &maps));
            assert_eq!(place.agree(&known, FUEL_DEFAULT).r0, expected, "{cond} {index}");
        }
    }
}

/// A reader never misses a key that stays, and never finds one that was not put in, whatever a writer does meanwhile.
#[test]
fn a_search_beside_a_writer_finds_what_is_there() {
    let world = world();
    let maps = vec![map(&world, MapKind::HASH, 8, 8)];
    let stays = 77u32.to_le_bytes();
    maps[0].1.update(WorkerIndex(0), &stays, &[1; 8], 0).expect("room");
    let text = format!("{}r1 = map_by_idx(0)\ncall 1\nif r0 == 0 goto out\nr0 = 1\nout:\nexit", to_frame(&stays, 4));
    let known = Loaded::new(link(&world, "main", &text, &maps));
    let place = Place::new(&world);
    let begin = Barrier::new(2);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            begin.wait();
            for round in 0..30_000u32 {
                let other = (round % 5).to_le_bytes();
                maps[0].1.update(WorkerIndex(1), &other, &[2; 8], 0).expect("room");
                maps[0].1.delete(&other).expect("it was just put in");
                maps[0].1.update(WorkerIndex(1), &stays, &[3; 8], 0).expect("room");
            }
        });
        begin.wait();
        loop {
            let outcome = known.run(Mode::Fast, &mut place.new_run(FUEL_DEFAULT));
            assert_eq!((outcome.r0, outcome.trap.is_none()), (1, true));
            if writer.is_finished() {
                break;
            }
        }
    });
}
