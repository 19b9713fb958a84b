//! Programs that use maps, in the kernel and here: what helpers answer, and what a reader gets.

use std::sync::Arc;

use kumite::maps::{Map, MapDef, MapKind};
use kumite::verdict::ProgramKind;
use kumite::vm::{Loaded, Mode};

use crate::kernel::{self, KernelMap, KernelProgram, KernelRing, TestInput};
use crate::random::Random;
use crate::stage::{Stage, slots};

const OPERATIONS: u32 = 10_000;
const NO_PREALLOC: u32 = 1;

/// The same program, on a map of the kernel and on one of ours.
pub(crate) struct Both {
    kernel: KernelProgram,
    pub(crate) stage: Stage,
    ours: Arc<Loaded>,
    pub(crate) map: Arc<dyn Map>,
}

impl Both {
    /// `text` refers to the map as `map_by_idx(0)`.
    pub(crate) fn load(text: &str, def: &MapDef, fd: i32) -> Self {
        let slots = slots(text);
        let mut of_kernel = slots.clone();
        for slot in of_kernel.iter_mut().filter(|slot| slot[0] == 0x18 && slot[1] >> 4 == 5) {
            slot[1] = 0x10 | slot[1] & 0xf;
            slot[4..].copy_from_slice(&fd.to_le_bytes());
        }
        let kernel = KernelProgram::load(KernelProgram::XDP, 0, &of_kernel, "GPL");
        let kernel = kernel.unwrap_or_else(|refused| panic!("{}: {}", refused.errno, refused.log));
        let stage = Stage::new();
        let (id, map) = stage.map(def);
        let ours = stage.load("test", ProgramKind::Xdp, slots, &[(id, Arc::clone(&map))]);
        Self { kernel, stage, ours, map }
    }

    /// Runs once here and once in the kernel.
    pub(crate) fn compare(&self, mode: Mode, frame: &[u8], about: &dyn std::fmt::Debug) -> u32 {
        let theirs = self.kernel.test_run(&TestInput { packet: frame, ctx: &[], repeat: 1 }).expect("runs");
        let ours = self.stage.run_frame(mode, &self.ours, frame);
        assert_eq!(ours.trap, None, "{mode} {about:?}");
        assert_eq!(ours.r0 & 0xffff_ffff, u64::from(theirs.retval), "{mode} {about:?}");
        theirs.retval
    }
}

fn def(kind: MapKind, key_len: u32, value_len: u32, max_entries: u32, flags: u32) -> MapDef {
    MapDef { name: "m".to_owned(), kind, key_len, value_len, max_entries, flags, ..MapDef::default() }
}

#[test]
fn helpers_on_elements_answer_as_the_kernels() {
    if !kernel::available() {
        return;
    }
    kernel::stay_on_processor_0();
    // The frame: an operation, flags, sixteen bytes of key, sixteen of value.
    let text = "r1 = r1
        r2 = 0\nr3 = r10\nr3 += -64\nr4 = 40\ncall 189\nif r0 != 0 goto out
        r6 = map_by_idx(0)
        r7 = *(u32 *)(r10 - 64)\nr4 = *(u32 *)(r10 - 60)
        r1 = r6\nr2 = r10\nr2 += -56\nr3 = r10\nr3 += -40
        if r7 != 0 goto update
        call 1
        if r0 == 0 goto out
        r0 = *(u32 *)(r0 + 0)\nexit
        update: if r7 != 1 goto delete
        call 2\nexit
        delete: call 3\nexit
        out: r0 = -1\nexit";
    for (kind, key_len, max_entries, flags) in [
        (MapKind::ARRAY, 4, 20, 0),
        (MapKind::PERCPU_ARRAY, 4, 20, 0),
        (MapKind::HASH, 4, 12, 0),
        (MapKind::HASH, 16, 12, NO_PREALLOC),
        (MapKind::PERCPU_HASH, 8, 12, 0),
        (MapKind::LRU_HASH, 4, 4096, 0),
        (MapKind::LRU_PERCPU_HASH, 4, 4096, 0),
        (MapKind::LPM_TRIE, 8, 12, NO_PREALLOC),
    ] {
        let def = def(kind, key_len, 16, max_entries, flags);
        let theirs = KernelMap::create(kind.0, key_len, 16, max_entries, flags).expect("a good definition");
        let both = Both::load(text, &def, theirs.fd());
        let mut random = Random::new(u64::from(kind.0) + 61);
        for operation in 0..OPERATIONS {
            let kind_of = random.below(3);
            let flags = random.pick(&[0, 0, 0, 1, 2, 3]);
            let mut frame = [kind_of, flags].map(u32::to_le_bytes).as_flattened().to_vec();
            if kind == MapKind::LPM_TRIE {
                frame.extend(random.below(34).to_ne_bytes());
                frame.extend(
                    [random.below(4), random.below(4), 0].map(|number| (number << 30).to_be_bytes()).as_flattened(),
                );
            } else {
                frame.extend(random.below(22).to_ne_bytes());
                frame.extend([0; 12]);
            }
            frame.extend(random.bytes(16));
            let mode = random.pick(&Mode::ALL);
            both.compare(mode, &frame, &(kind, operation, kind_of, flags));
        }
        let mut key = None;
        while let Ok(next) = both.map.next_key(key.as_deref()) {
            let (ours, theirs) = (both.map.host_lookup(&next).expect("there"), theirs.lookup(&next).expect("there"));
            assert_eq!(ours[..16], theirs[..16], "{kind} {next:?}");
            key = Some(next);
        }
    }
}

