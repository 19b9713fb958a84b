//! The program's answer, by the kind of hook that asked.
//!
//! Source: `enum xdp_action` and `TC_ACT_*` of the kernel's UAPI headers.

/// Kind of a program: which hook it is for, what r1 points at, which helpers it may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProgramKind {
    /// `BPF_PROG_TYPE_XDP`: r1 is `struct xdp_md`.
    Xdp,
    /// `BPF_PROG_TYPE_SCHED_CLS`: r1 is `struct __sk_buff`.
    Tc,
    /// `BPF_PROG_TYPE_SOCKET_FILTER`: r1 is `struct __sk_buff`.
    SocketFilter,
    /// `BPF_PROG_TYPE_FLOW_DISSECTOR`: r1 is `struct __sk_buff`, whose `flow_keys` the program fills.
    FlowDissector,
    /// No hook: r1 is plain memory and r2 its length. Conformance programs and case files.
    Raw,
}

impl ProgramKind {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 5] = [Self::Xdp, Self::Tc, Self::SocketFilter, Self::FlowDissector, Self::Raw];

    /// The kind with this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether a return value is one of the answers that its hook knows: of `enum xdp_action`, of `TC_ACT_*`, of what flow
    /// dissectors return; a socket filter's is a length, and any. The low 32 bits count, as in the kernel.
    #[must_use]
    pub const fn answers(self, retval: u32) -> bool {
        match self {
            Self::Xdp => retval <= 4,
            Self::Tc => retval <= 8 || retval == u32::MAX,
            Self::FlowDissector => matches!(retval, 0 | 2 | 7 | 129),
            Self::SocketFilter | Self::Raw => true,
        }
    }

    /// In words, that a return value is none of the hook's answers, and what becomes of the frame.
    #[must_use]
    pub fn no_answer(self, retval: u32) -> String {
        let verdict = Verdict::of(self, retval).name();
        format!("returns {retval}, which is no answer of {} programs: the frame's verdict is {verdict}", self.name())
    }

    /// Its name in reports and options.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tc => "tc",
            Self::SocketFilter => "socket",
            Self::FlowDissector => "flow_dissector",
            Self::Raw => "raw",
        }
    }
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// The program failed: XDP_ABORTED, an unknown return value, or a trap. The frame is dropped.
    Aborted,
    /// Dropped on purpose.
    Drop,
    /// Onward: to the next hook, in the end to the stack.
    Pass,
    /// Back out of the port it came from.
    Tx,
    /// To the port that a redirect helper named.
    Redirect,
}

impl Verdict {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 5] = [Self::Pass, Self::Drop, Self::Tx, Self::Redirect, Self::Aborted];

    /// Its name as reports spell it: `pass`, `drop`, `tx`, `redirect`, `aborted`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Drop => "drop",
            Self::Pass => "pass",
            Self::Tx => "tx",
            Self::Redirect => "redirect",
        }
    }

    /// The verdict that a return value means on a hook of this kind. The low 32 bits count, as in the kernel.
    ///
    /// XDP: `enum xdp_action`; above 4 is aborted (`bpf_warn_invalid_xdp_action`). tc: `TC_ACT_SHOT`, `STOLEN`
    /// and `TRAP` drop, `REDIRECT` redirects, all else goes on. Socket filter: 0 drops. Flow dissector: all but `BPF_OK`
    /// and `BPF_FLOW_DISSECTOR_CONTINUE` drops.
    #[must_use]
    pub const fn of(kind: ProgramKind, retval: u32) -> Self {
        match kind {
            ProgramKind::Xdp => match retval {
                1 => Self::Drop,
                2 => Self::Pass,
                3 => Self::Tx,
                4 => Self::Redirect,
                _ => Self::Aborted,
            },
            ProgramKind::Tc => match retval {
                2 | 4 | 8 => Self::Drop,
                7 => Self::Redirect,
                _ => Self::Pass,
            },
            ProgramKind::SocketFilter => match retval {
                0 => Self::Drop,
                _ => Self::Pass,
            },
            ProgramKind::FlowDissector => match retval {
                0 | 129 => Self::Pass,
                _ => Self::Drop,
            },
            ProgramKind::Raw => Self::Pass,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_those_of_the_hook() {
        let known =
            |kind: ProgramKind| (0..300).chain([u32::MAX]).filter(|retval| kind.answers(*retval)).collect::<Vec<_>>();
        assert_eq!(known(ProgramKind::Xdp), [0, 1, 2, 3, 4]);
        assert_eq!(known(ProgramKind::Tc), [0, 1, 2, 3, 4, 5, 6, 7, 8, u32::MAX]);
        assert_eq!(known(ProgramKind::FlowDissector), [0, 2, 7, 129]);
        assert_eq!(known(ProgramKind::SocketFilter).len(), 301);
        // What is no answer is told, and the frame's lot is that of the kernel.
        assert_eq!(Verdict::of(ProgramKind::Xdp, 5), Verdict::Aborted);
        assert_eq!(Verdict::of(ProgramKind::Tc, 9), Verdict::Pass);
        assert_eq!(Verdict::of(ProgramKind::FlowDissector, 1), Verdict::Drop);
    }
}
