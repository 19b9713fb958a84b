//! Updates that were compiled inline, beside the helper.

use super::*;
use crate::isa::Size;
use crate::maps::Errno;
use crate::run::CallSite;

/// Instructions that write `bytes` to the frame from `r10 - at` on, in pieces of `piece` bytes and then smaller ones.
fn to_frame(bytes: &[u8], at: usize, piece: usize) -> String {
    let mut text = String::new();
    let mut start = 0;
    while start < bytes.len() {
        let sizes = [Size::D, Size::W, Size::H, Size::B];
        let fits = |size: &&Size| size.len() as usize <= piece.min(bytes.len() - start);
        let len = sizes.iter().find(fits).expect("a byte fits").len() as usize;
        let mut wide = [0; 8];
        wide[..len].copy_from_slice(&bytes[start..start + len]);
        let (value, bits) = (i64::from_le_bytes(wide), len * 8);
        text += &format!("r3 = {value} ll\n*(u{bits} *)(r10 - {}) = r3\n", at - start);
        start += len;
    }
    text
}

fn update(index: u32, value: &[u8], piece: usize) -> String {
    let (key, value) = (to_frame(&index.to_le_bytes(), 8, 4), to_frame(value, 128, piece));
    format!("{key}{value}r2 = r10\nr2 += -8\nr3 = r10\nr3 += -128\nr1 = map_by_idx(0)\nr4 = 0\ncall 2\nexit")
}

#[test]
fn updates_of_arrays_put_what_the_helper_puts() {
    for value_len in [1, 2, 3, 4, 8, 12, 16, 20, 24, 64, 72] {
        for (index, piece) in [0, 3, 4, u32::MAX].into_iter().flat_map(|index| [(index, 8), (index, 4), (index, 1)]) {
            let world = world();
            let maps = vec![map(&world, MapKind::ARRAY, value_len, 4)];
            let value: Vec<u8> = (0..value_len).map(|byte| u8::try_from(byte + 1).expect("short")).collect();
            let program = Loaded::new(link(&world, "main", &update(index, &value, piece), &maps));
            let place = Place::new(&world);
            for mode in [Mode::Fast, Mode::Instrumented, Mode::Verify] {
                (0..4u32).for_each(|index| {
                    let cleared = maps[0].1.host_update(&index.to_le_bytes(), &vec![0; value_len as usize], 0);
                    cleared.expect("it is there");
                });
                let outcome = program.run(mode, &mut place.new_run(FUEL_DEFAULT));
                let expected = if index < 4 { 0 } else { Errno::E2BIG.to_r0() };
                assert_eq!(
                    (outcome.r0, outcome.trap.is_none()),
                    (expected, true),
                    "{mode} {value_len} {index} {piece}"
                );
                for other in 0..4u32 {
                    let now = maps[0].1.host_lookup(&other.to_le_bytes()).expect("it is there");
                    let expected = if other == index { value.clone() } else { vec![0; value_len as usize] };
                    assert_eq!(now, expected, "{mode} {value_len} {index} {piece}: element {other}");
                }
            }
        }
    }
}

#[test]
fn an_update_of_a_short_value_is_no_call_until_the_array_is_frozen() {
    let world = world();
    let maps = vec![map(&world, MapKind::ARRAY, 8, 4)];
    let program = Loaded::new(link(&world, "main", &update(2, &[7; 8], 8), &maps));
    let place = Place::new(&world);
    let never = CallSite(u64::MAX);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut run = place.new_run(FUEL_DEFAULT);
        run.head.call_site = never;
        seen.push((program.run(Mode::Fast, &mut run).r0, run.head.call_site == never));
        maps[0].1.freeze().expect("arrays can be frozen");
    }
    assert_eq!(seen, [(0, true), (Errno::EPERM.to_r0(), false)]);
}

#[test]
fn what_the_program_reads_back_of_key_and_value_is_what_it_wrote() {
    let world = world();
    let maps = vec![map(&world, MapKind::ARRAY, 8, 4)];
    let place = Place::new(&world);
    for index in [1, 9] {
        let call = update(index, &[9, 8, 7, 6, 5, 4, 3, 2], 8);
        let call = call.strip_suffix("exit").expect("the last line");
        let text = format!("{call}r0 = *(u64 *)(r10 - 128)\nr1 = *(u32 *)(r10 - 8)\nr0 += r1\nexit");
        let program = Loaded::new(link(&world, "main", &text, &maps));
        let expected = u64::from_le_bytes([9, 8, 7, 6, 5, 4, 3, 2]) + u64::from(index);
        assert_eq!(place.agree(&program, FUEL_DEFAULT).r0, expected);
    }
}
