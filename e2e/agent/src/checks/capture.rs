//! What arrives at the interface, as a packet socket sees it, and what the kernel knows of each frame beside its bytes.
//!
//! A filter program can read the queue that a frame came by and the hash that the device gave it, and its answer is how much
//! of the frame the socket keeps. So several sockets on one interface, each with a program that keeps 256 bytes and as many
//! more as eight bits of those say, see together what no single one can be asked for.
#![expect(unsafe_code, reason = "options of packet sockets have no safe form in the crates that we use")]

use super::error;
use guest_agent::{Marked, frame};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// What every socket keeps of a frame.
const KEPT: u32 = 256;
/// A frame that is to arrive does so within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Room for the longest frame: those of 64 KiB arrive whole.
const LONGEST: usize = 1 << 17;

/// Ancillary data of a frame (linux/filter.h), and where the eight bits of it are that a socket shows.
#[derive(Clone, Copy)]
struct Shown {
    ancillary: u32,
    shift: u32,
}

/// `SKF_AD_OFF`, from which ancillary data is addressed.
const SKF_AD_OFF: u32 = (-0x1000_i32).cast_unsigned();
/// `SKF_AD_RXHASH`.
const HASH: u32 = 32;
/// `SKF_AD_QUEUE`: 0 if there is none, else the queue's number and one.
const QUEUE: u32 = 24;

/// The queue, and the hash from its lowest byte to its highest.
const SHOWN: [Shown; 5] = [
    Shown { ancillary: QUEUE, shift: 0 },
    Shown { ancillary: HASH, shift: 0 },
    Shown { ancillary: HASH, shift: 8 },
    Shown { ancillary: HASH, shift: 16 },
    Shown { ancillary: HASH, shift: 24 },
];

/// Linux 4.20 (linux/if_packet.h): without it, every socket would see what another one sends.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// The sockets.
pub(super) struct Capture {
    sockets: Vec<OwnedFd>,
    frame: Vec<u8>,
}

/// A frame as one of the sockets sees it.
struct Part {
    /// Bytes of the frame.
    len: u32,
    /// Bytes kept.
    kept: u32,
    /// The VLAN tag that the kernel took out of it.
    tag: Option<u16>,
    /// `PACKET_HOST` and so on.
    kind: u8,
}

impl Capture {
    pub(super) fn start(interface: &str) -> Result<Self, String> {
        let sockets = SHOWN.map(|shown| open(interface, shown).map_err(error("packet socket")));
        let sockets = sockets.into_iter().collect::<Result<_, _>>()?;
        Ok(Self { sockets, frame: vec![0; LONGEST] })
    }

    /// All frames of the host up to and with the one of this number.
    pub(super) fn until(&mut self, number: u32) -> Result<Vec<serde_json::Value>, String> {
        self.collect(&format!("frame {number}"), |seen, _| seen == number)
    }

    /// As many frames of the host.
    pub(super) fn wait_for(&mut self, count: u32) -> Result<Vec<serde_json::Value>, String> {
        self.collect(&format!("{count} frames"), |_, seen| seen >= count as usize)
    }

    pub(super) fn send(&self, hex: &str) -> Result<(), String> {
        let bytes = frame::from_hex(hex).ok_or_else(|| format!("{hex:?} is no frame"))?;
        let socket = self.sockets.first().ok_or("no socket")?;
        rustix::net::send(socket, &bytes, rustix::net::SendFlags::empty()).map_err(|e| format!("send: {e}"))?;
        Ok(())
    }

    fn collect(&mut self, what: &str, done: impl Fn(u32, usize) -> bool) -> Result<Vec<serde_json::Value>, String> {
        let begin = Instant::now();
        let mut seen = Vec::new();
        while begin.elapsed() < PATIENCE {
            let Some(frame) = self.next()? else { continue };
            let number = frame.number;
            seen.push(serde_json::to_value(frame).map_err(|e| e.to_string())?);
            if done(number, seen.len()) {
                return Ok(seen);
            }
        }
        Err(format!("{what} did not arrive; what did: {}", serde_json::Value::from(seen)))
    }

