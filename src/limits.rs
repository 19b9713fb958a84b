//! The bounds that people, programs and peers meet, each a named constant with its reason.
//!
//! What only one file's way of doing things needs (how often a reader starts again, how deep a chain is followed, how often
//! a loop looks) stands at the top of that file, named and with its reason too.
//!
//! Invariant: only numbers.

/// Size of the cage in bytes: what a 32-bit guest address can reach.
pub const CAGE_LEN: u64 = 1 << 32;
/// Unmapped bytes on each side of the cage: more than a 16-bit offset plus the widest access can reach.
pub const CAGE_GUARD_LEN: u64 = 64 * 1024;
/// Guest page size: the granularity of protection inside the cage.
pub const PAGE_LEN: u32 = 4096;
/// Bytes on either side of a stack that are never accessible: more than an instruction's offset and small sums reach.
pub const MARGIN_LEN: u32 = 1 << 20;
/// Guest addresses below this are never mapped: NULL, small offsets from NULL, and map handles.
pub const CAGE_FIRST_ADDR: u32 = 1 << 20;
/// Where map handles begin: a handle is `MAP_HANDLE_BASE + map id * MAP_HANDLE_STEP`, an address that always faults.
pub const MAP_HANDLE_BASE: u32 = 1 << 16;
/// Distance between two map handles.
pub const MAP_HANDLE_STEP: u32 = 16;
/// Where handles of functions begin: above every address of the cage.
pub const CODE_HANDLE_BASE: u64 = 0xc0de << 32;
/// Maps that one host can hold.
pub const MAPS_MAX: u32 = 4096;
/// Largest key of a map in bytes; the kernel's `MAX_BPF_STACK`.
pub const MAP_KEY_LEN_MAX: u32 = 512;
/// Bytes that one map may take, of the cage for its values and outside of it for the rest.
pub const MAP_BYTES_MAX: u64 = 1 << 30;
/// Bytes of values, and of keys and chains, that one map may come to take which allocates its elements one by one
/// (`BPF_F_NO_PREALLOC`): its `max_entries` is a bound that nobody means to reach.
pub const GROWING_MAP_BYTES_MAX: u64 = 256 << 20;
/// Bytes that all maps of one host may take outside of the cage, whose length bounds the rest.
pub const HOST_MAP_BYTES_MAX: u64 = 4 << 30;
/// Slots of one program array: its tables are all there from the start.
pub const PROGRAM_ARRAY_SLOTS_MAX: u32 = 1 << 20;

/// Slots of one program, subprograms included; the kernel's `BPF_COMPLEXITY_LIMIT_INSNS` for privileged loads.
pub const PROGRAM_SLOTS_MAX: usize = 1_000_000;
/// Slots that the translator takes; larger programs run in verify mode only. Bounds compile time and memory.
pub const TRANSLATE_SLOTS_MAX: usize = 65_536;
/// Functions of one program, the main one included; the kernel's `BPF_MAX_SUBPROGS`.
pub const FUNCTIONS_MAX: usize = 256;
/// Blocks of one function that the translator takes; larger programs run in verify mode only. Cranelift allocates registers
/// in time that grows with the square of the blocks: these take about a second.
pub const TRANSLATE_BLOCKS_MAX: usize = 8192;
/// Loops that are in one another, or overlap, in a program that the translator takes: Cranelift's time grows with more than
/// the square of their depth, and thousands would take minutes.
pub const TRANSLATE_LOOPS_DEEP_MAX: usize = 64;
/// Instructions of Cranelift's that one program may become in one mode, all functions together: bounds the memory of a
/// translation, and its time where there are few blocks.
pub const TRANSLATE_INSTS_MAX: usize = 3 << 16;
/// Blocks of Cranelift's that one program may become: a lookup that is compiled inline has a dozen, a branch two.
pub const TRANSLATE_INNER_BLOCKS_MAX: usize = 1 << 15;
/// Bytes of the host's stack that one translated function may need; with [`CALL_FRAMES_MAX`] of them a quarter of a thread's
/// stack is used.
pub const NATIVE_FRAME_LEN_MAX: u32 = 8 * 1024;
/// Address space of one region of generated code; no program's code is longer.
pub const CODE_REGION_LEN: usize = 16 << 20;
/// Regions of generated code: a gigabyte in all.
pub const CODE_REGIONS_MAX: usize = 64;
/// Stack bytes of one call frame; the kernel's `MAX_BPF_STACK`.
pub const FRAME_STACK_LEN: u32 = 512;
/// Call frames that nest in one run, the program's own included. The kernel's `MAX_CALL_FRAMES` is 8 for each program, and
/// the [`TAIL_CALLS_MAX`] that follow one another by tail calls out of subprograms nest: a frame for each, and room for
/// deeper ones. The stack is whole pages, fewer bytes than an offset from r10 reaches.
pub const CALL_FRAMES_MAX: u32 = 56;
/// Stack bytes of one run.
pub const STACK_LEN: u32 = FRAME_STACK_LEN * CALL_FRAMES_MAX;
/// Tail calls of one run; the kernel's `MAX_TAIL_CALL_CNT`.
pub const TAIL_CALLS_MAX: u32 = 33;
/// Calls that one `bpf_loop` makes; the kernel's `BPF_MAX_LOOPS`.
pub const LOOPS_MAX: u32 = 8 << 20;
/// Fuel of one run on given frames, in slots.
pub const FUEL_DEFAULT: u64 = 4 << 20;
/// Fuel of one run on a host, in slots, unless it says otherwise: ends an endless loop within some milliseconds, in verify mode
/// within some ten.
pub const FUEL_HOST: u64 = 1 << 20;
/// Most fuel that a host gives a run: some tenth of a second of generated code, some seconds of verify mode, so that a
/// worker can always be stopped.
pub const FUEL_MAX: u64 = 64 << 20;
/// Fuel below which `may_goto` leaves its loop, so that a program built for it ends by itself.
pub const FUEL_MAY_GOTO: u64 = FUEL_HOST / 4;

