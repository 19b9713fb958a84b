//! The same program in the kernel and here: helpers on random arguments, random formats.

use kumite::verdict::ProgramKind;
use kumite::vm::{Loaded, Mode};

use crate::kernel::{self, KernelProgram, TestInput};
use crate::random::Random;
use crate::stage::{Stage, slots};

/// A program in the kernel and here.
struct Both {
    kernel: KernelProgram,
    stage: Stage,
    ours: std::sync::Arc<Loaded>,
}

impl Both {
    fn load(text: &str) -> Self {
        let slots = slots(text);
        let kernel = KernelProgram::load(KernelProgram::XDP, 0, &slots, "GPL");
        let kernel = kernel.unwrap_or_else(|refused| panic!("{}: {}", refused.errno, refused.log));
        let stage = Stage::new();
        let ours = stage.load("test", ProgramKind::Xdp, slots, &[]);
        Self { kernel, stage, ours }
    }

    /// Runs on a frame in the kernel and in every mode; return value, metadata and frame must be the same.
    fn compare(&self, frame: &[u8], about: &dyn std::fmt::Debug) -> u32 {
        let theirs = self.kernel.test_run(&TestInput { packet: frame, ctx: &[], repeat: 1 }).expect("runs");
        for mode in Mode::ALL {
            let ours = self.stage.run_frame(mode, &self.ours, frame);
            assert_eq!(ours.trap, None, "{mode} {about:x?}");
            assert_eq!(ours.r0 & 0xffff_ffff, u64::from(theirs.retval), "{mode} {about:x?}: return value");
            assert!(ours.memory == theirs.packet, "{mode} {about:x?}: metadata and frame differ");
            assert_eq!(ours.findings, [], "{mode} {about:x?}");
        }
        theirs.retval
    }
}

/// Loads `len` bytes of the frame at `offset` to the stack at `to`, and leaves the program where that fails.
fn load_bytes(offset: u32, to: i32, len: u32) -> String {
    format!("r1 = r6\nr2 = {offset}\nr3 = r10\nr3 += {to}\nr4 = {len}\ncall 189\nif r0 != 0 goto out\n")
}

#[test]
fn moves_of_the_frames_bounds_are_the_kernels() {
    if !kernel::available() {
        return;
    }
    const OPERATIONS: usize = 5;
    let mut text = format!("r6 = r1\nr9 = 0\n{}", load_bytes(0, -40, 40));
    for operation in 0..OPERATIONS {
        let at = 40 - 8 * operation;
        text += &format!(
            "r7 = *(u32 *)(r10 - {at})
             r2 = *(u32 *)(r10 - {})
             r1 = r6
             if r7 != 0 goto meta_{operation}
             call 44
             goto next_{operation}
             meta_{operation}: if r7 != 1 goto tail_{operation}
             call 54
             goto next_{operation}
             tail_{operation}: call 65
             next_{operation}: r9 *= 31
             r9 += r0\n",
            at - 4
        );
    }
    text += "r1 = r6\ncall 188\nr9 *= 31\nr9 += r0\nr0 = r9\nexit\nout: r0 = 0\nexit";
    let both = Both::load(&text);
    let mut random = Random::new(1);
    let mut worked = 0;
    for _ in 0..3000 {
        let len = 40 + random.below(3000) as usize;
        let mut frame = random.bytes(len);
        let mut operations = Vec::new();
        for operation in 0..OPERATIONS {
            let kind = random.below(3);
            let reach = random.pick(&[4_u32, 20, 300, 4000]);
            let near = random.below(2 * reach).wrapping_sub(reach);
            let arg = match random.below(8) {
                0 => u32::try_from(random.next() >> 32).expect("32 bits"),
                1..=4 if kind == 1 => near & !3,
                _ => near,
            };
            frame[8 * operation..][..8].copy_from_slice([kind, arg].map(u32::to_le_bytes).as_flattened());
            operations.push((kind, arg.cast_signed()));
        }
        worked += u32::from(both.compare(&frame, &operations) != 0);
    }
    assert!(worked > 1000, "the operations were tried");
}

