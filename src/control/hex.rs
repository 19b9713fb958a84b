//! Bytes as hexadecimal digits: how keys and values travel in JSON.

use std::fmt::Write as _;

/// Two digits a byte, lower case.
#[must_use]
pub fn print(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(digits, "{byte:02x}").expect("writing to a string");
    }
    digits
}

/// The bytes, or `None` where a character is no digit or the digits do not pair.
#[must_use]
pub fn parse(digits: &str) -> Option<Vec<u8>> {
    let digit = |character: u8| char::from(character).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_their_digits() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(parse(&print(&bytes)), Some(bytes));
        assert_eq!(parse("0A"), Some(vec![10]));
        for wrong in ["0", "0g", "+1", "é"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
