//! The instruction set: a row for each instruction.
//!
//! Invariant: nothing else in the crate lists opcodes; rows of one opcode stand together; the first of them is the one
//! that the others vary.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::Alu::{Add, And, Arsh, Div, Lsh, Mod, Mov, Mul, Or, Rsh, Sdiv, Smod, Sub, Xor};
use super::Cond::{Eq, Ge, Gt, Lt, Ne, Sge, Sgt, Sle, Slt};
use super::Does::{
    AddrSpaceCast, Alu, Branch, CallHelper, CallKfunc, CallLocal, CallReg, CompareExchange, Exchange, Exit, Goto,
    GotoLong, GotoReg, Load, LoadAcquire, LoadCodeAddr, LoadImm64, LoadMap, LoadMapByIndex, LoadMapValue,
    LoadMapValueByIndex, LoadPacket, LoadVarAddr, MayGoto, MovSigned, Neg, SecondSlot, Store, StoreRelease,
};
use super::Endian::{Be, Le};
use super::Fetch::{Discard, Old};
use super::Group::{Atomic32, Atomic64, Base32, Base64, CallX, DivMul32, DivMul64, LinuxExt, Packet};
use super::Operand::{Imm, Reg};
use super::Sign::{Extend, Zero};
use super::Size::{B, D, H, W};
use super::Width::{W32, W64};
use super::row::{Row, row};
use super::{Atomic, Cond, Does, Endian};

const FD: &str = "a map descriptor means nothing outside the process that opened it";

