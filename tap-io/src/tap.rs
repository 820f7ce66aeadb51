//! A tap interface and its queues.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use virtio_net_core::{BACKEND_HEADER_LEN, Features};

use crate::descriptor::{self, flag};
use crate::error::TapError;
use crate::offload;
use crate::queue::{MAX_HEADER, TapQueue};
use crate::sys::{self, IfReq, NAME_LEN};

/// The shortest vnet header: without `num_buffers`.
const MIN_HEADER: usize = 10;
/// What the kernel can attach to one interface (`MAX_TAP_QUEUES`).
const MAX_QUEUES: usize = 256;

/// What to do if there is no interface of the name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IfMissing {
    /// Fail with [`TapError::Missing`].
    Fail,
    /// Make it. It goes when its last descriptor is closed.
    Create,
}

/// A tap interface, with one descriptor for each queue.
#[derive(Debug)]
pub struct Tap {
    name: String,
    /// The first of the queues, for what belongs to the interface.
    control: Arc<OwnedFd>,
    fds: Vec<Arc<OwnedFd>>,
    multi_queue: bool,
    header_len: usize,
    features: Features,
}

impl Tap {
    /// Opens the interface `name` with so many queues.
    ///
    /// # Errors
    /// [`TapError`]; nothing is left open then, and no interface that was not there before.
    pub fn open(name: &str, queues: u16, missing: IfMissing) -> Result<Self, TapError> {
        check_name(name)?;
        let queues = usize::from(queues.max(1));
        if queues > MAX_QUEUES {
            return Err(TapError::Queues { name: name.to_owned(), has: MAX_QUEUES, asked: queues });
        }
        // The kernel would make what is missing; whether to do so is not its decision.
        if missing == IfMissing::Fail && !exists(name)? {
            return Err(TapError::Missing { name: name.to_owned() });
        }
        let mut multi_queue = queues > 1;
        let first = match attach(name, multi_queue) {
            // The kernel refuses to open a tap in the other mode; one queue of several is as good as an only one.
            Err(Refusal::Mode) if !multi_queue => {
                multi_queue = true;
                attach(name, true)
            }
            other => other,
        };
        let first = first.map_err(|refusal| refusal.explain(name, queues))?;
        let mut others = Vec::new();
        for has in 1..queues {
            others.push(attach(name, true).map_err(|refusal| match refusal {
                Refusal::Full => TapError::Queues { name: name.to_owned(), has, asked: queues },
                other => other.explain(name, queues),
            })?);
        }
        Self::set_up_queues(name.to_owned(), first, others, multi_queue)
    }