    /// The next frame, if it is one of the host's. Every socket sees every frame, in the same order.
    fn next(&mut self) -> Result<Option<Marked>, String> {
        let Self { sockets, frame } = self;
        let mut shown: [Option<u32>; SHOWN.len()] = [None; _];
        let mut found = None;
        for (n, (socket, shown)) in sockets.iter().zip(&mut shown).enumerate() {
            let part = match receive(socket, frame) {
                Ok(part) => part,
                // Nothing for a while, which only the first one can find.
                Err(e) if n == 0 && e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(format!("packet socket: {e}")),
            };
            // A frame that was kept whole says nothing.
            *shown = part.kept.checked_sub(KEPT).filter(|_| part.kept < part.len);
            let kept = usize::try_from(part.kept).ok().and_then(|n| frame.get(..n)).unwrap_or_default();
            found = frame::number(kept).map(|number| (number, part));
        }
        let Some((number, part)) = found else { return Ok(None) };
        let [queue, hash @ ..] = shown;
        let hash = hash.into_iter().rev().try_fold(0, |sum: u32, byte| Some(sum.wrapping_shl(8) | byte?));
        let queue = queue.and_then(|n| n.checked_sub(1));
        Ok(Some(Marked {
            number,
            len: part.len,
            queue,
            hash,
            tag: part.tag,
            other: part.kind == libc::PACKET_OTHERHOST,
        }))
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A socket for all frames of the interface, that shows a part of what the kernel knows of them.
fn open(interface: &str, shown: Shown) -> io::Result<OwnedFd> {
    // Protocol 0: it sees nothing until it is bound, with its filter in place.
    // SAFETY: no pointers.
    let socket = check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a new descriptor, that nobody else has.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let op = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, SKF_AD_OFF.wrapping_add(shown.ancillary)),
        op(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, shown.shift),
        op(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0xff),
        op(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K, KEPT),
        op(libc::BPF_RET | libc::BPF_A, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // The kernel reads the program that `filter` points to, which lives on.
    set(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)?;
    set(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
    set(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1_i32)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &libc::timeval { tv_sec: 0, tv_usec: 100_000 })?;
    let index = std::fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))?;
    let index = index.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: a socket address is plain numbers, for which zeros are valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the descriptor is open; the kernel reads `len` bytes of `address`.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(socket)
}

fn set<T>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the descriptor is open; the kernel reads the option's structure, which the callers pass as its own type.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len) }).map(drop)
}

/// Room for one control message.
#[repr(C, align(8))]
struct Control([u8; 64]);

fn receive(socket: &OwnedFd, frame: &mut [u8]) -> io::Result<Part> {
    let mut control = Control([0; 64]);
    // SAFETY: socket addresses and message headers are plain numbers and pointers, for which zeros are valid.
    let (mut address, mut message): (libc::sockaddr_ll, libc::msghdr) = unsafe { std::mem::zeroed() };
    let mut piece = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: the descriptor is open; all that `message` points to is alive, of the lengths that it says, and not otherwise
    // used until the call returns.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let kept = u32::try_from(got).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: `message` is as the kernel left it, with `control` as its buffer.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: null, or a header inside `control`, which is aligned for it.
    let Some(head) = (unsafe { header.as_ref() }) else { return Err(io::ErrorKind::InvalidData.into()) };
    if (head.cmsg_level, head.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // SAFETY: a header inside `control`.
    let data = unsafe { libc::CMSG_DATA(header) }.cast::<libc::tpacket_auxdata>();
    // SAFETY: the kernel has put one such structure there; it need not be aligned.
    let aux = unsafe { data.read_unaligned() };
    let tag = (aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then_some(aux.tp_vlan_tci);
    Ok(Part { len: aux.tp_len, kept, tag, kind: address.sll_pkttype })
}