/// Lines of `bpf_trace_printk` that `kumite run` keeps of one frame: the first ones tell the story.
pub const RUN_TRACE_LINES_MAX: usize = 1000;
/// Free bytes before a frame; the kernel's `XDP_PACKET_HEADROOM`.
pub const HEADROOM: u32 = 256;
/// Bytes of a chunk behind the frame that `bpf_xdp_adjust_tail` may not grow into; the kernel keeps its
/// `skb_shared_info` there.
pub const TAIL_RESERVE: u32 = 320;
/// Bytes of one chunk in a host's pool.
pub const CHUNK_LEN: u32 = 2048;
/// Bytes of the chunk in which `kumite run` places a frame: a page, as in the kernel's `BPF_PROG_TEST_RUN`.
pub const RUN_CHUNK_LEN: u32 = 4096;
/// Bytes of the chunk in which it places the packet of an sk_buff: what the longest packet needs, with room before it.
pub const RUN_SKB_CHUNK_LEN: u32 = 20 * 1024;
/// Bytes of a frame's fragment at most: a page, as in the kernel's `BPF_PROG_TEST_RUN`.
pub const FRAGMENT_LEN_MAX: u32 = 4096;
/// Fragments of a frame; the kernel's `MAX_SKB_FRAGS`.
pub const FRAGMENTS_MAX: u32 = 17;
/// Longest frame that a port takes: what fits behind the headroom.
pub const FRAME_LEN_MAX: u32 = CHUNK_LEN - HEADROOM;
/// Shortest frame that a program sees: an Ethernet header.
pub const FRAME_LEN_MIN: u32 = 14;
/// Most metadata before a frame (`bpf_xdp_adjust_meta`); as in the kernel.
pub const META_LEN_MAX: u32 = 255;

