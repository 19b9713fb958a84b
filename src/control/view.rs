//! What the API says about a host: the JSON of its answers, for both sides.
//!
//! Invariant: plain values; keys and values of maps are hexadecimal digits.

use serde::{Deserialize, Serialize};

use crate::report::Element;

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// Its name.
    pub name: String,
    /// Version of kumite.
    pub version: String,
    /// Process that it runs in.
    pub process: u32,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Its wire port: local and peer address.
    pub wire: WireView,
    /// How frames move, and why so.
    pub io: String,
    /// Workers.
    pub workers: u32,
    /// Hooks and the programs on each.
    pub hooks: Vec<HookView>,
    /// Its ports, the wire first.
    #[serde(default)]
    pub ports: Vec<PortPlaceView>,
}

/// A port, but for what it counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPlaceView {
    /// Its name.
    pub port: String,
    /// Its number, as programs know interfaces.
    pub ifindex: u32,
    /// What it was asked for as.
    pub spec: String,
    /// Which path moves its frames and why.
    pub path: String,
    /// Workers that drive it.
    pub drivers: u32,
    /// Whether its wire has gone for good.
    pub is_gone: bool,
}

/// A wire port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireView {
    /// Where it receives.
    pub local: String,
    /// Where it sends to, and from where it receives.
    pub peer: String,
}

/// A hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookView {
    /// Name of its port.
    pub port: String,
    /// Its name.
    pub hook: String,
    /// The program that runs first there.
    pub program: Option<String>,
    /// All programs there, in the order in which they run.
    #[serde(default)]
    pub programs: Vec<HookProgramView>,
}

/// A program of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookProgramView {
    /// Its name.
    pub program: String,
    /// Its number.
    pub id: u32,
    /// Lower ones run first.
    pub priority: u32,
    /// On xdp: verdicts after which the next one runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actions: Option<String>,
}

/// A program that is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramView {
    /// Its number, which is said as `id:7` where its name would be.
    pub id: u32,
    /// Number of the object that it came from.
    pub object_id: u32,
    /// Object that it came from.
    pub object: String,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Slots of its text.
    pub slots: usize,
    /// Mode in which it runs.
    pub mode: String,
    /// The hook that it is on.
    pub hook: Option<String>,
    /// Why there is no translated code for it, so that it is interpreted in every mode.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interpreted: Option<String>,
}

/// What instrumented mode counted in a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileView {
    /// Its name.
    pub program: String,
    /// Its instructions.
    pub insns: usize,
    /// Those of them that were executed.
    pub insns_reached: usize,
    /// Times that it was entered.
    pub runs: u64,
    /// Its source lines, where the object has them.
    pub lines: Vec<LineView>,
    /// Its calls of helpers.
    pub helpers: Vec<HelperCallView>,
    /// Its tail calls.
    pub tail_calls: Vec<TailCallView>,
}

/// A source line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineView {
    /// File as the compiler named it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Times that its most executed part was entered, at all places where the compiler put it.
    pub count: u64,
    /// The source text, as the object holds it.
    pub text: String,
}

/// A call of a helper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelperCallView {
    /// Slot index.
    pub pc: usize,
    /// Name of the helper.
    pub helper: String,
    /// Times.
    pub count: u64,
}

/// A tail call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailCallView {
    /// Slot index.
    pub pc: usize,
    /// Times that another program went on.
    pub taken: u64,
    /// Times that the slot was empty, the index outside, or the limit reached.
    pub fell_through: u64,
}

/// An object that was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectView {
    /// Its number, which is said as `id:7` where its name would be.
    pub id: u32,
    /// Its name.
    pub object: String,
    /// Programs that can run.
    pub programs: Vec<String>,
    /// Programs that were refused, and why.
    pub refused: Vec<RefusedView>,
    /// Its maps.
    pub maps: Vec<String>,
}

/// A program that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

/// A map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapView {
    /// Its number, which is said as `id:7` where its name would be.
    pub id: u32,
    /// Number of the object that it came from.
    pub object_id: u32,
    /// Object that it came from.
    pub object: String,
    /// Its name.
    pub name: String,
    /// Its type, as bpftool spells it.
    pub kind: String,
    /// Bytes of a key.
    pub key_len: u32,
    /// Bytes of a value.
    pub value_len: u32,
    /// Elements at most.
    pub max_entries: u32,
    /// `BPF_F_*` flags.
    pub flags: u32,
    /// Of ring buffers and perf event arrays: records that found them full.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lost: Option<u64>,
}

