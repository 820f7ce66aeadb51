//! vhost-user messages with descriptors attached: the device answers or hangs up, gives everything back, and serves the next.

use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, Mode, OFlags, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vhost_glue::{Device, DeviceConfig, Port, PortQueue, Stop, Workers, WorkersConfig};
use virtio_net_core::Features;
use virtio_net_core::backend::{FrameSink, FrameSource, RxRoom, Supply, Taken, TxBurst};
use virtio_net_core::rx::RxFilter;

use crate::Tally;
use crate::input::Input;

const MEMORY: u64 = 1 << 20;

struct Nowhere;

impl Port for Nowhere {
    type Queue = Self;

    fn features(&self) -> Features {
        Features::BACK_END
    }

    fn max_pairs(&self) -> u16 {
        2
    }

    fn start(&mut self, _acked: Features, pairs: u16) -> io::Result<Vec<Self>> {
        Ok((0..pairs).map(|_| Self).collect())
    }

    fn stop(&mut self, _queues: Vec<Self>) {}
}

impl FrameSink for Nowhere {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        Taken { count: burst.len(), failed: 0 }
    }
}

impl FrameSource for Nowhere {
    type Error = io::Error;

    fn receive<F: RxFilter + ?Sized>(&mut self, _room: &mut RxRoom<'_, F>) -> io::Result<Supply> {
        Ok(Supply::Dry)
    }
}

impl PortQueue for Nowhere {
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// One device for all runs: what one leaves behind the next one finds.
fn shared() -> &'static Mutex<Device<Nowhere>> {
    static DEVICE: OnceLock<Mutex<Device<Nowhere>>> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let config = WorkersConfig { count: 1, poll: Duration::ZERO, ..WorkersConfig::default() };
        let workers = Workers::start(&config).unwrap();
        let config = DeviceConfig { queues: 2, ring_reset: true, suspend: true, ..DeviceConfig::default() };
        Mutex::new(Device::new(config, Nowhere, &workers).unwrap())
    })
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Something to attach: memory, an event, an end of a pipe that is gone, a device.
fn descriptor(kind: u8) -> OwnedFd {
    match kind % 4 {
        0 => {
            let file = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
            ftruncate(&file, MEMORY).unwrap();
            file
        }
        1 => eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap(),
        2 => rustix::pipe::pipe().unwrap().1,
        _ => rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap(),
    }
}

/// One message: mostly one that there is, with numbers that there can be.
fn message(input: &mut Input<'_>) -> (Vec<u8>, Vec<OwnedFd>) {
    const REQUESTS: [u32; 28] =
        [1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 21, 24, 25, 34, 36, 37, 38, 39, 40, 6, 22, 99];
    let request = REQUESTS[input.below(REQUESTS.len())];
    let odd = input.u8();
    let mut body = Vec::new();
    match request {
        5 => {
            let regions = u32::from(input.u8() % 3);
            body.extend(regions.to_le_bytes());
            body.extend([0; 4]);
            for n in 0..u64::from(regions) {
                for word in [n * MEMORY, MEMORY, 0x7000_0000 + n * MEMORY, u64::from(input.u8() & 1) * 4096] {
                    body.extend(word.to_le_bytes());
                }
            }
        }
        8 | 10 | 11 | 18 => {
            body.extend(u32::from(input.u8() % 6).to_le_bytes());
            let number = [0, 1, 2, 64, 256, 0x8000_8000, input.u32()][input.below(7)];
            body.extend(number.to_le_bytes());
        }
        9 => {
            body.extend(u32::from(input.u8() % 6).to_le_bytes());
            body.extend([0; 4]);
            for _ in 0..4 {
                body.extend((0x7000_0000 + u64::from(input.u8()) * 0x1000).to_le_bytes());
            }
        }
        12..=14 => body.extend((u64::from(input.u8() % 6) | u64::from(input.u8() & 1) << 8).to_le_bytes()),
        2 => body.extend((input.u64() | 1 << 32 | 1 << 30).to_le_bytes()),
        16 => body.extend((input.u64() & 0x1_a229).to_le_bytes()),
        39 => body.extend(u64::from(input.u8() & 0x5f).to_le_bytes()),
        24 | 25 => {
            let size = u32::from(input.u8() % 64);
            for word in [u32::from(input.u8()), size, 0] {
                body.extend(word.to_le_bytes());
            }
            body.extend(vec![0; size as usize]);
        }
        37 | 38 => {
            body.extend([0; 8]);
            for word in [u64::from(input.u8() % 4) * MEMORY, MEMORY, 0x7000_0000, 0] {
                body.extend(word.to_le_bytes());
            }
        }
        _ => {}
    }
    if odd & 0x0f == 0x0f {
        body.truncate(input.below(40));
    }
    let len = if odd & 0xf0 == 0xf0 { input.u32() } else { body.len() as u32 };
    let flags = if odd & 0x30 == 0x30 { u32::from(input.u8()) } else { 1 | 8 };
    let head: Vec<u8> = [request, flags, len].iter().flat_map(|word| word.to_le_bytes()).collect();
    let count = match (request, input.u8()) {
        (_, extra) if extra & 0x1f == 0x1f => usize::from(extra >> 5),
        (5, _) => body.first().map_or(0, |n| usize::from(*n)).min(3),
        (12..=14 | 21 | 37, _) => 1,
        _ => 0,
    };
    let usual = if request == 5 || request == 37 { 0 } else { 1 };
    let fds = (0..count).map(|_| if input.u8() & 7 == 0 { descriptor(input.u8()) } else { descriptor(usual) });
    ([head, body].concat(), fds.collect())
}

fn send(socket: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).is_ok()
}

pub(crate) fn run(data: &[u8]) -> Tally {
    let mut guard = shared().lock().unwrap_or_else(PoisonError::into_inner);
    let device = &mut *guard;
    let stop = Stop::new().unwrap();
    let before = open_descriptors();
    let mut input = Input::new(data);
    let (front, back) = UnixStream::pair().unwrap();
    front.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut tally = Tally::default();
    let end = std::thread::scope(|scope| {
        let serving = scope.spawn(|| device.serve(back, &stop));
        for _ in 0..48 {
            if input.is_empty() {
                break;
            }
            let (bytes, fds) = message(&mut input);
            if !send(&front, &bytes, &fds) {
                break;
            }
            tally.completed += 1;
        }
        // What it answered does not matter; that it goes on taking messages does.
        front.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answers = Vec::new();
        let _ = (&front).read_to_end(&mut answers);
        tally.refused += usize::from(!answers.is_empty());
        serving.join().expect("no panic")
    });
    tally.broken += usize::from(end.is_err());
    drop(front);
    // The next one is served as if nothing had been.
    let (front, back) = UnixStream::pair().unwrap();
    front.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let head: Vec<u8> = [1_u32, 1, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| device.serve(back, &stop));
        assert!(send(&front, &head, &[]));
        let mut answer = [0; 20];
        (&front).read_exact(&mut answer).expect("features");
        assert_eq!(u64::from_le_bytes(answer[12..].try_into().unwrap()) >> 32 & 1, 1, "VERSION_1");
        drop(front);
        serving.join().expect("no panic").expect("in good order");
    });
    drop(stop);
    // The worker closes what it had in its own time.
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while open_descriptors() > before && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(open_descriptors() <= before, "descriptors are left open");
    tally
}
