//! Helpers, which programs may call by number, and kernel functions, which they may call by name, one family a file.
//!
//! Either is one [`Helper`] value, its body right above its prototype, plus one line in [`HELPERS`] or [`KFUNCS`]. Bodies
//! get guest addresses and ask the cage for each range; they run on every engine alike.
//!
//! Semantics are the kernel's (`net/core/filter.c`, `kernel/bpf/helpers.c`).
//!
//! Invariant: a body never panics on any argument, works for a time that its `cost` and [`Run::work`] bound, and waits for
//! nothing but locks that are held for a bounded time: of a map or ring buffer that another worker is changing, of a value
//! that a program has locked, of the host's timers, and of its routes and sockets while they are replaced.

mod absent;
mod callback;
mod check;
mod checksum;
mod dynptr;
mod dynptr_kfuncs;
mod exception;
mod format;
mod iterator;
mod kernel_names;
mod map_elements;
mod map_values;
mod perf_event;
mod probe;
mod redirect;
mod redirect_map;
mod ring_buffer;
mod route;
mod section;
mod skb_bytes;
mod skb_checksum;
mod skb_frame;
mod skb_hash;
mod skb_room;
mod skb_socket;
mod skb_tunnel;
mod skb_type;
mod skb_vlan;
mod socket;
mod spin_lock;
mod surroundings;
mod syncookie;
mod tail_call;
mod text;
mod time;
mod timer;
mod trace;
mod unresolved;
mod xdp_fragments;
mod xdp_frame;
mod xdp_metadata;

pub use absent::kfunc_reason;
pub use callback::resume;
pub use kernel_names::kernel_name;
pub use tail_call::{TAIL_CALL_WITHOUT_CONTEXT, check_tail_call};

use crate::run::Run;
use crate::trap::TrapKind;
use crate::verdict::ProgramKind;

/// A helper or kernel function.
#[derive(Debug)]
pub struct Helper {
    /// Number, `enum bpf_func_id`; of a kernel function, one of our own from [`KFUNC`] on, which no program can call.
    pub id: u32,
    /// Name as in the kernel, without `bpf_`.
    pub name: &'static str,
    /// What it takes: as many arguments as it has.
    pub args: &'static [Arg],
    /// What it returns.
    pub ret: Ret,
    /// Fuel that a call costs, in slots: what the work of the worst call is worth.
    pub cost: u32,
    /// What becomes of packet pointers.
    pub frame: Frame,
    /// Program kinds that may call it; empty: all.
    pub kinds: &'static [ProgramKind],
    /// Its body: arguments r1 to r5 to r0, or the trap that the call is.
    pub body: Body,
}