/// Part of a map's elements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElementsView {
    /// The elements.
    pub elements: Vec<Element>,
    /// Key behind which the next part begins; none at the end.
    pub next: Option<String>,
}

/// A traffic source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    /// `sending`, `done`, `stopped`.
    pub state: String,
    /// Frames that the host accepted.
    pub accepted: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// How often the host accepted less than was offered.
    pub waits: u64,
    /// Milliseconds since its start, until its end.
    pub elapsed_ms: u64,
}

/// Part of a host's events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsView {
    /// The events, oldest first.
    pub events: Vec<EventView>,
    /// Number from which to ask next.
    pub next: u64,
    /// Events between the number asked for and the first one here that are forgotten already.
    pub lost: u64,
    /// Traps and findings that are counted and not told, since the host's start: of a burst of frames, those of one run are.
    #[serde(default)]
    pub untold: u64,
}

/// Something that a program or the host said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Its number, from 0 at the host's start.
    pub number: u64,
    /// Milliseconds from the host's start to when it happened; of a record, to when the host took it out of its ring buffer.
    pub at_ms: u64,
    /// `trace` (`bpf_trace_printk`), `trap`, `finding`, `verdict` (a program returned no answer of its hook), `record` (ring buffer), `panic` (a worker failed and goes on), `port_gone` (a wire is gone for good), `lost`
    /// (a worker ended).
    pub kind: String,
    /// The line; hexadecimal digits of a record.
    pub text: String,
    /// The map that the record came from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub map: Option<String>,
}

/// What a host counted; the parts of [`crate::flow::Stats`] that clients read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct StatsView {
    /// Name of the host.
    pub host: String,
    /// One entry a port.
    pub ports: Vec<PortView>,
    /// The sum over the ports that were removed.
    #[serde(default)]
    pub removed: Option<PortView>,
    /// One entry for each program that is or was known to a hook.
    pub programs: Vec<RunsView>,
    /// Events that made room for newer ones because nobody read them in time.
    pub events_lost: u64,
    /// Traps and findings that are counted and not told.
    #[serde(default)]
    pub events_untold: u64,
    /// One entry for each ring buffer and perf event array.
    #[serde(default)]
    pub records: Vec<RecordsView>,
}

/// Records that programs sent to a map.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RecordsView {
    /// Name of the map.
    pub map: String,
    /// Its number.
    pub id: u32,
    /// Records that found the map full.
    pub lost: u64,
}

/// What went through a port; the meanings are those of [`crate::flow::PortStats`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of flow::PortStats, by the same names")]
pub struct PortView {
    pub port: String,
    pub rx: u64,
    #[serde(default)]
    pub reentered: u64,
    pub pass: u64,
    pub drop: u64,
    pub tx: u64,
    pub redirect: u64,
    pub aborted: u64,
    pub refused: u64,
    #[serde(default)]
    pub hooks: Vec<HookCountsView>,
    #[serde(default)]
    pub redirected: u64,
    #[serde(default)]
    pub forwarded: u64,
    pub replies: u64,
    pub sent: u64,
    #[serde(default)]
    pub copies: u64,
    #[serde(default)]
    pub copies_lost: u64,
    #[serde(default)]
    pub egress_ended: u64,
    pub tx_frames: u64,
    pub tx_errors: u64,
    pub unreachable: u64,
    pub socket_drops: u64,
}

/// What became of frames at a hook; the meanings are those of [`crate::flow::HookStats`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of flow::HookStats, by the same names")]
pub struct HookCountsView {
    pub hook: String,
    pub programs: Vec<HookProgramView>,
    pub pass: u64,
    pub drop: u64,
    pub tx: u64,
    pub redirect: u64,
    pub aborted: u64,
}

/// Runs of a program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RunsView {
    /// Its name.
    pub program: String,
    /// Its number.
    pub id: u32,
    /// The hook that it sits on, if any.
    pub hook: Option<String>,
    /// The mode in which it runs.
    pub mode: String,
    /// Runs, all in all.
    pub runs: u64,
    /// Runs that trapped.
    pub traps: u64,
    /// What verify mode noticed.
    pub findings: u64,
}
