//! A program of the kernel.

use std::os::fd::{AsRawFd, OwnedFd};

use super::{Command, KernelBtf, bpf, owned_fd, pinned};
use crate::maps::Errno;

/// Bytes of verifier log that we keep.
const LOG_LEN: u32 = 1 << 20;
/// Bytes that a program may add to its packet.
const GROWTH_MAX: usize = 16 << 10;

/// A program of the kernel; it goes when this is dropped.
#[derive(Debug)]
pub struct KernelProgram {
    fd: OwnedFd,
}

/// The kernel refused a program.
#[derive(Debug)]
pub struct Refused {
    /// What bpf(2) answered.
    pub errno: Errno,
    /// What the verifier wrote.
    pub log: String,
}

impl Refused {
    /// What the verifier found, of its log: the last line that is neither statistics nor what it knows of registers, with
    /// the line before it where that one alone names the access, and the instruction that it stopped at.
    #[must_use]
    pub fn reason(&self) -> String {
        let lines: Vec<&str> = self.log.lines().filter(tells).collect();
        let Some((last, before)) = lines.split_last() else { return "no reason given".to_owned() };
        if insn_of(last).is_some() {
            return (*last).to_owned();
        }
        let insn = before.iter().rev().find_map(|line| insn_of(line));
        let place = insn.map(|insn| format!("insn {insn}: ")).unwrap_or_default();
        // As "R1 offset is outside of the packet" behind "invalid access to packet, off=0 size=1, R1(id=0,off=0,r=0)".
        let access = before.last().filter(|line| line.starts_with("invalid access to "));
        let access = access.map(|line| format!("{line}: ")).unwrap_or_default();
        format!("{place}{access}{last}")
    }
}

/// Whether a line of the verifier's log says more than its statistics, source lines and what it knows of registers.
fn tells(line: &&str) -> bool {
    let is_statistics = ["processed ", "verification time ", "stack depth ", "max_states_per_insn "];
    // "func#0 @0", "; int key = 0; @ prog.c:7", "3: R1=ctx() R10=fp0".
    let is_knowledge = |line: &str| {
        let after = line.trim_start_matches(|digit: char| digit.is_ascii_digit());
        line.starts_with([';', '-']) || after.len() < line.len() && after.starts_with(": R")
    };
    let is_progress = ["func#", "Live regs before", "from ", "mark_precise: "];
    let starts = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
    let is_empty = line.trim().is_empty();
    !(is_empty || starts(&is_statistics) || is_knowledge(line) || starts(&is_progress))
}

/// The slot of a line that shows an instruction: "3: (71) r0 = *(u8 *)(r1 +0)".
fn insn_of(line: &str) -> Option<usize> {
    let (slot, rest) = line.split_once(": (")?;
    let [high, low, b')'] = *rest.as_bytes().first_chunk()? else { return None };
    let is_opcode = high.is_ascii_hexdigit() && low.is_ascii_hexdigit();
    slot.parse().ok().filter(|_| is_opcode)
}

/// What a program is to run on.
#[derive(Debug, Default)]
pub struct TestInput<'a> {
    /// The packet, from the Ethernet header on.
    pub packet: &'a [u8],
    /// `struct xdp_md` or `struct __sk_buff`; empty for none.
    pub ctx: &'a [u8],
    /// How many times; the packet is not restored between them.
    pub repeat: u32,
}

/// What came of it.
#[derive(Debug)]
pub struct TestOutput {
    /// r0.
    pub retval: u32,
    /// The packet afterwards.
    pub packet: Vec<u8>,
    /// The context afterwards; empty where none was given.
    pub ctx: Vec<u8>,
    /// Mean time of a run in nanoseconds.
    pub mean_ns: u32,
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
}

/// Where a function begins, and its type (`struct bpf_func_info`).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FunctionInfo {
    /// Slot index.
    pub insn_off: u32,
    /// Number of its type.
    pub type_id: u32,
}

/// What a program may be loaded with.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions<'a> {
    /// `BPF_F_*` program flags.
    pub flags: u32,
    /// Its functions by ascending start; only with types.
    pub functions: &'a [FunctionInfo],
    /// The types that they name.
    pub types: Option<&'a KernelBtf>,
}

#[repr(C)]
#[derive(Default)]
struct RunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

impl KernelProgram {
    /// `BPF_PROG_TYPE_SOCKET_FILTER`.
    pub const SOCKET_FILTER: u32 = 1;
    /// `BPF_PROG_TYPE_SCHED_CLS`.
    pub const TC: u32 = 3;
    /// `BPF_PROG_TYPE_XDP`.
    pub const XDP: u32 = 6;
    /// `BPF_PROG_TYPE_FLOW_DISSECTOR`.
    pub const FLOW_DISSECTOR: u32 = 22;

    /// `BPF_F_XDP_HAS_FRAGS`: the program takes frames with fragments.
    pub const HAS_FRAGMENTS: u32 = 1 << 5;

    /// `BPF_PROG_LOAD`: `kind` is one of the constants above, `flags` are `BPF_F_*` program flags. Maps are named by
    /// descriptor (`lddw` with src 1, or src 2 for the value of entry 0).
    ///
    /// # Errors
    /// [`Refused`].
    pub fn load(kind: u32, flags: u32, slots: &[[u8; 8]], license: &str) -> Result<Self, Refused> {
        Self::load_with(kind, slots, license, &LoadOptions { flags, ..LoadOptions::default() })
    }

