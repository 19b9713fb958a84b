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
    /// The last line of the log that says more than the verifier's statistics.
    #[must_use]
    pub fn last_line(&self) -> &str {
        let telling =
            |line: &&str| !line.is_empty() && !line.starts_with("processed ") && !line.contains("verification time");
        self.log.lines().rev().find(telling).unwrap_or("no reason given")
    }
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
