//! What helpers are given, and what they give back.
//!
//! Invariant: goes by prototypes alone; knows no helper by name.

use crossbeam::epoch;

use super::log::Problem;
use super::value::{Kind, Value};
use super::{Regs, Watch};
use crate::helpers::{Arg, Frame, Helper, Ret};
use crate::isa::Reg;
use crate::maps::MapKind;
use crate::run::Run;
use crate::run::sockets::{SOCK_LEN, TCP_SOCK_LEN};
use crate::trap::Access;

impl Watch<'_> {
    /// A helper is about to be called.
    pub(in crate::vm::interp) fn before_helper(&mut self, helper: &Helper, regs: &Regs, run: &Run<'_>) {
        let map = helper.args.iter().position(|arg| *arg == Arg::Map);
        let guard = epoch::pin();
        let map = map.and_then(|index| run.world.maps.map_by_handle(regs[index + 1], &guard));
        for (number, arg) in (1..).zip(helper.args) {
            if *arg == Arg::Optional {
                continue;
            }
            let Some(reg) = Reg::new(number) else { break };
            let value = self.read(reg);
            let at = regs[reg.index()];
            let len = match arg {
                Arg::SpinLock => Some(4),
                Arg::MapKey => map.map(|map| u64::from(map.def().key_len)),
                Arg::MapValue | Arg::MapValueOut => map.map(|map| u64::from(map.def().value_len)),
                Arg::MemRead | Arg::MemReadOrNull | Arg::MemWrite | Arg::MemInOut | Arg::SliceBuffer => {
                    regs.get(reg.index() + 1).copied()
                }
                Arg::Bytes(len)
                | Arg::BytesOut(len)
                | Arg::BytesInOut(len)
                | Arg::BytesPerhapsOut(len)
                | Arg::Iterator(len) => Some(u64::from(*len)),
                Arg::Any
                | Arg::Optional
                | Arg::Text
                | Arg::Probed
                | Arg::Ctx
                | Arg::Map
                | Arg::Len
                | Arg::LenOrZero
                | Arg::Timer
                | Arg::Socket
                | Arg::RingRecord
                | Arg::Callback
                | Arg::CallbackCtx => None,
            };
            // A bloom filter is asked for the value that is there.
            let fills = matches!(arg, Arg::MemWrite | Arg::SpinLock | Arg::BytesOut(_) | Arg::SliceBuffer)
                || *arg == Arg::MapValueOut && map.is_none_or(|map| map.def().kind != MapKind::BLOOM_FILTER);
            let access = if fills { Access::Write } else { Access::Read };
            self.uses(value, helper.name);
            let Some(len) = len.filter(|len| *len > 0) else { continue };
            if let (Arg::BytesPerhapsOut(_), Ok(addr)) = (arg, i64::try_from(at)) {
                self.accesses(value, addr, len, Access::Write, run);
                continue;
            }
            self.reaches(value, helper, at, len, access, run);
            if matches!(arg, Arg::BytesInOut(_) | Arg::MemInOut | Arg::Iterator(_)) {
                self.reaches(value, helper, at, len, Access::Write, run);
            }
        }
    }

    /// A helper reads or writes memory on the program's behalf.
    fn reaches(&mut self, pointer: Value, helper: &Helper, at: u64, len: u64, access: Access, run: &Run<'_>) {
        let Ok(addr) = i64::try_from(at) else { return };
        self.accesses(pointer, addr, len, access, run);
        let Some((place, count)) = self.stack.place(addr, len).zip(usize::try_from(len).ok()) else { return };
        match access {
            Access::Write => self.stack.written(place, count),
            Access::Read => {
                if let Some(offset) = self.stack.first_unset(place, count) {
                    self.report(Problem::UninitialisedStack, || {
                        format!("{} reads {len} bytes of stack; byte {offset} was never written", helper.name)
                    });
                }
            }
        }
    }

    /// A helper has returned. `args` are r1 to r5 as they were.
    pub(in crate::vm::interp) fn after_helper(&mut self, helper: &Helper, args: [u64; 5], r0: u64, run: &Run<'_>) {
        let addr = u32::try_from(r0).unwrap_or(0);
        let pointer = |kind, len| if addr == 0 { Value::NUMBER } else { Value::pointer(kind, addr, len) };
        let value = match helper.ret {
            Ret::Integer | Ret::Void | Ret::SliceOrNull => Value::NUMBER,
            Ret::MapValueOrNull => match run.world.maps.map_by_handle(args[0], &epoch::pin()) {
                Some(map) if map.as_map_of_maps().is_some() => pointer(Kind::Map, 0),
                Some(map) => pointer(Kind::MapValue, map.def().value_len),
                None => Value::NUMBER,
            },
            Ret::SocketOrNull => pointer(Kind::Socket, SOCK_LEN),
            Ret::TcpSocketOrNull => pointer(Kind::Socket, TCP_SOCK_LEN),
            Ret::MemOrNull => pointer(Kind::Record, u32::try_from(args[1]).unwrap_or(u32::MAX)),
        };
        if helper.frame == Frame::Moves {
            self.moves += 1;
        }
        self.regs[1..=5].fill(Value::UNWRITTEN);
        self.set(Reg::R0, value);
    }
}
