//! The map types that kumite does not have, each with the reason.
//!
//! Invariant: a type is here or in [`super::MAP_TYPES`], never in both.

use super::{MapDef, MapError, MapKind};

/// Types by number, and why a host has none.
const ABSENT: &[(&[u32], &str)] = &[
    (&[7], "a host has no kernel stacks to trace"),
    (&[8, 19, 21, 32], "a host has no control groups"),
    (&[15, 18, 20], "a host has no kernel sockets to send to"),
    (&[24], "a host has no kernel sockets to store values with"),
    (&[26], "a program cannot stand in for the kernel's own functions"),
    (&[28], "a host has no files to store values with"),
    (&[29], "a host has no tasks to store values with"),
    (&[31], "nothing sends records to programs"),
    (&[33], "memory that programs lay out themselves is not there yet"),
    (&[34], "jumps through tables of instructions are not there yet"),
];

/// The refusal of a type that no file implements.
pub(super) fn unsupported(def: &MapDef) -> MapError {
    MapError::Unsupported { name: def.name.clone(), kind: def.kind, reason: reason(def.kind) }
}

fn reason(kind: MapKind) -> &'static str {
    let found = ABSENT.iter().find(|(kinds, _)| kinds.contains(&kind.0));
    found.map_or("no such type is known", |(_, reason)| reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps::MAP_TYPES;

    #[test]
    fn every_type_of_the_kernel_is_there_or_absent_for_a_reason() {
        for number in 1..=34 {
            let is_there = MAP_TYPES.iter().any(|map_type| map_type.kind.0 == number);
            let reason = reason(MapKind(number));
            assert_eq!(is_there, reason == "no such type is known", "type {number}: {reason}");
        }
        let def = MapDef { name: "socks".to_owned(), kind: MapKind(15), ..MapDef::default() };
        assert_eq!(
            unsupported(&def).to_string(),
            "map socks: type sockmap is not supported: a host has no kernel sockets to send to; use another map type"
        );
    }
}
