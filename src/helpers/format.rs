//! The format language of `bpf_trace_printk`, `bpf_trace_vprintk` and `bpf_snprintf`: `%[flags][width]conversion` with d i u x X (l, ll), c, s, p and p's kinds.
//!
//! What is refused and with which errno is the kernel's (`bpf_bprintf_prepare` of `kernel/bpf/helpers.c`), and so is the
//! text (`lib/vsprintf.c`), but for `%p`, which shows the guest address where the kernel shows a hash of its own.
//!
//! Invariant: bytes in, bytes out; guest memory is the caller's to read.

use crate::maps::Errno;

/// Bytes that all arguments of one line may take in the kernel's buffer for them.
const ARGS_LEN_MAX: usize = 512;

/// Arguments of one line at most; the kernel's `MAX_BPRINTF_VARARGS`.
pub(super) const ARGS_MAX: usize = 12;

/// Reads guest memory for `%s` and `%pI4`.
pub(super) trait Source {
    /// The string at a guest address without its NUL, at most `len_max` bytes of it; `None` where it is not readable.
    fn string(&self, addr: u64, len_max: usize) -> Option<Vec<u8>>;
    /// Fills `into` from a guest address, or leaves it.
    fn bytes(&self, addr: u64, into: &mut [u8]);
}

/// The text that a format and its arguments make. An address that would begin behind `room` bytes is left out, as in the
/// kernel, so that not even its length counts.
///
/// # Errors
/// `EINVAL` for a format that the kernel refuses, `ENOSPC` for arguments that are too long together.
pub(super) fn format(format: &[u8], args: &[u64], room: u64, source: &dyn Source) -> Result<Vec<u8>, Errno> {
    let mut line = Line { text: Vec::new(), args, args_len: 0, room, source };
    let mut rest = format;
    while let Some((&byte, after)) = rest.split_first() {
        if byte.is_ascii_control() && !is_space(byte) {
            return Err(Errno::EINVAL);
        }
        rest = match (byte, after.first()) {
            (b'%', Some(b'%')) => {
                line.text.push(b'%');
                &after[1..]
            }
            (b'%', _) => line.conversion(after)?,
            (_, _) => {
                line.text.push(byte);
                after
            }
        };
    }
    Ok(line.text)
}

/// Flags and width of a conversion.
#[derive(Clone, Copy, Default)]
struct Field {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    width: usize,
}

/// Length of an integer argument.
#[derive(Clone, Copy)]
enum Long {
    No,
    Yes,
}

struct Line<'a> {
    text: Vec<u8>,
    args: &'a [u64],
    args_len: usize,
    room: u64,
    source: &'a dyn Source,
}