#[test]
fn checksums_of_differences_are_the_kernels() {
    if !kernel::available() {
        return;
    }
    let text = format!(
        "r6 = r1\n{}{}{}
         r1 = r10\nr1 += -64\nr2 = *(u32 *)(r10 - 144)\nr3 = r10\nr3 += -128\nr4 = *(u32 *)(r10 - 140)
         r5 = *(u32 *)(r10 - 136)
         if r2 > 64 goto out\nif r4 > 64 goto out\ncall 28\nexit\nout: r0 = -1\nexit",
        load_bytes(0, -144, 16),
        load_bytes(16, -64, 64),
        load_bytes(80, -128, 64)
    );
    let both = Both::load(&text);
    let mut random = Random::new(2);
    for _ in 0..5000 {
        let len = |random: &mut Random| if random.below(4) == 0 { 0 } else { random.below(65) };
        let seed = random.pick(&[0, u32::MAX, 0xffff, 0xffff_0000, 0x1234_5678]);
        let head = [len(&mut random), len(&mut random), seed, 0];
        let mut frame = head.map(u32::to_le_bytes).as_flattened().to_vec();
        // Runs of ones and zeros are where carries and the two zeros of one's complement show.
        let fill = random.pick(&[0, 0xff, 1]);
        frame.extend((0..128).map(|_| if random.below(2) == 0 { fill } else { random.next().to_le_bytes()[0] }));
        if random.below(4) == 0 {
            frame[16..].fill(fill);
        }
        both.compare(&frame, &head);
    }
}

#[test]
fn frame_bytes_by_offset_are_the_kernels() {
    if !kernel::available() {
        return;
    }
    let text = format!(
        "r6 = r1\n{}
         r7 = *(u32 *)(r10 - 16)\nr8 = *(u32 *)(r10 - 12)\nr9 = *(u32 *)(r10 - 8)
         *(u64 *)(r10 - 24) = 0\n*(u64 *)(r10 - 32) = 0\n*(u64 *)(r10 - 40) = 0\n*(u64 *)(r10 - 48) = 0
         r8 &= 31\nr8 += 1\nr1 = r6\nr2 = r7\nr3 = r10\nr3 += -48\nr4 = r8\ncall 189\nr7 = r0
         r1 = r6\nr2 = r9\nr3 = r10\nr3 += -48\nr4 = r8\ncall 190
         r7 *= 31\nr0 += r7\nexit\nout: r0 = -1\nexit",
        load_bytes(0, -16, 16)
    );
    let both = Both::load(&text);
    let mut random = Random::new(3);
    for _ in 0..3000 {
        let len = random.pick(&[20_usize, 64, 100, 3500]);
        let mut frame = random.bytes(len);
        let mut offset = |len: usize| match random.below(4) {
            0 => random.pick(&[0xffff, 0x1_0000, u32::MAX, 0xffff_fff0]),
            _ => random.below(u32::try_from(len).expect("short") + 4),
        };
        let head = [offset(len), offset(32), offset(len)];
        frame[..12].copy_from_slice(head.map(u32::to_le_bytes).as_flattened());
        both.compare(&frame, &(len, head));
    }
}

#[test]
fn formats_are_taken_refused_and_measured_as_in_the_kernel() {
    const FORMAT_LEN: usize = 32;
    // What the format's letters make of these must not depend on what lies at such an address.
    const ARGS: [u32; 3] = [1, 0, 65];
    if !kernel::available() {
        return;
    }
    let [a, b, c] = ARGS;
    let text = format!(
        "r6 = r1\n{}r1 = r10\nr1 += -32\nr2 = {FORMAT_LEN}\nr3 = {a}\nr4 = {b}\nr5 = {c}\ncall 6\nexit
         out: r0 = 0\nexit",
        load_bytes(0, -32, 32)
    );
    let both = Both::load(&text);
    let pieces: [&[u8]; 40] = [
        b"%",
        b"%",
        b"%d",
        b"%u",
        b"%x",
        b"%X",
        b"%i",
        b"%ld",
        b"%lld",
        b"%llu",
        b"%lx",
        b"%s",
        b"%c",
        b"%p",
        b"%pI4",
        b"%pi6",
        b"%px",
        b"%ps",
        b"%pks",
        b"%pus",
        b"l",
        b"d",
        b"s",
        b"p",
        b"I4",
        b"5",
        b"0",
        b"-",
        b"+",
        b" ",
        b"c",
        b"%%",
        b"\n",
        b"A",
        b".",
        b"#",
        b"\xc3\xa9",
        b"\xa0",
        b"\x7f",
        b"\x01",
    ];
    let mut random = Random::new(4);
    let mut taken = 0;
    for _ in 0..20_000 {
        let mut frame = Vec::new();
        for _ in 0..1 + random.below(8) {
            frame.extend_from_slice(random.pick(&pieces));
        }
        // Most formats end within the buffer; some have no end.
        if random.below(20) > 0 {
            frame.truncate(FORMAT_LEN - 1);
            frame.push(0);
        }
        frame.resize(FORMAT_LEN, if random.below(2) == 0 { 0 } else { b'x' });
        let answer = both.compare(&frame, &String::from_utf8_lossy(&frame));
        taken += u32::from(answer.cast_signed() > 0);
    }
    assert!(taken > 2000, "formats that are taken: {taken}");
}
