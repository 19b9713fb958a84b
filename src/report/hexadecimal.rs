//! Bytes as hexadecimal digits, two each.
//!
//! Invariant: `from_hex(to_hex(bytes))` gives the bytes back.

/// Lower-case digits of the bytes, without anything between.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// The bytes that the digits mean; white space, `:` and one leading `0x` are skipped. `None` where there is anything else,
/// or half a byte.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let text = text.strip_prefix("0x").unwrap_or(text);
    let kept = text.chars().filter(|digit| !digit.is_ascii_whitespace() && *digit != ':');
    let nibbles = kept.map(|digit| digit.to_digit(16).and_then(|nibble| u8::try_from(nibble).ok()));
    let nibbles = nibbles.collect::<Option<Vec<u8>>>()?;
    let (pairs, rest) = nibbles.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_their_digits() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        assert_eq!(from_hex("0x00 fF\n1a"), Some(vec![0, 0xff, 0x1a]));
        assert_eq!(from_hex("02:00:00"), Some(vec![2, 0, 0]));
        assert_eq!(from_hex(""), Some(vec![]));
        for text in ["0", "gg", "0x0x00", "-1", "0é"] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }
}