#[test]
fn ring_buffers_answer_and_deliver_as_the_kernels() {
    if !kernel::available() {
        return;
    }
    // The frame: an operation, a number, bytes to send.
    let text = "r6 = r1
        r2 = 0\nr3 = r10\nr3 += -240\nr4 = 240\ncall 189\nif r0 != 0 goto out
        r7 = *(u32 *)(r10 - 240)\nr8 = *(u32 *)(r10 - 236)
        r1 = map_by_idx(0)
        if r7 != 0 goto query
        if r8 > 232 goto out
        r2 = r10\nr2 += -232\nr3 = r8\nr4 = *(u32 *)(r10 - 8)\nr4 &= 7\ncall 130\nexit
        query: if r7 != 1 goto small
        r2 = r8\ncall 134\nexit
        small: if r7 != 2 goto large
        r2 = 20\ngoto reserve_small
        large: r2 = 1000\nr3 = 0\ncall 131\nif r0 == 0 goto out\ngoto write
        reserve_small: r3 = 0\ncall 131\nif r0 == 0 goto out
        write: r1 = *(u64 *)(r10 - 232)\n*(u64 *)(r0 + 0) = r1\n*(u64 *)(r0 + 8) = r1\n*(u32 *)(r0 + 16) = r1
        r1 = r0\nr2 = 0
        if r8 & 1 goto discard
        call 132\nr0 = 0\nexit
        discard: call 133\nr0 = 1\nexit
        out: r0 = -1\nexit";
    let ring = KernelRing::create(4096).expect("a ring buffer");
    let def = def(MapKind::RING_BUFFER, 0, 0, 4096, 0);
    let both = Both::load(text, &def, ring.fd());
    let mut random = Random::new(71);
    let (mut delivered, mut refused) = (0, 0);
    for operation in 0..2 * OPERATIONS {
        if random.below(8) == 0 {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            both.map.as_ring_buffer().expect("it is one").read(|record| ours.push(record.to_vec()));
            ring.read(|record| theirs.push(record.to_vec()));
            // Of a large record only the head was written; what lies behind it is what the ring held before.
            assert_eq!(ours.len(), theirs.len(), "operation {operation}");
            for (ours, theirs) in ours.iter().zip(&theirs) {
                let written = if theirs.len() == 1000 { 20 } else { theirs.len() };
                assert_eq!(ours.len(), theirs.len(), "operation {operation}");
                assert_eq!(ours[..written], theirs[..written], "operation {operation}");
            }
            delivered += ours.len();
        }
        let kind_of = random.below(4);
        let number = match kind_of {
            0 => random.below(233),
            1 => random.below(5),
            _ => random.below(2),
        };
        let mut frame = [kind_of, number].map(u32::to_le_bytes).as_flattened().to_vec();
        frame.extend(random.bytes(232));
        // Flags of an output: mostly known ones.
        frame[232] = random.pick(&[0, 1, 2, 3, 0, 4]);
        let mode = random.pick(&Mode::ALL);
        let answer = both.compare(mode, &frame, &(operation, kind_of, number));
        refused += u32::from(kind_of != 1 && answer.cast_signed() < 0);
    }
    assert!(delivered > 1000 && refused > 1000, "{delivered} records, {refused} refusals");
}

#[test]
fn values_are_pushed_popped_and_peeked_at_as_in_the_kernel() {
    if !kernel::available() {
        return;
    }
    kernel::stay_on_processor_0();
    // The frame: an operation, flags, twelve bytes of value. The answer is added to the value's first word.
    let text = |pops: bool| {
        let pop = if pops { "call 88\ngoto sum" } else { "r0 = 7\nexit" };
        format!(
            "r2 = 0\nr3 = r10\nr3 += -24\nr4 = 20\ncall 189\nif r0 != 0 goto out
            r1 = map_by_idx(0)\nr2 = r10\nr2 += -16
            r7 = *(u32 *)(r10 - 24)\nr3 = *(u32 *)(r10 - 20)
            if r7 == 1 goto pop
            if r7 == 2 goto peek
            call 87\nexit
            peek: call 89\ngoto sum
            pop: {pop}
            sum: r1 = *(u32 *)(r10 - 16)\nr1 <<= 8\nr0 += r1\nexit
            out: r0 = -1\nexit"
        )
    };
    for (kind, max_entries) in [(MapKind::QUEUE, 7), (MapKind::STACK, 7), (MapKind::BLOOM_FILTER, 10_000)] {
        let def = def(kind, 0, 12, max_entries, 0);
        let theirs = KernelMap::of(&def, None).expect("a good definition");
        let both = Both::load(&text(kind != MapKind::BLOOM_FILTER), &def, theirs.fd());
        let mut random = Random::new(u64::from(kind.0) + 5);
        for operation in 0..OPERATIONS {
            let [kind_of, flags] = [random.below(3), random.pick(&[0, 0, 0, 2, 1, 4])];
            let mut frame = [kind_of, flags].map(u32::to_ne_bytes).as_flattened().to_vec();
            // Few values in a large filter: none is mistaken for another.
            let bound = if kind == MapKind::BLOOM_FILTER { 40 } else { 1 << 20 };
            frame.extend(random.below(bound).to_ne_bytes());
            frame.extend([0; 8]);
            let mode = random.pick(&Mode::ALL);
            both.compare(mode, &frame, &(kind, operation, kind_of, flags));
        }
    }
}