/// Every instruction of RFC 9669, the Linux extensions, and `callx`.
pub static ROWS: &[Row] = &[
    // Arithmetic, RFC 9669 section 4.1.
    row(0x04, "add32_imm", "wdst += imm", Alu(W32, Add, Imm), Base32),
    row(0x0c, "add32_reg", "wdst += wsrc", Alu(W32, Add, Reg), Base32),
    row(0x07, "add_imm", "dst += imm", Alu(W64, Add, Imm), Base64),
    row(0x0f, "add_reg", "dst += src", Alu(W64, Add, Reg), Base64),
    row(0x14, "sub32_imm", "wdst -= imm", Alu(W32, Sub, Imm), Base32),
    row(0x1c, "sub32_reg", "wdst -= wsrc", Alu(W32, Sub, Reg), Base32),
    row(0x17, "sub_imm", "dst -= imm", Alu(W64, Sub, Imm), Base64),
    row(0x1f, "sub_reg", "dst -= src", Alu(W64, Sub, Reg), Base64),
    row(0x24, "mul32_imm", "wdst *= imm", Alu(W32, Mul, Imm), DivMul32),
    row(0x2c, "mul32_reg", "wdst *= wsrc", Alu(W32, Mul, Reg), DivMul32),
    row(0x27, "mul_imm", "dst *= imm", Alu(W64, Mul, Imm), DivMul64),
    row(0x2f, "mul_reg", "dst *= src", Alu(W64, Mul, Reg), DivMul64),
    row(0x34, "div32_imm", "wdst /= imm", Alu(W32, Div, Imm), DivMul32),
    row(0x34, "sdiv32_imm", "wdst s/= imm", Alu(W32, Sdiv, Imm), DivMul32).off(1),
    row(0x3c, "div32_reg", "wdst /= wsrc", Alu(W32, Div, Reg), DivMul32),
    row(0x3c, "sdiv32_reg", "wdst s/= wsrc", Alu(W32, Sdiv, Reg), DivMul32).off(1),
    row(0x37, "div_imm", "dst /= imm", Alu(W64, Div, Imm), DivMul64),
    row(0x37, "sdiv_imm", "dst s/= imm", Alu(W64, Sdiv, Imm), DivMul64).off(1),
    row(0x3f, "div_reg", "dst /= src", Alu(W64, Div, Reg), DivMul64),
    row(0x3f, "sdiv_reg", "dst s/= src", Alu(W64, Sdiv, Reg), DivMul64).off(1),
    row(0x44, "or32_imm", "wdst |= imm", Alu(W32, Or, Imm), Base32),
    row(0x4c, "or32_reg", "wdst |= wsrc", Alu(W32, Or, Reg), Base32),
    row(0x47, "or_imm", "dst |= imm", Alu(W64, Or, Imm), Base64),
    row(0x4f, "or_reg", "dst |= src", Alu(W64, Or, Reg), Base64),
    row(0x54, "and32_imm", "wdst &= imm", Alu(W32, And, Imm), Base32),
    row(0x5c, "and32_reg", "wdst &= wsrc", Alu(W32, And, Reg), Base32),
    row(0x57, "and_imm", "dst &= imm", Alu(W64, And, Imm), Base64),
    row(0x5f, "and_reg", "dst &= src", Alu(W64, And, Reg), Base64),
    row(0x64, "lsh32_imm", "wdst <<= imm", Alu(W32, Lsh, Imm), Base32),
    row(0x6c, "lsh32_reg", "wdst <<= wsrc", Alu(W32, Lsh, Reg), Base32),
    row(0x67, "lsh_imm", "dst <<= imm", Alu(W64, Lsh, Imm), Base64),
    row(0x6f, "lsh_reg", "dst <<= src", Alu(W64, Lsh, Reg), Base64),
    row(0x74, "rsh32_imm", "wdst >>= imm", Alu(W32, Rsh, Imm), Base32),
    row(0x7c, "rsh32_reg", "wdst >>= wsrc", Alu(W32, Rsh, Reg), Base32),
    row(0x77, "rsh_imm", "dst >>= imm", Alu(W64, Rsh, Imm), Base64),
    row(0x7f, "rsh_reg", "dst >>= src", Alu(W64, Rsh, Reg), Base64),
    row(0x94, "mod32_imm", "wdst %= imm", Alu(W32, Mod, Imm), DivMul32),
    row(0x94, "smod32_imm", "wdst s%= imm", Alu(W32, Smod, Imm), DivMul32).off(1),
    row(0x9c, "mod32_reg", "wdst %= wsrc", Alu(W32, Mod, Reg), DivMul32),
    row(0x9c, "smod32_reg", "wdst s%= wsrc", Alu(W32, Smod, Reg), DivMul32).off(1),
    row(0x97, "mod_imm", "dst %= imm", Alu(W64, Mod, Imm), DivMul64),
    row(0x97, "smod_imm", "dst s%= imm", Alu(W64, Smod, Imm), DivMul64).off(1),
    row(0x9f, "mod_reg", "dst %= src", Alu(W64, Mod, Reg), DivMul64),
    row(0x9f, "smod_reg", "dst s%= src", Alu(W64, Smod, Reg), DivMul64).off(1),
    row(0xa4, "xor32_imm", "wdst ^= imm", Alu(W32, Xor, Imm), Base32),
    row(0xac, "xor32_reg", "wdst ^= wsrc", Alu(W32, Xor, Reg), Base32),
    row(0xa7, "xor_imm", "dst ^= imm", Alu(W64, Xor, Imm), Base64),
    row(0xaf, "xor_reg", "dst ^= src", Alu(W64, Xor, Reg), Base64),
    row(0xb4, "mov32_imm", "wdst = imm", Alu(W32, Mov, Imm), Base32),
    row(0xbc, "mov32_reg", "wdst = wsrc", Alu(W32, Mov, Reg), Base32),
    row(0xbc, "movsx832_reg", "wdst = (s8)wsrc", MovSigned(W32, B), Base32).off(8),
    row(0xbc, "movsx1632_reg", "wdst = (s16)wsrc", MovSigned(W32, H), Base32).off(16),
    row(0xb7, "mov_imm", "dst = imm", Alu(W64, Mov, Imm), Base64),
    row(0xbf, "mov_reg", "dst = src", Alu(W64, Mov, Reg), Base64),
    row(0xbf, "movsx864_reg", "dst = (s8)src", MovSigned(W64, B), Base64).off(8),
    row(0xbf, "movsx1664_reg", "dst = (s16)src", MovSigned(W64, H), Base64).off(16),
    row(0xbf, "movsx3264_reg", "dst = (s32)src", MovSigned(W64, W), Base64).off(32),
    row(0xbf, "addr_space_cast", "dst = addr_space_cast(src, imm_high, imm_low)", AddrSpaceCast, LinuxExt)
        .off(1)
        .refused("there are no arenas here"),
    row(0xc4, "arsh32_imm", "wdst s>>= imm", Alu(W32, Arsh, Imm), Base32),
    row(0xcc, "arsh32_reg", "wdst s>>= wsrc", Alu(W32, Arsh, Reg), Base32),
    row(0xc7, "arsh_imm", "dst s>>= imm", Alu(W64, Arsh, Imm), Base64),
    row(0xcf, "arsh_reg", "dst s>>= src", Alu(W64, Arsh, Reg), Base64),
    row(0x84, "neg32", "wdst = -wdst", Neg(W32), Base32),
    row(0x87, "neg", "dst = -dst", Neg(W64), Base64),
    // Byte order, RFC 9669 section 4.2.
    row(0xd4, "le16", "dst = le16 dst", Does::Swap(Le, H), Base32).imm(16),
    row(0xd4, "le32", "dst = le32 dst", Does::Swap(Le, W), Base32).imm(32),
    row(0xd4, "le64", "dst = le64 dst", Does::Swap(Le, D), Base64).imm(64),
    row(0xdc, "be16", "dst = be16 dst", Does::Swap(Be, H), Base32).imm(16),
    row(0xdc, "be32", "dst = be32 dst", Does::Swap(Be, W), Base32).imm(32),
    row(0xdc, "be64", "dst = be64 dst", Does::Swap(Be, D), Base64).imm(64),
    row(0xd7, "bswap16", "dst = bswap16 dst", Does::Swap(Endian::Swap, H), Base32).imm(16),
    row(0xd7, "bswap32", "dst = bswap32 dst", Does::Swap(Endian::Swap, W), Base32).imm(32),
    row(0xd7, "bswap64", "dst = bswap64 dst", Does::Swap(Endian::Swap, D), Base64).imm(64),
    // Jumps, RFC 9669 section 4.3.
    row(0x05, "ja", "goto off_target", Goto, Base32),
    row(0x06, "ja32", "gotol imm_target", GotoLong, Base32),
    row(0x15, "jeq_imm", "if dst == imm goto off_target", Branch(W64, Eq, Imm), Base64),
    row(0x1d, "jeq_reg", "if dst == src goto off_target", Branch(W64, Eq, Reg), Base64),
    row(0x16, "jeq32_imm", "if wdst == imm goto off_target", Branch(W32, Eq, Imm), Base32),
    row(0x1e, "jeq32_reg", "if wdst == wsrc goto off_target", Branch(W32, Eq, Reg), Base32),
    row(0x25, "jgt_imm", "if dst > imm goto off_target", Branch(W64, Gt, Imm), Base64),
    row(0x2d, "jgt_reg", "if dst > src goto off_target", Branch(W64, Gt, Reg), Base64),
    row(0x26, "jgt32_imm", "if wdst > imm goto off_target", Branch(W32, Gt, Imm), Base32),
    row(0x2e, "jgt32_reg", "if wdst > wsrc goto off_target", Branch(W32, Gt, Reg), Base32),
    row(0x35, "jge_imm", "if dst >= imm goto off_target", Branch(W64, Ge, Imm), Base64),
    row(0x3d, "jge_reg", "if dst >= src goto off_target", Branch(W64, Ge, Reg), Base64),
    row(0x36, "jge32_imm", "if wdst >= imm goto off_target", Branch(W32, Ge, Imm), Base32),
    row(0x3e, "jge32_reg", "if wdst >= wsrc goto off_target", Branch(W32, Ge, Reg), Base32),
    row(0x45, "jset_imm", "if dst & imm goto off_target", Branch(W64, Cond::Set, Imm), Base64),
    row(0x4d, "jset_reg", "if dst & src goto off_target", Branch(W64, Cond::Set, Reg), Base64),
    row(0x46, "jset32_imm", "if wdst & imm goto off_target", Branch(W32, Cond::Set, Imm), Base32),
    row(0x4e, "jset32_reg", "if wdst & wsrc goto off_target", Branch(W32, Cond::Set, Reg), Base32),
    row(0x55, "jne_imm", "if dst != imm goto off_target", Branch(W64, Ne, Imm), Base64),
    row(0x5d, "jne_reg", "if dst != src goto off_target", Branch(W64, Ne, Reg), Base64),
    row(0x56, "jne32_imm", "if wdst != imm goto off_target", Branch(W32, Ne, Imm), Base32),
    row(0x5e, "jne32_reg", "if wdst != wsrc goto off_target", Branch(W32, Ne, Reg), Base32),
    row(0x65, "jsgt_imm", "if dst s> imm goto off_target", Branch(W64, Sgt, Imm), Base64),
    row(0x6d, "jsgt_reg", "if dst s> src goto off_target", Branch(W64, Sgt, Reg), Base64),
    row(0x66, "jsgt32_imm", "if wdst s> imm goto off_target", Branch(W32, Sgt, Imm), Base32),
    row(0x6e, "jsgt32_reg", "if wdst s> wsrc goto off_target", Branch(W32, Sgt, Reg), Base32),
    row(0x75, "jsge_imm", "if dst s>= imm goto off_target", Branch(W64, Sge, Imm), Base64),
    row(0x7d, "jsge_reg", "if dst s>= src goto off_target", Branch(W64, Sge, Reg), Base64),
    row(0x76, "jsge32_imm", "if wdst s>= imm goto off_target", Branch(W32, Sge, Imm), Base32),
    row(0x7e, "jsge32_reg", "if wdst s>= wsrc goto off_target", Branch(W32, Sge, Reg), Base32),
    row(0xa5, "jlt_imm", "if dst < imm goto off_target", Branch(W64, Lt, Imm), Base64),
    row(0xad, "jlt_reg", "if dst < src goto off_target", Branch(W64, Lt, Reg), Base64),
    row(0xa6, "jlt32_imm", "if wdst < imm goto off_target", Branch(W32, Lt, Imm), Base32),
    row(0xae, "jlt32_reg", "if wdst < wsrc goto off_target", Branch(W32, Lt, Reg), Base32),
    row(0xb5, "jle_imm", "if dst <= imm goto off_target", Branch(W64, Cond::Le, Imm), Base64),
    row(0xbd, "jle_reg", "if dst <= src goto off_target", Branch(W64, Cond::Le, Reg), Base64),
    row(0xb6, "jle32_imm", "if wdst <= imm goto off_target", Branch(W32, Cond::Le, Imm), Base32),
    row(0xbe, "jle32_reg", "if wdst <= wsrc goto off_target", Branch(W32, Cond::Le, Reg), Base32),
    row(0xc5, "jslt_imm", "if dst s< imm goto off_target", Branch(W64, Slt, Imm), Base64),
    row(0xcd, "jslt_reg", "if dst s< src goto off_target", Branch(W64, Slt, Reg), Base64),
    row(0xc6, "jslt32_imm", "if wdst s< imm goto off_target", Branch(W32, Slt, Imm), Base32),
    row(0xce, "jslt32_reg", "if wdst s< wsrc goto off_target", Branch(W32, Slt, Reg), Base32),
    row(0xd5, "jsle_imm", "if dst s<= imm goto off_target", Branch(W64, Sle, Imm), Base64),
    row(0xdd, "jsle_reg", "if dst s<= src goto off_target", Branch(W64, Sle, Reg), Base64),
    row(0xd6, "jsle32_imm", "if wdst s<= imm goto off_target", Branch(W32, Sle, Imm), Base32),
    row(0xde, "jsle32_reg", "if wdst s<= wsrc goto off_target", Branch(W32, Sle, Reg), Base32),
    row(0xe5, "may_goto", "may_goto off_target", MayGoto, LinuxExt),
    row(0x0d, "gotox", "gotox dst", GotoReg, LinuxExt).refused("there are no instruction arrays here"),
    row(0x85, "call_helper", "call uimm", CallHelper, Base32),
    row(0x85, "call_local", "call imm_target", CallLocal, Base32).src(1),
    row(0x85, "call_btf", "call kfunc uimm", CallKfunc, Base32)
        .src(2)
        .refused("only the kernel that made its BTF can resolve a kernel function's id"),
    row(0x8d, "callx", "callx dst", CallReg, CallX).any_src(),
    row(0x95, "exit", "exit", Exit, Base32).any_off(),
    // 64-bit immediates, RFC 9669 section 5.4.
    row(0x18, "lddw", "dst = imm64 ll", LoadImm64, Base64),
    row(0x18, "ld_map_fd", "dst = map_by_fd(low)", LoadMap, Base64).src(1).refused(FD),
    row(0x18, "ld_map_value_fd", "dst = map_val(map_by_fd(low)) + high", LoadMapValue, Base64).src(2).refused(FD),
    row(0x18, "ld_var_addr", "dst = var_addr(low, high)", LoadVarAddr, Base64)
        .src(3)
        .refused("there are no kernel variables here"),
    row(0x18, "ld_code_addr", "dst = code_addr(imm_target)", LoadCodeAddr, Base64).src(4),
    row(0x18, "ld_map_idx", "dst = map_by_idx(low)", LoadMapByIndex, Base64).src(5),
    row(0x18, "ld_map_value_idx", "dst = map_val(map_by_idx(low)) + high", LoadMapValueByIndex, Base64).src(6),
    row(0x00, "lddw_second_slot", "second_slot imm", SecondSlot, Base64),
    // Memory, RFC 9669 sections 5.1 and 5.2.
    row(0x71, "ldxb", "xdst = *(u8 *)(src + off)", Load(B, Zero), Base32),
    row(0x69, "ldxh", "xdst = *(u16 *)(src + off)", Load(H, Zero), Base32),
    row(0x61, "ldxw", "xdst = *(u32 *)(src + off)", Load(W, Zero), Base32),
    row(0x79, "ldxdw", "dst = *(u64 *)(src + off)", Load(D, Zero), Base64),
    row(0x91, "ldxsb", "dst = *(s8 *)(src + off)", Load(B, Extend), Base32),
    row(0x89, "ldxsh", "dst = *(s16 *)(src + off)", Load(H, Extend), Base32),
    row(0x81, "ldxsw", "dst = *(s32 *)(src + off)", Load(W, Extend), Base32),
    row(0x72, "stb", "*(u8 *)(dst + off) = imm", Store(B, Imm), Base32),
    row(0x6a, "sth", "*(u16 *)(dst + off) = imm", Store(H, Imm), Base32),
    row(0x62, "stw", "*(u32 *)(dst + off) = imm", Store(W, Imm), Base32),
    row(0x7a, "stdw", "*(u64 *)(dst + off) = imm", Store(D, Imm), Base64),
    row(0x73, "stxb", "*(u8 *)(dst + off) = xsrc", Store(B, Reg), Base32),
    row(0x6b, "stxh", "*(u16 *)(dst + off) = xsrc", Store(H, Reg), Base32),
    row(0x63, "stxw", "*(u32 *)(dst + off) = xsrc", Store(W, Reg), Base32),
    row(0x7b, "stxdw", "*(u64 *)(dst + off) = src", Store(D, Reg), Base64),
    // Atomic operations, RFC 9669 section 5.3.
    row(0xc3, "lock add32", "lock *(u32 *)(dst + off) += xsrc", Does::Atomic(W, Atomic::Add, Discard), Atomic32)
        .imm(0x00),
    row(
        0xc3,
        "lock fetch add32",
        "xsrc = atomic_fetch_add((u32 *)(dst + off), xsrc)",
        Does::Atomic(W, Atomic::Add, Old),
        Atomic32,
    )
    .imm(0x01),
    row(0xc3, "lock or32", "lock *(u32 *)(dst + off) |= xsrc", Does::Atomic(W, Atomic::Or, Discard), Atomic32)
        .imm(0x40),
    row(
        0xc3,
        "lock fetch or32",
        "xsrc = atomic_fetch_or((u32 *)(dst + off), xsrc)",
        Does::Atomic(W, Atomic::Or, Old),
        Atomic32,
    )
    .imm(0x41),
    row(0xc3, "lock and32", "lock *(u32 *)(dst + off) &= xsrc", Does::Atomic(W, Atomic::And, Discard), Atomic32)
        .imm(0x50),
    row(
        0xc3,
        "lock fetch and32",
        "xsrc = atomic_fetch_and((u32 *)(dst + off), xsrc)",
        Does::Atomic(W, Atomic::And, Old),
        Atomic32,
    )
    .imm(0x51),
    row(0xc3, "lock xor32", "lock *(u32 *)(dst + off) ^= xsrc", Does::Atomic(W, Atomic::Xor, Discard), Atomic32)
        .imm(0xa0),
    row(
        0xc3,
        "lock fetch xor32",
        "xsrc = atomic_fetch_xor((u32 *)(dst + off), xsrc)",
        Does::Atomic(W, Atomic::Xor, Old),
        Atomic32,
    )
    .imm(0xa1),
    row(0xc3, "lock xchg32", "wsrc = xchg32_32(dst + off, wsrc)", Exchange(W), Atomic32).imm(0xe1),
    row(0xc3, "lock cmpxchg32", "w0 = cmpxchg32_32(dst + off, w0, wsrc)", CompareExchange(W), Atomic32).imm(0xf1),
    row(0xc3, "load_acquire32", "xdst = load_acquire((u32 *)(src + off))", LoadAcquire(W), LinuxExt).imm(0x100),
    row(0xc3, "store_release32", "store_release((u32 *)(dst + off), xsrc)", StoreRelease(W), LinuxExt).imm(0x110),
    row(0xdb, "lock add", "lock *(u64 *)(dst + off) += src", Does::Atomic(D, Atomic::Add, Discard), Atomic64).imm(0x00),
    row(
        0xdb,
        "lock fetch add",
        "src = atomic_fetch_add((u64 *)(dst + off), src)",
        Does::Atomic(D, Atomic::Add, Old),
        Atomic64,
    )
    .imm(0x01),
    row(0xdb, "lock or", "lock *(u64 *)(dst + off) |= src", Does::Atomic(D, Atomic::Or, Discard), Atomic64).imm(0x40),
    row(
        0xdb,
        "lock fetch or",
        "src = atomic_fetch_or((u64 *)(dst + off), src)",
        Does::Atomic(D, Atomic::Or, Old),
        Atomic64,
    )
    .imm(0x41),
    row(0xdb, "lock and", "lock *(u64 *)(dst + off) &= src", Does::Atomic(D, Atomic::And, Discard), Atomic64).imm(0x50),
    row(
        0xdb,
        "lock fetch and",
        "src = atomic_fetch_and((u64 *)(dst + off), src)",
        Does::Atomic(D, Atomic::And, Old),
        Atomic64,
    )
    .imm(0x51),
    row(0xdb, "lock xor", "lock *(u64 *)(dst + off) ^= src", Does::Atomic(D, Atomic::Xor, Discard), Atomic64).imm(0xa0),
    row(
        0xdb,
        "lock fetch xor",
        "src = atomic_fetch_xor((u64 *)(dst + off), src)",
        Does::Atomic(D, Atomic::Xor, Old),
        Atomic64,
    )
    .imm(0xa1),
    row(0xdb, "lock xchg", "src = xchg_64(dst + off, src)", Exchange(D), Atomic64).imm(0xe1),
    row(0xdb, "lock cmpxchg", "r0 = cmpxchg_64(dst + off, r0, src)", CompareExchange(D), Atomic64).imm(0xf1),
    row(0xdb, "load_acquire64", "dst = load_acquire((u64 *)(src + off))", LoadAcquire(D), LinuxExt).imm(0x100),
    row(0xdb, "store_release64", "store_release((u64 *)(dst + off), src)", StoreRelease(D), LinuxExt).imm(0x110),
    row(0xd3, "load_acquire8", "xdst = load_acquire((u8 *)(src + off))", LoadAcquire(B), LinuxExt).imm(0x100),
    row(0xd3, "store_release8", "store_release((u8 *)(dst + off), xsrc)", StoreRelease(B), LinuxExt).imm(0x110),
    row(0xcb, "load_acquire16", "xdst = load_acquire((u16 *)(src + off))", LoadAcquire(H), LinuxExt).imm(0x100),
    row(0xcb, "store_release16", "store_release((u16 *)(dst + off), xsrc)", StoreRelease(H), LinuxExt).imm(0x110),
    // Legacy packet loads, RFC 9669 section 5.5.
    row(0x20, "ldabsw", "r0 = *(u32 *)skb[imm]", LoadPacket(W, Imm), Packet),
    row(0x40, "ldindw", "r0 = *(u32 *)skb[src + imm]", LoadPacket(W, Reg), Packet),
    row(0x28, "ldabsh", "r0 = *(u16 *)skb[imm]", LoadPacket(H, Imm), Packet),
    row(0x48, "ldindh", "r0 = *(u16 *)skb[src + imm]", LoadPacket(H, Reg), Packet),
    row(0x30, "ldabsb", "r0 = *(u8 *)skb[imm]", LoadPacket(B, Imm), Packet),
    row(0x50, "ldindb", "r0 = *(u8 *)skb[src + imm]", LoadPacket(B, Reg), Packet),
];