impl<'a> Line<'a> {
    /// Writes one conversion; returns what is behind it.
    fn conversion<'f>(&mut self, format: &'f [u8]) -> Result<&'f [u8], Errno> {
        let (&arg, others) = self.args.split_first().ok_or(Errno::EINVAL)?;
        self.args = others;
        let (field, rest) = field(format);
        match rest {
            [b'p', rest @ ..] => self.pointer(field, rest, arg),
            [b's', rest @ ..] => {
                self.string(field, rest, arg)?;
                Ok(rest)
            }
            [b'c', rest @ ..] => {
                self.take_room(1)?;
                self.pad(field, &[arg.to_le_bytes()[0]]);
                Ok(rest)
            }
            [b'l', b'l', rest @ ..] | [b'l', rest @ ..] => self.integer(field, Long::Yes, rest, arg),
            rest => self.integer(field, Long::No, rest, arg),
        }
    }

    /// Takes room in the kernel's buffer for arguments.
    fn take_room(&mut self, len: usize) -> Result<(), Errno> {
        self.args_len += len;
        if self.args_len > ARGS_LEN_MAX { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    fn take_aligned_room(&mut self, len: usize) -> Result<(), Errno> {
        self.args_len = self.args_len.next_multiple_of(4);
        self.take_room(len)
    }

    fn integer<'f>(&mut self, field: Field, long: Long, rest: &'f [u8], arg: u64) -> Result<&'f [u8], Errno> {
        let (&conversion, rest) = rest.split_first().ok_or(Errno::EINVAL)?;
        #[expect(clippy::cast_possible_truncation, reason = "a conversion without l takes the low half")]
        let (unsigned, signed) = match long {
            Long::Yes => (arg, arg.cast_signed()),
            Long::No => (u64::from(arg as u32), i64::from(arg as i32)),
        };
        let (negative, digits) = match conversion {
            b'd' | b'i' => (signed < 0, signed.unsigned_abs().to_string()),
            b'u' => (false, unsigned.to_string()),
            b'x' => (false, format!("{unsigned:x}")),
            b'X' => (false, format!("{unsigned:X}")),
            _ => return Err(Errno::EINVAL),
        };
        self.take_aligned_room(match long {
            Long::Yes => 8,
            Long::No => 4,
        })?;
        let sign = match (negative, conversion) {
            (true, _) => "-",
            (false, b'd' | b'i') if field.plus => "+",
            (false, b'd' | b'i') if field.space => " ",
            (false, _) => "",
        };
        self.number(field, sign, &digits);
        Ok(rest)
    }

    fn number(&mut self, field: Field, sign: &str, digits: &str) {
        let mut text = sign.to_owned();
        if field.zero && !field.left {
            let zeros = field.width.saturating_sub(sign.len() + digits.len());
            text.extend(std::iter::repeat_n('0', zeros));
        }
        text.push_str(digits);
        self.pad(field, text.as_bytes());
    }

    fn pad(&mut self, field: Field, text: &[u8]) {
        let spaces = field.width.saturating_sub(text.len());
        let (before, after) = if field.left { (0, spaces) } else { (spaces, 0) };
        self.text.extend(std::iter::repeat_n(b' ', before));
        self.text.extend_from_slice(text);
        self.text.extend(std::iter::repeat_n(b' ', after));
    }

    /// `%s`, `%ks`, `%us`: must end a word.
    fn string(&mut self, field: Field, rest: &[u8], addr: u64) -> Result<(), Errno> {
        if !ends_word(rest) {
            return Err(Errno::EINVAL);
        }
        let room = ARGS_LEN_MAX - self.args_len;
        let len_max = room.checked_sub(1).ok_or(Errno::ENOSPC)?;
        let text = self.source.string(addr, len_max).unwrap_or_default();
        self.take_room(text.len() + 1)?;
        self.pad(field, &text);
        Ok(())
    }

    fn pointer<'f>(&mut self, field: Field, rest: &'f [u8], arg: u64) -> Result<&'f [u8], Errno> {
        match rest {
            rest if ends_word(rest) => {
                self.take_aligned_room(8)?;
                self.address(field, arg);
                Ok(rest)
            }
            [b'k' | b'u', b's', rest @ ..] => {
                self.string(field, rest, arg)?;
                Ok(rest)
            }
            [b'K' | b'x', rest @ ..] => {
                self.take_aligned_room(8)?;
                self.address(field, arg);
                Ok(behind_word(rest))
            }
            // There are no symbols here; the kernel shows an address without one like this too.
            [b's' | b'S' | b'B', rest @ ..] => {
                self.take_aligned_room(8)?;
                self.pad(field, format!("{arg:#x}").as_bytes());
                Ok(behind_word(rest))
            }
            [kind @ (b'i' | b'I'), version @ (b'4' | b'6'), rest @ ..] => {
                let text = self.internet_address(*kind, *version, arg);
                self.take_room(text.len() + 1)?;
                if (self.text.len() as u64) < self.room {
                    self.text.extend_from_slice(text.as_bytes());
                }
                Ok(behind_word(rest))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn address(&mut self, field: Field, addr: u64) {
        let field = if field.width == 0 { Field { zero: true, width: 16, ..field } } else { field };
        self.number(field, "", &format!("{addr:x}"));
    }

    /// `i` is the form for sorting: leading zeros, no colons. `I` of version 6 is the compressed form only with a `c`,
    /// which `bpf_trace_printk` does not take.
    fn internet_address(&self, kind: u8, version: u8, addr: u64) -> String {
        let mut bytes = [0; 16];
        if version == b'4' {
            self.source.bytes(addr, &mut bytes[..4]);
            let [a, b, c, d, ..] = bytes;
            return match kind {
                b'i' => format!("{a:03}.{b:03}.{c:03}.{d:03}"),
                _ => format!("{a}.{b}.{c}.{d}"),
            };
        }
        self.source.bytes(addr, &mut bytes);
        let groups = bytes.as_chunks::<2>().0.iter().map(|[high, low]| format!("{high:02x}{low:02x}"));
        groups.collect::<Vec<_>>().join(if kind == b'i' { "" } else { ":" })
    }
}

/// Reads flags and width.
fn field(format: &[u8]) -> (Field, &[u8]) {
    let mut field = Field::default();
    let mut rest = format;
    while let [flag @ (b'0' | b'+' | b'-' | b' '), after @ ..] = rest {
        match flag {
            b'0' => field.zero = true,
            b'+' => field.plus = true,
            b'-' => field.left = true,
            _ => field.space = true,
        }
        rest = after;
    }
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        // The kernel keeps a width in 24 bits; a line is far shorter.
        field.width = (field.width * 10 + usize::from(digit - b'0')).min(WIDTH_MAX);
        rest = after;
    }
    (field, rest)
}

