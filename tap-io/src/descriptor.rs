//! What a descriptor is: somebody handed it over by number, and numbers are easily mistaken.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::FileType;

use crate::error::TapError;
use crate::sys::{self, IfReq};

/// Interface and flags of a descriptor that was checked.
pub(crate) struct Attached {
    pub(crate) name: String,
    pub(crate) multi_queue: bool,
}

/// Flags as they are in `ifr_flags`, which has 16 bits.
pub(crate) const fn flag(bits: i32) -> u16 {
    bits as u16
}

/// Checks that the descriptor is a tap with vnet headers and without packet information.
pub(crate) fn check(fd: BorrowedFd<'_>) -> Result<Attached, TapError> {
    let mut req = IfReq::new("");
    let refused = |found| TapError::Descriptor { fd: fd.as_raw_fd(), found };
    if let Err(error) = sys::ioctl_ifreq(fd, libc::TUNGETIFF, &mut req) {
        let found = match error.raw_os_error() {
            Some(libc::EBADFD) => "/dev/net/tun without an interface".to_owned(),
            _ => describe(fd),
        };
        return Err(refused(found));
    }
    let (name, flags) = (req.name(), req.flags());
    let has = |bits| flags & flag(bits) != 0;
    if !has(libc::IFF_TAP) {
        return Err(refused(format!("the tun interface {name} (layer 3)")));
    }
    if has_packet_information(fd, flags) {
        return Err(refused(format!("the tap {name} with packet information (no IFF_NO_PI)")));
    }
    if !has(libc::IFF_VNET_HDR) {
        return Err(refused(format!("the tap {name} without vnet headers (no IFF_VNET_HDR)")));
    }
    Ok(Attached { name, multi_queue: has(libc::IFF_MULTI_QUEUE) })
}

/// True if frames begin with four bytes that nobody here expects.
fn has_packet_information(fd: BorrowedFd<'_>, flags: u16) -> bool {
    let no_pi = flag(libc::IFF_NO_PI);
    if flags & no_pi == 0 {
        return true;
    }
    // The same bit means IFF_NOFILTER in an answer: the truth shows only while there is a filter.
    if sys::attach_open_filter(fd).is_err() {
        return false;
    }
    let mut req = IfReq::new("");
    let answer = sys::ioctl_ifreq(fd, libc::TUNGETIFF, &mut req);
    let mut unused = 0;
    let _ = sys::ioctl_int(fd, libc::TUNDETACHFILTER, &mut unused);
    answer.is_ok() && req.flags() & no_pi == 0
}

/// Takes over a descriptor that the process was started with, by its number.
///
/// # Errors
/// [`TapError::Descriptor`] if it is not open. Whether it is a tap is for [`Tap::from_fds`](crate::Tap::from_fds) to
/// say.
///
/// # Safety
/// Nothing else in the process owns the descriptor.
#[expect(unsafe_code, reason = "takes over a descriptor by number")]
pub unsafe fn inherited(fd: RawFd) -> Result<OwnedFd, TapError> {
    // SAFETY: the caller's promise is the one that `adopt` asks for.
    unsafe { sys::adopt(fd) }.map_err(|_| TapError::Descriptor { fd, found: "not open".to_owned() })
}

/// A few words for an error message.
fn describe(fd: BorrowedFd<'_>) -> String {
    let Ok(stat) = rustix::fs::fstat(fd) else { return "not open".to_owned() };
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Socket => "a socket",
        FileType::Fifo => "a pipe",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        // eventfd, epoll, signalfd and their like have no type; their link says what they are.
        _ => "something",
    };
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    match link {
        Ok(path) => format!("{kind} ({})", path.display()),
        Err(_) => kind.to_owned(),
    }
}

/// Makes reads and writes return at once.
pub(crate) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd.as_fd())?;
    Ok(rustix::fs::fcntl_setfl(fd.as_fd(), flags | rustix::fs::OFlags::NONBLOCK)?)
}
