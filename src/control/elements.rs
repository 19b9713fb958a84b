//! Elements of maps, as commands read and change them.
//!
//! Invariant: one request works on at most [`API_ELEMENTS_MAX`] elements or [`API_SLOTS_MAX`] slots, so that no map keeps others waiting.

use super::Refusal;
use super::view::ElementsView;
use crate::elf::MapTypes;
use crate::limits::{API_ELEMENTS_LEN_MAX, API_ELEMENTS_MAX, API_SLOTS_MAX};
use crate::maps::{Errno, Map, ProgramArray};
use crate::report::{Element, Typing, from_hex, to_hex};

/// Reads the digits of a key.
pub(super) fn key(map: &dyn Map, digits: &str) -> Result<Vec<u8>, Refusal> {
    bytes("key", map, digits, map.def().key_len as usize)
}

fn bytes(place: &str, map: &dyn Map, digits: &str, len: usize) -> Result<Vec<u8>, Refusal> {
    let name = &map.def().name;
    let bytes = from_hex(digits).filter(|bytes| bytes.len() == len);
    bytes.ok_or_else(|| Refusal::Request {
        place: format!("map {name}: {place} {digits:?}"),
        what: format!("not {len} bytes in hexadecimal"),
        mend: format!("write {} digits", 2 * len),
    })
}

/// The elements behind the key `after`, from the first on for `None`. There may be none of them and yet more behind.
pub(super) fn part(map: &dyn Map, types: Option<&MapTypes>, after: Option<&[u8]>) -> Result<ElementsView, Refusal> {
    if let Some(array) = map.as_program_array() {
        let first = after.map(|key| index(map, key)).transpose()?.map_or(0, |index| index.saturating_add(1));
        return Ok(part_of_slots(array, first));
    }
    let mut elements = Vec::new();
    let mut len = 0;
    let mut typing = Typing::new(types, usize::MAX);
    let mut last = after.map(<[u8]>::to_vec);
    for _ in 0..API_ELEMENTS_MAX {
        let next = match map.next_key(last.as_deref()) {
            Ok(next) => next,
            Err(Errno::ENOENT) => return Ok(ElementsView { elements, next: None }),
            Err(errno) => return Err(refusal(map, "walking", errno)),
        };
        match map.host_lookup(&next) {
            Ok(value) => {
                len += next.len() + value.len();
                elements.push(Element::of_value(map, &mut typing, &next, &value));
            }
            // A program deleted it meanwhile.
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(refusal(map, "reading", errno)),
        }
        last = Some(next);
        if len.saturating_add(typing.weight()) >= API_ELEMENTS_LEN_MAX {
            break;
        }
    }
    Ok(ElementsView { elements, next: last.as_deref().map(to_hex) })
}

/// The programs in slots from `first` on, as many as one answer holds, of as many slots as one request looks at.
fn part_of_slots(array: &ProgramArray, first: u32) -> ElementsView {
    let guard = crossbeam::epoch::pin();
    let end = array.slot_count().min(first.saturating_add(API_SLOTS_MAX));
    let mut elements = Vec::new();
    let mut len = 0;
    for index in first..end {
        let Some(slot) = array.slot(index, &guard) else { continue };
        len += slot.name.len();
        elements.push(Element::of_slot(index, slot));
        if elements.len() == API_ELEMENTS_MAX || len >= API_ELEMENTS_LEN_MAX {
            return ElementsView { elements, next: Some(to_hex(&index.to_le_bytes())) };
        }
    }
    let last = end.checked_sub(1).filter(|_| end < array.slot_count());
    ElementsView { elements, next: last.map(|last| to_hex(&last.to_le_bytes())) }
}

/// The element with this key.
pub(super) fn lookup(map: &dyn Map, types: Option<&MapTypes>, key: &[u8]) -> Result<Element, Refusal> {
    if let Some(array) = map.as_program_array() {
        let guard = crossbeam::epoch::pin();
        let at = index(map, key)?;
        let slot = array.slot(at, &guard);
        let slot = slot.ok_or_else(|| refusal(map, "reading", Errno::ENOENT))?;
        return Ok(Element::of_slot(at, slot));
    }
    let value = map.host_lookup(key).map_err(|errno| refusal(map, "reading", errno))?;
    Ok(Element::of_value(map, &mut Typing::new(types, usize::MAX), key, &value))
}