/// The rows of an opcode, the plain one first; empty where no instruction has it.
pub(super) fn rows_of(opcode: u8) -> &'static [Row] {
    let (start, end) = INDEX[usize::from(opcode)];
    &ROWS[start..end]
}

/// The row of what an instruction does; `None` for combinations that no instruction has, such as a 64-bit `bswap8`.
pub(super) fn row_of(does: Does) -> Option<&'static Row> {
    static BY_DOES: LazyLock<HashMap<Does, &'static Row>> = LazyLock::new(|| {
        // Of rows that do the same, the first one is meant.
        ROWS.iter().rev().map(|row| (row.does, row)).collect()
    });
    BY_DOES.get(&does).copied()
}

/// Where the rows of each opcode start and end.
static INDEX: [(usize, usize); 256] = {
    let mut index = [(0, 0); 256];
    let mut at = 0;
    while at < ROWS.len() {
        let opcode = ROWS[at].opcode as usize;
        let (start, end) = index[opcode];
        assert!(start == end || end == at, "rows of one opcode stand together");
        index[opcode] = (if start == end { at } else { start }, at + 1);
        at += 1;
    }
    index
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_texts_and_meanings_are_each_used_once() {
        let names: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
        let texts: BTreeSet<_> = ROWS.iter().map(|row| row.text).collect();
        let meanings: BTreeSet<_> = ROWS.iter().map(|row| row.does).collect();
        assert_eq!((names.len(), texts.len(), meanings.len()), (ROWS.len(), ROWS.len(), ROWS.len()));
    }

    #[test]
    fn no_two_rows_of_an_opcode_fit_one_slot() {
        use crate::isa::row::{Field, Part};
        for (at, row) in ROWS.iter().enumerate() {
            for other in ROWS[at + 1..].iter().filter(|other| other.opcode == row.opcode) {
                let apart = Part::ALL.into_iter().any(|part| match (row.field(part), other.field(part)) {
                    (Field::Is(one), Field::Is(another)) => one != another,
                    (Field::Any | Field::Ignored, _) | (_, Field::Any | Field::Ignored) => false,
                });
                assert!(apart, "{} and {} cannot be told apart", row.name, other.name);
            }
        }
    }
}
