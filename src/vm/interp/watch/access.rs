//! Whether an access stays where its pointer may go.
//!
//! Invariant: an access by a pointer of unknown origin is judged by its address alone.

use super::Watch;
use super::log::Problem;
use super::value::{Kind, Object, Origin, Value};
use crate::run::{Context, Run};
use crate::trap::Access;
use crate::verdict::ProgramKind;

/// Bytes of the context of this kind of program.
pub(super) fn context_len(kind: ProgramKind) -> u32 {
    match kind {
        ProgramKind::Xdp => Context::XDP_LEN,
        ProgramKind::Tc | ProgramKind::SocketFilter | ProgramKind::FlowDissector => Context::SK_BUFF_LEN,
        ProgramKind::Raw => 0,
    }
}

/// Whether a field of the context, by its offset, holds a packet pointer.
pub(super) fn bounds_field(kind: ProgramKind, offset: i64) -> bool {
    let fields = match kind {
        ProgramKind::Xdp => [Context::XDP_DATA, Context::XDP_DATA + 4, Context::XDP_DATA + 8],
        ProgramKind::Tc | ProgramKind::SocketFilter | ProgramKind::FlowDissector => {
            [Context::SKB_DATA, Context::SKB_DATA + 4, Context::SKB_DATA_META]
        }
        ProgramKind::Raw => return false,
    };
    fields.iter().any(|field| i64::from(*field) == offset)
}

/// An access, for words.
#[derive(Clone, Copy)]
struct Reach {
    addr: i64,
    len: u64,
    access: Access,
}

impl Reach {
    /// `write of 4 bytes at offset -8`.
    fn at_offset_of(self, start: u32) -> String {
        format!("{} of {} bytes at offset {}", self.access, self.len, self.addr - i64::from(start))
    }

    /// Whether it touches a byte from `start` up to `end`.
    fn touches(self, start: u32, end: u32) -> bool {
        let last = self.addr.saturating_add(i64::try_from(self.len).unwrap_or(i64::MAX));
        self.addr < i64::from(end) && last > i64::from(start)
    }
}

impl Watch<'_> {
    /// Memory is about to be accessed through `pointer`.
    pub(super) fn accesses(&mut self, pointer: Value, addr: i64, len: u64, access: Access, run: &Run<'_>) {
        self.uses(pointer, "an address");
        let reach = Reach { addr, len, access };
        match pointer.origin {
            Origin::Object(object) => self.accesses_object(object, reach, run),
            Origin::Packet { moves } => self.accesses_packet(moves, reach, run),
            Origin::Unknown | Origin::Unwritten | Origin::PacketInUpperHalf { .. } => {
                let window = run.window;
                let chunk_end = window.chunk.saturating_add(window.chunk_len);
                if window.chunk_len != 0 && reach.touches(window.chunk, chunk_end) {
                    // What a kernel function hands out may lie in a fragment.
                    self.inside_packet(reach, window.frame_end(), run);
                }
            }
        }
    }

    fn accesses_packet(&mut self, moves: u32, reach: Reach, run: &Run<'_>) {
        if moves == self.moves {
            self.inside_packet(reach, run.window.data_end, run);
            return;
        }
        self.report(Problem::StalePacketPointer, || {
            format!("{} through a packet pointer from before a helper that moves the packet's bounds", reach.access)
        });
    }

    fn inside_packet(&mut self, reach: Reach, end: u32, run: &Run<'_>) {
        let window = run.window;
        let start = window.meta.min(window.data);
        let packet = Object { kind: Kind::Memory, addr: start, len: end - start };
        if !packet.holds(reach.addr, reach.len) {
            self.report(Problem::PacketBounds, || {
                format!("{} of a packet of {} bytes", reach.at_offset_of(window.data), window.frame_len())
            });
        }
    }

    fn accesses_object(&mut self, object: Object, reach: Reach, run: &Run<'_>) {
        let (problem, name) = match object.kind {
            Kind::Frame => (Problem::StackBounds, "a call frame's stack"),
            Kind::Context => (Problem::ContextBounds, "the context"),
            Kind::Memory => (Problem::MemoryBounds, "memory"),
            Kind::MapValue => (Problem::MapValueBounds, "a map value"),
            Kind::Record => (Problem::RecordBounds, "a record"),
            Kind::Map => {
                self.report(Problem::MapAccess, || {
                    format!("{} of a map, which programs only pass to helpers", reach.at_offset_of(object.addr))
                });
                return;
            }
            Kind::Socket => (Problem::SocketBounds, "a socket"),
        };
        if !object.holds(reach.addr, reach.len) {
            // The frame pointer is the end of its frame, and offsets are counted from there.
            let start = object.addr + if object.kind == Kind::Frame { object.len } else { 0 };
            self.report(problem, || format!("{} of {name} of {} bytes", reach.at_offset_of(start), object.len));
            return;
        }
        match object.kind {
            Kind::Frame => {
                if object.addr < self.frame_start() {
                    self.report(Problem::StackBounds, || {
                        format!("{} of the stack of a function that has returned", reach.access)
                    });
                }
            }
            Kind::Context => {
                if reach.access == Access::Write && self.is_read_only(reach, run) {
                    self.report(Problem::ContextWrite, || {
                        format!(
                            "{} of the context, which programs may only read there",
                            reach.at_offset_of(object.addr)
                        )
                    });
                }
            }
            Kind::Record => {
                if !run.records.held().iter().any(|record| record.addr == object.addr) {
                    self.report(Problem::RecordAfterEnd, || {
                        format!("{} of a record that was submitted or discarded", reach.access)
                    });
                }
            }
            Kind::Memory | Kind::MapValue | Kind::Map | Kind::Socket => {}
        }
    }

    /// Whether the bytes are fields that say where the packet is. All of `xdp_md` is read-only.
    fn is_read_only(&self, reach: Reach, run: &Run<'_>) -> bool {
        let ctx = run.head.ctx;
        match run.kind {
            ProgramKind::Xdp => true,
            ProgramKind::Tc | ProgramKind::SocketFilter | ProgramKind::FlowDissector => {
                [(Context::SKB_LEN, 4), (Context::SKB_DATA, 8), (Context::SKB_DATA_META, 4)]
                    .iter()
                    .any(|(field, len)| reach.touches(ctx + field, ctx + field + len))
            }
            ProgramKind::Raw => false,
        }
    }

    /// First byte of the stack of the function that is executing.
    fn frame_start(&self) -> u32 {
        match self.regs[10].origin {
            Origin::Object(frame) => frame.addr,
            Origin::Unwritten | Origin::Unknown | Origin::Packet { .. } | Origin::PacketInUpperHalf { .. } => 0,
        }
    }
}
