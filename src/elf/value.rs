//! Values of variables as text: what `--const` and `--kconfig` say.

use super::btf::Kind;

/// In the encoding of an integer: it is signed, or a truth value.
const SIGNED: u8 = 1;
const BOOLEAN: u8 = 4;

/// Writes a value into the bytes of a variable: a number, `true` or `false`, `y`, `m` or `n` as the kernel's
/// configuration has them, text in quotes, or, where the variable is no number, two hexadecimal digits for each byte.
/// `None` where it does not fit.
pub(super) fn write(kind: Option<&Kind>, text: &str, into: &mut [u8]) -> Option<()> {
    if let Some(quoted) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        if quoted.len() >= into.len() {
            return None;
        }
        into.fill(0);
        into[..quoted.len()].copy_from_slice(quoted.as_bytes());
        return Some(());
    }
    if let Some(Kind::Array { .. } | Kind::Struct { .. } | Kind::Union { .. }) = kind {
        return write_digits(text, into);
    }
    let value = match (text, kind) {
        ("true", _) => 1,
        ("false", _) => 0,
        // A character of the configuration stands for itself.
        ("y" | "n" | "m", Some(Kind::Int { len: 1, encoding, .. })) if encoding & BOOLEAN == 0 => {
            i128::from(text.as_bytes()[0])
        }
        ("n", _) => 0,
        ("y", _) => 1,
        ("m", Some(Kind::Int { .. })) => 1,
        ("m", _) => 2,
        _ => match number(text) {
            Some(value) => value,
            None => return write_digits(text, into),
        },
    };
    let bits = u32::try_from(into.len()).ok().filter(|len| (1..=8).contains(len))? * 8;
    let top = 1i128 << bits;
    let (low, high) = match kind {
        Some(Kind::Int { encoding, .. }) if encoding & BOOLEAN != 0 => (0, 2),
        Some(Kind::Int { encoding, .. }) if encoding & SIGNED != 0 => (-top / 2, top / 2),
        Some(Kind::Int { .. }) => (0, top),
        Some(_) | None => (-top / 2, top),
    };
    if !(low..high).contains(&value) {
        return None;
    }
    into.copy_from_slice(&value.to_le_bytes()[..into.len()]);
    Some(())
}

fn number(text: &str) -> Option<i128> {
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let value = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => digits.parse::<u64>().ok(),
    };
    value.map(|value| if is_negative { -i128::from(value) } else { i128::from(value) })
}

fn write_digits(text: &str, into: &mut [u8]) -> Option<()> {
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    if digits.len() != into.len() * 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (byte, pair) in into.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_long_as_their_variables_and_in_their_range() {
        let int = |len, encoding| Kind::Int { len, bits: 8, encoding };
        let written = |kind: &Kind, text: &str, len: usize| {
            let mut bytes = vec![0xee; len];
            write(Some(kind), text, &mut bytes).map(|()| bytes)
        };
        assert_eq!(written(&int(4, 0), "258", 4), Some(vec![2, 1, 0, 0]));
        assert_eq!(written(&int(4, 0), "-1", 4), None);
        assert_eq!(written(&int(4, SIGNED), "-1", 4), Some(vec![0xff; 4]));
        assert_eq!(written(&int(1, 0), "256", 1), None);
        assert_eq!(written(&int(8, 0), "0xffffffffffffffff", 8), Some(vec![0xff; 8]));
        assert_eq!(written(&int(1, BOOLEAN), "true", 1), Some(vec![1]));
        assert_eq!(written(&int(1, BOOLEAN), "y", 1), Some(vec![1]));
        assert_eq!(written(&int(1, BOOLEAN), "2", 1), None);
        assert_eq!(written(&int(1, 0), "y", 1), Some(vec![b'y']));
        assert_eq!(
            written(&Kind::Enum { len: 4, is_signed: false, values: Vec::new() }, "m", 4),
            Some(vec![2, 0, 0, 0])
        );
        let array = Kind::Array { element: crate::elf::btf::TypeId(1), count: 3 };
        assert_eq!(written(&array, "0a0b0c", 3), Some(vec![10, 11, 12]));
        assert_eq!(written(&array, "0a0b", 3), None);
        assert_eq!(written(&array, "\"ab\"", 3), Some(vec![b'a', b'b', 0]));
        assert_eq!(written(&array, "\"abc\"", 3), None);
        assert_eq!(written(&array, "zzzzzz", 3), None);
        let mut bytes = [0; 4];
        assert_eq!(write(None, "0x01020304", &mut bytes), Some(()));
        assert_eq!(bytes, [4, 3, 2, 1], "a number where nothing is known");
        assert_eq!(write(None, "1", &mut [0; 9]), None);
    }
}
