//! Text and numbers: `bpf_strtol`, `bpf_strtoul`, `bpf_strncmp`, `bpf_snprintf`. `kernel/bpf/helpers.c`, `lib/kstrtox.c`.
//!
//! Invariant: a text without an end is read for as long as the run has work left, never beyond mapped memory.

use super::check::{Place, place};
use super::format::{self, ARGS_MAX};
use super::{Arg, Frame, Helper, Ret};
use crate::isa::Size;
use crate::maps::Errno;
use crate::run::Run;
use crate::trap::{Access, TrapKind};

/// Digits that the kernel looks at.
const DIGITS_MAX: usize = 63;

/// A number as it stands in a text.
struct Parsed {
    negative: bool,
    magnitude: u64,
    /// Bytes that it took.
    len: usize,
}

/// `isspace` of the kernel, whose characters are Latin-1.
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ' | 0xa0)
}

/// `__bpf_strtoull`.
fn parse(text: &[u8], flags: u64) -> Result<Parsed, Errno> {
    let mut base = match flags {
        0 | 8 | 10 | 16 => flags,
        _ => return Err(Errno::EINVAL),
    };
    let spaces = text.iter().take_while(|byte| is_space(**byte)).count();
    let negative = text.get(spaces) == Some(&b'-');
    let start = spaces + usize::from(negative);
    let rest = &text[start..];
    let digits = &rest[..rest.len().min(DIGITS_MAX)];
    if digits.is_empty() {
        return Err(Errno::EINVAL);
    }
    let prefixed = matches!(digits, [b'0', b'x' | b'X', ..]);
    if base == 0 {
        base = match digits {
            [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => 16,
            [b'0', ..] => 8,
            _ => 10,
        };
    }
    let skipped = if base == 16 && prefixed { 2 } else { 0 };
    let mut magnitude = 0u64;
    let mut overflow = false;
    let mut count = 0;
    for byte in &digits[skipped..] {
        let Some(digit) = char::from(*byte).to_digit(16).map(u64::from).filter(|digit| *digit < base) else { break };
        overflow |= magnitude.checked_mul(base).and_then(|shifted| shifted.checked_add(digit)).is_none();
        magnitude = magnitude.wrapping_mul(base).wrapping_add(digit);
        count += 1;
    }
    if overflow {
        return Err(Errno::ERANGE);
    }
    if count == 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Parsed { negative, magnitude, len: start + skipped + count })
}

/// The value and the bytes that it took, signed.
fn signed(text: &[u8], flags: u64) -> Result<(u64, usize), Errno> {
    let Parsed { negative, magnitude, len } = parse(text, flags)?;
    let value = if negative { 0u64.wrapping_sub(magnitude).cast_signed() } else { magnitude.cast_signed() };
    let fits = if negative { value <= 0 } else { value >= 0 };
    if fits { Ok((value.cast_unsigned(), len)) } else { Err(Errno::ERANGE) }
}

fn unsigned(text: &[u8], flags: u64) -> Result<(u64, usize), Errno> {
    let Parsed { negative, magnitude, len } = parse(text, flags)?;
    if negative { Err(Errno::EINVAL) } else { Ok((magnitude, len)) }
}

/// Reads a number of a base: its value and the bytes that it took.
type Reader = fn(&[u8], u64) -> Result<(u64, usize), Errno>;

/// Reads a number out of guest memory into guest memory.
fn number(
    run: &mut Run<'_>,
    helper: u32,
    [text, len, flags, into, _]: [u64; 5],
    read: Reader,
) -> Result<u64, TrapKind> {
    let range = place(helper, 1).some_memory(run, text, len, Access::Read)?;
    run.work(len / 8)?;
    let result = place(helper, 1).copied(run, text, range.len(), |text| read(text, flags))?;
    let value = result.map_or(0, |(value, _)| value);
    run.world.cage.write(into, &value.to_ne_bytes()).map_err(|fault| place(helper, 4).fault(fault))?;
    Ok(result.map_or_else(Errno::to_r0, |(_, len)| len as u64))
}

fn strtol(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    number(run, 105, args, signed)
}

/// `long bpf_strtol(buf, buf_len, flags, res)`: the bytes that the number took; flags are its base.
pub(super) static STRTOL: Helper = Helper {
    id: 105,
    name: "strtol",
    args: &[Arg::MemRead, Arg::Len, Arg::Any, Arg::BytesOut(8)],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: strtol,
};

fn strtoul(run: &mut Run<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    number(run, 106, args, unsigned)
}

/// `long bpf_strtoul(buf, buf_len, flags, res)`: as `bpf_strtol` without a sign.
pub(super) static STRTOUL: Helper = Helper {
    id: 106,
    name: "strtoul",
    args: &[Arg::MemRead, Arg::Len, Arg::Any, Arg::BytesOut(8)],
    ret: Ret::Integer,
    cost: 64,
    frame: Frame::Keeps,
    kinds: &[],
    body: strtoul,
};

/// The byte at an offset of a text.
fn byte(run: &Run<'_>, at: Place, addr: u64, offset: u64) -> Result<u8, TrapKind> {
    let addr = i64::try_from(addr.saturating_add(offset)).unwrap_or(i64::MAX);
    let value = run.world.cage.load(addr, Size::B).map_err(|fault| at.fault(fault))?;
    Ok(value.to_le_bytes()[0])
}

