//! The address of a machine instruction's memory operand.
//!
//! The processor reports which byte it could not touch; of an access across a page's end that is not the first byte. So
//! the operand is computed again from the registers.
//!
//! Source: Intel's Software Developer's Manual, volume 2, chapter 2. Invariant: reads the bytes that it is given only.

use super::registers::Registers;

/// Longest instruction of x86-64.
pub(super) const INSN_LEN_MAX: usize = 15;

/// The address of the memory operand of the instruction at the start of `code`, if it has one that is not relative to
/// the instruction.
pub(super) fn address(code: &[u8], registers: &Registers) -> Option<usize> {
    let mut bytes = code.iter().copied();
    let mut first = bytes.next()?;
    while matches!(first, 0x66 | 0xf0 | 0xf2 | 0xf3) {
        first = bytes.next()?;
    }
    // Bits 1 and 0 of `extend`: a fourth bit for the numbers of index and base.
    let mut extend = 0;
    match first {
        0xc5 => {
            bytes.nth(1)?;
        }
        0xc4 => {
            extend = (!bytes.next()? >> 5) & 3;
            bytes.nth(1)?;
        }
        _ => {
            if first & 0xf0 == 0x40 {
                extend = first & 3;
                first = bytes.next()?;
            }
            if first == 0x0f && matches!(bytes.next()?, 0x38 | 0x3a) {
                bytes.next()?;
            }
        }
    }
    let form = bytes.next()?;
    let (mode, place) = (form >> 6, form & 7);
    if mode == 3 || (mode == 0 && place == 5) {
        return None;
    }
    let register = |number: u8, extended: bool| registers.0[usize::from(number | u8::from(extended) << 3)];
    let mut address = 0u64;
    let mut absolute = false;
    if place == 4 {
        let scaled = bytes.next()?;
        let (base, index) = (scaled & 7, scaled >> 3 & 7);
        absolute = base == 5 && mode == 0;
        if !absolute {
            address = register(base, extend & 1 != 0);
        }
        if index != 4 || extend & 2 != 0 {
            address = address.wrapping_add(register(index, extend & 2 != 0) << (scaled >> 6));
        }
    } else {
        address = register(place, extend & 1 != 0);
    }
    let offset = match mode {
        1 => i64::from(bytes.next()?.cast_signed()),
        0 if !absolute => 0,
        _ => {
            let offset = [bytes.next()?, bytes.next()?, bytes.next()?, bytes.next()?];
            i64::from(i32::from_le_bytes(offset))
        }
    };
    usize::try_from(address.wrapping_add_signed(offset)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_found_whatever_the_prefixes() {
        let registers = Registers(std::array::from_fn(|number| 0x1000 * (number as u64 + 1)));
        let address = |code: &[u8]| address(code, &registers);
        assert_eq!(address(&[0x8b, 0x07]), Some(0x8000), "mov eax, [rdi]");
        assert_eq!(address(&[0x48, 0x8b, 0x47, 0xf8]), Some(0x7ff8), "mov rax, [rdi - 8]");
        assert_eq!(address(&[0x4a, 0x8b, 0x84, 0x06, 0, 1, 0, 0]), Some(0x10100), "mov rax, [rsi + r8 + 256]");
        assert_eq!(address(&[0x42, 0x0f, 0xb6, 0x04, 0x27]), Some(0x15000), "movzx eax, byte [rdi + r12]");
        assert_eq!(address(&[0x66, 0x41, 0x89, 0x04, 0x24]), Some(0xd000), "mov [r12], ax");
        assert_eq!(address(&[0xf0, 0x49, 0x0f, 0xc1, 0x4d, 0x00]), Some(0xe000), "lock xadd [r13], rcx");
        assert_eq!(address(&[0x0f, 0x38, 0xf0, 0x04, 0x8f]), Some(0x8000 + 0x2000 * 4), "movbe eax, [rdi + rcx * 4]");
        assert_eq!(address(&[0xc4, 0xc2, 0x79, 0xf7, 0x04, 0x24]), Some(0xd000), "shlx eax, [r12], eax");
        assert_eq!(address(&[0x48, 0x8b, 0x05, 0, 0, 0, 0]), None, "relative to the instruction");
        assert_eq!(address(&[0x48, 0x89, 0xc8]), None, "no memory operand");
        assert_eq!(address(&[0x48, 0x8b]), None, "cut off");
    }
}