impl Helper {
    /// Whether programs of this kind may call it. Raw programs may call all: they have no hook to protect.
    #[must_use]
    pub fn serves(&self, kind: ProgramKind) -> bool {
        kind == ProgramKind::Raw || self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    /// Whether its body may ask for calls of the program's functions.
    #[must_use]
    pub fn calls_back(&self) -> bool {
        self.args.contains(&Arg::Callback)
    }
}

/// Body of a helper.
pub type Body = fn(&mut Run<'_>, [u64; 5]) -> Result<u64, TrapKind>;

/// An argument of a prototype; `enum bpf_arg_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// Any value.
    Any,
    /// Any value; the program need not have written the register.
    Optional,
    /// The context, as r1 held it at entry.
    Ctx,
    /// A map.
    Map,
    /// As many readable bytes as the map's key has.
    MapKey,
    /// As many readable bytes as the map's value has.
    MapValue,
    /// As many bytes as the map's value has, which the helper fills; a bloom filter reads them.
    MapValueOut,
    /// Readable bytes, as many as the next argument says.
    MemRead,
    /// Readable bytes or NULL, as many as the next argument says.
    MemReadOrNull,
    /// Bytes that the helper fills, as many as the next argument says.
    MemWrite,
    /// Bytes that the helper reads and writes, as many as the next argument says.
    MemInOut,
    /// A string that a NUL ends.
    Text,
    /// An address that may be any.
    Probed,
    /// So many readable bytes.
    Bytes(u32),
    /// So many bytes that the helper fills.
    BytesOut(u32),
    /// So many bytes that the helper reads and writes.
    BytesInOut(u32),
    /// So many bytes that the helper may fill, and does not read.
    BytesPerhapsOut(u32),
    /// An open-coded iterator of so many bytes; what is returned may point into it.
    Iterator(u32),
    /// Memory or NULL, as many bytes as the next argument says, for what does not lie in one piece; what is returned may
    /// point into it.
    SliceBuffer,
    /// Length of the memory before it, above zero.
    Len,
    /// Length of the memory before it, or zero.
    LenOrZero,
    /// A timer in a map value.
    Timer,
    /// A socket that a helper found.
    Socket,
    /// A record that the ring buffer reserved.
    RingRecord,
    /// A lock in a map's value: four bytes.
    SpinLock,
    /// A function of the program, which the helper calls.
    Callback,
    /// What the helper hands to that function; may point into the caller's stack.
    CallbackCtx,
}

/// What a helper returns; `enum bpf_return_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// A number.
    Integer,
    /// Nothing; r0 is zero.
    Void,
    /// A value of the map in r1, or NULL.
    MapValueOrNull,
    /// A socket (`struct bpf_sock`) or NULL.
    SocketOrNull,
    /// What is known of a connection (`struct bpf_tcp_sock`), or NULL.
    TcpSocketOrNull,
    /// Part of what a dynamic pointer or an iterator means, or NULL.
    SliceOrNull,
    /// Memory of as many bytes as argument 2 says, or NULL.
    MemOrNull,
}

/// What a helper does to the frame's bounds; `bpf_helper_changes_pkt_data` of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Packet pointers stay good.
    Keeps,
    /// The bounds may move: packet pointers from before the call are stale, even where the call fails.
    Moves,
}

/// Number of `bpf_tail_call`: the engines jump themselves, there is no body.
pub const TAIL_CALL: u32 = 12;

/// Number of the call that traps when it is reached: libbpf puts it where an object needs what the kernel lacks.
pub const UNRESOLVED: u32 = 0x0bad_2310;

