//! The kernel's side of AF_XDP: a program on the interface that hands each frame to the socket of its queue.
//!
//! Source: `BPF_MAP_TYPE_XSKMAP` in `kernel/bpf/xskmap.c`: a frame whose queue has no socket goes where the flags of
//! `bpf_redirect_map` say, here to the machine's own stack.
//!
//! Invariant: attached by a link of ours, so that it vanishes with the process, however that ends.

use std::io;
use std::os::fd::OwnedFd;

use super::super::calls::{descriptor, raw, until_free};
use crate::isa::assemble;

const MAP_CREATE: i32 = 0;
const MAP_UPDATE: i32 = 2;
const MAP_DELETE: i32 = 3;
const PROGRAM_LOAD: i32 = 5;
const LINK_CREATE: i32 = 28;

const MAP_TYPE_XSK: u32 = 17;
const PROGRAM_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;

/// Attributes of a command as the kernel takes them: those that we do not name are zero.
#[repr(C, align(8))]
struct Attributes([u32; 32]);

impl Attributes {
    fn new(fields: &[(usize, u32)]) -> Self {
        let mut words = [0; 32];
        for (at, value) in fields {
            words[at / 4] = *value;
        }
        Self(words)
    }

    fn with_pointer<T: ?Sized>(mut self, at: usize, to: *const T) -> Self {
        let address = to.cast::<u8>().expose_provenance() as u64;
        for (word, bytes) in self.0[at / 4..].iter_mut().zip(address.to_ne_bytes().as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*bytes);
        }
        self
    }

    /// Calls bpf(2).
    fn call(&mut self, command: i32) -> io::Result<i32> {
        // SAFETY: the attributes are longer than those of our commands; pointers in them are to buffers of the callers that
        // outlive the call, as long as the fields beside them or the map's definition say.
        let answer = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), size_of::<Self>()) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(answer).unwrap_or(i32::MAX)) }
    }
}

fn bits(fd: &OwnedFd) -> u32 {
    raw(fd).cast_unsigned()
}

/// The program on the interface, and its map from queues to sockets.
#[derive(Debug)]
pub(super) struct Redirect {
    map: OwnedFd,
    _link: OwnedFd,
}

impl Redirect {
    /// Loads and attaches it. An error comes with the name of the step.
    pub(super) fn attach(interface: u32, flags: u32, queue_count: u32) -> Result<Self, (&'static str, io::Error)> {
        let at = |step| move |error| (step, error);
        let map = Attributes::new(&[(0, MAP_TYPE_XSK), (4, 4), (8, 4), (12, queue_count)]).call(MAP_CREATE);
        let map = map.and_then(descriptor).map_err(at("BPF_MAP_CREATE"))?;
        let text = format!(
            "r2 = *(u32 *)(r1 + 16)\n\
             r1 = map_by_fd({})\n\
             r3 = 2\n\
             call 51\n\
             exit",
            raw(&map)
        );
        let slots = assemble(&text).expect("our own program");
        let count = u32::try_from(slots.len()).expect("a few");
        let program = Attributes::new(&[(0, PROGRAM_TYPE_XDP), (4, count)])
            .with_pointer(8, slots.as_ptr())
            .with_pointer(16, c"Dual MIT/GPL".as_ptr())
            .call(PROGRAM_LOAD);
        let program = program.and_then(descriptor).map_err(at("BPF_PROG_LOAD"))?;
        let mut link = Attributes::new(&[(0, bits(&program)), (4, interface), (8, ATTACH_XDP), (12, flags)]);
        let link = until_free(|| link.call(LINK_CREATE)).and_then(descriptor).map_err(at("BPF_LINK_CREATE"))?;
        Ok(Self { map, _link: link })
    }

    /// Hands a queue's frames to a socket.
    pub(super) fn set(&self, queue: u32, socket: &OwnedFd) -> io::Result<()> {
        let value = bits(socket);
        let attributes = Attributes::new(&[(0, bits(&self.map))]);
        attributes.with_pointer(8, &raw const queue).with_pointer(16, &raw const value).call(MAP_UPDATE).map(drop)
    }

    /// Hands a queue's frames to the machine's stack again.
    pub(super) fn clear(&self, queue: u32) -> io::Result<()> {
        let attributes = Attributes::new(&[(0, bits(&self.map))]);
        attributes.with_pointer(8, &raw const queue).call(MAP_DELETE).map(drop)
    }
}