    /// Takes over one queue that somebody else opened.
    ///
    /// # Errors
    /// [`TapError::Descriptor`] if it is anything but a tap with vnet headers.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, TapError> {
        Self::from_fds(fd, Vec::new())
    }

    /// Takes over queues of one interface that somebody else opened: one, and the others.
    ///
    /// # Errors
    /// [`TapError::Descriptor`] if one is anything but a tap with vnet headers, [`TapError::Mixed`] if they are not of
    /// one interface, [`TapError::Queues`] if there are too many.
    pub fn from_fds(first: OwnedFd, others: Vec<OwnedFd>) -> Result<Self, TapError> {
        let interface = descriptor::check(first.as_fd())?;
        for fd in &others {
            let this = descriptor::check(fd.as_fd())?;
            if this.name != interface.name {
                return Err(TapError::Mixed { fd: fd.as_raw_fd(), other: this.name, name: interface.name });
            }
        }
        let asked = others.len().saturating_add(1);
        if asked > MAX_QUEUES {
            return Err(TapError::Queues { name: interface.name, has: MAX_QUEUES, asked });
        }
        Self::set_up_queues(interface.name, first, others, interface.multi_queue)
    }

    fn set_up_queues(name: String, first: OwnedFd, others: Vec<OwnedFd>, multi_queue: bool) -> Result<Self, TapError> {
        let control = Arc::new(first);
        let mut fds = vec![Arc::clone(&control)];
        fds.extend(others.into_iter().map(Arc::new));
        for fd in &fds {
            descriptor::set_nonblocking(fd).map_err(failed(&name, "O_NONBLOCK"))?;
        }
        let mut tap = Self { name, control, fds, multi_queue, header_len: 0, features: Features::empty() };
        tap.set_header_len(BACKEND_HEADER_LEN)?;
        // Headers are little-endian at this seam, whatever the host is.
        tap.int(libc::TUNSETVNETLE, 1, "TUNSETVNETLE")?;
        tap.features = offload::probe(tap.control.as_fd()).map_err(failed(&tap.name, "TUNSETOFFLOAD"))?;
        Ok(tap)
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many queues were opened.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.fds.len()
    }

    /// The offloads that the kernel's tap can do: a subset of [`Features::HOST_OFFLOADS`] (what the guest may send)
    /// and [`Features::GUEST_OFFLOADS`] (what it may receive if it wants to).
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Tells the kernel what the guest can receive. Whatever is missing in `acked` the kernel does itself, before the
    /// guest sees the frame: it segments, and completes checksums.
    ///
    /// # Errors
    /// [`TapError::Call`].
    pub fn set_offloads(&self, acked: Features) -> Result<(), TapError> {
        let flags = offload::flags(acked.intersection(self.features));
        sys::ioctl_value(self.control.as_fd(), libc::TUNSETOFFLOAD, flags.into())
            .map_err(failed(&self.name, "TUNSETOFFLOAD"))
    }

    /// Sets the length in bytes of the header before every frame: 10 to 24. It is 12 at first. Queues that were made
    /// before are of no use any more.
    ///
    /// # Errors
    /// [`TapError::HeaderLen`], [`TapError::Call`].
    pub fn set_header_len(&mut self, len: usize) -> Result<(), TapError> {
        if !(MIN_HEADER..=MAX_HEADER).contains(&len) {
            return Err(TapError::HeaderLen { len, min: MIN_HEADER, max: MAX_HEADER });
        }
        self.int(libc::TUNSETVNETHDRSZ, len as i32, "TUNSETVNETHDRSZ")?;
        self.header_len = len;
        Ok(())
    }

    /// The queues, active: each for one thread. They stay usable when the `Tap` is gone.
    ///
    /// They share the descriptors of the tap: ask for them again only when the earlier ones are gone.
    #[must_use]
    pub fn queues(&self) -> Vec<TapQueue> {
        self.fds.iter().map(|fd| TapQueue::new(Arc::clone(fd), self.header_len, self.multi_queue)).collect()
    }

    /// The interface's own MAC address: the host's end, not the guest's.
    ///
    /// # Errors
    /// [`TapError::Call`].
    pub fn mac(&self) -> Result<[u8; 6], TapError> {
        let mut req = IfReq::new(&self.name);
        sys::ioctl_ifreq(self.control.as_fd(), libc::SIOCGIFHWADDR as libc::Ioctl, &mut req)
            .map_err(failed(&self.name, "SIOCGIFHWADDR"))?;
        Ok(req.mac())
    }

    /// The interface's MTU in bytes.
    ///
    /// # Errors
    /// [`TapError::OtherNamespace`], [`TapError::Call`].
    pub fn mtu(&self) -> Result<u16, TapError> {
        let req = self.interface("SIOCGIFMTU", libc::SIOCGIFMTU as libc::Ioctl, |_| ())?;
        Ok(u16::try_from(req.int()).unwrap_or(u16::MAX))
    }

    /// Sets the interface's MTU in bytes.
    ///
    /// # Errors
    /// [`TapError::OtherNamespace`], [`TapError::Call`].
    pub fn set_mtu(&self, mtu: u16) -> Result<(), TapError> {
        self.interface("SIOCSIFMTU", libc::SIOCSIFMTU as libc::Ioctl, |req| req.set_int(mtu.into())).map(drop)
    }

    /// True if the interface is up.
    ///
    /// # Errors
    /// [`TapError::OtherNamespace`], [`TapError::Call`].
    pub fn is_up(&self) -> Result<bool, TapError> {
        let req = self.interface("SIOCGIFFLAGS", libc::SIOCGIFFLAGS as libc::Ioctl, |_| ())?;
        Ok(req.flags() & flag(libc::IFF_UP) != 0)
    }

    /// Brings the interface up or down.
    ///
    /// # Errors
    /// [`TapError::OtherNamespace`], [`TapError::Call`].
    pub fn set_up(&self, up: bool) -> Result<(), TapError> {
        let req = self.interface("SIOCGIFFLAGS", libc::SIOCGIFFLAGS as libc::Ioctl, |_| ())?;
        let flags = req.flags() & !flag(libc::IFF_UP) | if up { flag(libc::IFF_UP) } else { 0 };
        self.interface("SIOCSIFFLAGS", libc::SIOCSIFFLAGS as libc::Ioctl, |req| req.set_flags(flags)).map(drop)
    }

    fn int(&self, request: libc::Ioctl, mut value: i32, call: &'static str) -> Result<(), TapError> {
        sys::ioctl_int(self.control.as_fd(), request, &mut value).map_err(failed(&self.name, call))
    }

    /// A request by the interface's name, made only if that name means this interface.
    fn interface(
        &self,
        call: &'static str,
        request: libc::Ioctl,
        fill: impl FnOnce(&mut IfReq),
    ) -> Result<IfReq, TapError> {
        let socket = control_socket(&self.name)?;
        let mut req = IfReq::new(&self.name);
        // A descriptor may come from another network namespace, where its name means another interface.
        let same = sys::ioctl_ifreq(socket.as_fd(), libc::SIOCGIFHWADDR as libc::Ioctl, &mut req).is_ok();
        if !same || req.mac() != self.mac()? {
            return Err(TapError::OtherNamespace { name: self.name.clone(), what: call });
        }
        let mut req = IfReq::new(&self.name);
        fill(&mut req);
        sys::ioctl_ifreq(socket.as_fd(), request, &mut req).map_err(failed(&self.name, call))?;
        Ok(req)
    }
}