/// The helpers that kumite has, by ascending number.
pub static HELPERS: &[&Helper] = &[
    &map_elements::MAP_LOOKUP_ELEM,
    &map_elements::MAP_UPDATE_ELEM,
    &map_elements::MAP_DELETE_ELEM,
    &probe::PROBE_READ,
    &time::KTIME_GET_NS,
    &trace::TRACE_PRINTK,
    &surroundings::GET_PRANDOM_U32,
    &surroundings::GET_SMP_PROCESSOR_ID,
    &skb_bytes::SKB_STORE_BYTES,
    &skb_checksum::L3_CSUM_REPLACE,
    &skb_checksum::L4_CSUM_REPLACE,
    &tail_call::TAIL_CALL_HELPER,
    &redirect::CLONE_REDIRECT,
    &skb_socket::GET_CGROUP_CLASSID,
    &skb_vlan::SKB_VLAN_PUSH,
    &skb_vlan::SKB_VLAN_POP,
    &skb_tunnel::SKB_GET_TUNNEL_KEY,
    &skb_tunnel::SKB_SET_TUNNEL_KEY,
    &redirect::REDIRECT,
    &skb_socket::GET_ROUTE_REALM,
    &perf_event::PERF_EVENT_OUTPUT,
    &skb_bytes::SKB_LOAD_BYTES,
    &checksum::CSUM_DIFF,
    &skb_tunnel::SKB_GET_TUNNEL_OPT,
    &skb_tunnel::SKB_SET_TUNNEL_OPT,
    &skb_room::SKB_CHANGE_PROTO,
    &skb_type::SKB_CHANGE_TYPE,
    &skb_hash::GET_HASH_RECALC,
    &skb_room::SKB_CHANGE_TAIL,
    &skb_bytes::SKB_PULL_DATA,
    &skb_checksum::CSUM_UPDATE,
    &skb_hash::SET_HASH_INVALID,
    &surroundings::GET_NUMA_NODE_ID,
    &skb_room::SKB_CHANGE_HEAD,
    &xdp_frame::XDP_ADJUST_HEAD,
    &probe::PROBE_READ_STR,
    &skb_socket::GET_SOCKET_COOKIE,
    &skb_socket::GET_SOCKET_UID,
    &skb_hash::SET_HASH,
    &skb_room::SKB_ADJUST_ROOM,
    &redirect_map::REDIRECT_MAP,
    &xdp_frame::XDP_ADJUST_META,
    &xdp_frame::XDP_ADJUST_TAIL,
    &skb_bytes::SKB_LOAD_BYTES_RELATIVE,
    &route::FIB_LOOKUP,
    &skb_socket::SKB_CGROUP_ID,
    &skb_socket::SKB_ANCESTOR_CGROUP_ID,
    &socket::SK_LOOKUP_TCP,
    &socket::SK_LOOKUP_UDP,
    &socket::SK_RELEASE,
    &map_values::MAP_PUSH_ELEM,
    &map_values::MAP_POP_ELEM,
    &map_values::MAP_PEEK_ELEM,
    &spin_lock::SPIN_LOCK,
    &spin_lock::SPIN_UNLOCK,
    &socket::SK_FULLSOCK,
    &socket::TCP_SOCK,
    &skb_type::SKB_ECN_SET_CE,
    &socket::GET_LISTENER_SOCK,
    &socket::SKC_LOOKUP_TCP,
    &syncookie::TCP_CHECK_SYNCOOKIE,
    &text::STRTOL,
    &text::STRTOUL,
    &syncookie::TCP_GEN_SYNCOOKIE,
    &probe::PROBE_READ_KERNEL,
    &probe::PROBE_READ_KERNEL_STR,
    &time::JIFFIES64,
    &socket::SK_ASSIGN,
    &time::KTIME_GET_BOOT_NS,
    &ring_buffer::RINGBUF_OUTPUT,
    &ring_buffer::RINGBUF_RESERVE,
    &ring_buffer::RINGBUF_SUBMIT,
    &ring_buffer::RINGBUF_DISCARD,
    &ring_buffer::RINGBUF_QUERY,
    &skb_checksum::CSUM_LEVEL,
    &skb_socket::SKB_CGROUP_CLASSID,
    &redirect::REDIRECT_NEIGH,
    &redirect::REDIRECT_PEER,
    &time::KTIME_GET_COARSE_NS,
    &route::CHECK_MTU,
    &callback::FOR_EACH_MAP_ELEM,
    &text::SNPRINTF,
    &timer::TIMER_INIT,
    &timer::TIMER_SET_CALLBACK,
    &timer::TIMER_START,
    &timer::TIMER_CANCEL,
    &trace::TRACE_VPRINTK,
    &callback::LOOP,
    &text::STRNCMP,
    &xdp_frame::XDP_GET_BUFF_LEN,
    &xdp_frame::XDP_LOAD_BYTES,
    &xdp_frame::XDP_STORE_BYTES,
    &skb_type::SKB_SET_TSTAMP,
    &map_elements::MAP_LOOKUP_PERCPU_ELEM,
    &dynptr::DYNPTR_FROM_MEM,
    &dynptr::RINGBUF_RESERVE_DYNPTR,
    &dynptr::RINGBUF_SUBMIT_DYNPTR,
    &dynptr::RINGBUF_DISCARD_DYNPTR,
    &dynptr::DYNPTR_READ,
    &dynptr::DYNPTR_WRITE,
    &dynptr::DYNPTR_DATA,
    &syncookie::TCP_RAW_GEN_SYNCOOKIE_IPV4,
    &syncookie::TCP_RAW_GEN_SYNCOOKIE_IPV6,
    &syncookie::TCP_RAW_CHECK_SYNCOOKIE_IPV4,
    &syncookie::TCP_RAW_CHECK_SYNCOOKIE_IPV6,
    &time::KTIME_GET_TAI_NS,
    &unresolved::UNRESOLVED,
];