/// The flags of an update, by their word.
pub(super) fn flags(map: &dyn Map, word: &str) -> Result<u64, Refusal> {
    match word {
        "any" => Ok(0),
        "noexist" => Ok(1),
        "exist" => Ok(2),
        _ => Err(Refusal::Request {
            place: format!("map {}: flags {word:?}", map.def().name),
            what: "no such condition".to_owned(),
            mend: "use any, noexist or exist".to_owned(),
        }),
    }
}

/// Stores a value, given in digits. In a map with a value for each worker, one value goes to all of them.
pub(super) fn update(map: &dyn Map, key: &[u8], digits: &str, flags: &str, worker_count: u32) -> Result<(), Refusal> {
    let def = map.def();
    let flags = self::flags(map, flags)?;
    let mut value = bytes("value", map, digits, def.value_len as usize)?;
    if def.kind.is_per_worker() {
        let stride = usize::try_from(def.value_stride()).expect("a value fits in memory");
        value.resize(stride, 0);
        value = value.repeat(worker_count as usize);
    }
    map.host_update(key, &value, flags).map_err(|errno| refusal(map, "storing", errno))
}

/// Removes an element.
pub(super) fn delete(map: &dyn Map, key: &[u8]) -> Result<(), Refusal> {
    map.delete(key).map_err(|errno| refusal(map, "deleting", errno))
}

/// The slot that a key of a program array means.
pub(super) fn index(map: &dyn Map, key: &[u8]) -> Result<u32, Refusal> {
    let bytes = <[u8; 4]>::try_from(key).map_err(|_| refusal(map, "finding the slot", Errno::EINVAL))?;
    Ok(u32::from_le_bytes(bytes))
}

/// What the map says about an element, in words.
pub(super) fn refusal(map: &dyn Map, doing: &str, errno: Errno) -> Refusal {
    let def = map.def();
    if map.as_ring_buffer().is_some() || map.as_perf_buffer().is_some() {
        let text = format!("map {} ({}): it has no elements; read its records with kumite events", def.name, def.kind);
        return Refusal::Guest { text };
    }
    let mend = match errno {
        Errno::ENOENT => "see the elements with kumite map dump",
        Errno::EEXIST => "leave out noexist to replace it",
        Errno::E2BIG | Errno::ENOSPC => {
            "the map is full or the index lies outside; delete elements or raise max_entries"
        }
        Errno::EPERM | Errno::EACCES => "the map is read-only for commands",
        Errno::ENOMEM => "free memory in the host's cage by unloading programs",
        _ => "this type of map does not do that",
    };
    Refusal::Guest { text: format!("map {} ({}): {doing} an element: {errno}; {mend}", def.name, def.kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps::Slot;
    use crate::verdict::ProgramKind;
    use std::sync::Arc;

    fn array_with(slot_count: u32, filled: impl Iterator<Item = u32>) -> ProgramArray {
        let array = ProgramArray::new(slot_count).expect("memory");
        for index in filled {
            let slot = Slot {
                name: format!("p{index}"),
                program_id: index,
                kind: ProgramKind::Xdp,
                code: [std::ptr::null(); crate::maps::CODE_TABLES],
                program: Arc::new(()),
            };
            array.replace(index, Some(slot)).expect("inside the array");
        }
        array
    }

    /// All programs of an array, part by part, and how many parts there were.
    fn all(array: &ProgramArray) -> (Vec<String>, usize) {
        let mut names = Vec::new();
        let mut first = 0;
        for count in 1.. {
            let part = part_of_slots(array, first);
            assert!(part.elements.len() <= API_ELEMENTS_MAX);
            names.extend(part.elements.into_iter().filter_map(|element| element.program));
            let Some(next) = part.next else { return (names, count) };
            let next = from_hex(&next).expect("digits");
            first = u32::from_le_bytes(next.try_into().expect("a key")) + 1;
        }
        unreachable!("a part without a next comes")
    }

    #[test]
    fn a_large_program_array_comes_in_parts_and_whole() {
        let most = u32::try_from(API_ELEMENTS_MAX).expect("small");
        let (names, parts) = all(&array_with(3 * API_SLOTS_MAX, (0..2 * most).chain([3 * API_SLOTS_MAX - 1])));
        assert_eq!(names.len(), 2 * API_ELEMENTS_MAX + 1);
        assert_eq!(names.last(), Some(&format!("p{}", 3 * API_SLOTS_MAX - 1)));
        assert!(parts >= 5, "{parts}");
        assert_eq!(all(&array_with(4, [0, 3].into_iter())), (vec!["p0".to_owned(), "p3".to_owned()], 1));
        assert_eq!(all(&array_with(API_SLOTS_MAX, std::iter::empty())), (vec![], 1));
    }
}
