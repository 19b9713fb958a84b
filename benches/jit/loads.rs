//! What thousands of loads and unloads leave behind.

use std::time::Instant;

use kumite::elf::Object;
use kumite::vm::Instance;
use serde_json::{Value, json};

use crate::machine;

/// Loads before the first look, so that what is made once is there.
const WARM: u32 = 100;

/// Memory of the process, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Address space for generated code.
    pub(crate) code_size: u64,
    /// Of that, what has pages.
    pub(crate) code_resident: u64,
    /// Of the whole process.
    pub(crate) resident: u64,
}

/// What the loads showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loads {
    pub(crate) count: u32,
    pub(crate) before: Memory,
    pub(crate) after: Memory,
    /// Microseconds of one load and unload.
    each_us: f64,
}

/// Loads an object that often, and unloads it.
pub(crate) fn run(object: &Object, count: u32) -> Loads {
    let turn = || drop(Instance::load(machine::world(), object).expect("it was loaded before"));
    (0..WARM).for_each(|_| turn());
    let before = memory();
    let began = Instant::now();
    (0..count).for_each(|_| turn());
    let each_us = began.elapsed().as_secs_f64() * 1e6 / f64::from(count);
    Loads { count, before, after: memory(), each_us }
}

/// What the kernel says of us, after what waits to be freed is.
fn memory() -> Memory {
    for _ in 0..16 {
        crossbeam::epoch::pin().flush();
    }
    let mut memory = Memory { code_size: 0, code_resident: 0, resident: 0 };
    let text = std::fs::read_to_string("/proc/self/smaps").expect("every Linux tells of its own processes");
    let mut code = false;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        let Some(field) = first.strip_suffix(':') else {
            code = line.contains("memfd:kumite-code");
            continue;
        };
        let Some(kilobytes) = words.next().and_then(|word| word.parse::<u64>().ok()) else { continue };
        match field {
            "Size" if code => memory.code_size += kilobytes,
            "Rss" => {
                memory.resident += kilobytes;
                if code {
                    memory.code_resident += kilobytes;
                }
            }
            _ => {}
        }
    }
    memory
}

impl Loads {
    pub(crate) fn print(&self) {
        println!("\n{} loads and unloads, {:.0} microseconds each:", self.count, self.each_us);
        for (when, memory) in [("before", self.before), ("after", self.after)] {
            let Memory { code_size, code_resident, resident } = memory;
            println!(
                "{when:<8}code {code_size} KiB mapped, {code_resident} KiB resident; process {resident} KiB resident"
            );
        }
    }

    pub(crate) fn json(&self) -> Value {
        let memory = |memory: Memory| {
            json!({
                "code_size_kib": memory.code_size,
                "code_resident_kib": memory.code_resident,
                "resident_kib": memory.resident,
            })
        };
        json!({ "count": self.count, "each_us": self.each_us, "before": memory(self.before), "after": memory(self.after) })
    }
}
