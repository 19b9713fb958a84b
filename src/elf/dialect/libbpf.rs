//! libbpf: `.maps` described by BTF, and section names that begin with the hook.
//!
//! Newer libbpf takes the exact name or `name/extra`; older ones took whatever began with the name, and many objects in
//! the field rely on it (`xdp_pass`, `socket1`), so both are taken here.
//!
//! Source: `section_defs` in libbpf.c.

use super::Dialect;
use crate::elf::{btf_maps, legacy_maps};
use crate::verdict::ProgramKind;

pub(super) static LIBBPF: Dialect = Dialect {
    knows: |_| true,
    kind_of,
    maps: |file, btf| {
        let mut maps = btf_maps::maps(file, btf)?;
        maps.extend(legacy_maps::maps(file)?);
        Ok(maps)
    },
};

/// What the first word of a section's name means.
const HOOKS: [(&str, ProgramKind); 8] = [
    ("xdp", ProgramKind::Xdp),
    ("tc", ProgramKind::Tc),
    ("tcx", ProgramKind::Tc),
    ("netkit", ProgramKind::Tc),
    ("classifier", ProgramKind::Tc),
    ("action", ProgramKind::Tc),
    ("socket", ProgramKind::SocketFilter),
    ("sk_filter", ProgramKind::SocketFilter),
];

/// A leading `?` says that libbpf shall not load the program unless it is asked to; here a program is always asked for.
fn kind_of(section: &str) -> Option<ProgramKind> {
    let section = section.strip_prefix('?').unwrap_or(section);
    let begins = |word: &str| {
        let rest = section.strip_prefix(word)?;
        (!rest.starts_with(|next: char| next.is_ascii_alphabetic())).then_some(())
    };
    HOOKS.iter().find(|(word, _)| begins(word).is_some()).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_a_section_says_the_hook() {
        for name in ["xdp", "xdp.frags", "xdp/devmap", "xdp.frags/cpumap", "xdp_pass", "xdp1", "?xdp"] {
            assert_eq!(kind_of(name), Some(ProgramKind::Xdp), "{name}");
        }
        for name in ["tc", "tc/ingress", "classifier", "action", "tcx/egress", "classifier_egress"] {
            assert_eq!(kind_of(name), Some(ProgramKind::Tc), "{name}");
        }
        for name in ["socket", "socket_filter", "socket1", "sk_filter"] {
            assert_eq!(kind_of(name), Some(ProgramKind::SocketFilter), "{name}");
        }
        for name in ["kprobe/x", "tcp", "sockops", "xdpfoo", "", ".text", "license"] {
            assert_eq!(kind_of(name), None, "{name}");
        }
    }
}
