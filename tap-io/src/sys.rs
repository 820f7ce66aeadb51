//! The system calls that no safe crate has: tun and interface ioctls, `readv` and `writev` on guest memory.
#![expect(unsafe_code, reason = "raw system calls")]

use std::ffi::{c_int, c_ulong};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use virtio_ring::GuestSlice;

/// Bytes of an interface name with its final zero.
pub(crate) const NAME_LEN: usize = libc::IFNAMSIZ;
/// Bytes of the union in `struct ifreq`.
const DATA_LEN: usize = size_of::<libc::ifreq>() - NAME_LEN;

/// `struct ifreq`: a name, and a union whose members all start at its first byte.
#[repr(C, align(8))]
pub(crate) struct IfReq {
    name: [u8; NAME_LEN],
    data: [u8; DATA_LEN],
}

const _: () = assert!(size_of::<IfReq>() == size_of::<libc::ifreq>());
const _: () = assert!(align_of::<IfReq>() >= align_of::<libc::ifreq>());

impl IfReq {
    /// A request for the interface `name`, cut to what fits.
    pub(crate) fn new(name: &str) -> Self {
        let mut req = Self { name: [0; NAME_LEN], data: [0; DATA_LEN] };
        for (to, from) in req.name.iter_mut().take(NAME_LEN - 1).zip(name.bytes()) {
            *to = from;
        }
        req
    }

    /// The name that the kernel filled in.
    pub(crate) fn name(&self) -> String {
        let name: Vec<u8> = self.name.iter().copied().take_while(|b| *b != 0).collect();
        String::from_utf8_lossy(&name).into_owned()
    }

    fn front<const N: usize>(&self) -> [u8; N] {
        self.data.first_chunk().copied().unwrap_or([0; N])
    }

    pub(crate) fn flags(&self) -> u16 {
        u16::from_ne_bytes(self.front())
    }

    pub(crate) fn set_flags(&mut self, flags: u16) {
        self.set_front(flags.to_ne_bytes());
    }

    /// Interface index or MTU.
    pub(crate) fn int(&self) -> c_int {
        c_int::from_ne_bytes(self.front())
    }

    pub(crate) fn set_int(&mut self, value: c_int) {
        self.set_front(value.to_ne_bytes());
    }

    /// The address in `ifr_hwaddr`, behind its family.
    pub(crate) fn mac(&self) -> [u8; 6] {
        let [_, _, mac @ ..] = self.front::<8>();
        mac
    }

    fn set_front<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some(front) = self.data.first_chunk_mut() {
            *front = bytes;
        }
    }
}

/// An ioctl whose argument is a `struct ifreq`, read and written.
pub(crate) fn ioctl_ifreq(fd: BorrowedFd<'_>, request: libc::Ioctl, req: &mut IfReq) -> io::Result<()> {
    // SAFETY: every request that this crate passes here takes a `struct ifreq`; `IfReq` has its size and alignment.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut *req) })
}

/// An ioctl whose argument is a pointer to an `int`, read or written.
pub(crate) fn ioctl_int(fd: BorrowedFd<'_>, request: libc::Ioctl, value: &mut c_int) -> io::Result<()> {
    // SAFETY: every request that this crate passes here takes a pointer to an `int`.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut *value) })
}

/// An ioctl whose argument is a number.
pub(crate) fn ioctl_value(fd: BorrowedFd<'_>, request: libc::Ioctl, value: c_ulong) -> io::Result<()> {
    // SAFETY: every request that this crate passes here takes its argument by value.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, value) })
}

/// Puts a filter on all queues that lets everything pass.
pub(crate) fn attach_open_filter(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut pass = libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: u32::MAX };
    let program = libc::sock_fprog { len: 1, filter: &raw mut pass };
    // SAFETY: TUNATTACHFILTER takes a `struct sock_fprog`; the kernel copies the program during the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNATTACHFILTER, &raw const program) })
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes over a descriptor that the process was started with, if it is open.
///
/// # Safety
/// Nothing else in the process owns `fd`.
pub(crate) unsafe fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call only reads a flag of the descriptor, whatever it is, and fails if it is not open.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and the caller says that nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The most segments that one call takes.
pub(crate) const MAX_VECTORS: usize = libc::UIO_MAXIOV as usize;

/// Room for the I/O vector of one call, made once.
pub(crate) struct Vectors(Vec<libc::iovec>);

// SAFETY: the pointers in the list are used only by the batch that put them there, which borrows what they point to;
// a batch empties the list before it begins.
unsafe impl Send for Vectors {}

impl Vectors {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(MAX_VECTORS))
    }

    /// Starts collecting what is to be written.
    pub(crate) fn write(&mut self) -> WriteBatch<'_, '_> {
        self.0.clear();
        WriteBatch { list: &mut self.0, bytes: PhantomData }
    }

    /// Starts collecting places to read into.
    pub(crate) fn read(&mut self) -> ReadBatch<'_, '_> {
        self.0.clear();
        ReadBatch { list: &mut self.0, bytes: PhantomData }
    }
}

/// Bytes for one `writev`.
pub(crate) struct WriteBatch<'v, 'b> {
    list: &'v mut Vec<libc::iovec>,
    bytes: PhantomData<&'b [u8]>,
}

impl<'b> WriteBatch<'_, 'b> {
    pub(crate) fn host(&mut self, bytes: &'b [u8]) -> bool {
        push(self.list, bytes.as_ptr().cast_mut(), bytes.len())
    }

    /// False if the list is full.
    pub(crate) fn guest(&mut self, seg: GuestSlice<'b>) -> bool {
        push(self.list, seg.as_ptr(), seg.len())
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Writes everything; returns how many bytes were taken.
    pub(crate) fn send(self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        retry(|| {
            // SAFETY: each entry is a host slice or a guest slice that `'b` keeps alive, and the kernel only reads
            // them; there are at most `MAX_VECTORS` entries (`push`).
            unsafe { libc::writev(fd.as_raw_fd(), self.list.as_ptr(), self.list.len() as c_int) }
        })
    }
}

/// Places for one `readv`.
pub(crate) struct ReadBatch<'v, 'b> {
    list: &'v mut Vec<libc::iovec>,
    bytes: PhantomData<&'b mut [u8]>,
}

impl<'b> ReadBatch<'_, 'b> {
    pub(crate) fn host(&mut self, place: &'b mut [u8]) -> bool {
        push(self.list, place.as_mut_ptr(), place.len())
    }

    /// False if the list is full.
    pub(crate) fn guest(&mut self, seg: GuestSlice<'b>) -> bool {
        push(self.list, seg.as_ptr(), seg.len())
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Fills the places in order; returns how many bytes.
    pub(crate) fn receive(self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        retry(|| {
            // SAFETY: each entry is an exclusive host slice or a writable guest slice (contract of
            // `GuestSlice::new`) that `'b` keeps alive; there are at most `MAX_VECTORS` entries (`push`).
            unsafe { libc::readv(fd.as_raw_fd(), self.list.as_ptr(), self.list.len() as c_int) }
        })
    }
}

#[inline]
fn push(list: &mut Vec<libc::iovec>, ptr: *mut u8, len: usize) -> bool {
    if list.len() >= MAX_VECTORS {
        return false;
    }
    list.push(libc::iovec { iov_base: ptr.cast(), iov_len: len });
    true
}

/// Repeats a call that a signal interrupted.
#[inline]
fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(n) = usize::try_from(call()) {
            return Ok(n);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