fn strncmp(run: &mut Run<'_>, [first, len, second, ..]: [u64; 5]) -> Result<u64, TrapKind> {
    place(182, 1).some_memory(run, first, len, Access::Read)?;
    for offset in 0..len {
        run.work(1)?;
        let (a, b) = (byte(run, place(182, 1), first, offset)?, byte(run, place(182, 3), second, offset)?);
        if a != b {
            return Ok(if a < b { u64::MAX } else { 1 });
        }
        if a == 0 {
            break;
        }
    }
    Ok(0)
}

/// `long bpf_strncmp(s1, s1_sz, s2)`: -1, 0 or 1. Bytes compare as the unsigned numbers that they are.
pub(super) static STRNCMP: Helper = Helper {
    id: 182,
    name: "strncmp",
    args: &[Arg::MemRead, Arg::Len, Arg::Text],
    ret: Ret::Integer,
    cost: 32,
    frame: Frame::Keeps,
    kinds: &[],
    body: strncmp,
};

/// The bytes of a text up to its NUL.
fn text(run: &mut Run<'_>, at: Place, addr: u64) -> Result<Vec<u8>, TrapKind> {
    let mut text = Vec::new();
    loop {
        run.work(1)?;
        match byte(run, at, addr, text.len() as u64)? {
            0 => return Ok(text),
            byte => text.push(byte),
        }
    }
}

/// Arguments of a format, and how many there are.
pub(super) type Words = ([u64; ARGS_MAX], usize);

/// The arguments of a format: words in guest memory.
pub(super) fn words(run: &Run<'_>, at: Place, addr: u64, len: u64) -> Result<Result<Words, Errno>, TrapKind> {
    if !len.is_multiple_of(8) || len > 8 * ARGS_MAX as u64 || len != 0 && addr == 0 {
        return Ok(Err(Errno::EINVAL));
    }
    let mut bytes = [[0; 8]; ARGS_MAX];
    let range = at.memory(run, addr, len, Access::Read)?;
    let count = range.len() as usize / 8;
    run.world.cage.read(range.addr().into(), bytes[..count].as_flattened_mut()).map_err(|fault| at.fault(fault))?;
    Ok(Ok((bytes.map(u64::from_ne_bytes), count)))
}

fn snprintf(run: &mut Run<'_>, [into, size, template, data, data_len]: [u64; 5]) -> Result<u64, TrapKind> {
    let out = place(165, 1).memory(run, into, size, Access::Write)?;
    let (args, count) = match words(run, place(165, 4), data, data_len)? {
        Ok(args) => args,
        Err(errno) => return Ok(errno.to_r0()),
    };
    let template = text(run, place(165, 3), template)?;
    let made = match format::format(&template, &args[..count], size, &*run.world.cage) {
        Ok(made) => made,
        Err(errno) => return Ok(errno.to_r0()),
    };
    run.work(made.len() as u64 / 8)?;
    if let Some(kept) = out.len().checked_sub(1) {
        let kept = &made[..made.len().min(kept as usize)];
        let ended = [kept, &[0]].concat();
        run.world.cage.write(out.addr().into(), &ended).map_err(|fault| place(165, 1).fault(fault))?;
    }
    Ok(made.len() as u64 + 1)
}

/// `long bpf_snprintf(str, str_size, fmt, data, data_len)`: the length of the whole text with its NUL, cut off or not.
pub(super) static SNPRINTF: Helper = Helper {
    id: 165,
    name: "snprintf",
    args: &[Arg::MemWrite, Arg::LenOrZero, Arg::Text, Arg::MemReadOrNull, Arg::LenOrZero],
    ret: Ret::Integer,
    cost: 1024,
    frame: Frame::Keeps,
    kinds: &[],
    body: snprintf,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_kernel_reads_them() {
        assert_eq!(signed(b" \t-42rest", 0), Ok(((-42i64).cast_unsigned(), 5)));
        assert_eq!(signed(b"0x1F", 0), Ok((31, 4)));
        assert_eq!(signed(b"0x", 0), Ok((0, 1)), "octal zero, and no digit behind it");
        assert_eq!(signed(b"0x", 16), Err(Errno::EINVAL));
        assert_eq!(signed(b"017", 0), Ok((15, 3)));
        assert_eq!(signed(b"09", 0), Ok((0, 1)));
        assert_eq!(signed(b"-9223372036854775808", 10), Ok((1 << 63, 20)));
        assert_eq!(signed(b"9223372036854775808", 10), Err(Errno::ERANGE));
        assert_eq!(unsigned(b"18446744073709551615", 10), Ok((u64::MAX, 20)));
        assert_eq!(unsigned(b"18446744073709551616", 10), Err(Errno::ERANGE));
        assert_eq!(unsigned(b"-1", 10), Err(Errno::EINVAL));
        for wrong in [(&b""[..], 10), (b"-", 10), (b"x", 10), (b"1", 2), (b"1", 32 | 10)] {
            assert_eq!(signed(wrong.0, wrong.1), Err(Errno::EINVAL), "{wrong:?}");
        }
    }
}