/// Why the kernel did not attach a queue.
enum Refusal {
    Device(io::Error),
    /// EINVAL: not a tap, or a tap in the other mode.
    Mode,
    Busy,
    /// No more queues.
    Full,
    Permission,
    Other(io::Error),
}

impl Refusal {
    fn explain(self, name: &str, asked: usize) -> TapError {
        let name = name.to_owned();
        match self {
            Self::Device(source) => TapError::Device { source },
            // It opens, or is busy, in the mode with one queue: so it is a tap.
            Self::Mode if asked > 1 && !matches!(attach(&name, false), Err(Self::Mode)) => {
                TapError::Queues { name, has: 1, asked }
            }
            Self::Mode => TapError::NotTap { name },
            Self::Busy => TapError::Busy { name },
            Self::Full => TapError::Queues { name, has: MAX_QUEUES, asked },
            Self::Permission => TapError::NotPermitted { name },
            Self::Other(source) => TapError::Call { name, call: "TUNSETIFF", source },
        }
    }
}

/// Opens one queue.
fn attach(name: &str, multi_queue: bool) -> Result<OwnedFd, Refusal> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun");
    let fd = OwnedFd::from(file.map_err(Refusal::Device)?);
    let mut req = IfReq::new(name);
    let mode = if multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
    req.set_flags(flag(libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | mode));
    match sys::ioctl_ifreq(fd.as_fd(), libc::TUNSETIFF, &mut req) {
        Ok(()) => Ok(fd),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::EINVAL) => Refusal::Mode,
            Some(libc::EBUSY) => Refusal::Busy,
            Some(libc::E2BIG) => Refusal::Full,
            Some(libc::EPERM | libc::EACCES) => Refusal::Permission,
            _ => Refusal::Other(error),
        }),
    }
}

/// True if there is an interface of this name in the thread's network namespace.
fn exists(name: &str) -> Result<bool, TapError> {
    let socket = control_socket(name)?;
    let mut req = IfReq::new(name);
    match sys::ioctl_ifreq(socket.as_fd(), libc::SIOCGIFINDEX as libc::Ioctl, &mut req) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
        Err(error) => Err(failed(name, "SIOCGIFINDEX")(error)),
    }
}

/// Any socket will do for requests by name.
fn control_socket(name: &str) -> Result<OwnedFd, TapError> {
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(|e| failed(name, "socket")(e.into()))
}

fn failed(name: &str, call: &'static str) -> impl FnOnce(io::Error) -> TapError {
    move |source| TapError::Call { name: name.to_owned(), call, source }
}

fn check_name(name: &str) -> Result<(), TapError> {
    let reason = if name.is_empty() {
        "is empty"
    } else if name.len() >= NAME_LEN {
        "is too long, expected at most 15 bytes"
    } else if name == "." || name == ".." {
        "is not allowed"
    } else if name.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control() || b"/:%".contains(&b)) {
        "has a character that no interface name can have (white space, '/', ':', '%')"
    } else {
        return Ok(());
    };
    Err(TapError::Name { name: name.to_owned(), reason })
}