/// Copies of one frame that a run sends beside it; beyond them is -ENOMEM.
pub const FRAME_COPIES_MAX: usize = 8;
/// Bytes of such a copy.
pub const FRAME_COPY_LEN_MAX: u32 = SKB_LEN_MAX;
/// Bytes of tunnel options that one frame can have; the kernel's `IP_TUNNEL_OPTS_MAX`.
pub const TUNNEL_OPTIONS_LEN_MAX: usize = 255;
/// Longest packet that a helper of tc programs makes; the kernel's `BPF_SKB_MAX_LEN`.
pub const SKB_LEN_MAX: u32 = 16 * 1024 - 320;
/// Bytes that one helper call copies or sums: bounds the time of a call.
pub const HELPER_MEMORY_LEN_MAX: u64 = 64 * 1024;
/// Bytes of the records that each worker may have waiting in a perf event array; the 64 pages that readers usually ask for.
pub const PERF_BUFFER_LEN: u64 = 64 * 4096;
/// Attempts to take a lock in a map's value before the processor is given to others.
pub const LOCK_SPINS: u32 = 256;
/// Times that it is given to others before the lock counts as never released: about a millisecond where nobody else runs.
pub const LOCK_YIELDS_MAX: u32 = 64;
/// Work that waiting for a lock in vain counts as, in slots: a program does it a few times in a run.
pub const LOCK_WORK: u64 = 1 << 20;
/// Ring-buffer records that one run can hold reserved at a time.
pub const RUN_RECORDS_MAX: usize = 32;
/// Entries of an array up to which a dump shows those that are zero.
pub const DUMP_ZEROS_MAX: u32 = 1 << 16;
/// Bytes of a symbol's name that is looked for among types: as in the kernel (`KSYM_NAME_LEN`).
pub const SYMBOL_NAME_LEN_MAX: usize = 512;
/// Weight of a key or value as JSON by its type, about the bytes of the text; parts that are heavier are digits.
pub const TYPED_WEIGHT_MAX: usize = 256 << 10;
/// Structures, unions and arrays in each other that are shown by their types; those further in are digits.
pub const TYPED_DEPTH_MAX: usize = 32;
/// Weight of all elements of a map by their types in one dump; those behind have their digits alone.
pub const TYPED_DUMP_WEIGHT_MAX: usize = 256 << 20;
/// Differences from the kernel that a comparison tells of each mode; the rest are counted.
pub const DIFFERENCES_MAX: usize = 16;
/// Timers of a host's programs.
pub const TIMERS_MAX: usize = 1 << 20;
/// Timers whose functions a worker calls in one turn, so that frames do not wait for long. Before each it passes over as many
/// at most whose values are gone.
pub const TURN_TIMERS_MAX: usize = 16;
/// Dynamic pointers that one run can have.
pub const RUN_DYNPTRS_MAX: usize = 32;
/// Sockets of a host's own table.
pub const SOCKETS_MAX: usize = 1024;
/// References to sockets that one run can hold at a time.
pub const RUN_SOCKETS_MAX: usize = 32;
/// Entries of a map that a comparison with the kernel looks at: a system call each.
pub const DIFF_ENTRIES_MAX: u32 = 1 << 18;
/// Findings that verify mode keeps of one run; the first ones tell the story.
pub const FINDINGS_MAX: usize = 64;
/// Bytes at the start of a chunk that `bpf_xdp_adjust_head` and `_meta` may not reach; the kernel keeps its `xdp_frame`
/// there.
pub const HEAD_RESERVE: u32 = 40;

/// Workers of one host; also the number of processors that per-CPU maps count.
pub const WORKERS_MAX: u32 = 64;
/// Ports of one host.
pub const PORTS_MAX: usize = 16;
/// Ports that each worker of a host has chunks for; one more than it starts with where those are more.
pub const PORTS_ROOM_MIN: usize = 4;
/// Characters of a port's name.
pub const PORT_NAME_LEN_MAX: usize = 32;
/// Programs on one hook; libxdp takes 10.
pub const HOOK_PROGRAMS_MAX: usize = 16;
/// Redirects of one frame from port to port; the kernel's `XMIT_RECURSION_LIMIT`.
pub const HOPS_MAX: u32 = 8;
/// Copies, and copies of copies, that one frame leads to.
pub const FRAME_DESCENDANTS_MAX: usize = 64;
/// Frames that wait for a worker which drives the port that others sent them to.
pub const RELAY_FRAMES_MAX: usize = 256;
/// Turns after which a busy worker asks its ports for what the kernel dropped.
pub const DROPS_EVERY_TURNS: u64 = 256;
/// Frames that one turn takes from a port.
pub const BURST_MAX: usize = 64;
/// Slots of a run after which a worker looks for a new plan and the end before it judges the next frame of its burst: some
/// milliseconds of verify mode, so that a burst of shorter runs is soon over.
pub const LONG_RUN_SLOTS: u64 = 64 << 10;
/// Chunks in which a worker receives. About half of a core's second-level cache; a larger pool costs more than it gives.
pub const RECEIVE_CHUNKS: u16 = 512;
/// Chunks of a worker that the traffic source fills; when all are under way, the source waits.
pub const OUTBOX_CHUNKS: u16 = 512;
/// Bytes of kernel memory that a wire socket asks for in each direction: some ten thousand short frames.
pub const SOCKET_BUFFER_LEN: i32 = 8 << 20;
/// Microseconds that an idle worker polls before it blocks.
pub const SPIN_US_MAX: u64 = 50;
/// Milliseconds that a worker blocks at most before it looks around.
pub const WAIT_MS_MAX: u64 = 100;
/// Milliseconds that a stopping worker goes on taking frames that had arrived.
pub const DRAIN_MS_MAX: u64 = 200;
/// Milliseconds that a change waits for workers to act on it.
pub const CHANGE_MS_MAX: u64 = 1000;
/// Milliseconds that a closing port waits for sends under way.
pub const CLOSE_MS_MAX: u64 = 1000;
/// Milliseconds for which a busy address is asked for again: the kernel frees the sockets of a ring a little later.
pub const BIND_RETRY_MS_MAX: u64 = 200;
/// Events (trace lines, traps) that a host keeps for whoever reads them: the newest; older ones are counted and dropped.
pub const EVENTS_MAX: usize = 4096;