/// Number of the first kernel function.
pub const KFUNC: u32 = 0x4b00_0000;

/// The kernel functions that kumite has, by ascending number.
pub static KFUNCS: &[&Helper] = &[
    &dynptr_kfuncs::DYNPTR_FROM_SKB,
    &dynptr_kfuncs::DYNPTR_FROM_XDP,
    &dynptr_kfuncs::DYNPTR_SLICE,
    &dynptr_kfuncs::DYNPTR_SLICE_RDWR,
    &dynptr_kfuncs::DYNPTR_ADJUST,
    &dynptr_kfuncs::DYNPTR_IS_NULL,
    &dynptr_kfuncs::DYNPTR_IS_RDONLY,
    &dynptr_kfuncs::DYNPTR_SIZE,
    &dynptr_kfuncs::DYNPTR_CLONE,
    &dynptr_kfuncs::DYNPTR_COPY,
    &dynptr_kfuncs::DYNPTR_MEMSET,
    &iterator::ITER_NUM_NEW,
    &iterator::ITER_NUM_NEXT,
    &iterator::ITER_NUM_DESTROY,
    &section::RCU_READ_LOCK,
    &section::RCU_READ_UNLOCK,
    &section::PREEMPT_DISABLE,
    &section::PREEMPT_ENABLE,
    &section::LOCAL_IRQ_SAVE,
    &section::LOCAL_IRQ_RESTORE,
    &xdp_metadata::XDP_METADATA_RX_TIMESTAMP,
    &xdp_metadata::XDP_METADATA_RX_HASH,
    &xdp_metadata::XDP_METADATA_RX_VLAN_TAG,
    &xdp_fragments::XDP_PULL_DATA,
    &exception::THROW,
];

/// The helper or kernel function with this index: helpers first, kernel functions behind them.
///
/// # Panics
/// If neither has it: our mistake.
#[must_use]
pub fn at(index: usize) -> &'static Helper {
    HELPERS.get(index).copied().unwrap_or_else(|| KFUNCS[index - HELPERS.len()])
}

/// The kernel function of this name, with its index for [`at`]. What follows three underscores tells declarations of one
/// function apart, as in libbpf.
#[must_use]
pub fn kfunc_by_name(name: &str) -> Option<(usize, &'static Helper)> {
    let name = name.split_once("___").map_or(name, |(name, _)| name).strip_prefix("bpf_")?;
    let index = KFUNCS.iter().position(|kfunc| kfunc.name == name)?;
    Some((HELPERS.len() + index, KFUNCS[index]))
}

/// Name, without `bpf_`, of the helper or kernel function with this number.
#[must_use]
pub fn name_of(id: u32) -> Option<&'static str> {
    let by_number = |list: &[&'static Helper]| {
        let index = list.binary_search_by_key(&id, |helper| helper.id).ok()?;
        Some(list[index].name)
    };
    by_number(HELPERS).or_else(|| by_number(KFUNCS))
}

/// The helper with this number, with its index for [`at`]. Kernel functions have none.
#[must_use]
pub fn by_id(id: u32) -> Option<(usize, &'static Helper)> {
    let index = HELPERS.binary_search_by_key(&id, |helper| helper.id).ok()?;
    Some((index, HELPERS[index]))
}

/// The helper that `callx` with this number means, with its index for [`at`]: one that programs of this kind may call,
/// and none that goes on in the program (a tail call, a call back), whose code must know what comes.
#[must_use]
pub fn by_register(number: u64, kind: ProgramKind) -> Option<(usize, &'static Helper)> {
    let (index, helper) = by_id(u32::try_from(number).ok()?)?;
    (helper.id != TAIL_CALL && !helper.calls_back() && helper.serves(kind)).then_some((index, helper))
}
