//! System calls that several drivers make, in safe form.
//!
//! Invariant: knows nothing of what frames hold. Their memory is only ever copied, never behind a reference.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use libc::{c_int, c_ulong, c_void, socklen_t};

use super::{Frame, Pool};
use crate::limits::{BIND_RETRY_MS_MAX, FRAME_LEN_MAX, HEADROOM};

/// A structure that the kernel reads or fills as bytes.
///
/// # Safety
/// Every pattern of bits is a value of it, and it has no padding.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for c_int {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: an array of integers.
unsafe impl Plain for [u32; 3] {}
// SAFETY: an array of integers.
unsafe impl Plain for [u32; 4] {}
// SAFETY: an array of integers.
unsafe impl Plain for [u64; 3] {}
// SAFETY: an array of integers.
unsafe impl Plain for [u64; 6] {}
// SAFETY: an array of integers.
unsafe impl Plain for [u64; 16] {}
// SAFETY: integers alone, without padding.
unsafe impl Plain for libc::tpacket_req3 {}
// SAFETY: integers alone, without padding.
unsafe impl Plain for libc::ucred {}
// SAFETY: integers alone, without padding.
unsafe impl Plain for libc::xdp_umem_reg {}

/// Takes over what a call answered: a new descriptor or an error.
pub(super) fn descriptor(answer: c_int) -> io::Result<OwnedFd> {
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us the descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

/// A socket that does not block.
pub(super) fn socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    descriptor(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol) })
}

