//! Keys and values of maps as people write them.
//!
//! ```text
//! hex 0a 00 00 01      bytes in hexadecimal, together or apart
//! 10 0 0 1             several numbers: a byte each
//! 3                    one number: as wide as the key or value, little-endian
//! 10.0.0.1             4 bytes; fd00::1 16 bytes; 02:00:00:00:00:01 6 bytes
//! 10.0.0.0/8           key of a longest-prefix map: the prefix length, 4 bytes little-endian, then the address
//! 53u16 53be16 7u8     a number of 8, 16, 32 or 64 bits, little-endian (u) or big-endian (be)
//! ```
//! Several words stand behind each other: `10.0.0.1 53be16 17u8 0u8`.
//!
//! Invariant: what is read has exactly the bytes that the map wants.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::CliError;
use super::table::counted;
use crate::flow::MacAddr;
use crate::report::from_hex;

/// The bytes that the words mean, for a field of `len` bytes that errors call `place`.
pub(super) fn parse(place: &str, words: &[String], len: usize) -> Result<Vec<u8>, CliError> {
    let wrong = |what: String| CliError::usage(format!("{place} {:?}: {what}", words.join(" ")));
    let bytes = match words {
        [] => return Err(wrong("nothing stands here; write bytes such as hex 0a 00 00 01".to_owned())),
        [hex, digits @ ..] if hex == "hex" => from_hex(&digits.concat()),
        [word] if is_number(word) => {
            return number(word, len)
                .ok_or_else(|| wrong(format!("no number of {len} bytes; write a smaller one, or hex and all bytes")));
        }
        words => words.iter().map(|word| typed(word)).collect::<Option<Vec<_>>>().map(|parts| parts.concat()),
    };
    let bytes = bytes.ok_or_else(|| {
        wrong("not bytes; write hex 0a 00 00 01, numbers, addresses, or numbers with a width such as 53be16".to_owned())
    })?;
    if bytes.len() != len {
        return Err(wrong(format!("{} where the map has {len}; write all {len}", counted(bytes.len() as u64, "byte"))));
    }
    Ok(bytes)
}

/// Whether the word is one number, perhaps too large a one.
fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix('-').unwrap_or(word);
    plain(word).is_some() || (!digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
}

/// A number as people write it: decimal, or hexadecimal behind 0x; negative ones in two's complement.
fn plain(word: &str) -> Option<u64> {
    if let Some(digits) = word.strip_prefix("0x") {
        return all_hexadecimal(digits).then(|| u64::from_str_radix(digits, 16).ok())?;
    }
    word.parse::<u64>().ok().or_else(|| word.parse::<i64>().ok().map(i64::cast_unsigned))
}

/// Whether nothing else is in it: the standard parsers take a sign too.
fn all_hexadecimal(digits: &str) -> bool {
    digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn number(word: &str, len: usize) -> Option<Vec<u8>> {
    let value = plain(word)?;
    let mut bytes = value.to_le_bytes().to_vec();
    let filler = if word.starts_with('-') { 0xff } else { 0 };
    let sign_fits = filler == 0 || bytes.get(len.wrapping_sub(1)).is_none_or(|byte| *byte >= 0x80);
    if !sign_fits || bytes.iter().skip(len).any(|byte| *byte != filler) {
        return None;
    }
    bytes.resize(len, filler);
    Some(bytes)
}

fn typed(word: &str) -> Option<Vec<u8>> {
    if let Some(value) = plain(word) {
        return u8::try_from(value).ok().map(|byte| vec![byte]);
    }
    if let Some(bytes) = sized(word) {
        return Some(bytes);
    }
    if let Ok(address) = word.parse::<Ipv4Addr>() {
        return Some(address.octets().to_vec());
    }
    if let Some((address, prefix)) = word.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse::<u32>().ok().filter(|prefix| *prefix <= width)?;
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        return Some([prefix.to_le_bytes().to_vec(), octets].concat());
    }
    if let Ok(address) = word.parse::<MacAddr>() {
        return Some(address.0.to_vec());
    }
    word.parse::<Ipv6Addr>().ok().map(|address| address.octets().to_vec())
}

/// A number with its width: `53u16`, `53be16`.
fn sized(word: &str) -> Option<Vec<u8>> {
    let (digits, big, width) = match word.split_once("be") {
        Some((digits, width)) => (digits, true, width),
        None => {
            let (digits, width) = word.split_once('u')?;
            (digits, false, width)
        }
    };
    let len = match width {
        "8" => 1,
        "16" => 2,
        "32" => 4,
        "64" => 8,
        _ => return None,
    };
    let mut bytes = number(digits, len)?;
    if big {
        bytes.reverse();
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, len: usize) -> Result<Vec<u8>, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        parse("key", &words, len).map_err(|error| error.text)
    }

    #[test]
    fn every_way_to_write_bytes_is_read() {
        for (text, bytes) in [
            ("hex 0a 00 00 01", &[10, 0, 0, 1][..]),
            ("hex 0a000001", &[10, 0, 0, 1]),
            ("10 0 0x0 1", &[10, 0, 0, 1]),
            ("3", &[3, 0, 0, 0]),
            ("0x102", &[2, 1, 0, 0]),
            ("-1", &[255, 255, 255, 255]),
            ("10.0.0.1", &[10, 0, 0, 1]),
            ("10.0.0.0/8", &[8, 0, 0, 0, 10, 0, 0, 0]),
            ("02:00:00:00:00:ab", &[2, 0, 0, 0, 0, 0xab]),
            ("fd00::1", &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            ("10.0.0.1 53be16 17u8 0", &[10, 0, 0, 1, 0, 53, 17, 0]),
            ("258u16 258be16", &[2, 1, 1, 2]),
        ] {
            assert_eq!(read(text, bytes.len()).as_deref(), Ok(bytes), "{text}");
        }
        assert_eq!(read("3", 16).expect("wide").len(), 16);
        assert_eq!(read("-2", 16).expect("wide")[..9], [254, 255, 255, 255, 255, 255, 255, 255, 255]);
    }

    #[test]
    fn what_is_no_key_is_refused_with_the_forms() {
        assert_eq!(read("", 4), Err("key \"\": nothing stands here; write bytes such as hex 0a 00 00 01".to_owned()));
        assert_eq!(read("1 2", 4), Err("key \"1 2\": 2 bytes where the map has 4; write all 4".to_owned()));
        for text in
            ["hex 0", "hex zz", "1 300", "ten", "3x", "10.0.0.0/33", "1u7 1", "99999u16 1", "02:00:00:00:00:0 1"]
        {
            let error = read(text, 4).expect_err("no bytes");
            let forms = "write hex 0a 00 00 01, numbers, addresses, or numbers with a width such as 53be16";
            assert_eq!(error, format!("key {text:?}: not bytes; {forms}"));
        }
        for text in ["4294967296", "99999999999999999999999", "-2147483649000", "-2147483649"] {
            let error = read(text, 4).expect_err("too wide");
            assert_eq!(error, format!("key {text:?}: no number of 4 bytes; write a smaller one, or hex and all bytes"));
        }
    }
}
