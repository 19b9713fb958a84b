//! The internet checksum, RFC 1071.
//!
//! Invariant: knows bytes alone, no headers.

/// The sum of big-endian 16-bit words, an odd last byte padded with zero. Frames are far too short for an overflow.
#[must_use]
pub fn sum(bytes: &[u8]) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let words: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    words + rest.first().map_or(0, |byte| u32::from(*byte) << 8)
}

/// The checksum over bytes and what was summed before; 0 over bytes that hold their right checksum.
#[must_use]
pub fn of(before: u32, bytes: &[u8]) -> u16 {
    let mut sum = before + sum(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(of(0, &bytes), !0xddf2);
        assert_eq!(of(0, &[0x12]), !0x1200, "an odd byte is the high half of its word");
        assert_eq!(of(0x1_ffff, &[]), !1);
    }
}