/// `setsockopt`.
pub(super) fn set_option<T: Plain>(fd: RawFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let at: *const c_void = (&raw const *value).cast();
    // SAFETY: `value` is read for its length.
    let answer = unsafe { libc::setsockopt(fd, level, option, at, socklen::<T>()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `getsockopt`: fills `value` as far as the kernel has something to say.
pub(super) fn option<T: Plain>(fd: RawFd, level: c_int, option: c_int, value: &mut T) -> io::Result<()> {
    let mut len = socklen::<T>();
    let into: *mut c_void = (&raw mut *value).cast();
    // SAFETY: the kernel writes at most `len` bytes to `value`, for which every pattern of bits is a value.
    let answer = unsafe { libc::getsockopt(fd, level, option, into, &raw mut len) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn socklen<T>() -> socklen_t {
    socklen_t::try_from(size_of::<T>()).expect("a small structure")
}

/// `setsockopt` with a program of classic BPF.
pub(super) fn attach_filter(fd: RawFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).expect("a short program");
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let at: *const c_void = (&raw const program).cast();
    // SAFETY: the kernel reads the structure and the program, which outlive the call.
    let answer =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, at, socklen::<libc::sock_fprog>()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The interface that a packet socket is bound to: none any more where it was deleted.
pub(super) fn bound_interface(fd: RawFd) -> Option<u32> {
    // SAFETY: an address of zeroes is one.
    let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut len = socklen::<libc::sockaddr_ll>();
    // SAFETY: the kernel writes at most `len` bytes to `addr`.
    let answer = unsafe { libc::getsockname(fd, (&raw mut addr).cast(), &raw mut len) };
    (answer == 0).then(|| u32::try_from(addr.sll_ifindex).ok()).flatten()
}

/// `bind` to an address of one of the kinds that the kernel knows by its first field.
pub(super) fn bind_packet(fd: RawFd, addr: &libc::sockaddr_ll) -> io::Result<()> {
    // SAFETY: `addr` is a socket address of the length that is said.
    let answer = unsafe { libc::bind(fd, (&raw const *addr).cast(), socklen::<libc::sockaddr_ll>()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The same for AF_XDP.
pub(super) fn bind_xdp(fd: RawFd, addr: &libc::sockaddr_xdp) -> io::Result<()> {
    // SAFETY: `addr` is a socket address of the length that is said.
    let answer = unsafe { libc::bind(fd, (&raw const *addr).cast(), socklen::<libc::sockaddr_xdp>()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The number of an interface of the calling thread's network name space.
pub(super) fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name is a string of C's.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Opens a device file, not blocking.
pub(super) fn open_device(path: &str) -> io::Result<OwnedFd> {
    let path = CString::new(path)?;
    // SAFETY: the path is a string of C's.
    descriptor(unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC) })
}

/// Bytes of `struct ifreq`.
const INTERFACE_REQUEST_LEN: usize = 40;

/// `ioctl` with a request that names an interface and has flags; gives the name that the kernel filled in.
pub(super) fn interface_request(fd: RawFd, request: c_ulong, name: &str, flags: u16) -> io::Result<String> {
    let mut bytes = [0u8; INTERFACE_REQUEST_LEN];
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes[libc::IFNAMSIZ..libc::IFNAMSIZ + 2].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: requests of this kind read and write a `struct ifreq`, which is as long as our bytes.
    if unsafe { libc::ioctl(fd, request, bytes.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let len = bytes[..libc::IFNAMSIZ].iter().position(|byte| *byte == 0).unwrap_or(libc::IFNAMSIZ);
    Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

/// `ioctl` with an integer for an argument.
pub(super) fn integer_request(fd: RawFd, request: c_ulong, value: c_ulong) -> io::Result<()> {
    // SAFETY: the callers' requests take no pointer.
    if unsafe { libc::ioctl(fd, request, value) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `ioctl` with the address of an integer.
pub(super) fn integer_at_request(fd: RawFd, request: c_ulong, value: c_int) -> io::Result<()> {
    // SAFETY: the callers' requests read one integer.
    if unsafe { libc::ioctl(fd, request, &raw const value) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Asks again while the answer is that something is in use: the kernel lets go of what a process closed a little later.
pub(super) fn until_free<T>(mut ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + Duration::from_millis(BIND_RETRY_MS_MAX);
    loop {
        match ask() {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)) && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            answer => return answer,
        }
    }
}

/// Gives the calling thread a network name space of its own, for tests.
#[cfg(test)]
pub(super) fn leave_network_namespace() -> io::Result<()> {
    // SAFETY: takes no pointers; concerns this thread alone.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets the kernel send what is queued in an AF_XDP socket's ring.
pub(super) fn kick(fd: RawFd) -> io::Result<()> {
    // SAFETY: without bytes and without an address there is nothing to point at.
    let answer = unsafe { libc::sendto(fd, std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Memory that we share with the kernel or with a peer. Nothing in it is ever behind a reference.
#[derive(Debug)]
pub(super) struct Mapping {
    start: *mut u8,
    len: usize,
}

// SAFETY: it is an address; whoever reads and writes there sees to order itself.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps a part of a file, shared, readable and writable, all its pages there from the start.
    pub(super) fn new(fd: RawFd, offset: i64, len: usize) -> io::Result<Self> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a fresh mapping at an address of the kernel's choice; touches no memory of ours.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: start.cast(), len })
    }

    /// The address of `len` bytes at `at`.
    ///
    /// # Panics
    /// If they are not inside: our mistake.
    pub(super) fn at(&self, at: usize, len: usize) -> *mut u8 {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "an access inside the mapping");
        self.start.wrapping_add(at)
    }

    /// A word that the other side may write at any time.
    pub(super) fn word(&self, at: usize) -> &std::sync::atomic::AtomicU32 {
        let word: *mut u32 = self.at(at, 4).cast();
        assert!(word.is_aligned(), "words are aligned");
        // SAFETY: aligned, inside the mapping, which lives as long as the borrow, and only ever accessed atomically.
        unsafe { std::sync::atomic::AtomicU32::from_ptr(word) }
    }

    /// Copies bytes out. The other side may be writing them: what is read is some mixture, never trusted.
    pub(super) fn read(&self, at: usize, into: &mut [u8]) {
        let from = self.at(at, into.len());
        // SAFETY: inside the mapping, and `into` is ours alone, so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from.cast_const(), into.as_mut_ptr(), into.len()) };
    }

    /// Copies bytes to where ports receive in a chunk that the caller holds.
    pub(super) fn read_to_chunk(&self, at: usize, len: usize, pool: &Pool, chunk: u16) {
        assert!(len <= FRAME_LEN_MAX as usize, "a frame fits its chunk");
        let from = self.at(at, len);
        let to = pool.chunk_ptr(chunk).wrapping_add(HEADROOM as usize);
        // SAFETY: both ranges are mapped and apart, and no reference exists to either.
        unsafe { std::ptr::copy_nonoverlapping(from.cast_const(), to, len) };
    }

    /// Copies a frame in.
    pub(super) fn write_frame(&self, at: usize, pool: &Pool, frame: &Frame) {
        let len = usize::from(frame.len);
        let to = self.at(at, len);
        // SAFETY: both ranges are mapped and apart, and no reference exists to either.
        unsafe { std::ptr::copy_nonoverlapping(pool.frame_ptr(frame).cast_const(), to, len) };
    }

    /// Copies bytes in.
    pub(super) fn write(&self, at: usize, bytes: &[u8]) {
        let to = self.at(at, bytes.len());
        // SAFETY: inside the mapping, to which no reference exists, so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and nobody has an address in it any more.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

/// The descriptor's number.
pub(super) fn raw(fd: &OwnedFd) -> RawFd {
    fd.as_raw_fd()
}

/// The address of a Unix socket.
fn unix_address(path: &str) -> io::Result<libc::sockaddr_un> {
    // SAFETY: an address of zeroes is one.
    let mut addr: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    addr.sun_family = u16::try_from(libc::AF_UNIX).expect("address families are small");
    if path.len() >= addr.sun_path.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, byte) in addr.sun_path.iter_mut().zip(path.bytes()) {
        *to = byte.cast_signed();
    }
    Ok(addr)
}

/// Connects to a Unix socket without waiting.
pub(super) fn connect_unix(path: &str) -> io::Result<UnixStream> {
    let addr = unix_address(path)?;
    let socket = socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    // SAFETY: `addr` is a socket address of the length that is said.
    let answer = unsafe { libc::connect(raw(&socket), (&raw const addr).cast(), socklen::<libc::sockaddr_un>()) };
    if answer == 0 { Ok(UnixStream::from(socket)) } else { Err(io::Error::last_os_error()) }
}

/// Listens at a path that is free, without waiting for who comes; for this user from the first moment on.
pub(super) fn listen_unix(path: &str) -> io::Result<UnixListener> {
    let addr = unix_address(path)?;
    let socket = socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    // Linux takes the mode of the file from the socket that is bound.
    File::from(socket.try_clone()?).set_permissions(Permissions::from_mode(0o600))?;
    // SAFETY: `addr` is a socket address of the length that is said.
    let bound = unsafe { libc::bind(raw(&socket), (&raw const addr).cast(), socklen::<libc::sockaddr_un>()) };
    if bound != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes no pointers.
    let answer = unsafe { libc::listen(raw(&socket), 16) };
    if answer == 0 { Ok(UnixListener::from(socket)) } else { Err(io::Error::last_os_error()) }
}

/// Whether who made the other end of a Unix socket is our user or root.
pub(super) fn is_our_user(socket: &UnixStream) -> bool {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let asked = option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, &mut peer);
    // SAFETY: takes no pointers.
    let own = unsafe { libc::geteuid() };
    asked.is_ok() && (peer.uid == own || peer.uid == 0)
}

/// Memory with a descriptor, whose length nobody can change any more.
pub(super) fn sealed_memory(len: usize) -> io::Result<OwnedFd> {
    // SAFETY: the name is a string of C's.
    let fd =
        descriptor(unsafe { libc::memfd_create(c"kumite".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) })?;
    File::from(fd.try_clone()?).set_len(len as u64)?;
    // SAFETY: takes no pointers.
    let answer = unsafe { libc::fcntl(raw(&fd), libc::F_ADD_SEALS, SEALS | libc::F_SEAL_SEAL) };
    if answer == 0 { Ok(fd) } else { Err(io::Error::last_os_error()) }
}

/// Seals that keep a length.
const SEALS: c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;

/// Whether a descriptor is memory of this length, for good.
pub(super) fn is_sealed_memory(fd: &OwnedFd, len: usize) -> bool {
    // SAFETY: takes no pointers. What is no memory has no seals.
    let seals = unsafe { libc::fcntl(raw(fd), libc::F_GET_SEALS) };
    let has_len = || Some(File::from(fd.try_clone().ok()?).metadata().ok()?.len() == len as u64);
    seals >= 0 && seals & SEALS == SEALS && has_len() == Some(true)
}

/// Room for a control message with one descriptor.
#[repr(C, align(8))]
struct DescriptorMessage {
    header: libc::cmsghdr,
    fd: c_int,
}

/// Bytes of it that count.
const DESCRIPTOR_MESSAGE_LEN: usize = size_of::<libc::cmsghdr>() + size_of::<c_int>();

fn descriptor_message() -> DescriptorMessage {
    let header =
        libc::cmsghdr { cmsg_len: DESCRIPTOR_MESSAGE_LEN, cmsg_level: libc::SOL_SOCKET, cmsg_type: libc::SCM_RIGHTS };
    DescriptorMessage { header, fd: -1 }
}

fn with_message<T>(control: &mut DescriptorMessage, call: impl FnOnce(&mut libc::msghdr) -> T) -> T {
    let mut byte = [0u8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: a message header of zeroes has no name, no parts and no control bytes.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut *control).cast();
    // Not what `DescriptorMessage` is long: in what fills it up a second descriptor fits.
    message.msg_controllen = DESCRIPTOR_MESSAGE_LEN;
    call(&mut message)
}

/// Sends a byte with a descriptor.
pub(super) fn send_descriptor(socket: &UnixStream, fd: &OwnedFd) -> io::Result<()> {
    let mut control = descriptor_message();
    control.fd = raw(fd);
    let answer = with_message(&mut control, |message| {
        // SAFETY: the message points at locals that outlive the call.
        unsafe { libc::sendmsg(socket.as_raw_fd(), message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }
    });
    if answer == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives a byte with a descriptor: none where the peer sent something else, more of them, or has gone.
pub(super) fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut control = descriptor_message();
    let answer = with_message(&mut control, |message| {
        // SAFETY: the message points at locals that outlive the call, with their lengths.
        let answer = unsafe { libc::recvmsg(socket.as_raw_fd(), message, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok((message.msg_controllen, message.msg_flags)) }
    })?;
    let (len, flags) = answer;
    let is_descriptor = len >= DESCRIPTOR_MESSAGE_LEN
        && (control.header.cmsg_level, control.header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS)
        && control.header.cmsg_len >= DESCRIPTOR_MESSAGE_LEN;
    let came = if is_descriptor { Some(descriptor(control.fd)?) } else { None };
    // Of several the kernel gave us the first, which is closed here.
    Ok(came.filter(|_| flags & libc::MSG_CTRUNC == 0))
}