    /// The same with types of its functions, which callbacks need.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn load_with(kind: u32, slots: &[[u8; 8]], license: &str, options: &LoadOptions<'_>) -> Result<Self, Refused> {
        let refused = |errno| Refused { errno, log: String::new() };
        let license = std::ffi::CString::new(license).map_err(|_| refused(Errno::EINVAL))?;
        let count = |len: usize| u32::try_from(len).map_err(|_| refused(Errno::E2BIG));
        let mut attr = LoadAttr {
            prog_type: kind,
            insn_cnt: count(slots.len())?,
            insns: slots.as_ptr() as u64,
            license: license.as_ptr() as u64,
            prog_flags: options.flags,
            ..LoadAttr::default()
        };
        if let Some(types) = options.types {
            attr.prog_btf_fd = types.fd();
            attr.func_info_rec_size = count(size_of::<FunctionInfo>())?;
            attr.func_info = options.functions.as_ptr() as u64;
            attr.func_info_cnt = count(options.functions.len())?;
        }
        let errno = match bpf(Command::ProgramLoad, &mut attr) {
            Ok(answer) => return Ok(Self { fd: owned_fd(answer) }),
            Err(errno) => errno,
        };
        // Again for the reason: a log that is too short would turn a good program into a bad one, and hide the errno.
        let mut log = vec![0u8; LOG_LEN as usize];
        attr.log_level = 1;
        attr.log_size = LOG_LEN;
        attr.log_buf = log.as_mut_ptr() as u64;
        match bpf(Command::ProgramLoad, &mut attr) {
            Ok(answer) => Ok(Self { fd: owned_fd(answer) }),
            Err(_) => {
                let len = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
                Err(Refused { errno, log: String::from_utf8_lossy(&log[..len]).into_owned() })
            }
        }
    }

    /// A program that is pinned.
    ///
    /// # Errors
    /// The answer of bpf(2).
    pub fn open(path: &std::path::Path) -> Result<Self, Errno> {
        Ok(Self { fd: pinned(path)? })
    }

    /// Its descriptor, for program arrays.
    #[must_use]
    pub fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// `BPF_PROG_TEST_RUN`.
    ///
    /// # Errors
    /// The answer of bpf(2).
    pub fn test_run(&self, input: &TestInput<'_>) -> Result<TestOutput, Errno> {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a test's input");
        let pointer = |bytes: &[u8]| if bytes.is_empty() { 0 } else { bytes.as_ptr() as u64 };
        let mut packet = vec![0u8; input.packet.len() + GROWTH_MAX];
        let mut ctx = vec![0u8; input.ctx.len()];
        let mut attr = RunAttr {
            prog_fd: self.fd().cast_unsigned(),
            data_size_in: len(input.packet),
            data_size_out: len(&packet),
            data_in: pointer(input.packet),
            data_out: packet.as_mut_ptr() as u64,
            repeat: input.repeat,
            ctx_size_in: len(input.ctx),
            ctx_size_out: len(&ctx),
            ctx_in: pointer(input.ctx),
            ctx_out: if ctx.is_empty() { 0 } else { ctx.as_mut_ptr() as u64 },
            ..RunAttr::default()
        };
        bpf(Command::TestRun, &mut attr)?;
        packet.truncate(attr.data_size_out as usize);
        ctx.truncate(attr.ctx_size_out as usize);
        Ok(TestOutput { retval: attr.retval, packet, ctx, mean_ns: attr.duration })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(log: &str) -> String {
        Refused { errno: Errno::EACCES, log: log.to_owned() }.reason()
    }

    #[test]
    fn the_reason_is_the_line_that_tells_it_and_not_the_statistics_behind() {
        let statistics = "verification time 40 usec\nstack depth 8+0\nprocessed 2 insns (limit 1000000) \
                          max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n\n";
        let begin = "func#0 @0\n0: R1=ctx() R10=fp0\n; return *data; @ reads.c:3\n";
        let access = "invalid access to packet, off=0 size=1, R1(id=0,off=0,r=0)";
        for (log, told) in [
            (
                format!(
                    "{begin}1: (71) r0 = *(u8 *)(r1 +0)\n{access}\nR1 offset is outside of the packet\n{statistics}"
                ),
                format!("insn 1: {access}: R1 offset is outside of the packet"),
            ),
            (
                format!("{begin}7: (95) exit\n8: R0=scalar()\nR0 !read_ok\n{statistics}"),
                "insn 7: R0 !read_ok".to_owned(),
            ),
            (format!("unknown opcode ff\n{statistics}"), "unknown opcode ff".to_owned()),
            (
                format!("{begin}BPF program is too large. Processed 1000001 insn\n{statistics}"),
                "BPF program is too large. Processed 1000001 insn".to_owned(),
            ),
            (statistics.to_owned(), "no reason given".to_owned()),
            (String::new(), "no reason given".to_owned()),
        ] {
            assert_eq!(reason(&log), told, "{log}");
        }
    }
}
