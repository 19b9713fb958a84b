//! Loads, stores and atomic operations.
//!
//! Invariant: no value is read twice; alignment is checked before an address is.

#![expect(
    clippy::cast_possible_truncation,
    reason = "32-bit operations and packet offsets are the low halves of registers"
)]

use std::sync::atomic::{Ordering, fence};

use super::{Machine, Next, arithmetic};
use crate::cage::Cage;
use crate::isa::{Atomic, Endian, Fetch, Insn, Operand, Reg, Size};
use crate::trap::TrapKind;

impl Machine<'_, '_> {
    /// The guest address that the instruction's offset and this register make.
    pub(super) fn address(&self, base: Reg, insn: &Insn) -> i64 {
        Cage::effective(self.reg(base), insn.off)
    }

    pub(super) fn load(&self, addr: i64, size: Size) -> Result<u64, TrapKind> {
        Ok(self.run.world.cage.load(addr, size)?)
    }

    pub(super) fn store(&self, addr: i64, size: Size, value: u64) -> Result<(), TrapKind> {
        Ok(self.run.world.cage.store(addr, size, value)?)
    }

    /// Address of an atomic operation's memory.
    fn aligned(&self, base: Reg, insn: &Insn, size: Size) -> Result<i64, TrapKind> {
        let addr = self.address(base, insn);
        if addr & i64::from(size.len() - 1) != 0 {
            return Err(TrapKind::Misaligned { addr });
        }
        Ok(addr)
    }

    pub(super) fn atomic(&mut self, insn: &Insn, size: Size, op: Atomic, fetch: Fetch) -> Result<(), TrapKind> {
        let addr = self.aligned(insn.dst, insn, size)?;
        let value = self.reg(insn.src);
        let cage = &self.run.world.cage;
        let old = match size {
            Size::W => {
                let (cell, value) = (cage.atomic_u32(addr)?, value as u32);
                u64::from(match op {
                    Atomic::Add => cell.fetch_add(value, Ordering::SeqCst),
                    Atomic::Or => cell.fetch_or(value, Ordering::SeqCst),
                    Atomic::And => cell.fetch_and(value, Ordering::SeqCst),
                    Atomic::Xor => cell.fetch_xor(value, Ordering::SeqCst),
                })
            }
            Size::D => {
                let cell = cage.atomic_u64(addr)?;
                match op {
                    Atomic::Add => cell.fetch_add(value, Ordering::SeqCst),
                    Atomic::Or => cell.fetch_or(value, Ordering::SeqCst),
                    Atomic::And => cell.fetch_and(value, Ordering::SeqCst),
                    Atomic::Xor => cell.fetch_xor(value, Ordering::SeqCst),
                }
            }
            Size::B | Size::H => unreachable!("no row has a narrow atomic operation"),
        };
        if fetch == Fetch::Old {
            self.set(insn.src, old);
        }
        Ok(())
    }

    pub(super) fn exchange(&mut self, insn: &Insn, size: Size) -> Result<(), TrapKind> {
        let addr = self.aligned(insn.dst, insn, size)?;
        let value = self.reg(insn.src);
        let cage = &self.run.world.cage;
        let old = match size {
            Size::W => u64::from(cage.atomic_u32(addr)?.swap(value as u32, Ordering::SeqCst)),
            Size::D => cage.atomic_u64(addr)?.swap(value, Ordering::SeqCst),
            Size::B | Size::H => unreachable!("no row has a narrow exchange"),
        };
        self.set(insn.src, old);
        Ok(())
    }

    pub(super) fn compare_exchange(&mut self, insn: &Insn, size: Size) -> Result<(), TrapKind> {
        let addr = self.aligned(insn.dst, insn, size)?;
        let (expected, value) = (self.reg(Reg::R0), self.reg(insn.src));
        let cage = &self.run.world.cage;
        let old = match size {
            Size::W => {
                let cell = cage.atomic_u32(addr)?;
                let done = cell.compare_exchange(expected as u32, value as u32, Ordering::SeqCst, Ordering::SeqCst);
                u64::from(done.unwrap_or_else(|found| found))
            }
            Size::D => {
                let cell = cage.atomic_u64(addr)?;
                let done = cell.compare_exchange(expected, value, Ordering::SeqCst, Ordering::SeqCst);
                done.unwrap_or_else(|found| found)
            }
            Size::B | Size::H => unreachable!("no row has a narrow compare-and-exchange"),
        };
        self.set(Reg::R0, old);
        Ok(())
    }

    pub(super) fn load_acquire(&mut self, insn: &Insn, size: Size) -> Result<(), TrapKind> {
        let addr = self.aligned(insn.src, insn, size)?;
        let value = self.load(addr, size)?;
        fence(Ordering::Acquire);
        self.set(insn.dst, value);
        Ok(())
    }

    pub(super) fn store_release(&mut self, insn: &Insn, size: Size) -> Result<(), TrapKind> {
        let addr = self.aligned(insn.dst, insn, size)?;
        fence(Ordering::Release);
        self.store(addr, size, self.reg(insn.src))
    }

    /// The legacy packet load. Outside the frame it leaves the function with r0 = 0, as the kernel's expansion of it
    /// does.
    pub(super) fn load_packet(&mut self, insn: &Insn, size: Size, operand: Operand) -> Result<Next, TrapKind> {
        let index = match operand {
            Operand::Imm => 0,
            Operand::Reg => self.reg(insn.src) as u32,
        };
        let offset = i64::from((insn.imm as i32).wrapping_add(index.cast_signed()));
        let Some(place) = self.run.packet_place(offset, size.len()) else {
            self.set(Reg::R0, 0);
            return Ok(self.exit());
        };
        let value = self.load(place.into(), size)?;
        self.set(Reg::R0, arithmetic::swap(Endian::Be, size, value));
        self.clobber_arguments();
        Ok(Next::Forward)
    }
}
