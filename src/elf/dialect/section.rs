//! What the name of a section says of the programs in it.
//!
//! Newer libbpf takes the exact name or `name/extra`; older ones took whatever began with the name, and many objects in
//! the field rely on it (`xdp_pass`, `socket1`), so both are taken here.
//!
//! Source: `section_defs` in libbpf.c.

use crate::verdict::ProgramKind;

/// What a section's name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::elf) enum Meaning {
    /// Programs of this kind.
    Kind(ProgramKind),
    /// Programs of a kind that kumite does not run, and why.
    Refused {
        /// What they are.
        what: &'static str,
        /// Why they are not run.
        because: &'static str,
    },
    /// Slot `index` of the program array with number `id`, as iproute2 says it.
    Slot {
        /// The array's number in the object.
        id: u32,
        /// The slot.
        index: u32,
    },
    /// Nothing that a loader knows.
    Unknown,
}

const XDP: Meaning = Meaning::Kind(ProgramKind::Xdp);
const TC: Meaning = Meaning::Kind(ProgramKind::Tc);
const SOCKET: Meaning = Meaning::Kind(ProgramKind::SocketFilter);

const fn refused(what: &'static str, because: &'static str) -> Meaning {
    Meaning::Refused { what, because }
}

const CGROUP: Meaning = refused("control group", "a host has no control groups");
const LWT: Meaning = refused("lightweight tunnel", "a host has no routes that carry programs");
const SOCKETS: Meaning = refused("socket map", "a host does not move bytes between sockets");
const TRACING: Meaning = refused("tracing", "there is no kernel to trace");

/// What the first word of a section's name means. A word counts where the name ends or goes on with anything but a letter.
const WORDS: [(&str, Meaning); 44] = [
    ("xdp", XDP),
    ("tc", TC),
    ("tcx", TC),
    ("netkit", TC),
    ("classifier", TC),
    ("action", TC),
    ("socket", SOCKET),
    ("sk_filter", SOCKET),
    ("flow_dissector", Meaning::Kind(ProgramKind::FlowDissector)),
    ("cgroup_skb", CGROUP),
    ("cgroup", CGROUP),
    ("sockops", refused("socket operation", "a host has no TCP of its own")),
    ("lwt_in", LWT),
    ("lwt_out", LWT),
    ("lwt_xmit", LWT),
    ("lwt_seg6local", LWT),
    ("sk_skb", SOCKETS),
    ("sk_msg", SOCKETS),
    ("sk_reuseport", refused("reuseport", "a host does not share listening sockets")),
    ("sk_lookup", refused("socket lookup", "a host does not accept connections")),
    ("netfilter", refused("netfilter", "a host has no netfilter")),
    ("freplace", refused("extension", "programs do not replace functions of others")),
    ("struct_ops", refused("struct_ops", "there is no kernel to extend")),
    ("syscall", refused("syscall", "there is no bpf(2) to call")),
    ("kprobe", TRACING),
    ("kretprobe", TRACING),
    ("ksyscall", TRACING),
    ("kretsyscall", TRACING),
    ("uprobe", TRACING),
    ("uretprobe", TRACING),
    ("usdt", TRACING),
    ("tracepoint", TRACING),
    ("tp", TRACING),
    ("raw_tracepoint", TRACING),
    ("raw_tp", TRACING),
    ("tp_btf", TRACING),
    ("fentry", TRACING),
    ("fexit", TRACING),
    ("fmod_ret", TRACING),
    ("iter", TRACING),
    ("perf_event", TRACING),
    ("lsm", TRACING),
    ("lsm_cgroup", TRACING),
    ("lirc_mode2", refused("infrared", "a host has no infrared receiver")),
];

/// What a section's name means. A leading `?` says that libbpf shall not load the program unless it is asked to; here a
/// program is always asked for.
pub(in crate::elf) fn meaning(section: &str) -> Meaning {
    let section = section.strip_prefix('?').unwrap_or(section);
    let numbers = section.split_once('/').and_then(|(id, index)| Some((id.parse().ok()?, index.parse().ok()?)));
    if let Some((id, index)) = numbers {
        return Meaning::Slot { id, index };
    }
    let begins = |word: &str| {
        let rest = section.strip_prefix(word)?;
        (!rest.starts_with(|next: char| next.is_ascii_alphabetic())).then_some(word.len())
    };
    let found = WORDS.iter().filter_map(|(word, meaning)| Some((begins(word)?, *meaning)));
    found.max_by_key(|(len, _)| *len).map_or(Meaning::Unknown, |(_, meaning)| meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_a_section_says_the_hook() {
        for name in [
            "xdp",
            "xdp.frags",
            "xdp/devmap",
            "xdp/cpumap",
            "xdp.frags/devmap",
            "xdp.frags/cpumap",
            "xdp_pass",
            "xdp1",
            "?xdp",
        ] {
            assert_eq!(meaning(name), XDP, "{name}");
        }
        for name in [
            "tc",
            "tc/ingress",
            "tc/egress",
            "classifier",
            "action",
            "tcx/ingress",
            "tcx/egress",
            "netkit/primary",
            "netkit/peer",
            "classifier_egress",
            "?tc",
        ] {
            assert_eq!(meaning(name), TC, "{name}");
        }
        for name in ["socket", "socket_filter", "socket1", "sk_filter"] {
            assert_eq!(meaning(name), SOCKET, "{name}");
        }
        assert_eq!(meaning("flow_dissector"), Meaning::Kind(ProgramKind::FlowDissector));
        assert_eq!(meaning("2/17"), Meaning::Slot { id: 2, index: 17 });
        for name in ["tcp", "xdpfoo", "", ".text", "license", "from-netdev", "2/x", "kprobes"] {
            assert_eq!(meaning(name), Meaning::Unknown, "{name}");
        }
    }

    #[test]
    fn programs_of_other_hooks_are_known_and_refused() {
        for (name, expected) in [
            ("cgroup_skb/egress", CGROUP),
            ("cgroup/skb", CGROUP),
            ("lwt_xmit", LWT),
            ("sk_skb/stream_verdict", SOCKETS),
            ("sk_msg", SOCKETS),
            ("kprobe/x", TRACING),
            ("raw_tp.w/x", TRACING),
        ] {
            assert_eq!(meaning(name), expected, "{name}");
        }
        for name in
            ["sockops", "sk_reuseport/migrate", "sk_lookup", "netfilter", "freplace/x", "struct_ops.s", "syscall"]
        {
            assert!(matches!(meaning(name), Meaning::Refused { .. }), "{name}");
        }
    }
}
