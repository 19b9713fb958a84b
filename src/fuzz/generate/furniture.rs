//! The maps that generated cases have: one of each type whose contents can be compared, and what is put into them.

use crate::fuzz::case::CaseMap;
use crate::isa::random::Dice;
use crate::maps::MapKind;

/// Place of the map that registers and stack are stored to at the end.
pub(super) const LEFT: usize = 0;
/// Place of an array of one value, which is also the memory of programs that have no packet.
pub(super) const MEMORY: usize = 1;
/// Place of an array.
pub(super) const ARRAY: usize = 2;
/// Place of a hash.
pub(super) const HASH: usize = 3;
/// Place of a per-CPU array.
pub(super) const PERCPU_ARRAY: usize = 4;
/// Place of a per-CPU hash.
pub(super) const PERCPU_HASH: usize = 5;
/// Place of a trie.
pub(super) const TRIE: usize = 6;
/// Place of a queue.
pub(super) const QUEUE: usize = 7;
/// Place of a stack.
pub(super) const STACK: usize = 8;
/// Place of the program array.
pub(super) const PROGRAMS: usize = 9;
/// Place of a ring buffer.
pub(super) const RING: usize = 10;

/// Bytes of the memory map's value.
pub(super) const MEMORY_LEN: u32 = 64;
/// Entries of arrays.
pub(super) const ENTRIES: u32 = 4;
/// Slots of the program array.
pub(super) const PROGRAM_SLOTS: u32 = 3;
/// Entries of hashes and queues.
const ELEMENTS_MAX: u32 = 6;
/// Keys of hashes and tries that programs use, one more than fit.
pub(super) const KEYS: usize = 7;

/// A map type: its place, name, type, bytes of key and value, entries, flags.
const MAPS: [(&str, MapKind, u32, u32, u32, u32); 11] = [
    ("left", MapKind::ARRAY, 4, 256, 1, 0),
    ("memory", MapKind::ARRAY, 4, MEMORY_LEN, 1, 0),
    ("array", MapKind::ARRAY, 4, 24, ENTRIES, 0),
    ("hash", MapKind::HASH, 8, 16, ELEMENTS_MAX, 0),
    ("percpu_array", MapKind::PERCPU_ARRAY, 4, 16, ENTRIES, 0),
    ("percpu_hash", MapKind::PERCPU_HASH, 4, 16, ELEMENTS_MAX, 0),
    ("trie", MapKind::LPM_TRIE, 8, 16, ELEMENTS_MAX, 1),
    ("queue", MapKind::QUEUE, 0, 16, ELEMENTS_MAX, 0),
    ("stack", MapKind::STACK, 0, 16, ELEMENTS_MAX, 0),
    ("programs", MapKind::PROGRAM_ARRAY, 4, 4, PROGRAM_SLOTS, 0),
    ("ring", MapKind::RING_BUFFER, 0, 0, 4096, 0),
];

/// All of them, the memory filled.
pub(super) fn maps(dice: &mut Dice) -> Vec<CaseMap> {
    let made = MAPS.iter().map(|(name, kind, key_len, value_len, max_entries, flags)| {
        let mut map = CaseMap::new(name, *kind, *key_len, *value_len, *max_entries);
        map.def.flags = *flags;
        map
    });
    let mut maps: Vec<CaseMap> = made.collect();
    maps[MEMORY].elements.push((vec![0; 4], bytes(dice, MEMORY_LEN as usize)));
    for index in 0..ENTRIES {
        if dice.once_in(2) {
            maps[ARRAY].elements.push((index.to_ne_bytes().to_vec(), bytes(dice, 24)));
        }
    }
    for key in 0..KEYS - 2 {
        if dice.once_in(3) {
            maps[HASH].elements.push(((key as u64).to_ne_bytes().to_vec(), bytes(dice, 16)));
        }
    }
    maps
}

/// Random bytes, often all zeros or ones.
pub(super) fn bytes(dice: &mut Dice, len: usize) -> Vec<u8> {
    let fill = dice.pick(&[0, 0xff]);
    let density = dice.pick(&[1, 1, 2, 8]);
    (0..len).map(|_| if dice.once_in(density) { dice.bits().to_le_bytes()[0] } else { fill }).collect()
}
