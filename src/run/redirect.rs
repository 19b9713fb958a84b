//! Where a program sends its frame.
//!
//! Invariant: says where to; never sends.

use super::Run;
use crate::maps::Target;

/// But not to the port that the frame came in by: `BPF_F_EXCLUDE_INGRESS` of a broadcast.
const EXCLUDE_INGRESS: u64 = 1 << 4;

/// What the last redirect helper said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Where to.
    pub target: Target,
    /// The helper's flags where they matter, and those below.
    pub flags: u64,
}

impl Redirect {
    /// `BPF_F_NEIGH`: the target resolves the next hop and writes the link header (`bpf_redirect_neigh`).
    pub const NEIGHBOUR: u64 = 1 << 1;
    /// `BPF_F_PEER`: the other end of the target receives the frame (`bpf_redirect_peer`).
    pub const PEER: u64 = 1 << 2;
    /// `BPF_F_NEXTHOP`: beside [`Self::NEIGHBOUR`], the program named the next hop itself.
    pub const NEXT_HOP: u64 = 1 << 3;

    /// To the port with this interface index.
    #[must_use]
    pub fn to_port(ifindex: u32, flags: u64) -> Self {
        Self { target: Target::Port(ifindex), flags }
    }
}

impl Run<'_> {
    /// Whether the frame goes out by this port.
    #[must_use]
    pub fn redirects_to(&self, ifindex: u32) -> bool {
        let Some(redirect) = self.redirect else { return false };
        match redirect.target {
            Target::Port(target) => target == ifindex,
            Target::Ports { map } => {
                let excluded = redirect.flags & EXCLUDE_INGRESS != 0 && self.ifindex == ifindex;
                let guard = crossbeam::epoch::pin();
                let map = self.world.maps.map_by_handle(map, &guard).and_then(|map| map.as_redirect_map());
                !excluded && map.is_some_and(|map| map.holds_port(ifindex))
            }
            Target::Processor(_) | Target::Socket(_) => false,
        }
    }
}