/// Most a width can be.
const WIDTH_MAX: usize = 1 << 16;

fn ends_word(rest: &[u8]) -> bool {
    rest.first().is_none_or(|byte| is_space(*byte) || is_punctuation(*byte))
}

/// The kernel's printer passes over all letters and digits behind a kind of pointer.
fn behind_word(rest: &[u8]) -> &[u8] {
    let in_word = |byte: &u8| byte.is_ascii_alphanumeric() || (0xc0..).contains(byte) && !is_punctuation(*byte);
    let end = rest.iter().position(|byte| !in_word(byte)).unwrap_or(rest.len());
    &rest[end..]
}

/// `isspace` of the kernel, whose characters are Latin-1.
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ' | 0xa0)
}

/// `ispunct` of the kernel.
fn is_punctuation(byte: u8) -> bool {
    byte.is_ascii_punctuation() || matches!(byte, 0xa1..=0xbf | 0xd7 | 0xf7)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Memory;

    impl Source for Memory {
        fn string(&self, addr: u64, len_max: usize) -> Option<Vec<u8>> {
            (addr == 7).then(|| b"eth0"[..len_max.min(4)].to_vec())
        }

        fn bytes(&self, addr: u64, into: &mut [u8]) {
            if addr == 7 {
                into.copy_from_slice(&[10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..into.len()]);
            }
        }
    }

    fn text(text: &str, args: [u64; 3]) -> Result<String, Errno> {
        format(text.as_bytes(), &args, 1024, &Memory).map(|bytes| String::from_utf8(bytes).expect("ASCII"))
    }

    #[test]
    fn integers_are_written_as_the_kernel_writes_them() {
        let minus = u64::MAX;
        assert_eq!(text("%d %u %x\n", [minus, minus, 255]).as_deref(), Ok("-1 4294967295 ff\n"));
        assert_eq!(text("%lld %llu %lx", [minus, minus, 255]).as_deref(), Ok("-1 18446744073709551615 ff"));
        assert_eq!(text("[%5d] [%-5d] [%05d]", [42, 42, minus]).as_deref(), Ok("[   42] [42   ] [-0001]"));
        assert_eq!(text("%+d % i %%", [1, 2, 3]).as_deref(), Ok("+1  2 %"));
        assert_eq!(text("\u{e9}%d", [1, 2, 3]).as_deref(), Ok("\u{e9}1"));
    }

    #[test]
    fn pointers_strings_and_addresses_are_read_from_guest_memory() {
        assert_eq!(text("%s|%6s|%s", [7, 7, 0]).as_deref(), Ok("eth0|  eth0|"));
        assert_eq!(text("%pI4 %pi4 %p", [7, 7, 0x1000]).as_deref(), Ok("10.0.0.1 010.000.000.001 0000000000001000"));
        assert_eq!(text("%20p|%-20p", [0xff, 0xff, 0]).as_deref(), Ok("                  ff|ff                  "));
        assert_eq!(text("%pI4h %ps", [7, 0x1f, 0]).as_deref(), Ok("10.0.0.1 0x1f"));
        assert_eq!(text("%pI6", [7, 0, 0]).as_deref(), Ok("0a00:0001:0000:0000:0000:0000:0000:0001"));
    }

    #[test]
    fn formats_that_the_kernel_refuses_are_invalid() {
        for bad in ["%", "%q", "%.5d", "%#x", "%pZ", "%d%d%d%d", "%lls", "%sx", "\x01", "%h", "%5%", "%s\u{e9}"] {
            assert_eq!(text(bad, [7; 3]), Err(Errno::EINVAL), "{bad:?}");
        }
    }
}