/// Bytes of an object file that the loader reads.
pub const OBJECT_LEN_MAX: u64 = 64 << 20;
/// Characters of an object's name on a host; longer ones are cut.
pub const OBJECT_NAME_LEN_MAX: usize = 128;
/// Bytes of a capture that `kumite run` reads; a host takes one of [`OBJECT_LEN_MAX`].
pub const CAPTURE_LEN_MAX: u64 = 1 << 30;
/// Bytes of a file with elements of a map that `kumite run` reads.
pub const PRESET_LEN_MAX: u64 = 64 << 20;
/// Slots of all programs of one object, subprograms counted for each program that calls them, and eight bytes of a
/// function's name as one. Bounds the loader's memory.
pub const OBJECT_SLOTS_MAX: usize = 2_000_000;
/// Programs of one object.
pub const OBJECT_PROGRAMS_MAX: usize = 4096;
/// Types of one object; the kernel's `BTF_MAX_TYPE`.
pub const BTF_TYPES_MAX: u32 = 0x000f_ffff;
/// Bytes of an object's variables of the kernel's configuration.
pub const CONFIGURATION_LEN_MAX: usize = 64 << 10;
/// Comparisons of types that the CO-RE relocations of one object may take: a second at most, ten thousand times what real
/// objects need.
pub const CORE_STEPS_MAX: u64 = 4 << 20;
/// Bytes of a source line that are kept with a program.
pub const SOURCE_LINE_LEN_MAX: usize = 256;

/// Connections that the control socket serves at once.
pub const API_CONNECTIONS_MAX: usize = 32;
/// Connections beyond these are told so; as many again wait for that answer, the rest are closed at once.
pub const API_REFUSALS_MAX: usize = 32;
/// Header fields of one request.
pub const API_HEADERS_MAX: usize = 32;
/// Bytes of a request's head.
pub const API_HEAD_LEN_MAX: usize = 16 << 10;
/// Milliseconds that a request's head may take to arrive.
pub const API_HEAD_TIME_MAX_MS: u64 = 5_000;
/// Milliseconds that a request's body may take to arrive.
pub const API_BODY_TIME_MAX_MS: u64 = 20_000;
/// Milliseconds that a host may take to accept a connection.
pub const API_CONNECT_TIME_MAX_MS: u64 = 5_000;
/// Milliseconds to wait for another process that takes the same address in the same moment.
pub const API_CLAIM_TIME_MAX_MS: u64 = 2_000;
/// Milliseconds that one connection lasts, answer included: more than the largest object takes to load.
pub const API_CONNECTION_TIME_MAX_MS: u64 = 120_000;
/// Bytes of a request's body where the route takes neither an object nor a capture.
pub const API_BODY_LEN_MAX: u64 = 64 << 10;
/// Large bodies (objects, captures) that the host receives at once; bounds its memory.
pub const API_LARGE_BODIES_MAX: usize = 2;
/// Bytes of an answer that the client takes: a full map of [`MAP_BYTES_MAX`] is dumped in parts.
pub const API_ANSWER_LEN_MAX: usize = 64 << 20;
/// Bytes of a control socket's path; the kernel's `sun_path` holds 108 with the closing zero.
pub const API_PATH_LEN_MAX: usize = 107;

/// Flows that one description names.
pub const FLOWS_MAX: usize = 64;
/// Addresses on one side of a flow.
pub const FLOW_ADDRESSES_MAX: u32 = 1 << 20;
/// Frames per second that a traffic source is asked for at most.
pub const SOURCE_RATE_MAX: u64 = 100_000_000;
/// Elements of a map that one answer holds.
pub const API_ELEMENTS_MAX: usize = 4096;
/// Slots of a program array that one request looks at: most are empty.
pub const API_SLOTS_MAX: u32 = 1 << 16;
/// Bytes of keys and values after which an answer ends early.
pub const API_ELEMENTS_LEN_MAX: usize = 1 << 20;
/// Milliseconds that a request for events waits for one at most.
pub const API_WAIT_MS_MAX: u64 = 10_000;
/// Events of a host that its control API remembers.
pub const JOURNAL_EVENTS_MAX: usize = 4096;
/// Bytes of a ring-buffer record that it remembers.
pub const JOURNAL_RECORD_LEN_MAX: usize = 256;
